//! `ktrail list`.

use std::fmt::Write as _;

use anyhow::anyhow;
use regex::Regex;

use super::Usage;
use crate::kernel::btf::{Indirection, KernelBtf};
use crate::kernel::features::Features;
use crate::kernel::probeable::{self, Rules};
use crate::kernel::symbols::Symbols;
use crate::say;

/// List the kernel's functions and tracepoints that take a packet
///
/// One line each: what it is, its name and module, and which argument is the packet's skb, from 0. `skb**` is a
/// pointer to a pointer.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only those whose whole name matches
    #[arg(value_name = "REGEX")]
    pattern: Option<String>,

    /// Those that can't be attached to, each with its reason, instead of those that can
    #[arg(long)]
    skipped: bool,
}

/// Run it.
pub fn main(args: &Args) -> anyhow::Result<()> {
    let pattern = match &args.pattern {
        Some(pattern) => Some(
            Regex::new(&format!("^(?:{pattern})$"))
                .map_err(|e| Usage(format!("{pattern:?} is no pattern: {e}")))?,
        ),
        None => None,
    };
    let wanted = |name: &str| pattern.as_ref().is_none_or(|p| p.is_match(name));
    let btf = KernelBtf::load()?;
    let features = Features::probe(&btf)?;
    let mut text = String::new();
    let mut line = |kind: &str, name: &str, module: &str, rest: &str| {
        let name = match module {
            "" => name.to_owned(),
            module => format!("{name} [{module}]"),
        };
        // Writing to a string does not fail.
        let _ = writeln!(text, "{kind:<10}  {name:<40}  {rest}");
    };
    let stars = |indirection| match indirection {
        Indirection::Skb => "skb*",
        Indirection::SkbPtrPtr => "skb**",
        Indirection::Pktinfo => "nft_pktinfo*",
    };

    if let (Err(lacking), Err(_)) = (&features.kprobe, &features.kprobe_multi) {
        eprintln!("ktrail: {lacking}; functions can't be attached to");
    } else {
        let rules = Rules::load(&btf, &features.codegen, features.kprobe_multi.is_err(), &[]);
        let selection = probeable::select(btf.skb_functions(), &Symbols::load()?, &rules);
        if args.skipped {
            for skipped in selection.skipped.iter().filter(|s| wanted(&s.name)) {
                line(
                    "function",
                    &skipped.name,
                    &skipped.module,
                    &skipped.reason.to_string(),
                );
            }
        } else {
            let mut functions: Vec<_> = selection.places.iter().map(|p| &p.function).collect();
            functions.retain(|f| wanted(&f.name));
            functions.sort_by_key(|f| (&f.module, &f.name));
            for f in functions {
                let arg = f.arg.map_or_else(|| "-".into(), |a| a.to_string());
                line(
                    "function",
                    &f.name,
                    &f.module,
                    &format!("{arg} {}", stars(f.indirection)),
                );
            }
        }
    }
    if !args.skipped {
        for t in btf.skb_tracepoints().iter().filter(|t| wanted(&t.name)) {
            line(
                "tracepoint",
                &t.name,
                &t.module,
                &format!("{} {}", t.arg, stars(t.indirection)),
            );
        }
    }
    if let (true, Some(pattern)) = (text.is_empty(), &args.pattern) {
        return Err(anyhow!(
            "nothing that takes a packet matches {pattern:?} as a whole name; it is a regular expression: \
            any characters are `.*`"
        ));
    }
    say::stdout(&text)?;
    Ok(())
}
