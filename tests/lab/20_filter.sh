# Filters in the kernel: every 24th expression of the corpus, and random ones, pass the verifier and judge skbs made
# by hand as libpcap judges the same frames; and real packets on their way, with and without headers, tags and tunnels.
# timeout: 600
. /lab/tests/lib.sh

out=/tmp/filter.json

# The tests' own skbs, by the tracer's view and loads.
(
    cd /tmp
    export KTRAIL_CORPUS=/lab/corpus KTRAIL_CORPUS_EVERY=24 KTRAIL_FUZZ_PART=24
    # What runs in the interpreter, other machines have run.
    /lab/bin/filter_view --show-output --skip interpreted --skip cheap >/tmp/filter_view.log 2>&1
)
code=$?
while read -r _ name _ end; do
    [ "$end" = ok ] || sed -n "/^---- $name stdout/,/^----/p" /tmp/filter_view.log | head -n 60
    check "by hand: $name" [ "$end" = ok ]
done < <(grep -E '^test .* \.\.\. ' /tmp/filter_view.log)
check "by hand: all tests come to their end" [ $code = 0 ]
check_fails "by hand: nothing is skipped" grep ktrail-test-skip /tmp/filter_view.log

# journeys FILTER COMMAND...: how many packets match while the command runs in the client's namespace. Tracepoints
# are attached in no time on each kernel; the filter is the same code everywhere.
journeys() {
    local filter=$1
    shift
    in_ns client ktrail trace --backend tracepoint --output json --filter "$filter" -- "$@" >$out 2>/tmp/notices ||
        { cat /tmp/notices >&2; echo error; return; }
    grep -c '"type":"journey"' $out
}

# matches FILTER COMMAND... and misses FILTER COMMAND...: a case each.
matches() { check "${1//$'\n'/}" [ "$(journeys "$@")" -gt 0 ]; }
misses() { check "not: $1" [ "$(journeys "$@")" = 0 ]; }

dns_topology_up || fail "the topology comes up"
dns_query >/dev/null # the neighbour is known from here on
mac() { ip -n "$1" -br link show dev "$2" | awk '{ print $3 }'; }
query=(dig +tries=1 +time=2 @8.8.8.8 example.com)
ping=(ping -c 1 -W 5 -s 1000 192.0.2.2)
echo='icmp[icmptype] = icmp-echo'

# Much of what is asked of one packet goes into one filter, and what must not match into its `not`: attaching is what
# takes the time.
matches "udp and dst 8.8.8.8 and port 53 and ether src $(mac client c0) and ether dst $(mac far f0)
    and not (ether src 02:00:00:00:00:99 or tcp or vlan or skb.mark == 77 or netns 12345)" "${query[@]}"
misses "udp port 53 and (ether src 02:00:00:00:00:99 or tcp or vlan or skb.mark == 77 or inner (ip) or netns 12345)" \
    "${query[@]}"
matches "$echo and len = 1042 and greater 1042 and not greater 1043 and outbound and skb.dev.name == \"c0\"" "${ping[@]}"
matches "$echo and inbound and skb.dev.name == \"f0\" and netns far and ether[12:2] = 0x800" "${ping[@]}"
matches "$echo and skb.mark & 0xff == 0x10 and skb.sk.__sk_common.skc_family == 2
    and comm ping and ifname c0 and skb.protocol == 0x800 and not skb.dev.name == \"c1\"" \
    ping -m 16 -c 1 -W 5 192.0.2.2
matches 'ip6 and icmp6[icmp6type] = icmp6-echo and skb.sk.__sk_common.skc_family == 10' \
    ping -c 1 -W 5 2001:db8::2

# A tag that the devices take out, and one behind it that is in the bytes.
for side in 'client c0 1' 'far f0 2'; do
    read -r ns dev host <<<"$side"
    ip -n $ns link add link $dev name $dev.100 type vlan id 100
    ip -n $ns link add link $dev.100 name $dev.200 type vlan id 200
    ip -n $ns link set $dev.100 up
    ip -n $ns link set $dev.200 up
    ip -n $ns addr add 198.18.1.$host/24 dev $dev.100
    ip -n $ns addr add 198.18.2.$host/24 dev $dev.200
done
in_ns client ping -c 1 -W 5 198.18.1.2 >/dev/null
in_ns client ping -c 1 -W 5 198.18.2.2 >/dev/null
matches "not vlan 101 and not inner (ip) and vlan 100 and $echo and host 198.18.1.2" ping -c 1 -W 5 198.18.1.2
matches "vlan 100 and vlan 200 and $echo and host 198.18.2.2" ping -c 1 -W 5 198.18.2.2
in_ns client ethtool -K c0 txvlan off >/dev/null
matches "vlan 100 and $echo and ether[12:2] = 0x8100 and skb.dev.name == \"c0\"" ping -c 1 -W 5 198.18.1.2

# Tunnels.
modprobe -a ip_gre ipip vxlan
ip -n client link add gre1 type gre local 192.0.2.1 remote 192.0.2.2 key 7
ip -n far link add gre1 type gre local 192.0.2.2 remote 192.0.2.1 key 7
for side in 'client 1' 'far 2'; do
    read -r ns host <<<"$side"
    ip -n $ns link set gre1 up
    ip -n $ns addr add 198.18.3.$host/24 dev gre1
done
in_ns client ping -c 1 -W 5 198.18.3.2 >/dev/null
matches "inner ($echo and dst 198.18.3.2) and dst 192.0.2.2 and proto 47" ping -c 1 -W 5 198.18.3.2
dns_topology_down

# What people type passes each kernel's verifier in the tracer's own programs.
taken() { check "is taken: ${1%%$'\n'*}…" ktrail trace --backend tracepoint --filter "$1" -- true </dev/null; }
taken '(tcp[tcpflags] & (tcp-syn|tcp-fin) != 0 and not src and dst net 10.0.0.0/8) or (tcp port 80 and
    (((ip[2:2] - ((ip[0]&0xf)<<2)) - ((tcp[12]&0xf0)>>2)) != 0)) or (ip6 protochain 6 and icmp[icmptype] != icmp-echo)'
taken '(ether[0] & 1 = 0 and ip[16] >= 224 or (vlan 1 and (arp or ip6))) or ext (port 53 or portrange 1000-2000)
    or comm "kworker/0:1" or pid 1 or cgroup "/" or skb.dev.rtnl_link_ops.kind == "veth"'
