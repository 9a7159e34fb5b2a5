//! Random filters: what compiles, the kernel's verifier accepts, and the kernel's verdicts are the interpreter's.
//!
//! `KTRAIL_FUZZ=N` makes N times as many (1 without it), `KTRAIL_FUZZ_SEED` other ones, `KTRAIL_FUZZ_PART` a part.

use ktrail_ebpf::filter::{Env, parse};

use super::skb::{InKernel, Judge, Skb, UNSET};
use super::{LAYOUT, not_here, oracle, packets};

/// Files of the corpus.
const CORPUS: [&str; 4] = ["basic", "arithmetic", "link", "encapsulation"];
/// Terms that the corpus doesn't have.
const TERMS: [&str; 14] = [
    "skb.mark & 0xff == 0x10",
    "skb.dev.name == \"eth7\"",
    "skb.dev.name != \"abcdefghijklmno\"",
    "skb.sk.__sk_common.skc_family == 2",
    "skb.head <= skb.data",
    "skb.pkt_type = 0",
    "pid != 1",
    "comm \"kworker/0:1\"",
    "netns 4026531999",
    "cgroup 1",
    "inbound",
    "ifindex 7",
    "len > 60",
    "ether[skb.pkt_type] = ip[1]",
];

/// xorshift64*.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % n as u64) as usize
    }

    fn filter(&mut self, leaves: &[String], depth: u32) -> String {
        let inner = |this: &mut Random| this.filter(leaves, depth - 1);
        match if depth == 0 { 0 } else { self.below(10) } {
            0..=3 => format!("({})", leaves[self.below(leaves.len())]),
            4 | 5 => format!("({} and {})", inner(self), inner(self)),
            6 => format!("({} or {})", inner(self), inner(self)),
            7 => format!("(not {})", inner(self)),
            8 => format!("ext ({})", inner(self)),
            _ => format!("inner ({})", inner(self)),
        }
    }
}

#[test]
fn random_filters() {
    let kernel = match not_here() {
        None => InKernel::new(),
        Some(reason) => {
            eprintln!("ktrail-test-skip: random_filters: {reason}");
            return;
        }
    };
    let number = |name: &str, default: u64| {
        std::env::var(name).map_or(default, |text| {
            text.parse().unwrap_or_else(|_| panic!("{name} is no number"))
        })
    };
    let seed = number("KTRAIL_FUZZ_SEED", 1);
    let rounds = 100 * number("KTRAIL_FUZZ", 1) / number("KTRAIL_FUZZ_PART", 1);
    let env = Env {
        kernel: Some(&LAYOUT.btf),
        ..Env::default()
    };
    let corpus = CORPUS.iter().flat_map(|name| oracle::expressions(name));
    let mut leaves: Vec<String> = corpus.filter(|text| parse(text, &env).is_ok()).collect();
    // As often as the others together.
    let often = leaves.len() / TERMS.len();
    leaves.extend(TERMS.iter().flat_map(|term| vec![(*term).to_string(); often]));
    let packets = packets::all();
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let (mut loaded, mut matched) = (0, 0);
    for _ in 0..rounds {
        let text = random.filter(&leaves, 4);
        let filter = match parse(&text, &env) {
            Ok(filter) => filter,
            Err(error) => {
                // Some of them have no meaning inside of others.
                assert!(error.span.end <= text.len(), "{text}");
                continue;
            }
        };
        let judge = Judge::new(&filter, &LAYOUT.offsets, Some(&kernel));
        loaded += 1;
        for _ in 0..12 {
            let bytes = &packets[random.below(packets.len())].bytes;
            let skb = match random.below(4) {
                0 => Skb::received(bytes),
                1 => Skb {
                    mac_header: UNSET,
                    dev: None,
                    ..Skb::sent(bytes)
                },
                2 => Skb {
                    vlan: Some(100),
                    family: None,
                    ..Skb::sent(bytes)
                },
                _ => Skb::sent(bytes),
            };
            let skb = skb.linear(bytes.len() - random.below(bytes.len() / 2));
            let verdict = judge.in_kernel(&kernel, &skb);
            matched += usize::from(verdict);
            // What depends on the process is not the same in both.
            if !["pid", "comm", "cgroup"].iter().any(|word| text.contains(word)) {
                assert_eq!(judge.interpreted(&skb), verdict, "seed {seed}: {text}");
            }
        }
    }
    println!("{loaded} of {rounds} filters loaded, {matched} packets matched");
    assert!(
        loaded * 2 > rounds && matched > 0,
        "only {loaded} of {rounds}, {matched} matched"
    );
}
