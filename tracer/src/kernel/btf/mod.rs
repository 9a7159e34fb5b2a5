//! The running kernel's types, from its BTF and its modules'.
//!
//! This is the one place that knows btf-rs (LGPL-2.1-or-later), so that the library stays replaceable: nothing of
//! it appears in what this module offers. [`KernelBtf`] implements the compilers' [`Types`]; [`census`] counts what
//! takes a packet.
//!
//! Deliberately absent: what can be probed ([`super::probeable`]) and what a type means to a script.

mod bytes;
mod census;
mod declare;
#[cfg(test)]
mod fixture;
mod index;
mod raw;
mod walk;

use std::cell::OnceCell;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU32;

use btf_rs::{Btf, BtfType, Type};
use ktrail_ebpf::kernel::{KType, Member, Qualifier, Space, TypeId, Types};

use bytes::Bytes;
pub use bytes::give_back;
pub use census::{Indirection, SkbFunction, SkbTracepoint};
pub use declare::{c_type, definition, prototype};

use super::Lacking;
use super::sys::{self, ById, Command, ObjInfo, SysError, addr_of_mut};
use index::{Functions, Index};
use raw::{Raw, View};

/// Where the kernel shows its BTF (`CONFIG_DEBUG_INFO_BTF`, and `…_MODULES` for the modules'; 5.4+, 5.11+).
const SYS_BTF: &str = "/sys/kernel/btf";

/// The types of the kernel (object 0) and of its modules (from 1 on).
pub struct KernelBtf {
    objects: Vec<Object>,
    index: OnceLock<Index>,
    /// How often a function was asked for by name.
    asked: AtomicU32,
    functions: OnceLock<Functions>,
}

/// One object's BTF: bytes for the walk over all types, and btf-rs, on demand, for single ones.
struct Object {
    /// The module's name; empty for the kernel.
    name: String,
    bytes: Raw,
    btf: OnceLock<Option<Btf>>,
}

impl Object {
    fn new(name: &str, bytes: Bytes, base: Option<&Object>) -> Result<Object, String> {
        Ok(Object {
            name: name.into(),
            bytes: Raw::parse(bytes, base.map(|b| &b.bytes))?,
            btf: OnceLock::new(),
        })
    }
}

impl KernelBtf {
    /// Read the running kernel's BTF.
    ///
    /// Takes a few milliseconds; names are indexed when they are first asked for.
    ///
    /// # Errors
    /// If the kernel has none or it can't be read. A module whose BTF can't be read is left out: its types are
    /// then unknown, as those of a module without BTF are.
    pub fn load() -> Result<KernelBtf, Lacking> {
        Self::load_from(Path::new(SYS_BTF))
    }

    /// As [`KernelBtf::load`], from a directory like /sys/kernel/btf.
    ///
    /// # Errors
    /// As [`KernelBtf::load`].
    pub fn load_from(dir: &Path) -> Result<KernelBtf, Lacking> {
        let vmlinux = dir.join("vmlinux");
        let lacking = |why: String| Lacking {
            what: "the kernel's types can't be read".into(),
            why: format!("{}: {why}", vmlinux.display()),
            fix: "use a kernel built with CONFIG_DEBUG_INFO_BTF=y, as most distributions' are from 2021 on"
                .into(),
        };
        let bytes = Bytes::read(&vmlinux).map_err(|e| lacking(e.to_string()))?;
        let base = Object::new("", bytes, None).map_err(lacking)?;
        let mut names: Vec<String> = std::fs::read_dir(dir)
            .map_err(|e| lacking(e.to_string()))?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name != "vmlinux")
            .collect();
        names.sort_unstable();
        let modules: Vec<Object> = names
            .into_iter()
            .filter_map(|name| {
                let bytes = Bytes::Heap(std::fs::read(dir.join(&name)).ok()?);
                Object::new(&name, bytes, Some(&base)).ok()
            })
            .collect();
        Ok(KernelBtf {
            objects: std::iter::once(base).chain(modules).collect(),
            index: OnceLock::new(),
            asked: AtomicU32::new(0),
            functions: OnceLock::new(),
        })
    }

    /// Types from BTF in memory: the kernel's, and modules' by name.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn from_bytes(base: &[u8], modules: &[(&str, &[u8])]) -> Result<KernelBtf, String> {
        let base = Object::new("", Bytes::Heap(base.to_vec()), None)?;
        let modules = modules
            .iter()
            .map(|(name, bytes)| Object::new(name, Bytes::Heap(bytes.to_vec()), Some(&base)))
            .collect::<Result<Vec<_>, String>>()?;
        Ok(KernelBtf {
            objects: std::iter::once(base).chain(modules).collect(),
            index: OnceLock::new(),
            asked: AtomicU32::new(0),
            functions: OnceLock::new(),
        })
    }

    /// The name of the module that a type is in; empty for the kernel itself.
    pub fn module(&self, id: TypeId) -> &str {
        &self.objects[id.object as usize].name
    }

    /// Every function with an skb among the arguments that come in registers, or beyond them
    /// ([`SkbFunction::arg`] says). The kernel's first, then the modules'; a name may come more than once.
    pub fn skb_functions(&self) -> &[SkbFunction] {
        &self.index().functions
    }

    /// Every BTF tracepoint that passes an skb.
    pub fn skb_tracepoints(&self) -> &[SkbTracepoint] {
        &self.index().tracepoints
    }

    /// The values of an enum by its name, such as `skb_drop_reason`: names and numbers in the kernel's order.
    pub fn enum_values(&self, name: &str) -> Option<Vec<(String, i64)>> {
        match self.get(self.by_name(Space::Enum, name)?)? {
            KType::Enum { values, .. } => Some(values),
            _ => None,
        }
    }

    /// The names of all enums that end like this, sorted.
    pub fn enums_ending(&self, end: &str) -> Vec<&str> {
        let name = |id: &TypeId| {
            let view = self.view(&self.objects[id.object as usize]);
            Some(view.name(view.header(id.id)?.name))
        };
        let enums = self.index().enums.iter();
        let mut found: Vec<&str> = enums
            .filter_map(name)
            .filter(|name| name.ends_with(end))
            .collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    /// The structs, unions or enums whose names are wanted, sorted by name. A module's may have the name of another's.
    pub fn named(&self, space: Space, wanted: impl Fn(&str) -> bool) -> Vec<(&str, TypeId)> {
        let kinds: &[u32] = match space {
            Space::Struct => &[raw::kind::STRUCT],
            Space::Union => &[raw::kind::UNION],
            Space::Enum => &[raw::kind::ENUM, raw::kind::ENUM64],
            Space::Typedef | Space::Func | Space::Int => &[],
        };
        let mut found = vec![];
        for (this, object) in self.objects.iter().zip(0..) {
            let view = self.view(this);
            let of_kind = this.bytes.iter().filter(|(_, h)| kinds.contains(&h.kind));
            let names = of_kind.map(|(id, h)| (view.name(h.name), TypeId { object, id }));
            found.extend(names.filter(|(name, _)| !name.is_empty() && wanted(name)));
        }
        found.sort_unstable();
        found
    }

    /// The BTF typedef of a tracepoint by its name: what a `tp_btf` program names as its attach point.
    pub fn tracepoint(&self, name: &str) -> Option<TypeId> {
        self.by_name(Space::Typedef, &format!("btf_trace_{name}"))
    }

    fn index(&self) -> &Index {
        self.index.get_or_init(|| {
            let mut index = Index::default();
            for (object, number) in self.objects.iter().zip(0..) {
                index.add(number, &object.name, self.view(object));
            }
            give_back();
            index
        })
    }

    fn view<'a>(&'a self, object: &'a Object) -> View<'a> {
        View {
            base: &self.objects[0].bytes,
            own: &object.bytes,
        }
    }

    /// An object's BTF; for a module, one that resolves the kernel's ids as well.
    fn btf(&self, object: u32) -> Option<&Btf> {
        let this = self.objects.get(object as usize)?;
        let parse = || match object {
            0 => this.bytes.bytes().parse().ok(),
            _ => Btf::from_split_bytes(this.bytes.bytes(), self.btf(0)?).ok(),
        };
        this.btf.get_or_init(parse).as_ref()
    }

    /// The id of `id` as seen from `object`: a module's BTF goes on counting where the kernel's ends.
    fn type_id(&self, object: u32, id: u32) -> TypeId {
        let in_base = id < self.objects[0].bytes.end();
        TypeId {
            object: if in_base { 0 } else { object },
            id,
        }
    }
}

impl Types for KernelBtf {
    fn by_name(&self, space: Space, name: &str) -> Option<TypeId> {
        if space != Space::Func {
            let id = self.index().find(space, name)?;
            let view = self.view(&self.objects[id.object as usize]);
            return (view.name(view.header(id.id)?.name) == name).then_some(id);
        }
        let index = self.function_index();
        (0..self.objects.len()).find_map(|object| self.function_in(index, object, name))
    }

    fn get(&self, id: TypeId) -> Option<KType> {
        let btf = self.btf(id.object)?;
        let ty = btf.resolve_type_by_id(id.id).ok()?;
        Some(self.convert(id.object, btf, &ty))
    }
}

impl KernelBtf {
    fn convert(&self, object: u32, btf: &Btf, ty: &Type) -> KType {
        let to = |ty: &dyn BtfType| self.type_id(object, ty.get_type_id().unwrap_or(0));
        let name = |ty: &dyn BtfType| btf.resolve_name(ty).unwrap_or_default();
        let structure = |s: &btf_rs::Struct, union| KType::Struct {
            name: name(s),
            union,
            size: s.size() as u32,
            members: s
                .members
                .iter()
                .map(|m| Member {
                    name: name(m),
                    ty: to(m),
                    bit_offset: m.bit_offset(),
                    bits: m.bitfield_size().unwrap_or(0),
                })
                .collect(),
        };
        let modifier = |qualifier, to| KType::Modifier { qualifier, to };
        match ty {
            Type::Void => KType::Void,
            Type::Fwd(t) => KType::Forward {
                name: name(t),
                union: t.is_union(),
            },
            Type::Int(t) => KType::Int {
                name: name(t),
                size: t.size() as u32,
                signed: t.is_signed(),
                boolean: t.is_bool(),
                char: t.is_char() || name(t) == "char",
            },
            Type::Ptr(t) => KType::Ptr(to(t)),
            Type::Array(t) => KType::Array {
                element: to(t),
                len: t.len() as u32,
            },
            Type::Struct(t) => structure(t, false),
            Type::Union(t) => structure(t, true),
            Type::Enum(t) => KType::Enum {
                name: name(t),
                size: t.size() as u32,
                signed: t.is_signed(),
                values: t
                    .members
                    .iter()
                    .map(|m| match t.is_signed() {
                        true => (name(m), i64::from(m.val() as i32)),
                        false => (name(m), i64::from(m.val())),
                    })
                    .collect(),
            },
            Type::Enum64(t) => KType::Enum {
                name: name(t),
                size: t.size() as u32,
                signed: t.is_signed(),
                values: t.members.iter().map(|m| (name(m), m.val() as i64)).collect(),
            },
            Type::Typedef(t) => KType::Typedef {
                name: name(t),
                to: to(t),
            },
            Type::Const(t) => modifier(Qualifier::Const, to(t)),
            Type::Volatile(t) => modifier(Qualifier::Volatile, to(t)),
            Type::Restrict(t) => modifier(Qualifier::Restrict, to(t)),
            Type::TypeTag(t) => modifier(Qualifier::Tag(name(t)), to(t)),
            Type::Func(t) => KType::Func {
                name: name(t),
                proto: to(t),
            },
            Type::FuncProto(t) => {
                let variadic = t.parameters.last().is_some_and(btf_rs::Parameter::is_variadic);
                let named = t.parameters.len() - usize::from(variadic);
                KType::Proto {
                    params: t.parameters[..named].iter().map(|p| (name(p), to(p))).collect(),
                    returns: self.type_id(object, t.return_type_id()),
                    variadic,
                }
            }
            _ => KType::Other,
        }
    }
}

/// The kernel's handle of a module's BTF, for programs that attach to what is in the module (5.11+).
///
/// # Errors
/// The kernel's; ENOENT if no BTF of that name is loaded, EPERM without CAP_SYS_ADMIN.
pub fn object_fd(module: &str) -> Result<OwnedFd, SysError> {
    let mut id = 0;
    loop {
        let mut next = ById {
            id,
            ..ById::default()
        };
        sys::bpf(Command::BtfGetNextId, &mut next)?;
        id = next.next_id;
        let fd = match sys::bpf_fd(
            Command::BtfGetFdById,
            &mut ById {
                id,
                ..ById::default()
            },
        ) {
            Ok(fd) => fd,
            // It went away since.
            Err(e) if e.errno == libc::ENOENT => continue,
            Err(e) => return Err(e),
        };
        let mut name = [0_u8; 64];
        // struct bpf_btf_info: btf, btf_size and id, name, name_len and kernel_btf.
        let mut info = [0, 0, addr_of_mut(&mut name), name.len() as u64];
        let mut attr = ObjInfo {
            bpf_fd: fd.as_raw_fd() as u32,
            info_len: size_of_val(&info) as u32,
            info: addr_of_mut(&mut info),
        };
        sys::bpf(Command::ObjGetInfoByFd, &mut attr)?;
        // The upper half of the last number: made by the kernel, not by a user's BPF_BTF_LOAD.
        let of_kernel = info[3] >> 32 != 0;
        let end = name.iter().position(|&b| b == 0).unwrap_or(name.len());
        if of_kernel && &name[..end] == module.as_bytes() {
            return Ok(fd);
        }
    }
}

/// This kernel's types, read when they are first asked for; none where they can't be read.
#[derive(Default)]
pub struct LazyTypes(OnceCell<Option<KernelBtf>>);

impl LazyTypes {
    fn types(&self) -> Option<&KernelBtf> {
        self.0.get_or_init(|| KernelBtf::load().ok()).as_ref()
    }
}

impl Types for LazyTypes {
    fn by_name(&self, space: Space, name: &str) -> Option<TypeId> {
        self.types()?.by_name(space, name)
    }

    fn get(&self, id: TypeId) -> Option<KType> {
        self.types()?.get(id)
    }
}
