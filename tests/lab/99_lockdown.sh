# A machine that hides its kernel: by kernel.kptr_restrict, and by lockdown, which can't be undone before the next boot.
. /lab/tests/lib.sh

trace() { in_ns client ktrail trace "$@" 'udp and dst 8.8.8.8' -- \
    dig +tries=1 +time=1 @8.8.8.8 example.com >/tmp/out 2>/tmp/err; }
says() { grep -q "$1" /tmp/err || { cat /tmp/err; return 1; }; }

dns_topology_up || fail "the topology comes up"

sysctl -qw kernel.kptr_restrict=2
check "addresses hidden: tracepoints still show the packet" trace --func 'net_dev_queue'
check "addresses hidden: it says so, and the way out" says 'kptr_restrict=1'
check "addresses hidden: the packet is seen" grep -q 'tp:net_dev_queue' /tmp/out
sysctl -qw kernel.kptr_restrict=1

lock=/sys/kernel/security/lockdown
[ -e $lock ] || mount -t securityfs securityfs /sys/kernel/security
if [ ! -e $lock ]; then
    skip "lockdown" "this kernel has no lockdown module"
    exit 0
fi
echo integrity >$lock
check "locked down for integrity: a trace works" trace --func "ip_send_skb|dev_hard_start_xmit"
check "locked down for integrity: the packet is seen" grep -q 'ip_send_skb' /tmp/out
echo confidentiality >$lock
check "locked down for confidentiality: exit code 1" sh -c 'ktrail trace udp 2>/tmp/err; [ $? = 1 ]'
check "locked down for confidentiality: it says so, and the way out" says 'locked down.*lockdown=integrity'
check "the doctor says so" sh -c 'ktrail doctor | grep -i lockdown | grep -q confidentiality'
umount /sys/kernel/security
check "unseen lockdown: exit code 1" sh -c 'ktrail trace udp 2>/tmp/err; [ $? = 1 ]'
check "unseen lockdown: one line says so" sh -c 'grep -q "locked down" /tmp/err && [ "$(wc -l </tmp/err)" = 1 ]'
dns_topology_down
