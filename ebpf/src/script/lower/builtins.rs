//! Names of the language: `pid`, `comm`, `args`, `kstack` and their like; and constants of enums.

use super::ast;
use super::body::{Body, Span as SpanPart};
use super::points::{parameters, result, words};
use super::programs::Asked;
use super::value::{At, Dest, Value};
use crate::ir::{BinOp, Cond, Operand, ProgramKind, Reg, Size, Type, Width};
use crate::isa::Helper;
use crate::kernel::{Arch, Space, Types, field};
use crate::script::Diagnostic;
use crate::script::ast::{Expr, ExprKind, Ident, Provider};
use crate::script::env::TracepointField;
use crate::script::output::{self, AttachPoint, ErrorKind};
use crate::script::types::{Clock, StackMode, Ty};

/// Frames of a stack, unless the script says otherwise; also the most that the kernel gives by default.
const FRAMES: u32 = 127;
const BPF_F_USER_STACK: i64 = 1 << 8;
/// What `bpf_get_stackid` says, negated, if a stack with the same hash is there already.
const EEXIST: i64 = 17;

/// The stack mode of that name.
pub fn stack_mode(name: &str) -> Option<StackMode> {
    Some(match name {
        "bpftrace" => StackMode::Bpftrace,
        "perf" => StackMode::Perf,
        "raw" => StackMode::Raw,
        _ => return None,
    })
}

/// Names that stand for values, for suggestions.
pub const NAMES: &[&str] = &[
    "pid",
    "tid",
    "uid",
    "gid",
    "comm",
    "nsecs",
    "elapsed",
    "cpu",
    "ncpus",
    "curtask",
    "cgroup",
    "rand",
    "ctx",
    "args",
    "arg0",
    "arg1",
    "arg2",
    "arg3",
    "arg4",
    "arg5",
    "retval",
    "func",
    "probe",
    "probetype",
    "kstack",
    "ustack",
    "jiffies",
    "numaid",
    "ppid",
    "pcomm",
    "username",
    "duration",
    "cpid",
    "has_cpid",
    "leader_tid",
    "leader_comm",
    "usermode",
    "config",
];

impl Body<'_, '_> {
    /// Numbers in this probe's arguments are addresses of user space.
    pub fn user_space(&self) -> bool {
        matches!(&self.targets[0].attach, AttachPoint::Tracepoint { category, .. } if category == "syscalls")
    }

    /// A bare name, if it is one that the language knows.
    pub fn builtin(&mut self, name: &str, span: ast::Span, dest: Option<&Dest>) -> Option<Value> {
        let call = |s: &mut Self, helper| s.b.call(helper, vec![]);
        let low = |s: &mut Self, r: Reg| s.b.bin(BinOp::And, Width::W64, r, 0xffff_ffff);
        let high = |s: &mut Self, r: Reg| s.b.bin(BinOp::Shr, Width::W64, r, 32);
        Some(match name {
            "pid" => {
                let ids = call(self, Helper::GetCurrentPidTgid);
                Value::num(Ty::U32, high(self, ids))
            }
            "tid" => {
                let ids = call(self, Helper::GetCurrentPidTgid);
                Value::num(Ty::U32, low(self, ids))
            }
            "uid" | "username" => {
                let ids = call(self, Helper::GetCurrentUidGid);
                let id = low(self, ids);
                let ty = if name == "uid" { Ty::U32 } else { Ty::Username };
                Value::num(ty, id)
            }
            "gid" => {
                let ids = call(self, Helper::GetCurrentUidGid);
                Value::num(Ty::U32, high(self, ids))
            }
            "comm" => {
                let ty = Ty::Str { len: 16 };
                let (base, off) = match dest {
                    Some(d) if d.ty == ty && d.off % 8 == 0 => (d.base, d.off),
                    _ => (self.temp(&ty).1, 0),
                };
                // Some kernels' helper (6.1's among them) leaves what is behind the name's end as it was, which as
                // part of a key would make two of one name.
                self.zero(base, off, 16);
                let to = if off == 0 {
                    base
                } else {
                    self.b.add(base, i64::from(off))
                };
                self.b
                    .call_void(Helper::GetCurrentComm, vec![to.into(), 16.into()]);
                Value::of(ty, At::Mem(base, off))
            }
            "nsecs" => Value::num(Ty::U64, call(self, Helper::KtimeGetBootNs)),
            "jiffies" => Value::num(Ty::U64, call(self, Helper::Jiffies64)),
            "elapsed" => {
                let now = call(self, Helper::KtimeGetNs);
                let state = self.state();
                let start = self.b.load(state, output::STATE_START as i32, Size::B8);
                Value::num(Ty::U64, self.b.bin(BinOp::Sub, Width::W64, now, start))
            }
            "cpid" => {
                if !self.g.env.has_command() {
                    let note = "no command runs (-c), so cpid is 0";
                    self.g.report(Diagnostic::warning(span, note));
                }
                let state = self.state();
                Value::num(Ty::U64, self.b.load(state, output::STATE_CHILD as i32, Size::B8))
            }
            "cpu" => Value::num(Ty::U32, call(self, Helper::GetSmpProcessorId)),
            "numaid" => Value::num(Ty::U32, call(self, Helper::GetNumaNodeId)),
            "ncpus" => Value {
                literal: true,
                ..Value::num(Ty::I64, i64::from(self.g.env.possible_cpus()))
            },
            "rand" => Value::num(Ty::U32, call(self, Helper::GetPrandomU32)),
            "cgroup" => Value::num(Ty::U64, call(self, Helper::GetCurrentCgroupId)),
            "curtask" => {
                let task = call(self, Helper::GetCurrentTask);
                let ty = Ty::Ptr {
                    to: Box::new(self.named_struct("task_struct")),
                    user: false,
                };
                Value::num(ty, task)
            }
            "has_cpid" => Value::num(Ty::Bool, i64::from(self.g.env.has_command())),
            "ppid" | "pcomm" | "leader_tid" | "leader_comm" => {
                let task = call(self, Helper::GetCurrentTask);
                self.relative(task, name, span)
            }
            "usermode" => self.user_mode(span),
            "ctx" => {
                let r = self.address(&At::Ctx(0));
                let to = match &self.targets[0].attach {
                    AttachPoint::Iter { name, .. } if self.targets.len() == 1 => {
                        self.named_struct(&format!("bpf_iter__{name}"))
                    }
                    _ => Ty::None,
                };
                let ty = Ty::Ptr {
                    to: Box::new(to),
                    user: false,
                };
                Value::num(ty, r)
            }
            "func" => self.function_name(span),
            "probe" => {
                // A trampoline of its own has no cookie before 5.19.
                let own = self.kind == ProgramKind::Tracing;
                self.per_target |= own && self.targets.len() > 1;
                let n: Operand = if self.targets.len() == 1 || own {
                    let name = self.targets[0].name.clone();
                    (self.g.probe_name(&name) as i64).into()
                } else {
                    self.uses_cookie = true;
                    let ctx = self.b.ctx();
                    self.b.call(Helper::GetAttachCookie, vec![ctx.into()]).into()
                };
                Value::num(Ty::ProbeName, n)
            }
            "probetype" => Value::text(match self.provider {
                Provider::Begin | Provider::End | Provider::SelfSignal => b"special",
                provider => provider.name().as_bytes(),
            }),
            "duration" if self.apart && self.provider == Provider::Span => {
                self.error(span, super::loops::APART);
                Value::none()
            }
            "duration" if self.provider == Provider::Span => match self.duration {
                Some(r) => Value::num(Ty::U64, r),
                None => Value::num(Ty::U64, 0),
            },
            "kstack" | "ustack" => self.stack(name == "ustack", None, None, span),
            "retval" => self.retval(span),
            "args" => self.whole_args(span),
            _ => {
                let digits = name.strip_prefix("arg")?;
                let n: u8 = digits.parse().ok()?;
                if n > 9 {
                    return None;
                }
                if self.trampoline() {
                    self.ask(Asked::Position(n));
                }
                match self.raw_argument(n, span) {
                    Some(r) => Value::num(Ty::I64, r),
                    None => Value::none(),
                }
            }
        })
    }

    pub fn name(&mut self, name: &str, span: ast::Span, dest: Option<&Dest>) -> Value {
        if let Some(v) = self.builtin(name, span, dest) {
            return v;
        }
        let constant = self.g.universe.constant(name);
        if let Some((n, id)) = constant.or_else(|| self.g.env.enum_constant(name)) {
            let ty = match self.g.universe.to_ty(id) {
                ty @ Ty::Enum { .. } => ty,
                _ => Ty::I64,
            };
            return Value {
                literal: true,
                ..Value::num(ty, n)
            };
        }
        if let Some(n) = super::constants::define(name) {
            return Value {
                literal: true,
                ..Value::num(Ty::I64, n)
            };
        }
        let names: Vec<String> = NAMES.iter().map(|n| (*n).to_string()).collect();
        let mut d = Diagnostic::error(span, format!("unknown name '{name}'"));
        if let Some(near) = super::place::nearest(name, &names) {
            d = d.hint(format!("did you mean '{near}'?"));
        }
        self.g.report(d);
        Value::none()
    }

    pub fn named_struct(&self, name: &str) -> Ty {
        match self.g.universe.by_name(Space::Struct, name) {
            Some(id) => self.g.universe.to_ty(id),
            None => Ty::None,
        }
    }

    /// `pid(init)`, `tid(curr_ns)`: as seen from the first namespace, or from ktrail's own.
    pub fn id_call(&mut self, func: &str, mode: &Expr) -> Value {
        let thread = func == "tid";
        match &mode.kind {
            ExprKind::Name(name) if name == "init" => {}
            ExprKind::Name(name) if name == "curr_ns" => {
                if let Some((device, inode)) = self.g.env.pid_namespace() {
                    return self.id_in_namespace(device, inode, thread);
                }
            }
            _ => {
                self.error(mode.span, format!("{func}() takes init or curr_ns"));
                return Value::none();
            }
        }
        self.builtin(func, mode.span, None).unwrap_or(Value::none())
    }

    fn id_in_namespace(&mut self, device: u64, inode: u64, thread: bool) -> Value {
        // `struct bpf_pidns_info`: u32 pid, which is the thread, and u32 tgid. All 0 outside of the namespace.
        let slot = self.b.slot(8, 8);
        let ids = self.b.slot_addr(slot);
        self.b.store(ids, 0, 0, Size::B8);
        let args = vec![
            (device as i64).into(),
            (inode as i64).into(),
            ids.into(),
            8.into(),
        ];
        self.b.call_void(Helper::GetNsCurrentPidTgid, args);
        let id = self.b.load(ids, if thread { 0 } else { 4 }, Size::B4);
        Value::num(Ty::U32, id)
    }

    /// `ppid(task)` and its like.
    pub fn of_task(&mut self, what: &str, task: &Expr) -> Value {
        let v = self.expr(task);
        match &v.ty {
            Ty::None => return Value::none(),
            Ty::Ptr { user: false, .. } => {}
            ty => {
                self.error(task.span, format!("{what}() takes a pointer to a task, not {ty}"));
                return Value::none();
            }
        }
        let task_address = self.reg(&v);
        self.relative(task_address, what, task.span)
    }

    /// Of the parent's process (`ppid`, `pcomm`) or the process's first thread (`leader_tid`, `leader_comm`).
    fn relative(&mut self, task: Reg, what: &str, span: ast::Span) -> Value {
        let (via, wanted) = match what {
            "ppid" => ("real_parent", "tgid"),
            "pcomm" => ("real_parent", "comm"),
            "leader_tid" => ("group_leader", "pid"),
            _ => ("group_leader", "comm"),
        };
        let types = &self.g.universe;
        let found = field::path(types, "task_struct", via).zip(field::path(types, "task_struct", wanted));
        let Some((via, wanted)) = found else {
            self.error(
                span,
                format!("'{what}' needs the kernel's type information (BTF)"),
            );
            return Value::none();
        };
        let ty = self.g.universe.to_ty(wanted.ty);
        let base = self.kernel_base(task.into());
        let other = self.b.kernel_ptr(base, via.offset() as i32);
        let at = At::Kernel(other, wanted.offset() as i32);
        if ty.in_register() {
            let n = self.num(&Value::of(Ty::U32, at));
            return Value::num(Ty::U32, n);
        }
        Value::of(ty, at)
    }

    /// `usermode`: whether the CPU ran a process's own code when the probe fired.
    fn user_mode(&mut self, span: ast::Span) -> Value {
        if !matches!(
            self.provider,
            Provider::Profile | Provider::Interval | Provider::Software | Provider::Hardware
        ) {
            let message = format!(
                "a {} probe always fires in the kernel: it has no 'usermode'",
                self.provider.name()
            );
            self.error(span, message);
            return Value::none();
        }
        // The privilege level: of x86 3 in user space, of arm64 0.
        let (register, mask, user) = match self.g.env.features().arch {
            Arch::X86_64 => ("cs", 3, 3),
            Arch::Aarch64 => ("pstate", 0xf, 0),
        };
        let v = self.machine_register(register, span);
        let r = self.reg(&v);
        let level = self.b.bin(BinOp::And, Width::W64, r, mask);
        let dst = self.holds(Cond::Eq, level, user);
        Value::num(Ty::U64, dst)
    }

    /// How many frames a stack has at this moment, at most `depth`.
    pub fn frames(&mut self, user: bool, depth: Option<u32>) -> Value {
        let depth = depth.unwrap_or(FRAMES).min(FRAMES);
        let (_, base) = self.temp(&Ty::Str { len: 8 * depth });
        let ctx = self.b.ctx();
        let flags = if user { BPF_F_USER_STACK } else { 0 };
        let args = vec![ctx.into(), base.into(), i64::from(8 * depth).into(), flags.into()];
        let bytes = self.b.call(Helper::GetStack, args);
        let result = self.b.int();
        self.b.mov(result, 0);
        let (some, done) = (self.b.block(), self.b.block());
        // Negative: there is no such stack here.
        self.b.branch(Cond::SGt, bytes, 0, some, done);
        self.b.switch_to(some);
        let frames = self.b.bin(BinOp::Shr, Width::W64, bytes, 3);
        self.b.mov(result, frames);
        self.b.jump(done);
        self.b.switch_to(done);
        Value::num(Ty::I64, result)
    }

    fn function_name(&mut self, span: ast::Span) -> Value {
        if !matches!(
            self.provider,
            Provider::Kprobe | Provider::Kretprobe | Provider::Fentry | Provider::Fexit | Provider::Span
        ) {
            self.error(span, format!("a {} probe has no function", self.provider.name()));
            return Value::none();
        }
        let ctx = self.b.ctx();
        if self.g.env.features().get_func_ip {
            return Value::num(Ty::Ksym, self.b.call(Helper::GetFuncIp, vec![ctx.into()]));
        }
        // Only a kprobe at an entry stands in the function: a trampoline's context has no registers, and at a return they
        // are those of the kernel's code that caught it.
        if self.provider != Provider::Kprobe {
            return self.only_target(span);
        }
        // The instruction pointer of `struct pt_regs`.
        let off = match self.g.env.features().arch {
            Arch::X86_64 => 128,
            Arch::Aarch64 => 256,
        };
        Value::num(Ty::Ksym, self.b.load(ctx, off, Size::B8))
    }

    /// The address of the function that the program is attached to, of which there is one then.
    fn only_target(&mut self, span: ast::Span) -> Value {
        self.per_target |= self.targets.len() > 1;
        let (AttachPoint::Kprobe { func, .. } | AttachPoint::Fentry { func, .. }) = &self.targets[0].attach
        else {
            return Value::none();
        };
        match self.g.env.kernel_symbol(func) {
            Some(address) => Value::num(Ty::Ksym, address as i64),
            None => {
                self.error(
                    span,
                    format!("'func' needs Linux 5.15 here: the address of {func} isn't known"),
                );
                Value::none()
            }
        }
    }

    /// `reg("ip")`: a register of the machine as it is at the probe.
    pub fn machine_register(&mut self, name: &str, span: ast::Span) -> Value {
        if !matches!(
            self.provider,
            Provider::Kprobe
                | Provider::Kretprobe
                | Provider::Span
                | Provider::Profile
                | Provider::Interval
                | Provider::Software
                | Provider::Hardware
        ) {
            self.error(span, format!("a {} probe has no registers", self.provider.name()));
            return Value::none();
        }
        if self.trampoline() {
            self.unfit = true;
        }
        let known = registers(self.g.env.features().arch);
        let Some((_, off)) = known.iter().find(|(n, _)| *n == name) else {
            let names: Vec<&str> = known.iter().map(|(n, _)| n.as_str()).collect();
            let d = Diagnostic::error(span, format!("there is no register '{name}'"))
                .hint(format!("there are {}", names.join(", ")));
            self.g.report(d);
            return Value::none();
        };
        let ctx = self.b.ctx();
        Value::num(Ty::U64, self.b.load(ctx, *off, Size::B8))
    }

    /// A stack's id, and for a user's the process that it belongs to.
    pub fn stack(
        &mut self,
        user: bool,
        mode: Option<StackMode>,
        depth: Option<u32>,
        span: ast::Span,
    ) -> Value {
        let mode = mode.unwrap_or(self.g.settings.stack_mode);
        let depth = depth.unwrap_or(FRAMES).min(FRAMES);
        let decl = self.g.stack_map(depth);
        let map = self.map(decl);
        let ctx = self.b.ctx();
        let map = self.b.map(map);
        let flags = if user { BPF_F_USER_STACK } else { 0 };
        let id = self
            .b
            .call(Helper::GetStackid, vec![ctx.into(), map.into(), flags.into()]);
        let (lost, done) = (self.b.block(), self.b.block());
        self.b.branch(Cond::Eq, id, -EEXIST, lost, done);
        self.b.switch_to(lost);
        self.count_error(ErrorKind::StackLost, span);
        self.b.jump(done);
        self.b.switch_to(done);
        if !user {
            return Value::num(Ty::KStack { mode, depth }, id);
        }
        let ty = Ty::UStack { mode, depth };
        let (_, base) = self.temp(&ty);
        self.b.store(base, 0, id, Size::B8);
        let ids = self.b.call(Helper::GetCurrentPidTgid, vec![]);
        let pid = self.b.bin(BinOp::Shr, Width::W64, ids, 32);
        self.b.store(base, 8, pid, Size::B8);
        Value::of(ty, At::Mem(base, 0))
    }

    // Arguments.

    /// Argument `n` as the machine passes it.
    fn raw_argument(&mut self, n: u8, span: ast::Span) -> Option<Reg> {
        let most = match self.g.env.features().arch {
            Arch::X86_64 => 6,
            Arch::Aarch64 => 8,
        };
        match self.provider {
            Provider::Span if self.apart => self.error(span, super::loops::APART),
            Provider::Span if self.trampoline() => return self.typed_argument(n, span),
            Provider::Span if self.part == SpanPart::Both => {
                // Another program is built instead.
                self.unfit = true;
                return Some(self.b.imm(0));
            }
            Provider::Span => match self.span_args.get(usize::from(n)) {
                Some(r) => return Some(*r),
                None => self.error(span, "a span keeps the first 6 arguments"),
            },
            Provider::Kprobe if n >= most => {
                self.error(span, format!("only {most} arguments are passed in registers"));
            }
            Provider::Kprobe => return Some(self.b.arg(n, Type::Int)),
            Provider::Fentry | Provider::Fexit | Provider::RawTracepoint | Provider::Iter => {
                return self.typed_argument(n, span);
            }
            _ => self.error(span, format!("a {} probe has no arguments", self.provider.name())),
        }
        None
    }

    /// Argument `n`, of a program whose context has them all.
    fn typed_argument(&mut self, n: u8, span: ast::Span) -> Option<Reg> {
        let prototype = self.targets[0].prototype;
        let count = prototype.map(|p| parameters(&self.g.universe, p).len());
        if count.is_none_or(|count| usize::from(n) < count) {
            return Some(self.argument_word(n));
        }
        let count = count.unwrap_or(0);
        self.error(span, format!("there are {count} arguments, counted from 0"));
        None
    }

    /// A word of the context of a program whose arguments are there.
    pub fn argument_word(&mut self, n: u8) -> Reg {
        if self.provider != Provider::Iter {
            return self.b.arg(n, Type::Int);
        }
        // Objects of iterators may be null, and the kernel's verifier lets nobody compute with such a pointer. Read
        // by address it is a number.
        let ctx = self.address(&At::Ctx(0));
        let base = self.kernel_base(ctx.into());
        self.reg(&Value::of(Ty::U64, At::Kernel(base, 8 * i32::from(n))))
    }

    /// `retval`
    fn retval(&mut self, span: ast::Span) -> Value {
        let prototype = self.targets[0].prototype;
        let typed = |s: &Self| prototype.map_or(Ty::I64, |p| result(&s.g.universe, p));
        let (r, ty) = match self.provider {
            Provider::Kretprobe | Provider::Span if !self.trampoline() => {
                let off = match self.g.env.features().arch {
                    Arch::X86_64 => 80,
                    Arch::Aarch64 => 0,
                };
                let ctx = self.b.ctx();
                let r = self.b.load(ctx, off, Size::B8);
                // Functions that share the program may differ: what they return is a number then.
                let ty = if self.targets.len() == 1 {
                    typed(self)
                } else {
                    Ty::I64
                };
                (r, ty)
            }
            Provider::Fexit | Provider::Span => {
                self.ask(Asked::Result);
                let ctx = self.b.ctx();
                let r = if self.kind == ProgramKind::TracingMulti {
                    let slot = self.b.slot(8, 8);
                    let to = self.b.slot_addr(slot);
                    self.b.store(to, 0, 0, Size::B8);
                    self.b.call_void(Helper::GetFuncRet, vec![ctx.into(), to.into()]);
                    self.b.load(to, 0, Size::B8)
                } else {
                    let words = prototype.map_or(0, |p| words(&self.g.universe, p));
                    self.b.load(ctx, 8 * i32::from(words), Size::B8)
                };
                (r, typed(self))
            }
            _ => {
                self.error(span, format!("a {} probe has no 'retval'", self.provider.name()));
                return Value::none();
            }
        };
        let r = if ty.is_int() {
            self.cut(r, &super::merge::plain(&ty))
        } else {
            r
        };
        Value::num(ty, r)
    }

    /// `args.x`
    pub fn argument_field(&mut self, name: &Ident) -> Value {
        if let AttachPoint::Tracepoint {
            category,
            name: event,
        } = &self.targets[0].attach
        {
            self.per_target |= self.targets.len() > 1;
            let Some(fields) = self.g.env.tracepoint_fields(category, event) else {
                self.error(
                    name.span,
                    format!("the fields of {category}:{event} can't be read"),
                );
                return Value::none();
            };
            let Some(found) = fields.iter().find(|f| f.name == name.name) else {
                let names = fields.into_iter().map(|f| f.name).collect();
                return self.no_argument(name, names);
            };
            return self.tracepoint_field(found);
        }
        let Some(prototype) = self.targets[0].prototype else {
            let message = format!("the arguments of {} are not known", self.targets[0].name);
            self.error(name.span, message);
            return Value::none();
        };
        self.ask(Asked::Named(name.name.clone()));
        if self.provider == Provider::Kretprobe {
            self.error(
                name.span,
                "a function's arguments are gone when it returns: use 'span'",
            );
            return Value::none();
        }
        let parameters = parameters(&self.g.universe, prototype);
        let Some((_, ty, at)) = parameters.iter().find(|(n, ..)| *n == name.name) else {
            let names = parameters.into_iter().map(|(n, ..)| n).collect();
            return self.no_argument(name, names);
        };
        let ty = self.g.universe.to_ty(*ty);
        if !ty.in_register() {
            self.error(name.span, format!("an argument of type {ty} can't be read"));
            return Value::none();
        }
        let Some(r) = self.raw_argument(*at, name.span) else {
            return Value::none();
        };
        let r = if ty.is_int() {
            self.cut(r, &super::merge::plain(&ty))
        } else {
            r
        };
        Value::num(ty, r)
    }

    /// `args`: all that has a value, as a record.
    fn whole_args(&mut self, span: ast::Span) -> Value {
        self.ask(Asked::Arguments);
        let names: Vec<String> = match (&self.targets[0].attach, self.targets[0].prototype) {
            (AttachPoint::Tracepoint { category, name }, _) => {
                let fields = self.g.env.tracepoint_fields(category, name).unwrap_or_default();
                fields.into_iter().map(|f| f.name).collect()
            }
            (_, Some(prototype)) => parameters(&self.g.universe, prototype)
                .into_iter()
                .filter(|(_, ty, _)| self.g.universe.to_ty(*ty).in_register())
                .map(|(name, ..)| name)
                .collect(),
            _ => vec![],
        };
        if names.is_empty() {
            self.error(
                span,
                format!("a {} probe has no 'args' here", self.provider.name()),
            );
            return Value::none();
        }
        let each: Vec<(String, Value)> = names
            .into_iter()
            .map(|name| {
                let v = self.argument_field(&Ident {
                    name: name.clone(),
                    span,
                });
                (name, v)
            })
            .collect();
        let ty = Ty::Record(
            each.iter()
                .map(|(name, v)| (name.clone(), v.ty.clone()))
                .collect(),
        );
        let values: Vec<Value> = each.into_iter().map(|(_, v)| v).collect();
        self.gather(&values, ty)
    }

    fn no_argument(&mut self, name: &Ident, names: Vec<String>) -> Value {
        let message = format!("{} has no argument '{}'", self.targets[0].name, name.name);
        let mut d = Diagnostic::error(name.span, message);
        d = match super::place::nearest(&name.name, &names) {
            Some(near) => d.hint(format!("did you mean '{near}'?")),
            None if names.is_empty() => d,
            None => d.hint(format!("it has {}", names.join(", "))),
        };
        self.g.report(d);
        Value::none()
    }

    fn tracepoint_field(&mut self, f: &TracepointField) -> Value {
        let off = f.offset as i32;
        let user = self.user_space();
        if let Some(of) = f.c_type.strip_prefix("__data_loc") {
            // A word that says where the data is: its offset in the record, or, for `__rel_loc`, behind the word.
            let ctx = self.b.ctx();
            let word = self.b.load(ctx, off, Size::B4);
            let at = self.b.bin(BinOp::And, Width::W64, word, 0xffff);
            let start = self.address(&At::Ctx(0));
            let address = self.b.add(start, at);
            let char = of.contains("char");
            let element = if char {
                Ty::Int {
                    size: 1,
                    signed: true,
                }
            } else {
                self.c_type(of.trim().trim_end_matches("[]").trim())
                    .unwrap_or(Ty::Int {
                        size: 1,
                        signed: false,
                    })
            };
            let ty = Ty::Ptr {
                to: Box::new(element),
                user: false,
            };
            return Value::num(ty, address);
        }
        if f.c_type.trim_end().ends_with('*') {
            let to = f.c_type.trim_end().trim_end_matches('*').trim();
            let pointers = f.c_type.matches('*').count();
            let mut to = self.c_type(to).unwrap_or(Ty::None);
            for _ in 1..pointers {
                to = Ty::Ptr {
                    to: Box::new(to),
                    user,
                };
            }
            let ty = Ty::Ptr {
                to: Box::new(to),
                user,
            };
            let n = self.num(&Value::of(ty.clone(), At::Ctx(off)));
            return Value::num(ty, n);
        }
        let int = |size| Ty::Int {
            size,
            signed: f.signed,
        };
        if let Some(len) = f.array {
            let size = f.size / len.max(1);
            // As the language has it, `char` arrays are text, `u8` arrays bytes.
            if size == 1 && f.c_type.trim_start_matches("const ").trim() == "char" {
                return Value::of(Ty::Str { len }, At::Ctx(off));
            }
            let ty = Ty::Array {
                element: Box::new(int(size)),
                len,
            };
            return Value::of(ty, At::Ctx(off));
        }
        let ty = match self.c_type(&f.c_type) {
            Some(ty @ (Ty::Enum { .. } | Ty::Bool)) if ty.size() == f.size => ty,
            Some(ty @ Ty::Struct { .. }) => return Value::of(ty, At::Ctx(off)),
            _ if Size::from_bytes(f.size).is_some() => int(f.size),
            _ => {
                let ty = Ty::Array {
                    element: Box::new(int(1)),
                    len: f.size,
                };
                return Value::of(ty, At::Ctx(off));
            }
        };
        let n = self.num(&Value::of(ty.clone(), At::Ctx(off)));
        Value::num(ty, n)
    }

    /// A type as format files write it, without pointers.
    fn c_type(&self, text: &str) -> Option<Ty> {
        let text = text.trim();
        let text = text.strip_prefix("const ").unwrap_or(text).trim();
        let types = &self.g.universe;
        let (space, name) = match text.split_once(' ') {
            Some(("struct", name)) => (Space::Struct, name),
            Some(("union", name)) => (Space::Union, name),
            Some(("enum", name)) => (Space::Enum, name),
            _ if text == "char" => {
                return Some(Ty::Int {
                    size: 1,
                    signed: true,
                });
            }
            _ => return types.any_named(text).map(|id| types.to_ty(id)),
        };
        types.by_name(space, name.trim()).map(|id| types.to_ty(id))
    }

    /// `nsecs(mode)`
    pub fn nsecs(&mut self, mode: &str, span: ast::Span) -> Value {
        let helper = match mode {
            "monotonic" => Helper::KtimeGetNs,
            "boot" => Helper::KtimeGetBootNs,
            "tai" | "sw_tai" => Helper::KtimeGetTaiNs,
            _ => {
                self.error(span, "nsecs() takes monotonic, boot or tai");
                return Value::none();
            }
        };
        Value::num(Ty::U64, self.b.call(helper, vec![]))
    }

    /// The clock that `nsecs` without a mode reads.
    pub fn default_clock() -> Clock {
        Clock::Boot
    }
}

/// The registers in `struct pt_regs` (arch/x86/include/asm/ptrace.h, `struct user_pt_regs` of arm64), by name and
/// offset in bytes.
fn registers(arch: Arch) -> Vec<(String, i32)> {
    match arch {
        Arch::X86_64 => [
            "r15", "r14", "r13", "r12", "bp", "bx", "r11", "r10", "r9", "r8", "ax", "cx", "dx", "si", "di",
            "orig_ax", "ip", "cs", "flags", "sp", "ss",
        ]
        .iter()
        .enumerate()
        .map(|(i, name)| ((*name).to_string(), 8 * i as i32))
        .collect(),
        Arch::Aarch64 => (0..31)
            .map(|i| format!("r{i}"))
            .chain(["sp", "pc", "pstate"].map(String::from))
            .enumerate()
            .map(|(i, name)| (name, 8 * i as i32))
            .collect(),
    }
}
