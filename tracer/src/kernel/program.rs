//! Programs: loaded from generated code, run for tests, asked for their statistics.

use std::cell::RefCell;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use ktrail_ebpf::codegen::{Object, is_own_map};
use ktrail_ebpf::ir::{ProgramKind, Span};
use ktrail_ebpf::isa::{Helper, Insn, op};

use super::maps::{Map, MapError, Maps};
use super::program_btf::ProgramBtf;
use super::sys::{
    self, Command, EnableStats, ObjInfo, ProgLoad, ProgTestRun, SysError, addr_of, addr_of_mut,
};

/// How a program will be attached, where the kernel wants to know when it loads, numbered as
/// `enum bpf_attach_type` of the kernel's UAPI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AttachType {
    /// `tp_btf`: a tracepoint with typed arguments (5.5+).
    TraceRawTp = 23,
    /// A function's entry by trampoline (5.5+).
    TraceFentry = 24,
    /// A function's return by trampoline (5.5+).
    TraceFexit = 25,
    /// A BPF iterator (5.8+).
    TraceIter = 28,
    /// A perf event, which a kprobe is one of, by a link (5.15+).
    PerfEvent = 41,
    /// Many functions by fprobe (5.18+).
    TraceKprobeMulti = 42,
    /// Entry and return of many functions together (6.10+).
    TraceKprobeSession = 56,
    /// A function's entry and return together by trampoline (7.0+).
    TraceFsession = 58,
    /// Many functions' entries by trampolines (7.2+).
    TraceFentryMulti = 59,
    /// Many functions' returns by trampolines (7.2+).
    TraceFexitMulti = 60,
    /// Entry and return of many functions together by trampolines (7.2+).
    TraceFsessionMulti = 61,
}

/// What loading is told beside the program.
#[derive(Clone, Copy, Debug, Default)]
pub struct LoadOptions<'a> {
    /// How it will be attached, where its kind leaves a choice: kprobe-multi for [`ProgramKind::Kprobe`], fentry
    /// or fexit for [`ProgramKind::Tracing`], whose default is `tp_btf`.
    pub attach_type: Option<AttachType>,
    /// BTF id of the function, or of the tracepoint's typedef, for [`ProgramKind::Tracing`].
    pub attach_btf_id: u32,
    /// The module's BTF that the id is in; none for the kernel's own ([`super::btf::object_fd`]).
    pub attach_btf_obj: Option<BorrowedFd<'a>>,
    /// A name other than the object's.
    pub name: Option<&'a str>,
    /// Where to put what the kernel's verifier thinks, instruction by instruction, of this program.
    pub log: Option<&'a RefCell<String>>,
}

/// A program that the kernel refused.
#[derive(Debug, thiserror::Error)]
pub struct LoadError {
    /// The program's name.
    pub program: String,
    /// The kernel's answer.
    pub error: SysError,
    /// What the kernel's verifier said; empty if it never came to that.
    pub log: String,
    /// The instruction that the verifier stopped at, if its log tells.
    pub insn: Option<usize>,
    /// Where that instruction comes from; [`Span::NONE`] if nobody knows.
    pub span: Span,
}

impl std::fmt::Display for LoadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "program {}: {}", self.program, self.error)?;
        match self.error.errno {
            libc::EPERM if self.log.is_empty() => {
                write!(f, "; run as root or with CAP_BPF and CAP_PERFMON")
            }
            // E2BIG: more than the million instructions on all ways through it that the verifier follows.
            libc::E2BIG => write!(
                f,
                "; it has more ways through it than the kernel's verifier follows: write a filter or a script with fewer \
                alternatives, above all within `inner`, `ext` and loops"
            ),
            // Every kernel that ktrail runs on has this helper, and takes it away in this case only.
            _ if ["cannot use helper", "unknown func"]
                .iter()
                .any(|refusal| self.log.contains(&format!("{refusal} bpf_probe_read_kernel"))) =>
            {
                write!(
                    f,
                    "; no program may read the kernel's memory: it is locked down; boot with lockdown=integrity or \
                without lockdown="
                )
            }
            _ => match verdict(&self.log) {
                Some(line) => match unknown_helper(line) {
                    Some(helper) => {
                        let (major, minor) = helper.since();
                        write!(f, "; this needs {} (Linux {major}.{minor})", helper.name())
                    }
                    None => write!(f, "; the kernel's verifier: {line}"),
                },
                None => Ok(()),
            },
        }
    }
}

/// The line of a verifier's log that says why: the last one that is not statistics.
fn verdict(log: &str) -> Option<&str> {
    log.lines()
        .rev()
        .map(str::trim)
        .find(|l| !l.is_empty() && !l.starts_with("processed ") && !l.starts_with("verification time"))
}

/// The helper that the kernel doesn't have, as in `invalid func unknown#195`.
fn unknown_helper(verdict: &str) -> Option<Helper> {
    // A function's address, which only this helper takes, is older kernels' first trouble, or that they don't count
    // the function as one.
    let troubles = [
        "unrecognized bpf_ld_imm64 insn",
        "number of funcs in func_info doesn't match number of subprogs",
    ];
    if troubles.contains(&verdict) {
        return Some(Helper::ForEachMapElem);
    }
    let rest = verdict.strip_prefix("invalid func unknown#")?;
    Helper::from_id(rest.trim().parse().ok()?)
}

/// The last instruction that a verifier's log names, as in `12: (79) r1 = *(u64 *)(r2 +0)`.
fn last_insn(log: &str) -> Option<usize> {
    log.lines().rev().find_map(|line| {
        let (number, rest) = line.trim().split_once(": ")?;
        rest.starts_with('(').then(|| number.parse().ok())?
    })
}

/// A loaded program. Dropping it closes our descriptor; what it is attached to keeps it alive.
#[derive(Debug)]
pub struct Program {
    fd: OwnedFd,
}

impl AsFd for Program {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// `enum bpf_prog_type`, and how programs of that kind are attached by default.
fn prog_type(kind: ProgramKind) -> (u32, u32) {
    match kind {
        ProgramKind::Kprobe => (2, 0),
        ProgramKind::SchedCls => (3, 0),
        ProgramKind::Tracepoint => (5, 0),
        ProgramKind::PerfEvent => (7, 0),
        ProgramKind::RawTracepoint => (17, 0),
        ProgramKind::Tracing => (26, AttachType::TraceRawTp as u32),
        ProgramKind::TracingMulti => (26, AttachType::TraceFentryMulti as u32),
    }
}

/// Load a program. Its maps are taken from `maps` by name; what code generation added for this program alone is made
/// here if it is not among them, and lives as long as the program.
///
/// The verifier's log costs time, so the first attempt does without; a refusal is repeated with it.
///
/// # Errors
/// See [`LoadError`].
///
/// # Panics
/// If `maps` lacks one of the object's maps.
pub fn load(object: &Object, maps: &Maps, options: &LoadOptions<'_>) -> Result<Program, LoadError> {
    let own = own_maps(object, maps)?;
    let insns = relocated(object, maps, &own);
    let (prog_type, default_attach) = prog_type(object.kind);
    let mut attr = ProgLoad {
        prog_type,
        insn_cnt: insns.len() as u32,
        insns: addr_of(&insns),
        license: addr_of(c"GPL".to_bytes_with_nul()),
        prog_name: sys::object_name(options.name.unwrap_or(&object.name)),
        expected_attach_type: options.attach_type.map_or(default_attach, |t| t as u32),
        attach_btf_id: options.attach_btf_id,
        attach_btf_obj_fd: options.attach_btf_obj.map_or(0, |fd| fd.as_raw_fd() as u32),
        ..ProgLoad::default()
    };
    // Known to be alive until this function ends, as the attributes refer to it.
    let btf = object
        .insns
        .iter()
        .any(|i| i.code == op::LD_IMM64 && i.src == op::PSEUDO_FUNC)
        .then(|| ProgramBtf::load(object))
        .transpose()
        .map_err(|error| LoadError {
            program: object.name.clone(),
            error,
            log: String::new(),
            insn: None,
            span: Span::NONE,
        })?;
    if let Some(btf) = &btf {
        attr.prog_btf_fd = btf.fd.as_raw_fd() as u32;
        attr.func_info_rec_size = size_of::<[u32; 2]>() as u32;
        attr.func_info = addr_of(&btf.functions);
        attr.func_info_cnt = btf.functions.len() as u32;
    }
    if let Some(wanted) = options.log {
        let (_, log) = load_with_log(&mut attr, 2);
        wanted.borrow_mut().push_str(&log);
    }
    (attr.log_level, attr.log_size, attr.log_buf) = (0, 0, 0);
    let first = match sys::bpf_fd(Command::ProgLoad, &mut attr) {
        Ok(fd) => return Ok(Program { fd }),
        Err(error) => error,
    };
    let (fd, log) = load_with_log(&mut attr, 1);
    match fd {
        // Refused once and accepted now: memory was short, or a signal came in between.
        Ok(fd) => Ok(Program { fd }),
        Err(error) => {
            let insn = last_insn(&log);
            Err(LoadError {
                program: object.name.clone(),
                // The first answer is the one without the log's own troubles.
                error: if error.errno == libc::ENOSPC { first } else { error },
                insn,
                span: insn
                    .and_then(|i| object.spans.get(i).copied())
                    .unwrap_or(Span::NONE),
                log,
            })
        }
    }
}

/// Load once more, with the verifier's log, in a buffer that grows until the log fits.
fn load_with_log(attr: &mut ProgLoad, level: u32) -> (Result<OwnedFd, SysError>, String) {
    // The kernel refuses buffers above 16 MiB before 5.13.
    const SIZES: [usize; 3] = [64 << 10, 1 << 20, (16 << 20) - 1];
    let mut last = None;
    for size in SIZES {
        let mut log = vec![0_u8; size];
        attr.log_level = level;
        attr.log_size = size as u32;
        attr.log_buf = addr_of_mut(&mut log);
        let result = sys::bpf_fd(Command::ProgLoad, attr);
        let end = log.iter().position(|&b| b == 0).unwrap_or(log.len());
        let text = String::from_utf8_lossy(&log[..end]).into_owned();
        // From 6.4 on a log that does not fit keeps its end and loads report the real error first.
        let full = matches!(&result, Err(e) if e.errno == libc::ENOSPC);
        last = Some((result, text));
        if !full {
            break;
        }
    }
    last.expect("there is at least one size")
}

/// The maps that code generation added and that nobody has created.
fn own_maps(object: &Object, maps: &Maps) -> Result<Vec<Map>, LoadError> {
    let missing = object
        .maps
        .iter()
        .filter(|decl| is_own_map(&decl.name) && maps.get(&decl.name).is_none());
    missing
        .map(|decl| {
            Map::create(decl).map_err(|error| LoadError {
                program: object.name.clone(),
                error: match error {
                    MapError::Create { error, .. } => error,
                    MapError::Conflict(_) => unreachable!("only one map is made"),
                },
                log: String::new(),
                insn: None,
                span: Span::NONE,
            })
        })
        .collect()
}

/// The instructions with the maps' descriptors filled in, as `struct bpf_insn`.
fn relocated(object: &Object, maps: &Maps, own: &[Map]) -> Vec<u64> {
    const BPF_PSEUDO_MAP_FD: u8 = 1;
    const BPF_PSEUDO_MAP_VALUE: u8 = 2;
    let mut insns = object.insns.clone();
    for reloc in &object.relocs {
        let decl = &object.maps[reloc.map.0 as usize];
        let map = maps
            .get(&decl.name)
            .or_else(|| own.iter().find(|map| map.decl() == decl))
            .unwrap_or_else(|| panic!("map {} was not created", decl.name));
        let insn = &mut insns[reloc.insn];
        insn.imm = map.as_fd().as_raw_fd();
        match reloc.value_off {
            None => insn.src = BPF_PSEUDO_MAP_FD,
            Some(off) => {
                insn.src = BPF_PSEUDO_MAP_VALUE;
                insns[reloc.insn + 1].imm = off as i32;
            }
        }
    }
    insns.iter().map(encode).collect()
}

/// `struct bpf_insn` as a number in the machine's byte order.
fn encode(insn: &Insn) -> u64 {
    // The two register numbers are bit-fields: the destination comes first, in the low bits on little-endian.
    let regs = match cfg!(target_endian = "little") {
        true => insn.src << 4 | insn.dst & 0xf,
        false => insn.dst << 4 | insn.src & 0xf,
    };
    let [o0, o1] = insn.off.to_ne_bytes();
    let [i0, i1, i2, i3] = insn.imm.to_ne_bytes();
    u64::from_ne_bytes([insn.code, regs, o0, o1, i0, i1, i2, i3])
}

/// What the kernel counts about a program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Nanoseconds spent in it, as far as they were measured ([`measure_run_time`]).
    pub run_time_ns: u64,
    /// How often it ran, as far as that was measured.
    pub run_cnt: u64,
    /// How often it was skipped since the CPU was in a program already (5.12+). Counted for kprobes on 6.7+.
    pub recursion_misses: u64,
}

/// What `BPF_PROG_TEST_RUN` gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestRun {
    /// What the program returned.
    pub retval: u32,
    /// Nanoseconds a run, on average.
    pub duration_ns: u32,
    /// The packet as the program left it.
    pub data: Vec<u8>,
}

/// Have the kernel measure programs' run times while the answer is kept: [`Stats::run_time_ns`] and
/// [`Stats::run_cnt`] (5.8+). It reads its clock twice for each run of any program on this machine meanwhile.
///
/// # Errors
/// The kernel's: EPERM without CAP_SYS_ADMIN.
pub fn measure_run_time() -> Result<OwnedFd, SysError> {
    const BPF_STATS_RUN_TIME: u32 = 0;
    let mut attr = EnableStats {
        kind: BPF_STATS_RUN_TIME,
    };
    sys::bpf_fd(Command::EnableStats, &mut attr)
}

impl Program {
    /// What the kernel counted so far.
    ///
    /// # Errors
    /// The kernel's.
    pub fn stats(&self) -> Result<Stats, SysError> {
        const RUN_TIME_NS: usize = std::mem::offset_of!(aya_obj::generated::bpf_prog_info, run_time_ns);
        let mut info = [0_u64; 28];
        let mut attr = ObjInfo {
            bpf_fd: self.fd.as_raw_fd() as u32,
            info_len: size_of_val(&info) as u32,
            info: addr_of_mut(&mut info),
        };
        sys::bpf(Command::ObjGetInfoByFd, &mut attr)?;
        let at = |offset: usize| info[offset / 8];
        Ok(Stats {
            run_time_ns: at(RUN_TIME_NS),
            run_cnt: at(RUN_TIME_NS + 8),
            recursion_misses: at(RUN_TIME_NS + 16),
        })
    }

    /// Run a `SchedCls` program on a packet, `repeat` times (at least once).
    ///
    /// # Errors
    /// The kernel's: EINVAL for a packet shorter than an Ethernet header (14 bytes).
    pub fn test_run(&self, data: &[u8], repeat: u32) -> Result<TestRun, SysError> {
        // Programs may push headers; the kernel says ENOSPC if even this is too small.
        let mut out = vec![0_u8; data.len() + 256];
        let mut attr = ProgTestRun {
            prog_fd: self.fd.as_raw_fd() as u32,
            data_size_in: data.len() as u32,
            data_in: addr_of(data),
            data_size_out: out.len() as u32,
            data_out: addr_of_mut(&mut out),
            repeat,
            ..ProgTestRun::default()
        };
        sys::bpf(Command::ProgTestRun, &mut attr)?;
        out.truncate(attr.data_size_out as usize);
        Ok(TestRun {
            retval: attr.retval,
            duration_ns: attr.duration,
            data: out,
        })
    }

    /// Run a `RawTracepoint` program once with these arguments (5.10+). Returns what it returned.
    ///
    /// # Errors
    /// The kernel's.
    pub fn test_run_args(&self, args: &[u64]) -> Result<u32, SysError> {
        let mut attr = ProgTestRun {
            prog_fd: self.fd.as_raw_fd() as u32,
            ctx_size_in: size_of_val(args) as u32,
            ctx_in: addr_of(args),
            ..ProgTestRun::default()
        };
        sys::bpf(Command::ProgTestRun, &mut attr)?;
        Ok(attr.retval)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "0: R1=ctx() R10=fp0\n0: (79) r1 = *(u64 *)(r1 +0)\n1: (79) r0 = *(u64 *)(r1 +8)\n\
        R1 invalid mem access 'scalar'\nprocessed 2 insns (limit 1000000) max_states_per_insn 0\n";

    #[test]
    fn the_verifiers_log_is_read() {
        assert_eq!(verdict(LOG), Some("R1 invalid mem access 'scalar'"));
        assert_eq!(last_insn(LOG), Some(1));
        assert_eq!(verdict(""), None);
        assert_eq!(
            unknown_helper("invalid func unknown#195"),
            Some(Helper::MapLookupPercpuElem)
        );
        assert_eq!(unknown_helper("invalid func unknown#99999"), None);
        assert_eq!(last_insn("unreachable insn 3\n"), None);
    }

    #[test]
    fn instructions_encode_as_the_uapi_has_them() {
        let insn = Insn {
            code: 0x79,
            dst: 1,
            src: 10,
            off: -8,
            imm: 0x0102_0304,
        };
        if cfg!(target_endian = "little") {
            assert_eq!(encode(&insn).to_ne_bytes(), [0x79, 0xa1, 0xf8, 0xff, 4, 3, 2, 1]);
        }
    }
}
