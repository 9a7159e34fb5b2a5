# Runs in a lab guest: each script of /tools by bpftrace and by ktrail at once, on the same load. What they print goes to
# /out/TOOL.{bpftrace,ktrail}.{out,err}; run.sh compares it. The words behind are the tools' names; none means all.
#
# The shell that waits starts no process while the two look on, for they would see it.

mkdir -p /out
exec 9<>/dev/ptmx
pause() { read -r -t "$1" -u 9; }
alive() { kill -0 "$1" 2>/dev/null; }
has_said() {
    local lines
    [ -e "$1" ] && mapfile -t lines <"$1" && [[ "${lines[*]}" == *"$2"* ]]
}

# The root disk is small, and not for this.
mkdir -p /mnt && mount -t tmpfs none /mnt && cp -r /bpftrace /mnt/ && rm -r /bpftrace && ln -s /mnt/bpftrace /bpftrace
mkdir -p /mnt/xfs /mnt/cgroup

# --- what the load needs ---
ip link set lo up
iptables -A INPUT -p tcp --dport 7001 -j DROP
iptables -A OUTPUT -p tcp --dport 7002 -j DROP
socat TCP4-LISTEN:7000,fork,reuseaddr EXEC:cat 2>/dev/null &
socat TCP6-LISTEN:7006,fork,reuseaddr,ipv6only=1 EXEC:cat 2>/dev/null &
socat UNIX-LISTEN:/tmp/stream.sock,fork EXEC:cat 2>/dev/null &
socat -u UNIX-RECV:/tmp/datagram.sock OPEN:/dev/null 2>/dev/null &
mount -t cgroup2 none /mnt/cgroup && echo +memory >/mnt/cgroup/cgroup.subtree_control
mkdir /mnt/cgroup/small && echo 24M >/mnt/cgroup/small/memory.max
dd if=/dev/zero of=/swap bs=1M count=128 status=none && chmod 600 /swap && mkswap -q /swap
export LD_LIBRARY_PATH=/extra/lib
truncate -s 400M /mnt/xfs.img && /extra/mkfs.xfs -q /mnt/xfs.img && modprobe -a loop xfs && mount -o loop /mnt/xfs.img /mnt/xfs
truncate -s 32M /mnt/md0.img /mnt/md1.img && losetup /dev/loop6 /mnt/md0.img && losetup /dev/loop7 /mnt/md1.img && modprobe raid1 &&
    /extra/mdadm --create /dev/md0 --run --metadata=1.2 --assume-clean --level=1 --raid-devices=2 /dev/loop6 /dev/loop7
unset LD_LIBRARY_PATH

in_small() { bash -c 'echo $$ >/mnt/cgroup/small/cgroup.procs; exec "$@"' small "$@"; }

load() {
    local i
    case $1 in
        oomkill) swapoff /swap 2>/dev/null; in_small python3 -c 'x = bytearray(60 << 20)' 2>/dev/null; return ;;
        swapin)
            swapon /swap
            in_small python3 -c '
x = bytearray(60 << 20)
for n in range(2):
    for i in range(0, len(x), 4096): x[i] = n + 1'
            return ;;
        mdflush) dd if=/dev/zero of=/dev/md0 bs=4k count=4 conv=fsync status=none; return ;;
        xfsdist)
            for i in 1 2 3; do dd if=/dev/zero of=/mnt/xfs/$i bs=4k count=20 conv=fsync status=none; done
            cat /mnt/xfs/* >/dev/null
            return ;;
    esac
    for i in 1 2; do
        dd if=/dev/zero of=/var/tmp/x$i bs=4k count=20 conv=fsync status=none; sync /var/tmp/x$i; sync
        cat /etc/passwd /nonexistent >/dev/null 2>&1; ls -l /etc >/dev/null; sleep 0.01
        bash -c 'exec 3<>/dev/tcp/127.0.0.1/7000; echo hello >&3; read -r -u 3 line'
        bash -c 'exec 3<>/dev/tcp/::1/7006; echo hello >&3; read -r -u 3 line'
        bash -c 'echo x >/dev/tcp/127.0.0.1/7999' 2>/dev/null
        bash -c 'kill -0 $$; kill -URG $$'
        setpriv --reuid 65534 true; setpriv --regid 65534 --clear-groups true
        echo hi | timeout 1 socat - UNIX-CONNECT:/tmp/stream.sock >/dev/null
        echo one | socat -u - UNIX-SENDTO:/tmp/datagram.sock
        timeout 1.5 bash -c 'exec 3<>/dev/tcp/127.0.0.1/7001' 2>/dev/null
        timeout 1.5 bash -c 'exec 3<>/dev/tcp/127.0.0.1/7002' 2>/dev/null
    done
}
load all

cd /tools || exit
[ $# -gt 0 ] || set -- *.bt
for tool; do
    name=${tool%.bt}
    at=/out/$name
    rm -f /tmp/ready
    bpftrace "$name.bt" >"$at.bpftrace.out" 2>"$at.bpftrace.err" &
    b=$!
    until has_said "$at.bpftrace.err" Attached || has_said "$at.bpftrace.out" Attached || ! alive $b; do pause 0.2; done
    ktrail run --ready-file /tmp/ready "$name.bt" >"$at.ktrail.out" 2>"$at.ktrail.err" &
    k=$!
    until [ -e /tmp/ready ] || ! alive $k; do pause 0.2; done
    pause 1
    load "$name"
    pause 2
    kill -INT $b $k 2>/dev/null
    wait $b
    cb=$?
    wait $k
    echo "$name bpftrace $cb ktrail $?"
done
