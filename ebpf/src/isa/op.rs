//! Operation codes and their parts, named as in the kernel's UAPI without the `BPF_` prefix.
#![allow(missing_docs)] // the standard's own names

// Classes: bits 0 to 2.
pub const LD: u8 = 0x00;
pub const LDX: u8 = 0x01;
pub const ST: u8 = 0x02;
pub const STX: u8 = 0x03;
pub const ALU: u8 = 0x04;
pub const JMP: u8 = 0x05;
pub const JMP32: u8 = 0x06;
pub const ALU64: u8 = 0x07;

// Access sizes of loads and stores: bits 3 and 4.
pub const W: u8 = 0x00;
pub const H: u8 = 0x08;
pub const B: u8 = 0x10;
pub const DW: u8 = 0x18;

// Modes of loads and stores: bits 5 to 7.
pub const IMM: u8 = 0x00;
pub const MEM: u8 = 0x60;
/// Sign-extending load: cpu v4 (6.6+).
pub const MEMSX: u8 = 0x80;
pub const ATOMIC: u8 = 0xc0;

/// The first slot of a 64-bit immediate.
pub const LD_IMM64: u8 = LD | IMM | DW;

// The source operand of arithmetic and jumps: bit 3.
pub const K: u8 = 0x00;
pub const X: u8 = 0x08;

// Arithmetic: bits 4 to 7.
pub const ADD: u8 = 0x00;
pub const SUB: u8 = 0x10;
pub const MUL: u8 = 0x20;
/// Signed with offset 1: cpu v4 (6.6+).
pub const DIV: u8 = 0x30;
pub const OR: u8 = 0x40;
pub const AND: u8 = 0x50;
pub const LSH: u8 = 0x60;
pub const RSH: u8 = 0x70;
pub const NEG: u8 = 0x80;
/// Signed with offset 1: cpu v4 (6.6+).
pub const MOD: u8 = 0x90;
pub const XOR: u8 = 0xa0;
/// Sign-extending with offset 8, 16 or 32: cpu v4 (6.6+).
pub const MOV: u8 = 0xb0;
pub const ARSH: u8 = 0xc0;
pub const END: u8 = 0xd0;

/// Source bit of [`END`]: to little-endian.
pub const TO_LE: u8 = 0x00;
/// Source bit of [`END`]: to big-endian.
pub const TO_BE: u8 = 0x08;

// Jumps: bits 4 to 7.
pub const JA: u8 = 0x00;
pub const JEQ: u8 = 0x10;
pub const JGT: u8 = 0x20;
pub const JGE: u8 = 0x30;
pub const JSET: u8 = 0x40;
pub const JNE: u8 = 0x50;
pub const JSGT: u8 = 0x60;
pub const JSGE: u8 = 0x70;
pub const CALL: u8 = 0x80;
pub const EXIT: u8 = 0x90;
pub const JLT: u8 = 0xa0;
pub const JLE: u8 = 0xb0;
pub const JSLT: u8 = 0xc0;
pub const JSLE: u8 = 0xd0;
/// `may_goto` (6.9+).
pub const JCOND: u8 = 0xe0;

// Atomic operations: the immediate of STX | ATOMIC.
pub const FETCH: i32 = 0x01;
pub const XCHG: i32 = 0xe0 | FETCH;
pub const CMPXCHG: i32 = 0xf0 | FETCH;

// Pseudo sources of the 64-bit immediate.
pub const PSEUDO_MAP_FD: u8 = 1;
pub const PSEUDO_MAP_VALUE: u8 = 2;
pub const PSEUDO_FUNC: u8 = 4;

// Pseudo sources of calls.
pub const PSEUDO_CALL: u8 = 1;
pub const PSEUDO_KFUNC_CALL: u8 = 2;
