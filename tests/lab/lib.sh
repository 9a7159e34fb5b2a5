# Sourced by the lab's tests, which `cargo xtask test` runs with bash inside a guest, each kernel's in one boot.
#
# A test script reports cases; one that reports none, or exits with another code than 0, has failed. Its output is
# shown only when something failed. Comment lines at its head may bound it:
#   # kernels: 6.12 7; older ones have no FPROBE      (elsewhere it counts as skipped, for that reason)
#   # timeout: 60                                     (seconds; 120 without it)
#   # clock: counting                                 (a guest of its own with one CPU, where time is counted in
#                                                      instructions: measurements repeat; a second's load costs
#                                                      a second of the timeout or more)
#
# Network namespaces and background processes that a script leaves behind are removed after it.

# The runner has opened this descriptor for the reports.
report=${KTRAIL_LAB_REPORT:-1}

# pass NAME
pass() { printf 'pass\t%s\n' "$1" >&"$report"; }

# fail NAME [REASON]
fail() {
    printf 'fail\t%s\t%s\n' "$1" "${2:-}" >&"$report"
    echo "FAILED: $1${2:+: $2}"
}

# skip NAME REASON
skip() { printf 'skip\t%s\t%s\n' "$1" "${2:?a skipped case needs a reason}" >&"$report"; }

# check NAME COMMAND...: the case passes if the command succeeds.
check() {
    local name=$1 code
    shift
    if "$@"; then
        pass "$name"
    else
        code=$?
        fail "$name" "exit code $code of: $*"
    fi
}

# check_fails NAME COMMAND...: the case passes if the command fails.
check_fails() {
    local name=$1
    shift
    if "$@"; then
        fail "$name" "succeeded, but should not: $*"
    else
        pass "$name"
    fi
}

# wait_for SECONDS COMMAND...: polls until the command succeeds; fails when the time is over.
wait_for() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.1
    done
}

# kernel_at_least MAJOR.MINOR
kernel_at_least() {
    local have
    have=$(uname -r | cut -d. -f1-2)
    [ "$(printf '%s\n%s\n' "$1" "$have" | sort -V | head -n 1)" = "$1" ]
}

# The standard topology: two network namespaces joined by a veth pair, and a DNS server on the far side that
# knows example.com and nothing else.
#
#   client                         far
#   c0 192.0.2.1/24      <---->    f0 192.0.2.2/24     lo 8.8.8.8/32
#      2001:db8::1/64                 2001:db8::2/64      2001:4860:4860::8888/128
#   default via f0's addresses     dnsmasq on both of lo's addresses, port 53
dns_topology_up() {
    ip netns add client && ip netns add far || return
    ip link add name c0 netns client type veth peer name f0 netns far || return
    local ns
    for ns in client far; do
        ip netns exec "$ns" sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0
        ip -n "$ns" link set lo up || return
    done
    ip -n client link set c0 up && ip -n far link set f0 up || return
    ip -n client addr add 192.0.2.1/24 dev c0 || return
    ip -n client addr add 2001:db8::1/64 dev c0 nodad || return
    ip -n far addr add 192.0.2.2/24 dev f0 || return
    ip -n far addr add 2001:db8::2/64 dev f0 nodad || return
    ip -n far addr add 8.8.8.8/32 dev lo || return
    ip -n far addr add 2001:4860:4860::8888/128 dev lo nodad || return
    ip -n client route add default via 192.0.2.2 || return
    ip -n client -6 route add default via 2001:db8::2 || return
    in_ns far dnsmasq --keep-in-foreground --user=root --pid-file=/run/dnsmasq-far.pid --conf-file=/dev/null \
        --no-resolv --no-hosts --no-poll --listen-address=8.8.8.8,2001:4860:4860::8888 --bind-interfaces \
        --address=/example.com/192.0.2.53 --address=/example.com/2001:db8::53 </dev/null >/dev/null 2>&1 &
    wait_for 10 dns_server_listens
}

dns_server_listens() { in_ns far ss -lun 'sport = :53' | grep -q '8\.8\.8\.8:53'; }

dns_topology_down() {
    if [ -s /run/dnsmasq-far.pid ]; then
        kill "$(cat /run/dnsmasq-far.pid)"
        rm -f /run/dnsmasq-far.pid
    fi
    ip netns del client
    ip netns del far
}

# in_ns NAMESPACE COMMAND...: like `ip netns exec`, but leaves /sys as it is. `ip netns exec` mounts a new one,
# without tracefs and bpffs.
in_ns() {
    local ns=$1
    shift
    nsenter --net="/run/netns/$ns" "$@"
}

# The query that the main job is about; prints the answer's address.
dns_query() { in_ns client dig +tries=1 +time=2 +short @8.8.8.8 example.com; }
