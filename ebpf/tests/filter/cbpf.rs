//! Classic BPF as libpcap's `bpf_filter` runs it: the reference that our code is compared with.
//!
//! A load outside of the packet, a division by zero: the program returns 0 at once. Shifts by 32 and more give 0.

/// One instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Insn {
    pub code: u16,
    pub jt: u8,
    pub jf: u8,
    pub k: u32,
}

/// Read what `tcpdump -ddd` prints, without the count: four numbers an instruction.
pub fn parse(text: &str) -> Vec<Insn> {
    let numbers: Vec<u32> = text
        .split_whitespace()
        .map(|n| n.parse().expect("a number"))
        .collect();
    numbers
        .as_chunks::<4>()
        .0
        .iter()
        .map(|[code, jt, jf, k]| Insn {
            code: *code as u16,
            jt: *jt as u8,
            jf: *jf as u8,
            k: *k,
        })
        .collect()
}

/// The verdict on a packet of which `data` was captured, and which had `wire` bytes.
pub fn run(program: &[Insn], data: &[u8], wire: u32) -> bool {
    let load = |at: u64, size: usize| -> Option<u32> {
        let at = usize::try_from(at).ok()?;
        let bytes = data.get(at..at.checked_add(size)?)?;
        Some(bytes.iter().fold(0, |n, byte| n << 8 | u32::from(*byte)))
    };
    let (mut a, mut x) = (0u32, 0u32);
    let mut mem = [0u32; 16];
    let mut pc = 0;
    loop {
        let Insn { code, jt, jf, k } = program[pc];
        pc += 1;
        let size = match code & 0x18 {
            0x00 => 4,
            0x08 => 2,
            _ => 1,
        };
        match code & 0x07 {
            // LD
            0x00 => {
                let loaded = match code & 0xe0 {
                    0x00 => Some(k),
                    0x20 => load(k.into(), size),
                    0x40 => load(u64::from(x) + u64::from(k), size),
                    0x60 => Some(mem[k as usize]),
                    0x80 => Some(wire),
                    mode => panic!("load mode {mode:#x}"),
                };
                match loaded {
                    Some(value) => a = value,
                    None => return false,
                }
            }
            // LDX
            0x01 => {
                let loaded = match code & 0xe0 {
                    0x00 => Some(k),
                    0x60 => Some(mem[k as usize]),
                    0x80 => Some(wire),
                    0xa0 => load(k.into(), 1).map(|byte| (byte & 0xf) << 2),
                    mode => panic!("index load mode {mode:#x}"),
                };
                match loaded {
                    Some(value) => x = value,
                    None => return false,
                }
            }
            0x02 => mem[k as usize] = a,
            0x03 => mem[k as usize] = x,
            // ALU
            0x04 => {
                let b = if code & 0x08 != 0 { x } else { k };
                a = match code & 0xf0 {
                    0x00 => a.wrapping_add(b),
                    0x10 => a.wrapping_sub(b),
                    0x20 => a.wrapping_mul(b),
                    0x30 => match a.checked_div(b) {
                        Some(value) => value,
                        None => return false,
                    },
                    0x40 => a | b,
                    0x50 => a & b,
                    0x60 => a.checked_shl(b).unwrap_or(0),
                    0x70 => a.checked_shr(b).unwrap_or(0),
                    0x80 => a.wrapping_neg(),
                    0x90 => match a.checked_rem(b) {
                        Some(value) => value,
                        None => return false,
                    },
                    0xa0 => a ^ b,
                    op => panic!("operation {op:#x}"),
                };
            }
            // JMP
            0x05 => {
                let b = if code & 0x08 != 0 { x } else { k };
                let taken = match code & 0xf0 {
                    0x00 => {
                        // Backwards, in `protochain`.
                        pc = pc.wrapping_add_signed(k as i32 as isize);
                        continue;
                    }
                    0x10 => a == b,
                    0x20 => a > b,
                    0x30 => a >= b,
                    0x40 => a & b != 0,
                    op => panic!("jump {op:#x}"),
                };
                pc += usize::from(if taken { jt } else { jf });
            }
            // RET
            0x06 => return if code & 0x18 == 0x10 { a != 0 } else { k != 0 },
            // MISC
            _ => match code & 0xf8 {
                0x00 => x = a,
                0x80 => a = x,
                op => panic!("register operation {op:#x}"),
            },
        }
    }
}

#[test]
fn a_program_of_tcpdumps_runs() {
    // tcpdump -O -ddd -y EN10MB 'ip[8] / 2 > 3'
    let program = parse("40 0 0 12 21 0 4 2048 48 0 0 22 52 0 0 2 37 0 1 3 6 0 0 262144 6 0 0 0");
    let mut packet = [0; 34];
    packet[12] = 8;
    packet[22] = 8;
    assert!(run(&program, &packet, 34));
    packet[22] = 7;
    assert!(!run(&program, &packet, 34));
    assert!(!run(&program, &packet[..22], 34));
    assert!(!run(&program, &[], 34));
}
