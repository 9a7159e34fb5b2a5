//! What must hold of the release binary, which is carried to other machines: one file, and small.

use super::report::Report;
use anyhow::{Context, Result};
use std::fs;
use std::path::Path;

const MAX_BYTES: usize = 8_000_000;
/// The program header of a binary that needs a dynamic linker (elf(5)).
const PT_INTERP: u32 = 3;

/// Checks the binary at `path`.
pub fn check(path: &Path, report: &mut Report) -> Result<()> {
    report.suite("release");
    let binary = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    report.check("the binary is static", static_problem(&binary));
    let size = binary.len();
    let problem = (size > MAX_BYTES).then(|| format!("it has {size} bytes of at most {MAX_BYTES}"));
    report.check("the binary has at most 8 MB", problem);
    Ok(())
}

fn static_problem(binary: &[u8]) -> Option<String> {
    match segment_types(binary) {
        None => Some("it is not a 64-bit little-endian ELF file".into()),
        Some(types) if types.contains(&PT_INTERP) => Some("it needs a dynamic linker (PT_INTERP)".into()),
        Some(_) => None,
    }
}

/// The types of an ELF file's program headers.
fn segment_types(binary: &[u8]) -> Option<Vec<u32>> {
    let word = |at: usize, length: usize| -> Option<usize> {
        let bytes = binary.get(at..at.checked_add(length)?)?;
        Some(
            bytes
                .iter()
                .rev()
                .fold(0, |value, byte| value << 8 | usize::from(*byte)),
        )
    };
    if binary.get(..6)? != b"\x7fELF\x02\x01" {
        return None;
    }
    let (offset, size, count) = (word(0x20, 8)?, word(0x36, 2)?, word(0x38, 2)?);
    (0..count)
        .map(|index| u32::try_from(word(offset.checked_add(index * size)?, 4)?).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elf(types: &[u32]) -> Vec<u8> {
        let mut file = vec![0; 64];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[0x20] = 64;
        file[0x36] = 56;
        file[0x38] = types.len() as u8;
        for kind in types {
            file.extend(kind.to_le_bytes());
            file.extend([0; 52]);
        }
        file
    }

    #[test]
    fn an_interpreter_is_found() {
        assert_eq!(static_problem(&elf(&[6, 1, 2])), None);
        assert!(static_problem(&elf(&[6, 3, 1])).unwrap().contains("PT_INTERP"));
    }

    #[test]
    fn what_is_no_elf_file_does_not_pass() {
        assert!(static_problem(b"#!/bin/sh\n").is_some());
        assert!(static_problem(&elf(&[1])[..70]).is_none());
        assert!(static_problem(&elf(&[1])[..66]).is_some());
    }

    #[test]
    fn this_machines_shell_is_dynamic_and_this_test_is_static() {
        assert!(static_problem(&fs::read("/bin/bash").unwrap()).is_some());
        assert_eq!(
            static_problem(&fs::read(std::env::current_exe().unwrap()).unwrap()),
            None
        );
    }
}
