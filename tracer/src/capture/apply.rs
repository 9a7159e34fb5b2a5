//! A filter on every packet of a file, by the code that would run in the kernel, in an interpreter.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io::{Read, Write};

use anyhow::{Context, anyhow};
use ktrail_ebpf::codegen::{Options, generate};
use ktrail_ebpf::filter::Filter;
use ktrail_ebpf::filter::frame::{Link, Source, program};
use ktrail_ebpf::isa;
use ktrail_ebpf::kernel::Features;
use rbpf::EbpfVmMbuff;

use super::Reader;

/// How many packets there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// In the file.
    pub packets: u64,
    /// That the filter matches.
    pub matches: u64,
}

/// Apply `filter` to the packets of `input`, tell `verdict` about each (its number from 1, and whether it matches), and
/// copy what matches to `output`, with all that is no packet.
///
/// # Errors
/// If the file can't be read or is damaged; if it has a link layer that is not known; if writing fails. `verdict` has
/// been told of all packets before that place.
pub fn apply(
    filter: &Filter,
    input: impl Read,
    mut output: Option<&mut dyn Write>,
    mut verdict: impl FnMut(u64, bool) -> anyhow::Result<()>,
) -> anyhow::Result<Counts> {
    let mut reader = Reader::new(input)?;
    // A pcapng file may have interfaces with different link layers.
    let mut codes: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
    let mut counts = Counts::default();
    loop {
        let Some(item) = reader
            .item()
            .with_context(|| format!("after packet {}", counts.packets))?
        else {
            return Ok(counts);
        };
        let mut keep = true;
        if let Some(packet) = &item.packet {
            counts.packets += 1;
            let code = match codes.entry(packet.link) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => entry.insert(compile(filter, packet.link)?),
            };
            keep = run(code, item.data(), packet.wire)?;
            counts.matches += u64::from(keep);
            verdict(counts.packets, keep)?;
        }
        if keep && let Some(output) = &mut output {
            output.write_all(&item.bytes)?;
        }
    }
}

/// A filter that is asked about single packets.
pub struct Matcher {
    code: Vec<u8>,
}

impl Matcher {
    /// For packets that begin with their IP header.
    ///
    /// # Errors
    /// If the filter can't be compiled for them.
    pub fn of_ip(filter: &Filter) -> anyhow::Result<Matcher> {
        const RAW: u32 = 101;
        Ok(Matcher {
            code: compile(filter, RAW)?,
        })
    }

    /// Whether the filter matches a packet of `len` bytes, of which `data` are there.
    ///
    /// # Errors
    /// If it can't be run, which is a bug.
    pub fn matches(&self, data: &[u8], len: u32) -> anyhow::Result<bool> {
        run(&self.code, data, len.max(data.len() as u32))
    }
}

fn compile(filter: &Filter, link: u32) -> anyhow::Result<Vec<u8>> {
    let link = Link::from_number(link).ok_or_else(|| {
        anyhow!("packets of link type {link}: ktrail reads Ethernet (1), raw IP (101) and Linux cooked captures (113, 276)")
    })?;
    let program = program(filter, link, Source::Memory);
    let features = Features::default();
    let options = Options {
        packet: Source::Memory.access(),
        features: &features,
    };
    Ok(isa::encode(&generate(&program, &options)?.insns))
}

fn run(code: &[u8], data: &[u8], wire: u32) -> anyhow::Result<bool> {
    let vm = EbpfVmMbuff::new(Some(code))?;
    let context = [data.as_ptr() as u64, data.len() as u64, wire.into()];
    let context: Vec<u8> = context.iter().flat_map(|number| number.to_ne_bytes()).collect();
    Ok(vm.execute_program(data, &context)? != 0)
}
