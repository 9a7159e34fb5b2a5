//! Loops: `while`, over ranges, over maps.

use std::collections::{BTreeSet, HashMap};

use super::ast;
use super::body::{Body, Var};
use super::value::{At, Value};
use crate::ir::{
    BinOp, Builder, Cond, FuncRef, Function, LoopBound, MapDecl, MapKind, MapRef, Op, Operand, Reg, Size,
    Type,
};
use crate::script::ast::{Expr, ExprKind};
use crate::script::output::ErrorKind;
use crate::script::types::Ty;
use crate::script::visit::{Visitor, walk_block, walk_expression};

/// Most rounds of a loop whose end isn't known: with `may_goto` and without.
const ROUNDS: (u32, u32) = (1 << 20, 1 << 10);

/// Up to so many rounds of a script's loop the kernel's verifier may walk one by one, if it is in no other: it follows at
/// most 8,192 jumps that it has yet to see the other side of.
const WALKED: u32 = 64;

impl Body<'_, '_> {
    /// How many rounds code generation is told that a loop has which ends by itself.
    fn bound(&self, rounds: u32) -> u32 {
        let alone = self.loops.is_empty() && self.expanding.is_empty();
        match rounds <= WALKED && alone || !self.g.env.features().may_goto {
            true => rounds,
            false => rounds.max(LoopBound::WALKED + 1),
        }
    }

    /// Before a loop of so many rounds: add a zero that the kernel's verifier doesn't know to the script's numbers and to
    /// `counter`. A number that it knows is another one in each round, so that it would walk every round, and give up.
    fn forget_numbers(&mut self, rounds: u32, counter: Option<Reg>) {
        if !self.g.env.features().may_goto || rounds <= LoopBound::WALKED {
            return;
        }
        let variables = self.scopes.iter().flat_map(HashMap::values);
        let numbers = variables.filter_map(|var| match var.at {
            At::Num(Operand::Reg(r)) if var.ty.is_int() => Some(r),
            _ => None,
        });
        let mut numbers: Vec<Reg> = numbers.chain(counter).collect();
        numbers.sort_unstable_by_key(|r| r.0);
        if numbers.is_empty() {
            return;
        }
        let zeros = self.zeros(8);
        let zero = self.b.load(zeros, 0, Size::B8);
        for number in numbers {
            self.push_bin(BinOp::Add, number, zero);
        }
    }

    fn most_rounds(&self) -> u32 {
        if self.g.env.features().may_goto {
            ROUNDS.0
        } else {
            ROUNDS.1
        }
    }

    pub fn while_loop(&mut self, condition: &Expr, body: &ast::Block, span: ast::Span) {
        let (header, inside, done, exhausted) =
            (self.b.block(), self.b.block(), self.b.block(), self.b.block());
        let rounds = self.most_rounds();
        self.forget_numbers(rounds, None);
        self.b.jump(header);
        self.b.bound(header, rounds, exhausted);
        self.b.switch_to(header);
        self.condition(condition, inside, done);
        self.b.switch_to(inside);
        self.loops.push((done, header));
        self.block(body);
        self.loops.pop();
        self.b.jump(header);
        self.b.switch_to(exhausted);
        self.count_error(ErrorKind::LoopBound(rounds), span);
        self.b.jump(done);
        self.b.switch_to(done);
    }

    pub fn range_loop(
        &mut self,
        variable: &ast::Ident,
        from: &Expr,
        to: &Expr,
        body: &ast::Block,
        span: ast::Span,
    ) {
        let (from, to) = (self.expr(from), self.expr(to));
        for (v, what) in [(&from, "starts"), (&to, "ends")] {
            if !v.ty.is_int() && v.ty != Ty::None {
                self.error(span, format!("a range {what} with a number, not with {}", v.ty));
            }
        }
        let constant = from.constant().zip(to.constant());
        let rounds = match constant {
            Some((a, b)) => b.saturating_sub(a).clamp(1, i64::from(ROUNDS.0)) as u32,
            None => self.most_rounds(),
        };
        let counter = self.b.int();
        let start = self.num(&from);
        self.b.mov(counter, start);
        let end = match self.num(&to) {
            Operand::Reg(r) => {
                let end = self.b.int();
                self.b.mov(end, r);
                end.into()
            }
            imm => imm,
        };
        let (header, inside, next, done, exhausted) = (
            self.b.block(),
            self.b.block(),
            self.b.block(),
            self.b.block(),
            self.b.block(),
        );
        let bound = self.bound(rounds);
        self.forget_numbers(bound, Some(counter));
        self.b.jump(header);
        // The last check of the condition enters the header once more.
        self.b.bound(header, bound + 1, exhausted);
        self.b.switch_to(header);
        self.b.branch(Cond::SLt, counter, end, inside, done);
        self.b.switch_to(inside);
        self.loops.push((done, next));
        self.scoped(false, |s| {
            let var = s.declare(&variable.name, &Ty::I64, true);
            s.set(&var, &Value::num(Ty::I64, counter));
            s.block(body);
        });
        self.loops.pop();
        self.b.jump(next);
        self.b.switch_to(next);
        self.push_bin(BinOp::Add, counter, 1);
        self.b.jump(header);
        self.b.switch_to(exhausted);
        if constant.is_none_or(|(a, b)| b.saturating_sub(a) > i64::from(ROUNDS.0)) {
            self.count_error(ErrorKind::LoopBound(rounds), span);
        }
        self.b.jump(done);
        self.b.switch_to(done);
    }

    /// `for ($kv : @m) { … }`: the kernel calls the body, a function of its own, for each entry (5.13+). What the body
    /// shares with the rest of the program, the variables, is in a per-CPU map while the loop runs.
    pub fn each_loop(&mut self, variable: &ast::Ident, map: &ast::Ident, body: &ast::Block, span: ast::Span) {
        let Some(visited) = self.visited(map) else {
            return;
        };
        let number = self.callbacks.len();
        let (shared, size) = self.shared_variables(body);
        let area = self.map(MapDecl {
            name: format!("loop{number}.{}", self.b.name()),
            kind: MapKind::PercpuArray,
            key_size: 4,
            value_size: size,
            max_entries: 1,
        });
        let absent = self.b.block();
        let entry = self.array_value(area, 0, absent);
        self.b.store(entry, LEAVES, 0, Size::B8);
        self.put_shared(&shared, entry);

        // The place is taken before the body is built: that may have loops of its own.
        self.callbacks.push(Builder::new("").finish());
        let name = format!("{}_each{number}", self.b.name());
        let function = self.callback(&name, area, &shared, &visited, variable, body);
        self.only_own_context(&function, span);
        self.callbacks[number] = function;

        self.b.push(Op::Each {
            dst: None,
            map: visited.map,
            func: FuncRef(number as u32 + 1),
        });
        self.take_shared(&shared, entry);
        let leaves = self.b.load(entry, LEAVES, Size::B8);
        self.b.branch(Cond::Ne, leaves, 0, self.out, absent);
        self.b.switch_to(absent);
    }

    /// The variables that a body names, and where each is in the area that it shares with the rest; and its size.
    fn shared_variables(&self, body: &ast::Block) -> (Vec<Shared>, u32) {
        let mut size = 8;
        let mut shared: Vec<Shared> = vec![];
        for name in variables(body) {
            let Some(var) = self.lookup(&name) else { continue };
            let var = var.clone();
            let off = size as i32;
            size += var.ty.size().max(1).next_multiple_of(8);
            shared.push(Shared { name, var, off });
        }
        (shared, size)
    }

    fn put_shared(&mut self, shared: &[Shared], area: Reg) {
        for s in shared {
            match s.var.at {
                At::Num(n) => self.b.store(area, s.off, n, Size::B8),
                At::Mem(..) => self.copy(&s.var.at, area, s.off, s.var.ty.size()),
                _ => {}
            }
        }
    }

    fn take_shared(&mut self, shared: &[Shared], area: Reg) {
        for s in shared {
            match s.var.at {
                At::Num(Operand::Reg(dst)) => {
                    let n = self.b.load(area, s.off, Size::B8);
                    self.b.mov(dst, n);
                }
                At::Mem(base, off) => self.copy(&At::Mem(area, s.off), base, off, s.var.ty.size()),
                _ => {}
            }
        }
    }

    /// The body as a function that the kernel calls: 0 goes on, 1 stops.
    fn callback(
        &mut self,
        name: &str,
        area: MapRef,
        shared: &[Shared],
        visited: &Visited,
        variable: &ast::Ident,
        body: &ast::Block,
    ) -> Function {
        let mut b = Builder::new(name);
        b.param(Type::Int);
        let key = b.param(Type::Kernel { direct: false });
        let value = b.param(Type::MapValue {
            map: visited.map,
            nullable: false,
        });
        b.param(Type::Int);
        let (out, next, stop, none) = (b.block(), b.block(), b.block(), b.block());
        let outer = std::mem::replace(&mut self.b, b);
        let outer_out = std::mem::replace(&mut self.out, out);
        let returns = std::mem::take(&mut self.returns);
        let no_return = self.no_return;
        self.no_return |= !returns.is_empty();
        let apart = std::mem::replace(&mut self.apart, true);
        let entry = self.array_value(area, 0, none);
        self.scoped(true, |s| {
            let inner: Vec<Shared> = shared
                .iter()
                .map(|shared| {
                    let mut var = shared.var.clone();
                    if let At::Num(_) = var.at {
                        let r = s.b.int();
                        let n = s.b.load(entry, shared.off, Size::B8);
                        s.b.mov(r, n);
                        var.at = At::Num(r.into());
                    } else {
                        // Used where it is.
                        var.at = At::Mem(entry, shared.off);
                    }
                    if let Some(scope) = s.scopes.last_mut() {
                        scope.insert(shared.name.clone(), var.clone());
                    }
                    Shared {
                        var,
                        ..shared.clone()
                    }
                })
                .collect();
            s.scoped(false, |s| {
                let pair = s.entry_pair(visited, key, value);
                let var = s.declare(&variable.name, &pair.ty.clone(), true);
                s.set(&var, &pair);
                s.loops.push((stop, next));
                s.block(body);
                s.loops.pop();
            });
            s.b.jump(next);
            for (block, leaves, result) in [(next, 0, 0), (stop, 0, 1), (out, 1, 1)] {
                s.b.switch_to(block);
                for v in &inner {
                    if let At::Num(n) = v.var.at {
                        s.b.store(entry, v.off, n, Size::B8);
                    }
                }
                if leaves != 0 {
                    s.b.store(entry, LEAVES, leaves, Size::B8);
                }
                s.b.ret(result);
            }
        });
        self.b.switch_to(none);
        self.b.ret(1);
        self.no_return = no_return;
        self.apart = apart;
        self.returns = returns;
        self.out = outer_out;
        std::mem::replace(&mut self.b, outer).finish()
    }

    /// The entry as `(key, value)`.
    fn entry_pair(&mut self, visited: &Visited, key: Reg, value: Reg) -> Value {
        let (key_ty, value_ty) = (visited.key.clone(), visited.value.clone());
        let ty = Ty::Tuple(vec![key_ty.clone(), value_ty.clone()]);
        let offsets = ty.field_offsets();
        let (_, base) = self.temp(&ty);
        self.zero(base, 0, ty.size());
        self.copy(&At::Kernel(key, 0), base, offsets[0] as i32, key_ty.size());
        match visited.aggregated {
            // What all CPUs have.
            true => {
                let (_, own) = self.temp(&key_ty);
                self.copy(&At::Mem(base, offsets[0] as i32), own, 0, key_ty.size());
                let n = self.aggregated_entry(&visited.name, own);
                self.store(&n, &value_ty, base, offsets[1] as i32);
            }
            false => self.copy(&At::Mem(value, 0), base, offsets[1] as i32, value_ty.size()),
        }
        Value::of(ty, At::Mem(base, 0))
    }

    /// The body runs without the probe's context.
    fn only_own_context(&mut self, function: &Function, span: ast::Span) {
        let insts = function.blocks.iter().flat_map(|b| &b.insts);
        let place = insts
            .filter(|i| matches!(i.op, Op::Ctx { .. } | Op::Arg { .. }))
            .map(|i| i.span)
            .next();
        if let Some(place) = place {
            let span = match place == crate::ir::Span::NONE {
                true => span,
                false => ast::Span {
                    start: place.start,
                    end: place.end,
                },
            };
            self.error(span, APART);
        }
    }
}

/// Why a loop over a map can't do something.
pub const APART: &str = "a loop over a map can't reach the probe's arguments, its stack and the like: put what it needs \
                         into a variable before it";

/// In the area that a loop over a map shares with the rest of its program: not 0 if the program is to be left.
const LEAVES: i32 = 0;

/// A variable in that area.
#[derive(Clone)]
struct Shared {
    name: String,
    var: Var,
    off: i32,
}

/// A map that a loop visits.
pub struct Visited {
    pub name: String,
    pub map: MapRef,
    pub key: Ty,
    pub value: Ty,
    /// Each CPU has its part of the value.
    pub aggregated: bool,
}

/// The names of the variables in a block.
fn variables(body: &ast::Block) -> BTreeSet<String> {
    struct Names(BTreeSet<String>);
    impl Visitor for Names {
        fn expression(&mut self, e: &mut Expr) {
            if let ExprKind::Variable(name) = &e.kind {
                self.0.insert(name.clone());
            }
            walk_expression(self, e);
        }
    }
    let mut names = Names(BTreeSet::new());
    // The visitor may change what it visits.
    walk_block(&mut names, &mut body.clone());
    names.0
}
