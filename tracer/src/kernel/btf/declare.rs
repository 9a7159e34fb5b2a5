//! Types as C declares them.
//!
//! Deliberately absent: padding, alignment, attributes and type tags, so a definition is for reading, not for compiling.

use ktrail_ebpf::kernel::{KType, Member, Qualifier, TypeId, Types};

/// How deep types lie in each other; the kernel's are not half as deep.
const MOST: u32 = 32;

/// A type without a name: `const struct sk_buff *`.
pub fn c_type(types: &dyn Types, id: TypeId) -> String {
    let declaration = Writer {
        types,
        depth: 0,
        tabs: 0,
    }
    .declare(id, "");
    declaration.trim_end().into()
}

/// A function's prototype with its parameters' names: `int f(const struct sk_buff *skb, int offset)`.
pub fn prototype(types: &dyn Types, function: TypeId) -> Option<String> {
    let Some(KType::Func { name, proto }) = types.get(function) else {
        return None;
    };
    Some(
        Writer {
            types,
            depth: 0,
            tabs: 0,
        }
        .declare(proto, &name),
    )
}

/// What is in a struct, a union or an enum, one member a line. `None` for any other type.
pub fn definition(types: &dyn Types, id: TypeId) -> Option<String> {
    Writer {
        types,
        depth: 0,
        tabs: 0,
    }
    .body(&types.get(id)?)
}

/// Writes at a depth of types in types, and of bodies in bodies.
#[derive(Clone, Copy)]
struct Writer<'a> {
    types: &'a dyn Types,
    depth: u32,
    tabs: usize,
}

impl Writer<'_> {
    /// C writes what a name is around it, from the inside out: `declarator` is the name and what is around it so far.
    fn declare(self, id: TypeId, declarator: &str) -> String {
        let named = |text: &str| match declarator {
            "" => text.to_owned(),
            declarator => format!("{text} {declarator}"),
        };
        if self.depth == MOST {
            return named("...");
        }
        let inner = Writer {
            depth: self.depth + 1,
            ..self
        };
        let Some(ty) = self.types.get(id) else {
            return named("void");
        };
        match &ty {
            KType::Void => named("void"),
            KType::Int { name, .. } | KType::Typedef { name, .. } | KType::Func { name, .. } => named(name),
            KType::Forward { name, union } => named(&format!("{} {name}", keyword(*union))),
            KType::Struct { name, union, .. } if !name.is_empty() => {
                named(&format!("{} {name}", keyword(*union)))
            }
            KType::Enum { name, .. } if !name.is_empty() => named(&format!("enum {name}")),
            KType::Struct { .. } | KType::Enum { .. } => named(&inner.body(&ty).unwrap_or_default()),
            KType::Ptr(to) => match self.types.get(*to) {
                Some(KType::Array { .. } | KType::Proto { .. }) => {
                    inner.declare(*to, &format!("(*{declarator})"))
                }
                _ => inner.declare(*to, &format!("*{declarator}")),
            },
            KType::Array { element, len } => inner.declare(*element, &format!("{declarator}[{len}]")),
            KType::Modifier { qualifier, to } => {
                let word = match qualifier {
                    Qualifier::Const => "const",
                    Qualifier::Volatile => "volatile",
                    Qualifier::Restrict => "restrict",
                    Qualifier::Tag(_) => return inner.declare(*to, declarator),
                };
                match self.types.get(*to) {
                    // The pointer itself is constant, not what it points to.
                    Some(KType::Ptr(_)) => inner.declare(*to, format!(" {word} {declarator}").trim_end()),
                    _ => format!("{word} {}", inner.declare(*to, declarator)),
                }
            }
            KType::Proto {
                params,
                returns,
                variadic,
            } => {
                let mut list: Vec<String> =
                    params.iter().map(|(name, ty)| inner.declare(*ty, name)).collect();
                if *variadic {
                    list.push("...".into());
                }
                if list.is_empty() {
                    list.push("void".into());
                }
                inner.declare(*returns, &format!("{declarator}({})", list.join(", ")))
            }
            KType::Other => named("?"),
        }
    }

    fn body(self, ty: &KType) -> Option<String> {
        let indent = "\t".repeat(self.tabs);
        let (head, lines) = match ty {
            KType::Struct {
                name, union, members, ..
            } => {
                let within = Writer {
                    tabs: self.tabs + 1,
                    ..self
                };
                let lines: Vec<String> = members.iter().map(|m| within.member(m)).collect();
                (format!("{} {name}", keyword(*union)), lines)
            }
            KType::Enum {
                name, values, size, ..
            } => {
                let value = |(name, value): &(String, i64)| match (*size, *value) {
                    (8, value @ ..0) => format!("{name} = {value}LL,"),
                    (8, value) => format!("{name} = {}ULL,", value.cast_unsigned()),
                    (_, value) => format!("{name} = {value},"),
                };
                (format!("enum {name}"), values.iter().map(value).collect())
            }
            _ => return None,
        };
        let lines: String = lines.iter().map(|line| format!("{indent}\t{line}\n")).collect();
        Some(format!("{} {{\n{lines}{indent}}}", head.trim_end()))
    }

    fn member(self, member: &Member) -> String {
        match (self.declare(member.ty, &member.name), member.bits) {
            (text, 0) => format!("{text};"),
            (text, bits) => format!("{text}: {bits};"),
        }
    }
}

fn keyword(union: bool) -> &'static str {
    if union { "union" } else { "struct" }
}
