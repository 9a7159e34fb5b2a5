# What `trace --summary` folds in the kernel is what it prints of the same packets event by event, and it holds when
# packets are many.
# timeout: 300
. /lab/tests/lib.sh

# Attaching to all functions takes kernels without FPROBE a minute.
functions='udp_send_skb|ip_send_skb|__ip_local_out|ip_output|__dev_queue_xmit|dev_hard_start_xmit|net_dev_start_xmit'
functions="$functions|netif_rx.*|netif_receive_skb|ip_rcv|ip_local_deliver|udp_rcv|udp_queue_rcv.*|__udp_enqueue_schedule_skb"
functions="$functions|tcp_v4_rcv|tcp_v4_do_rcv|tcp_ack|tcp_queue_rcv|tcp_rcv_established|__tcp_transmit_skb|kfree_skb.*"

# paths FILE: fingerprints with their packets, and fates with theirs.
paths() { awk '/^path / { print $2, $3 } /^  => / { print }' "$1" | sort; }

# traced NAME FILTER COMMAND...: two at once see the same packets, one event by event: it is told to count.
traced() {
    local name=$1 filter=$2 pid
    shift 2
    rm -f /run/ready
    env --default-signal=INT nsenter --net=/run/netns/client ktrail trace --summary --count 1000000 --ring-size 32768 \
        --func "$functions" --ready-file /run/ready "$filter" >"/run/$name.events" 2>"/run/$name.err" </dev/null &
    pid=$!
    wait_for 120 test -e /run/ready || return
    in_ns client ktrail trace --summary --func "$functions" "$filter" -- "$@" >"/run/$name.folded" 2>>"/run/$name.err" || return
    kill -INT $pid
    wait $pid || return
    paths "/run/$name.events" >"/run/$name.a"
    paths "/run/$name.folded" >"/run/$name.b"
    tail -n 20 "/run/$name.events" "/run/$name.folded"
}

same() {
    [ -s "/run/$1.a" ] && diff "/run/$1.a" "/run/$1.b"
}

said() { grep -qE "$2" "/run/$1" || { cat "/run/$1"; return 1; }; }

cat >/run/queries <<'S'
for i in $(seq 20); do dig +tries=1 +time=5 +short @8.8.8.8 example.com; done
for i in $(seq 5); do dig +tries=1 +time=1 +short @8.8.8.9 example.com; done
for i in $(seq 5); do dig +tcp +tries=1 +time=5 +short @8.8.8.8 example.com; done
# What is still in a socket when one of the two ends is lost sight of there.
for i in $(seq 100); do
    [ -z "$(nsenter --net=/run/netns/far ss -Htn)" ] && break
    sleep 0.1
done
true
S

dns_topology_up || exit 1
dns_query >/dev/null

check "a summary is folded while another is not" \
    traced dns 'dst net 8.8.8.0/24 and port 53' bash /run/queries
check "the kernel's fold has the same paths, counts and fates" same dns
check "it says that it is folded, and of how many packets the times are" \
    said dns.folded '^folded in the kernel, [0-9]+ kinds?; times of [0-9]+ packets'
check_fails "the other does not" said dns.events '^folded in the kernel'

# Nothing but these packets is as long.
PACKETS=20000
in_ns far iperf3 --server --one-off --port 5201 </dev/null >/dev/null 2>&1 &
listens() { in_ns far ss -lnt 'sport = :5201' | grep -q LISTEN; }
wait_for 20 listens
check "a flood is traced" in_ns client ktrail trace --summary --func "$functions" \
    'udp and dst port 5201 and greater 200' -- iperf3 --client 192.0.2.2 --port 5201 --udp --bitrate 0 --length 200 \
    --blockcount $PACKETS >/run/flood 2>/run/flood.err
tail -n 20 /run/flood
check "each packet of a flood is counted" said flood '^20,000 packets, .*; 0 events lost'
check "times are of some of them" said flood '^folded in the kernel, [0-9]+ kinds?; times of ([2-9]|1[0-9]),[0-9]{3} packets'
check "paths' packets add up" test "$(awk '/^path / { gsub(",", ""); sum += $3 } END { print sum }' /run/flood)" = $PACKETS
check_fails "and nothing is amiss" grep -qE 'a bug in ktrail' /run/flood /run/dns.folded
dns_topology_down
