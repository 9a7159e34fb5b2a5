//! What attach points mean for how a journey ends, by their names.
//!
//! The events' signs say what happened to a packet; the names here say where: which functions merely free, which
//! leave a packet waiting in a queue, which begin sending or receiving, which are the last stop inside the kernel.
//! The names are those of kernels 5.10 to 7.x; a name that a kernel lacks does no harm, and a function that is
//! missing here only makes a fate less precise.
//!
//! Deliberately absent: what functions do beyond that, and anything that reads a packet.

use super::event::{Point, PointKind};

/// What passing an attach point means for the packet's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Role {
    /// Nothing in particular: the packet moved on.
    #[default]
    Other,
    /// A helper, or part of reading: says nothing about where the packet is.
    Aside,
    /// The last user of the skb has let it go: it ends here, even if nothing else says so.
    Release,
    /// The packet now waits there, if nothing else follows.
    Queue(&'static str),
    /// A device's driver is about to get the packet.
    Transmit,
    /// A device's packet enters the stack, and may wait there.
    Receive(Option<&'static str>),
    /// A protocol's handler in the kernel, which may be the packet's destination.
    Sink,
    /// Its data may become part of another skb.
    Merge,
    /// Copies made here are for packet sockets.
    Tap,
    /// Copies made here are for raw sockets, which may not want them.
    Raw,
}

impl Role {
    /// Whether a packet that passes is on its way from one place to another.
    pub fn moves(self) -> bool {
        matches!(self, Role::Transmit | Role::Receive(_) | Role::Queue(_))
    }
}

const BACKLOG: &str = "a CPU's backlog";
const QDISC: &str = "a queueing discipline";
const SOCKET: &str = "a socket's receive queue";
const REASSEMBLY: &str = "the reassembly queue";
const NEIGHBOUR: &str = "a neighbour's queue, its address unknown";
const RETRANSMIT: &str = "a socket's send queue";

/// The role of an attach point.
pub fn role(point: &Point) -> Role {
    let name = point.name.as_str();
    if let Some((_, role)) = NAMES.iter().find(|(names, _)| names.contains(&name)) {
        return *role;
    }
    match point.kind {
        // Calls those who listen to a tracepoint, where there are several.
        PointKind::Function if name.starts_with("__traceiter_") => Role::Aside,
        // Before a queueing discipline, if the device has one; tracepoints say no more about it.
        PointKind::Tracepoint if matches!(name, "net_dev_queue" | "qdisc_enqueue") => Role::Queue(QDISC),
        PointKind::Function if name.ends_with("_enqueue") || name.starts_with("qdisc_enqueue") => {
            Role::Queue(QDISC)
        }
        _ => Role::Other,
    }
}

const NAMES: &[(&[&str], Role)] = &[
    (
        &[
            "__consume_stateless_skb",
            "__kfree_skb",
            "__kfree_skb_defer",
            "__napi_kfree_skb",
            "kfree_skb_napi_cache",
            "kfree_skb_partial",
            "kfree_skbmem",
            "napi_skb_cache_put",
            "napi_skb_free_stolen_head",
            "skb_attempt_defer_free",
            "skb_release_all",
            "skb_release_head_state",
        ],
        Role::Release,
    ),
    (
        &[
            "kfree_skb",
            "kfree_skb_reason",
            "__kfree_skb_reason",
            "kfree_skb_list",
            "kfree_skb_list_reason",
            "sk_skb_reason_drop",
            "__sk_skb_reason_drop",
            "consume_skb",
            "napi_consume_skb",
            "dev_kfree_skb_any",
            "__dev_kfree_skb_any",
            "__dev_kfree_skb_irq",
            "dev_kfree_skb_any_reason",
            "dev_kfree_skb_irq_reason",
            "skb_release_data",
            "skb_free_head",
            "skb_consume_udp",
            "skb_free_datagram",
            "__skb_free_datagram_locked",
            "tcp_eat_skb",
            "tcp_eat_recv_skb",
            "sock_efree",
            "sock_ofree",
            "sock_pfree",
            "sock_rfree",
            "sock_rmem_free",
            "sock_wfree",
            "__sock_wfree",
            "tcp_wfree",
            "udp_skb_destructor",
            "tpacket_destruct_skb",
            // Reading, and small work on an skb that stays where it is.
            "skb_unlink",
            "__skb_unlink",
            "skb_condense",
            "skb_copy_datagram_iovec",
            "skb_copy_datagram_iter",
            "skb_copy_and_csum_datagram_msg",
            "__skb_datagram_iter",
            "__skb_checksum_complete",
            "__skb_checksum_complete_head",
            "__skb_tstamp_tx",
            "skb_tstamp_tx",
            "tcp_event_data_recv",
            "udp_rmem_release",
            "ip_cmsg_recv_offset",
            "__sock_recv_timestamp",
            "__sock_recv_cmsgs",
            "__sock_recv_ts_and_drops",
            "__sock_recv_wifi_status",
            // Helpers that any layer calls.
            "skb_clone",
            "__skb_clone",
            "skb_clone_sk",
            "skb_segment",
            "skb_share_check",
            "skb_copy",
            "skb_copy_expand",
            "__pskb_copy_fclone",
            "__copy_skb_header",
            "skb_copy_header",
            "skb_headers_offset_update",
            "ip_copy_metadata",
            "ip6_copy_metadata",
            "pskb_expand_head",
            "skb_push",
            "skb_pull",
            "skb_pull_data",
            "skb_pull_rcsum",
            "skb_put",
            "skb_trim",
            "___pskb_trim",
            "__pskb_pull_tail",
            "pskb_trim_rcsum_slow",
            "skb_checksum",
            "__skb_checksum",
            "run_filter",
            "icmp_filter",
        ],
        Role::Aside,
    ),
    (
        &["net_dev_start_xmit", "dev_hard_start_xmit", "xmit_one"],
        Role::Transmit,
    ),
    (
        &[
            "netif_rx",
            "__netif_rx",
            "netif_rx_ni",
            "netif_rx_any_context",
            "netif_rx_internal",
            "netif_rx_entry",
            "netif_rx_ni_entry",
            "enqueue_to_backlog",
        ],
        Role::Receive(Some(BACKLOG)),
    ),
    (
        &[
            "netif_receive_skb",
            "netif_receive_skb_entry",
            "netif_receive_skb_internal",
            "netif_receive_skb_core",
            "__netif_receive_skb",
            "__netif_receive_skb_core",
            "__netif_receive_skb_one_core",
        ],
        Role::Receive(None),
    ),
    (
        &[
            "napi_gro_receive",
            "napi_gro_receive_entry",
            "gro_receive_skb",
            "napi_gro_frags",
            "napi_gro_frags_entry",
            "dev_gro_receive",
        ],
        Role::Receive(Some("receive offload")),
    ),
    (
        &[
            "__udp_enqueue_schedule_skb",
            "sock_queue_rcv_skb",
            "sock_queue_rcv_skb_reason",
            "__sock_queue_rcv_skb",
            "tcp_queue_rcv",
            "tcp_data_queue",
            "tcp_add_backlog",
            "sctp_ulpq_tail_event",
        ],
        Role::Queue(SOCKET),
    ),
    (
        &["tcp_data_queue_ofo"],
        Role::Queue("a socket's out-of-order queue"),
    ),
    (
        &[
            "tcp_event_new_data_sent",
            "tcp_rbtree_insert",
            "tcp_skb_entail",
            "tcp_rate_skb_sent",
        ],
        Role::Queue(RETRANSMIT),
    ),
    (&["__neigh_event_send"], Role::Queue(NEIGHBOUR)),
    (
        &[
            "ip_defrag",
            "ip_frag_queue",
            "inet_frag_queue_insert",
            "ip6_frag_queue",
            "nf_ct_frag6_queue",
        ],
        Role::Queue(REASSEMBLY),
    ),
    (
        &[
            "icmp_rcv",
            "icmpv6_rcv",
            "ndisc_rcv",
            "arp_rcv",
            "arp_process",
            "igmp_rcv",
            "ping_rcv",
            "tcp_ack",
            "tcp_rcv_established",
            "tcp_rcv_state_process",
            "tcp_timewait_state_process",
            "tcp_v4_do_rcv",
            "tcp_v6_do_rcv",
            "br_stp_rcv",
            "llc_rcv",
        ],
        Role::Sink,
    ),
    (
        &[
            "tcp_try_coalesce",
            "skb_try_coalesce",
            "skb_gro_receive",
            "skb_gro_receive_list",
        ],
        Role::Merge,
    ),
    (
        &[
            "packet_rcv",
            "tpacket_rcv",
            "packet_rcv_spkt",
            "packet_rcv_fanout",
            "dev_queue_xmit_nit",
        ],
        Role::Tap,
    ),
    (
        &[
            "raw_local_deliver",
            "raw_v4_input",
            "raw6_local_deliver",
            "ipv6_raw_deliver",
        ],
        Role::Raw,
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, kind: PointKind) -> Role {
        role(&Point {
            name: name.into(),
            module: String::new(),
            kind,
            quiet: false,
        })
    }

    #[test]
    fn names_have_one_role() {
        let mut all: Vec<&str> = NAMES
            .iter()
            .flat_map(|(names, _)| names.iter().copied())
            .collect();
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
    }

    #[test]
    fn known_names() {
        assert_eq!(of("kfree_skbmem", PointKind::Function), Role::Release);
        assert_eq!(of("consume_skb", PointKind::Tracepoint), Role::Aside);
        assert_eq!(of("fq_codel_enqueue", PointKind::Function), Role::Queue(QDISC));
        assert_eq!(of("net_dev_queue", PointKind::Tracepoint), Role::Queue(QDISC));
        assert_eq!(
            of("netif_rx", PointKind::Tracepoint),
            Role::Receive(Some(BACKLOG))
        );
        assert_eq!(of("nf_hook_slow", PointKind::Function), Role::Other);
        assert_eq!(of("__traceiter_consume_skb", PointKind::Function), Role::Aside);
    }
}
