//! One walk over all types: the names that compilers ask for, and what takes a packet.

use std::collections::HashMap;

use ktrail_ebpf::kernel::{Space, TypeId};

use super::census::{Classifier, DECIDING, Indirection, SkbFunction, SkbProto, SkbTracepoint};
use super::raw::{View, kind};

/// What the walk found.
#[derive(Default)]
pub(super) struct Index {
    /// Named types, but functions. The kernel's come before a module's of the same name.
    pub names: HashMap<(Space, Box<str>), TypeId>,
    pub functions: Vec<SkbFunction>,
    pub tracepoints: Vec<SkbTracepoint>,
}

impl Index {
    /// Walk over the types of one object. The kernel's is number 0 and comes first.
    pub(super) fn add(&mut self, object: u32, module: &str, view: View<'_>) {
        let mut classifier = Classifier::new(view);
        let mut protos: HashMap<u32, Option<SkbProto>> = HashMap::new();
        for (id, header) in view.own.iter() {
            let space = match header.kind {
                kind::STRUCT => Space::Struct,
                kind::UNION => Space::Union,
                kind::ENUM | kind::ENUM64 => Space::Enum,
                kind::TYPEDEF => Space::Typedef,
                kind::INT => Space::Int,
                kind::FUNC => {
                    let proto = header.size_or_type;
                    let found = protos.entry(proto).or_insert_with(|| classifier.proto(proto, 0));
                    let name = view.name(header.name);
                    if let Some(found) = found
                        && (found.indirection != Indirection::Pktinfo || DECIDING.contains(&name))
                    {
                        self.functions.push(SkbFunction {
                            name: name.into(),
                            module: module.into(),
                            id: TypeId { object, id },
                            arg: found.arg,
                            indirection: found.indirection,
                            constant: found.constant,
                            params: found.params,
                            variadic: found.variadic,
                        });
                    }
                    continue;
                }
                _ => continue,
            };
            let name = view.name(header.name);
            if name.is_empty() {
                continue;
            }
            self.names
                .entry((space, name.into()))
                .or_insert(TypeId { object, id });
            if space == Space::Typedef
                && let Some(tracepoint) = name.strip_prefix("btf_trace_")
            {
                self.tracepoint(
                    tracepoint,
                    module,
                    TypeId { object, id },
                    header.size_or_type,
                    &mut classifier,
                );
            }
        }
    }

    /// Enter a tracepoint if it passes an skb. Its typedef stands for a pointer to its prototype, whose first
    /// parameter is the kernel's own.
    fn tracepoint(
        &mut self,
        name: &str,
        module: &str,
        id: TypeId,
        pointer: u32,
        classifier: &mut Classifier<'_>,
    ) {
        let view = classifier.view;
        let Some(pointer) = view.header(pointer).filter(|h| h.kind == kind::PTR) else {
            return;
        };
        let proto = pointer.size_or_type;
        if let Some(found) = classifier.proto(proto, 1) {
            self.tracepoints.push(SkbTracepoint {
                name: name.into(),
                module: module.into(),
                id,
                proto: TypeId {
                    object: if proto < view.base.end() { 0 } else { id.object },
                    id: proto,
                },
                // A tracepoint's arguments are 64 bits each, whatever their type.
                arg: found.position,
                indirection: found.indirection,
                params: found.params,
            });
        }
    }
}
