//! One program: its scopes, its statements, its loops.

use std::collections::HashMap;

use super::value::{At, Value};
use super::{Global, ast, ir_span, merge::merge};
use crate::ir::{
    Block, Builder, Cond, Function, MapDecl, MapKind, MapRef, Op, Operand, ProgramKind, Reg, Size, Type,
};
use crate::isa::Helper;
use crate::script::ast::{Expr, ExprKind, Provider, Stmt, StmtKind};
use crate::script::output::{self, ErrorKind};
use crate::script::types::Ty;

use super::points::Place;
use super::programs::Asked;

/// Deepest nesting of expressions and statements that are followed.
const DEEPEST: u32 = 200;
/// Most operations of a program. The kernel takes a million instructions, walked.
const MOST_BLOCKS: u32 = 60_000;

/// Which half of a `span` probe it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// None of a span.
    None,
    /// The function is entered.
    Entry,
    /// It returns.
    Return,
    /// Both: a session.
    Both,
}

/// A variable.
#[derive(Clone, Debug)]
pub struct Var {
    pub ty: Ty,
    pub at: At,
    /// Its key in [`Global::vars`].
    pub(super) key: (u32, u32),
    /// The language allows no assignment.
    pub(super) constant: bool,
}

/// A program that was built.
pub struct Built {
    /// The entry, then what the loops over maps call.
    pub functions: Vec<Function>,
    pub maps: Vec<MapDecl>,
    pub uses_cookie: bool,
    pub per_target: bool,
    pub asked: Vec<Asked>,
    /// It asks for what such a program doesn't have: another kind is to be built.
    pub unfit: bool,
}

/// One program while it is built.
pub struct Body<'g, 'a> {
    pub g: &'g mut Global<'a>,
    pub b: Builder,
    pub maps: Vec<MapDecl>,
    pub provider: Provider,
    pub targets: &'g [Place],
    pub part: Span,
    pub kind: ProgramKind,
    pub uses_cookie: bool,
    /// Its targets can't share it, whatever their prototypes are.
    pub per_target: bool,
    /// What it asks of its targets' prototypes, of which all that share it must give the same answer.
    pub asked: Vec<Asked>,
    pub unfit: bool,
    pub instance: u32,
    declared: u32,
    pub scopes: Vec<HashMap<String, Var>>,
    /// Where `break` and `continue` go.
    pub loops: Vec<(Block, Block)>,
    /// Where `return` goes, and where its value goes, in the user's functions that are being expanded.
    pub returns: Vec<(Block, Option<Var>)>,
    /// In a loop over a map, which is a function apart.
    pub apart: bool,
    /// In a loop over a map that is in one of the user's functions.
    pub no_return: bool,
    /// The functions that are being expanded.
    pub expanding: Vec<String>,
    pub out: Block,
    /// Of a span that returns: the entry's arguments and the nanoseconds since.
    pub span_args: Vec<Reg>,
    pub duration: Option<Reg>,
    /// What the loops over maps call, for each entry.
    pub callbacks: Vec<Function>,
    depth: u32,
    too_large: bool,
}

impl<'g, 'a> Body<'g, 'a> {
    pub fn new(
        g: &'g mut Global<'a>,
        instance: u32,
        name: &str,
        provider: Provider,
        targets: &'g [Place],
        (part, kind): (Span, ProgramKind),
    ) -> Body<'g, 'a> {
        let mut b = Builder::new(name);
        let out = b.block();
        Body {
            g,
            b,
            maps: vec![],
            provider,
            targets,
            part,
            kind,
            uses_cookie: false,
            per_target: false,
            asked: vec![],
            unfit: false,
            instance,
            declared: 0,
            scopes: vec![HashMap::new()],
            loops: vec![],
            returns: vec![],
            apart: false,
            no_return: false,
            expanding: vec![],
            out,
            span_args: vec![],
            duration: None,
            callbacks: vec![],
            depth: 0,
            too_large: false,
        }
    }

    pub fn finish(mut self) -> Built {
        self.b.jump(self.out);
        self.b.switch_to(self.out);
        self.b.ret(0);
        Built {
            functions: std::iter::once(self.b.finish()).chain(self.callbacks).collect(),
            maps: self.maps,
            uses_cookie: self.uses_cookie,
            per_target: self.per_target,
            asked: self.asked,
            unfit: self.unfit,
        }
    }

    /// Everything of a probe.
    pub fn probe(&mut self, probe: &ast::Probe) {
        self.b.at(ir_span(probe.span));
        if self.part != Span::Both {
            self.unless_wanted(self.out);
        }
        match self.part {
            Span::Entry if self.trampoline() => return self.frame_entry(),
            Span::Return if self.trampoline() => self.frame_return(),
            Span::Entry => return self.span_entry(),
            Span::Return => self.span_return(),
            Span::Both => self.span_session(),
            Span::None => {}
        }
        // An iterator's last call has no object.
        if self.provider == Provider::Iter {
            let object = self.argument_word(1);
            self.b.branch_if(Cond::Eq, object, 0, self.out);
        }
        if let Some(predicate) = &probe.predicate {
            let go_on = self.b.block();
            self.condition(predicate, go_on, self.out);
            self.b.switch_to(go_on);
        }
        self.block(&probe.body);
    }

    /// Attached by trampolines: a function's arguments and result are those of its prototype, in their order.
    pub fn trampoline(&self) -> bool {
        matches!(self.kind, ProgramKind::Tracing | ProgramKind::TracingMulti)
    }

    /// Note what the targets' prototypes are asked.
    pub fn ask(&mut self, asked: Asked) {
        if !self.asked.contains(&asked) {
            self.asked.push(asked);
        }
    }

    /// Go to `out` once the script is ending, or where another process runs than the one that is to be traced.
    pub fn unless_wanted(&mut self, out: Block) {
        if self.provider != Provider::End {
            let state = self.state();
            let exiting = self.b.load(state, output::STATE_EXITING as i32, Size::B8);
            self.b.branch_if(Cond::Ne, exiting, 0, out);
        }
        let whole_system = matches!(
            self.provider,
            Provider::Begin | Provider::End | Provider::SelfSignal | Provider::Interval
        );
        if let (false, Some(pid)) = (whole_system, self.g.env.only_pid()) {
            let ids = self.b.call(Helper::GetCurrentPidTgid, vec![]);
            let own = self.b.bin(crate::ir::BinOp::Shr, crate::ir::Width::W64, ids, 32);
            self.b.branch_if(Cond::Ne, own, i64::from(pid), out);
        }
    }

    pub fn error(&mut self, span: ast::Span, message: impl Into<String>) {
        self.g.error(span, message);
    }

    /// The runtime's state.
    pub fn state(&mut self) -> Reg {
        let map = self.map(MapDecl {
            name: output::STATE.into(),
            kind: MapKind::Array,
            key_size: 4,
            value_size: output::STATE_SIZE,
            max_entries: 1,
        });
        self.b.map_data(map, 0)
    }

    /// The program's number of a map.
    pub fn map(&mut self, decl: MapDecl) -> MapRef {
        if let Some(i) = self.maps.iter().position(|m| m.name == decl.name) {
            return MapRef(i as u32);
        }
        self.maps.push(decl);
        MapRef(self.maps.len() as u32 - 1)
    }

    /// Where in the script the code is that is being built.
    pub fn here(&self) -> ast::Span {
        let span = self.b.span();
        ast::Span {
            start: span.start,
            end: span.end,
        }
    }

    /// Count that something went wrong here.
    pub fn count_error(&mut self, kind: ErrorKind, span: ast::Span) {
        let site = self.g.error_site(kind, span);
        let map = self.map(MapDecl {
            name: output::ERRORS.into(),
            kind: MapKind::PercpuArray,
            key_size: 4,
            value_size: 8,
            max_entries: 1,
        });
        let done = self.b.block();
        let counter = self.array_value(map, site, done);
        let one = self.b.imm(1);
        self.b.push(Op::Atomic {
            op: crate::ir::AtomicOp::Add,
            base: counter,
            off: 0,
            src: one,
            size: Size::B8,
            fetch: None,
        });
        self.b.jump(done);
        self.b.switch_to(done);
    }

    /// The value at a fixed place of a per-CPU array; `none` is never reached.
    pub fn array_value(&mut self, map: MapRef, index: u32, none: Block) -> Reg {
        let slot = self.b.slot(4, 4);
        let key = self.b.slot_addr(slot);
        self.b.store(key, 0, i64::from(index), Size::B4);
        let addr = self.b.map(map);
        let ty = Type::MapValue { map, nullable: true };
        let value = self
            .b
            .call_as(ty, Helper::MapLookupElem, vec![addr.into(), key.into()]);
        self.b.non_null(value, none)
    }

    // Scopes.

    pub fn lookup(&self, name: &str) -> Option<&Var> {
        self.scopes.iter().rev().find_map(|scope| scope.get(name))
    }

    /// Run `f` in a scope of its own, in which only its own variables are seen if `apart`.
    pub fn scoped<T>(&mut self, apart: bool, f: impl FnOnce(&mut Self) -> T) -> T {
        let hidden = apart.then(|| std::mem::take(&mut self.scopes));
        let loops = apart.then(|| std::mem::take(&mut self.loops));
        self.scopes.push(HashMap::new());
        let result = f(self);
        self.scopes.pop();
        if let Some(hidden) = hidden {
            self.scopes = hidden;
        }
        if let Some(loops) = loops {
            self.loops = loops;
        }
        result
    }

    /// Declare a variable whose type is at least `ty`, in the innermost scope.
    pub fn declare(&mut self, name: &str, ty: &Ty, constant: bool) -> Var {
        let key = (self.instance, self.declared);
        self.declared += 1;
        let known = self.g.vars.get(&key).cloned().unwrap_or(Ty::None);
        let ty = merge(&known, ty).unwrap_or(known);
        self.g.vars.insert(key, ty.clone());
        let at = self.storage(&ty, self.g.addressed.contains(&key));
        let var = Var {
            ty,
            at,
            key,
            constant,
        };
        if let Some(scope) = self.scopes.last_mut() {
            scope.insert(name.into(), var.clone());
        }
        var
    }

    fn storage(&mut self, ty: &Ty, memory: bool) -> At {
        if ty.in_register() && !memory {
            At::Num(self.b.int().into())
        } else if *ty == Ty::None {
            At::Nothing
        } else {
            let (_, base) = self.temp(ty);
            At::Mem(base, 0)
        }
    }

    /// Make a variable's type hold `v`, too.
    fn widen(&mut self, var: &Var, name: &str, v: &Value, span: ast::Span) {
        let ty = super::expr::value_type(v);
        if v.literal && var.ty.is_int() && v.constant().is_none_or(|n| fits(n, &var.ty)) {
            return;
        }
        match merge(&var.ty, &ty) {
            Some(both) => {
                if both != var.ty {
                    self.g.vars.insert(var.key, both);
                    self.g.changed = true;
                }
            }
            None => {
                let message = format!("'${name}' is {}, so it can't hold {ty}", var.ty);
                self.error(span, message);
            }
        }
    }

    /// Store into a variable.
    pub fn set(&mut self, var: &Var, v: &Value) {
        match var.at {
            At::Num(Operand::Reg(dst)) => {
                let n = if var.ty == Ty::Bool && v.ty != Ty::Bool {
                    self.truth(v).into()
                } else {
                    self.num(v)
                };
                // A narrower variable cuts what it is given.
                let n = match (&var.ty, n) {
                    (ty, Operand::Reg(r)) if ty.is_int() && v.ty.size() > ty.size() => {
                        self.cut(r, &ty.clone()).into()
                    }
                    (_, n) => n,
                };
                self.b.mov(dst, n);
            }
            At::Mem(base, off) => {
                let ty = var.ty.clone();
                self.store_whole(v, &ty, base, off);
            }
            _ => {}
        }
    }

    /// As a variable starts that nothing is assigned to.
    pub fn set_zero(&mut self, var: &Var) {
        match (&var.ty, &var.at) {
            (Ty::None, _) => {}
            (_, At::Mem(base, off)) => self.zero(*base, *off, var.ty.size()),
            (ty, _) => self.set(var, &Value::num(ty.clone(), 0)),
        }
    }

    /// Assign to a variable, declaring it if it isn't there.
    pub fn assign(&mut self, name: &str, v: &Value, span: ast::Span) {
        if v.ty == Ty::None && !matches!(v.at, At::Nothing) {
            return;
        }
        let var = match self.lookup(name) {
            Some(var) => {
                let var = var.clone();
                if var.constant {
                    return self.error(span, format!("'${name}' can't be assigned to"));
                }
                self.widen(&var, name, v, span);
                var
            }
            None => self.declare(name, &super::expr::value_type(v), false),
        };
        self.set(&var, v);
    }

    // Statements.

    /// True if nesting went too deep; reported once.
    pub fn too_deep(&mut self, span: ast::Span) -> bool {
        if self.b.block_count() > MOST_BLOCKS && !self.too_large {
            self.too_large = true;
            self.error(span, "this probe is too large for one program of the kernel's");
        }
        if self.depth >= DEEPEST {
            self.error(span, "this is nested too deeply");
        }
        self.too_large || self.depth >= DEEPEST
    }

    pub fn deeper<T>(&mut self, f: impl FnOnce(&mut Self) -> T) -> T {
        self.depth += 1;
        let result = f(self);
        self.depth -= 1;
        result
    }

    /// Statements in a scope of their own. A value at the end is evaluated and dropped.
    pub fn block(&mut self, block: &ast::Block) {
        self.scoped(false, |s| {
            for statement in &block.statements {
                s.statement(statement);
            }
            if let Some(value) = &block.value {
                s.expr(value);
            }
        });
    }

    /// What follows a jump away is built, so that it is checked, but never runs.
    fn unreachable(&mut self) {
        let dead = self.b.block();
        self.b.switch_to(dead);
    }

    pub fn statement(&mut self, statement: &Stmt) {
        if self.too_deep(statement.span) {
            return;
        }
        self.b.at(ir_span(statement.span));
        self.deeper(|s| s.statement_kind(statement));
    }

    fn statement_kind(&mut self, statement: &Stmt) {
        match &statement.kind {
            StmtKind::Expr(e) => self.expression_statement(e),
            StmtKind::Discard(e) => {
                self.expr(e);
            }
            StmtKind::Let { name, ty, value } => self.let_statement(name, ty.as_ref(), value.as_ref()),
            StmtKind::Assign { target, op, value } => self.assignment(target, *op, value, statement.span),
            StmtKind::If(branches) => {
                if let Some(yes) = self.decided_before(&branches.condition) {
                    let chosen = if yes {
                        Some(&branches.then)
                    } else {
                        branches.otherwise.as_ref()
                    };
                    if let Some(block) = chosen {
                        self.block(block);
                    }
                    return;
                }
                let (yes, no, done) = (self.b.block(), self.b.block(), self.b.block());
                self.condition(&branches.condition, yes, no);
                self.b.switch_to(yes);
                self.block(&branches.then);
                self.b.jump(done);
                self.b.switch_to(no);
                if let Some(otherwise) = &branches.otherwise {
                    self.block(otherwise);
                }
                self.b.jump(done);
                self.b.switch_to(done);
            }
            StmtKind::While { condition, body } => self.while_loop(condition, body, statement.span),
            StmtKind::ForRange {
                variable,
                from,
                to,
                body,
            } => self.range_loop(variable, from, to, body, statement.span),
            StmtKind::ForMap { variable, map, body } => self.each_loop(variable, map, body, statement.span),
            StmtKind::Unroll { count, body } => {
                let n = self.expr(count);
                match n.constant() {
                    Some(n @ 1..=100) => {
                        let (done, _) = (self.b.block(), ());
                        for _ in 0..n {
                            let next = self.b.block();
                            self.loops.push((done, next));
                            self.block(body);
                            self.loops.pop();
                            self.b.jump(next);
                            self.b.switch_to(next);
                        }
                        self.b.jump(done);
                        self.b.switch_to(done);
                    }
                    _ => self.error(count.span, "unroll takes a constant from 1 to 100"),
                }
            }
            StmtKind::Break | StmtKind::Continue => match self.loops.last() {
                Some(&(leave, next)) => {
                    let to = if statement.kind == StmtKind::Break {
                        leave
                    } else {
                        next
                    };
                    self.b.jump(to);
                    self.unreachable();
                }
                None => self.error(statement.span, "this is not inside of a loop"),
            },
            StmtKind::Return(value) => {
                let v = value.as_ref().map(|e| self.expr(e));
                if self.no_return {
                    let message = "a function can't be left from within a loop over a map: use 'break'";
                    self.error(statement.span, message);
                }
                match self.returns.last().cloned() {
                    Some((block, into)) => {
                        match (into, v) {
                            (Some(into), Some(v)) => self.set(&into, &v),
                            (None, None) => {}
                            (None, Some(_)) => self.error(statement.span, "this function returns nothing"),
                            (Some(_), None) => self.error(statement.span, "this function returns a value"),
                        }
                        self.b.jump(block);
                    }
                    None => self.b.jump(self.out),
                }
                self.unreachable();
            }
            StmtKind::Block(block) => self.block(block),
        }
    }

    fn expression_statement(&mut self, e: &Expr) {
        if let ExprKind::Call { name, .. } = &e.kind
            && super::maps::is_aggregation(&name.name)
        {
            let message = format!("{}() must be put into a map: '@m = {}(…)'", name.name, name.name);
            return self.error(e.span, message);
        }
        self.expr(e);
    }

    fn let_statement(&mut self, name: &ast::Ident, ty: Option<&ast::Type>, value: Option<&Expr>) {
        let wanted = ty.map(|ty| self.written_type(ty));
        let v = value.map(|e| self.expr(e));
        if self.lookup(&name.name).is_some() {
            let message = format!("'${}' is declared already", name.name);
            return self.error(name.span, message);
        }
        let start = match (&wanted, &v) {
            (Some(ty), _) => ty.clone(),
            (None, Some(v)) => super::expr::value_type(v),
            (None, None) => Ty::None,
        };
        let var = self.declare(&name.name, &start, false);
        match v {
            Some(v) if wanted.is_some() && v.literal && v.constant().is_some_and(|n| !fits(n, &start)) => {
                let n = v.constant().unwrap_or(0);
                self.error(
                    name.span,
                    format!("'${}' is {start}, which can't hold {n}", name.name),
                );
            }
            Some(v) => {
                self.widen(&var, &name.name, &v, name.span);
                self.set(&var, &v);
            }
            None => self.set_zero(&var),
        }
    }

    fn assignment(&mut self, target: &Expr, op: Option<ast::BinaryOp>, value: &Expr, span: ast::Span) {
        match &target.kind {
            ExprKind::Variable(name) => {
                let mut v = self.expr(value);
                if let Some(op) = op {
                    let old = self.expr(target);
                    v = self.binary(op, &old, &v, span);
                }
                if v.ty == Ty::None && matches!(v.at, At::Nothing) && self.no_errors_yet() {
                    return self.error(value.span, "this has no value");
                }
                self.assign(name, &v, target.span);
            }
            ExprKind::Map { name, key } => {
                self.map_assignment(name, key.as_deref(), op, value, target.span, span);
            }
            _ => self.error(target.span, "only variables and maps can be assigned to"),
        }
    }

    /// Nothing was wrong so far: what has no type now is wrong itself, not a consequence.
    pub fn no_errors_yet(&self) -> bool {
        self.g.diagnostics.is_empty()
    }
}

/// An integer type can hold this number, which is written in the script.
fn fits(n: i64, ty: &Ty) -> bool {
    match (ty.size(), ty.is_signed()) {
        (8.., _) => true,
        (size, true) => n >> (8 * size - 1) == n >> 63,
        (size, false) => n >> (8 * size) == 0,
    }
}
