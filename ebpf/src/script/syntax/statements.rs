//! Statements and blocks, and how to go on after one that is wrong.

use super::lex::Tok;
use super::{Failed, Parsed, Parser};
use crate::script::Diagnostic;
use crate::script::ast::*;
use crate::script::names;

/// `+=` and the like.
const ASSIGNMENTS: &[(&str, BinaryOp)] = &[
    ("+=", BinaryOp::Add),
    ("-=", BinaryOp::Sub),
    ("*=", BinaryOp::Mul),
    ("/=", BinaryOp::Div),
    ("%=", BinaryOp::Mod),
    ("&=", BinaryOp::And),
    ("|=", BinaryOp::Or),
    ("^=", BinaryOp::Xor),
    ("<<=", BinaryOp::Shl),
    (">>=", BinaryOp::Shr),
];

impl Parser<'_> {
    /// `{ … }` whose last expression may be a value.
    pub(super) fn block(&mut self) -> Parsed<Block> {
        let open = self.expect("{", "here")?;
        self.inside(|this| this.deeper(3, |this| this.statements(open)))
    }

    /// `{ … }` that is never a value.
    pub(super) fn body(&mut self) -> Parsed<Block> {
        let block = self.block()?;
        Ok(without_value(block))
    }

    fn statements(&mut self, open: Span) -> Parsed<Block> {
        let mut block = Block::default();
        loop {
            while self.eat(";") {}
            if self.is("}") {
                break;
            }
            if *self.peek() == Tok::End {
                return self.fail(Diagnostic::error(open, "no '}' closes this"));
            }
            if self.gave_up() {
                return Err(Failed);
            }
            let start = self.here();
            let depth = self.depth;
            let before = std::mem::take(&mut self.tallest);
            let parsed = self.statement();
            let height = self.tallest;
            self.tallest = before.max(height);
            let ends = match parsed {
                Ok((kind, ends)) => {
                    let span = start.to(self.last);
                    block.statements.push(Stmt { kind, span });
                    ends
                }
                Err(Failed) => {
                    self.depth = depth;
                    self.recover(start);
                    continue;
                }
            };
            if self.eat(";") || ends && !self.is("}") {
                continue;
            }
            if self.is("}") {
                self.set_value(&mut block, height);
                break;
            }
            let end = self.last.end as usize;
            let found = self.peek().describe();
            let message = format!("expected ';' after this statement, found {found}");
            let place = Span::new(end, end);
            self.diagnostics.push(Diagnostic::error(place, message));
            let next = self.here().start as usize;
            if !self.source.text[end.min(next)..next].contains('\n') {
                self.recover(start);
            }
        }
        let close = self.take().span;
        block.span = open.to(close);
        Ok(block)
    }

    /// Goes to behind the statement that starts at `start`: the next semicolon or closing brace on this level.
    fn recover(&mut self, start: Span) {
        let count = self.diagnostics.len();
        let mut open = 0u32;
        if self.last.end <= start.start && !self.is("}") && !self.is("{") {
            self.take();
        }
        loop {
            match self.peek() {
                Tok::End => break,
                Tok::Sign("{") => open += 1,
                Tok::Sign("}") if open == 0 => break,
                Tok::Sign("}") => {
                    open -= 1;
                    if open == 0 {
                        self.take();
                        break;
                    }
                }
                Tok::Sign(";") if open == 0 => {
                    self.take();
                    break;
                }
                _ => {}
            }
            self.take();
        }
        self.diagnostics.truncate(count);
    }

    /// Makes the last statement, of `height`, the block's value if it is an expression or something that has a value.
    fn set_value(&mut self, block: &mut Block, height: u32) {
        let Some(last) = block.statements.pop() else {
            return;
        };
        let before = std::mem::replace(&mut self.tallest, height);
        let made = match last.kind {
            StmtKind::Expr(expr) => Ok(expr),
            StmtKind::If(branches) if has_value(&branches) => self.make(ExprKind::If(branches), last.span),
            StmtKind::Block(inner) if inner.value.is_some() => {
                self.make(ExprKind::Block(Box::new(inner)), last.span)
            }
            kind => {
                let kind = match kind {
                    StmtKind::If(branches) => StmtKind::If(Box::new(if_without_value(*branches))),
                    other => other,
                };
                block.statements.push(Stmt {
                    kind,
                    span: last.span,
                });
                Err(Failed)
            }
        };
        self.tallest = self.tallest.max(before);
        block.value = made.ok().map(Box::new);
    }

    /// A statement, and whether it needs no semicolon.
    fn statement(&mut self) -> Parsed<(StmtKind, bool)> {
        let word = match self.peek().clone() {
            Tok::Word(word) => word,
            Tok::Sign("{") => {
                let block = self.block()?;
                // A value that isn't the last thing in the outer block is dropped.
                let block = if self.is("}") { block } else { without_value(block) };
                return Ok((StmtKind::Block(block), true));
            }
            _ => return Ok((self.assignment()?, false)),
        };
        let kind = match word.as_str() {
            "if" => {
                let branches = self.if_else()?;
                let branches = if self.is("}") {
                    branches
                } else {
                    if_without_value(branches)
                };
                StmtKind::If(Box::new(branches))
            }
            "while" => {
                self.take();
                let condition = self.expression()?;
                let body = self.body()?;
                StmtKind::While { condition, body }
            }
            "unroll" => {
                self.take();
                let count = self.expression()?;
                let body = self.body()?;
                StmtKind::Unroll { count, body }
            }
            "for" => self.for_loop()?,
            "let" => return Ok((self.let_statement()?, false)),
            "break" => {
                self.take();
                return Ok((StmtKind::Break, false));
            }
            "continue" => {
                self.take();
                return Ok((StmtKind::Continue, false));
            }
            "return" => {
                self.take();
                let none = self.is(";") || self.is("}");
                let value = if none { None } else { Some(self.expression()?) };
                return Ok((StmtKind::Return(value), false));
            }
            "else" => {
                let span = self.here();
                return self.fail(Diagnostic::error(span, "this 'else' belongs to no 'if'"));
            }
            "_" if *self.peek_at(1) == Tok::Sign("=") => {
                self.take();
                self.take();
                return Ok((StmtKind::Discard(self.expression()?), false));
            }
            _ => {
                self.keyword_meant(&word)?;
                return Ok((self.assignment()?, false));
            }
        };
        Ok((kind, true))
    }

    /// A word in front of a variable, a word or a block is a misspelt keyword.
    fn keyword_meant(&mut self, word: &str) -> Parsed<()> {
        let span = self.here();
        if !matches!(self.peek_at(1), Tok::Word(_) | Tok::Variable(_) | Tok::Map(_)) {
            return Ok(());
        }
        let error = Diagnostic::error(span, format!("no statement begins with '{word}'"));
        match names::nearest(word, names::STATEMENTS.iter().copied()) {
            Some(keyword) => self.fail(error.hint(format!("did you mean '{keyword}'?"))),
            None => self.fail(error),
        }
    }

    fn assignment(&mut self) -> Parsed<StmtKind> {
        let target = self.expression()?;
        let op = match *self.peek() {
            Tok::Sign("=") => None,
            Tok::Sign(sign) => match ASSIGNMENTS.iter().find(|(text, _)| *text == sign) {
                Some((_, op)) => Some(*op),
                None => return Ok(StmtKind::Expr(target)),
            },
            _ => return Ok(StmtKind::Expr(target)),
        };
        let refused = match &target.kind {
            ExprKind::Variable(_) | ExprKind::Map { .. } => None,
            ExprKind::TupleField(..) | ExprKind::Index(..) => Some("tuples and arrays can't be changed"),
            ExprKind::Field(..) | ExprKind::Unary(UnaryOp::Deref, _) => Some("memory is only read"),
            ExprKind::Name(name) if !names::BUILTINS.contains(&name.as_str()) => {
                Some("a variable's name starts with '$', a map's with '@'")
            }
            _ => Some("only variables ($name) and maps (@name) can be"),
        };
        if let Some(reason) = refused {
            let error = Diagnostic::error(target.span, "this can't be assigned to");
            return self.fail(error.hint(reason));
        }
        self.take();
        let value = self.expression()?;
        if self.is("=") {
            let span = self.here();
            let error = Diagnostic::error(span, "an assignment has no value");
            return self.fail(error.hint("write one statement for each"));
        }
        Ok(StmtKind::Assign { target, op, value })
    }

    fn let_statement(&mut self) -> Parsed<StmtKind> {
        self.take();
        let name = self.variable()?;
        let ty = if self.eat(":") {
            Some(self.type_name()?)
        } else {
            None
        };
        let value = if self.eat("=") {
            Some(self.expression()?)
        } else {
            None
        };
        Ok(StmtKind::Let { name, ty, value })
    }

    /// `$name`
    pub(super) fn variable(&mut self) -> Parsed<Ident> {
        let span = self.here();
        match self.peek().clone() {
            Tok::Variable(name) => {
                self.take();
                Ok(Ident { name, span })
            }
            Tok::Word(name) if !names::KEYWORDS.contains(&name.as_str()) => {
                let error = Diagnostic::error(span, format!("expected a variable, found '{name}'"));
                self.fail(error.hint(format!("did you mean '${name}'?")))
            }
            _ => self.unexpected("a variable ($name)"),
        }
    }

    /// `if c { … } else …`
    pub(super) fn if_else(&mut self) -> Parsed<If> {
        self.nested(|this| {
            this.take();
            let condition = this.inside(Self::expression)?;
            if this.is("=") {
                let span = this.here();
                let error = Diagnostic::error(span, "an assignment is no condition");
                return this.fail(error.hint("did you mean '=='?"));
            }
            let then = this.block()?;
            let otherwise = if !this.eat_word("else") {
                None
            } else if this.is_word("if") {
                let start = this.here();
                let branches = this.if_else()?;
                let span = start.to(this.last);
                let mut block = Block {
                    span,
                    ..Block::default()
                };
                if has_value(&branches) {
                    block.value = Some(Box::new(this.make(ExprKind::If(Box::new(branches)), span)?));
                } else {
                    let kind = StmtKind::If(Box::new(if_without_value(branches)));
                    block.statements.push(Stmt { kind, span });
                }
                Some(block)
            } else {
                Some(this.block()?)
            };
            Ok(If {
                condition,
                then,
                otherwise,
            })
        })
    }

    /// `for ($x : …) { … }` with or without brackets.
    fn for_loop(&mut self) -> Parsed<StmtKind> {
        self.take();
        let bracket = self.eat("(");
        let variable = self.variable()?;
        self.expect(":", "and a map or a range (0..10)")?;
        let from = self.expression()?;
        let to = if self.eat("..") {
            Some(self.expression()?)
        } else {
            None
        };
        if bracket {
            self.expect(")", "after what the loop goes over")?;
        }
        let body = self.body()?;
        if let Some(to) = to {
            return Ok(StmtKind::ForRange {
                variable,
                from,
                to,
                body,
            });
        }
        match from.kind {
            ExprKind::Map { name, key: None } => {
                let map = Ident {
                    name,
                    span: from.span,
                };
                Ok(StmtKind::ForMap { variable, map, body })
            }
            _ => {
                let error = Diagnostic::error(from.span, "a loop goes over a map (@name) or a range (0..10)");
                self.fail(error)
            }
        }
    }
}

/// Every way through it ends with a value.
fn has_value(branches: &If) -> bool {
    let otherwise = branches.otherwise.as_ref();
    branches.then.value.is_some() && otherwise.is_some_and(|block| block.value.is_some())
}

/// Makes a statement of a block's value.
fn without_value(mut block: Block) -> Block {
    if let Some(value) = block.value.take() {
        let span = value.span;
        let kind = match value.kind {
            ExprKind::If(branches) => StmtKind::If(Box::new(if_without_value(*branches))),
            ExprKind::Block(inner) => StmtKind::Block(without_value(*inner)),
            _ => StmtKind::Expr(*value),
        };
        block.statements.push(Stmt { kind, span });
    }
    block
}

fn if_without_value(branches: If) -> If {
    If {
        condition: branches.condition,
        then: without_value(branches.then),
        otherwise: branches.otherwise.map(without_value),
    }
}
