//! An skb made by hand, with the offsets of the running kernel, judged in an interpreter and in the kernel.

use ktrail::kernel::maps::Maps;
use ktrail::kernel::program::{LoadOptions, Program, load};
use ktrail::trace::offsets::{Offsets, VlanTag};
use ktrail::trace::view;
use ktrail_ebpf::codegen::{FuncInfo, Object, Options, PacketAccess, Reloc, generate};
use ktrail_ebpf::filter::Filter;
use ktrail_ebpf::ir::{MapDecl, MapKind, MapRef, ProgramKind};
use ktrail_ebpf::isa::Insn;
use ktrail_ebpf::kernel::{Features, RdonlyCast};
use ktrail_ebpf::vm::{self, Kernel, Rights};

/// Where things are in the memory that an skb is made in. What is read of a device, a socket and a namespace lies
/// within their first 4096, 1024 and 1024 bytes.
const DEV: usize = 1024;
const SOCK: usize = DEV + 4096;
const NET: usize = SOCK + 1024;
const HEAD: usize = NET + 1024;
const BUFFER: usize = 1024;
pub const SIZE: usize = HEAD + BUFFER;

/// Bytes in front of the packet.
pub const HEADROOM: u16 = 32;
pub const UNSET: u16 = 0xffff;

/// A device.
#[derive(Clone, Copy)]
pub struct Dev {
    pub ifindex: u32,
    pub kind: u16,
    pub name: &'static str,
}

/// What a filter may see of an skb. Offsets count from `head`.
#[derive(Clone)]
pub struct Skb {
    /// What lies in the buffer from `HEADROOM` on.
    pub bytes: Vec<u8>,
    pub mac_header: u16,
    pub network_header: u16,
    pub data: u16,
    pub tail: u32,
    pub len: u32,
    /// In host byte order.
    pub protocol: u16,
    pub dst: u64,
    pub iif: u32,
    pub pkt_type: u8,
    pub mark: u32,
    pub vlan: Option<u16>,
    pub dev: Option<Dev>,
    /// It has a socket; of this address family.
    pub family: Option<u16>,
}

pub const ETHERNET: Dev = Dev {
    ifindex: 7,
    kind: 1,
    name: "eth7",
};
/// The inode of every skb's network namespace.
pub const NETNS: u32 = 4_026_531_999;

impl Skb {
    /// A frame in a device's queue, about to be sent.
    pub fn sent(bytes: &[u8]) -> Skb {
        let whole = bytes.len() as u32;
        Skb {
            bytes: bytes.to_vec(),
            mac_header: HEADROOM,
            network_header: HEADROOM + 14,
            data: HEADROOM,
            tail: u32::from(HEADROOM) + whole,
            len: whole,
            protocol: u16::from_be_bytes([bytes[12], bytes[13]]),
            dst: 0x1000,
            iif: 0,
            pkt_type: 0,
            mark: 0,
            vlan: None,
            dev: Some(ETHERNET),
            family: Some(2),
        }
    }

    /// The same frame after `eth_type_trans`.
    pub fn received(bytes: &[u8]) -> Skb {
        Skb {
            network_header: 0,
            data: HEADROOM + 14,
            len: bytes.len() as u32 - 14,
            dst: 0,
            family: None,
            ..Skb::sent(bytes)
        }
    }

    /// Its linear part ends after `len` bytes of the frame; the rest is in pages.
    pub fn linear(mut self, len: usize) -> Skb {
        self.tail = u32::from(HEADROOM) + len as u32;
        self
    }

    /// All memory, for an skb at `base`.
    fn image(&self, o: &Offsets, base: u64) -> Vec<u8> {
        let mut image = vec![0; SIZE];
        let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
        let address = |at: usize| base + at as u64;
        let head = address(HEAD);
        put(o.skb_head as usize, &head.to_ne_bytes());
        put(o.skb_data as usize, &(head + u64::from(self.data)).to_ne_bytes());
        put(o.skb_tail as usize, &self.tail.to_ne_bytes());
        put(o.skb_len as usize, &self.len.to_ne_bytes());
        put(o.skb_mac_header as usize, &self.mac_header.to_ne_bytes());
        put(o.skb_network_header as usize, &self.network_header.to_ne_bytes());
        put(o.skb_protocol as usize, &self.protocol.to_be_bytes());
        put(o.skb_dst as usize, &self.dst.to_ne_bytes());
        put(o.skb_iif as usize, &self.iif.to_ne_bytes());
        put(o.skb_mark as usize, &self.mark.to_ne_bytes());
        let kind = self.pkt_type << o.skb_pkt_type.shift;
        put(o.skb_pkt_type.byte as usize, &[kind]);
        if let Some(tci) = self.vlan {
            match o.skb_vlan {
                VlanTag::Flag(flag) => put(flag.byte as usize, &[1 << flag.shift]),
                VlanTag::NotZero(off) => put(off as usize, &0x8100_u16.to_be_bytes()),
            }
            put(o.skb_vlan_tci as usize, &tci.to_ne_bytes());
        }
        if let Some(dev) = self.dev {
            put(o.skb_dev as usize, &address(DEV).to_ne_bytes());
            put(DEV + o.dev_ifindex as usize, &dev.ifindex.to_ne_bytes());
            put(DEV + o.dev_type as usize, &dev.kind.to_ne_bytes());
            put(DEV + o.dev_name as usize, dev.name.as_bytes());
            put(DEV + o.dev_net as usize, &address(NET).to_ne_bytes());
        }
        if self.family.is_some() {
            put(o.skb_sk as usize, &address(SOCK).to_ne_bytes());
            put(SOCK + o.sock_net as usize, &address(NET).to_ne_bytes());
        }
        // The first field of `struct sock_common` that filters ask for here.
        if let (Some(family), Some(off)) = (self.family, super::family_offset()) {
            put(SOCK + off, &family.to_ne_bytes());
        }
        put(NET + o.net_inum as usize, &NETNS.to_ne_bytes());
        put(HEAD + usize::from(HEADROOM), &self.bytes);
        image
    }
}

/// What a verdict took.
pub struct Cost {
    pub verdict: bool,
    pub instructions: u64,
    /// Of helpers, each of which counts as one instruction, too.
    pub calls: u64,
}

/// How kernel memory is read.
#[derive(Clone, Copy, Debug)]
pub enum Reads {
    /// By calls of a helper.
    Calls,
    /// By plain loads (Linux 6.2+).
    Loads,
}

impl Reads {
    /// `bpf_rdonly_cast`, with numbers of no kernel.
    fn cast(self) -> Option<RdonlyCast> {
        match self {
            Reads::Calls => None,
            Reads::Loads => Some(RdonlyCast {
                function: 4711,
                bytes: 4712,
            }),
        }
    }
}

/// A filter in the interpreter, and in the kernel where that is allowed.
pub struct Judge<'a> {
    offsets: &'a Offsets,
    calls: Object,
    loads: Object,
    loaded: Option<Program>,
}

impl<'a> Judge<'a> {
    pub fn new(filter: &Filter, offsets: &'a Offsets, kernel: Option<&InKernel>) -> Judge<'a> {
        let program = view::program(filter, offsets, ProgramKind::RawTracepoint);
        let object = |reads: Reads| {
            let features = Features {
                rdonly_cast: reads.cast(),
                ..Features::default()
            };
            let options = Options {
                packet: PacketAccess::KernelRead,
                features: &features,
            };
            generate(&program, &options).expect("code")
        };
        let (calls, loads) = (object(Reads::Calls), object(Reads::Loads));
        let loaded = kernel.map(|kernel| {
            load(&calls, &kernel.maps, &LoadOptions::default()).unwrap_or_else(|e| panic!("{e}\n{}", e.log))
        });
        Judge {
            offsets,
            calls,
            loads,
            loaded,
        }
    }

    /// The interpreter's verdict, whichever way memory is read.
    pub fn interpreted(&self, skb: &Skb) -> bool {
        let [calls, loads] = [Reads::Calls, Reads::Loads].map(|reads| self.cost(skb, reads).verdict);
        assert_eq!(calls, loads, "plain loads find what calls find");
        calls
    }

    /// The interpreter's verdict, and what it took.
    pub fn cost(&self, skb: &Skb, reads: Reads) -> Cost {
        let object = match reads {
            Reads::Calls => &self.calls,
            Reads::Loads => &self.loads,
        };
        let mut kernel = Kernel::new(&object.maps);
        kernel.rdonly_cast = reads.cast();
        kernel.pid_tgid = 4242 << 32 | 4243;
        let at = kernel.memory.add(vec![0; SIZE], Rights::Kernel);
        kernel.memory.remove(at);
        kernel
            .memory
            .add_at(at, skb.image(self.offsets, at), Rights::Kernel);
        let ctx = kernel.memory.add(at.to_ne_bytes().to_vec(), Rights::Read);
        let run = vm::run(object, &mut kernel, ctx, 100_000).expect("it runs");
        Cost {
            verdict: run.result == 1,
            instructions: run.steps,
            calls: kernel.calls,
        }
    }

    /// The kernel's verdict.
    pub fn in_kernel(&self, kernel: &InKernel, skb: &Skb) -> bool {
        let image = skb.image(self.offsets, kernel.base);
        let map = kernel.maps.get("skb").expect("it was created");
        map.update(&0_u32.to_ne_bytes(), &image).expect("an update");
        let program = self.loaded.as_ref().expect("it was loaded");
        program.test_run_args(&[kernel.base]).expect("a test run") == 1
    }
}

/// Kernel memory to make skbs in: the value of a map.
pub struct InKernel {
    maps: Maps,
    base: u64,
}

impl InKernel {
    /// Needs root.
    pub fn new() -> InKernel {
        let decl = MapDecl {
            name: "skb".into(),
            kind: MapKind::Array,
            key_size: 4,
            value_size: SIZE as u32,
            max_entries: 1,
        };
        let maps = Maps::create(std::slice::from_ref(&decl)).expect("a map");
        // A program that stores the value's address in the value. The IR has no way to say that, on purpose.
        let insn = |code, dst, src, imm| Insn {
            code,
            dst,
            src,
            off: 0,
            imm,
        };
        let insns = vec![
            insn(0x18, 1, 0, 0), // r1 = the value's address
            insn(0, 0, 0, 0),
            insn(0x7b, 1, 1, 0), // *(u64 *)r1 = r1
            insn(0xb7, 0, 0, 0), // r0 = 0
            insn(0x95, 0, 0, 0), // exit
        ];
        let object = Object {
            name: "address".into(),
            kind: ProgramKind::RawTracepoint,
            spans: vec![ktrail_ebpf::ir::Span::NONE; insns.len()],
            insns,
            relocs: vec![Reloc {
                insn: 0,
                map: MapRef(0),
                value_off: Some(0),
            }],
            maps: vec![decl],
            funcs: vec![FuncInfo {
                insn: 0,
                name: "address".into(),
                params: 1,
            }],
        };
        let program = load(&object, &maps, &LoadOptions::default()).expect("it loads");
        program.test_run_args(&[0]).expect("it runs");
        let map = maps.get("skb").expect("it was created");
        let value = map
            .lookup(&0_u32.to_ne_bytes())
            .expect("a value")
            .expect("a value");
        let base = u64::from_ne_bytes(value[..8].try_into().expect("8 bytes"));
        assert!(base > 1 << 63, "{base:#x} is no kernel address");
        InKernel { maps, base }
    }
}
