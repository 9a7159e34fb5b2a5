//! What reports carry on request: fields of the packet's skb, and the stack.
//!
//! Deliberately absent: how values look ([`super::render`]).

use ktrail_ebpf::kernel::{KType, Space, TypeId, Types, field};
use ktrail_ebpf::nearest::nearest;
use serde::{Deserialize, Serialize};

/// What is reported beside the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extras {
    /// Fields of the skb.
    pub fields: Vec<Field>,
    /// How many return addresses; 0 for no stack.
    pub stack: u32,
}

/// A field that is reported, and how to get there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// As it was typed: `skb.dev.mtu`.
    pub path: String,
    /// Offsets of the pointers on the way, outermost first.
    pub pointers: Vec<u32>,
    /// The value's offset in bytes behind the last of them.
    pub off: u32,
    /// What it is.
    pub kind: Kind,
}

/// What a field's value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// A number.
    Number {
        /// Bytes to read: 1, 2, 4 or 8.
        size: u32,
        /// Negative numbers are possible.
        signed: bool,
        /// It is in network byte order.
        swap: bool,
        /// For a bit-field: how far to shift it right, and how many bits it has.
        bits: Option<(u32, u32)>,
    },
    /// A kernel address.
    Address,
    /// Characters, as many as fit.
    Text,
}

/// Bytes of a text that are reported, its end among them.
pub const TEXT: u32 = 16;

/// A field's value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Value {
    /// Of a number that can't be negative.
    Unsigned(u64),
    /// Of one that can.
    Signed(i64),
    /// A kernel address.
    Address(u64),
    /// A text: any bytes but NUL. Escape before printing.
    Text(Vec<u8>),
}

impl Kind {
    /// Bytes in a report.
    pub fn room(self) -> u32 {
        match self {
            Kind::Text => TEXT,
            Kind::Number { .. } | Kind::Address => 8,
        }
    }

    /// The value that a report holds.
    fn value(self, bytes: &[u8]) -> Value {
        let raw = u64::from_le_bytes(bytes.first_chunk().copied().unwrap_or_default());
        match self {
            Kind::Text => Value::Text(bytes.split(|&b| b == 0).next().unwrap_or_default().to_vec()),
            Kind::Address => Value::Address(raw),
            Kind::Number {
                size,
                signed,
                swap,
                bits,
            } => {
                let unused = 64 - size * 8;
                let raw = if swap { raw.swap_bytes() >> unused } else { raw };
                let (raw, unused) = match bits {
                    Some((shift, bits)) => (raw >> shift << (64 - bits) >> (64 - bits), 64 - bits),
                    None => (raw, unused),
                };
                match signed {
                    true => Value::Signed(((raw << unused) as i64) >> unused),
                    false => Value::Unsigned(raw),
                }
            }
        }
    }
}

impl Extras {
    /// Bytes of a report's end that hold the fields: a mask of those that could be read, and their values.
    pub fn fields_size(&self) -> u32 {
        match self.fields.is_empty() {
            true => 0,
            false => 8 + self.fields.iter().map(|field| field.kind.room()).sum::<u32>(),
        }
    }

    /// Bytes of a report's end that hold the stack, behind the fields: its length in bytes, and the addresses.
    pub fn stack_size(&self) -> u32 {
        match self.stack {
            0 => 0,
            depth => 8 + depth * 8,
        }
    }

    /// Both.
    pub fn size(&self) -> u32 {
        self.fields_size() + self.stack_size()
    }

    /// The fields' values and the stack, from the end of a report; none for a field that could not be read.
    pub fn decode(&self, bytes: &[u8]) -> (Vec<Option<Value>>, Vec<u64>) {
        let word = |at: usize| {
            let word = bytes.get(at..).and_then(|b| b.first_chunk().copied());
            u64::from_le_bytes(word.unwrap_or_default())
        };
        let mask = word(0);
        let mut at = 8;
        let mut values = vec![];
        for (number, field) in self.fields.iter().enumerate() {
            let end = at + field.kind.room() as usize;
            let read = mask & (1 << number) != 0;
            values.push(bytes.get(at..end).filter(|_| read).map(|b| field.kind.value(b)));
            at = end;
        }
        let start = self.fields_size() as usize;
        let length = (word(start) as i64).clamp(0, i64::from(self.stack) * 8) as usize;
        let stack = match self.stack {
            0 => vec![],
            _ => (0..length / 8).map(|i| word(start + 8 + i * 8)).collect(),
        };
        (values, stack)
    }
}

/// More fields than this no report carries.
pub const MOST_FIELDS: usize = 16;
/// More pointers than this no path follows.
const MOST_POINTERS: usize = 8;

/// Look up a path from the skb, such as `skb.dev.mtu`, in this kernel's types.
///
/// # Errors
/// What is wrong with it, and the way out.
pub fn field(types: &dyn Types, path: &str) -> Result<Field, String> {
    let mut names = path.split('.');
    if names.next() != Some("skb") {
        return Err(format!(
            "{path:?} does not begin with \"skb.\", as in skb.dev.mtu"
        ));
    }
    let mut ty = types
        .by_name(Space::Struct, "sk_buff")
        .ok_or("this kernel's types are not known: it needs CONFIG_DEBUG_INFO_BTF")?;
    let (mut pointers, mut bit_offset, mut bits) = (vec![], 0, 0);
    for name in names {
        if let Some(KType::Ptr(to)) = types.get(field::strip(types, ty)) {
            if pointers.len() == MOST_POINTERS {
                return Err(format!("{path:?} has more than {MOST_POINTERS} pointers"));
            }
            pointers.push(bit_offset / 8);
            (ty, bit_offset) = (to, 0);
        }
        let inner = field::member(types, ty, name).ok_or_else(|| no_field(types, ty, path, name))?;
        bit_offset += inner.bit_offset;
        (ty, bits) = (inner.ty, inner.bits);
    }
    let kind = kind(types, ty, (bit_offset, bits)).map_err(|what| format!("{path:?} is {what}"))?;
    Ok(Field {
        path: path.into(),
        pointers,
        off: bit_offset / 8,
        kind,
    })
}

fn kind(types: &dyn Types, ty: TypeId, (bit_offset, bits): (u32, u32)) -> Result<Kind, &'static str> {
    let swap = field::is_big_endian(types, ty);
    let is_char = |id| {
        matches!(
            types.get(field::strip(types, id)),
            Some(KType::Int { size: 1, .. })
        )
    };
    match types.get(field::strip(types, ty)) {
        Some(KType::Int { size, signed, .. } | KType::Enum { size, signed, .. }) => {
            if bits > 0 {
                let shift = bit_offset % 8;
                let size = (shift + bits).div_ceil(8).next_power_of_two();
                if size > 8 {
                    return Err("a bit-field across more than 8 bytes, which is not read");
                }
                let bits = Some((shift, bits));
                return Ok(Kind::Number {
                    size,
                    signed,
                    swap: false,
                    bits,
                });
            }
            match size {
                1 | 2 | 4 | 8 => Ok(Kind::Number {
                    size,
                    signed,
                    swap,
                    bits: None,
                }),
                _ => Err("a number of more than 8 bytes, which is not read"),
            }
        }
        Some(KType::Ptr(_)) => Ok(Kind::Address),
        Some(KType::Array { element, .. }) if is_char(element) => Ok(Kind::Text),
        Some(KType::Struct { .. }) => {
            Err("a struct: go on with '.' and the name of one of its fields, as in skb.dev.mtu")
        }
        _ => Err("neither a number nor a text: show another field"),
    }
}

fn no_field(types: &dyn Types, owner: TypeId, path: &str, name: &str) -> String {
    let stripped = field::strip(types, owner);
    let Some(KType::Struct { name: owner, .. }) = types.get(stripped) else {
        return format!("{path:?}: what is before {name:?} is no struct");
    };
    let names = field::member_names(types, stripped);
    let meant = nearest(name, names.iter().map(|name| &name[..]))
        .map(|name| format!("; did you mean {name:?}?"))
        .unwrap_or_default();
    format!("{path:?}: struct {owner} of this kernel has no field {name:?}{meant}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_their_types_say() {
        let number = |size, signed, swap, bits| Kind::Number {
            size,
            signed,
            swap,
            bits,
        };
        let of = |kind: Kind, raw: u64| kind.value(&raw.to_le_bytes());
        assert_eq!(of(number(2, false, true, None), 0x3500), Value::Unsigned(53));
        assert_eq!(of(number(4, true, false, None), 0xffff_fffe), Value::Signed(-2));
        assert_eq!(
            of(number(4, false, false, None), 0xffff_fffe),
            Value::Unsigned(0xffff_fffe)
        );
        assert_eq!(
            of(number(1, false, false, Some((5, 2))), 0b0100_0000),
            Value::Unsigned(2)
        );
        assert_eq!(of(number(8, false, true, None), 1), Value::Unsigned(1 << 56));
        assert_eq!(
            Kind::Text.value(b"eth0\0\0\0\0xyzxyzxy"),
            Value::Text(b"eth0".to_vec())
        );
    }

    #[test]
    fn a_report_may_lack_what_could_not_be_read() {
        let field = |kind| Field {
            path: "skb.x".into(),
            pointers: vec![],
            off: 0,
            kind,
        };
        let extras = Extras {
            fields: vec![field(Kind::Address), field(Kind::Text), field(Kind::Address)],
            stack: 4,
        };
        let mut bytes = vec![0_u8; extras.size() as usize];
        bytes[0] = 0b110;
        bytes[16..19].copy_from_slice(b"lo\0");
        bytes[32] = 7;
        bytes[40..48].copy_from_slice(&16_u64.to_le_bytes());
        bytes[48] = 1;
        bytes[56] = 2;
        let values = vec![None, Some(Value::Text(b"lo".to_vec())), Some(Value::Address(7))];
        assert_eq!(extras.decode(&bytes), (values, vec![1, 2]));
        // A stack that could not be taken: a negative length.
        bytes[40..48].copy_from_slice(&(-14_i64).to_le_bytes());
        assert_eq!(extras.decode(&bytes).1, <[u64; 0]>::default());
    }
}
