# Journeys explain themselves: the five questions about a DNS query, asked of recordings, and what ktrail knows of functions.
# timeout: 300
. /lab/tests/lib.sh

good=/tmp/good.ktrail
filter='udp and dst 8.8.8.8 and port 53'

# Attaching to all functions takes kernels without FPROBE a minute: these are enough for the questions.
functions='udp_send_skb|ip_send_skb|__ip_local_out|ip_output|nf_hook_slow|nft_do_chain.*|nft_immediate_eval|ipt_do_table'
functions="$functions|__dev_queue_xmit|dev_hard_start_xmit|veth_xmit|netif_rx.*|ip_rcv|ip_local_deliver|udp_rcv|kfree_skb.*"

# record FILE: records the query in the client's namespace.
record() {
    in_ns client ktrail trace --record "$1" --func "$functions" --filter "$filter" -- dig +tries=1 +time=1 @8.8.8.8 example.com \
        >/tmp/summary 2>/tmp/notices
}

shows() { grep -Eq "$1" /tmp/shown || { cat /tmp/shown; return 1; }; }
says() { grep -Fq "$1" /tmp/diff || { cat /tmp/diff; return 1; }; }
differ() { [ "$(ktrail diff "$@" >/tmp/diff; echo $?)" = 1 ]; }

dns_topology_up || fail "the topology comes up"
dns_query >/dev/null # the neighbour is known from here on
# As on a machine with a firewall: without a rule, kernels don't come by Netfilter's hooks at all.
in_ns client iptables-nft -A OUTPUT -p udp -j ACCEPT

check "the query is recorded" record $good
cat /tmp/notices
check "a recording run prints its summary alone" \
    sh -c "grep -q '^1 packet, ' /tmp/summary && ! grep -q nf_hook_slow /tmp/summary"
ktrail show $good >/tmp/shown

# 1. Where does the packet originate? 2. How does it reach the IP layer?
check "it begins in UDP or at the top of IP" \
    sh -c "grep -m 1 -A 2 '^packet 1' /tmp/shown | grep -Eq '^(udp|ip) '"
check "then comes IP" \
    sh -c "ktrail show $good --output json | grep '\"type\":\"event\"' | grep -Eq '\"name\":\"(ip_send_skb|__ip_local_out)\".*\"layer\":\"ip\"'"
# 3. What does Netfilter do?
check "nf_hook_slow says which hook it is" shows '^netfilter .* nf_hook_slow .*IPv4 (LOCAL_OUT \(OUTPUT|POST_ROUTING \(POSTROUTING) chain\)'
# 4. How does it leave the machine?
check "it is handed to the driver" \
    sh -c "grep -q '^device .*__dev_queue_xmit' /tmp/shown && grep -q 'dev_hard_start_xmit' /tmp/shown"
if ktrail list '^veth_xmit$' | grep -q veth_xmit; then
    check "the driver's function is named" shows '^driver .*veth_xmit'
else
    skip "the driver's function is named" "veth_xmit can't be attached here: Linux 5.10 has no BTF for modules"
fi
check "it arrives" shows '=> delivered to dnsmasq'
check "its time is summed up by layer" shows '^ +us: .*[0-9]'
check "--explain says what functions do" \
    sh -c "ktrail show $good --explain | grep -q 'dev_hard_start_xmit .*# hands the packet to the device.s driver'"

check "a filter finds it again" sh -c "ktrail show $good port 53 | grep -q '^packet 1 '"
check "another filter doesn't" sh -c "ktrail show $good port 54 | grep -q '^0 packets'"
check "the good journey agrees with itself" ktrail diff $good $good

# 5. What changed with the DROP rule?
for iptables in iptables-nft iptables-legacy; do
    bad=/tmp/bad-$iptables.ktrail
    in_ns client $iptables -I OUTPUT -p udp -d 8.8.8.8 --dport 53 -j DROP
    check "$iptables: the query is recorded" record $bad
    in_ns client $iptables -D OUTPUT -p udp -d 8.8.8.8 --dport 53 -j DROP
    ktrail show $bad >/tmp/shown
    check "$iptables: it is dropped" shows '=> dropped '
    check "$iptables: at the OUTPUT chain" shows '^ +at .*IPv4 LOCAL_OUT'
    # Linux 5.10 has no types of modules, so that their functions can't be attached.
    if kernel_at_least 5.11; then
        check "$iptables: the table is named" shows "^ +at .*table (ip )?filter, chain OUTPUT"
    else
        skip "$iptables: the table is named" "this kernel has no BTF for modules (5.11+)"
    fi
    if [ $iptables = iptables-legacy ] && kernel_at_least 5.11; then
        check "$iptables: the one rule that can have dropped it is quoted" \
            shows '^ +at .*; all that drops there is `-A OUTPUT -d 8\.8\.8\.8/32 -p udp -m udp --dport 53 -j DROP`'
    elif [ $iptables = iptables-nft ] && kernel_at_least 6.4; then
        check "$iptables: the rule is quoted" \
            shows '^ +at .*table ip filter, chain OUTPUT, rule [0-9]+: ip daddr 8\.8\.8\.8 udp dport 53 counter drop$'
        check "$iptables: the rule's verdict has a line" shows '^.* nft_immediate_eval .* drop by ip filter OUTPUT handle [0-9]+'
    else
        skip "$iptables: the rule is quoted" "this kernel does not tell: nftables from 6.4 on, iptables-legacy from 5.11 on"
    fi
    check "$iptables: the journeys differ" differ $good $bad
    check "$iptables: they part at the firewall" \
        sh -c "grep -Eq '^they part after (nf_hook_slow|nft_do_chain_ipv4 .*|ipt_do_table .*|__ip_local_out):' /tmp/diff || { cat /tmp/diff; false; }"
    check "$iptables: only the good one reaches the driver" sh -c "grep -Eq '^- .* dev_hard_start_xmit$' /tmp/diff"
    check "$iptables: the diff says why" says 'IPv4 LOCAL_OUT'
done

# What decided is named with the packet's own port, address and device.
ended() {
    in_ns client ktrail trace --func 'ip_rcv|ip_forward|ip_error|udp_rcv|__udp4_lib_rcv|icmp_rcv|kfree_skb.*|sk_skb_reason_drop' \
        "udp and dst $1" -- bash -c "echo >/dev/udp/$1/5310" >/tmp/shown 2>/tmp/notices
}
ended 8.8.8.8
check "where nobody listens, the command that shows it has the port" shows '^ +.*nobody listens .*`ss -[a-z]+ sport = :5310`'
in_ns far sysctl -qw net.ipv4.ip_forward=0
ended 198.51.100.7
check "where forwarding is off, it is named" shows '^ +.*forwarding is off.*net\.ipv4\.ip_forward'

check "a suffix is no obstacle" sh -c "ktrail explain nf_hook_slow.cold | grep -q 'suffix *.cold'"

check "it is a page for browsers" sh -c "ktrail show $good --output html | grep -q 'udp_rcv'"
check "it is a capture that ktrail's own filter reads" \
    sh -c "ktrail show $good --output pcapng >/tmp/good.pcapng && ktrail filter 'udp dst port 53' --read /tmp/good.pcapng | grep -q ' match$'"
check "its path is summed up" sh -c "ktrail show $good --summary | grep -q '^path [0-9a-f]*  1 packet  100.0 %'"

check "a function is explained" sh -c "ktrail explain nf_hook_slow | grep -q 'prototype  int nf_hook_slow(struct sk_buff \*skb, struct nf_hook_state \*state'"
known=$(ktrail explain --known | wc -l)
check "this kernel has hundreds of the names that ktrail knows: $known" [ "$known" -gt 300 ]

# What is shown on request.
in_ns client ktrail trace --func "$functions" --caller --show skb.dev.mtu --show skb.dev.name --filter "$filter" \
    -- dig +tries=1 +time=1 @8.8.8.8 example.com >/tmp/shown 2>/tmp/notices
check "fields that were asked for are shown where they change" shows ' skb\.dev\.mtu 1500, skb\.dev\.name "c0"'
check "--caller names who called" shows ' ip_rcv .*<- [a-z_]+'
ktrail trace --show skb.dev.mtv -- true 2>/tmp/notices
check "a field that isn't there is refused, with the way out" \
    sh -c "[ $? = 2 ] && grep -q 'struct net_device of this kernel has no field \"mtv\"; did you mean \"mtu\"?' /tmp/notices"

# What runs on the packet's behalf without taking it: the far side looks up the route of what comes in.
routing='ip_rcv|ip_route_input_noref|ip_route_input_slow'
beneath() {
    in_ns client ktrail trace --func "$functions|$routing" --beneath fib_table_lookup "$@" \
        -- dig +tries=1 +time=1 @8.8.8.8 example.com 2>/tmp/notices
}
call() { grep '"name":"fib_table_lookup"' /tmp/beneath.json | grep -Eq "$1" || { cat /tmp/beneath.json; return 1; }; }
check "a run with a function beneath is recorded" beneath --record /tmp/beneath.ktrail --filter "$filter" >/tmp/summary
cat /tmp/notices
ktrail show /tmp/beneath.ktrail >/tmp/shown
ktrail show /tmp/beneath.ktrail --output json >/tmp/beneath.json
check "it is indented, with what it returned" shows '^[a-z|]+ .*    fib_table_lookup +returned 0 after [0-9.]+ us'
check "it ran beneath the function that looks up the route" \
    call '"sign":\{"kind":"ran","under":\{"kind":"function","name":"ip_route_input_(slow|noref)".*"returned":0,'
check "every call has returned" grep -q '"calls_unreturned":0,' /tmp/beneath.json
check "calls don't change how the packet ends" shows '=> delivered to dnsmasq'
# The sender looks up its route before there is a packet, and other packets' routes are looked up, too.
beneath --output json --filter 'udp and port 9' >/tmp/beneath.json
check "what runs for no followed packet is not shown" grep -q '"packets":0,"events":0,"events_produced":0,' /tmp/beneath.json
if kernel_at_least 6.12; then
    beneath --backend kprobe --output json --filter "$filter" >/tmp/beneath.json
    check "it is the same by probes at entry and return" \
        call '"under":\{"kind":"function","name":"ip_route_input_(slow|noref)".*"returned":0,'
else
    skip "it is the same by probes at entry and return" "this kernel has no other way (6.10+)"
fi
refused() {
    local code=0
    ktrail trace --beneath "$1" -- true 2>/tmp/notices || code=$?
    [ $code = "$2" ] && grep -q "$3" /tmp/notices || { echo "exit code $code"; cat /tmp/notices; return 1; }
}
check "a function that isn't there is refused with a suggestion" refused fib_table_lokup 2 'did you mean "fib_table_lookup"?'
check "one that takes packets is in journeys anyway" refused ip_rcv 2 'it takes a packet'
check "one that can't be probed says why" refused do_syscall_64 1 "it can't be probed on this kernel: "

# The functions that led to one, up to the process's system call.
in_ns client ktrail trace --stack --func 'dev_hard_start_xmit|udp_rcv' --filter "$filter" \
    -- dig +tries=1 +time=1 @8.8.8.8 example.com >/tmp/shown 2>/tmp/notices
check "--stack names the functions that led there" \
    shows ' dev_hard_start_xmit .*<- __dev_queue_xmit <- .*<- udp_sendmsg <- .*sys_sendmsg'
check "on the other side, too" shows ' udp_rcv .*<- ip_protocol_deliver_rcu <- .*<- (ip_local_deliver|process_backlog)'
ktrail trace --stack --caller -- true 2>/tmp/notices
check "--stack and --caller are one or the other" [ $? = 2 ]

# NAT, on the lines where it happened: the destination at the OUTPUT chain, the source at POSTROUTING.
# Lines that are full show only the new address.
translated() { awk "$1 /=> / { exit 1 }" /tmp/shown || { cat /tmp/shown; return 1; }; }
ip -n client addr add 10.9.9.9/32 dev lo
for iptables in iptables-nft iptables-legacy; do
    in_ns client $iptables -t nat -A OUTPUT -p udp -d 8.8.4.4 --dport 53 -j DNAT --to-destination 8.8.8.8
    in_ns client $iptables -t nat -A POSTROUTING -s 10.9.9.9 -j MASQUERADE
    in_ns client ktrail trace --func "$functions|nf_nat_.*" --filter 'udp and dst port 53' \
        -- dig +tries=1 +time=1 -b 10.9.9.9 @8.8.4.4 example.com >/tmp/shown 2>/tmp/notices
    in_ns client $iptables -t nat -F
    check "$iptables: it begins with the addresses that the process chose" \
        shows '^packet 1  udp 10\.9\.9\.9:[0-9]+ -> 8\.8\.4\.4:53 '
    check "$iptables: DNAT is shown where it happened" \
        translated '/POST_ROUTING/ { exit 1 } / dst (8\.8\.4\.4:53->)?8\.8\.8\.8:53/ { exit 0 }'
    check "$iptables: and MASQUERADE" \
        translated '/POST_ROUTING/ { late = 1 } / src (10\.9\.9\.9:[0-9]+->)?192\.0\.2\.1:[0-9]+/ { exit !late }'
    check "$iptables: the packet arrives" shows '=> delivered to dnsmasq'
done

if kernel_at_least 6.12 && modprobe openvswitch; then
    check "subsystems' drop reasons have names" sh -c "ktrail explain --reasons | grep -q '  OVS_DROP_LAST_ACTION'"
else
    skip "subsystems' drop reasons have names" "the lab's kernels before 6.12 have no subsystem with reasons of its own"
fi

dns_topology_down
