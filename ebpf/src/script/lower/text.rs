//! Functions that look into text.

use super::body::Body;
use super::value::{At, Value};
use crate::ir::{BinOp, Block, Cond, Op, Operand, Reg, Size, Width};
use crate::script::ast::Expr;
use crate::script::types::Ty;

/// Most bytes that memcmp() compares: each is an instruction or two.
const MOST_COMPARED: i64 = 256;

impl Body<'_, '_> {
    fn text_argument(&mut self, e: &Expr) -> Option<(Value, u32)> {
        let v = self.expr(e);
        match v.ty {
            Ty::Str { len } => Some((v, len)),
            Ty::None => None,
            ref ty => {
                let message = format!("this is {ty}, not text");
                self.error(e.span, message);
                None
            }
        }
    }

    /// 0 if the first bytes are the same, else 1.
    pub fn strncmp(&mut self, args: &[Expr]) -> Value {
        let a = self.text_argument(&args[0]);
        let b = self.text_argument(&args[1]);
        let n = self.expr(&args[2]).constant();
        let (Some((a, la)), Some((b, lb))) = (a, b) else {
            return Value::none();
        };
        let Some(n @ 0..=4096) = n else {
            self.error(args[2].span, "strncmp() takes a constant length");
            return Value::none();
        };
        let dst =
            self.one_or_zero(|s, other, same| s.branch_text(&a, la, &b, lb, Some(n as u32), same, other));
        Value::num(Ty::U64, dst)
    }

    /// Walk over the bytes of text: `body` gets the position and its address, and the block to leave for.
    fn each_byte(
        &mut self,
        base: Reg,
        off: i32,
        len: u32,
        body: impl FnOnce(&mut Self, Reg, Reg, Block),
    ) -> Reg {
        let i = self.b.int();
        self.b.mov(i, 0);
        let (header, inside, next, done) = (self.b.block(), self.b.block(), self.b.block(), self.b.block());
        self.b.jump(header);
        self.b.bound(header, len + 1, done);
        self.b.switch_to(header);
        self.b.branch(Cond::Lt, i, i64::from(len), inside, done);
        self.b.switch_to(inside);
        let at = self.b.add(base, i);
        let at = if off == 0 {
            at
        } else {
            self.b.add(at, i64::from(off))
        };
        body(self, i, at, done);
        self.b.jump(next);
        self.b.switch_to(next);
        self.push_bin(BinOp::Add, i, 1);
        self.b.jump(header);
        self.b.switch_to(done);
        i
    }

    pub fn strlen(&mut self, e: &Expr) -> Value {
        let Some((v, len)) = self.text_argument(e) else {
            return Value::none();
        };
        if let At::Text(text) = &v.at {
            return Value {
                literal: true,
                ..Value::num(Ty::I64, text.len() as i64)
            };
        }
        let ty = v.ty.clone();
        let (base, off) = self.in_memory(&v, &ty);
        let n = self.each_byte(base, off, len, |s, _, at, done| {
            let byte = s.b.load(at, 0, Size::B1);
            s.b.branch_if(Cond::Eq, byte, 0, done);
        });
        Value::num(Ty::U64, n)
    }

    /// `strcap(text)`: how many bytes its type has room for, the zero byte included.
    pub fn strcap(&mut self, e: &Expr) -> Value {
        match self.dry(|s| s.text_argument(e)) {
            Some((_, len)) => Value {
                literal: true,
                ..Value::num(Ty::I64, i64::from(len))
            },
            None => Value::none(),
        }
    }

    /// `str_concat(a, b)`: one text behind the other, cut at `max_strlen`.
    pub fn str_concat(&mut self, args: &[Expr]) -> Value {
        let a = self.text_argument(&args[0]);
        let b = self.text_argument(&args[1]);
        let (Some((a, la)), Some((b, lb))) = (a, b) else {
            return Value::none();
        };
        if let (At::Text(x), At::Text(y)) = (&a.at, &b.at) {
            return Value::text(&[x.as_slice(), y].concat());
        }
        let most = self.g.settings.strlen.max(1);
        let first = la.min(most);
        let len = (la.saturating_add(lb) - 1).min(most);
        // Room for all of `b` wherever `a` ends, so that no bound has to be computed.
        let (_, room) = self.temp(&Ty::Str { len: first + lb });
        self.zero(room, 0, first + lb);
        self.store(&a, &Ty::Str { len: first }, room, 0);
        self.b.store(room, first as i32 - 1, 0, Size::B1);
        let end = self.each_byte(room, 0, first - 1, |s, _, at, done| {
            let byte = s.b.load(at, 0, Size::B1);
            s.b.branch_if(Cond::Eq, byte, 0, done);
        });
        let from = match b.at {
            At::Kernel(..) | At::Ctx(_) | At::User(..) => self.address(&b.at),
            _ => {
                let (base, off) = self.in_memory(&b, &Ty::Str { len: lb });
                let from = self.b.int();
                self.b.mov(from, base);
                self.b.add(from, i64::from(off))
            }
        };
        let to = self.b.add(room, end);
        self.read_text(from.into(), matches!(b.at, At::User(..)), to, 0, lb);
        // What was cut ends with a zero byte, too.
        self.b.store(room, len as i32 - 1, 0, Size::B1);
        Value::of(Ty::Str { len }, At::Mem(room, 0))
    }

    /// `strcontains(haystack, needle)`, the needle written out.
    pub fn strcontains(&mut self, args: &[Expr]) -> Value {
        let Some(at) = self.search("strcontains", args) else {
            return Value::none();
        };
        match at {
            Operand::Imm(n) => Value::num(Ty::Bool, i64::from(n >= 0)),
            Operand::Reg(r) => {
                // Of a position the sign bit is clear, of -1 it is set.
                let sign = self.b.bin(BinOp::Shr, Width::W64, r, 63);
                Value::num(Ty::Bool, self.b.bin(BinOp::Xor, Width::W64, sign, 1))
            }
        }
    }

    /// `strstr(haystack, needle)`, the needle written out: where it starts, or -1.
    pub fn strstr(&mut self, args: &[Expr]) -> Value {
        match self.search("strstr", args) {
            Some(at) => Value::num(Ty::I64, at),
            None => Value::none(),
        }
    }

    /// Where the text in `args[1]` starts in that of `args[0]`; -1 if it isn't there.
    fn search(&mut self, func: &str, args: &[Expr]) -> Option<Operand> {
        let (hay, len) = self.text_argument(&args[0])?;
        let needle = match self.text_argument(&args[1])? {
            (Value { at: At::Text(t), .. }, _) => t,
            _ => {
                let message = format!("{func}() takes a text to look for that is written out");
                self.error(args[1].span, message);
                return None;
            }
        };
        if needle.is_empty() {
            return Some(Operand::Imm(0));
        }
        if let At::Text(text) = &hay.at {
            let found = text.windows(needle.len()).position(|w| w == needle);
            return Some(Operand::Imm(found.map_or(-1, |n| n as i64)));
        }
        let places = match (len + 1).checked_sub(needle.len() as u32) {
            Some(places) => places,
            None => return Some(Operand::Imm(-1)),
        };
        let ty = hay.ty.clone();
        let (base, off) = self.in_memory(&hay, &ty);
        let found = self.b.int();
        self.b.mov(found, -1);
        self.each_byte(base, off, places, |s, i, at, done| {
            let next = s.b.block();
            for (j, byte) in needle.iter().enumerate() {
                let x = s.b.load(at, j as i32, Size::B1);
                s.b.branch_if(Cond::Ne, x, i64::from(*byte), next);
            }
            s.b.mov(found, i);
            s.b.jump(done);
            s.b.switch_to(next);
        });
        Some(found.into())
    }

    /// `memcmp(a, b, n)`: the difference of the first bytes that differ, 0 if none does.
    pub fn memcmp(&mut self, args: &[Expr]) -> Value {
        let Some(n @ 1..=MOST_COMPARED) = self.expr(&args[2]).constant() else {
            let message = format!("memcmp() takes a constant length from 1 to {MOST_COMPARED}");
            self.error(args[2].span, message);
            return Value::none();
        };
        let mut sides = vec![];
        for e in &args[..2] {
            let v = self.expr(e);
            let at = match &v.ty {
                Ty::None => return Value::none(),
                Ty::Ptr { .. } => self.pointee(&v),
                ty if ty.in_register() || i64::from(ty.size()) < n => {
                    let message =
                        format!("memcmp() of {n} bytes takes as many, or a pointer to them, not {ty}");
                    self.error(e.span, message);
                    return Value::none();
                }
                _ => v.at.clone(),
            };
            let ty = Ty::Array {
                element: Box::new(Ty::Int {
                    size: 1,
                    signed: false,
                }),
                len: n as u32,
            };
            sides.push(match at {
                At::Mem(base, off) => (base, off),
                At::Text(_) => self.in_memory(&v, &v.ty.clone()),
                at => {
                    let (_, base) = self.temp(&ty);
                    self.copy(&at, base, 0, n as u32);
                    (base, 0)
                }
            });
        }
        let (a, b) = (sides[0], sides[1]);
        let result = self.b.int();
        self.b.mov(result, 0);
        let done = self.b.block();
        for i in 0..n as i32 {
            let x = self.b.load(a.0, a.1 + i, Size::B1);
            let y = self.b.load(b.0, b.1 + i, Size::B1);
            self.b.push(Op::Bin {
                op: BinOp::Sub,
                width: Width::W64,
                dst: result,
                a: x,
                b: y.into(),
            });
            self.b.branch_if(Cond::Ne, result, 0, done);
        }
        self.b.jump(done);
        self.b.switch_to(done);
        Value::num(Ty::I64, result)
    }
}
