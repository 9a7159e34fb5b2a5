//! BTF as bytes: where each type is, and its header.
//!
//! The start of a run walks over every type of the kernel. On the bytes that takes a tenth of the time that it takes
//! through btf-rs, which copies each type; everything that looks at single types goes through btf-rs. The format is
//! in the kernel's Documentation/bpf/btf.rst.

use super::bytes::Bytes;

/// `BTF_KIND_*` of linux/btf.h.
pub(super) mod kind {
    pub const INT: u32 = 1;
    pub const PTR: u32 = 2;
    pub const ARRAY: u32 = 3;
    pub const STRUCT: u32 = 4;
    pub const UNION: u32 = 5;
    pub const ENUM: u32 = 6;
    pub const FWD: u32 = 7;
    pub const TYPEDEF: u32 = 8;
    pub const VOLATILE: u32 = 9;
    pub const CONST: u32 = 10;
    pub const RESTRICT: u32 = 11;
    pub const FUNC: u32 = 12;
    pub const FUNC_PROTO: u32 = 13;
    pub const VAR: u32 = 14;
    pub const DATASEC: u32 = 15;
    pub const FLOAT: u32 = 16;
    pub const DECL_TAG: u32 = 17;
    pub const TYPE_TAG: u32 = 18;
    pub const ENUM64: u32 = 19;
}

/// One object's BTF. A module's goes on counting types and strings where the kernel's ends.
pub(super) struct Raw {
    bytes: Bytes,
    /// Where each type starts.
    offsets: Vec<u32>,
    strings: std::ops::Range<usize>,
    first_id: u32,
    first_string: u32,
}

/// A type's `struct btf_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub name: u32,
    pub kind: u32,
    pub vlen: u32,
    /// What the type refers to, or its size in bytes, by kind.
    pub size_or_type: u32,
    /// Where what follows starts.
    rest: usize,
}

impl Raw {
    /// Find the types. `base`: the kernel's, if this is a module's.
    ///
    /// # Errors
    /// What is wrong with the bytes. Types of a kind that is not known yet end the walk: those after them are not
    /// found.
    pub(super) fn parse(bytes: Bytes, base: Option<&Raw>) -> Result<Raw, String> {
        const MAGIC: u16 = 0xeb9f;
        let half = |at: usize| Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?));
        let word = |at: usize| word(&bytes, at);
        if half(0) != Some(MAGIC) {
            return Err("it is no BTF of this machine's byte order".into());
        }
        let section = |at: usize| -> Option<std::ops::Range<usize>> {
            let start = word(4)?.checked_add(word(at)?)? as usize;
            let end = start.checked_add(word(at + 4)? as usize)?;
            (end <= bytes.len()).then_some(start..end)
        };
        let (Some(types), Some(strings)) = (section(8), section(16)) else {
            return Err("its sections reach beyond its end".into());
        };
        let mut raw = Raw {
            offsets: Vec::with_capacity(types.len() / 24),
            strings,
            first_id: base.map_or(1, Raw::end),
            first_string: base.map_or(0, |b| b.first_string + b.strings.len() as u32),
            bytes,
        };
        let mut at = types.start;
        while at < types.end {
            let Some(header) = raw.header_at(at) else { break };
            let Some(rest) = rest_len(&header) else { break };
            raw.offsets.push(at as u32);
            at = header.rest + rest;
        }
        Ok(raw)
    }

    /// All of it.
    pub(super) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The first id that is not of this object, nor before it.
    pub(super) fn end(&self) -> u32 {
        self.first_id + self.offsets.len() as u32
    }

    /// The object's ids and headers, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, Header)> {
        (self.first_id..).zip(self.offsets.iter().map_while(|&at| self.header_at(at as usize)))
    }

    fn header_at(&self, at: usize) -> Option<Header> {
        let bytes: &[u8; 12] = self.bytes.get(at..)?.first_chunk()?;
        let [name, info, size_or_type] = [0, 4, 8].map(|i| word(bytes, i).unwrap_or(0));
        Some(Header {
            name,
            kind: info >> 24 & 0x1f,
            vlen: info & 0xffff,
            size_or_type,
            rest: at + 12,
        })
    }
}

/// Bytes that follow a header.
fn rest_len(header: &Header) -> Option<usize> {
    let vlen = header.vlen as usize;
    Some(match header.kind {
        kind::INT | kind::VAR | kind::DECL_TAG => 4,
        kind::ARRAY => 12,
        kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => 12 * vlen,
        kind::ENUM | kind::FUNC_PROTO => 8 * vlen,
        kind::PTR | kind::FWD | kind::TYPEDEF | kind::VOLATILE | kind::CONST => 0,
        kind::RESTRICT | kind::FUNC | kind::FLOAT | kind::TYPE_TAG => 0,
        _ => return None,
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// An object's types as it sees them: its own and, if it is a module, the kernel's.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub base: &'a Raw,
    pub own: &'a Raw,
}

impl<'a> View<'a> {
    fn of(self, id: u32) -> &'a Raw {
        if id < self.own.first_id {
            self.base
        } else {
            self.own
        }
    }

    /// A type's header. None for `void` and for what is not there.
    pub(super) fn header(self, id: u32) -> Option<Header> {
        let raw = self.of(id);
        let at = *raw.offsets.get(id.checked_sub(raw.first_id)? as usize)?;
        raw.header_at(at as usize)
    }

    /// The types of a prototype's parameters. A last one of 0 stands for `...`.
    pub(super) fn params(self, id: u32) -> Option<impl ExactSizeIterator<Item = u32> + Clone + use<'a>> {
        let header = self.header(id).filter(|h| h.kind == kind::FUNC_PROTO)?;
        let bytes = self
            .of(id)
            .bytes
            .get(header.rest..header.rest + 8 * header.vlen as usize)?;
        Some(bytes.chunks_exact(8).map(|param| word(param, 4).unwrap_or(0)))
    }

    /// The names of an enum's constants.
    pub(super) fn enumerators(self, id: u32) -> impl Iterator<Item = &'a str> {
        let header = self.header(id);
        let size = match header.map(|h| h.kind) {
            Some(kind::ENUM) => 8,
            Some(kind::ENUM64) => 12,
            _ => 0,
        };
        let bytes = header.and_then(|h| {
            let all = self.of(id).bytes.get(h.rest..h.rest + size * h.vlen as usize)?;
            Some(all.chunks_exact(size.max(1)))
        });
        let each = bytes.into_iter().flatten();
        each.map(move |constant| self.name(word(constant, 0).unwrap_or(0)))
    }

    /// A name; empty if there is none or if it is not UTF-8.
    pub(super) fn name(self, offset: u32) -> &'a str {
        let raw = if offset < self.own.first_string {
            self.base
        } else {
            self.own
        };
        let start = raw.strings.start + (offset - raw.first_string) as usize;
        let bytes = raw.bytes.get(start..raw.strings.end).unwrap_or_default();
        let end = bytes.iter().position(|&b| b == 0).unwrap_or(0);
        std::str::from_utf8(&bytes[..end]).unwrap_or_default()
    }
}
