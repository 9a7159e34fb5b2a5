//! What takes a packet: functions and tracepoints with an skb among their arguments, by prototype.

use std::collections::HashMap;

use ktrail_ebpf::kernel::TypeId;

use super::raw::{View, kind};

/// How an argument refers to an skb.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Indirection {
    /// `struct sk_buff *`, const or not.
    Skb,
    /// `struct sk_buff **`: where a pointer to one is or will be.
    SkbPtrPtr,
    /// `struct nft_pktinfo *`, whose first member is a `struct sk_buff *`. Only the functions in [`DECIDING`] count.
    Pktinfo,
}

/// nftables' expressions that end a rule with a verdict. Other functions that take a `struct nft_pktinfo *` run for each
/// comparison of each rule.
pub(super) const DECIDING: &[&str] = &[
    "nft_immediate_eval",
    "nft_reject_ipv4_eval",
    "nft_reject_ipv6_eval",
    "nft_reject_inet_eval",
    "nft_reject_bridge_eval",
    "nft_reject_netdev_eval",
];

/// A function with an skb among its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkbFunction {
    /// Its name.
    pub name: String,
    /// The module that it is in; empty for the kernel itself.
    pub module: String,
    /// Its BTF id.
    pub id: TypeId,
    /// The first argument that is an skb, from 0, as programs count: a struct of 9 to 16 bytes passed by value
    /// takes two places, a larger one none (System V ABI for x86-64). None if it does not come in a register.
    pub arg: Option<u8>,
    /// How that argument refers to it.
    pub indirection: Indirection,
    /// The skb is declared `const`.
    pub constant: bool,
    /// Parameters in its prototype.
    pub params: u8,
    /// The kernel's trampolines can serve it: it is not variadic, has no more than 12 parameters, none of them a large
    /// struct, and returns none.
    pub trampoline: bool,
}

/// A tracepoint that passes an skb.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkbTracepoint {
    /// Its name, such as `kfree_skb`.
    pub name: String,
    /// The module that it is in; empty for the kernel itself.
    pub module: String,
    /// Its BTF typedef, `btf_trace_NAME`: what a `tp_btf` program names as its attach point.
    pub id: TypeId,
    /// Its prototype. The first parameter there is the kernel's own and not among the arguments.
    pub proto: TypeId,
    /// The first argument that is an skb, from 0.
    pub arg: u8,
    /// How that argument refers to it.
    pub indirection: Indirection,
    /// Arguments that it passes.
    pub params: u8,
}

/// Parameters that the kernel's trampolines can pass on (`MAX_BPF_FUNC_ARGS`).
const MOST: usize = 12;

/// Arguments that come in registers: 6 on x86-64, 8 on arm64, as their calling conventions have it.
pub const REGISTERS: u8 = if cfg!(target_arch = "x86_64") { 6 } else { 8 };

/// What a type is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Other,
    Skb { constant: bool },
    SkbPtr { constant: bool },
    SkbPtrPtr { constant: bool },
    Pktinfo,
    PktinfoPtr,
}

/// A prototype with an skb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SkbProto {
    /// Position among the parameters.
    pub position: u8,
    /// Place among the registers.
    pub arg: Option<u8>,
    pub indirection: Indirection,
    pub constant: bool,
    pub params: u8,
    pub trampoline: bool,
}

/// Classifies the prototypes of one BTF object; remembers each type that it has seen.
pub(super) struct Classifier<'a> {
    pub view: View<'a>,
    classes: HashMap<u32, Class>,
}

impl<'a> Classifier<'a> {
    pub(super) fn new(view: View<'a>) -> Self {
        Classifier {
            view,
            classes: HashMap::new(),
        }
    }

    fn class(&mut self, id: u32) -> Class {
        if let Some(class) = self.classes.get(&id) {
            return *class;
        }
        let Some(header) = self.view.header(id) else {
            return Class::Other;
        };
        let class = match header.kind {
            // A module that only uses pointers may have a forward declaration of its own.
            kind::STRUCT | kind::FWD if self.view.name(header.name) == "sk_buff" => {
                Class::Skb { constant: false }
            }
            kind::STRUCT | kind::FWD if self.view.name(header.name) == "nft_pktinfo" => Class::Pktinfo,
            kind::PTR => match self.class(header.size_or_type) {
                Class::Skb { constant } => Class::SkbPtr { constant },
                Class::SkbPtr { constant } => Class::SkbPtrPtr { constant },
                Class::Pktinfo => Class::PktinfoPtr,
                _ => Class::Other,
            },
            kind::CONST => match self.class(header.size_or_type) {
                Class::Skb { .. } => Class::Skb { constant: true },
                other => other,
            },
            kind::VOLATILE | kind::RESTRICT | kind::TYPEDEF | kind::TYPE_TAG => {
                self.class(header.size_or_type)
            }
            _ => Class::Other,
        };
        self.classes.insert(id, class);
        class
    }

    /// What a prototype has of skbs, with its first `skip` parameters left out.
    pub(super) fn proto(&mut self, id: u32, skip: usize) -> Option<SkbProto> {
        let view = self.view;
        let all = view.params(id)?;
        let variadic = all.clone().last() == Some(0);
        let count = (all.len() - usize::from(variadic)).checked_sub(skip)?;
        let params = all.skip(skip).take(count);
        let mut within = None;
        let direct = params.clone().enumerate().find_map(|(i, p)| match self.class(p) {
            Class::SkbPtr { constant } => Some((i, Indirection::Skb, constant)),
            Class::SkbPtrPtr { constant } => Some((i, Indirection::SkbPtrPtr, constant)),
            Class::PktinfoPtr => {
                within.get_or_insert((i, Indirection::Pktinfo, true));
                None
            }
            _ => None,
        });
        let (position, indirection, constant) = direct.or(within)?;
        let before: u8 = params.take(position).map(|p| registers(view, p)).sum();
        Some(SkbProto {
            position: position as u8,
            arg: (before < REGISTERS).then_some(before),
            indirection,
            constant,
            params: count as u8,
            trampoline: trampoline(view, id),
        })
    }
}

/// Whether the kernel's trampolines can serve functions of a prototype: it is not variadic, has no more than 12 parameters,
/// none of them a large struct, and returns none.
pub(super) fn trampoline(view: View<'_>, id: u32) -> bool {
    let Some(mut params) = view.params(id) else {
        return false;
    };
    // An ellipsis is a last parameter without a type.
    let plain = |param| param != 0 && registers(view, param) > 0;
    params.len() <= MOST && params.all(plain) && !returns_struct(view, id)
}

/// Whether what a prototype returns is a struct or a union.
fn returns_struct(view: View<'_>, id: u32) -> bool {
    let Some(header) = view.header(id) else {
        return false;
    };
    match header.kind {
        kind::STRUCT | kind::UNION => true,
        kind::FUNC_PROTO | kind::CONST | kind::VOLATILE | kind::TYPEDEF | kind::TYPE_TAG => {
            returns_struct(view, header.size_or_type)
        }
        _ => false,
    }
}

/// How many registers an argument of that type takes.
fn registers(view: View<'_>, id: u32) -> u8 {
    let Some(header) = view.header(id) else {
        return 1;
    };
    match header.kind {
        kind::STRUCT | kind::UNION => match header.size_or_type {
            1..=8 => 1,
            9..=16 => 2,
            _ => 0,
        },
        kind::INT if header.size_or_type > 8 => 2,
        kind::CONST | kind::VOLATILE | kind::RESTRICT | kind::TYPEDEF | kind::TYPE_TAG => {
            registers(view, header.size_or_type)
        }
        _ => 1,
    }
}
