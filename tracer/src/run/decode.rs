//! Bytes as programs lay them out, to values.
//!
//! Bytes that are too few decode to nothing: a record that was cut must not bring the run down.

use ktrail_ebpf::kernel::field::strip;
use ktrail_ebpf::kernel::{KType, Member, TypeId, Types};
use ktrail_ebpf::script::types::{Clock, StackMode, Ty};

use super::format::Value;

/// What numbers stand for, beyond themselves.
pub trait Names {
    /// A kernel address.
    fn ksym(&self, addr: u64) -> String;
    /// An address in a process.
    fn usym(&self, addr: u64, pid: u32) -> String;
    /// The frames of a kernel stack by its id.
    fn kstack(&self, id: i64, mode: StackMode, depth: u32) -> Vec<String>;
    /// The frames of a process's stack by its id.
    fn ustack(&self, id: i64, pid: u32, mode: StackMode, depth: u32) -> Vec<String>;
    /// A time of a clock, by a strftime format.
    fn time(&self, nanos: u64, clock: Clock, format: &str) -> String;
    /// A cgroup by its id.
    fn cgroup(&self, id: u64, filter: &str) -> String;
    /// A user by id.
    fn user(&self, uid: u64) -> String;
    /// An error number.
    fn error(&self, number: i64) -> String;
    /// A signal.
    fn signal(&self, number: i64) -> String;
    /// A system call.
    fn syscall(&self, number: i64) -> String;
    /// A probe by its index.
    fn probe(&self, index: u64) -> String;
}

/// What decoding needs beside the bytes.
pub struct Decoder<'a> {
    /// What numbers stand for.
    pub names: &'a dyn Names,
    /// The kernel's types, for its structs.
    pub types: &'a dyn Types,
    /// What follows a string that was cut.
    pub trailer: &'a str,
}

/// How deep structs within structs are shown.
const DEPTH: u32 = 8;

impl Decoder<'_> {
    /// The value of type `ty` at the start of `bytes`.
    pub fn value(&self, ty: &Ty, bytes: &[u8]) -> Value {
        let u64_at = |offset: usize| unsigned(bytes.get(offset..offset + 8).unwrap_or_default());
        let u32_at = |offset: usize| unsigned(bytes.get(offset..offset + 4).unwrap_or_default()) as u32;
        let named = |name: String| Value::Named {
            number: u64_at(0).into(),
            name,
            constant: false,
        };
        let signed_named = |name: String| Value::Named {
            number: (u64_at(0) as i64).into(),
            name,
            constant: false,
        };
        let part = |offset: u32, ty: &Ty| self.value(ty, bytes.get(offset as usize..).unwrap_or_default());
        match ty {
            Ty::None => Value::None,
            Ty::Bool => Value::Bool(bytes.first().is_some_and(|&b| b != 0)),
            Ty::Int { size, signed } => Value::Int(integer(bytes, *size, *signed)),
            Ty::Enum {
                size, signed, values, ..
            } => enumerator(integer(bytes, *size, *signed), values),
            Ty::Str { len } => Value::Str(self.text(&bytes[..bytes.len().min(*len as usize)])),
            Ty::Buffer { len } => {
                let used = u32_at(0).min(*len) as usize;
                let all = bytes.get(4..).unwrap_or_default();
                Value::Buffer(all[..used.min(all.len())].to_vec())
            }
            Ty::Ptr { .. } => Value::Pointer(u64_at(0)),
            Ty::Array { element, len } => {
                let size = element.size();
                Value::Array((0..*len).map(|i| part(i * size, element)).collect())
            }
            Ty::Tuple(fields) => {
                let offsets = ty.field_offsets();
                Value::Tuple(offsets.iter().zip(fields).map(|(&o, f)| part(o, f)).collect())
            }
            Ty::Record(fields) => {
                let offsets = ty.field_offsets();
                let fields = offsets.iter().zip(fields);
                Value::Record(fields.map(|(&o, (n, f))| (n.clone(), part(o, f))).collect())
            }
            Ty::Struct { id, size, .. } => {
                let bytes = &bytes[..bytes.len().min(*size as usize)];
                self.kernel_value(*id, bytes, DEPTH)
            }
            Ty::Ksym => named(self.names.ksym(u64_at(0))),
            Ty::Usym => named(self.names.usym(u64_at(0), u32_at(8))),
            Ty::KStack { mode, depth } => Value::Stack(self.names.kstack(u64_at(0) as i64, *mode, *depth)),
            Ty::UStack { mode, depth } => {
                let (id, pid) = (u64_at(0) as i64, u32_at(8));
                Value::Stack(self.names.ustack(id, pid, *mode, *depth))
            }
            Ty::Timestamp { format, clock } => Value::Text(self.names.time(u64_at(0), *clock, format)),
            Ty::Inet => Value::Text(address(bytes)),
            Ty::Mac => {
                let each: Vec<String> = bytes.iter().take(6).map(|b| format!("{b:02x}")).collect();
                Value::Text(each.join(":"))
            }
            Ty::CgroupPath { filter } => named(self.names.cgroup(u64_at(0), filter)),
            Ty::Username => named(self.names.user(u64_at(0))),
            Ty::Strerror => signed_named(self.names.error(u64_at(0) as i64)),
            Ty::SignalName => signed_named(self.names.signal(u64_at(0) as i64)),
            Ty::SyscallName => signed_named(self.names.syscall(u64_at(0) as i64)),
            Ty::ProbeName => named(self.names.probe(u64_at(0))),
        }
    }

    /// Text up to its zero byte; what has none was cut.
    fn text(&self, bytes: &[u8]) -> Vec<u8> {
        match bytes.iter().position(|&b| b == 0) {
            Some(end) => bytes[..end].to_vec(),
            None if bytes.is_empty() => vec![],
            None => [bytes, self.trailer.as_bytes()].concat(),
        }
    }

    /// A value of one of the kernel's types.
    fn kernel_value(&self, id: TypeId, bytes: &[u8], depth: u32) -> Value {
        match self.types.get(strip(self.types, id)) {
            Some(KType::Int {
                size,
                signed,
                boolean,
                ..
            }) => match boolean {
                true => Value::Bool(integer(bytes, size, false) != 0),
                false => Value::Int(integer(bytes, size, signed)),
            },
            Some(KType::Enum {
                size, signed, values, ..
            }) => enumerator(integer(bytes, size, signed), &values),
            Some(KType::Ptr(_)) => Value::Pointer(integer(bytes, 8, false) as u64),
            Some(KType::Array { element, len }) => self.kernel_array(element, len, bytes, depth),
            Some(KType::Struct { members, .. }) if depth > 0 => {
                let mut fields = Vec::new();
                for member in &members {
                    let value = self.kernel_member(member, bytes, depth - 1);
                    match (member.name.is_empty(), value) {
                        // Members of an anonymous member count as the struct's own.
                        (true, Value::Record(inner)) => fields.extend(inner),
                        (_, value) => fields.push((member.name.clone(), value)),
                    }
                }
                Value::Record(fields)
            }
            _ => Value::None,
        }
    }

    fn kernel_member(&self, member: &Member, bytes: &[u8], depth: u32) -> Value {
        let at = bytes.get(member.bit_offset as usize / 8..).unwrap_or_default();
        if member.bits == 0 {
            return self.kernel_value(member.ty, at, depth);
        }
        let mut low = [0_u8; 16];
        let have = at.len().min(16);
        low[..have].copy_from_slice(&at[..have]);
        let raw = u128::from_le_bytes(low) >> (member.bit_offset % 8);
        Value::Int((raw & ((1 << member.bits.min(64)) - 1)) as i128)
    }

    fn kernel_array(&self, element: TypeId, len: u32, bytes: &[u8], depth: u32) -> Value {
        match self.types.get(strip(self.types, element)) {
            Some(KType::Int { char: true, .. }) => {
                let bytes = &bytes[..bytes.len().min(len as usize)];
                Value::Str(bytes.split(|&b| b == 0).next().unwrap_or_default().to_vec())
            }
            _ => {
                let size = self.kernel_size(element, depth) as usize;
                let each = (0..len as usize)
                    .map_while(|i| bytes.get(i * size..(i + 1) * size).filter(|b| !b.is_empty()));
                Value::Array(each.map(|b| self.kernel_value(element, b, depth)).collect())
            }
        }
    }

    fn kernel_size(&self, id: TypeId, depth: u32) -> u32 {
        match self.types.get(strip(self.types, id)) {
            Some(KType::Int { size, .. } | KType::Enum { size, .. } | KType::Struct { size, .. }) => size,
            Some(KType::Ptr(_)) => 8,
            Some(KType::Array { element, len }) if depth > 0 => {
                self.kernel_size(element, depth - 1).saturating_mul(len)
            }
            _ => 0,
        }
    }
}

/// A number of up to 8 bytes.
fn unsigned(bytes: &[u8]) -> u64 {
    let mut all = [0_u8; 8];
    let size = bytes.len().min(8);
    if cfg!(target_endian = "little") {
        all[..size].copy_from_slice(&bytes[..size]);
    } else {
        all[8 - size..].copy_from_slice(&bytes[..size]);
    }
    u64::from_ne_bytes(all)
}

/// A number of 1, 2, 4 or 8 bytes.
pub fn integer(bytes: &[u8], size: u32, signed: bool) -> i128 {
    let n = unsigned(&bytes[..bytes.len().min(size as usize)]);
    match (signed, size) {
        (false, _) => n.into(),
        (true, 1) => (n as i8).into(),
        (true, 2) => (n as i16).into(),
        (true, 4) => (n as i32).into(),
        (true, _) => (n as i64).into(),
    }
}

fn enumerator(number: i128, values: &[(String, i64)]) -> Value {
    let known = values.iter().find(|(_, v)| i128::from(*v) == number);
    Value::Named {
        number,
        name: known.map_or_else(|| number.to_string(), |(name, _)| name.clone()),
        constant: true,
    }
}

/// u64 family, then the address.
fn address(bytes: &[u8]) -> String {
    let family = unsigned(bytes.get(..8).unwrap_or_default());
    let octets = bytes.get(8..24).unwrap_or_default();
    let Ok(octets) = <[u8; 16]>::try_from(octets) else {
        return String::new();
    };
    match family {
        10 => std::net::Ipv6Addr::from(octets).to_string(),
        2 => {
            let [a, b, c, d, ..] = octets;
            std::net::Ipv4Addr::new(a, b, c, d).to_string()
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use ktrail_ebpf::kernel::Space;

    use super::*;

    struct Plain;

    impl Names for Plain {
        fn ksym(&self, addr: u64) -> String {
            format!("k{addr}")
        }
        fn usym(&self, addr: u64, pid: u32) -> String {
            format!("u{addr}@{pid}")
        }
        fn kstack(&self, id: i64, _: StackMode, _: u32) -> Vec<String> {
            vec![id.to_string()]
        }
        fn ustack(&self, id: i64, pid: u32, _: StackMode, _: u32) -> Vec<String> {
            vec![format!("{id}@{pid}")]
        }
        fn time(&self, nanos: u64, _: Clock, format: &str) -> String {
            format!("{format}{nanos}")
        }
        fn cgroup(&self, id: u64, _: &str) -> String {
            id.to_string()
        }
        fn user(&self, uid: u64) -> String {
            format!("user{uid}")
        }
        fn error(&self, number: i64) -> String {
            number.to_string()
        }
        fn signal(&self, number: i64) -> String {
            number.to_string()
        }
        fn syscall(&self, number: i64) -> String {
            number.to_string()
        }
        fn probe(&self, index: u64) -> String {
            format!("probe{index}")
        }
    }

    /// One struct: `{ u32 a:4, b:8; char name[4]; }`, and what it is made of.
    struct OneStruct;

    fn id(id: u32) -> TypeId {
        TypeId { object: 0, id }
    }

    impl Types for OneStruct {
        fn by_name(&self, _: Space, _: &str) -> Option<TypeId> {
            None
        }
        fn get(&self, id_: TypeId) -> Option<KType> {
            let int = |size, char| KType::Int {
                name: String::new(),
                size,
                signed: false,
                boolean: false,
                char,
            };
            let member = |name: &str, ty, bit_offset, bits| Member {
                name: name.into(),
                ty: id(ty),
                bit_offset,
                bits,
            };
            Some(match id_.id {
                1 => int(4, false),
                2 => int(1, true),
                3 => KType::Array {
                    element: id(2),
                    len: 4,
                },
                4 => KType::Struct {
                    name: "s".into(),
                    union: false,
                    size: 8,
                    members: vec![
                        member("a", 1, 0, 4),
                        member("b", 1, 4, 8),
                        member("name", 3, 32, 0),
                    ],
                },
                _ => return None,
            })
        }
    }

    fn shown(ty: &Ty, bytes: &[u8]) -> String {
        let decoder = Decoder {
            names: &Plain,
            types: &OneStruct,
            trailer: "..",
        };
        String::from_utf8_lossy(&decoder.value(ty, bytes).text()).into_owned()
    }

    #[test]
    fn scalars() {
        let int = |size, signed| Ty::Int { size, signed };
        assert_eq!(shown(&int(1, true), &[0xff]), "-1");
        assert_eq!(shown(&int(1, false), &[0xff]), "255");
        assert_eq!(shown(&int(4, true), &(-7_i32).to_ne_bytes()), "-7");
        assert_eq!(
            shown(&int(8, false), &u64::MAX.to_ne_bytes()),
            "18446744073709551615"
        );
        assert_eq!(shown(&Ty::Bool, &[1]), "true");
        assert_eq!(shown(&Ty::Str { len: 4 }, b"ab\0d"), "ab");
        assert_eq!(shown(&Ty::Str { len: 4 }, b"abcdefgh"), "abcd..");
        assert_eq!(shown(&Ty::Mac, &[1, 2, 3, 0xa, 0xb, 0xc]), "01:02:03:0a:0b:0c");
        let buffer = [3, 0, 0, 0, b'x', 0, b'y', b'z'];
        assert_eq!(shown(&Ty::Buffer { len: 4 }, &buffer), "x\\x00y");
        let state = Ty::Enum {
            name: "state".into(),
            size: 4,
            signed: false,
            values: vec![("ON".into(), 1)],
        };
        assert_eq!(shown(&state, &1_u32.to_ne_bytes()), "ON");
        assert_eq!(shown(&state, &2_u32.to_ne_bytes()), "2");
    }

    #[test]
    fn addresses() {
        let mut v4 = [0_u8; 24];
        v4[0] = 2;
        v4[8..12].copy_from_slice(&[192, 0, 2, 1]);
        assert_eq!(shown(&Ty::Inet, &v4), "192.0.2.1");
        let mut v6 = [0_u8; 24];
        v6[0] = 10;
        v6[8] = 0x20;
        v6[9] = 1;
        v6[23] = 1;
        assert_eq!(shown(&Ty::Inet, &v6), "2001::1");
        // An IPv4 address in an IPv6 socket.
        v6[8..24].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1]);
        assert_eq!(shown(&Ty::Inet, &v6), "::ffff:192.0.2.1");
    }

    #[test]
    fn compounds() {
        let pair = Ty::Tuple(vec![
            Ty::Int {
                size: 1,
                signed: false,
            },
            Ty::U32,
        ]);
        assert_eq!(shown(&pair, &[7, 0, 0, 0, 9, 0, 0, 0]), "(7, 9)");
        let array = Ty::Array {
            element: Box::new(Ty::U32),
            len: 2,
        };
        assert_eq!(shown(&array, &[1, 0, 0, 0, 2, 0, 0, 0]), "[1,2]");
        let strukt = Ty::Struct {
            name: "struct s".into(),
            id: id(4),
            size: 8,
        };
        let bytes = [0x35, 0x02, 0, 0, b'e', b't', b'h', 0];
        assert_eq!(shown(&strukt, &bytes), "{ .a = 5, .b = 35, .name = eth }");
    }

    #[test]
    fn names_come_from_outside() {
        assert_eq!(shown(&Ty::Ksym, &5_u64.to_ne_bytes()), "k5");
        assert_eq!(shown(&Ty::ProbeName, &1_u64.to_ne_bytes()), "probe1");
        let stack = Ty::KStack {
            mode: StackMode::Bpftrace,
            depth: 127,
        };
        assert_eq!(shown(&stack, &3_u64.to_ne_bytes()), "\n        3\n");
    }

    #[test]
    fn short_bytes_do_no_harm() {
        for ty in [
            Ty::U64,
            Ty::Bool,
            Ty::Inet,
            Ty::Usym,
            Ty::Buffer { len: 8 },
            Ty::Str { len: 8 },
            Ty::Tuple(vec![Ty::U64, Ty::Inet]),
            Ty::Struct {
                name: "struct s".into(),
                id: id(4),
                size: 8,
            },
        ] {
            for len in 0..4 {
                shown(&ty, &[255, 255, 255, 255][..len]);
            }
        }
    }
}
