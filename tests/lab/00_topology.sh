# The lab itself: the standard topology answers, and both kinds of iptables can drop the query.
. /lab/tests/lib.sh

answers() { [ "$(dns_query)" = 192.0.2.53 ]; }

check "the topology comes up" dns_topology_up
check "dig gets its answer" answers
check "dig gets its answer by ip netns exec" \
    ip netns exec client dig +tries=1 +time=2 @8.8.8.8 example.com
check "dig gets its answer over IPv6" \
    in_ns client dig +tries=1 +time=2 @2001:4860:4860::8888 example.com AAAA
check_fails "an unknown name has no address" \
    sh -c '[ -n "$(nsenter --net=/run/netns/client dig +tries=1 +time=2 +short @8.8.8.8 other.test)" ]'

for iptables in iptables-nft iptables-legacy; do
    check "$iptables takes the rule" in_ns client $iptables -A OUTPUT -p udp -d 8.8.8.8 --dport 53 -j DROP
    check_fails "$iptables drops the query" answers
    check "$iptables counts the drop" \
        sh -c "nsenter --net=/run/netns/client $iptables -vnL OUTPUT | grep -Eq '^ *[1-9][0-9]* .*DROP'"
    in_ns client $iptables -F OUTPUT
    check "after $iptables dig gets its answer again" answers
done

check "the topology goes away" dns_topology_down
check_fails "nothing of it is left" ip netns exec client true
