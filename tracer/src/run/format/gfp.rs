//! `%gr`: the flags by which the kernel's memory is asked for, by name.
//!
//! Named are those whose bits are the same on all kernels from 5.10 on (include/linux/gfp_types.h, before 6.0 gfp.h); the
//! bits above them depend on how the kernel was built, so they are printed as a number, as all that have no name.

/// From those of several bits to single ones, as the kernel's own tracing has them in order.
const FLAGS: &[(u64, &str)] = &[
    (0x1c_24ca, "GFP_TRANSHUGE"),
    (0x1c_20ca, "GFP_TRANSHUGE_LIGHT"),
    (0x10_0cca, "GFP_HIGHUSER_MOVABLE"),
    (0x10_0cc2, "GFP_HIGHUSER"),
    (0x10_0cc0, "GFP_USER"),
    (0x40_0cc0, "GFP_KERNEL_ACCOUNT"),
    (0xcc0, "GFP_KERNEL"),
    (0xc40, "GFP_NOFS"),
    (0x820, "GFP_ATOMIC"),
    (0xc00, "GFP_NOIO"),
    (0x2800, "GFP_NOWAIT"),
    (0x1, "GFP_DMA"),
    (0x2, "__GFP_HIGHMEM"),
    (0x4, "GFP_DMA32"),
    (0x8, "__GFP_MOVABLE"),
    (0x10, "__GFP_RECLAIMABLE"),
    (0x20, "__GFP_HIGH"),
    (0x40, "__GFP_IO"),
    (0x80, "__GFP_FS"),
    (0x100, "__GFP_ZERO"),
    (0x400, "__GFP_DIRECT_RECLAIM"),
    (0x800, "__GFP_KSWAPD_RECLAIM"),
    (0x1000, "__GFP_WRITE"),
    (0x2000, "__GFP_NOWARN"),
    (0x4000, "__GFP_RETRY_MAYFAIL"),
    (0x8000, "__GFP_NOFAIL"),
    (0x1_0000, "__GFP_NORETRY"),
    (0x2_0000, "__GFP_MEMALLOC"),
    (0x4_0000, "__GFP_COMP"),
    (0x8_0000, "__GFP_NOMEMALLOC"),
    (0x10_0000, "__GFP_HARDWALL"),
    (0x20_0000, "__GFP_THISNODE"),
    (0x40_0000, "__GFP_ACCOUNT"),
];

/// The names of the flags in `n`, and as a number what has none.
pub fn names(mut n: u64) -> String {
    if n == 0 {
        return "0".into();
    }
    let mut parts = Vec::new();
    for (bits, name) in FLAGS {
        if n & bits == *bits {
            n &= !bits;
            parts.push((*name).to_string());
        }
    }
    if n != 0 {
        parts.push(format!("{n:#x}"));
    }
    parts.join("|")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What bpftrace 0.27.1 prints.
    #[test]
    fn flags_have_names() {
        for (n, text) in [
            (0, "0"),
            (0xcc0, "GFP_KERNEL"),
            (0x40_0cc0, "GFP_KERNEL_ACCOUNT"),
            (0xdc0, "GFP_KERNEL|__GFP_ZERO"),
            (0x820, "GFP_ATOMIC"),
            (0x2a20, "GFP_ATOMIC|__GFP_NOWARN|0x200"),
            (0x800, "__GFP_KSWAPD_RECLAIM"),
            (0x2800, "GFP_NOWAIT"),
            (0xd40, "GFP_NOFS|__GFP_ZERO"),
            (0xcc1, "GFP_KERNEL|GFP_DMA"),
            (0x10_0cc2, "GFP_HIGHUSER"),
            (0x800_0000, "0x8000000"),
        ] {
            assert_eq!(names(n), text, "{n:#x}");
        }
    }

    /// Which bpftrace doesn't name.
    #[test]
    fn movable_memory_has_a_name() {
        assert_eq!(names(0x14_0dca), "GFP_HIGHUSER_MOVABLE|__GFP_ZERO|__GFP_COMP");
        assert_eq!(names(0x10), "__GFP_RECLAIMABLE");
    }
}
