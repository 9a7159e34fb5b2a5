//! Constants that scripts take from C headers and that the kernel's type information can't name: they are `#define`s
//! there. `#include` is passed over, so the usual ones are known without it.
//!
//! Sources: `include/linux/socket.h`, `include/linux/sched.h`, `include/uapi/linux/if_ether.h`,
//! `include/uapi/linux/if_arp.h`, `include/uapi/asm-generic/fcntl.h`.

/// The value of a `#define` of that name.
pub fn define(name: &str) -> Option<i64> {
    DEFINES.iter().find(|(n, _)| *n == name).map(|(_, value)| *value)
}

const DEFINES: &[(&str, i64)] = &[
    ("AF_UNSPEC", 0),
    ("AF_UNIX", 1),
    ("AF_LOCAL", 1),
    ("AF_INET", 2),
    ("AF_INET6", 10),
    ("AF_NETLINK", 16),
    ("AF_PACKET", 17),
    ("AF_VSOCK", 40),
    ("TASK_RUNNING", 0),
    ("TASK_INTERRUPTIBLE", 1),
    ("TASK_UNINTERRUPTIBLE", 2),
    ("ETH_P_IP", 0x0800),
    ("ETH_P_ARP", 0x0806),
    ("ETH_P_8021Q", 0x8100),
    ("ETH_P_IPV6", 0x86dd),
    ("ETH_P_8021AD", 0x88a8),
    ("ARPHRD_ETHER", 1),
    ("ARPHRD_LOOPBACK", 772),
    ("O_RDONLY", 0),
    ("O_WRONLY", 1),
    ("O_RDWR", 2),
    ("O_CREAT", 0o100),
    ("O_TRUNC", 0o1000),
    ("O_APPEND", 0o2000),
    ("AT_FDCWD", -100),
];
