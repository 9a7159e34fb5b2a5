//! What the running kernel can do, probed once.
//!
//! Where a kernel's version would only be a guess (distributions carry features back, configurations leave them
//! out), the kernel is asked: by loading a program that uses the feature, by attaching one, or by looking into the
//! BTF that describes it.

use std::fmt;
use std::fs;
use std::os::fd::AsFd;

use ktrail_ebpf::codegen::{self, Object, Options, PacketAccess};
use ktrail_ebpf::ir::{
    AtomicOp, BinOp, Builder, Cond, MapDecl, MapKind, Op, Operand, Program as IrProgram, ProgramKind, Size,
    Type, Width,
};
use ktrail_ebpf::isa::Helper;
use ktrail_ebpf::kernel::{Features as CodegenFeatures, RdonlyCast, Session, Space, TypeId, Types};
use ktrail_ebpf::script::env::Trampoline;

use super::Lacking;
use super::attach::{self, Kprobe, Multi, Target};
use super::btf::KernelBtf;
use super::maps::{Map, Maps, raise_limits};
use super::program::{AttachType, LoadOptions, Program, load};

/// A kernel's version: what stands before the first character that is neither digit nor dot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// 6 of 6.12.95.
    pub major: u32,
    /// 12 of 6.12.95.
    pub minor: u32,
}

impl Version {
    /// The oldest that ktrail runs on: ring buffers came with it.
    pub const OLDEST: Version = Version { major: 5, minor: 8 };

    /// The version at the start of a release such as `6.12.95+deb12-cloud-amd64`.
    pub fn parse(release: &str) -> Option<Version> {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
        match (numbers.next()?, numbers.next()?) {
            (Ok(major), Ok(minor)) => Some(Version { major, minor }),
            _ => None,
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// The running kernel's release, as uname(1) gives it.
pub fn release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").map_or_else(|_| String::new(), |s| s.trim().into())
}

/// What the kernel can do.
#[derive(Clone, Debug)]
pub struct Features {
    /// Its release, as uname(1) gives it.
    pub release: String,
    /// What code generation asks.
    pub codegen: CodegenFeatures,
    /// Attach to many functions by one link; if not, why not. Only attaching proves it ([`prove_kprobe_multi`]).
    pub kprobe_multi: Result<(), Lacking>,
    /// Attach to many functions by one link through trampolines (7.2+); if not, why not.
    pub tracing_multi: Result<(), Lacking>,
    /// One program can serve many raw tracepoints and tell them apart by their cookies (6.10+).
    pub raw_tracepoint_cookie: bool,
    /// kprobes, and how; if not, why not.
    pub kprobe: Result<Kprobe, Lacking>,
}

impl Features {
    /// Ask the running kernel.
    ///
    /// # Errors
    /// If it lacks what every use of ktrail needs: it is older than 5.8, or nobody may load programs.
    pub fn probe(btf: &KernelBtf) -> Result<Features, Lacking> {
        let release = release();
        usable(&release)?;
        let codegen = codegen_features(btf);
        let kprobe = Kprobe::detect().map(|mut how| {
            how.cookies = codegen.attach_cookie;
            how
        });
        Ok(Features {
            kprobe_multi: kprobe_multi(btf, &codegen),
            tracing_multi: tracing_multi(btf),
            raw_tracepoint_cookie: codegen.attach_cookie && loads_as(ProgramKind::RawTracepoint, cookie),
            kprobe,
            codegen,
            release,
        })
    }

    /// What scripts are compiled by, found without the kernel's types: reading those takes more time and memory than
    /// all the rest of a small script.
    ///
    /// # Errors
    /// As [`Features::probe`].
    pub fn for_scripts() -> Result<CodegenFeatures, Lacking> {
        usable(&release())?;
        Ok(CodegenFeatures {
            atomic_fetch: loads(atomic_fetch),
            cpu_v4: loads(signed_division),
            may_goto: loads(long_loop),
            get_func_ip: loads(|b| asks_context(b, Helper::GetFuncIp)),
            attach_cookie: loads(|b| asks_context(b, Helper::GetAttachCookie)),
            ..CodegenFeatures::default()
        })
    }

    /// What programs call that one link serves at entry and return together (6.10+), if it can be attached. Tries it.
    pub fn session(&self, btf: &KernelBtf) -> Option<Session> {
        prove_kprobe_multi(&self.codegen, Multi::Session).ok()?;
        session_functions(btf)
    }
}

/// What programs call that see both moments of a call (6.10+), whether or not such a program can be attached.
pub fn session_functions(btf: &KernelBtf) -> Option<Session> {
    let of_kernel = |name| Some(btf.by_name(Space::Func, name)?).filter(|id| id.object == 0);
    Some(Session {
        is_return: of_kernel("bpf_session_is_return")?.id,
        cookie: of_kernel("bpf_session_cookie")?.id,
    })
}

/// What trampolines can do with a function: its number in BTF. Tries it, which takes hundredths of a second: kernels know
/// many reasons to refuse one, and some can't attach any.
pub fn trampoline(btf: &KernelBtf, function: TypeId) -> Trampoline {
    let attaches = |when: AttachType, session: Option<Session>| -> Option<()> {
        let object = by_trampoline(ProgramKind::Tracing, session)?;
        let module = match btf.module(function) {
            "" => None,
            module => Some(super::btf::object_fd(module).ok()?),
        };
        let options = LoadOptions {
            attach_type: Some(when),
            attach_btf_id: function.id,
            attach_btf_obj: module.as_ref().map(AsFd::as_fd),
            ..LoadOptions::default()
        };
        let program = load(&object, &Maps::default(), &options).ok()?;
        attach::tracepoint(&program).ok().map(drop)
    };
    let sessions = known(btf, "BPF_TRACE_FSESSION");
    let session = sessions.then(|| session_functions(btf)).flatten();
    if let Some(session) = session
        && attaches(AttachType::TraceFsession, Some(session)).is_some()
    {
        return Trampoline::Session(session);
    }
    match attaches(AttachType::TraceFexit, None) {
        Some(()) => Trampoline::Pair,
        None => Trampoline::No,
    }
}

/// Whether one link attaches programs that see this moment to many functions by trampolines (7.2+). Tries it with a function
/// that every kernel has.
pub fn trampolines(btf: &KernelBtf, when: Multi) -> bool {
    let try_it = || -> Option<()> {
        known(btf, "BPF_TRACE_FENTRY_MULTI").then_some(())?;
        let session = match when {
            Multi::Session => Some(session_functions(btf)?),
            Multi::Entry | Multi::Return => None,
        };
        let object = by_trampoline(ProgramKind::TracingMulti, session)?;
        let options = LoadOptions {
            attach_type: Some(when.tracing()),
            ..LoadOptions::default()
        };
        let program = load(&object, &Maps::default(), &options).ok()?;
        // Called when the machine goes down: neither hot nor ever inlined.
        let names = ["kernel_restart_prepare", "kernel_power_off"];
        let functions = names.iter().filter_map(|name| btf.function(Some(""), name));
        let mut targets = functions.map(|function| Target {
            addr: function.id.into(),
            cookie: 0,
        });
        targets.find_map(|target| attach::tracing_multi(&program, &[target], when).ok())?;
        Some(())
    };
    try_it().is_some()
}

/// A program for trampolines that does nothing, and that with the functions of a session if it is one.
fn by_trampoline(kind: ProgramKind, session: Option<Session>) -> Option<Object> {
    let features = CodegenFeatures {
        session,
        ..CodegenFeatures::default()
    };
    generate_as(kind, &features, |b| {
        if session.is_some() {
            b.at_return();
            let kept = b.kept();
            b.keep(kept);
        }
        0.into()
    })
}

/// Whether the kernel's types have such a way to attach.
fn known(btf: &KernelBtf, attach_type: &str) -> bool {
    let types = btf.enum_values("bpf_attach_type").unwrap_or_default();
    types.iter().any(|(name, _)| name == attach_type)
}

/// What every use of ktrail needs.
fn usable(release: &str) -> Result<(), Lacking> {
    supported(release)?;
    if let Some(lacking) = super::doctor::locked_down() {
        return Err(lacking);
    }
    // Before 5.11 even the first map may be over the limit of locked memory.
    raise_limits();
    ring_buffer()
}

/// Refuse kernels that are too old. One whose release can't be read is taken as new.
fn supported(release: &str) -> Result<(), Lacking> {
    match Version::parse(release) {
        Some(version) if version < Version::OLDEST => Err(Lacking {
            what: format!("Linux {release} is too old"),
            why: "BPF ring buffers came with 5.8".into(),
            fix: format!("run ktrail on Linux {} or newer", Version::OLDEST),
        }),
        _ => Ok(()),
    }
}

/// Make a ring buffer: the smallest thing that needs bpf(2), the privilege and 5.8.
fn ring_buffer() -> Result<(), Lacking> {
    let decl = MapDecl {
        name: "ktrail_probe".into(),
        kind: MapKind::RingBuf,
        key_size: 0,
        value_size: 0,
        // A page, whatever its size on this machine.
        max_entries: 1 << 16,
    };
    match Map::create(&decl) {
        Ok(_) => Ok(()),
        Err(error) => Err(super::doctor::privilege().unwrap_or(Lacking {
            what: "no BPF map can be made".into(),
            why: error.to_string(),
            fix: "in a container, run it privileged (its seccomp profile may forbid bpf(2)); `ktrail doctor` looks \
                for other reasons"
                .into(),
        })),
    }
}

fn codegen_features(btf: &KernelBtf) -> CodegenFeatures {
    let helpers = btf.enum_values("bpf_func_id").unwrap_or_default();
    let helper = |name: &str| helpers.iter().any(|(n, _)| n == name);
    CodegenFeatures {
        atomic_fetch: loads(atomic_fetch),
        cpu_v4: loads(signed_division),
        bpf_loop: helper("BPF_FUNC_loop"),
        // What the iterator's kfuncs take.
        iter_num: btf.by_name(Space::Struct, "bpf_iter_num").is_some(),
        // The enum came with the instruction.
        may_goto: btf.by_name(Space::Enum, "bpf_cond_pseudo_jmp").is_some(),
        rdonly_cast: rdonly_cast(btf),
        get_func_ip: helper("BPF_FUNC_get_func_ip"),
        attach_cookie: helper("BPF_FUNC_get_attach_cookie"),
        ..CodegenFeatures::default()
    }
}

/// A program of one block that returns what `body` made.
fn generate(features: &CodegenFeatures, body: impl FnOnce(&mut Builder) -> Operand) -> Option<Object> {
    generate_as(ProgramKind::Kprobe, features, body)
}

fn generate_as(
    kind: ProgramKind,
    features: &CodegenFeatures,
    body: impl FnOnce(&mut Builder) -> Operand,
) -> Option<Object> {
    let mut builder = Builder::new("probe");
    let result = body(&mut builder);
    builder.ret(result);
    let program = IrProgram {
        name: "ktrail_probe".into(),
        kind,
        maps: Vec::new(),
        functions: vec![builder.finish()],
    };
    let options = Options {
        packet: PacketAccess::KernelRead,
        features,
    };
    codegen::generate(&program, &options).ok()
}

/// True if the kernel loads a program with that body. Its result must depend on what is tried, or code generation
/// drops it.
fn loads(body: fn(&mut Builder) -> Operand) -> bool {
    loads_as(ProgramKind::Kprobe, body)
}

fn loads_as(kind: ProgramKind, body: fn(&mut Builder) -> Operand) -> bool {
    try_load(kind, body).is_ok()
}

/// As [`loads`], for programs of that kind; if not, what the kernel says.
fn try_load(kind: ProgramKind, body: fn(&mut Builder) -> Operand) -> Result<(), String> {
    let all = CodegenFeatures {
        atomic_fetch: true,
        cpu_v4: true,
        may_goto: true,
        ..CodegenFeatures::default()
    };
    let object = generate_as(kind, &all, body);
    let object = object.ok_or("no program could be generated")?;
    match load(&object, &Maps::default(), &LoadOptions::default()) {
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

fn cookie(b: &mut Builder) -> Operand {
    let ctx = b.ctx();
    b.call(Helper::GetAttachCookie, vec![ctx.into()]).into()
}

fn atomic_fetch(b: &mut Builder) -> Operand {
    let slot = b.slot(8, 8);
    let base = b.slot_addr(slot);
    b.store(base, 0, 0, Size::B8);
    let src = b.imm(1);
    let old = b.int();
    b.push(Op::Atomic {
        op: AtomicOp::Add,
        base,
        off: 0,
        src,
        size: Size::B8,
        fetch: Some(old),
    });
    old.into()
}

/// Where the kernel's BTF has what [`RdonlyCast`] needs, if programs that use it load.
fn rdonly_cast(btf: &KernelBtf) -> Option<RdonlyCast> {
    let of_kernel = |space, name| Some(btf.by_name(space, name)?).filter(|id| id.object == 0);
    let cast = RdonlyCast {
        bytes: of_kernel(Space::Struct, "new_utsname")?.id,
        function: of_kernel(Space::Func, "bpf_rdonly_cast")?.id,
    };
    let features = CodegenFeatures {
        rdonly_cast: Some(cast),
        ..CodegenFeatures::default()
    };
    let object = generate(&features, |b| {
        let address = b.call_as(Type::Kernel { direct: false }, Helper::KtimeGetNs, Vec::new());
        // The last that can be read, unaligned.
        let first = b.kernel_load(address, 1, Size::B1);
        let last = b.kernel_load(address, 57, Size::B8);
        b.bin(BinOp::Add, Width::W64, first, last).into()
    })?;
    load(&object, &Maps::default(), &LoadOptions::default()).ok()?;
    Some(cast)
}

fn signed_division(b: &mut Builder) -> Operand {
    // Not a constant, which would be divided while generating.
    let a = b.call(Helper::KtimeGetNs, Vec::new());
    let c = b.call(Helper::KtimeGetNs, Vec::new());
    b.bin(BinOp::SDiv, Width::W64, a, c).into()
}

/// A helper that takes nothing but the context.
fn asks_context(b: &mut Builder, helper: Helper) -> Operand {
    let ctx = b.ctx();
    b.call(helper, vec![ctx.into()]).into()
}

/// A loop of more rounds than the kernel's verifier is asked to walk through.
fn long_loop(b: &mut Builder) -> Operand {
    let (header, done) = (b.block(), b.block());
    b.jump(header);
    b.bound(header, 1 << 20, done);
    b.switch_to(header);
    let r = b.call(Helper::GetPrandomU32, Vec::new());
    b.branch(Cond::Eq, r, 0, done, header);
    b.switch_to(done);
    0.into()
}

/// Whether the kernel knows kprobe-multi and was built with it.
///
/// A link to no function at all is refused either way: with EOPNOTSUPP where fprobe was left out.
fn kprobe_multi(btf: &KernelBtf, features: &CodegenFeatures) -> Result<(), Lacking> {
    let lacking = |why: String| Lacking {
        what: "this kernel can't attach to many functions at once (kprobe-multi)".into(),
        why,
        fix: "use Linux 5.18 or newer with CONFIG_FPROBE=y, or --backend kprobe".into(),
    };
    if !known(btf, "BPF_TRACE_KPROBE_MULTI") {
        return Err(lacking("it came with Linux 5.18".into()));
    }
    let program = empty(features, Multi::Entry).map_err(lacking)?;
    match attach::kprobe_multi(&program, &[], Multi::Entry) {
        Err(e) if e.errno == libc::EOPNOTSUPP => {
            Err(lacking("the kernel was built without CONFIG_FPROBE".into()))
        }
        Err(e) if e.errno != libc::EINVAL => Err(lacking(e.to_string())),
        _ => Ok(()),
    }
}

/// Whether the kernel knows tracing-multi. Only attaching proves it.
fn tracing_multi(btf: &KernelBtf) -> Result<(), Lacking> {
    let lacking = |why: String| Lacking {
        what: "this kernel can't attach to many functions at once by trampolines (tracing-multi)".into(),
        why,
        fix: "use Linux 7.2 or newer, or --backend kprobe-multi".into(),
    };
    if !known(btf, "BPF_TRACE_FENTRY_MULTI") {
        return Err(lacking("it came with Linux 7.2".into()));
    }
    // Such programs must return 0.
    let body = |b: &mut Builder| {
        cookie(b);
        0.into()
    };
    try_load(ProgramKind::TracingMulti, body).map_err(lacking)
}

/// Attach an empty program to one function that every kernel has, and detach it: that it loads is no proof. Takes
/// tenths of a second, so runs that are about to attach do without.
///
/// # Errors
/// Why it can't be done.
pub fn prove_kprobe_multi(features: &CodegenFeatures, when: Multi) -> Result<(), String> {
    let program = empty(features, when)?;
    // Called when the machine goes down: neither hot nor ever inlined.
    attach::kprobe_multi_by_name(&program, c"kernel_restart_prepare", when)
        .or_else(|e| match e.errno {
            libc::ENOENT | libc::ESRCH => attach::kprobe_multi_by_name(&program, c"kernel_power_off", when),
            _ => Err(e),
        })
        .map(drop)
        .map_err(|e| e.to_string())
}

/// A program that does nothing, to be attached to many functions.
fn empty(features: &CodegenFeatures, when: Multi) -> Result<Program, String> {
    let object = generate(features, |_| 0.into()).ok_or("no program could be generated")?;
    let options = LoadOptions {
        attach_type: Some(when.kprobe()),
        ..LoadOptions::default()
    };
    load(&object, &Maps::default(), &options).map_err(|e| e.error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        let parsed = |s| Version::parse(s).map(|v| v.to_string());
        assert_eq!(parsed("6.12.95+deb12-cloud-amd64").as_deref(), Some("6.12"));
        assert_eq!(parsed("5.10.0-32-cloud-amd64").as_deref(), Some("5.10"));
        assert_eq!(parsed("7.3-rc1").as_deref(), Some("7.3"));
        assert_eq!(parsed("weird"), None);
    }

    #[test]
    fn old_kernels_are_refused_by_name() {
        let error = supported("4.19.0-27-amd64").expect_err("too old");
        assert_eq!(
            error.to_string(),
            "Linux 4.19.0-27-amd64 is too old: BPF ring buffers came with 5.8; run ktrail on Linux 5.8 or newer"
        );
        assert!(supported("5.7.19").is_err());
        assert!(supported("5.8.0").is_ok());
        assert!(supported("").is_ok());
    }
}
