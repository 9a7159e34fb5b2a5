//! What is said about a text that is no filter.

use super::{Item, Parser};
use crate::filter::Error;
use crate::filter::ast::*;
use crate::filter::lex::Tok;
use crate::filter::words::{KEYWORDS, PROTOCOLS};
use crate::nearest::nearest;

impl Parser {
    pub(super) fn unexpected(&self, expected: impl Into<String>) -> Error {
        let error = match self.peek() {
            Tok::End => Error::new(self.span(), "the filter ends too early"),
            Tok::Name(name) => Error::new(self.span(), format!("unexpected '{}'", name.escape_debug())),
            Tok::Key(key) => Error::new(self.span(), format!("unexpected '{key}'")),
            Tok::Op(op) => Error::new(self.span(), format!("unexpected '{op}'")),
            Tok::Num(_) => Error::new(self.span(), "unexpected number"),
            Tok::Text(_) => Error::new(self.span(), "unexpected text"),
            Tok::V4(_) | Tok::V6(_) | Tok::Mac(_) => Error::new(self.span(), "unexpected address"),
        };
        error.expected(expected)
    }

    pub(super) fn unclosed(&self, open: Span) -> Error {
        match self.peek() {
            Tok::End => Error::new(open, "this parenthesis isn't closed").expected("')'"),
            _ => self.unexpected("')', 'and' or 'or'"),
        }
    }

    /// After a complete condition only `and`, `or` and the end may follow.
    pub(super) fn unexpected_after_condition(&self) -> Error {
        let error = self.unexpected("'and', 'or' or the end of the filter");
        let before = match self.at.checked_sub(1).map(|i| &self.tokens[i].tok) {
            Some(Tok::Key(key)) => *key,
            _ => "",
        };
        match self.peek() {
            Tok::Num(n) if matches!(before, "tcp" | "udp" | "sctp") => {
                error.suggest(format!("write '{before} port {n}'"))
            }
            Tok::V4(_) | Tok::V6(_) if PROTOCOLS.contains(&before) => {
                error.suggest(format!("write '{before} host …'"))
            }
            Tok::Op(")") => Error::new(self.span(), "no parenthesis is open here"),
            Tok::Op("/") => error.suggest("a prefix length follows numbers, as in 'net 10.0.0.0/8'"),
            Tok::Key("mask") => {
                error.suggest("a mask follows an address, as in 'net 10.0.0.0 mask 255.0.0.0'")
            }
            Tok::Name(name) => match nearest(name, KEYWORDS.iter().map(|(word, _)| *word)) {
                Some(word) => error.suggest(format!("did you mean '{word}'?")),
                None => error,
            },
            _ => error,
        }
    }

    /// An identifier stands where no qualifiers are in force.
    pub(super) fn bare_identifier(&self) -> Error {
        let span = self.span();
        match self.peek() {
            Tok::Name(name) => {
                let shown = name.escape_debug();
                let error = Error::new(span, format!("unknown word '{shown}'"));
                if matches!(name.as_str(), "inner" | "ext") {
                    return error.suggest(format!(
                        "write '{shown} (…)': what is meant stands in parentheses"
                    ));
                }
                let terms = Whose::ALL.iter().map(|(word, _)| *word);
                let words = KEYWORDS.iter().map(|(word, _)| *word);
                match nearest(name, words.chain(terms).chain(["inner", "ext"])) {
                    Some(word) => error.suggest(format!("did you mean '{word}'?")),
                    None => error.suggest(format!("write 'host {shown}' if it is a host's name")),
                }
            }
            Tok::Mac(_) => Error::new(span, "this address needs a qualifier").suggest("write 'ether host …'"),
            _ if self
                .tokens
                .get(self.at + 1)
                .is_some_and(|t| t.tok == Tok::Op("/")) =>
            {
                Error::new(span, "this network needs a qualifier").suggest("write 'net …'")
            }
            _ => Error::new(span, "this address needs a qualifier")
                .suggest("write 'host …', 'src host …' or 'net …'"),
        }
    }

    /// `item`, which starts at `start`, stands where a condition must.
    pub(super) fn not_a_condition(&self, item: Item, start: Span) -> Error {
        let whole = start.start..self.last_span().end.max(start.end);
        match item {
            Item::Num(n) if self.peek() == &Tok::End || self.joint().is_some() => {
                Error::new(whole, format!("{n} alone says nothing")).suggest(format!("write 'port {n}'"))
            }
            Item::Num(_) | Item::Arith(_) => match self.peek() {
                Tok::End | Tok::Key(_) | Tok::Op(")") => {
                    Error::new(whole, "a number is no condition").expected("a relation, as in 'ip[8] < 5'")
                }
                _ => self.unexpected("a relation, as in 'ip[8] < 5'"),
            },
            Item::Cond(..) | Item::Ids(_) => Error::new(whole, "this is no condition"),
        }
    }
}

/// What may follow `quals`.
pub(super) fn expected_id(quals: Quals) -> &'static str {
    match quals.kind {
        Some(Kind::Host) => "an address or a host's name",
        None => "an address, a host's name, or 'host', 'net', 'port' or 'portrange'",
        Some(Kind::Net) => "a network, as in '10.0.0.0/8'",
        Some(Kind::Port) => "a port's number or name",
        Some(Kind::PortRange) => "two ports, as in '1000-2000'",
        Some(Kind::Proto | Kind::ProtoChain) => "a protocol's number or name",
    }
}
