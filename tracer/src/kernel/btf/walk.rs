//! What scripts ask of BTF by pattern: functions, tracepoints, iterators, enum constants. Each question is a walk
//! over all types, some milliseconds long.

use std::sync::atomic::Ordering;

use ktrail_ebpf::kernel::{KType, Space, TypeId, Types};

use super::KernelBtf;
use super::census;
use super::index::Functions;
use super::raw::kind;

/// What names a tracepoint's prototype.
const TRACEPOINT: &str = "btf_trace_";
/// What names an iterator's function.
const ITERATOR: &str = "bpf_iter_";

impl KernelBtf {
    /// Every function: its name, and its module, empty for the kernel itself. Sorted.
    pub fn functions(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for object in &self.objects {
            let view = self.view(object);
            let functions = object.bytes.iter().filter(|(_, h)| h.kind == kind::FUNC);
            found.extend(functions.map(|(_, h)| (view.name(h.name).to_string(), object.name.clone())));
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// The function of that name in a module (empty or `vmlinux`: the kernel itself), or anywhere.
    pub fn function(&self, module: Option<&str>, name: &str) -> Option<TypeId> {
        let Some(module) = module else {
            return self.by_name(Space::Func, name);
        };
        let module = if module == "vmlinux" { "" } else { module };
        let object = self.objects.iter().position(|o| o.name == module)?;
        self.function_in(self.function_index(), object, name)
    }

    /// Whether the kernel's trampolines can serve a function, as far as its prototype tells.
    pub fn trampoline(&self, function: TypeId) -> bool {
        let Some(object) = self.objects.get(function.object as usize) else {
            return false;
        };
        let view = self.view(object);
        let header = view.header(function.id).filter(|h| h.kind == kind::FUNC);
        header.is_some_and(|h| census::trampoline(view, h.size_or_type))
    }

    /// An object's function, by the index if there is one.
    pub(super) fn function_in(&self, index: Option<&Functions>, object: usize, name: &str) -> Option<TypeId> {
        let view = self.view(&self.objects[object]);
        let id = match index {
            Some(index) => index
                .find(object, name)
                .filter(|&id| view.header(id).is_some_and(|h| view.name(h.name) == name))?,
            None => {
                let mut types = view.own.iter();
                types
                    .find(|(_, h)| h.kind == kind::FUNC && view.name(h.name) == name)?
                    .0
            }
        };
        Some(TypeId {
            object: object as u32,
            id,
        })
    }

    /// The index of functions, once enough were asked for to be worth it: most runs name one or two, for which a walk is
    /// less, and a wildcard names thousands.
    pub(super) fn function_index(&self) -> Option<&Functions> {
        const FEW: u32 = 4;
        if self.asked.fetch_add(1, Ordering::Relaxed) < FEW {
            return None;
        }
        Some(self.functions.get_or_init(|| {
            let mut index = Functions::default();
            for (number, object) in self.objects.iter().enumerate() {
                index.add(number, self.view(object));
            }
            index
        }))
    }

    /// Every BTF tracepoint: its name, its module (empty for the kernel itself), and its typedef. Sorted.
    pub fn tracepoints(&self) -> Vec<(String, String, TypeId)> {
        let mut found = Vec::new();
        for (object, this) in (0..).zip(&self.objects) {
            let view = self.view(this);
            let typedefs = this.bytes.iter().filter(|(_, h)| h.kind == kind::TYPEDEF);
            found.extend(typedefs.filter_map(|(id, h)| {
                let name = view.name(h.name).strip_prefix(TRACEPOINT)?;
                Some((name.to_string(), this.name.clone(), TypeId { object, id }))
            }));
        }
        found.sort_unstable();
        // The kernel's come before a module's of the same name.
        found.dedup_by(|(later, ..), (first, ..)| later == first);
        found
    }

    /// The names of the BPF iterators: what they pass to programs is a struct of their name. Sorted.
    pub fn iterators(&self) -> Vec<String> {
        let functions = self.functions().into_iter();
        functions
            .filter_map(|(name, _)| name.strip_prefix(ITERATOR).map(str::to_string))
            .filter(|name| {
                self.by_name(Space::Struct, &format!("{ITERATOR}_{name}"))
                    .is_some()
            })
            .collect()
    }

    /// The function that stands for a BPF iterator: what its program names as its attach point.
    pub fn iterator(&self, name: &str) -> Option<TypeId> {
        self.by_name(Space::Func, &format!("{ITERATOR}{name}"))
    }

    /// The value of an enum's constant, and the first enum that has it.
    pub fn enum_constant(&self, constant: &str) -> Option<(i64, TypeId)> {
        for (number, object) in (0..).zip(&self.objects) {
            let view = self.view(object);
            let mut enums = object
                .bytes
                .iter()
                .filter(|(_, h)| matches!(h.kind, kind::ENUM | kind::ENUM64));
            let Some((id, _)) = enums.find(|(id, _)| view.enumerators(*id).any(|name| name == constant))
            else {
                continue;
            };
            let id = TypeId { object: number, id };
            let Some(KType::Enum { values, .. }) = self.get(id) else {
                continue;
            };
            let value = values.into_iter().find(|(name, _)| name == constant);
            return value.map(|(_, value)| (value, id));
        }
        None
    }
}
