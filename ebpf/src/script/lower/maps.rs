//! The script's maps: their types, their entries, aggregations.

mod aggregate;

use super::ast;
use super::body::Body;
use super::expr::value_type;
use super::loops::Visited;
use super::merge::merge;
use super::value::{At, Dest, Value};
use super::{Global, MapState, ZEROS};
use crate::ir::{
    AtomicOp, BinOp, Block, Cond, FuncRef, MapDecl, MapKind, MapRef, Op, Operand, Reg, Size, Type, Width,
};
use crate::isa::Helper;
use crate::script::ast::{BinaryOp, Expr, ExprKind};
use crate::script::output::{ErrorKind, MapInfo, SERIES_SLOT, ValueTy};
use crate::script::types::Ty;

const BPF_ANY: i64 = 0;
const BPF_NOEXIST: i64 = 1;

/// The functions that may only stand right of `@m =`.
pub fn is_aggregation(name: &str) -> bool {
    matches!(
        name,
        "count" | "sum" | "avg" | "min" | "max" | "stats" | "hist" | "lhist" | "tseries"
    )
}

/// Bytes of what a map holds, without the word that says whether it was set.
fn value_size(value: &ValueTy) -> u32 {
    match value {
        ValueTy::Scalar(ty) => ty.size(),
        ValueTy::Count | ValueTy::Sum { .. } => 8,
        ValueTy::Avg { .. } | ValueTy::Min { .. } | ValueTy::Max { .. } | ValueTy::Stats { .. } => 16,
        ValueTy::Hist { buckets, .. } | ValueTy::Lhist { buckets, .. } => 8 * buckets,
        ValueTy::Series { intervals, .. } => SERIES_SLOT * intervals,
    }
}

/// Aggregations of signed and of unsigned numbers are one, of signed ones.
fn merge_aggregations(a: &ValueTy, b: &ValueTy) -> Option<ValueTy> {
    use ValueTy::{Avg, Max, Min, Series, Stats, Sum};
    Some(match (a, b) {
        (Sum { signed: x }, Sum { signed: y }) => Sum { signed: *x || *y },
        (Avg { signed: x }, Avg { signed: y }) => Avg { signed: *x || *y },
        (Min { signed: x }, Min { signed: y }) => Min { signed: *x || *y },
        (Max { signed: x }, Max { signed: y }) => Max { signed: *x || *y },
        (Stats { signed: x }, Stats { signed: y }) => Stats { signed: *x || *y },
        (
            Series {
                interval,
                intervals,
                of,
                signed: x,
            },
            Series {
                interval: i,
                intervals: n,
                of: o,
                signed: y,
            },
        ) if (interval, intervals, of) == (i, n, o) => Series {
            interval: *interval,
            intervals: *intervals,
            of: *of,
            signed: *x || *y,
        },
        _ => return None,
    })
}

/// How a map is stored.
fn declaration(name: &str, state: &MapState, keys: u32) -> Option<(MapDecl, bool, Option<u32>)> {
    let value = state.value.as_ref()?;
    let key = state.key.as_ref()?;
    let aggregated = !matches!(value, ValueTy::Scalar(_));
    let declared = state.declared.map(|(kind, _)| kind);
    let entries = state.declared.map_or(keys, |(_, entries)| entries);
    let per_cpu = aggregated
        || key.is_some()
            && matches!(
                declared,
                Some(ast::MapKind::PerCpuHash | ast::MapKind::PerCpuLruHash)
            );
    let lru = matches!(
        declared,
        Some(ast::MapKind::LruHash | ast::MapKind::PerCpuLruHash)
    );
    let size = value_size(value);
    let set_off = key.is_none().then(|| size.next_multiple_of(8));
    let decl = MapDecl {
        name: format!("AT_{name}"),
        kind: match (key.is_some(), per_cpu, lru) {
            (false, false, _) => MapKind::Array,
            (false, true, _) => MapKind::PercpuArray,
            (true, false, false) => MapKind::Hash,
            (true, false, true) => MapKind::LruHash,
            (true, true, false) => MapKind::PercpuHash,
            (true, true, true) => MapKind::LruPercpuHash,
        },
        key_size: key.as_ref().map_or(4, |ty| ty.size().max(1)),
        value_size: set_off.map_or(size.max(1), |off| off + 8),
        max_entries: if key.is_some() { entries } else { 1 },
    };
    Some((decl, per_cpu, set_off))
}

impl Global<'_> {
    /// What the runtime must know of a map.
    pub fn map_info(&self, name: &str) -> Option<MapInfo> {
        let mut state = self.maps.get(name)?.clone();
        // Declared and never used.
        if state.declared.is_some() {
            state.value.get_or_insert(ValueTy::Scalar(Ty::I64));
            state.key.get_or_insert(Some(Ty::I64));
        }
        let (decl, per_cpu, set_off) = declaration(name, &state, self.settings.map_keys)?;
        Some(MapInfo {
            name: format!("@{name}"),
            key: state.key?,
            value: state.value?,
            decl,
            per_cpu,
            set_off,
        })
    }
}

/// A map in use: its declaration's number and what is known of it.
struct Use {
    map: MapRef,
    decl: MapDecl,
    number: usize,
    set_off: Option<u32>,
    value: ValueTy,
}

impl Body<'_, '_> {
    // Types.

    /// Note the key that a map is used with. False if that can't be.
    fn note_key(&mut self, name: &str, key: Option<&Ty>, literal: bool, span: ast::Span) -> bool {
        self.g.map_number(name, span);
        let known = self.g.maps.get(name).and_then(|state| state.key.clone());
        let new = match (known, key) {
            (None, None) => Some(None),
            (None, Some(Ty::None)) => return false,
            (None, Some(ty)) => Some(Some(ty.clone())),
            (Some(None), None) => None,
            (Some(Some(old)), Some(ty)) => {
                if literal && old.is_int() {
                    return true;
                }
                match merge(&old, ty) {
                    Some(both) if both != old => Some(Some(both)),
                    Some(_) => None,
                    None => {
                        let message = format!("'@{name}' has keys of {old}, not of {ty}");
                        self.error(span, message);
                        return false;
                    }
                }
            }
            (Some(Some(_)), None) => {
                self.error(
                    span,
                    format!("'@{name}' is used with a key elsewhere, here it has none"),
                );
                return false;
            }
            (Some(None), Some(_)) => {
                self.error(
                    span,
                    format!("'@{name}' is used without a key elsewhere, here it has one"),
                );
                return false;
            }
        };
        if let (Some(new), Some(state)) = (new, self.g.maps.get_mut(name)) {
            state.key = Some(new);
            self.g.changed = true;
        }
        true
    }

    /// Note what a map holds. False if that can't be.
    fn note_value(&mut self, name: &str, value: &ValueTy, literal: bool, span: ast::Span) -> bool {
        self.g.map_number(name, span);
        let known = self.g.maps.get(name).and_then(|state| state.value.clone());
        let new = match (known, value) {
            (_, ValueTy::Scalar(Ty::None)) => return false,
            (None, value) => value.clone(),
            (Some(ValueTy::Scalar(old)), ValueTy::Scalar(ty)) => {
                if literal && old.is_int() {
                    return true;
                }
                match merge(&old, ty) {
                    Some(both) if both != old => ValueTy::Scalar(both),
                    Some(_) => return true,
                    None => {
                        self.error(span, format!("'@{name}' holds {old}, not {ty}"));
                        return false;
                    }
                }
            }
            (Some(old), value) if old == *value => return true,
            (Some(old), value) if merge_aggregations(&old, value).is_some() => {
                match merge_aggregations(&old, value) {
                    Some(both) if both != old => both,
                    _ => return true,
                }
            }
            (Some(_), _) => {
                self.error(span, format!("'@{name}' is used for different kinds of values"));
                return false;
            }
        };
        if let Some(state) = self.g.maps.get_mut(name) {
            state.value = Some(new);
            self.g.changed = true;
        }
        true
    }

    fn use_map(&mut self, name: &str) -> Option<Use> {
        let state = self.g.maps.get(name)?.clone();
        let (decl, _, set_off) = declaration(name, &state, self.g.settings.map_keys)?;
        let number = self.g.map_number(name, state.first);
        let map = self.map(decl.clone());
        Some(Use {
            map,
            decl,
            number,
            set_off,
            value: state.value?,
        })
    }

    /// The key in memory, as the map has it. Without a key, that of the one value.
    fn key(&mut self, name: &str, key: Option<&Expr>, span: ast::Span) -> Option<Reg> {
        let Some(e) = key else {
            if !self.note_key(name, None, false, span) {
                return None;
            }
            let slot = self.b.slot(4, 4);
            let base = self.b.slot_addr(slot);
            self.b.store(base, 0, 0, Size::B4);
            return Some(base);
        };
        let known = self
            .g
            .maps
            .get(name)
            .and_then(|state| state.key.clone())
            .flatten();
        let Some(ty) = known else {
            // The first time: its type is all that matters.
            let v = self.expr(e);
            self.note_key(name, Some(&value_type(&v)), false, e.span);
            return None;
        };
        // Tuples that are written out go to their place field by field; their types are seen on the way.
        let (_, base) = self.temp(&ty);
        let dest = Dest {
            base,
            off: 0,
            ty: ty.clone(),
            pad: true,
        };
        if super::value::has_gaps(&ty) {
            self.zero(base, 0, ty.size());
        }
        self.key_into(name, e, &dest).then_some(base)
    }

    fn key_into(&mut self, name: &str, e: &Expr, dest: &Dest) -> bool {
        if let (ExprKind::Tuple(fields), Ty::Tuple(types)) = (&e.kind, &dest.ty)
            && fields.len() == types.len()
        {
            let mut seen = vec![];
            for ((field, ty), off) in fields.iter().zip(types).zip(dest.ty.field_offsets()) {
                let part = Dest {
                    off: dest.off + off as i32,
                    ty: ty.clone(),
                    ..dest.clone()
                };
                let v = self.expr_to(field, Some(&part));
                seen.push(if v.literal && ty.is_int() {
                    ty.clone()
                } else {
                    value_type(&v)
                });
                if merge(ty, &value_type(&v)).is_some() {
                    self.store_whole(&v, ty, part.base, part.off);
                }
            }
            return self.note_key(name, Some(&Ty::Tuple(seen)), false, e.span);
        }
        let v = self.expr_to(e, Some(dest));
        if !self.note_key(name, Some(&value_type(&v)), v.literal, e.span) {
            return false;
        }
        self.store_whole(&v, &dest.ty, dest.base, dest.off);
        true
    }

    // Entries.

    fn lookup_entry(&mut self, u: &Use, key: Reg) -> Reg {
        let map = self.b.map(u.map);
        let ty = Type::MapValue {
            map: u.map,
            nullable: true,
        };
        self.b
            .call_as(ty, Helper::MapLookupElem, vec![map.into(), key.into()])
    }

    /// The entry, made if it isn't there; leaves for `none` where that fails.
    fn entry(&mut self, u: &Use, key: Reg, none: Block, span: ast::Span) -> Reg {
        let ty = Type::MapValue {
            map: u.map,
            nullable: false,
        };
        if u.decl.kind == MapKind::Array {
            return self.b.map_data(u.map, 0);
        }
        let first = self.lookup_entry(u, key);
        if u.decl.kind == MapKind::PercpuArray {
            return self.b.non_null(first, none);
        }
        let entry = self.b.reg(ty);
        let (absent, full, found) = (self.b.block(), self.b.block(), self.b.block());
        let there = self.b.non_null(first, absent);
        self.b.mov(entry, there);
        self.b.jump(found);

        self.b.switch_to(absent);
        self.insert_zero(u, key);
        let second = self.lookup_entry(u, key);
        let made = self.b.non_null(second, full);
        self.b.mov(entry, made);
        self.b.jump(found);

        self.b.switch_to(full);
        self.count_error(ErrorKind::MapFull(u.number), span);
        self.b.jump(none);
        self.b.switch_to(found);
        entry
    }

    /// Where so many zero bytes are.
    pub fn zeros(&mut self, size: u32) -> Reg {
        self.g.zeros = self.g.zeros.max(size.next_multiple_of(8));
        let zeros = self.map(MapDecl {
            name: ZEROS.into(),
            kind: MapKind::Array,
            key_size: 4,
            value_size: self.g.zeros,
            max_entries: 1,
        });
        self.b.map_data(zeros, 0)
    }

    fn insert_zero(&mut self, u: &Use, key: Reg) {
        let zeros = self.zeros(u.decl.value_size);
        let map = self.b.map(u.map);
        let args = vec![map.into(), key.into(), zeros.into(), BPF_NOEXIST.into()];
        self.b.call_void(Helper::MapUpdateElem, args);
    }

    fn mark_set(&mut self, u: &Use, entry: Reg) {
        if let Some(off) = u.set_off {
            self.b.store(entry, off as i32, 1, Size::B8);
        }
    }

    fn add_to(&mut self, entry: Reg, off: i32, n: impl Into<Operand>) {
        let src = match n.into() {
            Operand::Reg(r) => r,
            Operand::Imm(n) => self.b.imm(n),
        };
        self.b.push(Op::Atomic {
            op: AtomicOp::Add,
            base: entry,
            off,
            src,
            size: Size::B8,
            fetch: None,
        });
    }

    /// `&@m`, `&@m[k]`: what the entry holds and where it is, 0 where there is none.
    pub fn map_address(&mut self, name: &str, key: Option<&Expr>, span: ast::Span) -> Option<(Ty, Operand)> {
        let key = self.key(name, key, span)?;
        let u = self.use_map(name)?;
        let ValueTy::Scalar(ty) = &u.value else {
            self.error(
                span,
                format!("'@{name}' holds an aggregation, each CPU its own: it has no address"),
            );
            return None;
        };
        let dst = self.b.int();
        if u.decl.kind == MapKind::Array {
            let base = self.b.map_data(u.map, 0);
            self.b.mov(dst, base);
            return Some((ty.clone(), dst.into()));
        }
        let (none, done) = (self.b.block(), self.b.block());
        let entry = self.lookup_entry(&u, key);
        let entry = self.b.non_null(entry, none);
        self.b.mov(dst, entry);
        self.b.jump(done);
        self.b.switch_to(none);
        self.b.mov(dst, 0);
        self.b.jump(done);
        self.b.switch_to(done);
        Some((ty.clone(), dst.into()))
    }

    /// `@m`, `@m[k]` as a value: zero where there is none.
    pub fn map_read(&mut self, name: &str, key: Option<&Expr>, span: ast::Span) -> Value {
        let Some(key) = self.key(name, key, span) else {
            return Value::none();
        };
        let Some(u) = self.use_map(name) else {
            return Value::none();
        };
        let ty = match &u.value {
            ValueTy::Scalar(ty) => ty.clone(),
            ValueTy::Hist { .. } | ValueTy::Lhist { .. } => {
                self.error(
                    span,
                    format!("the histogram in '@{name}' can be printed, but is no number"),
                );
                return Value::none();
            }
            ValueTy::Series { .. } => {
                self.error(
                    span,
                    format!("the series in '@{name}' can be printed, but is no number"),
                );
                return Value::none();
            }
            _ => return self.aggregated(&u, key),
        };
        let direct = u.decl.kind == MapKind::Array;
        if ty.in_register() {
            let dst = self.b.int();
            let size = Size::from_bytes(ty.size()).unwrap_or(Size::B8);
            let signed = ty.is_signed();
            let load = |base| Op::Load {
                dst,
                base,
                off: 0,
                size,
                signed,
            };
            if direct {
                let base = self.b.map_data(u.map, 0);
                self.b.push(load(base));
            } else {
                let none = self.b.block();
                let done = self.b.block();
                let entry = self.lookup_entry(&u, key);
                let entry = self.b.non_null(entry, none);
                self.b.push(load(entry));
                self.b.jump(done);
                self.b.switch_to(none);
                self.b.mov(dst, 0);
                self.count_absent(&u, span);
                self.b.jump(done);
                self.b.switch_to(done);
            }
            return Value::num(ty, dst);
        }
        let (_, copy) = self.temp(&ty);
        if direct {
            let base = self.b.map_data(u.map, 0);
            self.copy(&At::Mem(base, 0), copy, 0, ty.size());
        } else {
            let (none, done) = (self.b.block(), self.b.block());
            let entry = self.lookup_entry(&u, key);
            let entry = self.b.non_null(entry, none);
            self.copy(&At::Mem(entry, 0), copy, 0, ty.size());
            self.b.jump(done);
            self.b.switch_to(none);
            self.zero(copy, 0, ty.size());
            self.count_absent(&u, span);
            self.b.jump(done);
            self.b.switch_to(done);
        }
        Value::of(ty, At::Mem(copy, 0))
    }

    /// Count that an entry was read that isn't there, if the user wants to know that (`-k`).
    fn count_absent(&mut self, u: &Use, span: ast::Span) {
        if self.g.env.counts_failures() {
            self.count_error(ErrorKind::Absent(u.number), span);
        }
    }

    /// The number that an aggregation stands for, over all CPUs (5.19+): average and sum, the least, the greatest.
    fn aggregated(&mut self, u: &Use, key: Reg) -> Value {
        let (total, count, cpu) = (self.b.int(), self.b.int(), self.b.int());
        for r in [total, count, cpu] {
            self.b.mov(r, 0);
        }
        let (header, inside, next, done) = (self.b.block(), self.b.block(), self.b.block(), self.b.block());
        let cpus = self.g.env.possible_cpus().clamp(1, 4096);
        self.b.jump(header);
        self.b.bound(header, cpus + 1, done);
        self.b.switch_to(header);
        self.b.branch(Cond::Lt, cpu, i64::from(cpus), inside, done);
        self.b.switch_to(inside);
        let map = self.b.map(u.map);
        let ty = Type::MapValue {
            map: u.map,
            nullable: true,
        };
        let args = vec![map.into(), key.into(), cpu.into()];
        let share = self.b.call_as(ty, Helper::MapLookupPercpuElem, args);
        let share = self.b.non_null(share, done);
        let n = self.b.load(share, 0, Size::B8);
        match u.value {
            ValueTy::Min { signed } | ValueTy::Max { signed } => {
                let take = self.b.block();
                let set = self.b.load(share, 8, Size::B8);
                self.b.branch_if(Cond::Eq, set, 0, next);
                self.b.branch_if(Cond::Eq, count, 0, take);
                let least = matches!(u.value, ValueTy::Min { .. });
                let cond = match (least, signed) {
                    (true, true) => Cond::SLt,
                    (true, false) => Cond::Lt,
                    (false, true) => Cond::SGt,
                    (false, false) => Cond::Gt,
                };
                self.b.branch(cond, n, total, take, next);
                self.b.switch_to(take);
                self.b.mov(total, n);
                self.b.mov(count, 1);
            }
            ValueTy::Avg { .. } | ValueTy::Stats { .. } => {
                let c = self.b.load(share, 8, Size::B8);
                self.push_bin(BinOp::Add, total, n);
                self.push_bin(BinOp::Add, count, c);
            }
            _ => self.push_bin(BinOp::Add, total, n),
        }
        self.b.jump(next);
        self.b.switch_to(next);
        self.push_bin(BinOp::Add, cpu, 1);
        self.b.jump(header);
        self.b.switch_to(done);
        let signed = match u.value {
            ValueTy::Avg { signed } | ValueTy::Stats { signed } => {
                let divide = self.b.block();
                let end = self.b.block();
                self.b.branch(Cond::Ne, count, 0, divide, end);
                self.b.switch_to(divide);
                self.push_bin(if signed { BinOp::SDiv } else { BinOp::Div }, total, count);
                self.b.jump(end);
                self.b.switch_to(end);
                signed
            }
            ValueTy::Sum { signed } | ValueTy::Min { signed } | ValueTy::Max { signed } => signed,
            _ => false,
        };
        Value::num(if signed { Ty::I64 } else { Ty::U64 }, total)
    }

    /// `@m[k] = …`
    pub fn map_assignment(
        &mut self,
        name: &str,
        key: Option<&Expr>,
        op: Option<BinaryOp>,
        value: &Expr,
        target: ast::Span,
        span: ast::Span,
    ) {
        if let (ExprKind::Call { name: func, args }, None) = (&value.kind, op)
            && is_aggregation(&func.name)
        {
            return self.aggregate(name, key, &func.name, args, target, value.span);
        }
        if let Some(op @ (BinaryOp::Add | BinaryOp::Sub)) = op {
            let by = self.expr(value);
            if by.ty.is_int() {
                let negate = op == BinaryOp::Sub;
                self.map_add(name, key, &by, negate, false, span);
                return;
            }
        }
        let v = match op {
            None => self.expr(value),
            Some(op) => {
                let by = self.expr(value);
                let old = self.map_read(name, key, target);
                self.binary(op, &old, &by, span)
            }
        };
        if matches!(v.at, At::Nothing) && v.ty == Ty::None {
            if self.no_errors_yet() && !self.g.changed {
                self.error(value.span, "this has no value");
            }
            // The key's type counts all the same.
            self.key(name, key, target);
            return;
        }
        // Memory that a map's key might be made in is not shared: the value is where it is.
        let known = self.note_value(name, &ValueTy::Scalar(value_type(&v)), v.literal, value.span);
        let Some(key) = self.key(name, key, target) else {
            return;
        };
        let (true, Some(u)) = (known, self.use_map(name)) else {
            return;
        };
        let ValueTy::Scalar(ty) = &u.value else { return };
        if u.decl.kind == MapKind::Array {
            let base = self.b.map_data(u.map, 0);
            self.store_whole(&v, ty, base, 0);
            return self.mark_set(&u, base);
        }
        let (base, off) = self.in_memory(&v, ty);
        let value = if off == 0 {
            base
        } else {
            self.b.add(base, i64::from(off))
        };
        let map = self.b.map(u.map);
        let args = vec![map.into(), key.into(), value.into(), BPF_ANY.into()];
        let error = self.b.call(Helper::MapUpdateElem, args);
        let (full, done) = (self.b.block(), self.b.block());
        self.b.branch(Cond::Eq, error, 0, done, full);
        self.b.switch_to(full);
        self.count_error(ErrorKind::MapFull(u.number), target);
        self.b.jump(done);
        self.b.switch_to(done);
    }

    /// Add to an entry in one step, whatever other CPUs do. Gives the old value if it is `wanted`.
    fn map_add(
        &mut self,
        name: &str,
        key: Option<&Expr>,
        by: &Value,
        negate: bool,
        wanted: bool,
        span: ast::Span,
    ) -> Value {
        let wide = if by.ty.is_signed() || negate {
            Ty::I64
        } else {
            Ty::U64
        };
        let known = self.g.maps.get(name).and_then(|state| state.value.clone());
        let wide = match known {
            Some(ValueTy::Scalar(old)) if old.is_int() => merge(
                &old,
                &Ty::Int {
                    size: 8,
                    signed: old.is_signed() || !by.literal && wide == Ty::I64,
                },
            )
            .unwrap_or(wide),
            _ => wide,
        };
        let noted = self.note_value(name, &ValueTy::Scalar(wide), false, span);
        let Some(key) = self.key(name, key, span) else {
            return Value::none();
        };
        let (true, Some(u)) = (noted, self.use_map(name)) else {
            return Value::none();
        };
        let ValueTy::Scalar(ty) = u.value.clone() else {
            return Value::none();
        };
        if ty.size() != 8 {
            return Value::none();
        }
        let mut by = self.reg(by);
        if negate {
            let zero = self.b.imm(0);
            by = self.b.bin(BinOp::Sub, Width::W64, zero, by);
        }
        let old = self.b.int();
        let (failed, done) = (self.b.block(), self.b.block());
        let entry = self.entry(&u, key, failed, span);
        let fetch = wanted && self.g.env.features().atomic_fetch;
        if wanted && !fetch {
            self.b.push(Op::Load {
                dst: old,
                base: entry,
                off: 0,
                size: Size::B8,
                signed: false,
            });
        }
        self.b.push(Op::Atomic {
            op: AtomicOp::Add,
            base: entry,
            off: 0,
            src: by,
            size: Size::B8,
            fetch: fetch.then_some(old),
        });
        self.mark_set(&u, entry);
        self.b.jump(done);
        self.b.switch_to(failed);
        if wanted {
            self.b.mov(old, 0);
        }
        self.b.jump(done);
        self.b.switch_to(done);
        if wanted {
            Value::num(ty, old)
        } else {
            Value::none()
        }
    }

    /// `@m++` and its like.
    pub fn map_step(
        &mut self,
        name: &str,
        key: Option<&Expr>,
        increment: bool,
        prefix: bool,
        span: ast::Span,
    ) -> Value {
        let one = Value {
            literal: true,
            ..Value::num(Ty::I64, 1)
        };
        let old = self.map_add(name, key, &one, !increment, true, span);
        if !prefix || old.ty == Ty::None {
            return old;
        }
        let n = self.reg(&old);
        let n = self.b.add(n, if increment { 1 } else { -1 });
        Value::num(old.ty, n)
    }

    /// `delete(@m, k)`: was it there?
    pub fn map_delete(&mut self, name: &str, key: Option<&Expr>, span: ast::Span) -> Value {
        let Some(key) = self.key(name, key, span) else {
            return Value::num(Ty::Bool, 0);
        };
        let Some(u) = self.use_map(name) else {
            return Value::num(Ty::Bool, 0);
        };
        if let Some(off) = u.set_off {
            let none = self.b.block();
            let entry = self.entry(&u, key, none, span);
            let was = self.b.load(entry, off as i32, Size::B8);
            self.zero(entry, 0, u.decl.value_size);
            self.b.jump(none);
            self.b.switch_to(none);
            // `was` is written on every path only where the entry can't be missing.
            return match u.decl.kind {
                MapKind::Array => Value::num(Ty::Bool, was),
                _ => Value::num(Ty::Bool, 1),
            };
        }
        let map = self.b.map(u.map);
        let error = self.b.call(Helper::MapDeleteElem, vec![map.into(), key.into()]);
        // 0, or a negative error number.
        let gone = self.b.bin(BinOp::Shr, Width::W64, error, 63);
        let gone = self.b.bin(BinOp::Xor, Width::W64, gone, 1);
        Value::num(Ty::Bool, gone)
    }

    /// `has_key(@m, k)`
    pub fn map_has_key(&mut self, name: &str, key: &Expr, span: ast::Span) -> Value {
        let Some(key) = self.key(name, Some(key), span) else {
            return Value::num(Ty::Bool, 0);
        };
        let Some(u) = self.use_map(name) else {
            return Value::num(Ty::Bool, 0);
        };
        let dst = self.b.int();
        let (none, done) = (self.b.block(), self.b.block());
        let entry = self.lookup_entry(&u, key);
        self.b.non_null(entry, none);
        self.b.mov(dst, 1);
        self.b.jump(done);
        self.b.switch_to(none);
        self.b.mov(dst, 0);
        self.b.jump(done);
        self.b.switch_to(done);
        Value::num(Ty::Bool, dst)
    }

    /// The key of an entry that is to be printed: its type and where it is.
    pub fn map_key_value(&mut self, name: &str, key: &Expr, span: ast::Span) -> Option<Value> {
        let base = self.key(name, Some(key), span)?;
        let ty = self.g.maps.get(name)?.key.clone()??;
        Some(Value::of(ty, At::Mem(base, 0)))
    }

    /// What a loop over a map must know of it; none if nothing is known yet, or it can't be visited.
    pub fn visited(&mut self, map: &ast::Ident) -> Option<Visited> {
        self.g.map_number(&map.name, map.span);
        let state = self.g.maps.get(&map.name)?.clone();
        let Some(key) = state.key? else {
            self.error(map.span, format!("'@{}' has no keys to visit", map.name));
            return None;
        };
        let (value, aggregated) = match state.value.as_ref()? {
            ValueTy::Scalar(ty) => (ty.clone(), false),
            ValueTy::Hist { .. } | ValueTy::Lhist { .. } | ValueTy::Stats { .. } | ValueTy::Series { .. } => {
                let message = format!(
                    "what '@{}' holds is no single value: it can be printed only",
                    map.name
                );
                self.error(map.span, message);
                return None;
            }
            ValueTy::Count => (Ty::U64, true),
            ValueTy::Sum { signed }
            | ValueTy::Avg { signed }
            | ValueTy::Min { signed }
            | ValueTy::Max { signed } => {
                let signed = *signed;
                (Ty::Int { size: 8, signed }, true)
            }
        };
        let u = self.use_map(&map.name)?;
        Some(Visited {
            name: map.name.clone(),
            map: u.map,
            key,
            value,
            aggregated,
        })
    }

    /// The number that the aggregations of one key, in memory, stand for.
    pub fn aggregated_entry(&mut self, name: &str, key: Reg) -> Value {
        match self.use_map(name) {
            Some(u) => self.aggregated(&u, key),
            None => Value::none(),
        }
    }

    /// `len(@m)`: how many entries there are. Counted by visiting them.
    pub fn map_len(&mut self, name: &str, span: ast::Span) -> Value {
        let ident = ast::Ident {
            name: name.into(),
            span,
        };
        let Some(visited) = self.visited(&ident) else {
            return Value::num(Ty::U64, 0);
        };
        let mut b = crate::ir::Builder::new(&format!("{}_count{}", self.b.name(), self.callbacks.len()));
        b.param(Type::Int);
        b.param(Type::Kernel { direct: false });
        b.param(Type::MapValue {
            map: visited.map,
            nullable: false,
        });
        b.param(Type::Int);
        b.ret(0);
        self.callbacks.push(b.finish());
        let dst = self.b.int();
        self.b.push(Op::Each {
            dst: Some(dst),
            map: visited.map,
            func: FuncRef(self.callbacks.len() as u32),
        });
        Value::num(Ty::U64, dst)
    }
}
