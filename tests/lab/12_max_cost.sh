# The governor: what costs too much and no followed packet needs is detached, and nothing else; no event is lost by it.
# timeout: 600
. /lab/tests/lib.sh

[ -e /sys/kernel/tracing/enabled_functions ] || mount -t tracefs tracefs /sys/kernel/tracing
[ -e /sys/kernel/debug/kprobes/list ] || mount -t debugfs debugfs /sys/kernel/debug

out=/tmp/cost.out
err=/tmp/cost.err
ready=/tmp/cost.ready

start() {
    rm -f $ready
    nsenter --net=/run/netns/client ktrail trace --ready-file $ready --output json --ring-size 65536 \
        --filter 'udp and dst 8.8.8.8 and port 53' "$@" >$out 2>$err &
    run=$!
    wait_for 180 [ -e $ready ]
}
ended() { wait_for 180 over; }
over() { ! kill -0 $run 2>/dev/null || grep -qs '^State:.Z' /proc/$run/status; }
gone() { over && ! bpftool prog list | grep -q ktrail; }

# Packets that match: five times bytes that are no query, so that nobody answers.
matching() { in_ns client bash -c 'for i in {1..5}; do echo >/dev/udp/8.8.8.8/53; done'; }
detached() {
    matching
    grep -q 'max-cost 0.01: detached .* that no followed packet has gone through: ' $err
}
# The function is probed.
probed() { grep -qw "$1" /sys/kernel/debug/kprobes/list /sys/kernel/tracing/enabled_functions; }
unprobed() { ! probed "$1"; }

dns_topology_up || fail "the topology comes up"
dns_query >/dev/null # the neighbour is known from here on

# One link for all functions must be made again without some. A probe each takes the kernel longer, so there are fewer.
some=()
kernel_at_least 6.12 || some=(--func 'icmp_.*|ip_.*|__ip_.*|udp_.*|__udp.*|ping_.*')
start --max-cost 0.01 "${some[@]}" || cat $err
matching
check "before: what no packet needs is probed, too" probed icmp_rcv
nsenter --net=/run/netns/client ping -q -f 192.0.2.2 >/dev/null &
flood=$!
check "over the budget functions are detached, and the notice says which" wait_for 180 detached
check "the kernel has a function's probe no more" wait_for 120 unprobed icmp_rcv
check "the others' stay" probed ip_rcv
# What matches is followed through what is left.
matching
kill $flood
dns_query >/dev/null # the others' packets have arrived before
kill -s INT $run
check "the run ends" ended
grep max-cost $err

summary() { jq -se "last | $1" $out >/dev/null || { tail -n 1 $out; return 1; }; }
check "the summary names what was detached" summary \
    '.type == "summary" and any(.attached.cost.detached[]; .name == "icmp_rcv" and .share > 0)'
check "and what it cost" summary '.attached.cost | .budget == 0.01 and .peak > 0.01 and (.costliest | length) > 0'
check "the counts are right" summary \
    'any(.attached.skipped[]; (.reason | startswith("detached")) and .count > 0) and .events_produced == .events_delivered'
check "packets were followed meanwhile" summary '.packets >= 15'
# What of the detached is in a journey.
both() { jq -cs '(last | [.attached.cost.detached[] | del(.share)]) as $gone
    | [.[] | select(.type == "event").point] | unique | map(select(IN($gone[])))' $out; }
nothing_in_both() { [ "$(both)" = "[]" ] || { both; return 1; }; }
check "nothing on a followed packet's way was detached" nothing_in_both
# One that is attached anew meanwhile is neither missing nor seen twice.
check "each packet passed each function that all pass once" jq -se \
    'map(select(.type == "event" and (.point.name | IN("ip_send_skb", "ip_rcv", "udp_queue_rcv_skb"))))
     | group_by([.packet, .point.name]) | all(length == 1) and (map(.[0].point.name) | group_by(.) | map(length) | unique | length) == 1' $out

wait_for 180 gone || fail "nothing is attached after"

# Without the option the kernel measures nothing.
start --func 'ip_rcv|ip_send_skb'
matching
check_fails "without --max-cost nothing is measured" sh -c 'bpftool prog list | grep -A9 ktrail | grep run_time_ns'
kill -s INT $run
check "and the run ends" ended
check "the summary has no cost" summary '.attached.cost == null'
dns_topology_down
