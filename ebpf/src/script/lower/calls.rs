//! Functions of the language, and the script's own, which are expanded where they are called.

use super::ast;
use super::body::Body;
use super::ir_span;
use super::value::{At, Dest, Value};
use crate::ir::{BinOp, Cond, Op, Operand, Reg, Size, Width};
use crate::isa::Helper;
use crate::script::Diagnostic;
use crate::script::ast::{Expr, ExprKind, Ident, Provider};
use crate::script::output::{Action, Stream};
use crate::script::types::{StackMode, Ty};

/// Functions that only make a value of their arguments.
pub fn is_pure(name: &str) -> bool {
    VALUES.contains(&name) || super::builtins::NAMES.contains(&name)
}

const VALUES: &[&str] = &[
    "str",
    "buf",
    "ntop",
    "pton",
    "macaddr",
    "ksym",
    "usym",
    "kaddr",
    "percpu_kaddr",
    "socket_cookie",
    "cgroupid",
    "cgroup_path",
    "signal_name",
    "strerror",
    "syscall_name",
    "bswap",
    "kptr",
    "uptr",
    "kstack",
    "ustack",
    "strftime",
    "has_key",
    "nsecs",
    "reg",
    "strlen",
    "strncmp",
    "strcontains",
    "strstr",
    "memcmp",
    "getopt",
    "len",
    "path",
    "str_concat",
    "strcap",
    "is_ptr",
    "is_str",
    "is_array",
    "is_integer",
    "is_unsigned_integer",
    "is_literal",
    "is_err",
    "kfunc_exist",
    "kfunc_allowed",
];

/// Functions that do something.
const ACTIONS: &[&str] = &[
    "printf",
    "errorf",
    "warnf",
    "debugf",
    "print",
    "clear",
    "zero",
    "delete",
    "time",
    "cat",
    "system",
    "join",
    "exit",
    "signal",
    "signal_thread",
    "override",
    "write_user",
    "skboutput",
    "find",
    "assert",
    "static_assert",
    "fail",
];

impl Body<'_, '_> {
    pub fn call(&mut self, name: &Ident, args: &[Expr], span: ast::Span, dest: Option<&Dest>) -> Value {
        if let Some(function) = self.g.functions.get(&name.name).copied() {
            return self.expand(function, args, span);
        }
        let least_most = |least: usize, most: usize| {
            if (least..=most).contains(&args.len()) {
                return None;
            }
            let wanted = match (least, most) {
                (a, b) if a == b => format!("{a}"),
                (a, b) => format!("{a} to {b}"),
            };
            Some(format!(
                "{}() takes {wanted} arguments, not {}",
                name.name,
                args.len()
            ))
        };
        let count =
            match name.name.as_str() {
                "str" | "buf" | "ntop" | "cgroup_path" | "path" | "percpu_kaddr" => least_most(1, 2),
                "strncmp" | "memcmp" | "find" | "write_user" => least_most(3, 3),
                "strftime" | "strcontains" | "strstr" | "has_key" | "str_concat" | "assert"
                | "static_assert" => least_most(2, 2),
                "getopt" => least_most(1, 3),
                "skboutput" => least_most(4, 4),
                "delete" => least_most(1, 2),
                "clear"
                | "zero"
                | "pton"
                | "macaddr"
                | "ksym"
                | "usym"
                | "kaddr"
                | "cgroupid"
                | "signal_name"
                | "strerror"
                | "syscall_name"
                | "bswap"
                | "kptr"
                | "uptr"
                | "signal"
                | "signal_thread"
                | "override"
                | "len"
                | "reg"
                | "strlen"
                | "strcap"
                | "is_ptr"
                | "is_str"
                | "is_array"
                | "is_integer"
                | "is_unsigned_integer"
                | "is_literal"
                | "is_err"
                | "kfunc_exist"
                | "kfunc_allowed"
                | "socket_cookie" => least_most(1, 1),
                "time" | "exit" | "nsecs" | "pid" | "tid" | "ppid" | "pcomm" | "leader_tid"
                | "leader_comm" => least_most(0, 1),
                "kstack" | "ustack" => least_most(0, 2),
                _ => None,
            };
        if let Some(message) = count {
            self.error(span, message);
            return Value::none();
        }
        match name.name.as_str() {
            "printf" => self.printf("printf", args, Stream::Stdout, span),
            "errorf" => self.printf("errorf", args, Stream::Error, span),
            "warnf" => self.printf("warnf", args, Stream::Warning, span),
            "debugf" => self.printf("debugf", args, Stream::Debug, span),
            "print" => self.print(args, span),
            "join" => self.join(args, span),
            "exit" => self.exit(args, span),
            "cat" => self.formatted("cat", args, span, |format, args| Action::Cat { format, args }),
            "system" => {
                self.g.needs_unsafe("system", span);
                self.formatted("system", args, span, |format, args| Action::System {
                    format,
                    args,
                });
            }
            "time" => {
                let format = match args.first() {
                    None => "%H:%M:%S\n".to_string(),
                    Some(e) => match self.written_text(e) {
                        Some(text) => text,
                        None => return Value::none(),
                    },
                };
                self.emit(vec![], false, span, |_| Action::Time { format });
            }
            "clear" | "zero" => {
                let Some((map, None)) = self.map_argument(&args[0]) else {
                    self.error(args[0].span, format!("{}() takes a whole map", name.name));
                    return Value::none();
                };
                let map = self.g.map_number(&map, args[0].span);
                let clear = name.name == "clear";
                self.emit(vec![], true, span, |_| match clear {
                    true => Action::Clear { map },
                    false => Action::Zero { map },
                });
            }
            "delete" => {
                let key = args.get(1);
                return match (self.map_argument(&args[0]), key) {
                    (Some((map, None)), key) => self.map_delete(&map, key, span),
                    (Some((map, inner @ Some(_))), None) => self.map_delete(&map, inner, span),
                    _ => {
                        self.error(args[0].span, "delete() takes a map and a key");
                        Value::none()
                    }
                };
            }
            "has_key" => {
                return match self.map_argument(&args[0]) {
                    Some((map, None)) => self.map_has_key(&map, &args[1], span),
                    _ => {
                        self.error(args[0].span, "has_key() takes a map and a key");
                        Value::none()
                    }
                };
            }
            "len" => {
                return match self.map_argument(&args[0]) {
                    Some((map, None)) => self.map_len(&map, args[0].span),
                    _ => self.stack_len(&args[0]),
                };
            }
            "find" => {
                let (Some((map, None)), ExprKind::Variable(out)) =
                    (self.map_argument(&args[0]), &args[2].kind)
                else {
                    self.error(span, "find() takes a map, a key and a variable");
                    return Value::none();
                };
                let found = self.map_has_key(&map, &args[1], span);
                if self.lookup(out).is_none() {
                    // It is there, as zero, where nothing is found.
                    let ty = self.dry(|s| s.map_read(&map, Some(&args[1]), span).ty);
                    let var = self.declare(out, &ty, false);
                    self.set_zero(&var);
                }
                let (yes, done) = (self.b.block(), self.b.block());
                self.branch_truth(&found, yes, done);
                self.b.switch_to(yes);
                let v = self.map_read(&map, Some(&args[1]), span);
                self.assign(out, &v, args[2].span);
                self.b.jump(done);
                self.b.switch_to(done);
                return found;
            }
            "override" => self.override_return(&args[0], span),
            "assert" => self.assert(args, span),
            "static_assert" => self.static_assert(args, span),
            "fail" => self.fail(args, span),
            "signal" | "signal_thread" => {
                self.g.needs_unsafe(&name.name, span);
                let v = self.expr(&args[0]);
                let n = self.num(&v);
                let helper = if name.name == "signal" {
                    Helper::SendSignal
                } else {
                    Helper::SendSignalThread
                };
                self.b.call_void(helper, vec![n]);
            }
            other => return self.value_function(other, name, args, span, dest),
        }
        Value::none()
    }

    fn value_function(
        &mut self,
        func: &str,
        name: &Ident,
        args: &[Expr],
        span: ast::Span,
        dest: Option<&Dest>,
    ) -> Value {
        match func {
            "str" => return self.str(args, span, dest),
            "buf" => return self.buf(args, span, dest),
            "path" => return self.path(args, span),
            "socket_cookie" => return self.socket_cookie(&args[0], span),
            "percpu_kaddr" => return self.percpu_kaddr(args),
            "skboutput" => return self.skb_output(args, span),
            "write_user" => return self.write_user(args, span),
            "ntop" => return self.ntop(args, span),
            "macaddr" => {
                let v = self.expr(&args[0]);
                let at = match &v.ty {
                    Ty::Ptr { .. } => self.pointee(&v),
                    Ty::Str { .. } | Ty::Array { .. } if v.ty.size() >= 6 => match &v.at {
                        At::Text(_) => {
                            let ty = v.ty.clone();
                            let (base, off) = self.in_memory(&v, &ty);
                            At::Mem(base, off)
                        }
                        at => at.clone(),
                    },
                    Ty::None => return Value::none(),
                    ty => {
                        let message = format!("macaddr() takes 6 bytes or a pointer to them, not {ty}");
                        self.error(args[0].span, message);
                        return Value::none();
                    }
                };
                let (_, base) = self.temp(&Ty::Mac);
                self.copy(&at, base, 0, 6);
                return Value::of(Ty::Mac, At::Mem(base, 0));
            }
            "pton" => {
                let Some(text) = self.written_text(&args[0]) else {
                    return Value::none();
                };
                let bytes: Vec<u8> = match text.parse::<std::net::IpAddr>() {
                    Ok(std::net::IpAddr::V4(a)) => a.octets().to_vec(),
                    Ok(std::net::IpAddr::V6(a)) => a.octets().to_vec(),
                    Err(_) => {
                        self.error(args[0].span, format!("'{text}' is no internet address"));
                        return Value::none();
                    }
                };
                let ty = Ty::Array {
                    element: Box::new(Ty::Int {
                        size: 1,
                        signed: false,
                    }),
                    len: bytes.len() as u32,
                };
                let (_, base) = self.temp(&ty);
                for (i, word) in bytes.chunks(4).enumerate() {
                    let word = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
                    self.b.store(base, 4 * i as i32, i64::from(word), Size::B4);
                }
                return Value::of(ty, At::Mem(base, 0));
            }
            "ksym" => return self.retyped(&args[0], Ty::Ksym),
            "strerror" => return self.retyped(&args[0], Ty::Strerror),
            "signal_name" => return self.retyped(&args[0], Ty::SignalName),
            "syscall_name" => return self.retyped(&args[0], Ty::SyscallName),
            "cgroup_path" => {
                let filter = match args.get(1) {
                    None => String::new(),
                    Some(e) => self.written_text(e).unwrap_or_default(),
                };
                return self.retyped(&args[0], Ty::CgroupPath { filter });
            }
            "strftime" => {
                let Some(format) = self.written_text(&args[0]) else {
                    return Value::none();
                };
                let clock = Self::default_clock();
                return self.retyped(&args[1], Ty::Timestamp { format, clock });
            }
            "usym" => {
                let v = self.expr(&args[0]);
                let n = self.num(&v);
                let (_, base) = self.temp(&Ty::Usym);
                self.b.store(base, 0, n, Size::B8);
                let ids = self.b.call(Helper::GetCurrentPidTgid, vec![]);
                let pid = self.b.bin(BinOp::Shr, Width::W64, ids, 32);
                self.b.store(base, 8, pid, Size::B8);
                return Value::of(Ty::Usym, At::Mem(base, 0));
            }
            "kaddr" => {
                let Some(symbol) = self.written_text(&args[0]) else {
                    return Value::none();
                };
                let Some(address) = self.g.env.kernel_symbol(&symbol) else {
                    self.error(args[0].span, format!("the kernel has no symbol '{symbol}'"));
                    return Value::none();
                };
                // A number, to which bytes are added; `*` reads 8 bytes there.
                return Value::num(Ty::U64, address as i64);
            }
            "cgroupid" => {
                let Some(path) = self.written_text(&args[0]) else {
                    return Value::none();
                };
                return match self.g.env.cgroup_id(&path) {
                    Some(id) => Value::num(Ty::U64, id as i64),
                    None => {
                        self.error(args[0].span, format!("there is no cgroup at '{path}'"));
                        Value::none()
                    }
                };
            }
            "bswap" => {
                let v = self.expr(&args[0]);
                if !v.ty.is_int() {
                    if v.ty != Ty::None {
                        self.error(args[0].span, format!("bswap() takes a number, not {}", v.ty));
                    }
                    return Value::none();
                }
                let size = Size::from_bytes(v.ty.size()).unwrap_or(Size::B8);
                let ty = Ty::Int {
                    size: v.ty.size(),
                    signed: false,
                };
                let src = self.reg(&v);
                let dst = self.b.int();
                self.b.push(Op::Swap { size, dst, src });
                return Value::num(ty, dst);
            }
            "kptr" | "uptr" => {
                let v = self.expr(&args[0]);
                let user = func == "uptr";
                let to = match &v.ty {
                    Ty::Ptr { to, .. } => to.clone(),
                    _ => Box::new(Ty::None),
                };
                let n = self.num(&v);
                return Value::num(Ty::Ptr { to, user }, n);
            }
            "nsecs" if args.len() == 1 => {
                if let ExprKind::Name(mode) = &args[0].kind {
                    return self.nsecs(mode, args[0].span);
                }
            }
            "kstack" | "ustack" if !args.is_empty() => return self.stack_call(func == "ustack", args, span),
            "pid" | "tid" if !args.is_empty() => return self.id_call(func, &args[0]),
            "ppid" | "pcomm" | "leader_tid" | "leader_comm" if !args.is_empty() => {
                return self.of_task(func, &args[0]);
            }
            "is_err" => return self.is_err(&args[0]),
            "kfunc_exist" => return self.kfunc_exist(&args[0]),
            // Scripts have no way to call one.
            "kfunc_allowed" => return Value::num(Ty::Bool, 0),
            "is_ptr" | "is_str" | "is_array" | "is_integer" | "is_unsigned_integer" | "is_literal" => {
                return self.is_of_type(func, &args[0]);
            }
            "str_concat" => return self.str_concat(args),
            "strcap" => return self.strcap(&args[0]),
            "strncmp" => return self.strncmp(args),
            "strcontains" => return self.strcontains(args),
            "strstr" => return self.strstr(args),
            "memcmp" => return self.memcmp(args),
            "getopt" => return self.getopt(args),
            "reg" => {
                let Some(register) = self.written_text(&args[0]) else {
                    return Value::none();
                };
                return self.machine_register(&register, args[0].span);
            }
            "strlen" => return self.strlen(&args[0]),
            _ => {}
        }
        if args.is_empty()
            && let Some(v) = self.builtin(func, span, dest)
        {
            return v;
        }
        if func == "comm" {
            let d = Diagnostic::error(span, "comm() is that of the process that runs, no other's").hint(
                "keep names by process in a map, such as '@names[pid] = comm', or read a task's '.comm'",
            );
            self.g.report(d);
            return Value::none();
        }
        if super::maps::is_aggregation(func) {
            let message = format!("{func}() must be put into a map, alone: '@m = {func}(…)'");
            self.error(span, message);
            return Value::none();
        }
        if crate::script::FUNCTIONS.contains(&func) {
            self.error(name.span, format!("{func}() is not supported"));
            return Value::none();
        }
        let mut d = Diagnostic::error(name.span, format!("unknown function '{func}'"));
        let known: Vec<String> = VALUES
            .iter()
            .chain(ACTIONS)
            .map(|n| (*n).to_string())
            .chain(self.g.functions.keys().cloned())
            .collect();
        if let Some(near) = super::place::nearest(func, &known)
            && near != func
        {
            d = d.hint(format!("did you mean '{near}'?"));
        }
        self.g.report(d);
        Value::none()
    }

    /// The text of an argument that must be written out.
    pub fn written_text(&mut self, e: &Expr) -> Option<String> {
        match &e.kind {
            ExprKind::String(text) => Some(String::from_utf8_lossy(text).into_owned()),
            _ => {
                self.error(e.span, "this text must be written out");
                None
            }
        }
    }

    /// The map that an argument names, and its key, if it has one.
    fn map_argument<'e>(&mut self, e: &'e Expr) -> Option<(String, Option<&'e Expr>)> {
        match &e.kind {
            ExprKind::Map { name, key } => Some((name.clone(), key.as_deref())),
            _ => None,
        }
    }

    /// A number that is shown in another way.
    fn retyped(&mut self, e: &Expr, ty: Ty) -> Value {
        let v = self.expr(e);
        if !v.ty.in_register() {
            if v.ty != Ty::None {
                self.error(e.span, format!("{} is no number", v.ty));
            }
            return Value::none();
        }
        let n = self.num(&v);
        Value::num(ty, n)
    }

    /// Mode and number of frames that a stack is asked for with.
    fn stack_arguments(&mut self, args: &[Expr]) -> (Option<StackMode>, Option<u32>) {
        let (mut mode, mut depth) = (None, None);
        for e in args {
            if let ExprKind::Name(name) = &e.kind
                && let Some(m) = super::builtins::stack_mode(name)
            {
                mode = Some(m);
                continue;
            }
            match self.expr(e).constant() {
                Some(n @ 1..=1024) => depth = Some(n as u32),
                _ => self.error(e.span, "a stack takes a mode and a constant number of frames"),
            }
        }
        (mode, depth)
    }

    fn stack_call(&mut self, user: bool, args: &[Expr], span: ast::Span) -> Value {
        let (mode, depth) = self.stack_arguments(args);
        self.stack(user, mode, depth, span)
    }

    /// `len(kstack)`: how many frames the stack has now.
    fn stack_len(&mut self, e: &Expr) -> Value {
        let (name, args): (&str, &[Expr]) = match &e.kind {
            ExprKind::Name(name) => (name, &[]),
            ExprKind::Call { name, args } => (&name.name, args),
            _ => ("", &[]),
        };
        if !matches!(name, "kstack" | "ustack") {
            self.error(e.span, "len() takes a map, or 'kstack' or 'ustack' itself");
            return Value::none();
        }
        let (_, depth) = self.stack_arguments(args);
        self.frames(name == "ustack", depth)
    }

    // Text.

    /// `str(ptr[, len])`
    fn str(&mut self, args: &[Expr], span: ast::Span, dest: Option<&Dest>) -> Value {
        if let ExprKind::Positional(_, text) = &args[0].kind {
            return Value::text(text.clone().unwrap_or_default().as_bytes());
        }
        let most = self.g.settings.strlen;
        // A length doesn't count the zero byte.
        let limit = args.get(1).map(|e| (self.expr(e), e.span));
        let (len, dynamic) = match &limit {
            None => (most, None),
            Some((v, span)) => match v.constant() {
                Some(n) if n >= 0 => ((n.saturating_add(1)).min(i64::from(most)) as u32, None),
                Some(_) => {
                    self.error(*span, "a length can't be negative");
                    return Value::none();
                }
                None => (most, Some(v.clone())),
            },
        };
        let v = self.expr(&args[0]);
        self.b.at(ir_span(span));
        let (from, user): (Operand, bool) = match &v.ty {
            Ty::None => return Value::none(),
            Ty::Str { .. } if limit.is_none() => return v,
            Ty::Ptr { user, .. } => (self.num(&v), *user),
            Ty::Str { .. } | Ty::Array { .. } | Ty::Struct { .. } => match &v.at {
                At::Kernel(..) | At::Ctx(_) => (self.address(&v.at).into(), false),
                At::User(..) => (self.address(&v.at).into(), true),
                _ => {
                    let ty = Ty::Str { len };
                    let cut = v.ty.size() > len;
                    let (_, base) = self.temp(&ty);
                    self.store_whole(&v, &ty, base, 0);
                    if cut {
                        // As the kernel does it where it copies text.
                        self.b.store(base, len as i32 - 1, 0, Size::B1);
                    }
                    return Value::of(ty, At::Mem(base, 0));
                }
            },
            ty if ty.in_register() => (self.num(&v), self.user_space()),
            ty => {
                let message = format!("str() takes a pointer, not {ty}");
                self.error(span, message);
                return Value::none();
            }
        };
        let ty = Ty::Str { len };
        let (base, off, pad) = match dest {
            Some(d) if d.ty == ty => (d.base, d.off, d.pad),
            _ => (self.temp(&ty).1, 0, true),
        };
        if pad {
            self.zero(base, off, len);
        }
        match dynamic {
            None => {
                self.read_text(from, user, base, off, len);
            }
            Some(limit) => {
                let size = self.clamped(&limit, len, 1);
                let to = if off == 0 {
                    base
                } else {
                    self.b.add(base, i64::from(off))
                };
                let helper = if user {
                    Helper::ProbeReadUserStr
                } else {
                    Helper::ProbeReadKernelStr
                };
                self.read_memory(helper, vec![to.into(), size.into(), from]);
            }
        }
        Value::of(ty, At::Mem(base, off))
    }

    /// A number of bytes, `more` added, that is `most` at most, as the kernel's verifier can see.
    pub fn clamped(&mut self, v: &Value, most: u32, more: i64) -> Reg {
        let n = self.num(v);
        let size = self.b.int();
        self.b.mov(size, n);
        if more != 0 {
            self.push_bin(BinOp::Add, size, more);
        }
        let (cut, fine) = (self.b.block(), self.b.block());
        self.b.branch(Cond::Gt, size, i64::from(most), cut, fine);
        self.b.switch_to(cut);
        self.b.mov(size, i64::from(most));
        self.b.jump(fine);
        self.b.switch_to(fine);
        size
    }

    /// `buf(ptr[, len])`
    fn buf(&mut self, args: &[Expr], span: ast::Span, dest: Option<&Dest>) -> Value {
        let v = self.expr(&args[0]);
        let own = match &v.ty {
            Ty::Array { .. } | Ty::Str { .. } | Ty::Struct { .. } => Some(v.ty.size()),
            _ => None,
        };
        // Behind what the program holds itself is something else of its own.
        let most = match (&v.at, own) {
            (At::Text(_) | At::Mem(..), Some(own)) => own.min(self.g.settings.strlen),
            _ => self.g.settings.strlen,
        };
        let limit = args.get(1).map(|e| self.expr(e));
        self.b.at(ir_span(span));
        let (len, dynamic) = match (&limit, own) {
            (None, Some(own)) => (own, None),
            (None, None) if v.ty == Ty::None => return Value::none(),
            (None, None) => {
                self.error(span, "buf() of a pointer takes a length");
                return Value::none();
            }
            (Some(limit), _) => match limit.constant() {
                Some(n) => (n.clamp(1, i64::from(most)) as u32, None),
                None => (most, Some(limit.clone())),
            },
        };
        let at = match &v.ty {
            Ty::Ptr { .. } => self.pointee(&v),
            ty if ty.in_register() => {
                let pointer = Value {
                    ty: Ty::Ptr {
                        to: Box::new(Ty::None),
                        user: self.user_space(),
                    },
                    ..v.clone()
                };
                self.pointee(&pointer)
            }
            ty if matches!(v.at, At::Text(_)) => {
                let (base, off) = self.in_memory(&v, &ty.clone());
                At::Mem(base, off)
            }
            _ => v.at.clone(),
        };
        let ty = Ty::Buffer { len };
        let (base, off) = match dest {
            Some(d) if d.ty == ty => (d.base, d.off),
            _ => (self.temp(&ty).1, 0),
        };
        if dest.is_none_or(|d| d.pad) {
            self.zero(base, off, ty.size());
        }
        match dynamic {
            None => {
                self.b.store(base, off, i64::from(len), Size::B4);
                self.copy(&at, base, off + 4, len);
            }
            Some(limit) => {
                let size = self.clamped(&limit, len, 0);
                self.b.store(base, off, size, Size::B4);
                if matches!(at, At::Mem(..)) {
                    self.copy(&at, base, off + 4, len);
                    return Value::of(ty, At::Mem(base, off));
                }
                let from = self.address(&at);
                let to = self.b.add(base, i64::from(off + 4));
                let helper = if matches!(at, At::User(..)) {
                    Helper::ProbeReadUser
                } else {
                    Helper::ProbeReadKernel
                };
                self.read_memory(helper, vec![to.into(), size.into(), from.into()]);
            }
        }
        Value::of(ty, At::Mem(base, off))
    }

    /// `ntop([family,] address)`
    fn ntop(&mut self, args: &[Expr], span: ast::Span) -> Value {
        let (family, address) = match args {
            [address] => (None, address),
            [family, address] => (Some(self.expr(family)), address),
            _ => return Value::none(),
        };
        let v = self.expr(address);
        let (at, size) = match &v.ty {
            Ty::None => return Value::none(),
            ty if ty.is_int() => (None, 4),
            Ty::Ptr { to, .. } => {
                let size = to.size();
                (Some(self.pointee(&v)), size)
            }
            Ty::Array { .. } | Ty::Str { .. } | Ty::Struct { .. } => (Some(v.at.clone()), v.ty.size()),
            ty => {
                self.error(span, format!("ntop() takes an address, not {ty}"));
                return Value::none();
            }
        };
        let size = if size >= 16 { 16 } else { 4 };
        let family = match family {
            Some(v) => self.num(&v),
            None => Operand::Imm(if size == 16 { 10 } else { 2 }),
        };
        let (_, base) = self.temp(&Ty::Inet);
        self.b.store(base, 0, family, Size::B8);
        self.zero(base, 8, 16);
        match at {
            Some(at) => self.copy(&at, base, 8, size),
            None => {
                let n = self.num(&v);
                self.b.store(base, 8, n, Size::B4);
            }
        }
        Value::of(Ty::Inet, At::Mem(base, 0))
    }

    /// `override(value)`: the function isn't run, it returns this.
    fn override_return(&mut self, e: &Expr, span: ast::Span) {
        if self.provider != Provider::Kprobe {
            return self.error(span, "only a kprobe can override what a function returns");
        }
        self.g.needs_unsafe("override", span);
        let v = self.expr(e);
        let n = self.num(&v);
        let ctx = self.b.ctx();
        self.b.call_void(Helper::OverrideReturn, vec![ctx.into(), n]);
    }

    // The script's own functions.

    fn expand(&mut self, function: &ast::Function, args: &[Expr], span: ast::Span) -> Value {
        let name = &function.name.name;
        if self.expanding.contains(name) {
            self.error(
                span,
                format!("'{name}' calls itself, which programs in the kernel can't"),
            );
            return Value::none();
        }
        if args.len() != function.params.len() {
            let message = format!(
                "{name}() takes {} arguments, not {}",
                function.params.len(),
                args.len()
            );
            self.error(span, message);
            return Value::none();
        }
        let values: Vec<Value> = args.iter().map(|e| self.expr(e)).collect();
        let types: Vec<Ty> = function
            .params
            .iter()
            .map(|(_, ty)| self.written_type(ty))
            .collect();
        let result = function.returns.as_ref().map(|ty| self.written_type(ty));
        let mut passed = vec![];
        for ((v, ty), e) in values.into_iter().zip(&types).zip(args) {
            passed.push(self.cast_to(ty.clone(), v, e.span));
        }
        self.expanding.push(name.clone());
        let value = self.scoped(true, |s| {
            let into = result.filter(|ty| *ty != Ty::None).map(|ty| {
                // No script can write this name.
                let var = s.declare("return'", &ty, false);
                let zero = Value::of(ty.clone(), At::Nothing);
                s.set(&var, &zero);
                var
            });
            for ((v, ty), (param, _)) in passed.iter().zip(&types).zip(&function.params) {
                let var = s.declare(&param.name, ty, false);
                s.set(&var, v);
            }
            let done = s.b.block();
            s.returns.push((done, into.clone()));
            s.block_with_result(&function.body, into.as_ref());
            s.returns.pop();
            s.b.jump(done);
            s.b.switch_to(done);
            match into {
                Some(var) => Value::of(var.ty.clone(), var.at.clone()),
                None => Value::none(),
            }
        });
        self.expanding.pop();
        value
    }

    fn block_with_result(&mut self, block: &ast::Block, into: Option<&super::body::Var>) {
        for statement in &block.statements {
            self.statement(statement);
        }
        if let Some(e) = &block.value {
            let v = self.expr(e);
            if let Some(into) = into {
                self.set(into, &v);
            }
        }
    }
}
