//! Finding a field: through typedefs, qualifiers and anonymous members, as C does.

use super::{KType, Space, TypeId, Types};

/// Where a field is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its type as declared (typedefs and qualifiers included).
    pub ty: TypeId,
    /// Bits from the start of the outermost struct.
    pub bit_offset: u32,
    /// Bits of a bit-field; 0 if it is none.
    pub bits: u32,
}

impl Field {
    /// Bytes from the start of the outermost struct; for a bit-field, of the byte that holds its first bit.
    pub fn offset(&self) -> u32 {
        self.bit_offset / 8
    }
}

/// `id` without typedefs, qualifiers and type tags.
pub fn strip(types: &dyn Types, mut id: TypeId) -> TypeId {
    // BTF can't be cyclic here, but a bound costs nothing against a broken one.
    for _ in 0..64 {
        match types.get(id) {
            Some(KType::Typedef { to, .. } | KType::Modifier { to, .. }) => id = to,
            _ => break,
        }
    }
    id
}

/// The member `name` of a struct or union, looked for in anonymous members too.
pub fn member(types: &dyn Types, owner: TypeId, name: &str) -> Option<Field> {
    member_within(types, owner, name, 0)
}

fn member_within(types: &dyn Types, owner: TypeId, name: &str, depth: u32) -> Option<Field> {
    let KType::Struct { members, .. } = types.get(strip(types, owner))? else {
        return None;
    };
    if let Some(found) = members.iter().find(|m| m.name == name) {
        return Some(Field {
            ty: found.ty,
            bit_offset: found.bit_offset,
            bits: found.bits,
        });
    }
    if depth == 16 {
        return None;
    }
    members.iter().filter(|m| m.name.is_empty()).find_map(|m| {
        let inner = member_within(types, m.ty, name, depth + 1)?;
        Some(Field {
            bit_offset: m.bit_offset + inner.bit_offset,
            ..inner
        })
    })
}

/// A typedef on the way to the number says whether it is in network byte order.
pub fn is_big_endian(types: &dyn Types, mut ty: TypeId) -> bool {
    for _ in 0..64 {
        match types.get(ty) {
            Some(KType::Typedef { name, .. }) if matches!(&name[..], "__be16" | "__be32" | "__be64") => {
                return true;
            }
            Some(KType::Typedef { to, .. } | KType::Modifier { to, .. }) => ty = to,
            _ => return false,
        }
    }
    false
}

/// The names of a struct's members, those of its anonymous members among them.
pub fn member_names(types: &dyn Types, owner: TypeId) -> Vec<String> {
    let mut names = vec![];
    names_within(types, owner, 0, &mut names);
    names
}

fn names_within(types: &dyn Types, owner: TypeId, depth: u32, names: &mut Vec<String>) {
    let Some(KType::Struct { members, .. }) = types.get(strip(types, owner)) else {
        return;
    };
    for member in members {
        match member.name.is_empty() {
            true if depth < 16 => names_within(types, member.ty, depth + 1, names),
            true => {}
            false => names.push(member.name),
        }
    }
}

/// The field at a dotted path inside one struct, such as `__sk_common.skc_net.net` in `sock`. Does not cross
/// pointers.
pub fn path(types: &dyn Types, strukt: &str, dotted: &str) -> Option<Field> {
    let owner = types.by_name(Space::Struct, strukt)?;
    let mut at = Field {
        ty: owner,
        bit_offset: 0,
        bits: 0,
    };
    for name in dotted.split('.') {
        let inner = member(types, at.ty, name)?;
        at = Field {
            bit_offset: at.bit_offset + inner.bit_offset,
            ..inner
        };
    }
    Some(at)
}
