//! Types in casts and lets, and C's definitions of structs, unions, enums and typedefs.

use super::lex::Tok;
use super::{Parsed, Parser};
use crate::script::Diagnostic;
use crate::script::ast::*;
use crate::script::names;

/// The words that C makes integers of.
const C_WORDS: &[&str] = &["unsigned", "signed", "char", "short", "int", "long", "_Bool"];
/// The longest array, in elements.
const MAX_ELEMENTS: u64 = 1 << 20;

/// Integers with their bits in the name.
fn sized(name: &str) -> Option<TypeKind> {
    let (bits, signed) = match name {
        "int8" | "int8_t" | "s8" | "__s8" => (8, true),
        "int16" | "int16_t" | "s16" | "__s16" => (16, true),
        "int32" | "int32_t" | "s32" | "__s32" => (32, true),
        "int64" | "int64_t" | "s64" | "__s64" => (64, true),
        "uint8" | "uint8_t" | "u8" | "__u8" => (8, false),
        "uint16" | "uint16_t" | "u16" | "__u16" => (16, false),
        "uint32" | "uint32_t" | "u32" | "__u32" => (32, false),
        "uint64" | "uint64_t" | "u64" | "__u64" => (64, false),
        _ => return None,
    };
    Some(TypeKind::Int { bits, signed })
}

impl Parser<'_> {
    /// A type as casts and lets have it, stars and brackets included.
    pub(super) fn type_name(&mut self) -> Parsed<Type> {
        self.nested(|this| {
            let start = this.here();
            if this.eat("*") {
                let inner = this.type_name()?;
                let span = start.to(inner.span);
                let kind = TypeKind::Pointer(Box::new(inner));
                return Ok(Type { kind, span });
            }
            let mut ty = if this.eat("(") {
                let mut types = vec![this.type_name()?];
                while this.eat(",") {
                    types.push(this.type_name()?);
                }
                let end = this.expect(")", "after the tuple's types")?;
                Type {
                    kind: TypeKind::Tuple(types),
                    span: start.to(end),
                }
            } else {
                this.base_type()?
            };
            let mut layers = 0;
            loop {
                if this.eat("*") {
                    ty = pointer(ty, this.last);
                } else if this.is("[") {
                    ty = this.array(ty)?;
                } else if this.is_word("const") || this.is_word("volatile") {
                    this.take();
                    continue;
                } else {
                    return Ok(ty);
                }
                layers += 1;
                if layers > 16 {
                    let error = Diagnostic::error(ty.span, "more than 16 stars and brackets in one type");
                    return this.fail(error);
                }
            }
        })
    }

    /// `[N]` behind a type.
    fn array(&mut self, inner: Type) -> Parsed<Type> {
        self.expect("[", "")?;
        let len = if self.is("]") { None } else { Some(self.length()?) };
        let end = self.expect("]", "after the array's length")?;
        let span = inner.span.to(end);
        let kind = TypeKind::Array(Box::new(inner), len);
        Ok(Type { kind, span })
    }

    fn length(&mut self) -> Parsed<u64> {
        let expr = self.inside(Self::expression)?;
        match self.constant(&expr) {
            Some(len) if (0..=MAX_ELEMENTS as i64).contains(&len) => Ok(len as u64),
            Some(_) => self.fail(Diagnostic::error(
                expr.span,
                format!("a length is a number from 0 to {MAX_ELEMENTS}"),
            )),
            None => self.fail(Diagnostic::error(expr.span, "a length must be a constant number")),
        }
    }

    /// A type without stars and brackets behind it, but with the length of `string[N]`.
    fn base_type(&mut self) -> Parsed<Type> {
        while self.eat_word("const") || self.eat_word("volatile") {}
        let start = self.here();
        let Tok::Word(word) = self.peek().clone() else {
            return self.unexpected("a type");
        };
        if C_WORDS.contains(&word.as_str()) {
            return self.c_integer();
        }
        if names::KEYWORDS.contains(&word.as_str()) && !names::TYPE_KEYWORDS.contains(&word.as_str()) {
            return self.unexpected("a type");
        }
        self.take();
        let kind = match word.as_str() {
            "struct" => TypeKind::Struct(self.name("the struct's name")?.name),
            "union" => TypeKind::Union(self.name("the union's name")?.name),
            "enum" => TypeKind::Enum(self.name("the enum's name")?.name),
            "void" => TypeKind::Void,
            "bool" => TypeKind::Bool,
            "inet" => TypeKind::Inet,
            "string" | "buffer" => {
                let mut len = None;
                if self.eat("[") {
                    if !self.is("]") {
                        len = Some(self.length()?);
                    }
                    self.expect("]", "after the length")?;
                }
                if word == "string" {
                    TypeKind::String(len)
                } else {
                    TypeKind::Buffer(len)
                }
            }
            "typeof" => {
                self.expect("(", "after typeof")?;
                let operand = self.inside(Self::type_or_expression)?;
                self.expect(")", "after typeof's operand")?;
                TypeKind::TypeOf(Box::new(operand))
            }
            _ => sized(&word).unwrap_or(TypeKind::Named(word)),
        };
        let span = start.to(self.last);
        Ok(Type { kind, span })
    }

    /// `unsigned long int` and the like.
    fn c_integer(&mut self) -> Parsed<Type> {
        let start = self.here();
        let (mut signed, mut bits, mut boolean) = (true, 32, false);
        while let Tok::Word(word) = self.peek().clone() {
            match word.as_str() {
                "unsigned" => signed = false,
                "signed" | "int" | "const" | "volatile" => {}
                "char" => bits = 8,
                "short" => bits = 16,
                "long" => bits = 64,
                "_Bool" => boolean = true,
                _ => break,
            }
            self.take();
        }
        let span = start.to(self.last);
        let kind = if boolean {
            TypeKind::Bool
        } else {
            TypeKind::Int { bits, signed }
        };
        Ok(Type { kind, span })
    }

    /// `struct X { … };`, `enum X { … };`, `typedef … X;` at the top of a script.
    pub(super) fn definition(&mut self) -> Parsed<()> {
        let start = self.here();
        if self.eat_word("typedef") {
            let base = self.c_type()?;
            let (name, ty) = self.declarator(base)?;
            let Some(name) = name else {
                return self.unexpected("the new type's name");
            };
            self.expect(";", "after the typedef")?;
            let span = start.to(self.last);
            self.script.types.push(TypeDef {
                name: Some(name),
                kind: TypeDefKind::Typedef(ty),
                span,
            });
            return Ok(());
        }
        let ty = self.c_type()?;
        self.eat(";");
        if let TypeKind::Inline(definition) = ty.kind {
            if definition.name.is_none() && !matches!(definition.kind, TypeDefKind::Enum(_)) {
                self.error(
                    definition.span,
                    "a definition at the top of a script needs a name",
                );
            }
            self.script.types.push(*definition);
        }
        Ok(())
    }

    /// A C type that may be defined on the spot.
    fn c_type(&mut self) -> Parsed<Type> {
        self.nested(|this| {
            let start = this.here();
            let defines = match this.peek() {
                Tok::Word(word) if matches!(word.as_str(), "struct" | "union" | "enum") => {
                    *this.peek_at(1) == Tok::Sign("{") || *this.peek_at(2) == Tok::Sign("{")
                }
                _ => false,
            };
            if !defines {
                return this.base_type();
            }
            let keyword = this.name("")?.name;
            let name = if this.is("{") {
                None
            } else {
                Some(this.name("a name")?)
            };
            let open = this.expect("{", "")?;
            let mut kind = match keyword.as_str() {
                "enum" => TypeDefKind::Enum(this.enumerators(open)?),
                "union" => TypeDefKind::Union(this.members(open)?),
                _ => TypeDefKind::Struct(this.members(open)?, false),
            };
            if this.attributes()?
                && let TypeDefKind::Struct(_, packed) = &mut kind
            {
                *packed = true;
            }
            let span = start.to(this.last);
            let definition = TypeDef { name, kind, span };
            Ok(Type {
                kind: TypeKind::Inline(Box::new(definition)),
                span,
            })
        })
    }

    /// `__attribute__((…))`; says whether it was `packed`.
    fn attributes(&mut self) -> Parsed<bool> {
        let mut packed = false;
        while self.eat_word("__attribute__") {
            let mut open = 0;
            loop {
                match self.take().tok {
                    Tok::Sign("(") => open += 1,
                    Tok::Sign(")") => open -= 1,
                    Tok::Word(word) => packed |= matches!(word.as_str(), "packed" | "__packed__"),
                    Tok::End => return self.unexpected("')' after the attribute"),
                    _ => {}
                }
                if open <= 0 {
                    break;
                }
            }
        }
        Ok(packed)
    }

    fn enumerators(&mut self, open: Span) -> Parsed<Vec<(Ident, i64)>> {
        let mut values = Vec::new();
        let mut next = 0i64;
        while !self.eat("}") {
            if *self.peek() == Tok::End {
                return self.fail(Diagnostic::error(open, "no '}' closes this"));
            }
            let name = self.name("a constant's name")?;
            if self.eat("=") {
                let expr = self.expression()?;
                match self.constant(&expr) {
                    Some(value) => next = value,
                    None => self.error(expr.span, "an enum's value must be a constant number"),
                }
            }
            self.constants.insert(name.name.clone(), next);
            values.push((name, next));
            next = next.wrapping_add(1);
            if !self.eat(",") && !self.is("}") {
                return self.unexpected("',' or '}' after the constant");
            }
        }
        Ok(values)
    }

    fn members(&mut self, open: Span) -> Parsed<Vec<Member>> {
        let mut members = Vec::new();
        while !self.eat("}") {
            if *self.peek() == Tok::End {
                return self.fail(Diagnostic::error(open, "no '}' closes this"));
            }
            let base = self.c_type()?;
            if self.eat(";") {
                // An anonymous struct or union: its fields are the outer one's.
                members.push(Member {
                    name: None,
                    ty: base,
                    bits: None,
                });
                continue;
            }
            loop {
                let (name, ty) = match self.is(":") {
                    true => (None, base.clone()),
                    false => self.declarator(base.clone())?,
                };
                let mut bits = None;
                if self.eat(":") {
                    bits = Some(self.length()?.min(64) as u8);
                }
                members.push(Member { name, ty, bits });
                if !self.eat(",") {
                    break;
                }
                // Each further declarator repeats the base type: bounded by the text's length, but not its product.
                if matches!(base.kind, TypeKind::Inline(_)) {
                    let span = self.here();
                    return self.fail(Diagnostic::error(span, "only one field can follow a definition"));
                }
            }
            self.attributes()?;
            self.expect(";", "after the field")?;
        }
        Ok(members)
    }

    /// `* name [N]` behind `base`; function pointers are pointers to nothing.
    fn declarator(&mut self, base: Type) -> Parsed<(Option<Ident>, Type)> {
        let mut ty = base;
        let mut stars = 0;
        loop {
            if self.eat("*") {
                ty = pointer(ty, self.last);
                stars += 1;
            } else if !(self.eat_word("const") || self.eat_word("volatile") || self.eat_word("restrict")) {
                break;
            }
            if stars > 16 {
                return self.unexpected("a name after so many stars");
            }
        }
        if self.is("(") && *self.peek_at(1) == Tok::Sign("*") {
            return self.function_pointer(ty.span);
        }
        let name = self.name("a field's name")?;
        let mut lengths = Vec::new();
        while self.eat("[") {
            lengths.push(if self.is("]") { None } else { Some(self.length()?) });
            self.expect("]", "after the array's length")?;
            if lengths.len() > 16 {
                return self.unexpected("fewer brackets");
            }
        }
        let span = ty.span.to(self.last);
        for len in lengths.into_iter().rev() {
            let kind = TypeKind::Array(Box::new(ty), len);
            ty = Type { kind, span };
        }
        Ok((Some(name), ty))
    }

    fn function_pointer(&mut self, start: Span) -> Parsed<(Option<Ident>, Type)> {
        self.take();
        self.take();
        let name = self.name("the function pointer's name")?;
        self.expect(")", "after the name")?;
        self.expect("(", "and the parameters")?;
        let mut open = 1;
        while open > 0 {
            match self.take().tok {
                Tok::Sign("(") => open += 1,
                Tok::Sign(")") => open -= 1,
                Tok::End => return self.unexpected("')' after the parameters"),
                _ => {}
            }
        }
        let span = start.to(self.last);
        let void = Type {
            kind: TypeKind::Void,
            span,
        };
        Ok((Some(name), pointer(void, span)))
    }

    /// The value of an expression of numbers and of constants that the script defines.
    fn constant(&self, expr: &Expr) -> Option<i64> {
        match &expr.kind {
            ExprKind::Integer(value) => Some(*value as i64),
            ExprKind::Name(name) => self.constants.get(name).copied(),
            ExprKind::Unary(op, operand) => {
                let value = self.constant(operand)?;
                match op {
                    UnaryOp::Neg => Some(value.wrapping_neg()),
                    UnaryOp::BitNot => Some(!value),
                    _ => None,
                }
            }
            ExprKind::Binary(op, left, right) => {
                let (left, right) = (self.constant(left)?, self.constant(right)?);
                match op {
                    BinaryOp::Add => left.checked_add(right),
                    BinaryOp::Sub => left.checked_sub(right),
                    BinaryOp::Mul => left.checked_mul(right),
                    BinaryOp::Div => left.checked_div(right),
                    BinaryOp::Or => Some(left | right),
                    BinaryOp::And => Some(left & right),
                    BinaryOp::Shl => left.checked_shl(u32::try_from(right).ok()?),
                    BinaryOp::Shr => left.checked_shr(u32::try_from(right).ok()?),
                    _ => None,
                }
            }
            _ => None,
        }
    }
}

fn pointer(to: Type, end: Span) -> Type {
    let span = to.span.to(end);
    let kind = TypeKind::Pointer(Box::new(to));
    Type { kind, span }
}
