//! Features and attaching against the kernel that runs the tests: everything that takes an skb, by every backend
//! that there is. Needs root. On a kernel without kprobes the parts that need them say so.

#[macro_use]
mod common;

use std::collections::HashMap;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use ktrail::kernel::attach::{self, Attached, Multi, Target};
use ktrail::kernel::btf::KernelBtf;
use ktrail::kernel::features::Features;
use ktrail::kernel::maps::{Maps, raise_limits};
use ktrail::kernel::probeable::{Reason, Rules, Selection, select};
use ktrail::kernel::program::{self, AttachType, LoadOptions, Program};
use ktrail::kernel::symbols::Symbols;
use ktrail_ebpf::codegen::{self, Options, PacketAccess};
use ktrail_ebpf::ir::{
    AtomicOp, Builder, MapDecl, MapKind, MapRef, Op, Program as IrProgram, ProgramKind, Size, Type,
};
use ktrail_ebpf::isa::Helper;

/// A program that counts its runs at the attach cookie, or at 0 where there are no cookies.
fn counting(
    kind: ProgramKind,
    features: &Features,
    slots: u32,
    options: &LoadOptions<'_>,
) -> (Program, Maps) {
    let mut b = Builder::new("count");
    let slot = b.slot(4, 4);
    let key = b.slot_addr(slot);
    let cookie = match kind == ProgramKind::Kprobe && features.codegen.attach_cookie {
        true => {
            let ctx = b.ctx();
            b.call(Helper::GetAttachCookie, vec![ctx.into()])
        }
        false => b.imm(0),
    };
    b.store(key, 0, cookie, Size::B4);
    let map = b.map(MapRef(0));
    let value_type = Type::MapValue {
        map: MapRef(0),
        nullable: true,
    };
    let value = b.call_as(value_type, Helper::MapLookupElem, vec![map.into(), key.into()]);
    let none = b.block();
    let value = b.non_null(value, none);
    let one = b.imm(1);
    b.push(Op::Atomic {
        op: AtomicOp::Add,
        base: value,
        off: 0,
        src: one,
        size: Size::B8,
        fetch: None,
    });
    b.ret(0);
    b.switch_to(none);
    b.ret(0);
    let program = IrProgram {
        name: "count".into(),
        kind,
        maps: vec![MapDecl {
            name: "hits".into(),
            kind: MapKind::Array,
            key_size: 4,
            value_size: 8,
            max_entries: slots,
        }],
        functions: vec![b.finish()],
    };
    let object = codegen::generate(
        &program,
        &Options {
            packet: PacketAccess::KernelRead,
            features: &features.codegen,
        },
    )
    .expect("it generates");
    let maps = Maps::create(&object.maps).expect("the map can be made");
    let program = program::load(&object, &maps, options).unwrap_or_else(|e| panic!("{e}\n{}", e.log));
    (program, maps)
}

/// One UDP packet over loopback.
fn send_a_packet() {
    let to = UdpSocket::bind("127.0.0.1:0").expect("loopback is up");
    to.set_read_timeout(Some(Duration::from_secs(5)))
        .expect("it can be set");
    let from = UdpSocket::bind("127.0.0.1:0").expect("loopback is up");
    from.send_to(b"ktrail", to.local_addr().expect("it is bound"))
        .expect("it is sent");
    let mut buffer = [0; 16];
    assert_eq!(to.recv(&mut buffer).expect("it arrives"), 6);
}

struct Scene {
    features: Features,
    selection: Selection,
    targets: Vec<Target>,
}

fn scene(kprobes: bool) -> Option<Scene> {
    let start = Instant::now();
    let mut lap = start;
    let mut took = |what: &str| {
        eprintln!("  {what}: {:?}", lap.elapsed());
        lap = Instant::now();
    };
    let btf = KernelBtf::load().expect("the kernel has BTF");
    took("load BTF");
    btf.skb_functions();
    took("walk BTF");
    let features = Features::probe(&btf).expect("the kernel is new enough");
    took("features");
    if features.kprobe.is_err() && features.kprobe_multi.is_err() {
        return None;
    }
    let symbols = Symbols::load().expect("kallsyms shows addresses");
    took("symbols");
    let rules = Rules::load(&btf, &features.codegen, kprobes, &[]);
    took("rules");
    let selection = select(btf.skb_functions(), &symbols, &rules);
    took("select");
    eprintln!(
        "  {}: {} functions, {} tracepoints, {} places; skipped {:?}",
        features.release,
        btf.skb_functions().len(),
        btf.skb_tracepoints().len(),
        selection.places.len(),
        selection.skipped_by_reason()
    );
    assert!(
        rules.traceable.is_some(),
        "tracefs is mounted where there are kprobes"
    );
    assert!(selection.places.len() > 800);
    let inlined = selection
        .skipped
        .iter()
        .filter(|s| s.reason == Reason::NotInSymbols);
    assert!(inlined.count() < selection.places.len());
    let targets = selection
        .places
        .iter()
        .zip(0..)
        .map(|(place, cookie)| Target {
            addr: place.addr,
            cookie,
        })
        .collect();
    Some(Scene {
        features,
        selection,
        targets,
    })
}

/// Hits by function.
fn hits(scene: &Scene, maps: &Maps) -> HashMap<String, u64> {
    let map = maps.get("hits").expect("it was declared");
    scene
        .selection
        .places
        .iter()
        .zip(0..)
        .map(|(place, i)| (place.function.name.clone(), map.counter(i).expect("lookup works")))
        .filter(|(_, hits)| *hits > 0)
        .collect()
}

fn report(what: &str, attached: &Attached, start: Instant) {
    eprintln!(
        "  {what}: {} attached by {} links in {:?}; refused {:?}",
        attached.count,
        attached.links.len(),
        start.elapsed(),
        attached.refused
    );
}

#[test]
fn kprobe_multi_attaches_to_everything() {
    const NAME: &str = "kprobe_multi_attaches_to_everything";
    or_skip!(NAME);
    let Some(scene) = scene(false) else {
        eprintln!("ktrail-test-skip: {NAME}: this kernel has no kprobes");
        return;
    };
    if let Err(lacking) = &scene.features.kprobe_multi {
        eprintln!("ktrail-test-skip: {NAME}: {lacking}");
        return;
    }
    let options = LoadOptions {
        attach_type: Some(AttachType::TraceKprobeMulti),
        ..LoadOptions::default()
    };
    let slots = scene.targets.len() as u32;
    let (program, maps) = counting(ProgramKind::Kprobe, &scene.features, slots, &options);
    let start = Instant::now();
    let attached = attach::kprobe_multi(&program, &scene.targets, Multi::Entry).expect("it attaches");
    report("kprobe-multi", &attached, start);
    assert!(attached.count + attached.refused.len() == scene.targets.len());
    assert!(attached.refused.len() * 20 < scene.targets.len());
    send_a_packet();
    let start = Instant::now();
    attached.detach();
    eprintln!("  detached in {:?}", start.elapsed());
    let hits = hits(&scene, &maps);
    for name in ["ip_send_skb", "ip_output", "ip_rcv", "udp_rcv"] {
        let hit = hits.contains_key(name);
        let exists = scene.selection.places.iter().any(|p| p.function.name == name);
        assert!(hit || !exists, "{name} was not hit: {hits:?}");
    }
    assert!(hits.len() > 10, "{hits:?}");
}

#[test]
fn kprobes_attach_to_everything() {
    const NAME: &str = "kprobes_attach_to_everything";
    or_skip!(NAME);
    let Some(scene) = scene(true) else {
        eprintln!("ktrail-test-skip: {NAME}: this kernel has no kprobes");
        return;
    };
    let how = match &scene.features.kprobe {
        Ok(how) => *how,
        Err(lacking) => {
            eprintln!("ktrail-test-skip: {NAME}: {lacking}");
            return;
        }
    };
    raise_limits();
    let slots = scene.targets.len() as u32;
    let options = LoadOptions::default();
    let (program, maps) = counting(ProgramKind::Kprobe, &scene.features, slots, &options);
    let start = Instant::now();
    let attached = attach::kprobe(&program, &scene.targets, &how, &|_, _| true).expect("it attaches");
    report("kprobes", &attached, start);
    assert!(attached.count + attached.refused.len() == scene.targets.len());
    assert!(attached.refused.len() * 20 < scene.targets.len());
    send_a_packet();
    let start = Instant::now();
    attached.detach();
    eprintln!("  detached in {:?}", start.elapsed());
    let hits = hits(&scene, &maps);
    assert!(hits.values().sum::<u64>() > 10, "{hits:?}");
    if how.cookies {
        assert!(
            hits.contains_key("ip_output") && hits.contains_key("ip_rcv"),
            "{hits:?}"
        );
    }
}

#[test]
fn btf_tracepoints_attach() {
    const NAME: &str = "btf_tracepoints_attach";
    or_skip!(NAME);
    let btf = KernelBtf::load().expect("the kernel has BTF");
    let features = Features::probe(&btf).expect("the kernel is new enough");
    let mut links = Vec::new();
    let mut kept = Vec::new();
    let start = Instant::now();
    for tracepoint in btf.skb_tracepoints().iter().filter(|t| t.module.is_empty()) {
        let options = LoadOptions {
            attach_btf_id: tracepoint.id.id,
            ..LoadOptions::default()
        };
        let (program, maps) = counting(ProgramKind::Tracing, &features, 1, &options);
        links.push(attach::tracepoint(&program).unwrap_or_else(|e| panic!("{}: {e}", tracepoint.name)));
        kept.push((tracepoint.name.clone(), maps));
    }
    eprintln!("  {} tracepoints in {:?}", links.len(), start.elapsed());
    send_a_packet();
    for name in ["net_dev_queue", "netif_receive_skb"] {
        let (_, maps) = kept.iter().find(|(n, _)| n == name).expect("every kernel has it");
        let hits = maps
            .get("hits")
            .expect("declared")
            .counter(0)
            .expect("lookup works");
        assert!(hits >= 1, "{name} was not hit");
    }
}

#[test]
fn features_are_those_of_the_version() {
    use ktrail::kernel::features::Version;
    const NAME: &str = "features_are_those_of_the_version";
    or_skip!(NAME);
    let btf = KernelBtf::load().expect("the kernel has BTF");
    let features = Features::probe(&btf).expect("the kernel is new enough");
    let version = Version::parse(&features.release).expect("a stock kernel's release");
    let from = |major, minor| version >= Version { major, minor };
    let f = &features.codegen;
    eprintln!("  {features:?}");
    // A stock kernel has what its version has; distributions that carry features back would have more.
    assert_eq!(f.atomic_fetch, from(5, 12));
    assert_eq!(f.attach_cookie, from(5, 15));
    assert_eq!(f.get_func_ip, from(5, 15));
    assert_eq!(f.bpf_loop, from(5, 17));
    assert_eq!(f.rdonly_cast.is_some(), from(6, 2));
    assert_eq!(f.iter_num, from(6, 4));
    assert_eq!(f.cpu_v4, from(6, 6));
    assert_eq!(f.may_goto, from(6, 9));
    if features.kprobe_multi.is_ok() {
        assert_eq!(features.session(&btf).is_some(), from(6, 10));
    }
}
