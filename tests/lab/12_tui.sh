# The live view on a terminal, which socat makes: real packets come, keys do what they say, and q ends it.
# timeout: 300
. /lab/tests/lib.sh

[ -e /sys/kernel/tracing/enabled_functions ] || mount -t tracefs tracefs /sys/kernel/tracing
[ -e /sys/kernel/debug/kprobes/list ] || mount -t debugfs debugfs /sys/kernel/debug

nothing_attached() {
    [ -z "$(cat /sys/kernel/debug/kprobes/list /sys/kernel/tracing/enabled_functions)" ] &&
        ! bpftool prog list | grep -q ktrail
}

# Attaching to all functions takes kernels without FPROBE a minute.
functions='udp_send_skb|ip_send_skb|__ip_local_out|ip_output|__dev_queue_xmit|dev_hard_start_xmit|netif_rx.*|ip_rcv|udp_rcv'

cat >/run/around <<E2
stty rows 36 cols 132
stty -g >/run/before
ktrail trace --tui --ready-file /run/ready --func '$functions|kfree_skb.*' 'udp and dst net 8.8.8.0/24 and port 53'
echo \$? >/run/code
stty -g >/run/after
E2

# What was written to the terminal, without what moves the cursor and colours.
written() { sed 's/\x1b\[[0-9;?]*[a-zA-Z]/ /g' /run/screen | tr -c '[:print:]\n' ' '; }
shows() { written | grep -qE "$1"; }
showing() { wait_for 60 shows "$1" || { written | tail -c 4000; return 1; }; }
keys() { printf %s "$1" >&9; }

dns_topology_up || fail "the topology comes up"
dns_query >/dev/null
wait_for 180 nothing_attached || fail "nothing is attached before"

mkfifo /run/keys
TERM=xterm-256color nsenter --net=/run/netns/client socat -t 60 EXEC:'bash /run/around',pty,setsid,ctty,stderr - \
    </run/keys >/run/screen 2>/run/socat.err &
terminal=$!
exec 9>/run/keys
wait_for 120 [ -e /run/ready ] || fail "it starts" "$(cat /run/socat.err)"
check "the view comes up" showing 'q quit'
dns_query >/dev/null
in_ns client dig +tries=1 +time=1 @8.8.8.9 example.com >/dev/null
check "packets come, with where they go" showing 'udp 192\.0\.2\.1:[0-9]+ -> 8\.8\.8\.8:53'
check "and a further one" showing '8\.8\.8\.9:53'
check "the chosen one's journey is shown" showing 'dev_hard_start_xmit'
keys '?'
check "? lists the keys" showing 'PgUp|one page|follow the newest|the other pane|only packets with'
keys '?'
cp /run/screen /run/screen.full
cp /run/screen "/out/tui-screen" 2>/dev/null
keys q
ended() { [ -s /run/code ]; }
check "q ends it" wait_for 60 ended
check "with exit code 0" test "$(cat /run/code)" = 0
check "the terminal is as it was before" cmp /run/before /run/after
check "the summary comes after" showing '2 packets, [0-9]+ events; 0 events lost'
exec 9>&-
wait $terminal
check "nothing is left attached" wait_for 180 nothing_attached
dns_topology_down
