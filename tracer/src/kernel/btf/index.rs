//! One walk over all types: the names that compilers ask for, and what takes a packet.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use ktrail_ebpf::kernel::{Space, TypeId};

use super::census::{Classifier, DECIDING, Indirection, SkbFunction, SkbProto, SkbTracepoint};
use super::raw::{View, kind};

/// A number for a name: two names with one number are less likely than a broken machine, and whoever looks one up
/// compares names.
fn key(space: Space, name: &str) -> u64 {
    const PRIME: u64 = 0x9e37_79b9_7f4a_7c15;
    let (chunks, rest) = name.as_bytes().as_chunks::<8>();
    let mut hash = (space as u64 + 1) ^ (name.len() as u64) << 8;
    let mut mix = |word: u64| hash = (hash.rotate_left(29) ^ word).wrapping_mul(PRIME);
    for chunk in chunks {
        mix(u64::from_le_bytes(*chunk));
    }
    mix(rest.iter().fold(0, |all, &byte| all << 8 | u64::from(byte)));
    hash ^ hash >> 32
}

/// Keys are hashes already.
#[derive(Default)]
struct Ready(u64);

impl Hasher for Ready {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("keys are numbers");
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

/// Functions by object and name; of several in one object the first.
#[derive(Default)]
pub(super) struct Functions(HashMap<u64, u32, BuildHasherDefault<Ready>>);

impl Functions {
    fn key(object: usize, name: &str) -> u64 {
        key(Space::Func, name).wrapping_add(object as u64)
    }

    /// The type of that name, if a function's name has that hash.
    pub(super) fn find(&self, object: usize, name: &str) -> Option<u32> {
        self.0.get(&Functions::key(object, name)).copied()
    }

    /// Walk over the types of one object.
    pub(super) fn add(&mut self, object: usize, view: View<'_>) {
        for (id, header) in view.own.iter().filter(|(_, h)| h.kind == kind::FUNC) {
            self.0
                .entry(Functions::key(object, view.name(header.name)))
                .or_insert(id);
        }
    }
}

/// What the walk found.
#[derive(Default)]
pub(super) struct Index {
    /// Named types, but functions, by [`key`]. The kernel's come before a module's of the same name.
    names: HashMap<u64, TypeId, BuildHasherDefault<Ready>>,
    /// Named enums.
    pub enums: Vec<TypeId>,
    pub functions: Vec<SkbFunction>,
    pub tracepoints: Vec<SkbTracepoint>,
}

impl Index {
    /// The type of that name, if a type's name has that hash.
    pub(super) fn find(&self, space: Space, name: &str) -> Option<TypeId> {
        self.names.get(&key(space, name)).copied()
    }

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
                            trampoline: found.trampoline,
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
            if space == Space::Enum {
                self.enums.push(TypeId { object, id });
            }
            self.names
                .entry(key(space, name))
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
