//! Filters compiled and run in an interpreter.

use ktrail_ebpf::codegen::{Object, Options, generate};
use ktrail_ebpf::filter::frame::{Link, Source, program};
use ktrail_ebpf::filter::{Env, Error, parse};
use ktrail_ebpf::isa;
use ktrail_ebpf::kernel::Features;

/// A filter compiled for packets in plain memory.
pub struct Compiled {
    pub object: Object,
    code: Vec<u8>,
}

impl Compiled {
    pub fn new(text: &str, env: &Env<'_>, link: Link) -> Result<Compiled, Error> {
        let filter = parse(text, env)?;
        let program = program(&filter, link, Source::Memory);
        let features = Features::default();
        let options = Options {
            packet: Source::Memory.access(),
            features: &features,
        };
        let object = generate(&program, &options).unwrap_or_else(|error| panic!("{text}: {error}"));
        let code = isa::encode(&object.insns);
        Ok(Compiled { object, code })
    }

    /// A machine that runs it.
    pub fn machine(&self) -> Machine<'_> {
        Machine(rbpf::EbpfVmMbuff::new(Some(&self.code)).expect("valid code"))
    }
}

pub struct Machine<'a>(rbpf::EbpfVmMbuff<'a>);

impl Machine<'_> {
    /// The verdict on a packet of which `data` was captured, and which had `wire` bytes. A load outside of `data` is
    /// an error of the machine's.
    pub fn matches(&self, data: &[u8], wire: u32) -> bool {
        let context = [data.as_ptr() as u64, data.len() as u64, wire.into()];
        let context: Vec<u8> = context.iter().flat_map(|number| number.to_ne_bytes()).collect();
        match self.0.execute_program(data, &context).expect("it runs") {
            0 => false,
            1 => true,
            other => panic!("verdict {other}"),
        }
    }
}
