//! One program that uses most of the back end, generated.

use ktrail_ebpf::codegen::{Options, PacketAccess, generate};
use ktrail_ebpf::ir::*;
use ktrail_ebpf::isa::Helper;
use ktrail_ebpf::kernel::Features;

#[test]
fn a_probe_that_filters_and_submits() {
    let mut b = Builder::new("main");
    let skb = b.arg(0, Type::Kernel { direct: false });
    let head = b.kernel_ptr(skb, 200);
    let len = b.kernel_load(skb, 112, Size::B4);
    let mark = b.kernel_load(skb, 168, Size::B4);
    let out = b.block();
    b.branch_if(Cond::Ne, mark, 7, out);
    let start = b.add(head, 64);
    let packet = b.reg(Type::Packet);
    b.push(Op::PacketOpen { dst: packet, start });
    let proto = b.int();
    b.push(Op::PacketLoad {
        dst: proto,
        packet,
        off: 9.into(),
        size: Size::B1,
        swap: false,
    });
    b.branch_if(Cond::Ne, proto, 17, out);
    let addr = b.int();
    b.push(Op::PacketLoad {
        dst: addr,
        packet,
        off: 16.into(),
        size: Size::B4,
        swap: true,
    });
    b.branch_if(Cond::Ne, addr, 0x0808_0808, out);
    let events = b.map(MapRef(0));
    let record = b.call_as(
        Type::Record {
            size: 24,
            nullable: true,
        },
        Helper::RingbufReserve,
        vec![events.into(), 24.into(), 0.into()],
    );
    let record = b.non_null(record, out);
    let now = b.call(Helper::KtimeGetNs, vec![]);
    b.store(record, 0, now, Size::B8);
    b.store(record, 8, skb, Size::B8);
    b.store(record, 16, len, Size::B4);
    b.store(record, 20, 0, Size::B4);
    b.call_void(Helper::RingbufSubmit, vec![record.into(), 0.into()]);
    b.jump(out);
    b.switch_to(out);
    b.ret(0);
    let program = Program {
        name: "smoke".into(),
        kind: ProgramKind::Kprobe,
        maps: vec![MapDecl {
            name: "events".into(),
            kind: MapKind::RingBuf,
            key_size: 0,
            value_size: 0,
            max_entries: 4096,
        }],
        functions: vec![b.finish()],
    };
    let features = Features::default();
    let options = Options {
        packet: PacketAccess::KernelRead,
        features: &features,
    };
    let object = generate(&program, &options).unwrap();
    let text = object.disassemble();
    println!("{text}");
    assert_eq!(text.matches("probe_read_kernel").count(), 3);
}
