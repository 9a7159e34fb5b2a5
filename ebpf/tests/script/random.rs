//! Right scripts with something changed: whatever comes of it, the compiler says what is wrong or makes programs that
//! the IR's verifier takes. It never panics, and never takes long.

use std::time::{Duration, Instant};

use ktrail_ebpf::codegen::{Error, Options, PacketAccess, generate};
use ktrail_ebpf::script::env::ScriptEnv;

use crate::env::Table;
use crate::programs::{GOOD, compiled};

/// How many scripts are made. They are the same at every run.
const SCRIPTS: u64 = 2500;
/// Longest time for one, on a busy machine and without optimisation.
const LONGEST: Duration = Duration::from_secs(20);

/// xorshift, with a fixed seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }
}

/// Words, numbers, texts and single signs, with the space before them.
fn tokens(text: &str) -> Vec<&str> {
    let mut tokens = vec![];
    let mut rest = text;
    while !rest.is_empty() {
        let start = rest.len() - rest.trim_start().len();
        let body = &rest[start..];
        let len = match body.chars().next() {
            None => 0,
            Some('"') => body[1..].find('"').map_or(body.len(), |n| n + 2),
            Some(c) if c.is_alphanumeric() || "_$@".contains(c) => body[1..]
                .find(|c: char| !c.is_alphanumeric() && c != '_')
                .map_or(body.len(), |n| n + 1),
            Some(c) => c.len_utf8(),
        };
        tokens.push(&rest[..start + len]);
        rest = &rest[start + len..];
    }
    tokens
}

/// What a token can stand for.
fn kind(token: &str) -> u8 {
    match token.trim_start().bytes().next() {
        Some(c) if c.is_ascii_digit() => b'0',
        Some(c) if c.is_ascii_alphabetic() => b'a',
        Some(c @ (b'"' | b'$' | b'@')) => c,
        Some(c) if b"+-*/%&|^<>=!".contains(&c) => b'+',
        Some(c) => c,
        None => 0,
    }
}

fn changed(random: &mut Random) -> String {
    let mut parts = tokens(GOOD[random.below(GOOD.len())]);
    for _ in 0..1 + random.below(3) {
        let other = tokens(GOOD[random.below(GOOD.len())]);
        let at = random.below(parts.len());
        match random.below(12) {
            0 if parts.len() > 1 => {
                parts.remove(at);
            }
            1 => parts.insert(at, parts[random.below(parts.len())]),
            2 => {
                let with = random.below(parts.len());
                parts.swap(at, with);
            }
            3 => parts.insert(at, other[random.below(other.len())]),
            // Mostly something that may stand there.
            _ => {
                let fitting: Vec<&str> = other.into_iter().filter(|t| kind(t) == kind(parts[at])).collect();
                if !fitting.is_empty() {
                    parts[at] = fitting[random.below(fitting.len())];
                }
            }
        }
    }
    parts.concat()
}

#[test]
fn changed_scripts_are_refused_or_make_sound_programs() {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let table = Table::new();
    let options = Options {
        packet: PacketAccess::KernelRead,
        features: table.features(),
    };
    let (mut right, mut wrong) = (0, vec![]);
    for _ in 0..SCRIPTS {
        let text = changed(&mut random);
        let start = Instant::now();
        if let Ok(compiled) = compiled(&text) {
            right += 1;
            for probe in &compiled.probes {
                // Too large, or more than the kernel has, is said; wrong is the compiler's own fault.
                if let Err(e @ Error::Invalid { .. }) = generate(&probe.program, &options) {
                    wrong.push(format!("{text}\n{e}"));
                }
            }
        }
        assert!(start.elapsed() < LONGEST, "{text}\ntakes {:?}", start.elapsed());
    }
    assert!(
        wrong.is_empty(),
        "{} of {right}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    // Else nothing behind the parser was tried.
    assert!(right > SCRIPTS / 20, "{right} of {SCRIPTS} compile");
}
