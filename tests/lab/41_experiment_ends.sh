# However an experiment ends, the machine is as before: at its end, by signals, by errors, and by kill -9 with
# `ktrail clean`. And what can't work is said before or at its step.
# clock: counting
# kernels: 6.12; what is tested here is ktrail's own doing, which no kernel's age changes, and takes minutes
# timeout: 500
. /lab/tests/lib.sh

probe=/lab/probes/bloated_chain.probe
folder=/tmp/results
log=/tmp/log.ends

# state: all that an experiment may touch, of this namespace.
state() {
    ip netns list; ip -o link show | awk '{ print $2 }'; ip -4 -o addr show | awk '{ print $2, $4 }'
    { iptables-legacy-save; iptables-nft-save; nft list ruleset; } 2>/dev/null | grep -v '^[#:]'
    pgrep -a iperf3; ls /run/ktrail 2>/dev/null
}
as_before() { diff <(echo "$before") <(state); }

# What is the user's own stays.
iptables-legacy -A OUTPUT -d 192.0.2.7 -p udp -j DROP
iptables-nft -A OUTPUT -d 192.0.2.8 -p udp -j DROP
nft 'add table ip mine; add chain ip mine output { type filter hook output priority 0; }; add rule ip mine output ip daddr 192.0.2.9 drop'
before=$(state)

# start ARGS...: an experiment in the background; its process is $pid.
start() {
    rm -rf $folder $log
    ktrail run "$probe" -- --rules 200 --step 100 --seconds 1 --output $folder "$@" >$log 2>&1 &
    pid=$!
}

# Moments of a run.
namespace_is_there() { [ -e /run/netns/ktrail-iperf3 ]; }
chain_is_there() { iptables-legacy -nL OUTPUT 2>/dev/null | grep -q "ktrail-$pid"; }
step_is_done() { grep -q 'left$' $log; }
control_runs() { nft list table ip "ktrail-$pid" >/dev/null 2>&1; }

for end in INT:namespace_is_there TERM:chain_is_there INT:step_is_done; do
    signal=${end%:*} moment=${end#*:}
    start
    check "$signal when $moment: it comes so far" wait_for 60 "$moment"
    kill -"$signal" $pid
    wait $pid
    code=$?
    check "$signal when $moment: it fails" [ $code = 1 ]
    check "$signal when $moment: it says so" grep -q interrupted $log
    check "$signal when $moment: all is as before" as_before
    case $moment in
    step_is_done)
        check "$signal when $moment: what was measured is written" \
            jq -e '.ended_early == "interrupted" and (.steps | length > 0)' $folder/results.json
        ;;
    namespace_is_there) check_fails "$signal when $moment: nothing is written" [ -e $folder ] ;;
    esac
done

for moment in namespace_is_there step_is_done control_runs; do
    start
    check "kill -9 when $moment: it comes so far" wait_for 60 "$moment"
    kill -9 $pid
    wait $pid 2>/dev/null
    check_fails "kill -9 when $moment: something is left" as_before >/dev/null
    check_fails "kill -9 when $moment: the next run refuses" ktrail run $probe >$log 2>&1
    check "kill -9 when $moment: it offers to clean up" grep -q 'ktrail clean' $log
    check "kill -9 when $moment: clean names it" sh -c "ktrail clean --dry-run | grep 'namespace ktrail-iperf3'"
    check "kill -9 when $moment: clean cleans" ktrail clean
    check "kill -9 when $moment: all is as before" as_before
done

# In another namespace than the one that `ktrail clean` runs in.
ip netns add elsewhere
ip -n elsewhere link set lo up
elsewhere() { in_ns elsewhere iptables-legacy-save | grep ktrail; ip -n elsewhere -o link show | grep kt-; }
for how in "nsenter --net=/run/netns/elsewhere" "ip netns exec elsewhere"; do
    rm -f $log
    $how ktrail run $probe -- --rules 300 --step 100 --seconds 1 --output $folder >$log 2>&1 &
    pid=$!
    check "$how: it runs" wait_for 60 step_is_done
    kill -9 $pid
    wait $pid 2>/dev/null
    check "$how: it leaves rules there" sh -c "nsenter --net=/run/netns/elsewhere iptables-legacy-save | grep -q ktrail-$pid"
    check "$how: clean cleans there from here" ktrail clean
    check_fails "$how: nothing is left there" elsewhere
done
ip netns del elsewhere
check "in another namespace: all is as before" as_before

# An error at a step: the server dies, the rules are refused.
start
wait_for 60 step_is_done
pkill -9 -f 'iperf3 -s'
wait $pid
code=$?
check "the server dies: it fails" [ $code = 1 ]
check "the server dies: it says so" grep -q 'iperf3' $log
check "the server dies: what was measured is written" jq -e '.ended_early | contains("iperf3")' $folder/results.json
check "the server dies: all is as before" as_before

rm -rf $folder
ktrail run /lab/probes/bloated_chain_timeline.probe -- --rules 500 --seconds 60 --output $folder >$log 2>&1 &
pid=$!
wait_for 60 step_is_done
kill -INT $pid
wait $pid
code=$?
check "an interrupted timeline fails" [ $code = 1 ]
check "an interrupted timeline writes what it has" \
    jq -e '.ended_early == "interrupted" and (.ticks | length | . > 0 and . < 60) and any(.ticks[]; .latency_ns > 0)' \
    $folder/results.json
check "an interrupted timeline has a figure" [ -s $folder/results.png ]
check "an interrupted timeline: all is as before" as_before

# refuses NAME CODE TEXT ARGS...: it fails with this exit code, says this, and leaves all as before.
refuses() {
    local name=$1 code=$2 text=$3 got
    shift 3
    rm -rf $folder
    "$@" >$log 2>&1
    got=$?
    check "$name: exit code $code" [ $got = "$code" ]
    check "$name: it says so" grep -qE "$text" $log || cat $log
    check "$name: all is as before" as_before
    check_fails "$name: no results" [ -e $folder ]
}
short=(--rules 100 --step 100 --seconds 1 --no-controls --output $folder)

refuses "no root" 1 'root|CAP_' setpriv --reuid 65534 --clear-groups ktrail run $probe -- "${short[@]}"
mv /usr/bin/iperf3 /usr/bin/iperf3.away
refuses "no iperf3" 1 "'iperf3' is not installed; get it with: apt install iperf3" ktrail run $probe -- "${short[@]}"
mv /usr/bin/iperf3.away /usr/bin/iperf3
mv /usr/sbin/iptables-legacy /usr/sbin/iptables-legacy.away
refuses "no iptables" 1 "'iptables-legacy' is not installed; get it with: apt install iptables" \
    ktrail run $probe -- "${short[@]}"
mv /usr/sbin/iptables-legacy.away /usr/sbin/iptables-legacy

before_all=$before
ip netns add ktrail-iperf3 && before=$(state)
refuses "a namespace's name is taken" 1 'namespace ktrail-iperf3 is there already' ktrail run $probe -- "${short[@]}"
ip netns del ktrail-iperf3
ip link add kt-host type veth peer name kt-peer && before=$(state)
refuses "a device's name is taken" 1 'there is a device kt-host already' ktrail run $probe -- "${short[@]}"
ip link del kt-host
ip addr add 10.99.0.7/24 dev lo && before=$(state)
refuses "the addresses are in use" 1 'in use: lo has 10.99.0.7/24' ktrail run $probe -- "${short[@]}"
ip addr del 10.99.0.7/24 dev lo
before=$before_all

# other OLD NEW: the script with a change.
other() { sed "s|$1|$2|" $probe >/tmp/other.probe; }
other 'each iptables-legacy "-p tcp -s {addr} --dport 443' 'each iptables-legacy "-p tcp -d 10.99.0.2'
refuses "an iptables rule matches the workload" 1 'this rule matches the workload' \
    ktrail run /tmp/other.probe -- "${short[@]}"
other 'each iptables-legacy "-p tcp -s {addr} --dport 443 -j DROP"' 'each nft "ip daddr 10.99.0.2 drop"'
refuses "an nft rule matches the workload" 1 'this rule matches the workload' \
    ktrail run /tmp/other.probe -- "${short[@]}"
other '198.18.0.0/15' '10.96.0.0/11'
refuses "a prefix contains the workload" 2 '^/tmp/other.probe:[0-9]+:[0-9]+.*would match the workload' \
    ktrail run /tmp/other.probe -- "${short[@]}"
refuses "the rules are about the server" 2 'would match the workload' \
    ktrail run $probe -- "${short[@]}" --server 198.18.0.9
refuses "a parameter is wrong" 2 "no parameter '--rule'" ktrail run $probe -- --rule 5

refuses "nobody listens" 1 'Connection refused' ktrail run $probe -- "${short[@]}" --server 127.0.0.1:5999
ip link add nobody type veth peer name nothing && ip link set nobody up && ip link set nothing up && ip addr add 192.0.2.1/24 dev nobody
ip neigh add 192.0.2.99 lladdr 02:00:00:00:00:99 dev nobody && before=$(state)
refuses "a host that does not answer" 1 'iperf3' ktrail run $probe -- "${short[@]}" --server 192.0.2.99
ip link del nobody
before=$before_all
sleep 1000 | ncat -lk 127.0.0.1 5998 >/dev/null &
wait_for 10 sh -c "ss -ltn | grep -q :5998"
refuses "a server that says nothing" 1 'does the server answer' ktrail run $probe -- "${short[@]}" --server 127.0.0.1:5998
kill $! 2>/dev/null
pkill -x sleep

# A server of the user's own, without a topology.
iperf3 -s -p 5997 >/dev/null 2>&1 &
own=$!
wait_for 10 sh -c "ss -ltn | grep -q :5997"
before=$(state)
check "a server of the user's own serves" ktrail run $probe -- "${short[@]}" --server 127.0.0.1:5997
check "a server of the user's own: it has results" jq -e '.steps | all(.throughput_mbit > 0 and .latency_ns > 0)' \
    $folder/results.json
check "a server of the user's own goes on" kill -0 $own
check "a server of the user's own: all is as before" as_before
