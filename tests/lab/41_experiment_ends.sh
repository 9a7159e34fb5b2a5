# However an experiment ends, the machine is as before: by signals, by errors at each step, by kill -9 with
# `ktrail clean`. And what can't work is said before or at its step.
# kernels: 6.12 7; what is tested here is ktrail's own doing, which no kernel's age changes
# timeout: 400
. /lab/tests/lib.sh

probe=/lab/probes/bloated_chain.probe
folder=/tmp/results
log=/tmp/log.ends
short=(--rules 100 --step 100 --seconds 1 --no-controls --output $folder)

# state: all that an experiment may touch, of this namespace.
state() {
    ip netns list; ip -o link show | awk '{ print $2 }'; ip -4 -o addr show | awk '{ print $2, $4 }'
    { iptables-legacy-save; iptables-nft-save; nft list ruleset; } 2>/dev/null | grep -v '^[#:]'
    pgrep -a iperf3; ls /run/ktrail 2>/dev/null
}
as_before() { diff <(echo "$before") <(state); }

# other RULES: the script with other rules, in /tmp/other.probe.
other() { sed "s|each iptables-legacy \"[^\"]*\"|$1|" $probe >/tmp/other.probe; }

# What is the user's own stays.
iptables-legacy -A OUTPUT -d 192.0.2.7 -p udp -j DROP
iptables-nft -A OUTPUT -d 192.0.2.8 -p udp -j DROP
nft 'add table ip mine; add chain ip mine output { type filter hook output priority 0; }; add rule ip mine output ip daddr 192.0.2.9 drop'
before=$(state)

# start COMMAND...: an experiment in the background; its process is $pid.
start() {
    rm -rf $folder $log
    "$@" >$log 2>&1 &
    pid=$!
}

# ended: waits for its end; the exit code is $code.
ended() {
    wait $pid
    code=$?
}

# Moments of a run.
namespace_is_there() { [ -e /run/netns/ktrail-iperf3 ]; }
step_is_done() { grep -q 'left$' $log; }

# By a signal, before anything is measured and after.
start ktrail run $probe -- "${short[@]}"
check "SIGTERM: it comes so far" wait_for 60 namespace_is_there
kill -TERM $pid
ended
check "SIGTERM: it fails" [ $code = 1 ]
check "SIGTERM: it says so" grep -q interrupted $log
check_fails "SIGTERM: nothing is written" [ -e $folder ]
check "SIGTERM: all is as before" as_before

start ktrail run /lab/probes/bloated_chain_timeline.probe -- --rules 500 --seconds 60 --output $folder
check "SIGINT in a timeline: it comes so far" wait_for 60 step_is_done
kill -INT $pid
ended
check "SIGINT in a timeline: it fails" [ $code = 1 ]
check "SIGINT in a timeline: what was measured is written" \
    jq -e '.ended_early == "interrupted" and (.ticks | length | . > 0 and . < 60) and any(.ticks[]; .latency_ns > 0)' \
    $folder/results.json
check "SIGINT in a timeline: it has a figure" [ -s $folder/results.png ]
check "SIGINT in a timeline: all is as before" as_before

# By kill -9: with nft's rules, and then in another namespace than the one that `ktrail clean` runs in.
ip netns add elsewhere
ip -n elsewhere link set lo up
before=$(state)
elsewhere() { in_ns elsewhere iptables-legacy-save | grep ktrail; ip -n elsewhere -o link show | grep kt-; }

other 'each nft "tcp dport 443 ip saddr {addr} drop"'
start ktrail run /tmp/other.probe -- "${short[@]}"
check "kill -9: it comes so far" wait_for 60 step_is_done
kill -9 $pid
ended
check_fails "kill -9: something is left" as_before >/dev/null
check "kill -9: so are rules" nft list table ip ktrail-$pid >/dev/null
check_fails "kill -9: the next run refuses" ktrail run $probe >$log 2>&1
check "kill -9: it offers to clean up" grep -q 'ktrail clean' $log
check "kill -9: clean names it" sh -c "ktrail clean --dry-run | grep 'namespace ktrail-iperf3'"
check "kill -9: clean cleans" ktrail clean
check "kill -9: all is as before" as_before

start ip netns exec elsewhere ktrail run $probe -- "${short[@]}"
check "kill -9 elsewhere: it comes so far" wait_for 60 step_is_done
kill -9 $pid
ended
check "kill -9 elsewhere: it leaves things there" elsewhere
check "kill -9 elsewhere: clean cleans there from here" ktrail clean
check_fails "kill -9 elsewhere: nothing is left there" elsewhere
check "kill -9 elsewhere: all is as before" as_before

# Errors at a step.
start ktrail run $probe -- "${short[@]}" --step 1
wait_for 60 step_is_done
pkill -9 -f 'iperf3 -s'
ended
check "the server dies: it fails" [ $code = 1 ]
check "the server dies: what was measured is written" jq -e '.ended_early | contains("iperf3")' $folder/results.json
check "the server dies: all is as before" as_before

# refused NAME CODE TEXT: that experiment failed with this exit code, said this, and left all as before.
refused() {
    check "$1: exit code $2" [ "$code" = "$2" ]
    check "$1: it says so" grep -qE "$3" $log || cat $log
    check "$1: all is as before" as_before
    check_fails "$1: no results" [ -e $folder ]
}
# refuses NAME CODE TEXT COMMAND...: runs it first.
refuses() {
    start "${@:4}"
    ended
    refused "$1" "$2" "$3"
}

other 'each iptables-legacy "-p tcp -d 10.99.0.2 -m comment --comment {addr} -j DROP"'
refuses "an iptables rule matches the workload" 1 'this rule matches the workload' \
    ktrail run /tmp/other.probe -- "${short[@]}"
other 'each nft "ip daddr 10.99.0.2 drop"'
refuses "an nft rule matches the workload" 1 'this rule matches the workload' \
    ktrail run /tmp/other.probe -- "${short[@]}"
other 'each iptables-nft "-p tcp -s {addr} --no-such-option -j DROP"'
start ktrail run /tmp/other.probe -- "${short[@]}"
ended
check "iptables refuses a rule: it fails" [ $code = 1 ]
check "iptables refuses a rule: it says so" grep -q 'iptables-nft-restore.*no-such-option' $log || cat $log
check "iptables refuses a rule: the step without rules is written" \
    jq -e '.ended_early | contains("no-such-option")' $folder/results.json
check "iptables refuses a rule: all is as before" as_before
rm -rf $folder

# Errors before a step.
refuses "no root" 1 'root|CAP_' setpriv --reuid 65534 --clear-groups ktrail run $probe -- "${short[@]}"
for program in iperf3:/usr/bin:iperf3 iptables-legacy:/usr/sbin:iptables; do
    IFS=: read -r program path package <<<"$program"
    mv "$path/$program" "$path/$program.away"
    refuses "no $program" 1 "'$program' is not installed; get it with: apt install $package" \
        ktrail run $probe -- "${short[@]}"
    mv "$path/$program.away" "$path/$program"
done

mkdir /tmp/read-only && mount -t tmpfs -o ro none /tmp/read-only
refuses "the results can't be written" 1 'written to /tmp/read-only/x: Read-only file system' \
    ktrail run $probe -- "${short[@]}" --output /tmp/read-only/x
umount /tmp/read-only

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

sed 's|198.18.0.0/15|10.96.0.0/11|' $probe >/tmp/other.probe
refuses "a prefix contains the workload" 2 '^/tmp/other.probe:[0-9]+:[0-9]+.*would match the workload' \
    ktrail run /tmp/other.probe -- "${short[@]}"
refuses "the rules are about the server" 2 'would match the workload' \
    ktrail run $probe -- "${short[@]}" --server 198.18.0.9
refuses "a parameter is wrong" 2 "unexpected argument '--rule'" ktrail run $probe -- --rule 5

# Servers of the user's own, without a topology: nobody listens, one that accepts and says nothing, and one that
# serves. All at once, which must not matter: each run removes its own rules only.
iperf3 -s -p 5997 >/dev/null 2>&1 &
own=$!
ncat -lk 127.0.0.1 5998 --exec '/bin/sleep 100' >/dev/null 2>&1 &
mute=$!
listen() { [ "$(ss -Hltn 'sport = :5997 or sport = :5998' | wc -l)" = 2 ]; }
wait_for 10 listen
before=$(state)
rm -rf $folder
pids=()
for server in 5999 5998 5997; do
    ktrail run $probe -- "${short[@]}" --output $folder.$server --server 127.0.0.1:$server >$log.$server 2>&1 &
    pids+=($!)
done
codes=()
for pid in "${pids[@]}"; do
    wait $pid
    codes+=($?)
done
kill $mute
check "servers of the user's own: one of three runs succeeds" [ "${codes[*]}" = "1 1 0" ]
check "nobody listens: it says so" grep -q 'Connection refused' $log.5999
check "a server that says nothing: it says so" grep -q 'does the server answer' $log.5998
check "a server that serves: it has results" \
    jq -e '.steps | length == 2 and all(.throughput_mbit > 0 and .latency_ns > 0)' $folder.5997/results.json
check "a server that serves goes on" kill -0 $own
check "servers of the user's own: all is as before" as_before
cat $log.599*
