//! Random programs do the same as IR and as instructions.

mod support;

use ktrail_ebpf::codegen::{Object, Options, PacketAccess, generate};
use ktrail_ebpf::ir::{MapDecl, Program, ProgramKind, parse};
use ktrail_ebpf::kernel::Features;
use ktrail_ebpf::vm::{Kernel, Rights, run, run_ir};
use support::random::{self, Rng, Shape};

/// What a run leaves behind.
#[derive(Debug, PartialEq)]
struct Outcome {
    result: u64,
    records: Vec<(u32, Vec<u8>)>,
    array: Vec<(Vec<u8>, Vec<u8>)>,
    hash: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A kernel with an object, a packet and the context. Returns the context's address.
fn kernel(maps: &[MapDecl], rng: &mut Rng, packet: PacketAccess) -> (Kernel, u64) {
    // The maps come last, so that the addresses of the rest don't depend on them: programs see addresses.
    let mut kernel = Kernel::default();
    let mut bytes = |n: usize| -> Vec<u8> {
        let kind = rng.below(3);
        (0..n)
            .map(|_| if kind == 0 { 0x42 } else { rng.next() as u8 })
            .collect()
    };
    let next = bytes(random::KERNEL_OBJECT);
    let mut object = bytes(random::KERNEL_OBJECT);
    let data = bytes(random::PACKET + 64);
    let next = kernel.memory.add(next, Rights::Kernel);
    for place in object.chunks_mut(random::POINTER_EVERY) {
        place[..8].copy_from_slice(&next.to_le_bytes());
    }
    let object = kernel.memory.add(object, Rights::Kernel);
    let start = match packet {
        PacketAccess::SkbLoad => {
            kernel.skb = data;
            14
        }
        PacketAccess::KernelRead => kernel.memory.add(data, Rights::Kernel),
        PacketAccess::Memory => kernel.memory.add(data, Rights::Read),
    };
    kernel.args = vec![object, start, rng.next(), rng.next() >> 32, rng.below(100)];
    let ctx = kernel.args.iter().flat_map(|arg| arg.to_le_bytes()).collect();
    let ctx = kernel.memory.add(ctx, Rights::Read);
    for map in maps {
        kernel.add_map(map);
    }
    (kernel, ctx)
}

fn outcome(result: u64, kernel: Kernel) -> Outcome {
    Outcome {
        result,
        array: kernel.entries(0),
        hash: kernel.entries(1),
        records: kernel.records,
    }
}

/// Run both ways; the number of instructions run.
fn compare(program: &Program, object: &Object, packet: PacketAccess, seed: u64) -> Result<u64, String> {
    let (mut ir_kernel, ctx) = kernel(&program.maps, &mut Rng::new(seed), packet);
    let expected =
        run_ir(program, packet, &mut ir_kernel, ctx, 200_000).map_err(|trap| format!("IR: {trap}"))?;
    let expected = outcome(expected, ir_kernel);
    let (mut insn_kernel, ctx) = kernel(&object.maps, &mut Rng::new(seed), packet);
    let run =
        run(object, &mut insn_kernel, ctx, 2_000_000).map_err(|trap| format!("instructions: {trap}"))?;
    let seen = outcome(run.result, insn_kernel);
    if seen == expected {
        Ok(run.steps)
    } else {
        Err(format!("IR gives {expected:x?}, instructions give {seen:x?}"))
    }
}

fn features(all: bool) -> Features {
    Features {
        atomic_fetch: all,
        cpu_v4: all,
        may_goto: all,
        ..Features::default()
    }
}

/// Every program of `count` seeds, in every variant.
fn check(count: u64, shape: Shape) {
    let (mut steps, mut insns) = (0, 0);
    for seed in 1..=count {
        let all = seed % 2 == 0;
        let shape = Shape {
            atomics: all,
            ..shape
        };
        let program = random::program(&mut Rng::new(seed), shape);
        let text = program.to_string();
        assert!(
            parse(&text).as_ref() == Ok(&program),
            "seed {seed}: read differently:\n{text}"
        );
        let features = features(all);
        let packet = match seed % 4 {
            0 => PacketAccess::SkbLoad,
            1 => PacketAccess::Memory,
            _ => PacketAccess::KernelRead,
        };
        let options = Options {
            packet,
            features: &features,
        };
        let object = generate(&program, &options).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        insns += object.insns.len();
        for run in 0..3 {
            match compare(&program, &object, packet, seed * 16 + run) {
                Ok(n) => steps += n,
                Err(message) => panic!("seed {seed}: {message}\n{}", object.disassemble()),
            }
        }
    }
    println!("{count} programs, {insns} instructions, {steps} run");
    // The programs are no trifles.
    assert!(insns as u64 > count * 20 && steps > count * 20);
}

#[test]
fn small_programs() {
    check(
        1500,
        Shape {
            kind: ProgramKind::Tracing,
            clock: true,
            variables: 4,
            size: 12,
            atomics: false,
            ballast: 0,
        },
    );
}

#[test]
fn programs_with_far_more_values_than_registers() {
    check(
        300,
        Shape {
            kind: ProgramKind::Tracing,
            clock: true,
            variables: 30,
            size: 60,
            atomics: false,
            ballast: 0,
        },
    );
}

#[test]
fn programs_with_more_memory_than_stack() {
    check(
        200,
        Shape {
            kind: ProgramKind::Tracing,
            clock: true,
            variables: 12,
            size: 40,
            atomics: false,
            ballast: 480,
        },
    );
}
