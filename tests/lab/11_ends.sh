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
# The kernel may still be busy with what a test before this one left to it.
settled() {
    [ -z "$(cat /sys/kernel/debug/kprobes/list /sys/kernel/tracing/enabled_functions)" ] &&
        ! bpftool prog list | grep -q ktrail
}
wait_for 180 settled || fail "nothing is attached before"
before=$(in_kernel)
attached() { ! nothing_attached; }
nothing_attached() { [ "$(in_kernel)" = "$before" ]; }

out=/tmp/ends.out
ready=/tmp/ends.ready

# begin ARGS...: a run in the client's namespace, in the background; $run is ktrail itself. start waits until all is
# attached.
begin() {
    rm -f $ready
    nsenter --net=/run/netns/client ktrail trace --ready-file $ready \
        --filter 'udp and dst 8.8.8.8 and port 53' "$@" >$out 2>/tmp/ends.err &
    run=$!
}
start() {
    begin "$@"
    wait_for 180 [ -e $ready ]
}
usual_paths_attached() { grep -q 'usual paths attached' /tmp/ends.err; }
ended() { wait_for 180 over; }
over() { ! kill -0 $run 2>/dev/null || grep -qs '^State:.Z' /proc/$run/status; }
status() {
    local code=0
    wait $run || code=$?
    [ $code = "$1" ] || { echo "exit code $code"; cat /tmp/ends.err; return 1; }
}

dns_topology_up || fail "the topology comes up"
dns_query >/dev/null # the neighbour is known from here on

few='ip_send_skb|__ip_local_out|dev_hard_start_xmit'

# While it attaches.
rm -f $ready
nsenter --net=/run/netns/client ktrail trace --ready-file $ready --count 1 udp >$out 2>/tmp/ends.err &
run=$!
attaching() { attached || [ -e $ready ]; }
check "something is attached" wait_for 120 attaching
kernel_at_least 6.12 || sleep 2 # into the middle of it
kill -s TERM $run
check "SIGTERM ends a run that is attaching" ended
if ! kernel_at_least 6.12; then
    # It takes seconds there.
    check "it ends as the signal ends processes" status 143
fi
check "SIGTERM leaves nothing attached while attaching" wait_for 180 nothing_attached
check_fails "nor events" sh -c 'ls -d /sys/kernel/tracing/events/ktrail_*'

# Where each function is a probe of its own, the run begins with some and is interrupted before it has all.
begin
if kernel_at_least 6.12; then
    wait_for 60 [ -e $ready ]
else
    check "the functions on packets' usual paths come first" wait_for 120 usual_paths_attached
    check_fails "and the rest later" [ -e $ready ]
fi
check "SIGINT: the kernel has its probes before" attached
dns_query >/dev/null
kill -s INT $run
check "SIGINT ends the run" ended
check "SIGINT is a success" status 0
check "SIGINT: the journey was printed" grep -q '^  => delivered to dnsmasq' $out
check "SIGINT: the summary, too" grep -q '0 events lost' $out
# The kernel takes some probes away after the prompt is back.
check "SIGINT leaves nothing attached" wait_for 180 nothing_attached

start --func "$few"
kill -s TERM $run
check "SIGTERM ends the run" ended
check "SIGTERM is a success" status 0
check "SIGTERM leaves nothing attached" wait_for 180 nothing_attached

start --func "$few"
check "kill -9: the kernel has its probes before" attached
kill -s KILL $run
check "kill -9 is the end" status 137
check "kill -9 leaves nothing attached" wait_for 180 nothing_attached

# Many functions share an event of tracefs there, which outlives a process that is killed.
events_left() { ls -d /sys/kernel/tracing/events/ktrail_* >/dev/null 2>&1; }
if kernel_at_least 6.12 || ! kernel_at_least 5.15; then
    skip "kill -9 while everything is attached" "this kernel's functions are attached without events of tracefs"
else
    start
    check "kill -9: many functions share events" events_left
    kill -s KILL $run
    check "kill -9 while everything is attached is the end" status 137
    check "kill -9: what is left does nothing" sh -c '! grep -v DISABLED /sys/kernel/debug/kprobes/list'
    check "kill -9: the events are left" events_left
    start --func "$few"
    check "the next run says so" grep -q 'run that was killed had left [0-9]* kprobe events' /tmp/ends.err
    kill -s INT $run
    check "the next run ends" ended
    check "the next run has what was left removed" wait_for 180 nothing_attached
    check_fails "the next run has the events removed" events_left

    # The kernel removes none that is in use.
    start
    one=$(ls -d /sys/kernel/tracing/events/ktrail_*/ktrail_* | head -n 1)
    one_left() { [ "$(ls -d /sys/kernel/tracing/events/ktrail_*/ktrail_*)" = "$one" ]; }
    echo 1 >"$one/enable"
    kill -s INT $run
    check "SIGINT ends a run whose event is in use" ended
    check "the event in use is left" wait_for 120 one_left
    echo 0 >"$one/enable"
    check "it is removed, too, when it isn't in use any more" wait_for 20 nothing_attached
    check_fails "no event is left" events_left

    # What removes them isn't safe from SIGKILL either: then it leaves events, and grace periods short, which a file says
    # are its work.
    usual_grace() { [ "$(cat /sys/kernel/rcu_expedited)" = 0 ]; }
    check "grace periods are the usual ones" usual_grace
    start
    kill -s KILL $run
    check "kill -9 once more is the end" status 137
    echo 1 >/sys/kernel/rcu_expedited
    echo 1 >/run/ktrail.rcu_expedited
    start --func "$few"
    kill -s INT $run
    check "the next run ends, too" ended
    check "what a killed remover left is removed" wait_for 180 nothing_attached
    check_fails "what a killed remover left is removed from tracefs" events_left
    check "grace periods are the usual ones again" wait_for 20 usual_grace
fi

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

# A ring of 4 KiB holds some 20 events. While the reader stands still there are more.
burst() { in_ns client bash -c 'for i in {1..50}; do echo >/dev/udp/8.8.8.8/53; done'; }
counted() { sed -n "s/.*\"type\":\"summary\".*\"events_$1\":\([0-9]*\).*/\1/p" $out; }
start --func "$few" --output json --ring-size 4
kill -s STOP $run
burst
kill -s CONT $run
burst
kill -s INT $run
check "a run whose ring is too small ends" ended
produced=$(counted produced) delivered=$(counted delivered) lost=$(counted lost)
echo "$produced events produced, $delivered delivered, $lost lost"
check "it lost events" [ "$lost" -gt 100 ]
check "it delivered events" [ "$delivered" -gt 10 ]
check "what was produced was delivered or counted as lost" [ "$produced" = $((delivered + lost)) ]
check "no packet's first event went uncounted" [ "$produced" -ge 300 ]

check "bad input attaches nothing" sh -c '! ktrail trace "udp and and" 2>/dev/null'
check "a command that is not there attaches nothing" sh -c '! ktrail trace udp -- no-such-command 2>/dev/null'
check "at the end nothing is attached" wait_for 180 nothing_attached
dns_topology_down
