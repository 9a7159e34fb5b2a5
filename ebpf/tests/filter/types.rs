//! A few types of a kernel, as a table.

use ktrail_ebpf::kernel::{KType, Member, Space, TypeId};

/// `sk_buff` with `mark`, `dev` and `name`; `net_device` with `ifindex` and `name`.
pub struct Types;

const INT: u32 = 1;
const CHAR: u32 = 2;
const NAME: u32 = 3;
const SKB: u32 = 4;
const DEV: u32 = 5;
const DEV_PTR: u32 = 6;

fn id(id: u32) -> TypeId {
    TypeId { object: 0, id }
}

impl ktrail_ebpf::kernel::Types for Types {
    fn by_name(&self, _: Space, name: &str) -> Option<TypeId> {
        match name {
            "sk_buff" => Some(id(SKB)),
            "net_device" => Some(id(DEV)),
            _ => None,
        }
    }

    fn get(&self, ty: TypeId) -> Option<KType> {
        let int = |size, char| KType::Int {
            name: String::new(),
            size,
            signed: false,
            boolean: false,
            char,
        };
        let strukt = |name: &str, members: &[(&str, u32, u32)]| KType::Struct {
            name: name.into(),
            union: false,
            size: 64,
            members: members
                .iter()
                .map(|(name, ty, offset)| Member {
                    name: (*name).into(),
                    ty: id(*ty),
                    bit_offset: offset * 8,
                    bits: 0,
                })
                .collect(),
        };
        Some(match ty.id {
            INT => int(4, false),
            CHAR => int(1, true),
            NAME => KType::Array {
                element: id(CHAR),
                len: 16,
            },
            SKB => strukt(
                "sk_buff",
                &[("mark", INT, 0), ("dev", DEV_PTR, 8), ("name", NAME, 16)],
            ),
            DEV => strukt("net_device", &[("ifindex", INT, 0), ("name", NAME, 8)]),
            DEV_PTR => KType::Ptr(id(DEV)),
            _ => return None,
        })
    }
}
