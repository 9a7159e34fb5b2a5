//! Instructions as text, in the style of the kernel's own disassembler (`kernel/bpf/disasm.c`'s output, as
//! bpftool and the verifier's log show it).

use std::fmt::Write;

use super::{Helper, Insn, op};

/// Names for what an instruction slot refers to.
pub trait Symbols {
    /// What the 64-bit immediate at slot `insn` stands for, e.g. `map[events]`.
    fn wide(&self, insn: usize) -> Option<String>;
    /// The name of the function that starts at slot `insn`.
    fn func(&self, insn: usize) -> Option<String>;
}

/// No names.
pub struct NoSymbols;

impl Symbols for NoSymbols {
    fn wide(&self, _: usize) -> Option<String> {
        None
    }
    fn func(&self, _: usize) -> Option<String> {
        None
    }
}

/// One line an instruction, each with its slot number; a 64-bit immediate is one line. A line that names a
/// function stands before its first instruction.
pub fn disassemble(insns: &[Insn], symbols: &dyn Symbols) -> String {
    let mut out = String::new();
    let mut at = 0;
    while at < insns.len() {
        if let Some(name) = symbols.func(at) {
            let _ = writeln!(out, "{name}:");
        }
        let insn = insns[at];
        let text = if insn.is_wide() {
            wide(insn, insns.get(at + 1).copied().unwrap_or_default(), at, symbols)
        } else {
            one(insn, at, symbols)
        };
        let _ = writeln!(out, "{at:4}: {text}");
        at += if insn.is_wide() { 2 } else { 1 };
    }
    out
}

fn wide(insn: Insn, next: Insn, at: usize, symbols: &dyn Symbols) -> String {
    let value = (next.imm as u32 as u64) << 32 | insn.imm as u32 as u64;
    match (symbols.wide(at), insn.src) {
        (Some(name), _) => format!("r{} = {name}", insn.dst),
        (None, 0) => format!("r{} = {value:#x} ll", insn.dst),
        (None, op::PSEUDO_MAP_FD) => format!("r{} = map[fd:{}]", insn.dst, insn.imm),
        (None, op::PSEUDO_MAP_VALUE) => format!("r{} = map[fd:{}][0]+{}", insn.dst, insn.imm, next.imm),
        (None, op::PSEUDO_FUNC) => format!("r{} = fn {:+}", insn.dst, insn.imm),
        (None, src) => format!("r{} = pseudo({src}) {value:#x} ll", insn.dst),
    }
}

fn one(insn: Insn, at: usize, symbols: &dyn Symbols) -> String {
    match insn.class() {
        op::ALU | op::ALU64 => alu(insn),
        op::JMP | op::JMP32 => jump(insn, at, symbols),
        op::LDX => {
            let sign = if insn.code & 0xe0 == op::MEMSX { 's' } else { 'u' };
            format!("r{} = {}", insn.dst, memory(insn, insn.src, sign))
        }
        op::ST => format!("{} = {}", memory(insn, insn.dst, 'u'), insn.imm),
        op::STX if insn.code & 0xe0 == op::ATOMIC => atomic(insn),
        op::STX => format!("{} = r{}", memory(insn, insn.dst, 'u'), insn.src),
        _ => unknown(insn),
    }
}

fn unknown(insn: Insn) -> String {
    format!("unknown({:#04x})", insn.code)
}

fn memory(insn: Insn, base: u8, sign: char) -> String {
    let bits = match insn.code & 0x18 {
        op::B => 8,
        op::H => 16,
        op::W => 32,
        _ => 64,
    };
    format!("*({sign}{bits} *)(r{base} {})", signed(insn.off.into()))
}

/// `+ 5` or `- 5`.
fn signed(n: i32) -> String {
    let sign = if n < 0 { '-' } else { '+' };
    format!("{sign} {}", n.unsigned_abs())
}

fn alu(insn: Insn) -> String {
    let wide = insn.class() == op::ALU64;
    let r = if wide { 'r' } else { 'w' };
    let dst = format!("{r}{}", insn.dst);
    let src = if insn.code & op::X != 0 {
        format!("{r}{}", insn.src)
    } else {
        insn.imm.to_string()
    };
    let symbol = match insn.code & 0xf0 {
        op::ADD => "+",
        op::SUB => "-",
        op::MUL => "*",
        op::DIV if insn.off == 1 => "s/",
        op::DIV => "/",
        op::OR => "|",
        op::AND => "&",
        op::LSH => "<<",
        op::RSH => ">>",
        op::NEG => return format!("{dst} = -{dst}"),
        op::MOD if insn.off == 1 => "s%",
        op::MOD => "%",
        op::XOR => "^",
        op::MOV if insn.off != 0 => return format!("{dst} = (s{}){src}", insn.off),
        op::MOV => "",
        op::ARSH => "s>>",
        op::END => {
            let way = match (wide, insn.code & op::X) {
                (true, _) => "bswap",
                (false, op::TO_BE) => "be",
                (false, _) => "le",
            };
            return format!("r{} = {way}{} r{}", insn.dst, insn.imm, insn.dst);
        }
        _ => return unknown(insn),
    };
    format!("{dst} {symbol}= {src}")
}

fn jump(insn: Insn, at: usize, symbols: &dyn Symbols) -> String {
    let r = if insn.class() == op::JMP { 'r' } else { 'w' };
    let symbol = match insn.code & 0xf0 {
        op::JA if insn.class() == op::JMP32 => return format!("gotol {:+}", insn.imm),
        op::JA => return format!("goto {:+}", insn.off),
        op::CALL => return call(insn, at, symbols),
        op::EXIT => return "exit".into(),
        op::JCOND => return format!("may_goto {:+}", insn.off),
        op::JEQ => "==",
        op::JGT => ">",
        op::JGE => ">=",
        op::JSET => "&",
        op::JNE => "!=",
        op::JSGT => "s>",
        op::JSGE => "s>=",
        op::JLT => "<",
        op::JLE => "<=",
        op::JSLT => "s<",
        op::JSLE => "s<=",
        _ => return unknown(insn),
    };
    let src = if insn.code & op::X != 0 {
        format!("{r}{}", insn.src)
    } else {
        format!("{:#x}", insn.imm)
    };
    format!("if {r}{} {symbol} {src} goto {:+}", insn.dst, insn.off)
}

fn call(insn: Insn, at: usize, symbols: &dyn Symbols) -> String {
    match insn.src {
        op::PSEUDO_CALL => {
            let target = (at as i64 + 1 + i64::from(insn.imm)) as usize;
            match symbols.func(target) {
                Some(name) => format!("call {name}"),
                None => format!("call pc{:+}", insn.imm),
            }
        }
        op::PSEUDO_KFUNC_CALL => format!("call kfunc#{}", insn.imm),
        _ => match Helper::from_id(insn.imm) {
            Some(helper) => format!("call {}#{}", helper.name(), insn.imm),
            None => format!("call unknown#{}", insn.imm),
        },
    }
}

fn atomic(insn: Insn) -> String {
    let bits = if insn.code & 0x18 == op::DW { 64 } else { 32 };
    let place = format!("(u{bits} *)(r{} {})", insn.dst, signed(insn.off.into()));
    let src = format!("r{}", insn.src);
    let (name, symbol) = match insn.imm & 0xf0 {
        0xe0 => return format!("{src} = atomic{bits}_xchg({place}, {src})"),
        0xf0 => return format!("r0 = atomic{bits}_cmpxchg({place}, r0, {src})"),
        n if n == i32::from(op::ADD) => ("add", "+"),
        n if n == i32::from(op::AND) => ("and", "&"),
        n if n == i32::from(op::OR) => ("or", "|"),
        n if n == i32::from(op::XOR) => ("xor", "^"),
        _ => return unknown(insn),
    };
    if insn.imm & op::FETCH != 0 {
        format!("{src} = atomic{bits}_fetch_{name}({place}, {src})")
    } else {
        format!("lock *{place} {symbol}= {src}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> String {
        let insn = Insn {
            code,
            dst,
            src,
            off,
            imm,
        };
        one(insn, 0, &NoSymbols)
    }

    #[test]
    fn the_text_is_the_kernels() {
        use op::*;
        assert_eq!(text(LDX | MEM | DW, 1, 1, 112, 0), "r1 = *(u64 *)(r1 + 112)");
        assert_eq!(text(LDX | MEMSX | H, 1, 10, -2, 0), "r1 = *(s16 *)(r10 - 2)");
        assert_eq!(text(STX | MEM | W, 10, 3, -4, 0), "*(u32 *)(r10 - 4) = r3");
        assert_eq!(text(ST | MEM | B, 10, 0, -1, 7), "*(u8 *)(r10 - 1) = 7");
        assert_eq!(text(ALU64 | MOV | X, 1, 10, 0, 0), "r1 = r10");
        assert_eq!(text(ALU | ADD | K, 1, 0, 0, -5), "w1 += -5");
        assert_eq!(text(ALU64 | DIV | X, 1, 2, 1, 0), "r1 s/= r2");
        assert_eq!(text(ALU64 | MOV | X, 1, 2, 16, 0), "r1 = (s16)r2");
        assert_eq!(text(ALU | END | TO_BE, 4, 0, 0, 16), "r4 = be16 r4");
        assert_eq!(text(JMP | JEQ | K, 1, 0, 3, 0), "if r1 == 0x0 goto +3");
        assert_eq!(text(JMP32 | JSGT | X, 1, 2, -3, 0), "if w1 s> w2 goto -3");
        assert_eq!(text(JMP | JA, 0, 0, 9, 0), "goto +9");
        assert_eq!(text(JMP | JCOND, 0, 0, 9, 0), "may_goto +9");
        assert_eq!(text(JMP | CALL, 0, 0, 0, 113), "call bpf_probe_read_kernel#113");
        assert_eq!(text(JMP | CALL, 0, 1, 0, 7), "call pc+7");
        assert_eq!(text(JMP | EXIT, 0, 0, 0, 0), "exit");
        assert_eq!(text(STX | ATOMIC | DW, 1, 2, 0, 0), "lock *(u64 *)(r1 + 0) += r2");
        assert_eq!(
            text(STX | ATOMIC | W, 1, 2, 4, 1),
            "r2 = atomic32_fetch_add((u32 *)(r1 + 4), r2)"
        );
        assert_eq!(
            text(STX | ATOMIC | DW, 1, 2, 0, XCHG),
            "r2 = atomic64_xchg((u64 *)(r1 + 0), r2)"
        );
    }

    #[test]
    fn a_wide_immediate_is_one_line() {
        let insns = [
            Insn {
                code: op::LD_IMM64,
                dst: 3,
                imm: 0x5566_7788,
                ..Insn::default()
            },
            Insn {
                imm: 0x1122_3344,
                ..Insn::default()
            },
            Insn {
                code: op::JMP | op::EXIT,
                ..Insn::default()
            },
        ];
        assert_eq!(
            disassemble(&insns, &NoSymbols),
            "   0: r3 = 0x1122334455667788 ll\n   2: exit\n"
        );
    }
}
