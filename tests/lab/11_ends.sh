# However a run ends, nothing of it stays attached; and other ways to run it.
# timeout: 600
. /lab/tests/lib.sh

out=/tmp/out notices=/tmp/notices
few='ip_rcv|ip_output|udp_rcv|dev_hard_start_xmit'
ready=/tmp/ready

# start ARGS...: traces in the background until it listens; its process id is in $traced.
start() {
    rm -f $ready
    in_ns client ktrail trace --ready-file $ready --func "$few" "$@" >$out 2>$notices &
    traced=$!
    wait_for 60 test -e $ready
}

nothing_attached() {
    # What the kernel takes a moment to release.
    wait_for 30 no_program && wait_for 30 no_kprobe
}
no_program() { ! bpftool prog list | grep -q 'name ktrail'; }
no_kprobe() { ! grep -q . /sys/kernel/debug/kprobes/list; }

dns_topology_up || fail "the topology comes up"
dns_query >/dev/null

for signal in INT TERM KILL; do
    check "SIG$signal: it listens" start udp
    check_fails "SIG$signal: something is attached" no_program
    kill -$signal $traced
    wait $traced
    code=$?
    [ $signal = KILL ] || check "SIG$signal: the exit code is 0" [ $code = 0 ]
    check "SIG$signal: nothing stays attached" nothing_attached
done

check "--count: it listens" start --count 1 udp and dst 8.8.8.8 and port 53
dns_query >/dev/null
check "--count: it stops by itself" wait_for 20 sh -c "! kill -0 $traced 2>/dev/null"
check "--count: one packet is shown" [ "$(grep -c '^packet ' $out)" = 1 ]

check "--live: it listens" start --live udp and dst 8.8.8.8 and port 53
dns_query >/dev/null
check "--live: events come while it runs" wait_for 20 grep -q ip_output $out
kill -INT $traced
wait $traced
check "--live: the fate comes at the end" grep -q 'delivered to dnsmasq' $out

for backend in kprobe tracepoint; do
    [ $backend = tracepoint ] && few='.*'
    check "--backend $backend: it listens" start --backend $backend udp and dst 8.8.8.8 and port 53
    dns_query >/dev/null
    sleep 1
    kill -INT $traced
    wait $traced
    check "--backend $backend: the packet is seen" grep -q '^packet 1 .* 8.8.8.8:53' $out
    check "--backend $backend: the output says so" grep -q "$backend" $out
done
check "--netns: only that namespace's packets" sh -c "
    nsenter --net=/run/netns/client ktrail trace --func '$few' --output json --netns far udp \
        -- dig +tries=1 +time=2 @8.8.8.8 example.com >$out 2>$notices
    grep -q '\"type\":\"event\"' $out && ! grep -m1 '\"type\":\"event\"' $out | grep -q '\"name\":\"ip_output\",.*dig'"
dns_topology_down
