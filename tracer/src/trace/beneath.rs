//! Functions that take no packet but are to be seen where they run on behalf of one: what was asked for by name, and
//! what it returns.
//!
//! Deliberately absent: how it is known on whose behalf they run ([`super::program::beneath`]).

use std::collections::BTreeSet;

use ktrail_ebpf::kernel::{KType, TypeId, Types, field};
use ktrail_ebpf::nearest::nearest;

use super::event::{Point, PointKind, Returned};
use super::session::{Backend, Kernel};
use crate::kernel::btf::{Indirection, KernelBtf, SkbFunction};
use crate::kernel::probeable::{self, Reason, Rules};

/// A function that is to be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// As events name it.
    pub point: Point,
    /// Where it starts. More than one place if several static functions have that name.
    pub places: Vec<u64>,
    /// What it returns.
    pub returns: Returns,
}

/// A function's return type, as far as it matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Returns {
    /// `void`, or a struct.
    Nothing,
    /// `bool`.
    Truth,
    /// An integer or an enum.
    Number {
        /// Bytes.
        size: u32,
        /// Signed.
        signed: bool,
    },
    /// A pointer, or not known.
    #[default]
    Address,
}

impl Returns {
    /// What the register holds.
    pub fn value(self, raw: u64) -> Returned {
        match self {
            Returns::Nothing => Returned::Nothing,
            // The callee may leave what it likes in the upper bits.
            Returns::Truth => Returned::Truth(raw & 0xff != 0),
            Returns::Number { size, signed } => {
                let unused = 64 - 8 * size.clamp(1, 8);
                match signed {
                    true => Returned::Signed(((raw << unused) as i64) >> unused),
                    false => Returned::Unsigned(raw << unused >> unused),
                }
            }
            Returns::Address => Returned::Address(raw),
        }
    }

    fn of(types: &dyn Types, function: TypeId) -> Returns {
        let Some(KType::Func { proto, .. }) = types.get(function) else {
            return Returns::Address;
        };
        let Some(KType::Proto { returns, .. }) = types.get(proto) else {
            return Returns::Address;
        };
        match types.get(field::strip(types, returns)) {
            Some(KType::Int { boolean: true, .. }) => Returns::Truth,
            Some(KType::Int { size, signed, .. } | KType::Enum { size, signed, .. }) if size <= 8 => {
                Returns::Number { size, signed }
            }
            Some(KType::Void | KType::Struct { .. } | KType::Int { .. }) => Returns::Nothing,
            _ => Returns::Address,
        }
    }
}

/// Why a function can't be seen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// There is none.
    #[error("--beneath {name}: this kernel has no such function{}", meant(.suggestion))]
    Unknown {
        /// The name.
        name: String,
        /// What was probably meant.
        suggestion: Option<String>,
    },
    /// It is in journeys anyway.
    #[error(
        "--beneath {0}: it takes a packet, so that it is in the packet's journey by itself; leave it out"
    )]
    TakesPackets(String),
    /// It can't be attached.
    #[error("--beneath {name}: it can't be probed on this kernel: {reason}; see `ktrail list` for what can")]
    NotProbeable {
        /// The name.
        name: String,
        /// Why.
        reason: Reason,
    },
}

fn meant(suggestion: &Option<String>) -> String {
    suggestion
        .as_ref()
        .map(|name| format!("; did you mean {name:?}?"))
        .unwrap_or_default()
}

/// The functions of these names.
///
/// # Errors
/// The first that can't be seen.
pub fn find(kernel: &Kernel, backend: Option<Backend>, names: &[String]) -> Result<Vec<Function>, Unfit> {
    let names: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    let taking: BTreeSet<&str> = kernel
        .btf
        .skb_functions()
        .iter()
        .map(|f| f.name.as_str())
        .collect();
    if let Some(name) = names.iter().find(|name| taking.contains(*name)) {
        return Err(Unfit::TakesPackets((*name).into()));
    }
    let symbols = kernel.symbols.named_each(names.iter().copied());
    let mut wanted = vec![];
    for name in &names {
        let id = kernel.btf.function(None, name);
        let module = match (id, symbols.get(name).and_then(|found| found.first())) {
            (Some(id), _) => kernel.btf.module(id),
            (None, Some(code)) => &code.module,
            (None, None) => {
                return Err(Unfit::Unknown {
                    name: (*name).into(),
                    suggestion: suggestion(&kernel.btf, name),
                });
            }
        };
        wanted.push(SkbFunction {
            name: (*name).into(),
            module: module.into(),
            id: id.unwrap_or(TypeId { object: 0, id: 0 }),
            // Where a packet would be: asked of functions that take one.
            arg: Some(0),
            indirection: Indirection::Skb,
            constant: false,
            params: 0,
            trampoline: false,
        });
    }
    let kprobes = backend == Some(Backend::Kprobe) || kernel.features.kprobe_multi.is_err();
    let rules = Rules::load_for(&kernel.btf, &kernel.features.codegen, kprobes, &wanted, &[]);
    let selection = probeable::select(&wanted, &kernel.symbols, &rules);
    if let Some(skipped) = selection.skipped.into_iter().next() {
        return Err(Unfit::NotProbeable {
            name: skipped.name,
            reason: skipped.reason,
        });
    }
    let function = |wanted: &SkbFunction| Function {
        point: Point {
            name: wanted.name.clone(),
            module: wanted.module.clone(),
            kind: PointKind::Function,
            quiet: false,
        },
        places: selection
            .places
            .iter()
            .filter(|place| place.function.name == wanted.name)
            .map(|place| place.addr)
            .collect(),
        returns: match wanted.id.id {
            0 => Returns::default(),
            _ => Returns::of(&kernel.btf, wanted.id),
        },
    };
    Ok(wanted.iter().map(function).collect())
}

/// What was probably meant: among the kernel's 50,000 functions only those that begin or end alike are looked at.
fn suggestion(btf: &KernelBtf, name: &str) -> Option<String> {
    const ALIKE: usize = 3;
    let bytes = name.as_bytes();
    let (first, last) = (bytes.first_chunk::<ALIKE>()?, bytes.last_chunk::<ALIKE>()?);
    let functions = btf.functions();
    let alike = functions.iter().map(|(name, _)| name.as_str()).filter(|other| {
        other.len().abs_diff(name.len()) <= 2
            && (other.as_bytes().starts_with(first) || other.as_bytes().ends_with(last))
    });
    nearest(name, alike).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_are_read_as_their_types_say() {
        let number = |size, signed| Returns::Number { size, signed };
        let all_ones = u64::MAX - 10;
        assert_eq!(number(4, true).value(0xffff_fff5), Returned::Signed(-11));
        assert_eq!(number(4, false).value(all_ones), Returned::Unsigned(0xffff_fff5));
        assert_eq!(number(8, true).value(all_ones), Returned::Signed(-11));
        assert_eq!(number(1, false).value(0x1ff), Returned::Unsigned(255));
        assert_eq!(Returns::Truth.value(0xff00), Returned::Truth(false));
        assert_eq!(Returns::Truth.value(0xff01), Returned::Truth(true));
        assert_eq!(Returns::Nothing.value(7), Returned::Nothing);
        assert_eq!(Returns::default().value(7), Returned::Address(7));
    }

    #[test]
    fn errors_name_the_way_out() {
        let unknown = Unfit::Unknown {
            name: "fib_table_lokup".into(),
            suggestion: Some("fib_table_lookup".into()),
        };
        assert_eq!(
            unknown.to_string(),
            "--beneath fib_table_lokup: this kernel has no such function; did you mean \"fib_table_lookup\"?"
        );
        let inlined = Unfit::NotProbeable {
            name: "fib_lookup".into(),
            reason: Reason::NotInSymbols,
        };
        assert!(
            inlined
                .to_string()
                .contains("inlined, or renamed by the compiler")
        );
    }
}
