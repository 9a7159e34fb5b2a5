//! Tokens to [`Ast`]: the grammar of pcap-filter(7), by recursive descent.
//!
//! What makes the language odd: an identifier may stand alone after `and`, `or` or `not` and takes the qualifiers of
//! the primitive before it; and a parenthesis may hold a condition, a list of identifiers or a number, which only its
//! content tells. So every operand is read as an [`Item`], and who reads it decides what may stand there.

mod errors;
mod terms;

use super::ast::*;
use super::lex::{Tok, Token, lex};
use super::words::{CONSTANTS, FOREIGN, PROTOCOLS};
use super::{Env, Error};
use crate::nearest::nearest;
use errors::expected_id;

/// How deep parentheses, brackets and unary minus may nest.
const MAX_DEPTH: usize = 100;
/// How many arithmetic operators a filter may have.
const MAX_OPERATORS: usize = 256;

/// Read a filter's text.
pub(super) fn parse(text: &str, env: &Env<'_>) -> Result<Ast, Error> {
    let mut parser = Parser {
        tokens: lex(text)?,
        at: 0,
        depth: 0,
        operators: 0,
        pcap_compat: env.pcap_compat,
    };
    if parser.peek() == &Tok::End {
        return Ok(Ast::All);
    }
    let first = parser.span();
    let ast = match parser.list(None)? {
        Item::Cond(ast, _) => ast,
        other => return Err(parser.not_a_condition(other, first)),
    };
    if parser.peek() != &Tok::End {
        return Err(parser.unexpected_after_condition());
    }
    Ok(ast)
}

/// What an operand turned out to be.
enum Item {
    /// A condition, and the qualifiers that an identifier after it inherits.
    Cond(Ast, Option<Quals>),
    /// One or more identifiers with inherited qualifiers.
    Ids(Ast),
    /// A number alone: an identifier or part of a relation.
    Num(u32),
    /// Arithmetic that isn't compared with anything yet.
    Arith(Arith),
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
    operators: usize,
    pcap_compat: bool,
}

impl Parser {
    fn peek(&self) -> &Tok {
        &self.tokens[self.at].tok
    }

    fn peek_at(&self, ahead: usize) -> &Tok {
        &self.tokens[(self.at + ahead).min(self.tokens.len() - 1)].tok
    }

    fn span(&self) -> Span {
        self.tokens[self.at].span.clone()
    }

    /// The place of the token before.
    fn last_span(&self) -> Span {
        self.tokens[self.at.saturating_sub(1)].span.clone()
    }

    fn next(&mut self) -> Tok {
        let tok = self.tokens[self.at].tok.clone();
        if self.at + 1 < self.tokens.len() {
            self.at += 1;
        }
        tok
    }

    fn is_key(&self, key: &str) -> bool {
        matches!(self.peek(), Tok::Key(k) if *k == key)
    }

    fn is_op(&self, op: &str) -> bool {
        matches!(self.peek(), Tok::Op(o) if *o == op)
    }

    fn take_op(&mut self, op: &str) -> bool {
        let found = self.is_op(op);
        if found {
            self.next();
        }
        found
    }

    fn joint(&self) -> Option<Joint> {
        match self.peek() {
            Tok::Key("and") => Some(Joint::And),
            Tok::Key("or") => Some(Joint::Or),
            _ => None,
        }
    }

    fn enter(&mut self) -> Result<(), Error> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Error::new(
                self.span(),
                format!("nested deeper than {MAX_DEPTH} levels"),
            ));
        }
        Ok(())
    }

    /// `operand { and|or operand }`. `inherited`: the qualifiers before it.
    fn list(&mut self, inherited: Option<Quals>) -> Result<Item, Error> {
        let start = self.span();
        let first = self.operand(inherited)?;
        let (first, mut quals, ids) = match first {
            Item::Num(n) if self.joint().is_some() => (self.number(n, inherited, start)?, inherited, true),
            Item::Num(_) | Item::Arith(_) => return Ok(first),
            Item::Ids(ast) => (ast, inherited, true),
            Item::Cond(ast, quals) => (ast, quals, false),
        };
        let mut rest = vec![];
        while let Some(joint) = self.joint() {
            self.next();
            let start = self.span();
            let operand = match self.operand(quals)? {
                Item::Ids(ast) => ast,
                Item::Num(n) => self.number(n, quals, start)?,
                Item::Cond(ast, after) if !ids => {
                    quals = after;
                    ast
                }
                Item::Cond(..) => {
                    let end = self.last_span().end;
                    return Err(
                        Error::new(start.start..end, "a list of identifiers can't hold a condition")
                            .suggest("close the list with ')' first"),
                    );
                }
                item @ Item::Arith(_) => return Err(self.not_a_condition(item, start)),
            };
            rest.push((joint, operand));
        }
        let ast = match rest.is_empty() {
            true => first,
            false => Ast::Chain(Box::new(first), rest),
        };
        Ok(if ids {
            Item::Ids(ast)
        } else {
            Item::Cond(ast, quals)
        })
    }

    /// One operand of `and` and `or`.
    fn operand(&mut self, inherited: Option<Quals>) -> Result<Item, Error> {
        let mut negated = false;
        let mut any = false;
        while self.is_key("not") {
            self.next();
            negated = !negated;
            any = true;
        }
        let start = self.span();
        let item = self.term(inherited)?;
        if !any {
            return Ok(item);
        }
        let not = |ast| if negated { Ast::Not(Box::new(ast)) } else { ast };
        Ok(match item {
            Item::Cond(ast, quals) => Item::Cond(not(ast), quals),
            Item::Ids(ast) => Item::Ids(not(ast)),
            Item::Num(n) => Item::Ids(not(self.number(n, inherited, start)?)),
            item @ Item::Arith(_) => return Err(self.not_a_condition(item, start)),
        })
    }

    /// An operand without its `not`.
    fn term(&mut self, inherited: Option<Quals>) -> Result<Item, Error> {
        match self.peek().clone() {
            Tok::Op("(") => {
                self.enter()?;
                let open = self.span();
                self.next();
                let inside = self.list(inherited)?;
                if !self.take_op(")") {
                    return Err(self.unclosed(open));
                }
                self.depth -= 1;
                match inside {
                    Item::Cond(ast, _) => Ok(Item::Cond(ast, inherited)),
                    Item::Ids(ast) => Ok(Item::Ids(ast)),
                    Item::Num(n) => self.relation(Some(Arith::Num(n)), open),
                    Item::Arith(arith) => self.relation(Some(arith), open),
                }
            }
            Tok::Num(_) | Tok::Op("-") | Tok::Key("len") => self.relation(None, self.span()),
            Tok::Key(proto) if PROTOCOLS.contains(&proto) && self.peek_at(1) == &Tok::Op("[") => {
                self.relation(None, self.span())
            }
            Tok::Name(name) if self.starts_term(&name, inherited.is_some()) => self.named_term(&name),
            Tok::Name(_) | Tok::V4(_) | Tok::V6(_) | Tok::Mac(_) => match inherited {
                Some(quals) => Ok(Item::Ids(self.id(quals)?)),
                None => Err(self.bare_identifier()),
            },
            Tok::Key(key) => self.primitive(key),
            Tok::End => Err(Error::new(self.span(), "the filter ends too early").expected("a condition")),
            Tok::Op(_) | Tok::Text(_) => Err(self.unexpected("a condition")),
        }
    }

    /// What starts with a keyword.
    fn primitive(&mut self, key: &'static str) -> Result<Item, Error> {
        let start = self.span();
        let reset = |ast| Ok(Item::Cond(ast, None));
        if let Some((word, whose)) = FOREIGN.iter().find(|(word, _)| *word == key) {
            return Err(Error::new(
                start,
                format!("'{word}' is about {whose}, which ktrail doesn't read"),
            ));
        }
        let proto = PROTOCOLS.contains(&key).then_some(key);
        if proto.is_some() {
            self.next();
        }
        match self.peek().clone() {
            Tok::Key("broadcast") => {
                self.next();
                return reset(Ast::Broadcast(proto, start.start..self.last_span().end));
            }
            Tok::Key("multicast") => {
                self.next();
                return reset(Ast::Multicast(proto, start.start..self.last_span().end));
            }
            Tok::Key(
                "src" | "dst" | "host" | "net" | "port" | "portrange" | "proto" | "protochain" | "gateway",
            ) => {
                let quals = self.quals(proto)?;
                let ast = self.id(quals)?;
                return Ok(Item::Cond(ast, Some(quals)));
            }
            Tok::Key(key) if FOREIGN.iter().any(|(word, _)| *word == key) && proto.is_some() => {
                return self.primitive(key);
            }
            _ => {}
        }
        if let Some(proto) = proto {
            return reset(Ast::Protocol(proto, start));
        }
        self.next();
        match key {
            "less" | "greater" => {
                let n = self.plain_number()?;
                reset(Ast::Relation {
                    op: if key == "less" { Relop::Le } else { Relop::Ge },
                    lhs: Arith::Len(start.clone()),
                    rhs: Arith::Num(n),
                    span: start.start..self.last_span().end,
                })
            }
            "inbound" => reset(Ast::Outbound(false, start)),
            "outbound" => reset(Ast::Outbound(true, start)),
            "ifindex" => {
                let n = self.plain_number()?;
                reset(Ast::IfIndex(n, start.start..self.last_span().end))
            }
            "ifname" => {
                let name = match self.peek().clone() {
                    Tok::Name(name) | Tok::Text(name) => name,
                    Tok::Key(name) => name.into(),
                    _ => return Err(self.unexpected("the name of a network interface")),
                };
                self.next();
                reset(Ast::IfName(name, self.last_span()))
            }
            "vlan" => self.encap(Encap::Vlan, start),
            "mpls" => self.encap(Encap::Mpls, start),
            "pppoed" => reset(Ast::Encap(Encap::PppoeDiscovery, None, start)),
            "pppoes" => self.encap(Encap::PppoeSession, start),
            "geneve" => self.encap(Encap::Geneve, start),
            "vxlan" => self.encap(Encap::Vxlan, start),
            "byte" => {
                Err(Error::new(start, "'byte' is not supported").suggest("write 'ether[OFFSET] = VALUE'"))
            }
            _ => {
                self.at -= 1;
                Err(self.unexpected("a condition"))
            }
        }
    }

    fn encap(&mut self, encap: Encap, start: Span) -> Result<Item, Error> {
        let number = match self.peek() {
            Tok::Num(_) | Tok::Op("(") => Some(self.parenthesised_number()?),
            _ => None,
        };
        let span = start.start..self.last_span().end;
        Ok(Item::Cond(Ast::Encap(encap, number, span), None))
    }

    /// Direction and kind after a protocol.
    fn quals(&mut self, proto: Option<&'static str>) -> Result<Quals, Error> {
        let pair = match (self.peek_at(1), self.peek_at(2)) {
            (Tok::Key("or"), Tok::Key("src" | "dst")) => Some(Dir::Either),
            (Tok::Key("and"), Tok::Key("src" | "dst")) => Some(Dir::Both),
            _ => None,
        };
        let dir = match (self.peek(), pair) {
            (Tok::Key("src" | "dst"), Some(dir)) if self.peek() != self.peek_at(2) => {
                self.next();
                self.next();
                Some(dir)
            }
            (Tok::Key("src"), _) => Some(Dir::Src),
            (Tok::Key("dst"), _) => Some(Dir::Dst),
            _ => None,
        };
        if dir.is_some() {
            self.next();
        }
        let kind = match self.peek() {
            Tok::Key("host") => Some(Kind::Host),
            Tok::Key("net") => Some(Kind::Net),
            Tok::Key("port") => Some(Kind::Port),
            Tok::Key("portrange") => Some(Kind::PortRange),
            Tok::Key("proto") => Some(Kind::Proto),
            Tok::Key("protochain") => Some(Kind::ProtoChain),
            Tok::Key("gateway") => {
                return Err(Error::new(self.span(), "'gateway' is not supported")
                    .suggest("name both: 'ether host MAC and not host ADDRESS'"));
            }
            _ => None,
        };
        if matches!(kind, Some(Kind::Proto | Kind::ProtoChain)) && dir.is_some() {
            return Err(self
                .unexpected("a host, a network or a port")
                .suggest("protocols have no direction"));
        }
        if kind.is_some() {
            self.next();
        }
        Ok(Quals { proto, dir, kind })
    }

    /// One identifier, or several in parentheses.
    fn id(&mut self, quals: Quals) -> Result<Ast, Error> {
        let span = self.span();
        let id = match self.peek().clone() {
            Tok::Key("not") => {
                self.next();
                self.enter()?;
                let id = self.id(quals)?;
                self.depth -= 1;
                return Ok(Ast::Not(Box::new(id)));
            }
            Tok::Op("(") => {
                self.enter()?;
                self.next();
                let inside = self.list(Some(quals))?;
                let content = span.end..self.span().start;
                if !self.take_op(")") {
                    return Err(self.unclosed(span));
                }
                self.depth -= 1;
                return match inside {
                    Item::Ids(ast) => Ok(ast),
                    Item::Num(n) => self.number(n, Some(quals), span),
                    Item::Cond(..) | Item::Arith(_) => {
                        Err(Error::new(content, "this is no identifier").expected(expected_id(quals)))
                    }
                };
            }
            Tok::Num(n) => {
                self.next();
                return self.number(n, Some(quals), span);
            }
            Tok::V4(text) => {
                self.next();
                if self.take_op("/") {
                    Id::V4Prefix(text, self.plain_number()?)
                } else if self.is_key("mask") {
                    self.next();
                    let Tok::V4(mask) = self.peek().clone() else {
                        return Err(self.unexpected("a mask, as in '255.255.255.0'"));
                    };
                    self.next();
                    Id::V4Mask(text, mask)
                } else {
                    Id::V4(text)
                }
            }
            Tok::V6(address) => {
                self.next();
                match self.take_op("/") {
                    true => Id::V6Prefix(address, self.plain_number()?),
                    false => Id::V6(address),
                }
            }
            Tok::Mac(mac) => {
                self.next();
                Id::Mac(mac)
            }
            Tok::Name(name) => {
                self.next();
                Id::Name(name)
            }
            Tok::Key(key) => {
                let error = self.unexpected(expected_id(quals));
                return Err(match quals.kind {
                    Some(
                        Kind::Port
                        | Kind::PortRange
                        | Kind::Host
                        | Kind::Net
                        | Kind::Proto
                        | Kind::ProtoChain,
                    ) => error.suggest(format!("write '\\{key}' if the name '{key}' is meant")),
                    None => error,
                });
            }
            Tok::End => {
                return Err(Error::new(span, "the filter ends too early").expected(expected_id(quals)));
            }
            Tok::Op(_) | Tok::Text(_) => return Err(self.unexpected(expected_id(quals))),
        };
        let span = span.start..self.last_span().end;
        Ok(Ast::Primitive { quals, id, span })
    }

    /// A number as an identifier.
    fn number(&self, n: u32, quals: Option<Quals>, span: Span) -> Result<Ast, Error> {
        let Some(quals) = quals else {
            return Err(
                Error::new(span, format!("{n} alone says nothing")).suggest(format!("write 'port {n}'"))
            );
        };
        if let (None, Some(dir), false) = (quals.kind, quals.dir, self.pcap_compat) {
            let dir = match dir {
                Dir::Src => "src",
                Dir::Dst => "dst",
                Dir::Either => "src or dst",
                Dir::Both => "src and dst",
            };
            return Err(Error::new(span, format!("{n} is no address")).suggest(format!(
                "write '{dir} port {n}'; in tcpdump this means '{dir} host 0.0.0.{n}'"
            )));
        }
        Ok(Ast::Primitive {
            quals,
            id: Id::Num(n),
            span,
        })
    }

    /// A number that is a token of its own.
    fn plain_number(&mut self) -> Result<u32, Error> {
        match *self.peek() {
            Tok::Num(n) => {
                self.next();
                Ok(n)
            }
            _ => Err(self.unexpected("a number")),
        }
    }

    /// A number, perhaps in parentheses.
    fn parenthesised_number(&mut self) -> Result<u32, Error> {
        let open = self.span();
        let mut parens = 0;
        while self.take_op("(") {
            parens += 1;
        }
        let n = self.plain_number()?;
        for _ in 0..parens {
            if !self.take_op(")") {
                return Err(self.unclosed(open));
            }
        }
        Ok(n)
    }

    /// Arithmetic, and if it follows, a relation. `first`: what has been read already.
    fn relation(&mut self, first: Option<Arith>, start: Span) -> Result<Item, Error> {
        let lhs = self.arith(first, 0)?;
        let op = match self.peek() {
            Tok::Op("=") => Relop::Eq,
            Tok::Op("!=") => Relop::Ne,
            Tok::Op("<") => Relop::Lt,
            Tok::Op("<=") => Relop::Le,
            Tok::Op(">") => Relop::Gt,
            Tok::Op(">=") => Relop::Ge,
            _ => {
                return Ok(match lhs {
                    Arith::Num(n) => Item::Num(n),
                    other => Item::Arith(other),
                });
            }
        };
        self.next();
        if let (Arith::Kernel { path, span }, Tok::Text(_) | Tok::Name(_)) = (&lhs, self.peek().clone()) {
            match self.peek().clone() {
                Tok::Text(text) if matches!(op, Relop::Eq | Relop::Ne) => {
                    self.next();
                    let ast = Ast::KernelText {
                        path: path.clone(),
                        negated: op == Relop::Ne,
                        text,
                        span: span.clone(),
                    };
                    return Ok(Item::Cond(ast, None));
                }
                Tok::Text(_) => {
                    return Err(Error::new(
                        self.span(),
                        "texts are equal or not, there is no more to compare",
                    )
                    .expected("'==' or '!='"));
                }
                Tok::Name(name) if !name.starts_with("skb.") => {
                    let name = name.escape_debug();
                    return Err(self
                        .unexpected("a number or a text in quotes")
                        .suggest(format!("write '\"{name}\"'")));
                }
                _ => {}
            }
        }
        let rhs = self.arith(None, 0)?;
        let span = start.start..self.last_span().end;
        Ok(Item::Cond(Ast::Relation { op, lhs, rhs, span }, None))
    }

    /// Arithmetic with operators that bind at least as tightly as `min`.
    ///
    /// `%` and `^` have no precedence in pcap-filter's grammar: whatever stands left of them has to wait, and all that
    /// follows belongs to their right side. So `10 % 4 + 1` is `10 % (4 + 1)`, as tcpdump has it.
    fn arith(&mut self, first: Option<Arith>, min: u8) -> Result<Arith, Error> {
        let mut lhs = match first {
            Some(first) => first,
            None => self.arith_primary()?,
        };
        loop {
            let (op, power) = match self.peek() {
                Tok::Op("|") => (ArithOp::Or, 1),
                Tok::Op("&") => (ArithOp::And, 2),
                Tok::Op("<<") => (ArithOp::Shl, 3),
                Tok::Op(">>") => (ArithOp::Shr, 3),
                Tok::Op("+") => (ArithOp::Add, 4),
                Tok::Op("-") => (ArithOp::Sub, 4),
                Tok::Op("*") => (ArithOp::Mul, 5),
                Tok::Op("/") => (ArithOp::Div, 5),
                Tok::Op("%") => (ArithOp::Mod, u8::MAX),
                Tok::Op("^") => (ArithOp::Xor, u8::MAX),
                _ => return Ok(lhs),
            };
            if power < min {
                return Ok(lhs);
            }
            self.operators += 1;
            if self.operators > MAX_OPERATORS {
                return Err(Error::new(
                    self.span(),
                    format!("more than {MAX_OPERATORS} arithmetic operators"),
                ));
            }
            let span = self.span();
            self.next();
            self.enter()?;
            let rhs = self.arith(None, if power == u8::MAX { 0 } else { power + 1 })?;
            self.depth -= 1;
            lhs = Arith::Bin {
                op,
                lhs: Box::new(lhs),
                rhs: Box::new(rhs),
                span,
            };
        }
    }

    fn arith_primary(&mut self) -> Result<Arith, Error> {
        let start = self.span();
        match self.peek().clone() {
            Tok::Num(n) => {
                self.next();
                Ok(Arith::Num(n))
            }
            Tok::Key("len") => {
                self.next();
                Ok(Arith::Len(start))
            }
            Tok::Name(path) if path.starts_with("skb.") => {
                self.next();
                Ok(Arith::Kernel { path, span: start })
            }
            Tok::Op("-") => {
                self.enter()?;
                self.next();
                // Tighter than everything but `%` and `^`.
                let operand = self.arith(None, u8::MAX)?;
                self.depth -= 1;
                Ok(Arith::Neg(Box::new(operand)))
            }
            Tok::Op("(") => {
                self.enter()?;
                self.next();
                let inside = self.arith(None, 0)?;
                if !self.take_op(")") {
                    return Err(self.unclosed(start));
                }
                self.depth -= 1;
                Ok(inside)
            }
            Tok::Key(proto) if PROTOCOLS.contains(&proto) => {
                self.enter()?;
                self.next();
                if !self.take_op("[") {
                    return Err(self.unexpected(format!("'[' and an offset after '{proto}'")));
                }
                let offset = self.arith(None, 0)?;
                let mut size = 1;
                if self.take_op(":") {
                    let at = self.span();
                    size = self.plain_number()?;
                    if !matches!(size, 1 | 2 | 4) {
                        return Err(
                            Error::new(at, format!("{size} bytes can't be loaded")).expected("1, 2 or 4")
                        );
                    }
                }
                if !self.take_op("]") {
                    return Err(self.unexpected("']'"));
                }
                self.depth -= 1;
                Ok(Arith::Index {
                    proto,
                    offset: Box::new(offset),
                    size,
                    span: start.start..self.last_span().end,
                })
            }
            tok => {
                let error = self.unexpected("a number, 'len' or 'PROTOCOL[OFFSET]'");
                let near = match &tok {
                    Tok::Name(name) => nearest(name, CONSTANTS.iter().map(|(word, _)| *word)),
                    _ => None,
                };
                Err(match near {
                    Some(word) => error.suggest(format!("did you mean '{word}'?")),
                    None => error,
                })
            }
        }
    }
}
