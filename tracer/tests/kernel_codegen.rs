//! Generated code in the kernel: it passes the kernel's verifier, and does there what the IR says. Needs root;
//! says so if it isn't.

#[path = "../../ebpf/tests/support/random.rs"]
mod random;

#[macro_use]
mod common;

use std::collections::BTreeSet;

use ktrail::kernel::btf::KernelBtf;
use ktrail::kernel::features::Features;
use ktrail::kernel::maps::Maps;
use ktrail::kernel::program::{LoadOptions, load};
use ktrail::kernel::ring::Ring;
use ktrail::kernel::symbols::Symbols;
use ktrail_ebpf::codegen::{Object, Options, PacketAccess, generate};
use ktrail_ebpf::ir::{Program, ProgramKind, parse};
use ktrail_ebpf::kernel::{Features as CodegenFeatures, KType, Space, Types};
use ktrail_ebpf::vm::{Kernel, Rights, run_ir};
use random::{Rng, Shape};

fn features() -> CodegenFeatures {
    let btf = KernelBtf::load().expect("BTF");
    Features::probe(&btf)
        .expect("a kernel that runs programs")
        .codegen
}

/// How many bytes of the kernel random programs look at.
const LOOKED_AT: usize = 1024;

/// Read the kernel at an address, by a program.
fn read_kernel(at: u64, features: &CodegenFeatures) -> Vec<u8> {
    let text = format!(
        "program read raw_tracepoint\n\
         map ring ringbuf key 0 value 0 entries 4096\n\
         fn 0 main() {{\n  kernel %0\n  stack %1\n  map %2\n  slot $0 {LOOKED_AT} align 8\nb0:\n\
         %0 = arg 0\n  kread $0 + 0, [%0 + 0], {LOOKED_AT}\n  %1 = addr $0 + 0\n  %2 = map @ring\n\
         call bpf_ringbuf_output(%2, %1, {LOOKED_AT}, 0)\n  ret 0\n}}\n"
    );
    let program = parse(&text).expect("IR");
    let options = Options {
        packet: PacketAccess::KernelRead,
        features,
    };
    let object = generate(&program, &options).expect("code");
    let maps = Maps::create(&object.maps).expect("maps");
    let program = load(&object, &maps, &LoadOptions::default()).unwrap_or_else(|e| panic!("{e}\n{}", e.log));
    let mut ring = Ring::open(maps.get("ring").expect("it was created")).expect("a reader");
    program.test_run_args(&[at]).expect("a test run");
    let mut bytes = vec![];
    ring.drain(|record| bytes.extend_from_slice(record));
    bytes
}

/// What a run leaves behind: the low half of what it returned (the kernel tells no more), and maps.
type Outcome = (u32, Entries, Entries);
type Entries = Vec<(Vec<u8>, Vec<u8>)>;

fn in_kernel(
    object: &Object,
    run: impl Fn(&ktrail::kernel::program::Program) -> u32,
) -> Result<Outcome, String> {
    let maps = Maps::create(&object.maps).expect("maps");
    let program = load(object, &maps, &LoadOptions::default()).map_err(|e| {
        let log: Vec<&str> = e.log.lines().collect();
        format!("{e}\n{}", log[log.len().saturating_sub(40)..].join("\n"))
    })?;
    let result = run(&program);
    let entries = |name: &str| -> Entries {
        let map = maps.get(name).expect("it was created");
        let mut entries: Entries = map
            .keys()
            .expect("keys")
            .into_iter()
            .map(|key| {
                let value = map.lookup(&key).expect("a lookup").expect("it is there");
                (key, value)
            })
            .collect();
        entries.sort();
        entries
    };
    Ok((result, entries("array"), entries("hash")))
}

fn in_vm(program: &Program, packet: PacketAccess, mut kernel: Kernel) -> Outcome {
    let ctx = kernel.memory.add(vec![0; 256], Rights::Read);
    for map in &program.maps {
        kernel.add_map(map);
    }
    let result = run_ir(program, packet, &mut kernel, ctx, 1_000_000).expect("the IR runs");
    (result as u32, kernel.entries(0), kernel.entries(1))
}

/// Random programs, with and without what newer kernels have.
fn check(
    count: u64,
    shape: Shape,
    packet: PacketAccess,
    kernel: impl Fn(&mut Rng) -> Kernel,
    run: impl Fn(&ktrail::kernel::program::Program, &mut Rng) -> u32,
) {
    let newest = features();
    let (mut insns, mut given_up) = (0, 0);
    let mut results = BTreeSet::new();
    for seed in 1..=count {
        let features = if seed % 2 == 0 {
            newest.clone()
        } else {
            CodegenFeatures::default()
        };
        let shape = Shape {
            atomics: features.atomic_fetch,
            ..shape
        };
        let program = random::program(&mut Rng::new(seed), shape);
        let options = Options {
            packet,
            features: &features,
        };
        let object = generate(&program, &options).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        insns += object.insns.len();
        let expected = in_vm(&program, packet, kernel(&mut Rng::new(seed)));
        match in_kernel(&object, |program| run(program, &mut Rng::new(seed))) {
            Ok(seen) => {
                assert!(
                    seen == expected,
                    "seed {seed}: IR gives {expected:x?}, the kernel {seen:x?}\n{program}\n{}",
                    object.disassemble()
                );
                results.insert(seen.0);
            }
            // Random branches in loops in loops have more paths than the kernel's verifier walks.
            Err(message) if message.contains("BPF program is too large") => given_up += 1,
            Err(message) => panic!("seed {seed}: {message}\n{program}\n{}", object.disassemble()),
        }
    }
    println!("{count} programs, {insns} instructions, {given_up} too complex for the kernel's verifier");
    assert!(given_up * 5 < count, "{given_up} of {count} are too complex");
    assert!(
        results.len() as u64 * 2 > count,
        "only {} different results",
        results.len()
    );
}

#[test]
fn tracing_programs_do_what_the_ir_says() {
    or_skip!("tracing_programs_do_what_the_ir_says");
    let symbols = Symbols::load().expect("symbols");
    let at = symbols
        .named("vsnprintf")
        .first()
        .expect("every kernel prints")
        .addr;
    let bytes = read_kernel(at, &features());
    assert_eq!(bytes.len(), LOOKED_AT);
    assert!(bytes.iter().any(|b| *b != 0), "the kernel's text reads as zeros");
    let args = |rng: &mut Rng| [at, at + 300, rng.next(), rng.next() >> 32, rng.below(100)];
    let shape = Shape {
        kind: ProgramKind::RawTracepoint,
        clock: false,
        variables: 12,
        size: 30,
        atomics: false,
        ballast: 0,
    };
    for (count, shape) in [
        (150, shape),
        (
            40,
            Shape {
                ballast: 480,
                ..shape
            },
        ),
        (
            40,
            Shape {
                variables: 30,
                size: 60,
                ..shape
            },
        ),
    ] {
        check(
            count,
            shape,
            PacketAccess::KernelRead,
            |rng| {
                let mut kernel = Kernel::default();
                kernel.memory.add_at(at, bytes.clone(), Rights::Kernel);
                kernel.args = args(rng).to_vec();
                kernel
            },
            |program, rng| program.test_run_args(&args(rng)).expect("a test run"),
        );
    }
}

#[test]
fn classifiers_do_what_the_ir_says() {
    or_skip!("classifiers_do_what_the_ir_says");
    let packet = |rng: &mut Rng| -> Vec<u8> {
        let kind = rng.below(2);
        let mut bytes: Vec<u8> = (0..14 + random::PACKET)
            .map(|_| if kind == 0 { 0x42 } else { rng.next() as u8 })
            .collect();
        // The kernel looks at the protocol: one that it knows nothing of.
        bytes[12..14].copy_from_slice(&[0x88, 0xb5]);
        bytes
    };
    let shape = Shape {
        kind: ProgramKind::SchedCls,
        clock: false,
        variables: 12,
        size: 30,
        atomics: false,
        ballast: 0,
    };
    check(
        100,
        shape,
        PacketAccess::SkbLoad,
        |rng| {
            let mut kernel = Kernel::default();
            kernel.skb = packet(rng);
            kernel
        },
        |program, rng| program.test_run(&packet(rng), 1).expect("a test run").retval,
    );
}

#[test]
fn direct_pointers_become_numbers() {
    or_skip!("direct_pointers_become_numbers");
    // kfree_skb(skb, location, …): the offsets of fields don't matter, only that they hold what is loaded.
    let btf = KernelBtf::load().expect("BTF");
    let tracepoint = btf
        .by_name(Space::Typedef, "btf_trace_kfree_skb")
        .expect("a tracepoint");
    let skb = btf.by_name(Space::Struct, "sk_buff").expect("packets");
    let Some(KType::Struct { members, .. }) = btf.get(skb) else {
        panic!("sk_buff is no struct")
    };
    let head = members
        .iter()
        .find(|m| m.name == "head")
        .expect("skb->head")
        .bit_offset
        / 8;
    let len = members
        .iter()
        .find(|m| m.name == "len")
        .expect("skb->len")
        .bit_offset
        / 8;
    let features = features();
    for (title, body) in [
        ("an argument", "  %1 = arg 0\n  %2 = %1\n"),
        (
            "a field",
            &format!("  %0 = arg 0\n  %1 = kload.u64 [%0 + {head}]\n  %2 = %1\n"),
        ),
        ("a copy", "  %0 = arg 0\n  %2 = %0\n"),
        (
            "a stored address",
            "  %0 = arg 0\n  %3 = addr $0 + 0\n  store.u64 [%3 + 0], %0\n  %2 = load.u64 [%3 + 0]\n",
        ),
        (
            "a packet",
            &format!(
                "  %0 = arg 0\n  %4 = packet %0\n  %2 = kload.u32 [%0 + {len}]\n  %2 = and %2, 63\n  \
                 %2 = pload.u8 %4[%2]\n"
            ),
        ),
        (
            "a checked address",
            "  %0 = arg 0\n  if eq %0, 0 then b2 else b1\nb1:\n  %2 = %0\n",
        ),
    ] {
        let last = if body.contains("b1:") {
            "b2:\n  ret 0\n"
        } else {
            ""
        };
        let text = format!(
            "program direct tracing\nfn 0 main() {{\n  kernel direct %0\n  kernel %1\n  int %2 %5\n  stack %3\n  \
             packet %4\n  slot $0 8 align 8\nb0:\n{body}  %2 = and %2, 4095\n  %2 = mul %2, 3\n  \
             %2 = and %2, 1\n  ret %2\n{last}}}\n"
        );
        let program = parse(&text).unwrap_or_else(|e| panic!("{title}: {e}\n{text}"));
        let options = Options {
            packet: PacketAccess::KernelRead,
            features: &features,
        };
        let object = generate(&program, &options).unwrap_or_else(|e| panic!("{title}: {e}"));
        let maps = Maps::create(&object.maps).expect("maps");
        let how = LoadOptions {
            attach_btf_id: tracepoint.id,
            ..LoadOptions::default()
        };
        if let Err(e) = load(&object, &maps, &how) {
            panic!("{title}: {e}\n{}\n{}", e.log, object.disassemble());
        }
    }
}
