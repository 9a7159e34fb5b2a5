//! The eBPF instruction set: instructions, their encoding, their text, helpers.
//!
//! Numbers and names are those of the kernel's UAPI (`linux/bpf.h`, `linux/bpf_common.h`) and of the BPF
//! instruction set standard (RFC 9669).
//!
//! Deliberately absent: an assembler. Instructions are made by [`crate::codegen`] only.

mod disasm;
mod helper;
pub mod op;

pub use disasm::{NoSymbols, Symbols, disassemble};
pub use helper::{ArgKind, Helper, RetKind, Signature};

/// One eBPF instruction slot, as `struct bpf_insn` of the kernel's UAPI. A 64-bit immediate takes two slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Insn {
    /// Operation code.
    pub code: u8,
    /// Destination register, 0 to 10.
    pub dst: u8,
    /// Source register, 0 to 10, or a pseudo source.
    pub src: u8,
    /// Signed offset.
    pub off: i16,
    /// Signed immediate.
    pub imm: i32,
}

impl Insn {
    /// The 8 bytes of the slot on a little-endian machine.
    pub fn encode(self) -> [u8; 8] {
        let off = self.off.to_le_bytes();
        let imm = self.imm.to_le_bytes();
        let regs = (self.dst & 0xf) | (self.src << 4);
        [self.code, regs, off[0], off[1], imm[0], imm[1], imm[2], imm[3]]
    }

    /// The slot that [`Insn::encode`] gave these bytes.
    pub fn decode(bytes: [u8; 8]) -> Insn {
        Insn {
            code: bytes[0],
            dst: bytes[1] & 0xf,
            src: bytes[1] >> 4,
            off: i16::from_le_bytes([bytes[2], bytes[3]]),
            imm: i32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        }
    }

    /// The instruction class: the low three bits of the operation code.
    pub fn class(self) -> u8 {
        self.code & 7
    }

    /// True for the first of the two slots of a 64-bit immediate.
    pub fn is_wide(self) -> bool {
        self.code == op::LD_IMM64
    }
}

/// The bytes of a program, 8 a slot.
pub fn encode(insns: &[Insn]) -> Vec<u8> {
    insns.iter().flat_map(|insn| insn.encode()).collect()
}

/// The slots of a program; `None` if `bytes` is not a multiple of 8 long.
pub fn decode(bytes: &[u8]) -> Option<Vec<Insn>> {
    let (slots, rest) = bytes.as_chunks::<8>();
    rest.is_empty()
        .then(|| slots.iter().map(|slot| Insn::decode(*slot)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoding_is_the_uapi_layout() {
        // r1 = *(u64 *)(r2 - 8)
        let insn = Insn {
            code: op::LDX | op::MEM | op::DW,
            dst: 1,
            src: 2,
            off: -8,
            imm: 0x1234_5678,
        };
        assert_eq!(insn.encode(), [0x79, 0x21, 0xf8, 0xff, 0x78, 0x56, 0x34, 0x12]);
        assert_eq!(Insn::decode(insn.encode()), insn);
    }

    #[test]
    fn every_byte_survives_a_round_trip() {
        let bytes: Vec<u8> = (0..=255)
            .cycle()
            .take(8 * 1024)
            .map(|b: u8| b.wrapping_mul(37))
            .collect();
        let insns = decode(&bytes).unwrap();
        assert_eq!(encode(&insns), bytes);
        assert_eq!(decode(&bytes[..9]), None);
    }
}
