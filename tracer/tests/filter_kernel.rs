//! Filters in the kernel: every expression of the filter's corpus passes the kernel's verifier and judges packets there
//! as libpcap does, by skb loads and by the tracer's own load primitive. Needs root; says so if it isn't.

#[path = "../../ebpf/tests/filter/cbpf.rs"]
mod cbpf;
#[macro_use]
mod common;
#[path = "../../ebpf/tests/filter/oracle.rs"]
#[allow(dead_code)]
mod oracle;
#[path = "../../ebpf/tests/filter/packets.rs"]
mod packets;

use std::os::fd::{AsFd, AsRawFd};

use ktrail::kernel::maps::Maps;
use ktrail::kernel::program::{LoadOptions, Program, load};
use ktrail_ebpf::codegen::{Options, generate};
use ktrail_ebpf::filter::frame::{Link, Source, program};
use ktrail_ebpf::filter::{Env, parse};
use ktrail_ebpf::kernel::Features;

/// Of the lengths that a packet may be cut to, every so many-th is tried, and the whole.
const STEP: usize = 6;
/// Lengths of headers.
const ETHER_HEADER: usize = 14;
const IP6_HEADER: usize = 40;

/// A filter in the kernel.
struct Loaded {
    program: Program,
    maps: Maps,
    source: Source,
}

impl Loaded {
    /// `None` if ktrail doesn't take the expression.
    fn new(text: &str, source: Source) -> Option<Loaded> {
        let env = Env {
            pcap_compat: true,
            ..Env::default()
        };
        let filter = parse(text, &env).ok()?;
        let features = Features::default();
        let options = Options {
            packet: source.access(),
            features: &features,
        };
        let object = generate(&program(&filter, Link::Ethernet, source), &options).expect("code");
        let maps = Maps::create(&object.maps).expect("maps");
        let program = load(&object, &maps, &LoadOptions::default()).unwrap_or_else(|e| {
            let log: Vec<&str> = e.log.lines().collect();
            panic!("{text}: {e}\n{}", log[log.len().saturating_sub(20)..].join("\n"))
        });
        Some(Loaded {
            program,
            maps,
            source,
        })
    }

    /// The verdict; `None` for what the kernel makes no skb of.
    fn matches(&self, data: &[u8], wire: u32) -> Option<bool> {
        let verdict = match self.source {
            Source::Map => {
                let map = self.maps.get("packet").expect("it was created");
                let mut value = vec![0xa5; map.decl().value_size as usize];
                value[..8].copy_from_slice(&(data.len() as u64).to_ne_bytes());
                value[8..16].copy_from_slice(&u64::from(wire).to_ne_bytes());
                value[16..16 + data.len()].copy_from_slice(data);
                map.update(&0u32.to_ne_bytes(), &value).expect("an update");
                self.program.test_run_args(&[0; 12]).expect("a test run")
            }
            _ => match self.program.test_run(data, 1) {
                Ok(run) => run.retval,
                // No shorter than an Ethernet header; and newer kernels want a whole IP header behind it.
                Err(error) if error.errno == libc::EINVAL && data.len() < ETHER_HEADER + IP6_HEADER => {
                    return None;
                }
                Err(error) => panic!("a test run of {} bytes: {error}", data.len()),
            },
        };
        match verdict {
            0 => Some(false),
            1 => Some(true),
            other => panic!("verdict {other}"),
        }
    }
}

/// Judge all packets by all expressions; the verdict must be libpcap's. How many verdicts there were.
fn judge(source: Source) -> usize {
    let packets = packets::all();
    let mut verdicts = 0;
    let mut wrong = vec![];
    for (text, code) in oracle::agreed() {
        // Names of services are this system's in libpcap, and none are known here.
        let Some(loaded) = Loaded::new(&text, source) else {
            continue;
        };
        for packet in &packets {
            let whole = packet.bytes.len();
            let lengths = (0..whole).step_by(STEP).chain([whole]);
            for len in lengths {
                let data = &packet.bytes[..len];
                // An skb knows of no other length than its own.
                let wire = if source == Source::Map { whole } else { len } as u32;
                let Some(ours) = loaded.matches(data, wire) else {
                    continue;
                };
                let theirs = cbpf::run(&code, data, wire);
                if ours != theirs {
                    wrong.push(format!(
                        "{text}: '{}' cut to {len}: kernel {ours}, libpcap {theirs}",
                        packet.name
                    ));
                }
                verdicts += 1;
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} wrong, such as\n{}",
        wrong.len(),
        wrong[..wrong.len().min(20)].join("\n")
    );
    verdicts
}

#[test]
fn by_skb_loads() {
    or_skip!("by_skb_loads");
    let verdicts = judge(Source::Skb);
    assert!(verdicts > 100_000, "only {verdicts}");
}

#[test]
fn by_kernel_reads() {
    or_skip!("by_kernel_reads");
    let verdicts = judge(Source::Map);
    assert!(verdicts > 100_000, "only {verdicts}");
}

/// What nests costs a sum and no product: of instructions, and of the verifier's steps, which end at a million.
#[test]
fn tunnels_in_tunnels() {
    or_skip!("tunnels_in_tunnels");
    let steps = |text: &str| {
        let loaded = Loaded::new(text, Source::Map).expect("it is accepted");
        let fd = loaded.program.as_fd().as_raw_fd();
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).expect("the program's fdinfo");
        let steps = info.lines().find_map(|line| line.strip_prefix("verified_insns:"));
        let steps = steps.map(|number| number.trim().parse::<usize>().expect("a number"));
        println!("{text}: {} steps", steps.unwrap_or(0));
        steps
    };
    let nested = |depth: usize, text: &str| steps(&("inner (".repeat(depth) + text + &")".repeat(depth)));
    let text = "ether host 02:00:00:00:00:01 and tcp port 80 and ip[8] = 1 or ext (host 10.0.0.1)";
    let all: Option<Vec<usize>> = (1..=4).map(|depth| nested(depth, text)).collect();
    let Some(all) = all else {
        eprintln!(
            "ktrail-test-skip: tunnels_in_tunnels: this kernel does not tell its verifier's steps (5.16+)"
        );
        return;
    };
    let (second, last) = (all[1] - all[0], all[3] - all[2]);
    assert!(last < second + second / 2, "{all:?}");
    assert!(all[3] < 100_000, "{all:?}");
    // Each level with all that it can ask for, and extension headers.
    let mixed = format!("ext (inner ({text} or ext (inner ({text} or inner (ext (port 80))))))");
    assert!(steps(&mixed).is_some_and(|steps| steps < 500_000));
}
