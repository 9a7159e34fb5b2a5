//! What takes a packet: functions and tracepoints with an skb among their arguments, by prototype.

use std::collections::HashMap;

use btf_rs::{Btf, BtfType, FuncProto, Type};
use ktrail_ebpf::kernel::TypeId;

/// How an argument refers to an skb.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Indirection {
    /// `struct sk_buff *`, const or not.
    Skb,
    /// `struct sk_buff **`: where a pointer to one is or will be.
    SkbPtrPtr,
}

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
    /// It takes more than that, as printf does.
    pub variadic: bool,
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

/// Arguments that come in registers: 6 on x86-64, 8 on arm64, as their calling conventions have it.
pub const REGISTERS: u8 = if cfg!(target_arch = "x86_64") { 6 } else { 8 };

/// What a type is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Other,
    Skb { constant: bool },
    SkbPtr { constant: bool },
    SkbPtrPtr { constant: bool },
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
    pub variadic: bool,
}

/// Classifies the prototypes of one BTF object; remembers each type that it has seen.
pub(super) struct Classifier<'a> {
    btf: &'a Btf,
    /// Ids of `struct sk_buff`: one, unless a module has its own.
    skb: Vec<u32>,
    classes: HashMap<u32, Class>,
}

impl<'a> Classifier<'a> {
    pub(super) fn new(btf: &'a Btf) -> Self {
        let skb = btf
            .resolve_ids_by_name("sk_buff")
            .unwrap_or_default()
            .into_iter()
            .filter(|&id| {
                matches!(
                    btf.resolve_type_by_id(id),
                    // A module that only uses pointers may have a forward declaration of its own.
                    Ok(Type::Struct(_) | Type::Fwd(_))
                )
            })
            .collect();
        Classifier {
            btf,
            skb,
            classes: HashMap::new(),
        }
    }

    fn class(&mut self, id: u32) -> Class {
        if self.skb.contains(&id) {
            return Class::Skb { constant: false };
        }
        if let Some(class) = self.classes.get(&id) {
            return *class;
        }
        let inner = |ty: &dyn BtfType| ty.get_type_id().unwrap_or(0);
        let class = match self.btf.resolve_type_by_id(id) {
            Ok(Type::Ptr(p)) => match self.class(inner(&p)) {
                Class::Skb { constant } => Class::SkbPtr { constant },
                Class::SkbPtr { constant } => Class::SkbPtrPtr { constant },
                _ => Class::Other,
            },
            Ok(Type::Const(t)) => match self.class(inner(&t)) {
                Class::Skb { .. } => Class::Skb { constant: true },
                other => other,
            },
            Ok(Type::Volatile(t) | Type::Restrict(t)) => self.class(inner(&t)),
            Ok(Type::Typedef(t)) => self.class(inner(&t)),
            Ok(Type::TypeTag(t)) => self.class(inner(&t)),
            _ => Class::Other,
        };
        self.classes.insert(id, class);
        class
    }

    /// What a prototype has of skbs, with its first `skip` parameters left out.
    pub(super) fn proto(&mut self, proto: &FuncProto, skip: usize) -> Option<SkbProto> {
        let variadic = proto
            .parameters
            .last()
            .is_some_and(btf_rs::Parameter::is_variadic);
        let params = proto
            .parameters
            .get(skip..proto.parameters.len() - usize::from(variadic))?;
        let (position, indirection, constant) =
            params
                .iter()
                .enumerate()
                .find_map(|(i, p)| match self.class(p.get_type_id()?) {
                    Class::SkbPtr { constant } => Some((i, Indirection::Skb, constant)),
                    Class::SkbPtrPtr { constant } => Some((i, Indirection::SkbPtrPtr, constant)),
                    _ => None,
                })?;
        let before: u8 = params[..position]
            .iter()
            .map(|p| self.registers(p.get_type_id().unwrap_or(0)))
            .sum();
        Some(SkbProto {
            position: position as u8,
            arg: (before < REGISTERS).then_some(before),
            indirection,
            constant,
            params: params.len() as u8,
            variadic,
        })
    }

    /// How many registers an argument of that type takes.
    fn registers(&self, id: u32) -> u8 {
        match self.btf.resolve_type_by_id(id) {
            Ok(Type::Struct(s) | Type::Union(s)) => match s.size() {
                0 => 0,
                1..=8 => 1,
                9..=16 => 2,
                _ => 0,
            },
            Ok(Type::Int(i)) if i.size() > 8 => 2,
            Ok(Type::Const(t) | Type::Volatile(t) | Type::Restrict(t)) => {
                self.registers(t.get_type_id().unwrap_or(0))
            }
            Ok(Type::Typedef(t)) => self.registers(t.get_type_id().unwrap_or(0)),
            Ok(Type::TypeTag(t)) => self.registers(t.get_type_id().unwrap_or(0)),
            _ => 1,
        }
    }
}
