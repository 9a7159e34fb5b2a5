//! Where functions have code, and whether it can be patched, asked by a BPF iterator over the kernel's symbols (6.0+).
//!
//! The kernel lists both as text, but that costs: it formats 50,000 lines of `available_filter_functions_addrs`, and
//! begins at its first function again for each page that is read. The iterator formats nothing: a program looks at
//! each symbol where it is, and reports those of the names that are wanted.
//!
//! Deliberately absent: other machines than x86-64, whose functions begin otherwise, and kernels without that
//! iterator; there [`super::probeable`] reads the lists.

use std::collections::HashSet;
use std::io::Read;
use std::os::fd::AsFd;

use ktrail_ebpf::codegen::{self, Options, PacketAccess};
use ktrail_ebpf::ir::{
    BinOp, Block, Builder, Cond, MapDecl, MapKind, MapRef, Program, ProgramKind, Reg, Size, Type, Width,
};
use ktrail_ebpf::isa::Helper;
use ktrail_ebpf::kernel::{Features, field};

use super::attach;
use super::btf::KernelBtf;
use super::maps::Maps;
use super::program::{AttachType, LoadOptions, load};
use super::ring::Ring;

/// Code of a function that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// [`hash`] of its name.
    pub hash: u64,
    /// Where it starts.
    pub addr: u64,
    /// The module that it is in; empty for the kernel itself.
    pub module: String,
    /// It begins with a call to ftrace, or with room for one.
    pub patchable: bool,
    /// Where the next function starts, if that was asked for.
    pub end: Option<u64>,
}

/// Bytes of a name that count. The kernel has no longer ones that take a packet.
pub const NAME: usize = 64;

/// A number for a name, as the program makes it.
pub fn hash(name: &str) -> u64 {
    let mut hash = 0;
    for chunk in name.as_bytes()[..name.len().min(NAME)].chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        hash = mix(hash, u64::from_le_bytes(word));
    }
    // A name that ends with a word: the program sees the next one, which is empty.
    match name.len() < NAME && name.len().is_multiple_of(8) {
        true => mix(hash, 0),
        false => hash,
    }
}

const PRIME: u64 = 0x9e37_79b9_7f4a_7c15;

fn mix(hash: u64, word: u64) -> u64 {
    let mixed = (hash ^ word).wrapping_mul(PRIME);
    mixed ^ mixed >> 32
}

/// The maps, in the order of [`decls`].
const FOUND: MapRef = MapRef(0);
const WANTED: MapRef = MapRef(1);
const STATE: MapRef = MapRef(2);

/// A report: the address, the name's hash, the first bytes of the code, the module's name. One without a hash says
/// where the function at that address ends.
const ADDR: i32 = 0;
const HASH: i32 = 8;
const CODE: i32 = 16;
const MODULE: i32 = 32;
const MODULE_LEN: i32 = 56;
const REPORT: u32 = (MODULE + MODULE_LEN) as u32;

/// The state: the function whose end is to be found, and how many reports the ring had no room for.
const STATE_PENDING: i32 = 0;
const STATE_LOST: i32 = 8;

/// In `wanted`: the function's end is wanted, too.
const WITH_END: u64 = 1;

fn decls(wanted: usize) -> Vec<MapDecl> {
    let map = |name: &str, kind, key_size, value_size, max_entries| MapDecl {
        name: name.into(),
        kind,
        key_size,
        value_size,
        max_entries,
    };
    // Room for each function several times.
    let ring = (wanted as u32 * REPORT * 4).next_power_of_two().max(1 << 16);
    vec![
        map("found", MapKind::RingBuf, 0, 0, ring),
        map("wanted", MapKind::Hash, 8, 8, wanted.max(1) as u32),
        map("state", MapKind::Array, 4, 16, 1),
    ]
}

/// All code of these names, in no particular order, the `bounded` ones with their ends. None where the kernel can't
/// be asked like this.
pub fn locate<'n>(
    btf: &KernelBtf,
    features: &Features,
    names: impl Iterator<Item = &'n str>,
    bounded: &[&str],
) -> Option<Vec<Location>> {
    if !cfg!(target_arch = "x86_64") {
        return None;
    }
    let bounded: HashSet<u64> = bounded.iter().map(|name| hash(name)).collect();
    let names: HashSet<u64> = names.map(hash).collect();
    let decls = decls(names.len());
    let program = program(btf, decls.clone())?;
    let options = Options {
        packet: PacketAccess::KernelRead,
        features,
    };
    let object = codegen::generate(&program, &options).ok()?;
    let maps = Maps::create(&decls).ok()?;
    let wanted = maps.get("wanted")?;
    for hash in names {
        let flags = if bounded.contains(&hash) { WITH_END } else { 0 };
        wanted.update(&hash.to_ne_bytes(), &flags.to_ne_bytes()).ok()?;
    }
    let options = LoadOptions {
        attach_type: Some(AttachType::TraceIter),
        attach_btf_id: btf.iterator("ksym")?.id,
        ..LoadOptions::default()
    };
    let program = load(&object, &maps, &options).ok()?;
    let (_link, mut reader) = attach::iterator(program.as_fd()).ok()?;
    // It writes nothing: one reading is the whole walk.
    while reader.read(&mut [0; 64]).ok()? > 0 {}

    let mut found = vec![];
    let mut ends = vec![];
    let mut ring = Ring::open(maps.get("found")?).ok()?;
    ring.drain(|report| match word(report, HASH) {
        0 => ends.push((word(report, ADDR), word(report, CODE))),
        hash => found.push(Location {
            hash,
            addr: word(report, ADDR),
            module: text(&report[MODULE as usize..]),
            patchable: patchable(&report[CODE as usize..]),
            end: None,
        }),
    });
    for (addr, end) in ends {
        for location in found.iter_mut().filter(|l| l.addr == addr) {
            location.end = Some(end);
        }
    }
    let state = maps.get("state")?.lookup(&0_u32.to_ne_bytes()).ok()??;
    (word(&state, STATE_LOST) == 0 && !found.is_empty()).then_some(found)
}

fn word(bytes: &[u8], at: i32) -> u64 {
    let bytes = bytes.get(at as usize..).and_then(|b| b.first_chunk());
    u64::from_ne_bytes(bytes.copied().unwrap_or_default())
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// Whether a function that begins with this code has a place for ftrace: there, or after an `endbr64` or what the
/// kernel puts over one that nothing jumps to.
fn patchable(code: &[u8]) -> bool {
    let code = match code {
        // endbr64; `osp nopl (%rax)`, since 5.18; `nopl -42(%rax)`, since 6.15.
        [0xf3, 0x0f, 0x1e, 0xfa, code @ ..]
        | [0x66, 0x0f, 0x1f, 0x00, code @ ..]
        | [0x0f, 0x1f, 0x40, _, code @ ..] => code,
        code => code,
    };
    // Nothing, somebody's call, somebody's kprobe.
    code.starts_with(&[0x0f, 0x1f, 0x44, 0x00, 0x00]) || matches!(code.first(), Some(0xe8 | 0xcc))
}

/// The program that runs for each symbol.
fn program(btf: &KernelBtf, maps: Vec<MapDecl>) -> Option<Program> {
    const KSYM: &str = "kallsym_iter";
    let at = |name| Some(field::path(btf, KSYM, name)?.offset() as i32);
    let (kind_at, value_at, name_at, module_at) =
        (at("type")?, at("value")?, at("name")?, at("module_name")?);

    let mut b = Builder::new("locate");
    let out = b.block();
    let symbol = b.arg(1, Type::Kernel { direct: true });
    // An iterator's last call has no object.
    b.branch_if(Cond::Eq, symbol, 0, out);
    let code = b.block();
    let kind = b.kernel_load(symbol, kind_at, Size::B1);
    // Lower case: `t` and `T`, `w` and `W`.
    let kind = b.bin(BinOp::Or, Width::W64, kind, 0x20);
    b.branch_if(Cond::Eq, kind, i64::from(b't'), code);
    b.branch_if(Cond::Ne, kind, i64::from(b'w'), out);
    b.jump(code);
    b.switch_to(code);
    let addr = b.kernel_load(symbol, value_at, Size::B8);

    // The one before ends here, unless this is another name of it.
    let state = b.map_data(STATE, 0);
    let pending = b.load(state, STATE_PENDING, Size::B8);
    let (ends, next) = (b.block(), b.block());
    b.branch_if(Cond::Eq, pending, 0, next);
    b.branch(Cond::Gt, addr, pending, ends, next);
    b.switch_to(ends);
    b.store(state, STATE_PENDING, 0, Size::B8);
    let report = reserve(&mut b, state, out);
    for at in (0..REPORT as i32).step_by(8) {
        match at {
            ADDR => b.store(report, at, pending, Size::B8),
            CODE => b.store(report, at, addr, Size::B8),
            _ => b.store(report, at, 0, Size::B8),
        }
    }
    b.call_void(Helper::RingbufSubmit, vec![report.into(), 0.into()]);
    b.jump(next);
    b.switch_to(next);

    // The name's hash, as `hash` makes it.
    let hash = b.int();
    b.mov(hash, 0);
    let named = b.block();
    for at in (0..NAME as i32).step_by(8) {
        let name = b.kernel_load(symbol, name_at + at, Size::B8);
        // The topmost bit of each byte that is 0; and, wrongly, perhaps of others behind the first.
        let ones = b.imm(0x0101_0101_0101_0101);
        let below = b.bin(BinOp::Sub, Width::W64, name, ones);
        let inverted = b.bin(BinOp::Xor, Width::W64, name, -1);
        let zeros = b.and(below, inverted);
        let tops = b.imm(0x8080_8080_8080_8080_u64 as i64);
        let zeros = b.and(zeros, tops);
        let (whole, last) = (b.block(), b.block());
        b.branch(Cond::Eq, zeros, 0, whole, last);

        b.switch_to(last);
        // What is before that byte.
        let low = b.imm(0);
        let low = b.bin(BinOp::Sub, Width::W64, low, zeros);
        let low = b.and(zeros, low);
        let low = b.bin(BinOp::Shr, Width::W64, low, 7);
        let mask = b.bin(BinOp::Sub, Width::W64, low, 1);
        let name_end = b.and(name, mask);
        let mixed = mixed(&mut b, hash, name_end);
        b.mov(hash, mixed);
        b.jump(named);

        b.switch_to(whole);
        let mixed = self::mixed(&mut b, hash, name);
        b.mov(hash, mixed);
    }
    b.jump(named);
    b.switch_to(named);

    let key = b.slot(8, 8);
    let key = b.slot_addr(key);
    b.store(key, 0, hash, Size::B8);
    let wanted = b.map(WANTED);
    let flags = Type::MapValue {
        map: WANTED,
        nullable: true,
    };
    let flags = b.call_as(flags, Helper::MapLookupElem, vec![wanted.into(), key.into()]);
    let flags = b.non_null(flags, out);
    let flags = b.load(flags, 0, Size::B8);
    let (bounded, describe) = (b.block(), b.block());
    b.branch(Cond::Ne, flags, 0, bounded, describe);
    b.switch_to(bounded);
    b.store(state, STATE_PENDING, addr, Size::B8);
    b.jump(describe);
    b.switch_to(describe);
    let report = reserve(&mut b, state, out);
    b.store(report, ADDR, addr, Size::B8);
    b.store(report, HASH, hash, Size::B8);
    let to = b.add(report, i64::from(CODE));
    b.call_void(
        Helper::ProbeReadKernel,
        vec![to.into(), i64::from(MODULE - CODE).into(), addr.into()],
    );
    for at in (0..MODULE_LEN).step_by(8) {
        let part = b.kernel_load(symbol, module_at + at, Size::B8);
        b.store(report, MODULE + at, part, Size::B8);
    }
    b.call_void(Helper::RingbufSubmit, vec![report.into(), 0.into()]);
    b.jump(out);
    b.switch_to(out);
    b.ret(0);
    Some(Program {
        name: "ktrail_locate".into(),
        kind: ProgramKind::Tracing,
        maps,
        functions: vec![b.finish()],
    })
}

fn mixed(b: &mut Builder, hash: Reg, word: Reg) -> Reg {
    let both = b.bin(BinOp::Xor, Width::W64, hash, word);
    let prime = b.imm(PRIME as i64);
    let mixed = b.bin(BinOp::Mul, Width::W64, both, prime);
    let upper = b.bin(BinOp::Shr, Width::W64, mixed, 32);
    b.bin(BinOp::Xor, Width::W64, mixed, upper)
}

/// Room for a report in the ring; if there is none, that is counted, and the program is left.
fn reserve(b: &mut Builder, state: Reg, out: Block) -> Reg {
    let (full, room) = (b.block(), b.block());
    let ring = b.map(FOUND);
    let ty = Type::Record {
        size: REPORT,
        nullable: true,
    };
    let args = vec![ring.into(), i64::from(REPORT).into(), 0.into()];
    let report = b.call_as(ty, Helper::RingbufReserve, args);
    let report = b.non_null(report, full);
    b.jump(room);
    b.switch_to(full);
    b.store(state, STATE_LOST, 1, Size::B8);
    b.jump(out);
    b.switch_to(room);
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart() {
        let names = ["a", "ab", "ip_rcv", "ip_rcv_x", "ip_rcv_xy", "", "ip_rcv_xz"];
        let hashes: HashSet<u64> = names.iter().map(|n| hash(n)).collect();
        assert_eq!(hashes.len(), names.len());
        let long = "x".repeat(NAME);
        assert_eq!(hash(&long), hash(&format!("{long}y")), "only so many bytes count");
    }

    #[test]
    fn code_that_ftrace_can_patch() {
        let nop = [0x0f, 0x1f, 0x44, 0x00, 0x00, 0x55];
        assert!(patchable(&nop));
        assert!(patchable(&[&[0xf3, 0x0f, 0x1e, 0xfa][..], &nop].concat()));
        assert!(patchable(&[&[0x66, 0x0f, 0x1f, 0x00][..], &nop].concat()));
        assert!(patchable(&[&[0x0f, 0x1f, 0x40, 0xd6][..], &nop].concat()));
        assert!(patchable(&[0xe8, 1, 2, 3, 4]));
        assert!(!patchable(&[0x55, 0x48, 0x89, 0xe5]));
        assert!(!patchable(&[0xf3, 0x0f, 0x1e, 0xfa, 0x55]));
        assert!(!patchable(&[]));
    }

    /// What the iterator finds in the running kernel is what its list of symbols has.
    #[test]
    fn agrees_with_kallsyms() {
        let skip = |why: &str| println!("ktrail-test-skip: locate::agrees_with_kallsyms: {why}");
        let Ok(btf) = KernelBtf::load() else {
            return skip("no BTF");
        };
        let features = match super::super::features::Features::probe(&btf) {
            Ok(features) => features.codegen,
            Err(lacking) => return skip(&lacking.to_string()),
        };
        if btf.iterator("ksym").is_none() {
            return skip("this kernel has no iterator over its symbols (6.0+)");
        }
        let names = [
            "ip_rcv",
            "kfree_skbmem",
            "dev_hard_start_xmit",
            "skb_consume_udp",
            "dst_output",
            "no_such",
        ];
        let found = locate(&btf, &features, names.into_iter(), &["skb_consume_udp"])
            .expect("the kernel can be asked");
        let symbols = super::super::symbols::Symbols::load().expect("root sees them");
        for name in names {
            let mut listed: Vec<(u64, String)> = symbols
                .named(name)
                .iter()
                .map(|s| (s.addr, s.module.into()))
                .collect();
            let here = found.iter().filter(|l| l.hash == hash(name));
            let mut here: Vec<(u64, String)> = here.map(|l| (l.addr, l.module.clone())).collect();
            listed.sort();
            here.sort();
            assert_eq!(here, listed, "{name}");
        }
        let bounded = found
            .iter()
            .find(|l| l.hash == hash("skb_consume_udp"))
            .expect("it is there");
        let end = bounded.end.expect("its end was asked for");
        assert_eq!(symbols.at(end - 1).map(|(s, _)| s.name), Some("skb_consume_udp"));
        assert_ne!(symbols.at(end).map(|(s, _)| s.name), Some("skb_consume_udp"));
    }
}
