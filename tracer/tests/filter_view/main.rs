//! What filters see of a packet in the kernel's context: headers that aren't there yet, data in pages, offloaded VLAN
//! tags, devices and directions. Each verdict is the interpreter's and, where that is allowed, the kernel's, on an skb
//! made by hand with this kernel's offsets.

#[path = "../../../ebpf/tests/filter/cbpf.rs"]
mod cbpf;
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

/// Why the kernel can't be asked here, if it can't.
fn not_here() -> Option<&'static str> {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc is mounted");
    let effective = status
        .lines()
        .find_map(|l| l.strip_prefix("CapEff:"))
        .and_then(|v| u64::from_str_radix(v.trim(), 16).ok())
        .expect("CapEff is there");
    const CAP_SYS_ADMIN: u32 = 21;
    (effective >> CAP_SYS_ADMIN & 1 == 0).then_some("needs root")
}

fn filter(text: &str, pcap_compat: bool) -> Option<Filter> {
    let env = Env {
        pcap_compat,
        kernel: Some(&LAYOUT.btf),
        ..Env::default()
    };
    parse(text, &env).ok()
}
