//! Types that are to be one: what a variable or a map holds that is given different types.

use crate::script::types::Ty;

/// The type that holds both, if there is one. `Ty::None` is not known yet.
pub fn merge(a: &Ty, b: &Ty) -> Option<Ty> {
    Some(match (a, b) {
        _ if a == b => a.clone(),
        (Ty::None, other) | (other, Ty::None) => other.clone(),
        (Ty::Enum { .. }, _) | (_, Ty::Enum { .. }) if a.is_int() && b.is_int() => {
            merge(&plain(a), &plain(b))?
        }
        (Ty::Bool, Ty::Int { .. }) => b.clone(),
        (Ty::Int { .. }, Ty::Bool) => a.clone(),
        (&Ty::Int { size: sa, signed: ga }, &Ty::Int { size: sb, signed: gb }) => {
            if ga == gb {
                Ty::Int {
                    size: sa.max(sb),
                    signed: ga,
                }
            } else {
                let (signed, unsigned) = if ga { (sa, sb) } else { (sb, sa) };
                Ty::Int {
                    size: signed.max(2 * unsigned).min(8),
                    signed: true,
                }
            }
        }
        (Ty::Str { len: la }, Ty::Str { len: lb }) => Ty::Str { len: *la.max(lb) },
        (Ty::Buffer { len: la }, Ty::Buffer { len: lb }) => Ty::Buffer { len: *la.max(lb) },
        (Ty::Tuple(fa), Ty::Tuple(fb)) if fa.len() == fb.len() => Ty::Tuple(
            fa.iter()
                .zip(fb)
                .map(|(a, b)| merge(a, b))
                .collect::<Option<_>>()?,
        ),
        (Ty::Record(fa), Ty::Record(fb)) if fa.len() == fb.len() => Ty::Record(
            fa.iter()
                .zip(fb)
                .map(|((na, a), (nb, b))| (na == nb).then(|| Some((na.clone(), merge(a, b)?)))?)
                .collect::<Option<_>>()?,
        ),
        // Pointers to different things are pointers, but where they point to decides how they are followed.
        (Ty::Ptr { user, .. }, Ty::Ptr { user: other, .. }) if user == other => Ty::Ptr {
            to: Box::new(Ty::None),
            user: *user,
        },
        (Ty::Ptr { .. }, n) if n.is_int() => a.clone(),
        (n, Ty::Ptr { .. }) if n.is_int() => b.clone(),
        (Ty::Timestamp { .. }, Ty::Timestamp { .. }) => a.clone(),
        _ => return None,
    })
}

/// An enum or a bool as the integer that it is.
pub fn plain(ty: &Ty) -> Ty {
    match ty {
        Ty::Enum { size, signed, .. } => Ty::Int {
            size: *size,
            signed: *signed,
        },
        Ty::Bool => Ty::Int {
            size: 1,
            signed: false,
        },
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn int(size: u32, signed: bool) -> Ty {
        Ty::Int { size, signed }
    }

    #[test]
    fn integers_widen_until_they_hold_both() {
        assert_eq!(merge(&int(1, true), &int(4, true)), Some(int(4, true)));
        assert_eq!(merge(&int(2, false), &int(1, true)), Some(int(4, true)));
        assert_eq!(merge(&int(8, false), &int(1, true)), Some(int(8, true)));
        assert_eq!(merge(&int(4, false), &Ty::Str { len: 4 }), None);
    }

    #[test]
    fn tuples_merge_field_by_field() {
        let a = Ty::Tuple(vec![int(4, false), Ty::Str { len: 4 }]);
        let b = Ty::Tuple(vec![Ty::None, Ty::Str { len: 9 }]);
        let both = Ty::Tuple(vec![int(4, false), Ty::Str { len: 9 }]);
        assert_eq!(merge(&a, &b), Some(both));
        assert_eq!(merge(&a, &Ty::Tuple(vec![])), None);
    }
}
