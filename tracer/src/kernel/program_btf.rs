//! The BTF of our own programs: names and shapes of their functions, no more.
//!
//! The kernel asks for it where a program hands one of its functions to a helper (5.13+). Layout: `struct btf_header`,
//! types, strings, as in Documentation/bpf/btf.rst of the kernel.

use std::os::fd::OwnedFd;

use ktrail_ebpf::codegen::Object;

use super::sys::{self, BtfLoad, Command, SysError, addr_of};

const MAGIC: u16 = 0xeb9f;
const HEADER: u32 = 24;
const KIND_INT: u32 = 1 << 24;
const KIND_FUNC: u32 = 12 << 24;
const KIND_FUNC_PROTO: u32 = 13 << 24;
/// The only integer, of 64 bits.
const U64: u32 = 1;
/// `BTF_FUNC_GLOBAL`; 0 is static, what functions that helpers call must be.
const GLOBAL: u32 = 1;

/// A program's BTF in the kernel, with the `struct bpf_func_info` of each function.
pub struct ProgramBtf {
    /// Must stay open until the program is loaded.
    pub fd: OwnedFd,
    /// Instruction and type of each function.
    pub functions: Vec<[u32; 2]>,
}

impl ProgramBtf {
    /// Load what describes `object`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn load(object: &Object) -> Result<ProgramBtf, SysError> {
        let (bytes, functions) = describe(object);
        let mut attr = BtfLoad {
            btf: addr_of(&bytes),
            btf_size: bytes.len() as u32,
            ..BtfLoad::default()
        };
        let fd = sys::bpf_fd(Command::BtfLoad, &mut attr)?;
        Ok(ProgramBtf { fd, functions })
    }
}

/// The BTF of an object, and which type each function has.
fn describe(object: &Object) -> (Vec<u8>, Vec<[u32; 2]>) {
    let mut strings = vec![0_u8];
    let mut string = |text: &str| {
        let at = strings.len() as u32;
        strings.extend(
            text.bytes()
                .map(|b| if b.is_ascii_alphanumeric() { b } else { b'_' }),
        );
        strings.push(0);
        at
    };
    let param = string("a");
    // Size in bytes, then the bits of the value.
    let mut types = vec![string("u64"), KIND_INT, 8, 64];
    let mut functions = vec![];
    let mut next = U64 + 1;
    for (i, func) in object.funcs.iter().enumerate() {
        types.extend([0, KIND_FUNC_PROTO | func.params as u32, U64]);
        for _ in 0..func.params {
            types.extend([param, U64]);
        }
        let linkage = if i == 0 { GLOBAL } else { 0 };
        types.extend([string(&func.name), KIND_FUNC | linkage, next]);
        functions.push([func.insn as u32, next + 1]);
        next += 2;
    }
    let len = 4 * types.len() as u32;
    let mut bytes = MAGIC.to_ne_bytes().to_vec();
    // Version 1, no flags.
    bytes.extend([1, 0]);
    let header = [HEADER, 0, len, len, strings.len() as u32];
    bytes.extend(header.iter().chain(&types).flat_map(|word| word.to_ne_bytes()));
    bytes.extend(strings);
    (bytes, functions)
}

#[cfg(test)]
mod tests {
    use ktrail_ebpf::codegen::FuncInfo;
    use ktrail_ebpf::ir::ProgramKind;

    use super::*;

    #[test]
    fn the_parts_are_where_the_header_says() {
        let func = |insn, name: &str, params| FuncInfo {
            insn,
            name: name.into(),
            params,
        };
        let object = Object {
            name: "p0".into(),
            kind: ProgramKind::Kprobe,
            insns: vec![],
            spans: vec![],
            relocs: vec![],
            maps: vec![],
            funcs: vec![func(0, "p0", 0), func(9, "p0.each", 4)],
        };
        let (bytes, functions) = describe(&object);
        assert_eq!(functions, [[0, 3], [9, 5]]);
        let word = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
        let (types, strings) = (word(12), word(20));
        assert_eq!(bytes.len() as u32, HEADER + types + strings);
        // An integer, a prototype and a function, the same with four parameters of eight bytes.
        assert_eq!(types, 16 + 12 + 12 + 12 + 4 * 8 + 12);
        assert!(bytes.ends_with(b"\0p0_each\0"));
    }
}
