# A DNS query's journey: delivered to the server, and dropped by both kinds of iptables.
# timeout: 600
. /lab/tests/lib.sh

out=/tmp/journey.json
filter='udp and dst 8.8.8.8 and port 53'

# journey ARGS...: traces the query in the client's namespace, as JSON, into $out.
journey() {
    in_ns client ktrail trace --output json --filter "$filter" "$@" -- dig +tries=1 +time=1 @8.8.8.8 example.com \
        >$out 2>/tmp/notices
}

events() { grep '"type":"event"' $out; }
names() { events | sed -E 's/.*"point":\{"kind":"[a-z]*","name":"([^"]*)".*/\1/'; }
field() { sed -E "s/.*\"$1\":\"?([^,\"}]*).*/\1/"; }
summary() { grep '"type":"summary"' $out | field "$1"; }
# The packet's fate stands before those of its copies.
fate() { grep '"type":"journey"' $out | grep -o '"fate":{"kind":"[a-z_]*"' | head -n 1 | cut -d'"' -f6; }

# in_order NAME...: the names come in this order in the journey; `a|b` is either.
in_order() {
    local at=0 name found
    for name in "$@"; do
        found=$(names | awk -v at=$at -v re="^($name)\$" 'NR > at && $0 ~ re { print NR; exit }')
        [ -n "$found" ] || { echo "no $name after line $at of:"; names | tr '\n' ' '; return 1; }
        at=$found
    done
}

never_decreases() { events | field time_ns | sort -nc; }
only_the_query() {
    # Events without state are of skbs that are followed, too; their journey's tuple says which.
    ! events | grep -v '"state":null' | grep -v '"tuple":null' | grep -v '"dst":"8.8.8.8","protocol":17,.*"dst_port":53'
}
one_packet() { [ "$(grep -c '"type":"journey"' $out)" = 1 ]; }
# What other packets there are: to the same host on another port, and to the same port of another host.
noise() {
    while :; do
        in_ns client bash -c 'echo noise >/dev/udp/8.8.8.8/5300; echo noise >/dev/udp/192.0.2.2/53'
        sleep 0.05
    done
}

dns_topology_up || fail "the topology comes up"
dns_query >/dev/null # the neighbour is known from here on

noise 2>/dev/null &
check "the query is traced" journey
kill %?noise 2>/dev/null
cat /tmp/notices

check "one packet is seen" one_packet
check "nothing of any other packet is seen" only_the_query
check "it starts where its headers are complete" \
    sh -c "grep -m1 '\"type\":\"event\"' $out | grep -Eq '\"name\":\"(udp4_hwcsum|udp_send_skb|ip_send_skb|net_dev_queue)\"'"
check "it is sent, crosses over and arrives, in order" \
    in_order '__ip_local_out' 'ip_output' 'dev_hard_start_xmit' 'netif_rx_internal|netif_rx' 'ip_rcv' 'udp_rcv'
check "its time never goes back" never_decreases
check "it ends delivered to the server" \
    sh -c "grep '\"type\":\"journey\"' $out | grep -q '\"fate\":{\"kind\":\"delivered\",\"pid\":[0-9]*,\"comm\":\"dnsmasq\"'"
check "no event was lost" [ "$(summary events_lost)" = 0 ]
check "more than a thousand functions are attached" [ "$(summary functions)" -gt 1000 ]

for iptables in iptables-nft iptables-legacy; do
    in_ns client $iptables -A OUTPUT -p udp -d 8.8.8.8 --dport 53 -j DROP
    journey --func 'ip_.*|__ip_.*|nf_.*|kfree_skb.*|sk_skb_reason_drop|dev_hard_start_xmit'
    in_ns client $iptables -F OUTPUT
    check "$iptables: it passes nf_hook_slow" in_order 'nf_hook_slow'
    check_fails "$iptables: it does not reach the device" in_order 'dev_hard_start_xmit'
    check "$iptables: it ends dropped" [ "$(fate)" = dropped ]
    if kernel_at_least 5.17; then
        check "$iptables: for the reason NETFILTER_DROP" \
            sh -c "grep '\"type\":\"journey\"' $out | grep -q '\"reason_name\":\"NETFILTER_DROP\"'"
    else
        skip "$iptables: for the reason NETFILTER_DROP" "this kernel has no drop reasons (5.17+)"
    fi
done

# The same over IPv6.
in_ns client ktrail trace --output json --func 'ip6_.*|ipv6_.*|udpv?6_.*|dev_hard_start_xmit' \
    'ip6 and udp and dst 2001:4860:4860::8888 and port 53' -- \
    dig +tries=1 +time=1 @2001:4860:4860::8888 example.com AAAA >$out 2>/tmp/notices
check "IPv6: one packet is seen" one_packet
check "IPv6: it is sent, crosses over and arrives, in order" \
    in_order 'ip6_.*' 'ip6_output' 'dev_hard_start_xmit' 'ipv6_rcv' 'udpv6_rcv'
check "IPv6: it ends delivered to the server" [ "$(fate)" = delivered ]
dns_topology_down
