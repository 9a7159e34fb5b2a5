//! The filter's corpus on frames in a device's queue: the verdicts are libpcap's on the same frames.

use super::skb::{InKernel, Judge, Skb};
use super::{LAYOUT, cbpf, filter, oracle, packets};

/// Bytes of an Ethernet header. Without one, a frame has no protocol, but an skb does.
const ETHER_HEADER: usize = 14;

/// Judge frames of every `step`-th linear length, and whole. With `kernel`, by it, else in the interpreter.
fn judge(kernel: Option<&InKernel>, every: usize, step: usize) -> usize {
    let mut packets = packets::all();
    // An EtherType of 0 is one in a frame; an skb has none yet then.
    packets.retain(|packet| packet.bytes[12..14] != [0, 0]);
    let mut verdicts = 0;
    let mut wrong = vec![];
    for (text, code) in oracle::agreed().into_iter().step_by(every) {
        let Some(filter) = filter(&text, true) else {
            continue;
        };
        let judge = Judge::new(&filter, &LAYOUT.offsets, kernel);
        for packet in &packets {
            let whole = packet.bytes.len();
            for len in (ETHER_HEADER..whole).step_by(step).chain([whole]) {
                let skb = Skb::sent(&packet.bytes).linear(len);
                let ours = match kernel {
                    Some(kernel) => judge.in_kernel(kernel, &skb),
                    None => judge.interpreted(&skb),
                };
                let theirs = cbpf::run(&code, &packet.bytes[..len], whole as u32);
                if ours != theirs {
                    let name = packet.name;
                    wrong.push(format!(
                        "{text}: '{name}', {len} linear: {ours}, libpcap {theirs}"
                    ));
                }
                verdicts += 1;
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} wrong of {verdicts}, such as\n{}",
        wrong.len(),
        wrong[..wrong.len().min(30)].join("\n")
    );
    verdicts
}

#[test]
fn corpus_interpreted() {
    let verdicts = judge(None, 3, 16);
    assert!(verdicts > 20_000, "only {verdicts}");
}

#[test]
fn corpus_in_the_kernel() {
    or_skip!("corpus_in_the_kernel");
    // Emulated kernels are slow: there every so many-th expression will do.
    let every = std::env::var("KTRAIL_CORPUS_EVERY").map_or(1, |n| n.parse().expect("a number"));
    let verdicts = judge(Some(&InKernel::new()), every, 10);
    assert!(verdicts > 100_000 / every, "only {verdicts}");
}

/// On one way the inner protocol is a copy of the outer one, on the other it is read. Kernels before 6.5 took the two
/// for the same number on both, and left out a condition.
#[test]
fn a_copied_number_in_the_kernel() {
    or_skip!("a_copied_number_in_the_kernel");
    let kernel = InKernel::new();
    let filter = filter("geneve and tcp", true).expect("a filter");
    let judge = Judge::new(&filter, &LAYOUT.offsets, Some(&kernel));
    let packets = packets::all();
    let inner_tcp = |packet: &&packets::Packet| packet.name == "geneve6 11 ethernet tcp4";
    let packet = packets.iter().find(inner_tcp).expect("the packet");
    assert!(judge.in_kernel(&kernel, &Skb::sent(&packet.bytes)));
}
