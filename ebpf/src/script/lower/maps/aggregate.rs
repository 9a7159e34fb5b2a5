//! Aggregations: how an entry takes one more value.

use super::*;
use crate::script::output::{STATE_EPOCH, SeriesOf};

/// How many intervals a series may keep: the kernel limits a value of each CPU to 32 KiB.
const MOST_INTERVALS: i64 = 1000;

impl Body<'_, '_> {
    pub(super) fn aggregate(
        &mut self,
        name: &str,
        key: Option<&Expr>,
        func: &str,
        args: &[Expr],
        target: ast::Span,
        span: ast::Span,
    ) {
        let (least, most) = match func {
            "count" => (0, 0),
            "hist" => (1, 2),
            "lhist" => (4, 4),
            "tseries" => (3, 4),
            _ => (1, 1),
        };
        if args.len() < least || args.len() > most {
            let takes = if least == most {
                least.to_string()
            } else {
                format!("{least} to {most}")
            };
            let message = format!("{func}() takes {takes} arguments, not {}", args.len());
            return self.error(span, message);
        }
        let (args, kind) = match func {
            "tseries" => args.split_at(3),
            _ => (args, &[][..]),
        };
        let v = args.first().map(|e| (self.expr(e), e.span));
        if let Some((v, span)) = &v
            && !(v.ty.is_int() || v.ty == Ty::None)
        {
            return self.error(*span, format!("{func}() takes a number, not {}", v.ty));
        }
        let mut constants = vec![];
        for e in args.iter().skip(1) {
            match self.expr(e).constant() {
                Some(n) => constants.push(n),
                None => return self.error(e.span, "this must be a constant"),
            }
        }
        let signed = v.as_ref().is_some_and(|(v, _)| v.ty.is_signed());
        let value = match func {
            "count" => ValueTy::Count,
            "sum" => ValueTy::Sum { signed },
            "avg" => ValueTy::Avg { signed },
            "min" => ValueTy::Min { signed },
            "max" => ValueTy::Max { signed },
            "stats" => ValueTy::Stats { signed },
            "hist" => {
                let bits = constants.first().copied().unwrap_or(0);
                if !(0..=5).contains(&bits) {
                    return self.error(span, "hist() takes from 0 to 5 bits");
                }
                let bits = bits as u32;
                ValueTy::Hist {
                    bits,
                    buckets: ((65 - bits) << bits) + 1,
                }
            }
            "tseries" => match series_of(constants[0], constants[1], kind.first()) {
                Ok((interval, intervals, of)) => ValueTy::Series {
                    interval,
                    intervals,
                    of,
                    signed,
                },
                Err(message) => return self.error(span, message),
            },
            _ => {
                let (min, max, step) = (constants[0], constants[1], constants[2]);
                let steps = max
                    .checked_sub(min)
                    .filter(|n| *n > 0 && step > 0)
                    .map(|n| n / step);
                match steps {
                    Some(n @ 0..=1000) => ValueTy::Lhist {
                        min,
                        max,
                        step: step as u64,
                        buckets: n as u32 + 2,
                    },
                    Some(n) => {
                        return self.error(span, format!("lhist() takes at most 1000 steps; here are {n}"));
                    }
                    None => {
                        return self.error(
                            span,
                            "lhist() takes a value, a least, a larger greatest, and a step",
                        );
                    }
                }
            }
        };
        let noted = self.note_value(name, &value, false, span);
        let Some(key) = self.key(name, key, target) else {
            return;
        };
        let (true, Some(u)) = (noted, self.use_map(name)) else {
            return;
        };
        let v = v.map(|(v, _)| self.reg(&v));
        let bucket = match (&u.value, v) {
            (ValueTy::Hist { bits, .. }, Some(v)) => Some(self.log_bucket(v, *bits, signed)),
            (&ValueTy::Lhist { min, max, step, .. }, Some(v)) => {
                Some(self.linear_bucket(v, min, max, step, signed))
            }
            _ => None,
        };
        let done = self.b.block();
        let entry = self.entry(&u, key, done, target);
        match (&u.value, v) {
            (ValueTy::Count, _) => self.add_to(entry, 0, 1),
            (ValueTy::Sum { .. }, Some(v)) => self.add_to(entry, 0, v),
            (ValueTy::Avg { .. } | ValueTy::Stats { .. }, Some(v)) => {
                self.add_to(entry, 0, v);
                self.add_to(entry, 8, 1);
            }
            (ValueTy::Min { signed }, Some(v)) => {
                let cond = if *signed { Cond::SLt } else { Cond::Lt };
                self.extreme(entry, v, cond);
            }
            (ValueTy::Max { signed }, Some(v)) => {
                let cond = if *signed { Cond::SGt } else { Cond::Gt };
                self.extreme(entry, v, cond);
            }
            (ValueTy::Hist { buckets, .. } | ValueTy::Lhist { buckets, .. }, _) => {
                if let Some(bucket) = bucket {
                    self.b.branch_if(Cond::Ge, bucket, i64::from(*buckets), done);
                    let off = self.b.bin(BinOp::Shl, Width::W64, bucket, 3);
                    let counter = self.b.add(entry, off);
                    self.add_to(counter, 0, 1);
                }
            }
            (
                &ValueTy::Series {
                    interval,
                    intervals,
                    of,
                    signed,
                },
                Some(v),
            ) => {
                self.take_in_interval(entry, v, (interval, intervals), of, signed);
            }
            _ => {}
        }
        self.mark_set(&u, entry);
        self.b.jump(done);
        self.b.switch_to(done);
    }

    /// Put a value into the slot of the interval that it is now. The slot's last interval is then too long ago.
    fn take_in_interval(
        &mut self,
        entry: Reg,
        v: Reg,
        (interval, intervals): (u64, u32),
        of: SeriesOf,
        signed: bool,
    ) {
        let state = self.state();
        let epoch = self.b.load(state, STATE_EPOCH as i32, Size::B8);
        let now = self.b.call(Helper::KtimeGetNs, vec![]);
        let now = self.b.bin(BinOp::Add, Width::W64, now, epoch);
        let number = self.b.bin(BinOp::Div, Width::W64, now, interval as i64);
        let slot = self.b.bin(BinOp::Mod, Width::W64, number, i64::from(intervals));
        let (again, fresh, done) = (self.b.block(), self.b.block(), self.b.block());
        // It never is; the kernel's verifier doesn't know.
        self.b.branch_if(Cond::Ge, slot, i64::from(intervals), done);
        let off = self.b.bin(BinOp::Mul, Width::W64, slot, i64::from(SERIES_SLOT));
        let slot = self.b.add(entry, off);
        let before = self.b.load(slot, 0, Size::B8);
        self.b.branch(Cond::Eq, before, number, again, fresh);

        self.b.switch_to(fresh);
        self.b.store(slot, 0, number, Size::B8);
        self.b.store(slot, 8, v, Size::B8);
        let extra: Operand = if of == SeriesOf::Last {
            now.into()
        } else {
            1.into()
        };
        self.b.store(slot, 16, extra, Size::B8);
        self.b.jump(done);

        self.b.switch_to(again);
        match of {
            SeriesOf::Last => {
                self.b.store(slot, 8, v, Size::B8);
                self.b.store(slot, 16, now, Size::B8);
            }
            SeriesOf::Avg | SeriesOf::Sum => {
                self.add_to(slot, 8, v);
                self.add_to(slot, 16, 1);
            }
            SeriesOf::Min | SeriesOf::Max => {
                let cond = match (of, signed) {
                    (SeriesOf::Min, true) => Cond::SGe,
                    (SeriesOf::Min, false) => Cond::Ge,
                    (_, true) => Cond::SLe,
                    (_, false) => Cond::Le,
                };
                let old = self.b.load(slot, 8, Size::B8);
                self.b.branch_if(cond, v, old, done);
                self.b.store(slot, 8, v, Size::B8);
            }
        }
        self.b.jump(done);
        self.b.switch_to(done);
    }

    fn extreme(&mut self, entry: Reg, v: Reg, cond: Cond) {
        let (compare, put, done) = (self.b.block(), self.b.block(), self.b.block());
        let set = self.b.load(entry, 8, Size::B8);
        self.b.branch(Cond::Ne, set, 0, compare, put);
        self.b.switch_to(compare);
        let old = self.b.load(entry, 0, Size::B8);
        self.b.branch(cond, v, old, put, done);
        self.b.switch_to(put);
        self.b.store(entry, 0, v, Size::B8);
        self.b.store(entry, 8, 1, Size::B8);
        self.b.jump(done);
        self.b.switch_to(done);
    }

    /// The logarithmic bucket of a value, without branches on the value: they would multiply the paths that the
    /// kernel's verifier walks.
    fn log_bucket(&mut self, v: Reg, bits: u32, signed: bool) -> Reg {
        let bucket = self.b.int();
        let done = self.b.block();
        self.b.mov(bucket, 0);
        if signed {
            self.b.branch_if(Cond::SLt, v, 0, done);
        }
        let small = self.b.block();
        self.b.branch_if(Cond::Lt, v, 1i64 << bits, small);
        let w = |s: &mut Self, op, a: Reg, b: Operand| s.b.bin(op, Width::W64, a, b);
        // Binary search for the highest bit.
        let mut rest = v;
        let mut msb = self.b.imm(0);
        for step in (0..6).rev() {
            let upper = w(self, BinOp::Shr, rest, (1i64 << step).into());
            let zero = self.b.imm(0);
            let negative = w(self, BinOp::Sub, zero, upper.into());
            let any = w(self, BinOp::Shr, negative, 63.into());
            let by = w(self, BinOp::Shl, any, step.into());
            rest = w(self, BinOp::Shr, rest, by.into());
            msb = w(self, BinOp::Add, msb, by.into());
        }
        let bits = i64::from(bits);
        let above = w(self, BinOp::Sub, msb, bits.into());
        let sub = w(self, BinOp::Shr, v, above.into());
        let sub = w(self, BinOp::And, sub, ((1i64 << bits) - 1).into());
        let power = w(self, BinOp::Add, above, 1.into());
        let power = w(self, BinOp::Shl, power, bits.into());
        let sum = w(self, BinOp::Add, power, sub.into());
        let sum = w(self, BinOp::Add, sum, 1.into());
        self.b.mov(bucket, sum);
        self.b.jump(done);
        self.b.switch_to(small);
        let next = w(self, BinOp::Add, v, 1.into());
        self.b.mov(bucket, next);
        self.b.jump(done);
        self.b.switch_to(done);
        bucket
    }

    fn linear_bucket(&mut self, v: Reg, min: i64, max: i64, step: u64, signed: bool) -> Reg {
        let bucket = self.b.int();
        let done = self.b.block();
        // An unsigned number is above all negative ones.
        let (lt, gt) = if signed {
            (Cond::SLt, Cond::SGt)
        } else {
            (Cond::Lt, Cond::Gt)
        };
        self.b.mov(bucket, 0);
        if signed || min > 0 {
            self.b.branch_if(lt, v, min, done);
        }
        self.b
            .mov(bucket, 1 + (max.wrapping_sub(min) as u64 / step) as i64);
        if !signed && max < 0 {
            self.b.jump(done);
            self.b.switch_to(done);
            return bucket;
        }
        self.b.branch_if(gt, v, max, done);
        let from = self.b.bin(BinOp::Sub, Width::W64, v, min);
        let n = self.b.bin(BinOp::Div, Width::W64, from, step as i64);
        let n = self.b.add(n, 1);
        self.b.mov(bucket, n);
        self.b.jump(done);
        self.b.switch_to(done);
        bucket
    }
}

/// Of a series' arguments behind the value: nanoseconds of an interval, how many, and what becomes of the values in
/// one.
fn series_of(interval: i64, intervals: i64, kind: Option<&Expr>) -> Result<(u64, u32, SeriesOf), String> {
    let of = match kind.map(|kind| &kind.kind) {
        None => SeriesOf::Last,
        Some(ExprKind::String(name)) => match name.as_slice() {
            b"avg" => SeriesOf::Avg,
            b"min" => SeriesOf::Min,
            b"max" => SeriesOf::Max,
            b"sum" => SeriesOf::Sum,
            _ => return Err("tseries() takes \"avg\", \"min\", \"max\" or \"sum\"".into()),
        },
        Some(_) => {
            return Err("tseries() takes \"avg\", \"min\", \"max\" or \"sum\", written as a string".into());
        }
    };
    let Some(interval) = u64::try_from(interval).ok().filter(|n| *n > 0) else {
        return Err(format!(
            "an interval of tseries() takes 1 ns or more, not {interval}"
        ));
    };
    if !(1..=MOST_INTERVALS).contains(&intervals) {
        return Err(format!(
            "tseries() keeps 1 to {MOST_INTERVALS} intervals, not {intervals}"
        ));
    }
    Ok((interval, intervals as u32, of))
}
