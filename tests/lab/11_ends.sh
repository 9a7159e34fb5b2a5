# However a run ends, it ends, prints what it saw, and leaves nothing attached.
# timeout: 900
. /lab/tests/lib.sh

[ -e /sys/kernel/tracing/enabled_functions ] || mount -t tracefs tracefs /sys/kernel/tracing
[ -e /sys/kernel/debug/kprobes/list ] || mount -t debugfs debugfs /sys/kernel/debug

# What the kernel itself still has: kprobes, functions whose prologues are patched, and loaded BPF programs.
in_kernel() {
    wc -l </sys/kernel/debug/kprobes/list
    wc -l </sys/kernel/tracing/enabled_functions
    bpftool prog list | grep -c '^[0-9]'
}
before=$(in_kernel)
attached() { ! nothing_attached; }
nothing_attached() { [ "$(in_kernel)" = "$before" ]; }

out=/tmp/ends.out
ready=/tmp/ends.ready

# start ARGS...: a run in the client's namespace, in the background; $run is ktrail itself.
start() {
    rm -f $ready
    nsenter --net=/run/netns/client ktrail trace --ready-file $ready \
        --filter 'udp and dst 8.8.8.8 and port 53' "$@" >$out 2>/tmp/ends.err &
    run=$!
    wait_for 180 [ -e $ready ]
}
ended() { wait_for 180 over; }
over() { ! kill -0 $run 2>/dev/null || grep -qs '^State:.Z' /proc/$run/status; }
status() {
    local code=0
    wait $run || code=$?
    [ $code = "$1" ] || { echo "exit code $code"; cat /tmp/ends.err; return 1; }
}

dns_topology_up || fail "the topology comes up"
dns_query >/dev/null # the neighbour is known from here on

# Where each function is a probe of its own, all of them take a while.
some='ip_.*|__ip_.*|udp_.*'
few='ip_send_skb|__ip_local_out|dev_hard_start_xmit'

for signal in INT TERM; do
    if [ $signal = INT ]; then start; else start --func "$some"; fi
    check "SIG$signal: the kernel has its probes before" attached
    dns_query >/dev/null
    kill -s $signal $run
    check "SIG$signal ends the run" ended
    check "SIG$signal is a success" status 0
    check "SIG$signal: the journey was printed" grep -q '^  => delivered to dnsmasq' $out
    check "SIG$signal: the summary, too" grep -q '0 events lost' $out
    check "SIG$signal leaves nothing attached" nothing_attached
done

start --func "$some"
check "kill -9: the kernel has its probes before" attached
kill -s KILL $run
check "kill -9 is the end" status 137
check "kill -9 leaves nothing attached" wait_for 180 nothing_attached

start --func "$few" --live --count 1
dns_query >/dev/null
check "--count 1 ends the run after a packet" ended
check "--count 1 is a success" status 0
check "--live printed its events" grep -q 'dev_hard_start_xmit' $out

start --backend tracepoint
dns_query >/dev/null
kill -s INT $run
check "a run by tracepoints alone ends" ended
check "tracepoints alone show the packet at the device" grep -q 'tp:net_dev_start_xmit' $out

start --func "$few" --netns far
dns_query >/dev/null
kill -s INT $run
check "a run for the other namespace ends" ended
check_fails "--netns: nothing of this side is seen" grep -q 'ip_send_skb' $out

check "bad input attaches nothing" sh -c '! ktrail trace "udp and and" 2>/dev/null'
check "a command that is not there attaches nothing" sh -c '! ktrail trace udp -- no-such-command 2>/dev/null'
check "at the end nothing is attached" nothing_attached
dns_topology_down
