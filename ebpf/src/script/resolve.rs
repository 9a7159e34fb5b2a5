//! C types: the kernel's and those that the script defines, and what they are in the language.
//!
//! Deliberately absent: where values are; this file speaks of types only.

use std::cell::RefCell;
use std::collections::HashMap;

use super::ast::{self, TypeDefKind, TypeKind};
use super::types::{StackMode, Ty};
use crate::kernel::{KType, Member, Qualifier, Space, TypeId, Types, field};

/// The object number of the types that the script defines. No module has it.
const LOCAL: u32 = u32::MAX;

/// The kernel's types and the script's own, which come first.
pub struct Universe<'a> {
    kernel: &'a dyn Types,
    local: RefCell<Vec<KType>>,
    names: RefCell<HashMap<(Space, String), TypeId>>,
    constants: RefCell<HashMap<String, (i64, TypeId)>>,
}

impl Types for Universe<'_> {
    fn by_name(&self, space: Space, name: &str) -> Option<TypeId> {
        let own = self.names.borrow().get(&(space, name.to_string())).copied();
        own.or_else(|| self.kernel.by_name(space, name))
    }

    fn get(&self, id: TypeId) -> Option<KType> {
        if id.object == LOCAL {
            self.local.borrow().get(id.id as usize).cloned()
        } else {
            self.kernel.get(id)
        }
    }
}

impl<'a> Universe<'a> {
    /// The kernel's types and the script's definitions. What can't be understood comes back with its reason.
    pub fn new(
        kernel: &'a dyn Types,
        defs: &[ast::TypeDef],
        strlen: u32,
    ) -> (Universe<'a>, Vec<(ast::Span, String)>) {
        let universe = Universe {
            kernel,
            local: RefCell::default(),
            names: RefCell::default(),
            constants: RefCell::default(),
        };
        let mut wrong = vec![];
        for def in defs {
            if let Err(e) = universe.define(def, strlen) {
                wrong.push(e);
            }
        }
        (universe, wrong)
    }

    /// A constant of an enum that the script defines.
    pub fn constant(&self, name: &str) -> Option<(i64, TypeId)> {
        self.constants.borrow().get(name).copied()
    }

    fn add(&self, ty: KType) -> TypeId {
        let mut local = self.local.borrow_mut();
        local.push(ty);
        TypeId {
            object: LOCAL,
            id: local.len() as u32 - 1,
        }
    }

    fn define(&self, def: &ast::TypeDef, strlen: u32) -> Result<TypeId, (ast::Span, String)> {
        let name = def.name.as_ref().map(|n| n.name.clone()).unwrap_or_default();
        let (space, ty) = match &def.kind {
            TypeDefKind::Struct(members, packed) => (
                Space::Struct,
                self.aggregate(&name, members, false, *packed, strlen)?,
            ),
            TypeDefKind::Union(members) => {
                (Space::Union, self.aggregate(&name, members, true, false, strlen)?)
            }
            TypeDefKind::Enum(values) => {
                let values: Vec<(String, i64)> = values.iter().map(|(n, v)| (n.name.clone(), *v)).collect();
                let ty = KType::Enum {
                    name: name.clone(),
                    size: 4,
                    signed: values.iter().any(|(_, v)| *v < 0),
                    values,
                };
                (Space::Enum, ty)
            }
            TypeDefKind::Typedef(to) => {
                let to = self.c_type(to, strlen)?;
                (
                    Space::Typedef,
                    KType::Typedef {
                        name: name.clone(),
                        to,
                    },
                )
            }
        };
        let id = self.add(ty.clone());
        if let KType::Enum { values, .. } = &ty {
            for (n, v) in values {
                self.constants.borrow_mut().insert(n.clone(), (*v, id));
            }
        }
        if !name.is_empty() {
            self.names.borrow_mut().insert((space, name), id);
        }
        Ok(id)
    }

    fn aggregate(
        &self,
        name: &str,
        members: &[ast::Member],
        union: bool,
        packed: bool,
        strlen: u32,
    ) -> Result<KType, (ast::Span, String)> {
        let mut out = vec![];
        let (mut bit, mut align, mut largest) = (0u32, 1u32, 0u32);
        for m in members {
            let ty = self.c_type(&m.ty, strlen)?;
            let (size, own) = self.size_align(ty);
            let own = if packed { 1 } else { own };
            let too_large = || (m.ty.span, format!("'{name}' is too large"));
            let at = match m.bits {
                _ if union => 0,
                Some(bits) => {
                    let unit = size.max(1) * 8;
                    // A bit-field doesn't cross a boundary of its type.
                    if bits == 0 || (!packed && bit % unit + u32::from(bits) > unit) {
                        bit = bit.next_multiple_of(unit);
                    }
                    bit
                }
                None => bit.next_multiple_of(own * 8),
            };
            let len = m
                .bits
                .map_or(size.checked_mul(8).ok_or_else(too_large)?, u32::from);
            bit = at
                .checked_add(len)
                .filter(|b| *b < 1 << 29)
                .ok_or_else(too_large)?;
            largest = largest.max(size);
            align = align.max(own);
            out.push(Member {
                name: m.name.as_ref().map(|n| n.name.clone()).unwrap_or_default(),
                ty,
                bit_offset: at,
                bits: m.bits.unwrap_or(0).into(),
            });
        }
        let size = if union { largest } else { bit.div_ceil(8) };
        Ok(KType::Struct {
            name: name.into(),
            union,
            size: size.next_multiple_of(align),
            members: out,
        })
    }

    /// A written C type as one of the kernel's kinds.
    fn c_type(&self, ty: &ast::Type, strlen: u32) -> Result<TypeId, (ast::Span, String)> {
        let int = |size: u32, signed: bool, boolean: bool| KType::Int {
            name: String::new(),
            size,
            signed,
            boolean,
            // The definitions don't tell `char` from `int8`; text is what such arrays hold.
            char: size == 1 && signed,
        };
        Ok(match &ty.kind {
            TypeKind::Void => self.add(KType::Void),
            TypeKind::Bool => self.add(int(1, false, true)),
            TypeKind::Int { bits, signed } => self.add(int(u32::from(*bits) / 8, *signed, false)),
            TypeKind::Pointer(to) => {
                // Pointers to what isn't known are pointers to nothing known.
                let to = self.c_type(to, strlen).unwrap_or_else(|_| self.add(KType::Void));
                self.add(KType::Ptr(to))
            }
            TypeKind::Array(element, len) => {
                let element = self.c_type(element, strlen)?;
                let len = u32::try_from(len.unwrap_or(0)).unwrap_or(u32::MAX);
                let size = self.size_align(element).0;
                if size.checked_mul(len).is_none_or(|n| n > 1 << 26) {
                    return Err((ty.span, "the array is too large".into()));
                }
                self.add(KType::Array { element, len })
            }
            TypeKind::Struct(name) => self.named(Space::Struct, name, ty.span)?,
            TypeKind::Union(name) => self.named(Space::Union, name, ty.span)?,
            TypeKind::Enum(name) => self.named(Space::Enum, name, ty.span)?,
            TypeKind::Named(name) => self.any_named(name).ok_or_else(|| unknown(name, ty.span))?,
            TypeKind::Inline(def) => self.define(def, strlen)?,
            _ => return Err((ty.span, "this type can't be a part of a C type".into())),
        })
    }

    fn named(&self, space: Space, name: &str, span: ast::Span) -> Result<TypeId, (ast::Span, String)> {
        self.by_name(space, name)
            // The kernel's BTF is asked for structs and unions by either keyword.
            .or_else(|| match space {
                Space::Struct => self.by_name(Space::Union, name),
                Space::Union => self.by_name(Space::Struct, name),
                _ => None,
            })
            .ok_or_else(|| unknown(name, span))
    }

    /// The type of that name, in whatever namespace.
    pub fn any_named(&self, name: &str) -> Option<TypeId> {
        [
            Space::Typedef,
            Space::Struct,
            Space::Union,
            Space::Enum,
            Space::Int,
        ]
        .into_iter()
        .find_map(|space| self.by_name(space, name))
    }

    /// Size and alignment of a C type.
    pub fn size_align(&self, id: TypeId) -> (u32, u32) {
        self.size_align_within(id, 0)
    }

    fn size_align_within(&self, id: TypeId, depth: u32) -> (u32, u32) {
        if depth > 32 {
            return (0, 1);
        }
        match self.get(field::strip(self, id)) {
            Some(KType::Int { size, .. } | KType::Enum { size, .. }) => (size, size.clamp(1, 8)),
            Some(KType::Ptr(_)) => (8, 8),
            Some(KType::Array { element, len }) => {
                let (size, align) = self.size_align_within(element, depth + 1);
                (size.saturating_mul(len), align)
            }
            Some(KType::Struct { size, members, .. }) => {
                let align = members
                    .iter()
                    .map(|m| self.size_align_within(m.ty, depth + 1).1)
                    .max();
                (size, align.unwrap_or(1))
            }
            _ => (0, 1),
        }
    }

    /// What a C type is in the language.
    pub fn to_ty(&self, id: TypeId) -> Ty {
        self.to_ty_within(id, 0)
    }

    fn to_ty_within(&self, id: TypeId, depth: u32) -> Ty {
        if depth > 16 {
            return Ty::None;
        }
        let id = field::strip(self, id);
        match self.get(id) {
            Some(KType::Int { boolean: true, .. }) => Ty::Bool,
            Some(KType::Int { size: 16, .. }) => Ty::Array {
                element: Box::new(Ty::U64),
                len: 2,
            },
            Some(KType::Int { size, signed, .. }) => Ty::Int { size, signed },
            Some(KType::Ptr(to)) => Ty::Ptr {
                user: self.is_user(to),
                to: Box::new(self.pointee(to, depth)),
            },
            Some(KType::Array { element, len }) => {
                let inner = field::strip(self, element);
                match self.get(inner) {
                    Some(KType::Int { char: true, .. }) if len > 0 => Ty::Str { len },
                    // BTF of clang and gcc writes `char` as a signed integer of one byte.
                    Some(KType::Int {
                        size: 1,
                        signed: true,
                        boolean: false,
                        ..
                    }) if len > 0 => Ty::Str { len },
                    _ => Ty::Array {
                        element: Box::new(self.to_ty_within(element, depth + 1)),
                        len,
                    },
                }
            }
            Some(KType::Struct {
                name, union, size, ..
            }) => Ty::Struct {
                name: format!("{} {name}", if union { "union" } else { "struct" }),
                id,
                size,
            },
            Some(KType::Enum {
                name,
                size,
                signed,
                values,
            }) => Ty::Enum {
                name,
                size,
                signed,
                values,
            },
            _ => Ty::None,
        }
    }

    fn pointee(&self, to: TypeId, depth: u32) -> Ty {
        self.to_ty_within(to, depth + 1)
    }

    fn is_user(&self, mut id: TypeId) -> bool {
        for _ in 0..16 {
            match self.get(id) {
                Some(KType::Modifier {
                    qualifier: Qualifier::Tag(tag),
                    ..
                }) if tag == "user" => return true,
                Some(KType::Modifier { to, .. } | KType::Typedef { to, .. }) => id = to,
                _ => return false,
            }
        }
        false
    }

    /// A type as written in the language. `typeof` is the caller's.
    pub fn written(&self, ty: &ast::Type, strlen: u32) -> Result<Ty, (ast::Span, String)> {
        let bounded = |n: Option<u64>| -> Result<u32, (ast::Span, String)> {
            match n {
                None => Ok(strlen),
                Some(n) if (1..=16384).contains(&n) => Ok(n as u32),
                Some(n) => Err((ty.span, format!("{n} is not a length from 1 to 16384"))),
            }
        };
        Ok(match &ty.kind {
            TypeKind::Void => Ty::None,
            TypeKind::Bool => Ty::Bool,
            TypeKind::Int { bits, signed } => Ty::Int {
                size: u32::from(*bits) / 8,
                signed: *signed,
            },
            TypeKind::String(len) => Ty::Str { len: bounded(*len)? },
            TypeKind::Buffer(len) => Ty::Buffer { len: bounded(*len)? },
            TypeKind::Inet => Ty::Inet,
            TypeKind::Struct(_) | TypeKind::Union(_) | TypeKind::Enum(_) | TypeKind::Inline(_) => {
                self.to_ty(self.c_type(ty, strlen)?)
            }
            TypeKind::Named(name) => match name.as_str() {
                "kstack_t" => Ty::KStack {
                    mode: StackMode::Bpftrace,
                    depth: 127,
                },
                "ustack_t" => Ty::UStack {
                    mode: StackMode::Bpftrace,
                    depth: 127,
                },
                "ksym_t" => Ty::Ksym,
                "usym_t" => Ty::Usym,
                "username_t" => Ty::Username,
                "mac_address" | "mac_address_t" => Ty::Mac,
                name => match self.any_named(name) {
                    Some(id) => self.to_ty(id),
                    None => return Err(unknown(name, ty.span)),
                },
            },
            TypeKind::Pointer(to) => Ty::Ptr {
                to: Box::new(self.written(to, strlen)?),
                user: false,
            },
            TypeKind::Array(element, len) => {
                let element = self.written(element, strlen)?;
                let len = match len {
                    None => 0,
                    Some(n) => u32::try_from(*n).unwrap_or(u32::MAX),
                };
                if element.size().checked_mul(len).is_none_or(|n| n > 16384) {
                    return Err((ty.span, "the array is too large".into()));
                }
                Ty::Array {
                    element: Box::new(element),
                    len,
                }
            }
            TypeKind::Tuple(fields) => Ty::Tuple(
                fields
                    .iter()
                    .map(|f| self.written(f, strlen))
                    .collect::<Result<_, _>>()?,
            ),
            TypeKind::TypeOf(_) => return Err((ty.span, "typeof can't stand here".into())),
        })
    }

    /// The names of a struct's members, for suggestions.
    pub fn member_names(&self, id: TypeId) -> Vec<String> {
        let mut names = vec![];
        self.collect_members(id, 0, &mut names);
        names
    }

    fn collect_members(&self, id: TypeId, depth: u32, names: &mut Vec<String>) {
        if let Some(KType::Struct { members, .. }) = self.get(field::strip(self, id)) {
            for m in members {
                if m.name.is_empty() && depth < 8 {
                    self.collect_members(m.ty, depth + 1, names);
                } else {
                    names.push(m.name);
                }
            }
        }
    }
}

fn unknown(name: &str, span: ast::Span) -> (ast::Span, String) {
    (span, format!("unknown type '{name}'"))
}
