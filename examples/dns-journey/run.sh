#!/usr/bin/env bash
# The DNS exercise on one machine: a query's journey, once answered and once dropped by a firewall rule.
#
# Builds two network namespaces joined by a veth pair, with 8.8.8.8 and a DNS server on the far side, so that no
# packet leaves the machine. Removes both when it ends, however it ends.
#
#   sudo examples/dns-journey/run.sh [ktrail options]      KTRAIL=path/to/ktrail to use another than the one in PATH
set -euo pipefail
ktrail=${KTRAIL:-ktrail}
near=ktrail-near far=ktrail-far

[ "$(id -u)" = 0 ] || { echo "run.sh: needs root, for the namespaces and for tracing" >&2; exit 1; }
for tool in "$ktrail" ip iptables dig dnsmasq; do
    command -v "$tool" >/dev/null || { echo "run.sh: $tool is missing; on Debian: apt install" \
        "iproute2 iptables bind9-dnsutils dnsmasq-base" >&2; exit 1; }
done

server=
clean_up() {
    [ -z "$server" ] || kill "$server" 2>/dev/null || true
    ip netns del $near 2>/dev/null || true
    ip netns del $far 2>/dev/null || true
}
trap clean_up EXIT

ip netns add $near
ip netns add $far
ip link add near0 netns $near type veth peer name far0 netns $far
ip -n $near addr add 192.0.2.1/24 dev near0
ip -n $far addr add 192.0.2.2/24 dev far0
ip -n $far addr add 8.8.8.8/32 dev lo
for end in "$near lo" "$near near0" "$far lo" "$far far0"; do
    # shellcheck disable=SC2086 # two words
    set -- $end
    ip -n "$1" link set "$2" up
done
ip -n $near route add default via 192.0.2.2
# nsenter leaves /sys as it is; `ip netns exec` would hide tracefs from ktrail.
nsenter --net=/run/netns/$far dnsmasq --keep-in-foreground --conf-file=/dev/null --no-resolv --no-hosts \
    --user=root --pid-file= --listen-address=8.8.8.8 --bind-interfaces --address=/example.com/192.0.2.53 &
server=$!
sleep 1

journey() {
    nsenter --net=/run/netns/$near "$ktrail" trace --filter 'udp and dst 8.8.8.8 and port 53' \
        -- dig +tries=1 +time=1 +short @8.8.8.8 example.com
}

echo "== The query is answered"
journey
echo
echo "== The query is dropped: iptables -A OUTPUT -p udp -d 8.8.8.8 --dport 53 -j DROP"
nsenter --net=/run/netns/$near iptables -A OUTPUT -p udp -d 8.8.8.8 --dport 53 -j DROP
journey
