# ktrail run: the scripts of probes/ and one-liners, with real traffic, until what they should print is there.
# timeout: 300
. /lab/tests/lib.sh

cd /tmp || exit
sent=0

# Everything that makes the scripts print: a query through an iptables rule, a dropped one, connections that are
# accepted, a segment that is sent again.
traffic() {
    dns_query >/dev/null
    in_ns client bash -c 'echo dropped >/dev/udp/192.0.2.2/5300' 2>/dev/null
    in_ns client timeout 5 bash -c 'exec 3<>/dev/tcp/192.0.2.2/7000; cat <&3' >/dev/null 2>&1
    [ -e /proc/$retransmitting ] || {
        in_ns client timeout 4 bash -c 'exec 3<>/dev/tcp/192.0.2.2/7001' >/dev/null 2>&1 &
        retransmitting=$!
    }
    sent=$((sent + 1))
}
retransmitting=none

# traffic_until COMMAND...: traffic until the command succeeds, for three minutes at most.
traffic_until() {
    local end=$((SECONDS + 180))
    until "$@"; do
        [ $SECONDS -lt $end ] || return 1
        traffic
    done
}

# start NAME ARGS...: runs a script in the background; output in NAME.out, notices in NAME.err.
declare -A pids
start() {
    local name=$1
    shift
    rm -f "$name".{ready,out,err}
    ktrail run --ready-file "$name.ready" "$@" >"$name.out" 2>"$name.err" &
    pids[$name]=$!
}
ended() { ! [ -e "/proc/${pids[$1]}" ]; }
is_ready() { [ -e "$1.ready" ] || ended "$1"; }

# ends NAME: it ended by itself, without a complaint; with INT it is asked to first.
ends() {
    local code
    [ "${2:-}" = INT ] && kill -INT "${pids[$1]}"
    wait "${pids[$1]}"
    code=$?
    [ $code = 0 ] && ! grep -E 'WARNING|ERROR|[Ll]ost' "$1.err" && return
    echo "$1 ended with $code:"
    head -n 5 "$1.err"
    return 1
}
says() { grep -qE "$2" "$1.out" || { echo "$1 says:"; head -n 15 "$1.out"; return 1; }; }
says_quietly() { grep -qE "$2" "$1.out" || ended "$1"; }

dns_topology_up || fail "the topology comes up"
in_ns client iptables-legacy -A OUTPUT -p udp --dport 53 -j ACCEPT
in_ns far iptables-legacy -A INPUT -p udp --dport 5300 -j DROP
in_ns far iptables-legacy -A INPUT -p tcp --dport 7001 -j DROP
# A queue that packets always pass through.
in_ns client tc qdisc replace dev c0 root tbf rate 100mbit burst 32kb latency 50ms
in_ns far socat TCP4-LISTEN:7000,fork,reuseaddr SYSTEM:'echo hello' &
wait_for 20 in_ns far bash -c 'ss -ltn | grep -q :7000'

# The scripts that ship, all at once, and what they must have printed by the time they are stopped: while they run,
# or, where only the end shows it, at the end.
declare -A while_running at_end
while_running[nf_demo]='^@invocations_by_process\[.*\]: [1-9]'
while_running[nf_latency]='^t=10 packets=[1-9][0-9]* avg_ns=[1-9]'
while_running[nf_latency_classic]='^t=10 packets=[1-9][0-9]* avg_ns=[1-9]'
while_running[tcp_connect]='^[0-9:]{8}  [0-9]+ +bash +192\.0\.2\.2 +7000$'
while_running[tcp_life]='^[0-9:]{8}  192\.0\.2\.1 *:[0-9]+ +192\.0\.2\.2 *:7000 +[0-9]+ ms [0-9]+$'
while_running[tcp_retransmits]='^[0-9:]{8}  192\.0\.2\.2 +7001 +2$'
at_end[tcp_retransmits]='^@retransmits\[192\.0\.2\.2, 7001\]: [1-9]'
at_end[softirq_latency]='^@run_us\[3\]:'
at_end[socket_backlog]='^@waiting\[7000\]:'
at_end[nf_demo]='^Done\.$'
if kernel_at_least 5.17; then
    while_running[drops]='^@drops\[(SKB_DROP_REASON_)?NETFILTER_DROP, .*\]: [1-9]|^@drops\[[0-9]+, .*\]: [1-9]'
else
    skip "drops.probe" "the kernel gives no reasons before 5.17"
fi
if kernel_at_least 5.14; then
    at_end[qdisc_latency]='^@wait_us\[[0-9]+\]:'
else
    skip "qdisc_latency.probe" "the kernel has no tracepoint qdisc:qdisc_enqueue before 5.14"
fi

shipped=$(printf '%s\n' "${!while_running[@]}" "${!at_end[@]}" | sort -u)
# Packets flow from before the first interval on, however long the others take to attach.
in_ns client ping -q -i 0.5 192.0.2.2 >/dev/null &
for name in $shipped; do start "$name" "/lab/probes/$name.probe"; done
for name in $shipped; do
    check "$name.probe attaches" wait_for 100 is_ready "$name"
done
for name in "${!while_running[@]}"; do
    traffic_until says_quietly "$name" "${while_running[$name]}"
    check "$name.probe prints what happens" says "$name" "${while_running[$name]}"
done
pkill -x ping
# What only the end shows has seen this much.
enough=$((sent + 5))
sent_enough() { [ $sent -ge $enough ]; }
traffic_until sent_enough
for name in $shipped; do
    check "$name.probe ends" ends "$name" INT
    [ -z "${at_end[$name]:-}" ] || check "$name.probe prints at its end" says "$name" "${at_end[$name]}"
done

# The shipped experiments are scripts, too.
for script in /lab/probes/*.probe; do
    name=$(basename "$script" .probe)
    grep -q '^experiment' "$script" && check "$name.probe is understood" ktrail run -d types "$script" >/dev/null
done

# One-liners end by themselves, once they have seen enough.
# one_liner NAME PROGRAM
one_liner() {
    start "$1" -e "$2"
    traffic_until ended "$1"
    ends "$1"
}
check "BEGIN and END" one_liner begin 'BEGIN { printf("hello\n"); exit(); } END { @x = 5; }'
check "their output" diff begin.out - <<'OUT'
hello


@x: 5
OUT

check "kprobe and kretprobe" one_liner classic '
    kprobe:nf_hook_slow { @start[tid] = nsecs; }
    kretprobe:nf_hook_slow /@start[tid]/ {
        @ns = hist(nsecs - @start[tid]); @n++; delete(@start[tid]);
        if (@n >= 5) { clear(@start); exit(); } }'
check "its histogram" says classic '^\[[0-9]+K?, [0-9]+K?\) +[1-9][0-9]* \|@'
check "its count" says classic '^@n: [1-9]'

check "a span" one_liner span '
    span:nf_hook_slow { @ns = hist(duration); @verdict[retval] = count(); @n++; if (@n == 5) { exit(); } }'
check "the span's histogram" says span '^\[[0-9]+K?, [0-9]+K?\) +[1-9][0-9]* \|@'
check "the span's return value" says span '^@verdict\[1\]: [1-5]$'

check "a span that looks at the arguments" one_liner span_arguments '
    span:nf_hook_slow { @skb[arg0 != 0] = count(); @ns = max(duration); @n++; if (@n == 5) { exit(); } }'
check "they are the entry's" says span_arguments '^@skb\[true\]: [5-9]$'
check "its longest time" says span_arguments '^@ns: [1-9]'

check "a wildcard" one_liner wild '
    kprobe:udp_send* { @[func] = count(); } kprobe:udp_sendmsg { @n++; if (@n >= 3) { exit(); } }'
check "it tells the functions apart" says wild '^@\[udp_sendmsg\]: [1-9]'

# The helper of some kernels leaves what is behind a name's end as it was.
check "names of processes" one_liner names 'kprobe:ksys_write { @[comm] = count(); @n++; if (@n >= 50) { exit(); } }'
key_twice() { grep -oE '^@\[.*\]' "$1.out" | sort | uniq -d | grep .; }
check_fails "one name is one key" key_twice names

check "a kernel stack" one_liner stack 'kprobe:udp_sendmsg { @[kstack(3)] = count(); exit(); }'
check "its frames have names" says stack '^ {8}udp_sendmsg\+'

check "a tracepoint with fields" one_liner tracepoint '
    tracepoint:net:net_dev_queue { @[str(args.name, 32)] = count(); @n++; if (@n == 5) { exit(); } }'
check "it sees the device" says tracepoint '^@\[c0\]: [1-9]'

check "a raw tracepoint with types" one_liner raw '
    rawtracepoint:net_dev_queue { @[args.skb->dev->name] = count(); @n++; if (@n == 5) { exit(); } }'
check "it sees the device, too" says raw '^@\[c0\]: [1-9]'

if kernel_at_least 6.1; then
    check "fentry and fexit" one_liner fentry '
        fentry:nf_hook_slow { @in = count(); } fexit:nf_hook_slow { @out[retval] = count(); @n++; if (@n == 5) { exit(); } }'
    check "fentry counts" says fentry '^@in: [1-9]'
    check "fexit has the verdict" says fentry '^@out\[1\]: [1-9]'
else
    skip "fentry and fexit" "tested on 6.1 and newer"
fi

dns_topology_down
