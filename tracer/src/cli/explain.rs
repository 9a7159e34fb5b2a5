//! `ktrail explain`.

use std::collections::HashSet;
use std::io::{self, Write as _};

use super::Usage;
use crate::kernel::btf::{KernelBtf, prototype};
use crate::trace::knowledge::{self, Layer, knowledge};
use crate::trace::reasons;
use crate::trace::render::Reasons;

/// Say what a kernel function does on a packet's way
///
/// Prints its layer, what it does, its prototype on this kernel, what usually comes before and after it, and what it
/// means when a packet's journey ends there. A tracepoint's name has `tp:` before it. Names may be as journeys and symbol
/// tables have them: with a module behind, or the suffix of a part that the compiler made (`.part.0`, `.cold`).
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Functions, or tracepoints with `tp:` before their names
    #[arg(value_name = "FUNCTION", required_unless_present_any = ["known", "layers", "reasons"])]
    functions: Vec<String>,

    /// Print the names that ktrail knows and this kernel has, with their layers, instead
    #[arg(long, conflicts_with = "functions")]
    known: bool,

    /// Print the layers, instead
    #[arg(long, conflicts_with_all = ["functions", "known"])]
    layers: bool,

    /// Print this kernel's reasons for drops (5.17+) instead, with those of subsystems whose modules are loaded (6.4+)
    #[arg(long, conflicts_with_all = ["functions", "known", "layers"])]
    reasons: bool,
}

const EXAMPLES: &str = "\
Examples:
  ktrail explain nf_hook_slow
  ktrail explain ip_forward tp:kfree_skb";

/// Run the subcommand.
pub fn main(args: &Args) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    if args.layers {
        for layer in Layer::all() {
            writeln!(out, "{:<9}  {}", layer.name(), layer.about())?;
        }
        return Ok(());
    }
    if args.reasons {
        let (reasons, subsystems) = reasons::of(&KernelBtf::load()?);
        for (number, name) in Reasons::new(reasons).with_subsystems(subsystems).all() {
            // Ends and masks of the enums, which no packet is dropped for.
            if name.ends_with("MAX") || name.starts_with("__") || name == "SUBSYS_MASK" {
                continue;
            }
            let words = knowledge::reason(name)
                .map(knowledge::in_general)
                .unwrap_or_default();
            writeln!(out, "{}", format!("{number:>7}  {name:<28}  {words}").trim_end())?;
        }
        return Ok(());
    }
    // What functions do can be said without their prototypes.
    let btf = KernelBtf::load();
    if args.known {
        let btf = btf?;
        // Looked up one by one, each would be a walk over all types.
        let functions: HashSet<String> = btf.functions().into_iter().map(|(name, _)| name).collect();
        let here = |name: &&str| match name.strip_prefix("tp:") {
            Some(name) => btf.tracepoint(name).is_some(),
            None => functions.contains(*name),
        };
        let mut names: Vec<&str> = knowledge().names().filter(here).collect();
        names.sort_unstable();
        for name in names {
            writeln!(out, "{:<9}  {name}", knowledge().layer(name, "").name())?;
        }
        return Ok(());
    }
    if let Err(lacking) = &btf {
        eprintln!("ktrail: no prototypes: {lacking}");
    }
    let btf = btf.ok();
    let mut unknown = vec![];
    for given in &args.functions {
        let (name, part) = plain(given);
        match explain(name, btf.as_ref()) {
            Some(text) => writeln!(out, "{text}{}", part.unwrap_or_default())?,
            None => unknown.push(unknown_name(given, btf.as_ref())),
        }
    }
    match unknown.is_empty() {
        true => Ok(()),
        false => Err(Usage(unknown.join("\nktrail: ")).into()),
    }
}

/// A function's own name, of what journeys (`nft_do_chain [nf_tables]`) and symbol tables (`tcp_v4_rcv.part.0`) call it; and a
/// line about the suffix, if it has one.
fn plain(given: &str) -> (&str, Option<String>) {
    let name = match given.split_once(" [") {
        Some((name, module)) if module.ends_with(']') => name,
        _ => given,
    };
    match name.split_once('.') {
        Some((base, suffix)) if !base.is_empty() => {
            let part = format!(
                "  {:<9}  .{suffix}: the compiler's, for a part or a variant of it\n",
                "suffix"
            );
            (base, Some(part))
        }
        _ => (name, None),
    }
}

/// A tracepoint's arguments, with their names, where the kernel has a function that calls who listens (5.11+).
fn arguments(btf: &KernelBtf, tracepoint: &str) -> Option<String> {
    let caller = btf.function(None, &format!("__traceiter_{tracepoint}"))?;
    let text = prototype(btf, caller)?;
    let (_, arguments) = text.split_once("(void *__data")?;
    Some(format!("{tracepoint}({}", arguments.trim_start_matches(", ")))
}

fn has(btf: &KernelBtf, name: &str) -> bool {
    match name.strip_prefix("tp:") {
        Some(name) => btf.tracepoint(name).is_some(),
        None => btf.function(None, name).is_some(),
    }
}

/// All that is known of a function; none if neither ktrail nor this kernel knows it.
fn explain(name: &str, btf: Option<&KernelBtf>) -> Option<String> {
    let bare = name.strip_prefix("tp:");
    let function = btf.and_then(|btf| match bare {
        Some(_) => None,
        None => Some((btf, btf.function(None, name)?)),
    });
    let here = btf.map(|btf| has(btf, name));
    let entry = knowledge().get(name);
    let seen = knowledge::seen(name);
    if entry.is_none() && here != Some(true) {
        return None;
    }
    let module = match &function {
        Some((btf, id)) => btf.module(*id).to_owned(),
        None => seen
            .as_ref()
            .and_then(|seen| seen.module)
            .unwrap_or_default()
            .to_owned(),
    };
    let layer = entry.map_or_else(|| knowledge().layer(name, &module), |entry| entry.layer);
    let mut text = format!("{name}\n");
    let mut line = |label: &str, rest: &str| text.push_str(&format!("  {label:<9}  {rest}\n"));
    match layer.about().strip_prefix(layer.name()) {
        Some(_) => line("layer", layer.about()),
        None => line("layer", &format!("{}: {}", layer.name(), layer.about())),
    }
    match entry {
        Some(entry) => line("does", entry.role),
        None if layer == Layer::OTHER => line("does", "not described"),
        None => line("does", "not described; its layer is guessed from its name"),
    }
    if !module.is_empty() {
        line("module", &module);
    }
    if let Some(prototype) = function.and_then(|(btf, id)| prototype(btf, id)) {
        line("prototype", &prototype);
    }
    if let Some(arguments) = btf.zip(bare).and_then(|(btf, name)| arguments(btf, name)) {
        line("arguments", &arguments);
    }
    let (before, after) = knowledge::neighbours(name);
    for (label, names) in [("before", before), ("after", after)] {
        if !names.is_empty() {
            line(label, &names.join(", "));
        }
    }
    if let Some(end) = entry.and_then(|entry| entry.end) {
        line("an end", &format!("here means: {}", knowledge::in_general(end)));
    }
    if let (Some(false), Some(seen)) = (here, &seen) {
        let loaded = match seen.module {
            Some(module) => format!("not here, or its module {module} is not loaded"),
            None => "not in this kernel".to_owned(),
        };
        line(
            "kernels",
            &format!("{loaded}; seen in Linux {}", seen.kernels.join(", ")),
        );
    }
    Some(text)
}

/// What to say of a name that nobody knows, with what may have been meant.
fn unknown_name(name: &str, btf: Option<&KernelBtf>) -> String {
    let mut near = knowledge::similar(name, knowledge().names());
    let functions = btf.map(KernelBtf::functions).unwrap_or_default();
    if near.is_empty() {
        near = knowledge::similar(name, functions.iter().map(|(name, _)| name.as_str()));
    }
    let meant = match near.is_empty() {
        true => "`ktrail list` shows what takes a packet here".to_owned(),
        false => format!("did you mean {}?", near.join(", ")),
    };
    format!("no function {name:?}, neither in this kernel nor among those that ktrail knows: {meant}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_be_as_they_are_printed() {
        assert_eq!(plain("nft_do_chain [nf_tables]"), ("nft_do_chain", None));
        assert_eq!(plain("tp:kfree_skb"), ("tp:kfree_skb", None));
        let (name, part) = plain("tcp_v4_rcv.part.0");
        assert_eq!(name, "tcp_v4_rcv");
        assert!(part.unwrap().contains(".part.0: "));
        assert_eq!(plain("a [b"), ("a [b", None));
    }

    #[test]
    fn tracepoints_have_arguments() {
        let btf = match KernelBtf::load() {
            Ok(btf) => btf,
            Err(e) => return eprintln!("ktrail-test-skip: tracepoints_have_arguments: {e}"),
        };
        if btf.function(None, "__traceiter_kfree_skb").is_none() {
            return eprintln!(
                "ktrail-test-skip: tracepoints_have_arguments: before Linux 5.11 they have no names"
            );
        }
        let text = arguments(&btf, "kfree_skb").unwrap();
        assert!(text.starts_with("kfree_skb(struct sk_buff *skb, "), "{text}");
    }

    #[test]
    fn a_function_is_explained_without_its_kernel() {
        let text = explain("nft_do_chain", None).unwrap();
        for part in [
            "netfilter",
            "  does       walks",
            "module     nf_tables",
            "before     nft_do_chain_ipv4",
            "an end",
        ] {
            assert!(text.contains(part), "{part} is missing in:\n{text}");
        }
        assert_eq!(explain("no_such_function", None), None);
    }

    #[test]
    fn what_may_have_been_meant_is_named() {
        assert!(unknown_name("nf_hok_slow", None).contains("did you mean nf_hook_slow"));
        assert!(unknown_name("zzzzzz", None).contains("ktrail list"));
    }
}
