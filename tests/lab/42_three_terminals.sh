# The exercise by hand: a server in a namespace, and in three terminals iperf3, a latency script and the rules; then
# `ktrail plot`.
# kernels: 6.12; it is about files and figures, which no kernel's age changes
# timeout: 120
. /lab/tests/lib.sh

mkdir -p /tmp/terminals
cd /tmp/terminals || exit 1

# As a student would write it, for bpftrace.
cat >nf_latency.bt <<'SCRIPT'
#!/usr/bin/bpftrace

BEGIN
{
    printf("Tracing nf_hook_slow... Ctrl+C to stop.\n");
}

kprobe:nf_hook_slow
{
    @start[tid] = nsecs;
}

kretprobe:nf_hook_slow
/@start[tid]/
{
    @latency = avg(nsecs - @start[tid]);
    delete(@start[tid]);
}

interval:s:1
{
    print(@latency);
    clear(@latency);
}

END
{
    clear(@start);
    clear(@latency);
}
SCRIPT

ip netns add iperf3-ns
ip link add veth-host type veth peer name veth-ns
ip link set veth-ns netns iperf3-ns
ip addr add 10.99.0.1/24 dev veth-host
ip link set veth-host up
ip netns exec iperf3-ns ip addr add 10.99.0.2/24 dev veth-ns
ip netns exec iperf3-ns ip link set veth-ns up
ip netns exec iperf3-ns ip link set lo up
ip netns exec iperf3-ns iperf3 -s -D
listens() { ip netns exec iperf3-ns ss -Hltn 'sport = :5201' | grep -q LISTEN; }
check "the server listens" wait_for 10 listens

traces() { grep -q Tracing bpf_results.txt; }
ktrail run nf_latency.bt >bpf_results.txt &
script=$!
check "the script traces" wait_for 60 traces
iperf3 -c 10.99.0.2 -p 5201 -t 8 -J >iperf_results.json &
client=$!
sleep 2
# 1,000 rules in about 4 s.
for batch in 0 1; do
    { echo '*filter'
        for i in $(seq 0 499); do echo "-A OUTPUT -p tcp -s 198.18.$((batch * 2 + i / 250)).$((i % 250)) --dport 443 -j DROP"; done
        echo COMMIT; } | iptables-legacy-restore --noflush
    sleep 2
done
check "iperf3 ends" wait $client
kill -INT $script
check "the script ends" wait $script
iptables-legacy -F OUTPUT
cat bpf_results.txt

check "the figure is drawn" \
    ktrail plot --iperf iperf_results.json --latency bpf_results.txt --interval 1 --shade 2:6 --label 'average nf_hook_slow latency' -o results.png -o results.svg
# PNG, IHDR: the width is at 16, big-endian.
check "it is an image of 1,200 pixels" [ "$(head -c 20 results.png | od -An -tx1 -j16 | tr -d ' ')" = 000004b0 ]
for text in 'throughput (' 'congestion window (KB)' 'average nf_hook_slow latency (' 'time (s)' 'rules are being added'; do
    check "it has '$text'" grep -qF "$text" results.svg
done
# How much it rises is for the tests by the counting clock to say.
values() { [ "$(grep -c '^@latency: [1-9]' bpf_results.txt)" -ge 6 ]; }
check "the script has measured" values

ip netns pids iperf3-ns | xargs kill
ip netns del iperf3-ns
