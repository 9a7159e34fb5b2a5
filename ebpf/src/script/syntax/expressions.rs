//! Expressions: precedence climbing for binary operators, then unary, postfix and primary ones.

use super::lex::Tok;
use super::{Failed, Guess, Parsed, Parser};
use crate::script::Diagnostic;
use crate::script::ast::*;
use crate::script::names;

/// Binary operators from the weakest to the strongest.
const LEVELS: &[&[BinaryOp]] = &[
    &[BinaryOp::LogicalOr],
    &[BinaryOp::LogicalAnd],
    &[BinaryOp::Or],
    &[BinaryOp::Xor],
    &[BinaryOp::And],
    &[BinaryOp::Eq, BinaryOp::Ne],
    &[BinaryOp::Lt, BinaryOp::Gt, BinaryOp::Le, BinaryOp::Ge],
    &[BinaryOp::Shl, BinaryOp::Shr],
    &[BinaryOp::Add, BinaryOp::Sub],
    &[BinaryOp::Mul, BinaryOp::Div, BinaryOp::Mod],
];

const UNARY: &[UnaryOp] = &[
    UnaryOp::Neg,
    UnaryOp::Not,
    UnaryOp::BitNot,
    UnaryOp::Deref,
    UnaryOp::AddressOf,
];

impl Parser<'_> {
    pub(super) fn expression(&mut self) -> Parsed<Expr> {
        self.nested(|this| {
            let condition = this.binary(0)?;
            if this.eat("?:") {
                let otherwise = this.expression()?;
                return this.ternary(condition, None, otherwise);
            }
            if !this.eat("?") {
                return Ok(condition);
            }
            let then = this.inside(Self::expression)?;
            this.expect(":", "and the value for when the condition doesn't hold")?;
            let otherwise = this.expression()?;
            this.ternary(condition, Some(Box::new(then)), otherwise)
        })
    }

    fn ternary(&mut self, condition: Expr, then: Option<Box<Expr>>, otherwise: Expr) -> Parsed<Expr> {
        let span = condition.span.to(otherwise.span);
        self.make(
            ExprKind::Ternary(Box::new(condition), then, Box::new(otherwise)),
            span,
        )
    }

    /// Runs `inner` between brackets, where a `/` never ends a predicate.
    pub(super) fn inside<T>(&mut self, inner: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        let before = std::mem::replace(&mut self.in_predicate, false);
        let result = inner(self);
        self.in_predicate = before;
        result
    }

    /// The operator of at least `level` that comes next, and its level.
    fn operator(&mut self, level: usize) -> Option<(BinaryOp, usize)> {
        let Tok::Sign(sign) = *self.peek() else {
            return None;
        };
        let (found, op) = LEVELS.iter().enumerate().skip(level).find_map(|(found, ops)| {
            let op = ops.iter().find(|op| op.symbol() == sign)?;
            Some((found, *op))
        })?;
        if op == BinaryOp::Div && self.in_predicate && *self.peek_at(1) == Tok::Sign("{") {
            return None;
        }
        Some((op, found))
    }

    fn binary(&mut self, level: usize) -> Parsed<Expr> {
        let mut left = self.unary()?;
        while let Some((op, found)) = self.operator(level) {
            self.take();
            let right = self.nested(|this| this.binary(found + 1))?;
            let span = left.span.to(right.span);
            left = self.make(ExprKind::Binary(op, Box::new(left), Box::new(right)), span)?;
        }
        Ok(left)
    }

    fn unary(&mut self) -> Parsed<Expr> {
        self.nested(|this| {
            let start = this.here();
            match this.peek().clone() {
                Tok::Sign(sign @ ("++" | "--")) => {
                    this.take();
                    let target = this.unary()?;
                    this.step(target, sign == "++", true, start)
                }
                Tok::Sign("(") => match this.cast() {
                    Some(ty) => {
                        let value = this.unary()?;
                        let span = start.to(value.span);
                        this.make(ExprKind::Cast(ty, Box::new(value)), span)
                    }
                    None => this.postfix(),
                },
                Tok::Sign("&&") => {
                    let error = Diagnostic::error(start, "expected an expression, found '&&'");
                    this.fail(error)
                }
                Tok::Sign(sign) => match UNARY.iter().find(|op| op.symbol() == sign) {
                    Some(op) => {
                        this.take();
                        let operand = this.unary()?;
                        let span = start.to(operand.span);
                        this.make(ExprKind::Unary(*op, Box::new(operand)), span)
                    }
                    None => this.postfix(),
                },
                Tok::Word(word) if word == "comptime" => {
                    this.take();
                    let operand = this.unary()?;
                    let span = start.to(operand.span);
                    this.make(ExprKind::Comptime(Box::new(operand)), span)
                }
                _ => this.postfix(),
            }
        })
    }

    /// `(type)` in front of an operand.
    fn cast(&mut self) -> Option<Type> {
        self.guess(Guess::Cast, |this| {
            let start = this.take().span;
            let mut types = vec![this.type_name()?];
            while this.eat(",") {
                types.push(this.type_name()?);
            }
            this.expect(")", "")?;
            let span = start.to(this.last);
            let ty = match (types.len(), types.pop()) {
                (1, Some(only)) => only,
                (_, last) => {
                    types.extend(last);
                    let kind = TypeKind::Tuple(types);
                    Type { kind, span }
                }
            };
            let operand = match this.peek() {
                Tok::Word(_)
                | Tok::Variable(_)
                | Tok::Map(_)
                | Tok::Integer(_)
                | Tok::String(_)
                | Tok::Positional(_)
                | Tok::PositionalCount
                | Tok::Sign("(" | "!" | "~") => true,
                Tok::Sign("-" | "*" | "&" | "++" | "--" | "+") => is_plainly_a_type(&ty),
                _ => false,
            };
            if operand && !is_a_builtin(&ty) {
                Ok(ty)
            } else {
                Err(Failed)
            }
        })
    }

    /// Tries `inner`, which goes on from here, or goes back here without complaints.
    fn guess<T>(&mut self, guess: Guess, inner: impl FnOnce(&mut Self) -> Parsed<T>) -> Option<T> {
        self.fill(1);
        let key = (guess, self.queue[0].span.start, self.queue[0].part);
        if self.wrong_guesses.contains(&key) {
            return None;
        }
        let saved = self.save();
        let result = self.inside(inner).ok();
        if result.is_none() {
            self.restore(saved);
            self.wrong_guesses.insert(key);
        }
        result
    }

    fn step(&mut self, target: Expr, increment: bool, prefix: bool, start: Span) -> Parsed<Expr> {
        let span = start.to(target.span).to(self.last);
        if !matches!(target.kind, ExprKind::Variable(_) | ExprKind::Map { .. }) {
            let sign = if increment { "++" } else { "--" };
            let error = Diagnostic::error(
                target.span,
                format!("{sign} works on a variable or a map's value only"),
            );
            return self.fail(error);
        }
        let target = Box::new(target);
        self.make(
            ExprKind::Step {
                target,
                increment,
                prefix,
            },
            span,
        )
    }

    fn postfix(&mut self) -> Parsed<Expr> {
        let mut object = self.primary()?;
        loop {
            let start = object.span;
            match self.peek().clone() {
                Tok::Sign("." | "->") => {
                    self.take();
                    let name = self.peek().clone();
                    let span = self.here();
                    let kind = match name {
                        Tok::Word(name) => {
                            self.take();
                            ExprKind::Field(Box::new(object), Ident { name, span })
                        }
                        Tok::Integer(index) if index <= 1000 => {
                            self.take();
                            ExprKind::TupleField(Box::new(object), index as u32)
                        }
                        _ => return self.unexpected("a field's name or a number"),
                    };
                    object = self.make(kind, start.to(span))?;
                }
                Tok::Sign("[") => {
                    self.take();
                    let index = self.inside(Self::expression)?;
                    let end = self.expect("]", "after the index")?;
                    object = self.make(ExprKind::Index(Box::new(object), Box::new(index)), start.to(end))?;
                }
                Tok::Sign(sign @ ("++" | "--")) => {
                    self.take();
                    object = self.step(object, sign == "++", false, start)?;
                }
                _ => return Ok(object),
            }
        }
    }

    fn primary(&mut self) -> Parsed<Expr> {
        let span = self.here();
        let kind = match self.peek().clone() {
            Tok::Integer(value) => ExprKind::Integer(value),
            Tok::String(value) => ExprKind::String(value),
            Tok::Variable(name) => ExprKind::Variable(name),
            Tok::Positional(index) => {
                let text = self.options.positional.get(index as usize - 1).cloned();
                ExprKind::Positional(index, text)
            }
            Tok::PositionalCount => ExprKind::PositionalCount(self.options.positional.len() as u64),
            Tok::Map(name) => {
                self.take();
                return self.map(name, span);
            }
            Tok::Word(word) => return self.word(&word),
            Tok::Sign("(") => return self.parenthesised(),
            Tok::Sign("{") => {
                return self.make_of_blocks(|this| Ok(ExprKind::Block(Box::new(this.block()?))));
            }
            _ => return self.unexpected("an expression"),
        };
        self.take();
        self.make(kind, span)
    }

    fn map(&mut self, name: String, span: Span) -> Parsed<Expr> {
        if !self.is("[") {
            return self.make(ExprKind::Map { name, key: None }, span);
        }
        let open = self.take().span;
        if self.is("]") {
            let end = self.take().span;
            return self.fail(Diagnostic::error(
                open.to(end),
                format!("the key of @{name} is missing"),
            ));
        }
        let mut keys = self.inside(|this| this.list("]", "after the key"))?;
        let end = self.last;
        let key = match (keys.len(), keys.pop()) {
            (1, Some(only)) => only,
            (_, last) => {
                keys.extend(last);
                let first = keys.first().map_or(open, |key| key.span);
                let span = first.to(keys.last().map_or(open, |key| key.span));
                self.make(ExprKind::Tuple(keys), span)?
            }
        };
        let key = Some(Box::new(key));
        self.make(ExprKind::Map { name, key }, span.to(end))
    }

    /// Expressions between commas up to `close`, which is taken.
    fn list(&mut self, close: &'static str, context: &str) -> Parsed<Vec<Expr>> {
        let mut list = Vec::new();
        while !self.is(close) {
            list.push(self.expression()?);
            if !self.eat(",") {
                break;
            }
        }
        if !self.is(close) {
            return self.unexpected(&format!("',' or '{close}' {context}"));
        }
        self.take();
        Ok(list)
    }

    fn word(&mut self, word: &str) -> Parsed<Expr> {
        let span = self.here();
        if word == "if" {
            return self.make_of_blocks(|this| Ok(ExprKind::If(Box::new(this.if_else()?))));
        }
        if names::KEYWORDS.contains(&word) && !matches!(word, "sizeof" | "offsetof") {
            return self.unexpected("an expression");
        }
        self.take();
        match word {
            "true" | "false" => return self.make(ExprKind::Bool(word == "true"), span),
            "sizeof" | "offsetof" | "container_of" | "typeinfo" if self.is("(") => {
                self.take();
                let kind = self.inside(|this| this.about_types(word))?;
                let end = self.expect(")", &format!("after {word}'s operands"))?;
                return self.make(kind, span.to(end));
            }
            _ => {}
        }
        if !self.is("(") {
            return self.make(ExprKind::Name(word.to_string()), span);
        }
        self.take();
        let args = self.inside(|this| this.list(")", &format!("after {word}'s arguments")))?;
        let end = self.last;
        let name = word.to_string();
        if args.is_empty() && names::BUILTINS.contains(&word) {
            return self.make(ExprKind::Name(name), span.to(end));
        }
        let name = Ident { name, span };
        self.make(ExprKind::Call { name, args }, span.to(end))
    }

    fn about_types(&mut self, word: &str) -> Parsed<ExprKind> {
        if word == "container_of" {
            let pointer = self.expression()?;
            self.expect(",", "and the type that contains it")?;
            let ty = self.type_name()?;
            self.expect(",", "and the field")?;
            let path = self.path()?;
            return Ok(ExprKind::ContainerOf(Box::new(pointer), ty, path));
        }
        let operand = Box::new(self.type_or_expression()?);
        match word {
            "sizeof" => Ok(ExprKind::SizeOf(operand)),
            "typeinfo" => Ok(ExprKind::TypeInfo(operand)),
            _ => {
                self.expect(",", "and the field")?;
                Ok(ExprKind::OffsetOf(operand, self.path()?))
            }
        }
    }

    /// `a.b.c`
    fn path(&mut self) -> Parsed<Vec<Ident>> {
        let mut path = Vec::new();
        loop {
            path.push(self.name("a field's name")?);
            if !self.eat(".") {
                return Ok(path);
            }
        }
    }

    pub(super) fn type_or_expression(&mut self) -> Parsed<TypeOrExpr> {
        let ty = self.guess(Guess::Type, |this| {
            let ty = this.type_name()?;
            let ends = this.is(")") || this.is(",");
            if ends && !is_a_builtin(&ty) {
                Ok(ty)
            } else {
                Err(Failed)
            }
        });
        match ty {
            Some(ty) => Ok(TypeOrExpr::Type(ty)),
            None => Ok(TypeOrExpr::Expr(self.expression()?)),
        }
    }

    /// Behind a `(` that starts no cast: a tuple, a record or an expression.
    fn parenthesised(&mut self) -> Parsed<Expr> {
        let start = self.take().span;
        self.inside(|this| {
            if this.is(")") {
                let end = this.take().span;
                return this.make(ExprKind::Tuple(vec![]), start.to(end));
            }
            if matches!(this.peek(), Tok::Word(_)) && *this.peek_at(1) == Tok::Sign("=") {
                return this.record(start);
            }
            let first = this.expression()?;
            if this.is(",") {
                this.take();
                let mut elements = vec![first];
                elements.extend(this.list(")", "after the tuple's elements")?);
                return this.make(ExprKind::Tuple(elements), start.to(this.last));
            }
            this.expect(")", "to close the bracket")?;
            Ok(first)
        })
    }

    fn record(&mut self, start: Span) -> Parsed<Expr> {
        let mut fields: Vec<(Ident, Expr)> = Vec::new();
        while !self.is(")") {
            let name = self.name("a field's name")?;
            self.expect("=", "after the field's name")?;
            if fields.iter().any(|(other, _)| other.name == name.name) {
                self.error(
                    name.span,
                    format!("the record has a field '{}' already", name.name),
                );
            }
            fields.push((name, self.expression()?));
            if !self.eat(",") {
                break;
            }
        }
        let end = self.expect(")", "after the record's fields")?;
        self.make(ExprKind::Record(fields), start.to(end))
    }

    /// A bare word.
    pub(super) fn name(&mut self, expected: &str) -> Parsed<Ident> {
        let span = self.here();
        match self.peek().clone() {
            Tok::Word(name) => {
                self.take();
                Ok(Ident { name, span })
            }
            _ => self.unexpected(expected),
        }
    }
}

/// A type that can't be an expression's name.
fn is_plainly_a_type(ty: &Type) -> bool {
    match &ty.kind {
        TypeKind::Named(name) => name.ends_with("_t"),
        TypeKind::Array(inner, _) => is_plainly_a_type(inner),
        TypeKind::Tuple(inner) => inner.iter().all(is_plainly_a_type),
        _ => true,
    }
}

/// A name that is an expression rather than a type.
fn is_a_builtin(ty: &Type) -> bool {
    match &ty.kind {
        TypeKind::Named(name) => {
            names::BUILTINS.contains(&name.as_str()) || name == "true" || name == "false"
        }
        TypeKind::Array(inner, _) | TypeKind::Pointer(inner) => is_a_builtin(inner),
        TypeKind::Tuple(inner) => inner.iter().any(is_a_builtin),
        _ => false,
    }
}
