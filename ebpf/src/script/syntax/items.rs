//! What stands at the top of a script: probes, macros, functions, map declarations, the config block, C definitions.

use super::lex::{Tok, skip_blanks};
use super::preprocess::{string_end, word_len};
use super::{Failed, Parsed, Parser};
use crate::script::Diagnostic;
use crate::script::ast::*;
use crate::script::names;

/// The most parameters of a macro or a function.
const MAX_PARAMS: usize = 32;

impl Parser<'_> {
    /// All of the text.
    pub(super) fn script(&mut self) {
        loop {
            self.back_to_characters();
            self.at = skip_blanks(&self.source.text, self.at);
            if self.at >= self.source.text.len() {
                break;
            }
            if self.gave_up() {
                let span = Span::new(self.at, self.at);
                self.error(span, "so much is wrong that the rest wasn't looked at");
                break;
            }
            let start = self.at;
            self.depth = 0;
            self.tallest = 0;
            self.in_predicate = false;
            if self.item().is_err() {
                self.back_to_characters();
                self.skip_item(start);
            }
        }
    }

    fn item(&mut self) -> Parsed<()> {
        if self.source.text[self.at..].starts_with(';') {
            self.at += 1;
            return Ok(());
        }
        let rest = &self.source.text[self.at..];
        let len = word_len(rest);
        let word = rest[..len].to_string();
        let behind = skip_blanks(&self.source.text, self.at + len);
        let next = self.source.text[behind..].chars().next().unwrap_or(' ');
        let blank = behind > self.at + len;
        match word.as_str() {
            "config" if next == '=' => self.config(),
            "experiment" if next == '{' => self.experiment(behind),
            "struct" | "union" | "enum" | "typedef" if blank || next == '{' => self.definition(),
            "import" if next == '"' => self.import(),
            "let" if blank => self.map_declaration(),
            "macro" if blank => self.macro_definition(),
            "fn" if blank => self.function(),
            _ => self.probe(),
        }
    }

    /// Goes behind an item that is wrong: its closing brace, or a semicolon or the line's end before any brace.
    fn skip_item(&mut self, start: usize) {
        let bytes = self.source.text.as_bytes();
        let mut open = 0usize;
        let mut at = start;
        let failed = self.at;
        while at < bytes.len() {
            match bytes[at] {
                b'"' => at = string_end(bytes, at).0 - 1,
                b'{' => open += 1,
                b'}' if open <= 1 => {
                    // What failed behind it, as in a body that ended early, is part of the item.
                    at += 1;
                    if at >= failed {
                        break;
                    }
                    open = 0;
                    continue;
                }
                b'}' => open -= 1,
                b';' if open == 0 && at >= failed => {
                    at += 1;
                    break;
                }
                _ => {}
            }
            at += 1;
        }
        self.at = at.max(start + 1).min(bytes.len());
        while !self.source.text.is_char_boundary(self.at) {
            self.at += 1;
        }
    }

    fn probe(&mut self) -> Parsed<()> {
        let start = self.at;
        let points = self.points()?;
        let mut predicate = None;
        if self.source.text[self.at..].starts_with('/') {
            let open = Span::new(self.at, self.at + 1);
            self.at += 1;
            self.last = open;
            self.in_predicate = true;
            predicate = Some(self.expression()?);
            self.in_predicate = false;
            if self.is("{") {
                let error = Diagnostic::error(open, "this predicate never ends");
                return self.fail(error.hint("close it with '/' before the '{'"));
            }
            self.expect("/", "at the predicate's end")?;
        }
        if !self.is("{") {
            return self.unexpected("'{' with what the probe does");
        }
        let body = self.body()?;
        let span = Span::new(start, self.last.end as usize);
        if !points.is_empty() {
            self.script.probes.push(Probe {
                points,
                predicate,
                body,
                span,
            });
        }
        Ok(())
    }

    fn config(&mut self) -> Parsed<()> {
        let start = self.take().span;
        self.expect("=", "after 'config'")?;
        self.expect("{", "after 'config ='")?;
        if !self.script.config.is_empty() {
            self.error(start, "there is a config block already");
        }
        while !self.eat("}") {
            let mut key = self.name("a setting's name")?;
            let lower = key.name.to_ascii_lowercase();
            key.name = lower.strip_prefix("bpftrace_").unwrap_or(&lower).to_string();
            if !names::CONFIG_KEYS.contains(&key.name.as_str()) && !key.name.starts_with("unstable_") {
                let error = Diagnostic::error(key.span, format!("there is no setting '{}'", key.name));
                let meant = names::nearest(&key.name, names::CONFIG_KEYS.iter().copied());
                self.diagnostics.push(match meant {
                    Some(meant) => error.hint(format!("did you mean '{meant}'?")),
                    None => error,
                });
            }
            self.expect("=", "after the setting's name")?;
            let value_span = self.here();
            let value = match self.peek().clone() {
                Tok::Integer(value) => ConfigValue::Integer(value),
                Tok::String(text) => ConfigValue::Text(String::from_utf8_lossy(&text).into_owned()),
                Tok::Word(word) if word == "true" => ConfigValue::Integer(1),
                Tok::Word(word) if word == "false" => ConfigValue::Integer(0),
                Tok::Word(word) => ConfigValue::Text(word),
                _ => return self.unexpected("a number, a string or a word"),
            };
            self.take();
            self.script.config.push(ConfigEntry {
                key,
                value,
                value_span,
            });
            if !self.eat(";") && !self.is("}") {
                return self.unexpected("';' after the setting");
            }
        }
        self.eat(";");
        Ok(())
    }

    fn import(&mut self) -> Parsed<()> {
        let start = self.take().span;
        let Tok::String(path) = self.peek().clone() else {
            return self.unexpected("the file's name in quotes");
        };
        let span = start.to(self.take().span);
        let path = String::from_utf8_lossy(&path).into_owned();
        self.script.imports.push(Import { path, span });
        if !self.eat(";") {
            return self.unexpected("';' after the import");
        }
        Ok(())
    }

    fn map_declaration(&mut self) -> Parsed<()> {
        let start = self.take().span;
        let place = self.here();
        let name = match self.peek().clone() {
            Tok::Map(name) => name,
            Tok::Variable(_) => {
                let error =
                    Diagnostic::error(place, "variables live in probes; only maps stand outside of them");
                return self.fail(error.hint("a map is declared like 'let @name = lruhash(1000);'"));
            }
            _ => return self.unexpected("a map (@name)"),
        };
        self.take();
        let name = Ident { name, span: place };
        self.expect("=", "and the map's type")?;
        let ty = self.name("the map's type")?;
        let kind = match ty.name.as_str() {
            "hash" => MapKind::Hash,
            "lruhash" => MapKind::LruHash,
            "percpuhash" => MapKind::PerCpuHash,
            "percpulruhash" => MapKind::PerCpuLruHash,
            _ => {
                let error = Diagnostic::error(ty.span, format!("there is no map type '{}'", ty.name));
                return self.fail(error.hint("there are hash, lruhash, percpuhash and percpulruhash"));
            }
        };
        self.expect("(", "and the number of keys")?;
        let place = self.here();
        let Tok::Integer(entries) = *self.peek() else {
            return self.unexpected("the number of keys");
        };
        self.take();
        if entries == 0 || entries > u64::from(u32::MAX) {
            self.error(place, "a map has between 1 and 2^32-1 keys");
        }
        self.expect(")", "after the number of keys")?;
        if !self.eat(";") {
            return self.unexpected("';' after the declaration");
        }
        let span = start.to(self.last);
        self.script.maps.push(MapDecl {
            name,
            kind,
            entries,
            span,
        });
        Ok(())
    }

    fn macro_definition(&mut self) -> Parsed<()> {
        self.take();
        let name = self.name("the macro's name")?;
        let mut params = Vec::new();
        if self.eat("(") {
            while !self.is(")") {
                let span = self.here();
                let param = match self.take().tok {
                    Tok::Variable(name) => MacroParam::Variable(Ident { name, span }),
                    Tok::Map(name) => MacroParam::Map(Ident { name, span }),
                    Tok::Word(name) => MacroParam::Expr(Ident { name, span }),
                    _ => {
                        let error = Diagnostic::error(span, "a macro's parameter is $name, @name or a name");
                        return self.fail(error);
                    }
                };
                params.push(param);
                if !self.eat(",") {
                    break;
                }
            }
            self.expect(")", "after the macro's parameters")?;
        }
        self.few(params.len(), name.span)?;
        let body = self.block()?;
        self.script.macros.push(Macro { name, params, body });
        Ok(())
    }

    fn function(&mut self) -> Parsed<()> {
        self.take();
        let name = self.name("the function's name")?;
        let mut params: Vec<(Ident, Type)> = Vec::new();
        self.expect("(", "and the function's parameters")?;
        while !self.is(")") {
            let variable = self.variable()?;
            self.expect(":", "and the parameter's type")?;
            let ty = self.type_name()?;
            if params.iter().any(|(other, _)| other.name == variable.name) {
                let message = format!("there is a parameter ${} already", variable.name);
                self.error(variable.span, message);
            }
            params.push((variable, ty));
            if !self.eat(",") {
                break;
            }
        }
        self.expect(")", "after the function's parameters")?;
        self.few(params.len(), name.span)?;
        let returns = if self.eat(":") {
            Some(self.type_name()?)
        } else {
            None
        };
        let body = self.body()?;
        self.script.functions.push(Function {
            name,
            params,
            returns,
            body,
        });
        Ok(())
    }

    fn few(&mut self, params: usize, span: Span) -> Parsed<()> {
        match params > MAX_PARAMS {
            true => self.fail(Diagnostic::error(
                span,
                format!("more than {MAX_PARAMS} parameters"),
            )),
            false => Ok(()),
        }
    }

    /// `experiment { … }`, whose brace stands at `open`.
    fn experiment(&mut self, open: usize) -> Parsed<()> {
        let bytes = self.source.text.as_bytes();
        let (mut depth, mut at) = (0usize, open);
        while at < bytes.len() {
            match bytes[at] {
                b'"' => at = string_end(bytes, at).0 - 1,
                b'{' => depth += 1,
                b'}' => {
                    depth -= 1;
                    if depth == 0 {
                        break;
                    }
                }
                _ => {}
            }
            at += 1;
        }
        if at >= bytes.len() {
            self.at = bytes.len();
            let span = Span::new(open, open + 1);
            self.error(span, "no '}' closes this");
            return Err(Failed);
        }
        let span = Span::new(open + 1, at);
        let text = self.source.text[open + 1..at].to_string();
        self.script.experiments.push(RawBlock { text, span });
        self.at = at + 1;
        Ok(())
    }
}
