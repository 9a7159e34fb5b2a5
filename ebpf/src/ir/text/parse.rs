//! Text to IR.

use super::*;
use crate::isa::Helper;

/// Where and why the text is not IR.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct ParseError {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

type Parsed<T> = Result<T, String>;

/// Read a program.
///
/// # Errors
/// The first line that is not IR. What the IR means is not looked at: see [`super::super::verify`].
pub fn parse(text: &str) -> Result<Program, ParseError> {
    let mut parser = Parser {
        program: Program {
            name: String::new(),
            kind: ProgramKind::Kprobe,
            maps: vec![],
            functions: vec![],
        },
        types: vec![],
        inside: false,
    };
    let mut last = 0;
    for (i, line) in text.lines().enumerate() {
        last = i + 1;
        let line = line.split('#').next().unwrap_or("").trim_end();
        if !line.is_empty() {
            parser
                .line(line)
                .map_err(|message| ParseError { line: i + 1, message })?;
        }
    }
    if parser.inside {
        return Err(ParseError {
            line: last,
            message: "the text ends inside of a function".into(),
        });
    }
    Ok(parser.program)
}

struct Parser {
    program: Program,
    /// The types of the current function's registers, as far as they are declared.
    types: Vec<Option<Type>>,
    inside: bool,
}

/// The rest of a line.
struct Line<'a>(&'a str);

impl<'a> Line<'a> {
    /// The next token, without taking it: a word, or one character of punctuation.
    fn peek(&self) -> &'a str {
        let rest = self.0.trim_start();
        let word = |c: char| c.is_alphanumeric() || "_.$%@*?:!".contains(c);
        let end = rest.find(|c| !word(c)).unwrap_or(rest.len());
        if end > 0 {
            return &rest[..end];
        }
        // A sign belongs to the digits behind it.
        let digits = rest[1.min(rest.len())..]
            .find(|c: char| !c.is_ascii_digit())
            .map_or(rest.len(), |n| n + 1);
        if rest.starts_with('-') && digits > 1 {
            return &rest[..digits];
        }
        &rest[..rest.chars().next().map_or(0, char::len_utf8)]
    }

    fn next(&mut self) -> &'a str {
        let token = self.peek();
        self.0 = &self.0.trim_start()[token.len()..];
        token
    }

    fn expect(&mut self, token: &str) -> Parsed<()> {
        match self.next() {
            t if t == token => Ok(()),
            t => Err(format!("expected `{token}`, found `{t}`")),
        }
    }

    fn try_take(&mut self, token: &str) -> bool {
        let found = self.peek() == token;
        if found {
            self.next();
        }
        found
    }

    fn end(&self) -> Parsed<()> {
        match self.peek() {
            "" => Ok(()),
            t => Err(format!("`{t}` is too much")),
        }
    }

    fn number<T: std::str::FromStr>(&mut self) -> Parsed<T> {
        let token = self.next();
        token
            .parse()
            .map_err(|_| format!("expected a number, found `{token}`"))
    }

    /// A number behind a sigil: `%3`, `$0`, `b2`.
    fn sigil(&mut self, sigil: char, what: &str) -> Parsed<u32> {
        let token = self.next();
        let number = token.strip_prefix(sigil).and_then(|n| n.parse().ok());
        number.ok_or_else(|| format!("expected {what}, found `{token}`"))
    }

    fn reg(&mut self) -> Parsed<Reg> {
        self.sigil('%', "a register").map(Reg)
    }

    fn slot(&mut self) -> Parsed<Slot> {
        self.sigil('$', "a slot").map(Slot)
    }

    fn block(&mut self) -> Parsed<Block> {
        self.sigil('b', "a block").map(Block)
    }

    fn operand(&mut self) -> Parsed<Operand> {
        let token = self.peek();
        if token.starts_with('%') {
            return self.reg().map(Operand::Reg);
        }
        self.next();
        let value = token.parse().map(Operand::Imm);
        value.map_err(|_| format!("expected a register or a number, found `{token}`"))
    }

    /// `[%1 + 8]`.
    fn place(&mut self) -> Parsed<(Reg, i32)> {
        self.expect("[")?;
        let base = self.reg()?;
        let negative = match self.next() {
            "+" => false,
            "-" => true,
            t => return Err(format!("expected `+` or `-`, found `{t}`")),
        };
        let off: i64 = self.number()?;
        self.expect("]")?;
        let off = if negative { -off } else { off };
        let off = i32::try_from(off).map_err(|_| format!("offset {off} is too large"))?;
        Ok((base, off))
    }

    /// `+ 8`.
    fn plus(&mut self) -> Parsed<u32> {
        self.expect("+")?;
        self.number()
    }

    /// Operands up to the closing parenthesis.
    fn arguments(&mut self) -> Parsed<Vec<Operand>> {
        let mut args = vec![];
        self.expect("(")?;
        while !self.try_take(")") {
            if !args.is_empty() {
                self.expect(",")?;
            }
            args.push(self.operand()?);
        }
        Ok(args)
    }
}

/// A value of one of the tables of names.
fn named<T: Copy>(table: &[(T, &str)], name: &str, what: &str) -> Parsed<T> {
    let found = table.iter().find(|(_, n)| *n == name).map(|(v, _)| *v);
    found.ok_or_else(|| format!("unknown {what} `{name}`"))
}

fn width(suffix: &str) -> Parsed<Width> {
    match suffix {
        "" => Ok(Width::W64),
        "32" => Ok(Width::W32),
        _ => Err(format!("unknown width `.{suffix}`")),
    }
}

/// Prefix letters and size of `u16`, `s8`, `be32`.
fn sized(suffix: &str) -> Parsed<(&str, Size)> {
    let digits = suffix.find(|c: char| c.is_ascii_digit()).unwrap_or(suffix.len());
    let bits: u32 = suffix[digits..].parse().unwrap_or(0);
    match Size::from_bytes(bits / 8) {
        Some(size) if bits.is_multiple_of(8) => Ok((&suffix[..digits], size)),
        _ => Err(format!("unknown size `.{suffix}`")),
    }
}

/// Size, and whether signed, of `u16` and `s16`.
fn extended(suffix: &str) -> Parsed<(Size, bool)> {
    match sized(suffix)? {
        ("u", size) => Ok((size, false)),
        ("s", size) => Ok((size, true)),
        _ => Err(format!("unknown size `.{suffix}`")),
    }
}

impl Parser {
    fn func(&mut self) -> Parsed<&mut Function> {
        self.program
            .functions
            .last_mut()
            .ok_or("this belongs into a function".into())
    }

    fn line(&mut self, text: &str) -> Parsed<()> {
        let mut line = Line(text);
        match line.peek() {
            "program" if !self.inside => {
                line.next();
                self.program.name = line.next().into();
                self.program.kind = named(&KINDS, line.next(), "program kind")?;
            }
            "map" if !self.inside => self.map_decl(&mut line)?,
            "fn" if !self.inside => self.function(&mut line)?,
            "}" if self.inside => {
                line.next();
                self.end_function()?;
            }
            t if self.inside && t.starts_with('b') && t.ends_with(':') => self.block(&mut line)?,
            _ if self.inside && self.func()?.blocks.is_empty() => self.declaration(&mut line)?,
            _ if self.inside => self.operation(&mut line)?,
            t => return Err(format!("expected `program`, `map` or `fn`, found `{t}`")),
        }
        line.end()
    }

    fn map_decl(&mut self, line: &mut Line<'_>) -> Parsed<()> {
        line.next();
        let name = line.next().into();
        let kind = named(&MAP_KINDS, line.next(), "map type")?;
        line.expect("key")?;
        let key_size = line.number()?;
        line.expect("value")?;
        let value_size = line.number()?;
        line.expect("entries")?;
        let max_entries = line.number()?;
        self.program.maps.push(MapDecl {
            name,
            kind,
            key_size,
            value_size,
            max_entries,
        });
        Ok(())
    }

    fn function(&mut self, line: &mut Line<'_>) -> Parsed<()> {
        line.next();
        let index: usize = line.number()?;
        if index != self.program.functions.len() {
            return Err(format!("expected function {}", self.program.functions.len()));
        }
        let name = line.next().into();
        let mut params = vec![];
        line.expect("(")?;
        while !line.try_take(")") {
            if !params.is_empty() {
                line.expect(",")?;
            }
            params.push(line.reg()?);
        }
        let lean = line.try_take("lean");
        line.expect("{")?;
        self.program.functions.push(Function {
            name,
            lean,
            params,
            regs: vec![],
            slots: vec![],
            blocks: vec![],
        });
        self.types.clear();
        self.inside = true;
        Ok(())
    }

    fn end_function(&mut self) -> Parsed<()> {
        let mut types = vec![];
        for (i, ty) in self.types.iter().enumerate() {
            types.push(ty.ok_or_else(|| format!("%{i} has no type"))?);
        }
        self.func()?.regs = types;
        self.inside = false;
        Ok(())
    }

    /// `int %0 %1` or `slot $0 16 align 8`.
    fn declaration(&mut self, line: &mut Line<'_>) -> Parsed<()> {
        let word = line.next();
        let nullable = word.ends_with('?');
        let ty = match word.trim_end_matches('?') {
            "slot" => {
                let slot = line.slot()?;
                let func = self.func()?;
                if slot.0 as usize != func.slots.len() {
                    return Err(format!("expected slot ${}", func.slots.len()));
                }
                let size = line.number()?;
                line.expect("align")?;
                let align = line.number()?;
                func.slots.push(SlotDecl { size, align });
                return Ok(());
            }
            "int" => Type::Int,
            "ctx" => Type::Ctx,
            "stack" => Type::Stack,
            "map" => Type::Map,
            "value" => Type::MapValue {
                map: self.map(line)?,
                nullable,
            },
            "record" => Type::Record {
                size: line.number()?,
                nullable,
            },
            "kernel" => Type::Kernel {
                direct: line.try_take("direct"),
            },
            "user" => Type::User,
            "packet" => Type::Packet,
            _ => return Err(format!("unknown type `{word}`")),
        };
        while line.peek().starts_with('%') {
            let reg = line.reg()?;
            let index = reg.0 as usize;
            if index > 100_000 {
                return Err(format!("{reg} is too large a number"));
            }
            if index >= self.types.len() {
                self.types.resize(index + 1, None);
            }
            if self.types[index].replace(ty).is_some() {
                return Err(format!("{reg} has a type already"));
            }
        }
        Ok(())
    }

    /// `b1:` or `b1: loop 10 else b2`.
    fn block(&mut self, line: &mut Line<'_>) -> Parsed<()> {
        let token = line.next();
        let func = self.func()?;
        if token[1..token.len() - 1].parse() != Ok(func.blocks.len()) {
            return Err(format!("expected block b{}", func.blocks.len()));
        }
        let bound = if line.try_take("loop") {
            let max = line.number()?;
            line.expect("else")?;
            Some(LoopBound {
                max,
                exhausted: line.block()?,
            })
        } else {
            None
        };
        func.blocks.push(BlockData {
            insts: vec![],
            term: None,
            term_span: Span::NONE,
            bound,
        });
        Ok(())
    }

    fn map(&self, line: &mut Line<'_>) -> Parsed<MapRef> {
        let token = line.next();
        let name = token
            .strip_prefix('@')
            .ok_or_else(|| format!("expected a map, found `{token}`"))?;
        let by_name = self.program.maps.iter().position(|map| map.name == name);
        let index = by_name.map(|i| i as u32).or_else(|| name.parse().ok());
        index
            .map(MapRef)
            .ok_or_else(|| format!("no map is named `{name}`"))
    }

    /// An operation or a terminator.
    fn operation(&mut self, line: &mut Line<'_>) -> Parsed<()> {
        let span = take_span(line)?;
        let term = terminator(line)?;
        let op = match term {
            Some(_) => None,
            None => Some(self.op(line)?),
        };
        let func = self.func()?;
        let Some(block) = func.blocks.last_mut() else {
            return Err("an operation outside of a block".into());
        };
        if block.term.is_some() {
            return Err("the block has ended".into());
        }
        if let Some(op) = op {
            block.insts.push(Inst { op, span });
        } else {
            block.term = term;
            block.term_span = span;
        }
        Ok(())
    }

    fn op(&mut self, line: &mut Line<'_>) -> Parsed<Op> {
        if !line.peek().starts_with('%') {
            return self.effect(line, None);
        }
        let dst = line.reg()?;
        line.expect("=")?;
        let token = line.peek();
        if token.starts_with('%') || token.starts_with('-') || token.starts_with(|c: char| c.is_ascii_digit())
        {
            let src = line.operand()?;
            return Ok(Op::Mov { dst, src });
        }
        let (word, suffix) = token.split_once('.').unwrap_or((token, ""));
        if let Some((op, _)) = BINARY.iter().find(|(_, name)| *name == word) {
            line.next();
            let width = width(suffix)?;
            let a = line.reg()?;
            line.expect(",")?;
            let b = line.operand()?;
            return Ok(Op::Bin {
                op: *op,
                width,
                dst,
                a,
                b,
            });
        }
        if matches!(word, "atomic" | "call" | "each" | "fn") {
            return self.effect(line, Some(dst));
        }
        line.next();
        Ok(match word {
            "neg" => Op::Neg {
                width: width(suffix)?,
                dst,
                src: line.reg()?,
            },
            "swap" => Op::Swap {
                size: extended(suffix)?.0,
                dst,
                src: line.reg()?,
            },
            "extend" => {
                let (size, signed) = extended(suffix)?;
                let src = line.reg()?;
                Op::Extend {
                    size,
                    signed,
                    dst,
                    src,
                }
            }
            "load" | "kload" => {
                let (size, signed) = extended(suffix)?;
                let (base, off) = line.place()?;
                if word == "load" {
                    Op::Load {
                        dst,
                        base,
                        off,
                        size,
                        signed,
                    }
                } else {
                    Op::KernelLoad {
                        dst,
                        base,
                        off,
                        size,
                        signed,
                    }
                }
            }
            "addr" => Op::SlotAddr {
                dst,
                slot: line.slot()?,
                off: line.plus()?,
            },
            "map" => Op::MapAddr {
                dst,
                map: self.map(line)?,
            },
            "data" => Op::MapData {
                dst,
                map: self.map(line)?,
                off: line.plus()?,
            },
            "ctx" => Op::Ctx { dst },
            "arg" => Op::Arg {
                dst,
                index: line.number()?,
            },
            "at_return" => Op::AtReturn { dst },
            "kept" => Op::Kept { dst },
            "packet" => Op::PacketOpen {
                dst,
                start: line.reg()?,
            },
            "pload" => {
                let (order, size) = sized(suffix)?;
                let packet = line.reg()?;
                line.expect("[")?;
                let off = line.operand()?;
                line.expect("]")?;
                Op::PacketLoad {
                    dst,
                    packet,
                    off,
                    size,
                    swap: order == "be",
                }
            }
            _ => return Err(format!("expected a register or a number, found `{token}`")),
        })
    }

    /// What may stand without a result.
    fn effect(&mut self, line: &mut Line<'_>, dst: Option<Reg>) -> Parsed<Op> {
        let token = line.next();
        let (word, suffix) = token.split_once('.').unwrap_or((token, ""));
        Ok(match word {
            "store" => {
                let (size, _) = extended(suffix)?;
                let (base, off) = line.place()?;
                line.expect(",")?;
                let src = line.operand()?;
                Op::Store { base, off, src, size }
            }
            "atomic" => {
                let (size, _) = extended(suffix)?;
                let op = named(&ATOMICS, line.next(), "atomic operation")?;
                let (base, off) = line.place()?;
                line.expect(",")?;
                let src = line.reg()?;
                Op::Atomic {
                    op,
                    base,
                    off,
                    src,
                    size,
                    fetch: dst,
                }
            }
            "kread" => {
                let slot = line.slot()?;
                let slot_off = line.plus()?;
                line.expect(",")?;
                let (base, off) = line.place()?;
                line.expect(",")?;
                let len = line.number()?;
                Op::KernelRead {
                    slot,
                    slot_off,
                    base,
                    off,
                    len,
                }
            }
            "keep" => Op::Keep { src: line.operand()? },
            "call" => {
                let name = line.next();
                let helper = Helper::ALL.iter().copied().find(|helper| helper.name() == name);
                let helper = helper.ok_or_else(|| format!("unknown helper `{name}`"))?;
                let args = line.arguments()?;
                Op::Call { dst, helper, args }
            }
            "each" => Op::Each {
                dst,
                map: self.map(line)?,
                func: FuncRef(line.number()?),
            },
            "fn" => {
                let func = FuncRef(line.number()?);
                let args = line.arguments()?;
                Op::CallFn { dst, func, args }
            }
            _ => return Err(format!("unknown operation `{token}`")),
        })
    }
}

/// Cut `!12..20` off the end of a line.
fn take_span(line: &mut Line<'_>) -> Parsed<Span> {
    let Some((rest, span)) = line.0.split_once('!') else {
        return Ok(Span::NONE);
    };
    line.0 = rest.trim_end();
    let parsed = span.split_once("..").and_then(|(start, end)| {
        Some(Span {
            start: start.trim().parse().ok()?,
            end: end.trim().parse().ok()?,
        })
    });
    parsed.ok_or_else(|| format!("`!{span}` is not a span"))
}

/// A terminator; `None`, with nothing taken, if the line is none.
fn terminator(line: &mut Line<'_>) -> Parsed<Option<Term>> {
    let token = line.peek();
    let (word, suffix) = token.split_once('.').unwrap_or((token, ""));
    let term = match word {
        "jump" => {
            line.next();
            Term::Jump(line.block()?)
        }
        "if" => {
            line.next();
            let width = width(suffix)?;
            let cond = named(&CONDITIONS, line.next(), "comparison")?;
            let a = line.reg()?;
            line.expect(",")?;
            let b = line.operand()?;
            line.expect("then")?;
            let then = line.block()?;
            line.expect("else")?;
            Term::Branch {
                cond,
                width,
                a,
                b,
                then,
                otherwise: line.block()?,
            }
        }
        "nonnull" => {
            line.next();
            let dst = line.reg()?;
            line.expect("=")?;
            let ptr = line.reg()?;
            line.expect("then")?;
            let some = line.block()?;
            line.expect("else")?;
            Term::NullCheck {
                ptr,
                dst,
                some,
                none: line.block()?,
            }
        }
        "ret" => {
            line.next();
            Term::Return(line.operand()?)
        }
        _ => return Ok(None),
    };
    Ok(Some(term))
}
