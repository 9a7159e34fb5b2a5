//! One walk over all types: the names that compilers ask for, and what takes a packet.

use std::collections::HashMap;

use btf_rs::{Btf, BtfType, Type};
use fallible_iterator::FallibleIterator;
use ktrail_ebpf::kernel::{Space, TypeId};

use super::KernelBtf;
use super::census::{Classifier, SkbFunction, SkbProto, SkbTracepoint};

/// What the walk found.
#[derive(Default)]
pub(super) struct Index {
    /// Named types, but functions. The kernel's come before a module's of the same name.
    pub names: HashMap<(Space, Box<str>), TypeId>,
    pub functions: Vec<SkbFunction>,
    pub tracepoints: Vec<SkbTracepoint>,
}

impl Index {
    pub(super) fn build(btf: &KernelBtf) -> Index {
        let mut index = Index::default();
        index.names.reserve(32 << 10);
        for object in 0..=btf.modules.len() as u32 {
            if let Some(this) = btf.object(object) {
                index.walk(object, btf.module(TypeId { object, id: 0 }), this);
            }
        }
        index
    }

    /// Walk the types of one object. Stops at the first that can't be read: what follows is unknown then.
    fn walk(&mut self, object: u32, module: &str, btf: &Btf) {
        let section = btf.split().unwrap_or(btf.base());
        let first = section.type_id_range().0;
        let mut classifier = Classifier::new(btf);
        let mut protos: HashMap<u32, SkbProto> = HashMap::new();
        let mut functions: Vec<(u32, btf_rs::Func)> = Vec::new();
        let mut typedefs: Vec<(u32, String, u32)> = Vec::new();

        let mut types = section.type_iter();
        let mut id = first;
        while let Ok(Some(ty)) = types.next() {
            match ty {
                Type::FuncProto(proto) => {
                    if let Some(found) = classifier.proto(&proto, 0) {
                        protos.insert(id, found);
                    }
                }
                Type::Func(func) => functions.push((id, func)),
                Type::Typedef(ref t) => {
                    if let Some(name) = self.name(Space::Typedef, object, id, btf, t)
                        && let Some(tracepoint) = name.strip_prefix("btf_trace_")
                    {
                        typedefs.push((id, tracepoint.into(), t.get_type_id().unwrap_or(0)));
                    }
                }
                Type::Struct(ref t) => drop(self.name(Space::Struct, object, id, btf, t)),
                Type::Union(ref t) => drop(self.name(Space::Union, object, id, btf, t)),
                Type::Enum(ref t) => drop(self.name(Space::Enum, object, id, btf, t)),
                Type::Enum64(ref t) => drop(self.name(Space::Enum, object, id, btf, t)),
                Type::Int(ref t) => drop(self.name(Space::Int, object, id, btf, t)),
                _ => {}
            }
            id += 1;
        }

        for (id, func) in functions {
            // A module's function may have a prototype of the kernel's.
            let Some(proto_id) = func.get_type_id() else {
                continue;
            };
            let found = match protos.get(&proto_id) {
                Some(found) => *found,
                None if proto_id < first => match btf.resolve_type_by_id(proto_id) {
                    Ok(Type::FuncProto(proto)) => match classifier.proto(&proto, 0) {
                        Some(found) => found,
                        None => continue,
                    },
                    _ => continue,
                },
                None => continue,
            };
            if let Ok(name) = btf.resolve_name(&func) {
                self.functions.push(SkbFunction {
                    name,
                    module: module.into(),
                    id: TypeId { object, id },
                    arg: found.arg,
                    indirection: found.indirection,
                    constant: found.constant,
                    params: found.params,
                    variadic: found.variadic,
                });
            }
        }

        for (id, name, pointer) in typedefs {
            let Ok(Type::Ptr(pointer)) = btf.resolve_type_by_id(pointer) else {
                continue;
            };
            let proto_id = pointer.get_type_id().unwrap_or(0);
            let Ok(Type::FuncProto(proto)) = btf.resolve_type_by_id(proto_id) else {
                continue;
            };
            if let Some(found) = classifier.proto(&proto, 1) {
                let in_base = proto_id < first;
                self.tracepoints.push(SkbTracepoint {
                    name,
                    module: module.into(),
                    id: TypeId { object, id },
                    proto: TypeId {
                        object: if in_base { 0 } else { object },
                        id: proto_id,
                    },
                    // A tracepoint's arguments are 64 bits each, whatever their type.
                    arg: found.position,
                    indirection: found.indirection,
                    params: found.params,
                });
            }
        }
    }

    /// Enter a type's name, unless there is one already; the name, if it has one.
    fn name(&mut self, space: Space, object: u32, id: u32, btf: &Btf, ty: &dyn BtfType) -> Option<String> {
        let name = btf.resolve_name(ty).ok().filter(|n| !n.is_empty())?;
        self.names
            .entry((space, name.as_str().into()))
            .or_insert(TypeId { object, id });
        Some(name)
    }
}
