//! Terms that pcap-filter doesn't have.

use super::{Item, Parser};
use crate::filter::Error;
use crate::filter::ast::*;
use crate::filter::lex::Tok;

impl Parser {
    /// Whether a name starts a term that pcap-filter doesn't have. These names are no keywords, so that hosts may be
    /// called that: a name before a parenthesis, a value or an operator stands nowhere else in the language.
    pub(super) fn starts_term(&self, name: &str, inherited: bool) -> bool {
        let next = self.peek_at(1);
        let value = matches!(
            next,
            Tok::Num(_) | Tok::Name(_) | Tok::Text(_) | Tok::Op("=" | "!=")
        );
        match name {
            "inner" | "ext" => next == &Tok::Op("("),
            _ if name.starts_with("skb.") => !inherited || matches!(next, Tok::Op(op) if !"()".contains(*op)),
            _ => Whose::ALL.iter().any(|(word, _)| *word == name) && (!inherited || value),
        }
    }

    /// Such a term.
    pub(super) fn named_term(&mut self, name: &str) -> Result<Item, Error> {
        let start = self.span();
        if name.starts_with("skb.") {
            return self.relation(None, start);
        }
        self.next();
        if let Some((_, whose)) = Whose::ALL.iter().find(|(word, _)| *word == name) {
            let ast = self.whose(*whose, start)?;
            return Ok(Item::Cond(ast, None));
        }
        self.enter()?;
        let open = self.span();
        self.next();
        let content = self.span();
        let inside = match self.list(None)? {
            Item::Cond(ast, _) => Box::new(ast),
            other => return Err(self.not_a_condition(other, content)),
        };
        if !self.take_op(")") {
            return Err(self.unclosed(open));
        }
        self.depth -= 1;
        let ast = match name {
            "inner" => Ast::Inner(inside, start),
            _ => Ast::Ext(inside),
        };
        Ok(Item::Cond(ast, None))
    }

    /// What follows `pid` and its like: a value, perhaps behind `=` or `!=`.
    fn whose(&mut self, whose: Whose, start: Span) -> Result<Ast, Error> {
        let negated = self.take_op("!=");
        if !negated {
            self.take_op("=");
        }
        let value = match self.peek().clone() {
            Tok::Num(number) => Value::Number(number),
            Tok::Name(text) | Tok::Text(text) => Value::Text(text),
            Tok::Key(word) if !matches!(word, "and" | "or" | "not") => Value::Text(word.into()),
            _ => {
                let error = self.unexpected(match whose {
                    Whose::Pid => "a process's number",
                    Whose::Comm => "a process's name",
                    Whose::Cgroup => "a cgroup's path below the hierarchy's root, or its id",
                    Whose::Netns => "a network namespace's name, path or inode",
                });
                return Err(match self.peek() {
                    Tok::Op("/") => error.suggest("write a path in quotes"),
                    _ => error,
                });
            }
        };
        self.next();
        Ok(Ast::Whose {
            whose,
            negated,
            value,
            span: start.start..self.last_span().end,
        })
    }
}
