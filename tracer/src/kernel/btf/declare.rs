//! Types and prototypes as C writes them, roughly.

use ktrail_ebpf::kernel::{KType, TypeId, Types};

/// A type as C writes it, roughly: functions' and arrays' declarators are left out.
pub fn c_type(types: &dyn Types, id: TypeId) -> String {
    nested(types, id, 0)
}

fn nested(types: &dyn Types, id: TypeId, depth: u32) -> String {
    const MOST: u32 = 16;
    let inner = |to| match depth {
        MOST => "...".into(),
        _ => nested(types, to, depth + 1),
    };
    match types.get(id) {
        Some(KType::Void) | None => "void".into(),
        Some(KType::Int {
            size,
            signed,
            boolean,
            char,
        }) => match (boolean, char) {
            (true, _) => "bool".into(),
            (_, true) => "char".into(),
            _ => format!("{}int{}", if signed { "" } else { "u" }, size * 8),
        },
        Some(KType::Ptr(to)) => match inner(to) {
            text if text.ends_with('*') => format!("{text}*"),
            text => format!("{text} *"),
        },
        Some(KType::Array { element, len }) => format!("{}[{len}]", inner(element)),
        Some(KType::Struct { name, union, .. }) => {
            format!("{} {name}", if union { "union" } else { "struct" })
        }
        Some(KType::Enum { name, .. }) => format!("enum {name}"),
        Some(KType::Typedef { name, .. }) => name,
        Some(KType::Modifier { to, .. }) => inner(to),
        Some(KType::Proto { .. }) => "void (*)()".into(),
        Some(KType::Func { name, .. }) => name,
        Some(KType::Other) => "?".into(),
    }
}

/// A function's prototype with its parameters' names: `int32 f(struct sk_buff *skb)`.
pub fn prototype(types: &dyn Types, function: TypeId) -> Option<String> {
    let Some(KType::Func { name, proto }) = types.get(function) else {
        return None;
    };
    let Some(KType::Proto {
        params,
        returns,
        variadic,
    }) = types.get(proto)
    else {
        return None;
    };
    let declare = |ty, name: &str| match c_type(types, ty) {
        text if text.ends_with('*') || name.is_empty() => format!("{text}{name}"),
        text => format!("{text} {name}"),
    };
    let mut list: Vec<String> = params.iter().map(|(name, ty)| declare(*ty, name)).collect();
    if variadic {
        list.push("...".into());
    }
    if list.is_empty() {
        list.push("void".into());
    }
    Some(format!("{}({})", declare(returns, &name), list.join(", ")))
}
