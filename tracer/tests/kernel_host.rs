//! Loading, maps, rings and test runs against the kernel that runs the tests. Needs root; says so if it isn't.

#[macro_use]
mod common;

use std::os::fd::AsFd;
use std::time::Duration;

use ktrail::kernel::maps::Maps;
use ktrail::kernel::program::{self, LoadOptions, Program};
use ktrail::kernel::ring::Ring;
use ktrail_ebpf::codegen::{Object, Reloc};
use ktrail_ebpf::ir::{MapDecl, MapKind, MapRef, ProgramKind, Span};
use ktrail_ebpf::isa::Insn;

fn decl(name: &str, kind: MapKind, key_size: u32, value_size: u32, max_entries: u32) -> MapDecl {
    MapDecl {
        name: name.into(),
        kind,
        key_size,
        value_size,
        max_entries,
    }
}

fn insn(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> Insn {
    Insn {
        code,
        dst,
        src,
        off,
        imm,
    }
}

fn object(kind: ProgramKind, insns: Vec<Insn>, relocs: Vec<Reloc>, maps: Vec<MapDecl>) -> Object {
    Object {
        name: "host test".into(),
        kind,
        spans: (0..insns.len() as u32)
            .map(|i| Span { start: i, end: i + 1 })
            .collect(),
        insns,
        relocs,
        maps,
        funcs: Vec::new(),
    }
}

/// A program that puts the last `len` bytes of its stack, which `fill` has written, into a ring of `size` bytes, and returns
/// `result`; and that ring.
fn writer(size: u32, fill: &[Insn], len: i16, result: i32) -> (Program, Ring) {
    // bpf_ringbuf_output(events, r10 - len, len, 0)
    let output = [
        insn(0x18, 1, 0, 0, 0),
        insn(0, 0, 0, 0, 0),
        insn(0xbf, 2, 10, 0, 0),
        insn(0x07, 2, 0, 0, i32::from(-len)),
        insn(0xb7, 3, 0, 0, len.into()),
        insn(0xb7, 4, 0, 0, 0),
        insn(0x85, 0, 0, 0, 130),
        insn(0xb7, 0, 0, 0, result),
        insn(0x95, 0, 0, 0, 0),
    ];
    let relocs = vec![Reloc {
        insn: fill.len(),
        map: MapRef(0),
        value_off: None,
    }];
    let maps = vec![decl("events", MapKind::RingBuf, 0, 0, size)];
    let object = object(ProgramKind::SchedCls, [fill, &output].concat(), relocs, maps);
    let maps = Maps::create(&object.maps).expect("the ring can be made");
    let program = program::load(&object, &maps, &LoadOptions::default()).expect("it loads");
    let ring = Ring::open(maps.get("events").expect("it was declared")).expect("it maps");
    (program, ring)
}

#[test]
fn a_program_runs_and_its_record_arrives() {
    or_skip!("a_program_runs_and_its_record_arrives");
    // *(u64 *)(r10 - 8) = 0x1234; return 7
    let (program, mut ring) = writer(1 << 16, &[insn(0x7a, 10, 0, -8, 0x1234)], 8, 7);
    assert!(
        !ring.wait(Duration::ZERO).expect("poll works"),
        "nothing is there yet"
    );

    let packet = [0_u8; 64];
    let run = program.test_run(&packet, 3).expect("test run works");
    assert_eq!(run.retval, 7);
    assert_eq!(run.data, packet);

    assert!(ring.wait(Duration::from_secs(1)).expect("poll works"));
    let mut records = Vec::new();
    assert_eq!(ring.drain_some(1, |r| records.push(r.to_vec())), 1);
    assert_eq!(ring.drain(|r| records.push(r.to_vec())), 2);
    assert_eq!(records, vec![0x1234_u64.to_ne_bytes().to_vec(); 3]);
    program.stats().expect("statistics are there");
}

#[test]
fn a_record_that_reaches_over_the_rings_end_is_whole() {
    or_skip!("a_record_that_reaches_over_the_rings_end_is_whole");
    const SIZE: u32 = 1 << 12;
    // Twice the packet's length on the stack, as 16 bytes; return 0
    let twice = [
        insn(0x61, 2, 1, 0, 0),
        insn(0x7b, 10, 2, -16, 0),
        insn(0x7b, 10, 2, -8, 0),
    ];
    let (program, mut ring) = writer(SIZE, &twice, 16, 0);
    // With its header a record takes 24 bytes, of which the ring's size is no multiple.
    for length in 64..64 + 3 * SIZE as usize / 24 {
        program.test_run(&vec![0; length], 1).expect("test run works");
        let half = (length as u64).to_ne_bytes();
        let count = ring.drain(|record| assert_eq!(record, [half, half].concat(), "a packet of {length}"));
        assert_eq!(count, 1, "a packet of {length}");
    }
}

#[test]
fn a_map_value_is_addressed_directly() {
    or_skip!("a_map_value_is_addressed_directly");
    let maps = vec![decl("config", MapKind::Array, 4, 16, 1)];
    // r1 = &config[0] + 8; return *(u32 *)r1
    let insns = vec![
        insn(0x18, 1, 0, 0, 0),
        insn(0, 0, 0, 0, 0),
        insn(0x61, 0, 1, 0, 0),
        insn(0x95, 0, 0, 0, 0),
    ];
    let relocs = vec![Reloc {
        insn: 0,
        map: MapRef(0),
        value_off: Some(8),
    }];
    let object = object(ProgramKind::SchedCls, insns, relocs, maps);
    let maps = Maps::create(&object.maps).expect("the map can be made");
    let mut value = [0_u8; 16];
    value[8] = 42;
    maps.get("config")
        .expect("it was declared")
        .update(&0_u32.to_ne_bytes(), &value)
        .expect("it can be set");
    let program = program::load(&object, &maps, &LoadOptions::default()).expect("it loads");
    assert_eq!(program.test_run(&[0; 14], 1).expect("it runs").retval, 42);
}

#[test]
fn a_refusal_carries_the_verifiers_words_and_the_place() {
    or_skip!("a_refusal_carries_the_verifiers_words_and_the_place");
    // r0 = 0; r0 = *(u64 *)(r0 + 0): a load from a number.
    let insns = vec![
        insn(0xb7, 0, 0, 0, 0),
        insn(0x79, 0, 0, 0, 0),
        insn(0x95, 0, 0, 0, 0),
    ];
    let object = object(ProgramKind::Kprobe, insns, Vec::new(), Vec::new());
    let error = program::load(&object, &Maps::default(), &LoadOptions::default())
        .expect_err("the verifier refuses it");
    assert_eq!(error.insn, Some(1));
    assert_eq!(error.span, Span { start: 1, end: 2 });
    assert!(error.log.contains("R0 invalid mem access"), "{}", error.log);
    assert!(
        error
            .to_string()
            .contains("the kernel's verifier: R0 invalid mem access"),
        "{error}"
    );
}

#[test]
fn maps_keep_what_they_are_given() {
    or_skip!("maps_keep_what_they_are_given");
    let maps = Maps::create(&[
        decl("hash", MapKind::Hash, 2, 4, 8),
        decl("percpu", MapKind::PercpuHash, 1, 12, 8),
        decl("counters", MapKind::PercpuArray, 4, 8, 3),
    ])
    .expect("they can be made");
    let hash = maps.get("hash").expect("it is there");
    assert_eq!(hash.lookup(b"ab").expect("lookup works"), None);
    hash.update(b"ab", b"1234").expect("update works");
    hash.update(b"cd", b"5678").expect("update works");
    assert_eq!(
        hash.lookup(b"ab").expect("lookup works").as_deref(),
        Some(&b"1234"[..])
    );
    let mut keys = hash.keys().expect("keys work");
    keys.sort();
    assert_eq!(keys, [b"ab".to_vec(), b"cd".to_vec()]);
    assert!(hash.delete(b"ab").expect("delete works"));
    assert!(!hash.delete(b"ab").expect("delete works"));

    let percpu = maps.get("percpu").expect("it is there");
    percpu.update(b"k", b"twelve bytes").expect("update works");
    let values = percpu
        .lookup_per_cpu(b"k")
        .expect("lookup works")
        .expect("the key is there");
    assert_eq!(values.len(), ktrail::kernel::maps::possible_cpus());
    assert!(values.iter().all(|v| v == b"twelve bytes"));

    let counters = maps.get("counters").expect("it is there");
    counters
        .update(&1_u32.to_ne_bytes(), &5_u64.to_ne_bytes())
        .expect("update works");
    assert_eq!(
        counters.counter(1).expect("lookup works"),
        5 * ktrail::kernel::maps::possible_cpus() as u64
    );
    assert_eq!(counters.counter(2).expect("lookup works"), 0);
}

#[test]
fn one_name_is_one_map() {
    or_skip!("one_name_is_one_map");
    let shape = decl("shared", MapKind::Array, 4, 8, 1);
    let mut maps = Maps::create(std::slice::from_ref(&shape)).expect("it can be made");
    maps.add(std::slice::from_ref(&shape))
        .expect("the same is shared");
    assert_eq!(maps.iter().count(), 1);
    let other = MapDecl {
        value_size: 4,
        ..shape
    };
    let error = maps.add(&[other]).expect_err("a different shape is an error");
    assert!(
        error.to_string().contains("map shared is declared twice"),
        "{error}"
    );
    let _ = maps.get("shared").expect("it is there").as_fd();
}

#[test]
fn the_kernels_types_are_read() {
    use ktrail::kernel::btf::KernelBtf;
    use ktrail_ebpf::kernel::{KType, Space, Types};
    if !std::path::Path::new("/sys/kernel/btf/vmlinux").exists() {
        eprintln!("ktrail-test-skip: the_kernels_types_are_read: no /sys/kernel/btf/vmlinux");
        return;
    }
    let start = std::time::Instant::now();
    let btf = KernelBtf::load().expect("the BTF is readable");
    let loaded = start.elapsed();
    let (functions, tracepoints) = (btf.skb_functions(), btf.skb_tracepoints());
    eprintln!(
        "{} functions, {} tracepoints; load {loaded:?}, index {:?}",
        functions.len(),
        tracepoints.len(),
        start.elapsed() - loaded
    );
    for (name, arg) in [("ip_rcv", 0), ("dev_hard_start_xmit", 0), ("ip_output", 2)] {
        let function = functions.iter().find(|f| f.name == name);
        assert_eq!(function.and_then(|f| f.arg), Some(arg), "{name}");
    }
    assert!(functions.len() > 1000);
    for (name, arg) in [("kfree_skb", 0), ("net_dev_queue", 0)] {
        let tracepoint = tracepoints.iter().find(|t| t.name == name);
        assert_eq!(tracepoint.map(|t| t.arg), Some(arg), "{name}");
    }
    let skb = btf.by_name(Space::Struct, "sk_buff").expect("sk_buff is there");
    let Some(KType::Struct { size, members, .. }) = btf.get(skb) else {
        panic!("sk_buff is a struct");
    };
    assert!(size > 100 && members.len() > 10);
}
