//! Reading pcap and pcapng files, packet by packet. (draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng)
//!
//! Every byte of a file belongs to one [`Item`], so that a selection of packets can be written back without loss:
//! timestamps, comments and interfaces stay as they are.

use std::io::{self, Read};

use anyhow::{Context, bail};

/// What is longer is no packet and no sane block.
const MAX_LEN: usize = 64 << 20;

const PCAP_MICROSECONDS: u32 = 0xa1b2_c3d4;
pub(super) const PCAP_NANOSECONDS: u32 = 0xa1b2_3c4d;
/// A section header block's type reads the same in both byte orders; its third word tells the order.
const NG_SECTION: u32 = 0x0a0d_0d0a;
const NG_BYTE_ORDER: u32 = 0x1a2b_3c4d;
const NG_INTERFACE: u32 = 1;
/// Obsolete.
const NG_PACKET: u32 = 2;
const NG_SIMPLE_PACKET: u32 = 3;
const NG_ENHANCED_PACKET: u32 = 6;

/// A packet of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Number in the registry of link types.
    pub link: u32,
    /// How many bytes it had, of which `data` may be the first.
    pub wire: u32,
    /// Where in the item's bytes its data is.
    data: std::ops::Range<usize>,
}

/// A piece of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The bytes as they stand in the file.
    pub bytes: Vec<u8>,
    /// The packet, if it is one.
    pub packet: Option<Packet>,
}

impl Item {
    /// The packet's captured bytes.
    pub fn data(&self) -> &[u8] {
        match &self.packet {
            Some(packet) => &self.bytes[packet.data.clone()],
            None => &[],
        }
    }
}

/// Reads a file.
pub struct Reader<R> {
    input: R,
    format: Format,
    /// The file header of pcap, which is an item too.
    pending: Option<Item>,
}

enum Format {
    Pcap { big: bool, link: u32 },
    Pcapng(Section),
}

/// A section of a pcapng file.
struct Section {
    big: bool,
    /// Link type and snapshot length of each interface.
    interfaces: Vec<(u32, u32)>,
}

impl<R: Read> Reader<R> {
    /// Look at the start of a file.
    ///
    /// # Errors
    /// If it is neither format, or can't be read.
    pub fn new(mut input: R) -> anyhow::Result<Reader<R>> {
        let mut magic = [0; 4];
        if !read_or_end(&mut input, &mut magic)? {
            bail!("the file is empty");
        }
        let little = u32::from_le_bytes(magic);
        let big = u32::from_be_bytes(magic);
        if little == NG_SECTION {
            let mut reader = Reader {
                input,
                format: Format::Pcapng(Section {
                    big: false,
                    interfaces: vec![],
                }),
                pending: None,
            };
            reader.pending = Some(reader.block(magic)?);
            return Ok(reader);
        }
        let is_pcap = |magic| magic == PCAP_MICROSECONDS || magic == PCAP_NANOSECONDS;
        if !is_pcap(little) && !is_pcap(big) {
            bail!("this is no pcap or pcapng file");
        }
        let big = is_pcap(big);
        let mut bytes = magic.to_vec();
        fill(&mut input, &mut bytes, 24)?;
        // The upper bits say other things.
        let link = number(&bytes, 20, big) & 0xffff;
        let packet = None;
        Ok(Reader {
            input,
            format: Format::Pcap { big, link },
            pending: Some(Item { bytes, packet }),
        })
    }

    /// The next piece; `None` at the end of the file.
    ///
    /// # Errors
    /// If the file ends within an item, or an item contradicts itself.
    pub fn item(&mut self) -> anyhow::Result<Option<Item>> {
        if let Some(item) = self.pending.take() {
            return Ok(Some(item));
        }
        match self.format {
            Format::Pcap { big, link } => self.record(big, link),
            Format::Pcapng(_) => {
                let mut kind = [0; 4];
                if !read_or_end(&mut self.input, &mut kind)? {
                    return Ok(None);
                }
                self.block(kind).map(Some)
            }
        }
    }

    /// A record of a pcap file.
    fn record(&mut self, big: bool, link: u32) -> anyhow::Result<Option<Item>> {
        let mut start = [0; 4];
        if !read_or_end(&mut self.input, &mut start)? {
            return Ok(None);
        }
        let mut bytes = start.to_vec();
        fill(&mut self.input, &mut bytes, 16)?;
        let captured = number(&bytes, 8, big) as usize;
        let wire = number(&bytes, 12, big);
        if captured > MAX_LEN {
            bail!("a packet of {captured} bytes: the file is damaged");
        }
        fill(&mut self.input, &mut bytes, 16 + captured)?;
        let data = 16..16 + captured;
        Ok(Some(Item {
            bytes,
            packet: Some(Packet { link, wire, data }),
        }))
    }

    /// A block of a pcapng file whose first four bytes have been read.
    fn block(&mut self, kind: [u8; 4]) -> anyhow::Result<Item> {
        let Format::Pcapng(section) = &mut self.format else {
            bail!("a block in a file that has none");
        };
        let mut bytes = kind.to_vec();
        fill(&mut self.input, &mut bytes, 12)?;
        if number(&bytes, 0, section.big) == NG_SECTION {
            section.interfaces.clear();
            section.big = match number(&bytes, 8, false) {
                NG_BYTE_ORDER => false,
                _ if number(&bytes, 8, true) == NG_BYTE_ORDER => true,
                _ => bail!("a section without a byte order: the file is damaged"),
            };
        }
        let big = section.big;
        let len = number(&bytes, 4, big) as usize;
        if !(12..=MAX_LEN).contains(&len) || !len.is_multiple_of(4) {
            bail!("a block of {len} bytes: the file is damaged");
        }
        fill(&mut self.input, &mut bytes, len)?;
        // The length stands at the end again.
        let body = &bytes[8..len - 4];
        let word = |at: usize| {
            (at + 4 <= body.len())
                .then(|| number(body, at, big))
                .context("a block that is too short: the file is damaged")
        };
        let interface = |index: u32| {
            let known = section.interfaces.get(index as usize).copied();
            known.context("a packet of an unknown interface: the file is damaged")
        };
        // Link type, captured bytes, bytes on the wire, and where the data starts in the body.
        let packet = match number(&bytes, 0, big) {
            NG_INTERFACE => {
                let link = match big {
                    false => word(0)? & 0xffff,
                    true => word(0)? >> 16,
                };
                let snap = word(4)?;
                section.interfaces.push((link, snap));
                None
            }
            NG_ENHANCED_PACKET => Some((interface(word(0)?)?.0, word(12)?, word(16)?, 20)),
            NG_PACKET => {
                let index = match big {
                    false => word(0)? & 0xffff,
                    true => word(0)? >> 16,
                };
                Some((interface(index)?.0, word(12)?, word(16)?, 20))
            }
            NG_SIMPLE_PACKET => {
                let (link, snap) = interface(0)?;
                let wire = word(0)?;
                let captured = if snap == 0 { wire } else { wire.min(snap) };
                Some((link, captured, wire, 4))
            }
            _ => None,
        };
        let packet = match packet {
            None => None,
            Some((link, captured, wire, start)) => {
                let end = start + captured as usize;
                if end > body.len() {
                    bail!("a packet that is longer than its block: the file is damaged");
                }
                let data = 8 + start..8 + end;
                Some(Packet { link, wire, data })
            }
        };
        Ok(Item { bytes, packet })
    }
}

/// Read on until `bytes` has `len` bytes.
fn fill(input: &mut impl Read, bytes: &mut Vec<u8>, len: usize) -> anyhow::Result<()> {
    let missing = len.saturating_sub(bytes.len());
    let read = input.take(missing as u64).read_to_end(bytes)?;
    if read < missing {
        bail!("the file ends in the middle of a packet or a block");
    }
    Ok(())
}

/// Fill `buffer`; false at the end of the file.
fn read_or_end(input: &mut impl Read, buffer: &mut [u8]) -> anyhow::Result<bool> {
    let mut read = 0;
    while read < buffer.len() {
        match input.read(&mut buffer[read..]) {
            Ok(0) if read == 0 => return Ok(false),
            Ok(0) => bail!("the file ends in the middle of a packet or a block"),
            Ok(n) => read += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(true)
}

fn number(bytes: &[u8], at: usize, big: bool) -> u32 {
    let word: [u8; 4] = bytes[at..at + 4].try_into().expect("four bytes");
    match big {
        false => u32::from_le_bytes(word),
        true => u32::from_be_bytes(word),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Items of a file.
    fn items(file: &[u8]) -> anyhow::Result<Vec<Item>> {
        let mut reader = Reader::new(file)?;
        let mut items = vec![];
        while let Some(item) = reader.item()? {
            items.push(item);
        }
        Ok(items)
    }

    fn words(big: bool, words: &[u32]) -> Vec<u8> {
        let bytes = |word: &u32| {
            if big {
                word.to_be_bytes()
            } else {
                word.to_le_bytes()
            }
        };
        words.iter().flat_map(bytes).collect()
    }

    /// A file with two packets, of which the second was cut.
    fn pcap(big: bool, magic: u32) -> Vec<u8> {
        let mut file = words(
            big,
            &[magic, if big { 2 << 16 | 4 } else { 4 << 16 | 2 }, 0, 0, 65535, 1],
        );
        file.extend(words(big, &[1, 2, 3, 3]));
        file.extend(b"abc");
        file.extend(words(big, &[1, 3, 2, 9]));
        file.extend(b"de");
        file
    }

    #[test]
    fn pcap_of_both_byte_orders_and_resolutions() {
        for (big, magic) in [
            (false, PCAP_MICROSECONDS),
            (true, PCAP_MICROSECONDS),
            (false, PCAP_NANOSECONDS),
            (true, PCAP_NANOSECONDS),
        ] {
            let file = pcap(big, magic);
            let items = items(&file).unwrap();
            assert_eq!(
                items.iter().map(|i| i.data()).collect::<Vec<_>>(),
                [&b""[..], b"abc", b"de"]
            );
            let packet = items[2].packet.as_ref().unwrap();
            assert_eq!((packet.link, packet.wire), (1, 9));
            let all: Vec<u8> = items.into_iter().flat_map(|item| item.bytes).collect();
            assert_eq!(all, file);
        }
    }

    fn block(big: bool, kind: u32, body: &[u8]) -> Vec<u8> {
        let len = 12 + body.len() as u32;
        [words(big, &[kind, len]), body.to_vec(), words(big, &[len])].concat()
    }

    fn pcapng(big: bool) -> Vec<u8> {
        let link = |number: u32| if big { number << 16 } else { number };
        [
            block(
                big,
                NG_SECTION,
                &words(
                    big,
                    &[NG_BYTE_ORDER, if big { 1 << 16 } else { 1 }, u32::MAX, u32::MAX],
                ),
            ),
            block(big, NG_INTERFACE, &words(big, &[link(1), 96])),
            block(big, NG_INTERFACE, &words(big, &[link(101), 0])),
            block(
                big,
                NG_ENHANCED_PACKET,
                &[words(big, &[1, 0, 0, 3, 5]), b"abc\0".to_vec()].concat(),
            ),
            block(
                big,
                NG_SIMPLE_PACKET,
                &[words(big, &[2]), b"de\0\0".to_vec()].concat(),
            ),
            block(big, 0x0bad, b"what"),
            block(
                big,
                NG_PACKET,
                &[words(big, &[link(1), 0, 0, 1, 1]), b"f\0\0\0".to_vec()].concat(),
            ),
        ]
        .concat()
    }

    #[test]
    fn pcapng_of_both_byte_orders_and_several_sections() {
        for big in [false, true] {
            let file = [pcapng(big), pcapng(!big)].concat();
            let items = items(&file).unwrap();
            let packets: Vec<(u32, u32, &[u8])> = items
                .iter()
                .filter_map(|item| item.packet.as_ref().map(|p| (p.link, p.wire, item.data())))
                .collect();
            let one = [(101, 5, &b"abc"[..]), (1, 2, b"de"), (101, 1, b"f")];
            assert_eq!(packets, [one, one].concat());
            let all: Vec<u8> = items.into_iter().flat_map(|item| item.bytes).collect();
            assert_eq!(all, file);
        }
    }

    #[test]
    fn damaged_files_are_errors() {
        for file in [pcap(false, PCAP_MICROSECONDS), pcapng(false), pcapng(true)] {
            // Where an item ends, the file may end.
            let mut ends = vec![];
            let mut at = 0;
            for item in items(&file).unwrap() {
                at += item.bytes.len();
                ends.push(at);
            }
            for len in 0..file.len() {
                assert_eq!(items(&file[..len]).is_ok(), ends.contains(&len), "cut to {len}");
            }
        }
        assert!(items(b"").is_err());
        assert!(items(b"#!/bin/sh").is_err());
        let mut huge = pcap(false, PCAP_MICROSECONDS);
        huge[24 + 8..24 + 12].fill(0xff);
        assert!(items(&huge).unwrap_err().to_string().contains("damaged"));
    }
}
