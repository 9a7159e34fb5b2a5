//! The stock Debian kernels that the lab boots, by short stable names.

use clap::ValueEnum;
use std::fmt;

/// A kernel of the lab. Its exact release is whatever Debian's newest package of the series is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Kernel {
    /// Debian 11's: no FPROBE, no `bpf_get_func_ip`, no drop reasons.
    #[value(name = "5.10")]
    V5_10,
    /// Debian 12's: no FPROBE.
    #[value(name = "6.1")]
    V6_1,
    /// Debian 12's from its backports: FPROBE and kprobe.session.
    #[value(name = "6.12")]
    V6_12,
    /// The newest 7.x in Debian 13's backports.
    #[value(name = "7")]
    V7,
}

impl Kernel {
    /// All of them, oldest first.
    pub const ALL: [Self; 4] = [Self::V5_10, Self::V6_1, Self::V6_12, Self::V7];

    /// The short name, as on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::V5_10 => "5.10",
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
            Self::V7 => "7",
        }
    }

    /// What stands before and after the part of the release that moves with each update.
    pub(crate) fn release_pattern(self) -> (&'static str, &'static str) {
        match self {
            Self::V5_10 => ("5.10.0-", "-cloud-amd64"),
            Self::V6_1 => ("6.1.0-", "-cloud-amd64"),
            Self::V6_12 => ("6.12.", "+deb12-cloud-amd64"),
            Self::V7 => ("7.", "+deb13-cloud-amd64"),
        }
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
