# ktrail run: one-liners on real traffic, attached by whatever the kernel has.
# timeout: 600
. /lab/tests/lib.sh

out=/tmp/run.out
notices=/tmp/run.err

# ktrail_run ARGS...: runs a script; output in $out, notices in $notices.
ktrail_run() { timeout -s INT 60 ktrail run "$@" >$out 2>$notices || { tail -n 5 $notices; return 1; }; }

# while_querying ARGS...: the same, with queries and an iptables chain in the client's namespace meanwhile.
while_querying() {
    local code ready=/tmp/run.ready
    rm -f $ready
    (
        wait_for 60 test -e $ready || exit
        while :; do dns_query >/dev/null; sleep 0.05; done
    ) &
    ktrail_run --ready-file $ready "$@"
    code=$?
    kill $! 2>/dev/null
    wait $! 2>/dev/null
    return $code
}
says() { grep -qE "$1" $out || { head -n 5 $out; return 1; }; }
quiet_end() { ! grep -E 'WARNING|ERROR' $notices; }

dns_topology_up || exit
in_ns client iptables-legacy -A OUTPUT -p udp --dport 53 -j ACCEPT
# The first query loads dig, which may take longer than a script runs.
dns_query >/dev/null

check "BEGIN and END" ktrail_run -e 'BEGIN { printf("hello\n"); exit(); } END { @x = 5; }'
check "their output" diff $out - <<'OUT'
hello


@x: 5
OUT

check "a one-liner on nf_hook_slow" while_querying \
    -e 'kprobe:nf_hook_slow { @[comm] = count(); } interval:s:6 { print(@); clear(@); exit(); }'
check "it counts dig" says '^@\[[^]]*\]: [1-9][0-9]*$'
check "nothing is lost" quiet_end

check "a function's latency by kprobe and kretprobe" while_querying -e '
    kprobe:nf_hook_slow { @start[tid] = nsecs; }
    kretprobe:nf_hook_slow /@start[tid]/ { @ns = hist(nsecs - @start[tid]); @n = count(); delete(@start[tid]); }
    interval:s:6 { clear(@start); exit(); }'
check "it has a histogram" says '^\[[0-9]+K?, [0-9]+K?\) +[1-9][0-9]* \|@'
check "its calls are counted" says '^@n: [1-9]'

check "a function's latency by span" while_querying -e '
    span:nf_hook_slow { @ns = hist(duration); @n = count(); } interval:s:6 { exit(); }'
check "span has a histogram" says '^\[[0-9]+K?, [0-9]+K?\) +[1-9][0-9]* \|@'

check "a wildcard" while_querying -e 'kprobe:udp_send* { @[func] = count(); } interval:s:6 { exit(); }'
check "it sees udp_sendmsg" says '^@\[udp_sendmsg\]: [1-9]'

check "a kernel stack" while_querying -e 'kprobe:udp_sendmsg { @[kstack(3)] = count(); } interval:s:6 { exit(); }'
check "its frames have names" says '^    udp_sendmsg\+'

check "a tracepoint with fields" while_querying -e '
    tracepoint:net:net_dev_queue { @[str(args.name, 32)] = count(); } interval:s:6 { exit(); }'
check "it sees the device" says '^@\[c0\]: [1-9]'

check "a raw tracepoint with types" while_querying -e '
    rawtracepoint:net_dev_queue { @[args.skb->dev->name] = count(); } interval:s:6 { exit(); }'
check "it sees the device, too" says '^@\[c0\]: [1-9]'

if kernel_at_least 6.1; then
    check "fentry and fexit" while_querying -e '
        fentry:nf_hook_slow { @in = count(); } fexit:nf_hook_slow { @out[retval] = count(); }
        interval:s:6 { exit(); }'
    check "fentry counts" says '^@in: [1-9]'
    check "fexit has the verdict" says '^@out\[1\]: [1-9]'
else
    skip "fentry and fexit" "checked on 6.1 and newer"
fi

dns_topology_down
