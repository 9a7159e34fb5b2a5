//! What filters see of a packet in the kernel's context: headers that aren't there yet, data in pages, offloaded VLAN
//! tags, devices and directions. Each verdict is the interpreter's and, where that is allowed, the kernel's, on an skb
//! made by hand with this kernel's offsets.

#[path = "../../../ebpf/tests/filter/cbpf.rs"]
mod cbpf;
#[path = "../common/mod.rs"]
#[macro_use]
mod common;
mod corpus;
mod fuzz;
#[path = "../../../ebpf/tests/filter/oracle.rs"]
#[allow(dead_code)]
mod oracle;
#[path = "../../../ebpf/tests/filter/packets.rs"]
mod packets;
mod skb;
mod speed;
mod states;
mod terms;

use std::sync::LazyLock;

use common::not_here;

use ktrail::kernel::btf::KernelBtf;
use ktrail::trace::offsets::Offsets;
use ktrail_ebpf::filter::{Env, Filter, parse};
use ktrail_ebpf::kernel::field;

/// What of this kernel's types the tests need.
struct Layout {
    btf: KernelBtf,
    offsets: Offsets,
    family: Option<usize>,
}

static LAYOUT: LazyLock<Layout> = LazyLock::new(|| {
    let btf = KernelBtf::load().expect("BTF");
    Layout {
        offsets: Offsets::resolve(&btf).expect("the kernel's packets"),
        family: field::path(&btf, "sock", "__sk_common.skc_family").map(|field| field.offset() as usize),
        btf,
    }
});

fn family_offset() -> Option<usize> {
    LAYOUT.family
}

fn filter(text: &str, pcap_compat: bool) -> Option<Filter> {
    let env = Env {
        pcap_compat,
        kernel: Some(&LAYOUT.btf),
        ..Env::default()
    };
    parse(text, &env).ok()
}
