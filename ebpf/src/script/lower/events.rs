//! What programs report to the runtime: records in the two rings.

use super::ast;
use super::body::Body;
use super::expr::{pure, value_type};
use super::ir_span;
use super::value::{At, Dest, Value};
use crate::ir::{BinOp, Cond, MapDecl, MapKind, Op, Reg, Size, Type, Width};
use crate::isa::Helper;
use crate::script::ast::{Expr, ExprKind};
use crate::script::output::{
    self, Action, Conv, ErrorKind, EventInfo, Field, Format, Piece, RECORD_HEADER, Stream,
};
use crate::script::types::Ty;

/// Bytes of the ring for output.
const EVENTS_SIZE: u32 = 1 << 22;
/// A span's calls under way, where a trampoline shows them: hashes of 2^bits, and places for calls of one hash.
const FRAME_BITS: i64 = 12;
const FRAME_PLACES: u32 = 4;
/// Bytes of the ring for actions.
const CONTROL_SIZE: u32 = 1 << 16;
/// Most strings of a `join()`.
const JOINED: u32 = 16;
/// Most bytes of a record: what fits the output ring several times.
const MOST_RECORD: u32 = 1 << 18;

/// What a field of a record is made of.
pub enum Source<'e> {
    /// To be evaluated.
    Expr(&'e Expr),
    /// There already.
    Value(Value),
}

/// Offsets of fields that follow the header, and the record's size.
fn layout(types: &[Ty]) -> (Vec<u32>, u32) {
    let mut off = RECORD_HEADER;
    let offsets = types
        .iter()
        .map(|ty| {
            let layout = ty.layout();
            let at = off.next_multiple_of(layout.align.max(1));
            off = at.saturating_add(layout.size);
            at
        })
        .collect();
    (offsets, off.next_multiple_of(8))
}

impl Body<'_, '_> {
    /// Report `sources` as an event.
    pub fn emit(
        &mut self,
        sources: Vec<Source<'_>>,
        control: bool,
        span: ast::Span,
        action: impl FnOnce(Vec<Field>) -> Action,
    ) {
        let in_place = sources.iter().all(|s| match s {
            Source::Expr(e) => pure(e),
            Source::Value(_) => true,
        });
        let sources: Vec<Source<'_>> = if in_place {
            sources
        } else {
            sources
                .into_iter()
                .map(|s| match s {
                    Source::Expr(e) => Source::Value(self.expr(e)),
                    value => value,
                })
                .collect()
        };
        let types: Vec<Ty> = sources
            .iter()
            .map(|s| match s {
                Source::Expr(e) => self.dry(|s| value_type(&s.expr(e))),
                Source::Value(v) => value_type(v),
            })
            .collect();
        let (offsets, size) = layout(&types);
        if size > MOST_RECORD {
            return self.error(span, format!("this makes a record of {size} bytes: too large"));
        }
        let fields = offsets
            .iter()
            .zip(&types)
            .map(|(&off, ty)| Field { off, ty: ty.clone() })
            .collect();
        let id = self.g.event(EventInfo {
            action: action(fields),
            size,
            control,
            span: ir_span(span),
        });
        self.record(id, size, control, span, |s, record| {
            for ((source, ty), off) in sources.into_iter().zip(types).zip(offsets) {
                match source {
                    Source::Expr(e) => s.expr_into(
                        e,
                        &Dest {
                            base: record,
                            off: off as i32,
                            ty,
                            pad: false,
                        },
                    ),
                    Source::Value(v) => s.store_whole(&v, &ty, record, off as i32),
                }
            }
        });
    }

    /// Reserve a record, fill it, submit it; count it where there is no room.
    fn record(
        &mut self,
        id: u32,
        size: u32,
        control: bool,
        span: ast::Span,
        fill: impl FnOnce(&mut Self, Reg),
    ) {
        let (name, max_entries) = if control {
            (output::CONTROL, CONTROL_SIZE)
        } else {
            (output::EVENTS, EVENTS_SIZE)
        };
        let ring = self.map(MapDecl {
            name: name.into(),
            kind: MapKind::RingBuf,
            key_size: 0,
            value_size: 0,
            max_entries,
        });
        let ring = self.b.map(ring);
        let (lost, done) = (self.b.block(), self.b.block());
        let ty = Type::Record { size, nullable: true };
        let args = vec![ring.into(), i64::from(size).into(), 0.into()];
        let record = self.b.call_as(ty, Helper::RingbufReserve, args);
        let record = self.b.non_null(record, lost);
        self.b.store(record, 0, i64::from(id), Size::B8);
        let now = self.b.call(Helper::KtimeGetNs, vec![]);
        self.b.store(record, 8, now, Size::B8);
        fill(self, record);
        self.b.at(ir_span(span));
        self.b
            .call_void(Helper::RingbufSubmit, vec![record.into(), 0.into()]);
        self.b.jump(done);
        self.b.switch_to(lost);
        let kind = if control {
            ErrorKind::LostAction
        } else {
            ErrorKind::LostEvent
        };
        self.count_error(kind, span);
        self.b.jump(done);
        self.b.switch_to(done);
    }

    /// `printf()` and everything that takes a format and arguments.
    pub fn formatted(
        &mut self,
        what: &str,
        args: &[Expr],
        span: ast::Span,
        action: impl FnOnce(Format, Vec<Field>) -> Action,
    ) {
        let Some((first, args)) = args.split_first() else {
            return self.error(span, format!("{what}() takes a format"));
        };
        let ExprKind::String(text) = &first.kind else {
            return self.error(first.span, format!("{what}() takes a format that is written out"));
        };
        let format = match super::format::parse(text) {
            Ok(format) => format,
            Err(message) => return self.error(first.span, message),
        };
        let specs: Vec<Conv> = format
            .pieces
            .iter()
            .filter_map(|p| match p {
                Piece::Arg(spec) => Some(spec.conv),
                Piece::Text(_) => None,
            })
            .collect();
        if specs.len() != args.len() {
            let message = format!(
                "{what}(): the format asks for {} values, but {} are given",
                specs.len(),
                args.len()
            );
            return self.error(span, message);
        }
        for (conv, e) in specs.iter().zip(args) {
            let ty = if pure(e) {
                self.dry(|s| value_type(&s.expr(e)))
            } else {
                continue;
            };
            let fits = match conv {
                Conv::Text => true,
                Conv::Escaped | Conv::EscapedHex | Conv::SpacedHex => {
                    matches!(
                        ty,
                        Ty::Buffer { .. } | Ty::Array { .. } | Ty::Str { .. } | Ty::None
                    )
                }
                _ => ty.in_register() || ty == Ty::None,
            };
            if !fits {
                self.error(e.span, format!("{what}(): this conversion does not print {ty}"));
            }
            if ty == Ty::None && self.no_errors_yet() && !self.g.changed {
                self.error(e.span, "this has no value");
            }
        }
        let sources = args.iter().map(Source::Expr).collect();
        self.emit(sources, false, span, |fields| action(format, fields));
    }

    pub fn printf(&mut self, what: &str, args: &[Expr], stream: Stream, span: ast::Span) {
        self.formatted(what, args, span, |format, args| Action::Printf {
            format,
            args,
            stream,
        });
    }

    /// `print(…)`
    pub fn print(&mut self, args: &[Expr], span: ast::Span) {
        let Some((first, rest)) = args.split_first() else {
            return self.error(span, "print() takes a value or a map");
        };
        if let ExprKind::Map { name, key } = &first.kind {
            let map = self.g.map_number(name, first.span);
            match key {
                None => {
                    if rest.len() > 2 {
                        return self.error(span, "print() takes a map, how many, and a divisor");
                    }
                    let given = rest.len();
                    let sources = rest.iter().map(Source::Expr).collect();
                    return self.emit(sources, true, span, |mut fields| Action::PrintMap {
                        map,
                        div: (given > 1).then(|| fields.remove(1)),
                        top: (given > 0).then(|| fields.remove(0)),
                    });
                }
                // What is more than one number is read by the runtime.
                Some(key)
                    if matches!(
                        self.g.maps.get(name).and_then(|m| m.value.as_ref()),
                        Some(
                            output::ValueTy::Stats { .. }
                                | output::ValueTy::Hist { .. }
                                | output::ValueTy::Lhist { .. }
                                | output::ValueTy::Series { .. }
                        )
                    ) =>
                {
                    let Some(key) = self.map_key_value(name, key, first.span) else {
                        return;
                    };
                    return self.emit(vec![Source::Value(key)], false, span, |mut fields| {
                        Action::PrintEntry {
                            map,
                            key: fields.pop(),
                        }
                    });
                }
                Some(_) => {}
            }
        }
        if !rest.is_empty() {
            return self.error(span, "only the print() of a map takes more than one value");
        }
        let v = self.expr(first);
        if v.ty == Ty::None {
            if self.no_errors_yet() && !self.g.changed {
                self.error(first.span, "this has no value");
            }
            return;
        }
        self.emit(vec![Source::Value(v)], false, span, |mut fields| {
            match fields.pop() {
                Some(field) => Action::Print(field),
                None => Action::Exit { code: None },
            }
        });
    }

    /// `join(argv[, separator])`
    pub fn join(&mut self, args: &[Expr], span: ast::Span) {
        let separator = match args {
            [_] => " ".to_string(),
            [_, sep] => match &sep.kind {
                ExprKind::String(text) => String::from_utf8_lossy(text).into_owned(),
                _ => return self.error(sep.span, "the separator must be written out"),
            },
            _ => return self.error(span, "join() takes an array of strings and a separator"),
        };
        let argv = self.expr(&args[0]);
        let user = matches!(&argv.ty, Ty::Ptr { user: true, .. }) || self.user_space();
        if !argv.ty.in_register() && argv.ty != Ty::None {
            return self.error(args[0].span, format!("join() takes a pointer, not {}", argv.ty));
        }
        let start = self.reg(&argv);
        let strlen = self.g.settings.strlen;
        let strings = Ty::Array {
            element: Box::new(Ty::Str { len: strlen }),
            len: JOINED,
        };
        let types = [Ty::U64, strings];
        let (offsets, size) = layout(&types);
        if size > MOST_RECORD {
            return self.error(span, "join() makes too large a record with this max_strlen");
        }
        let field = |i: usize| Field {
            off: offsets[i],
            ty: types[i].clone(),
        };
        let id = self.g.event(EventInfo {
            action: Action::Join {
                count: field(0),
                strings: field(1),
                separator,
            },
            size,
            control: false,
            span: ir_span(span),
        });
        let (count_off, strings_off) = (offsets[0] as i32, offsets[1] as i32);
        self.record(id, size, false, span, |s, record| {
            let done = s.b.block();
            s.b.store(record, count_off, 0, Size::B8);
            for i in 0..JOINED {
                let at = if user {
                    At::User(start, 8 * i as i32)
                } else {
                    At::Kernel(start, 8 * i as i32)
                };
                let p = s.reg(&Value::of(Ty::U64, at));
                s.b.branch_if(Cond::Eq, p, 0, done);
                let off = strings_off + (i * strlen) as i32;
                s.read_text(p.into(), user, record, off, strlen);
                s.b.store(record, count_off, i64::from(i + 1), Size::B8);
            }
            s.b.jump(done);
            s.b.switch_to(done);
        });
    }

    /// `exit([code])`: no program but END does anything from here on.
    pub fn exit(&mut self, args: &[Expr], span: ast::Span) {
        if args.len() > 1 {
            return self.error(span, "exit() takes one code at most");
        }
        self.exit_with(args.iter().map(Source::Expr).collect(), span);
    }

    /// [`Body::exit`] with the code, if there is one.
    pub fn exit_with(&mut self, code: Vec<Source<'_>>, span: ast::Span) {
        self.emit(code, true, span, |mut fields| Action::Exit { code: fields.pop() });
        let state = self.state();
        self.b.store(state, output::STATE_EXITING as i32, 1, Size::B8);
        self.b.jump(self.out);
        let dead = self.b.block();
        self.b.switch_to(dead);
    }

    // Spans.

    /// Who is in which function: the task and, where several functions share the program, the function.
    fn span_key(&mut self) -> Reg {
        let slot = self.b.slot(16, 8);
        let key = self.b.slot_addr(slot);
        let task = self.b.call(Helper::GetCurrentTask, vec![]);
        self.b.store(key, 0, task, Size::B8);
        let several = self.targets.len() > 1;
        // Without the helper each function gets programs of its own.
        self.per_target |= several && !self.g.env.features().get_func_ip;
        if several && !self.per_target {
            let ctx = self.b.ctx();
            let ip = self.b.call(Helper::GetFuncIp, vec![ctx.into()]);
            self.b.store(key, 8, ip, Size::B8);
        } else {
            self.b.store(key, 8, 0, Size::B8);
        }
        key
    }

    /// The name of the map between a span's two programs, whose numbers follow each other, and no others: a script may
    /// have several spans of one function.
    fn span_name(&self) -> String {
        format!("span_{:x}_{}", self.instance & !1, self.targets[0].name)
    }

    fn span_map(&mut self) -> crate::ir::MapRef {
        let map = MapDecl {
            name: self.span_name(),
            kind: MapKind::Hash,
            key_size: 16,
            value_size: 8 * 7,
            max_entries: 10240,
        };
        self.map(map)
    }

    /// One program for both moments: at the entry it keeps the time and leaves; at the return it goes on.
    pub fn span_session(&mut self) {
        let (entry, returned, skip) = (self.b.block(), self.b.block(), self.b.block());
        let at_return = self.b.at_return();
        self.b.branch(Cond::Ne, at_return, 0, returned, entry);

        self.b.switch_to(entry);
        self.unless_wanted(skip);
        let now = self.b.call(Helper::KtimeGetNs, vec![]);
        self.b.keep(now);
        self.b.jump(self.out);

        // Not called at the return; a trampoline's session always is, and finds nothing kept.
        self.b.switch_to(skip);
        self.b.ret(i64::from(!self.trampoline()));

        self.b.switch_to(returned);
        let now = self.b.call(Helper::KtimeGetNs, vec![]);
        self.unless_wanted(self.out);
        let start = self.b.kept();
        if self.trampoline() {
            self.b.branch_if(Cond::Eq, start, 0, self.out);
        }
        self.duration = Some(self.b.bin(BinOp::Sub, Width::W64, now, start));
    }

    /// The places where calls may be that are under way, by a hash of where the trampoline's frame is on the stack: the
    /// context, which is the same for the programs at a call's entry and at its return. With the frame.
    fn frame_places(&mut self) -> (Reg, Reg) {
        let map = self.map(MapDecl {
            name: self.span_name(),
            kind: MapKind::Array,
            key_size: 4,
            value_size: 16 * FRAME_PLACES,
            max_entries: 1 << FRAME_BITS,
        });
        let ctx = self.b.ctx();
        let frame = self.b.int();
        self.b.mov(frame, ctx);
        // The kernel's verifier lets nobody compute with a pointer, but half of one is a number to it.
        let low = self.b.int();
        self.b.push(Op::Extend {
            size: Size::B4,
            signed: false,
            dst: low,
            src: frame,
        });
        // 2^32 less the golden ratio: spreads what differs in few bits.
        let hash = self.b.bin(BinOp::Mul, Width::W32, low, 0x61c8_8647);
        let hash = self.b.bin(BinOp::Shr, Width::W32, hash, 32 - FRAME_BITS);
        let slot = self.b.slot(4, 4);
        let key = self.b.slot_addr(slot);
        self.b.store(key, 0, hash, Size::B4);
        let addr = self.b.map(map);
        let ty = Type::MapValue { map, nullable: true };
        let args = vec![addr.into(), key.into()];
        let places = self.b.call_as(ty, Helper::MapLookupElem, args);
        (self.b.non_null(places, self.out), frame)
    }

    /// The function is entered: remember when, at the first place that is free. Where none is, the return will count it.
    pub fn frame_entry(&mut self) {
        let (places, frame) = self.frame_places();
        let now = self.b.call(Helper::KtimeGetNs, vec![]);
        for at in (0..FRAME_PLACES as i32).map(|place| 16 * place) {
            let (other, free, next) = (self.b.block(), self.b.block(), self.b.block());
            let held = self.b.load(places, at, Size::B8);
            self.b.branch(Cond::Ne, held, 0, other, free);
            // One that is in the same frame has not returned, or was not seen to.
            self.b.switch_to(other);
            self.b.branch(Cond::Eq, held, frame, free, next);
            self.b.switch_to(free);
            self.b.store(places, at, frame, Size::B8);
            self.b.store(places, at + 8, now, Size::B8);
            self.b.jump(self.out);
            self.b.switch_to(next);
        }
    }

    /// It returns: what was remembered, or leave. Both programs are on in each trampoline that runs the second, so a call
    /// that isn't there had no place, or another CPU took it at the same time.
    pub fn frame_return(&mut self) {
        let now = self.b.call(Helper::KtimeGetNs, vec![]);
        let (places, frame) = self.frame_places();
        let (start, found) = (self.b.int(), self.b.block());
        for at in (0..FRAME_PLACES as i32).map(|place| 16 * place) {
            let (this, next) = (self.b.block(), self.b.block());
            let held = self.b.load(places, at, Size::B8);
            self.b.branch(Cond::Eq, held, frame, this, next);
            self.b.switch_to(this);
            let time = self.b.load(places, at + 8, Size::B8);
            self.b.mov(start, time);
            self.b.store(places, at, 0, Size::B8);
            self.b.jump(found);
            self.b.switch_to(next);
        }
        self.count_error(ErrorKind::SpanFull, ast::Span::default());
        self.b.jump(self.out);
        self.b.switch_to(found);
        self.duration = Some(self.b.bin(BinOp::Sub, Width::W64, now, start));
    }

    /// The function is entered: remember when, and its arguments.
    pub fn span_entry(&mut self) {
        let key = self.span_key();
        let slot = self.b.slot(56, 8);
        let value = self.b.slot_addr(slot);
        for i in 0..6 {
            let arg = self.b.arg(i, Type::Int);
            self.b.store(value, 8 + 8 * i32::from(i), arg, Size::B8);
        }
        let now = self.b.call(Helper::KtimeGetNs, vec![]);
        self.b.store(value, 0, now, Size::B8);
        let map = self.span_map();
        let map = self.b.map(map);
        let args = vec![map.into(), key.into(), value.into(), 0.into()];
        let error = self.b.call(Helper::MapUpdateElem, args);
        let full = self.b.block();
        self.b.branch(Cond::Ne, error, 0, full, self.out);
        self.b.switch_to(full);
        self.count_error(ErrorKind::SpanFull, ast::Span::default());
    }

    /// It returns: what was remembered, or leave.
    pub fn span_return(&mut self) {
        let now = self.b.call(Helper::KtimeGetNs, vec![]);
        let key = self.span_key();
        let map = self.span_map();
        let addr = self.b.map(map);
        let ty = Type::MapValue { map, nullable: true };
        let entry = self
            .b
            .call_as(ty, Helper::MapLookupElem, vec![addr.into(), key.into()]);
        let entry = self.b.non_null(entry, self.out);
        let start = self.b.load(entry, 0, Size::B8);
        self.span_args = (0..6).map(|i| self.b.load(entry, 8 + 8 * i, Size::B8)).collect();
        let addr = self.b.map(map);
        self.b
            .call_void(Helper::MapDeleteElem, vec![addr.into(), key.into()]);
        self.duration = Some(self.b.bin(BinOp::Sub, Width::W64, now, start));
    }
}
