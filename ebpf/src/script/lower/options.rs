//! `getopt()`: what the user says behind `--`. Known before the script is compiled, so a constant.

use super::body::Body;
use super::value::Value;
use crate::script::ast::{Expr, ExprKind};
use crate::script::output::ScriptOption;
use crate::script::types::Ty;

impl Body<'_, '_> {
    /// `getopt(name[, default[, description]])`: of its default's type, else true or false.
    pub fn getopt(&mut self, args: &[Expr]) -> Value {
        let Some(name) = self.written_text(&args[0]) else {
            return Value::none();
        };
        let default = match args.get(1) {
            Some(e) => self.expr(e),
            None => Value::num(Ty::Bool, 0),
        };
        let (kind, shown) = match (args.get(1).map(|e| &e.kind), default.constant()) {
            (Some(ExprKind::String(text)), _) => {
                (Ty::Str { len: 1 }, String::from_utf8_lossy(text).into_owned())
            }
            (_, Some(n)) if default.ty == Ty::Bool => (Ty::Bool, (n != 0).to_string()),
            (_, Some(n)) => (Ty::I64, n.to_string()),
            _ => {
                let span = args.get(1).map_or(args[0].span, |e| e.span);
                self.error(
                    span,
                    "an option's default is a number, a text or a truth value, written out",
                );
                return Value::none();
            }
        };
        let description = args.get(2).and_then(|e| self.written_text(e)).unwrap_or_default();
        let given = self.g.env.named_parameter(&name);
        let option = ScriptOption {
            name: name.clone(),
            default: shown,
            description,
        };
        if let Err(message) = self.g.add_option(option) {
            self.error(args[0].span, message);
        }
        let Some(given) = given else {
            return Value {
                literal: kind == Ty::I64,
                ..default
            };
        };
        let wrong = |what: &str| format!("--{name}={given}: this option takes {what}");
        match kind {
            Ty::Bool => match given.as_str() {
                "true" | "1" => return Value::num(Ty::Bool, 1),
                "false" | "0" => return Value::num(Ty::Bool, 0),
                _ => self.error(args[0].span, wrong("true or false")),
            },
            Ty::Str { .. } => return Value::text(given.as_bytes()),
            _ => match super::expr::parse_number(&given) {
                Some(n) => {
                    return Value {
                        literal: true,
                        ..Value::num(Ty::I64, n)
                    };
                }
                None => self.error(args[0].span, wrong("a number")),
            },
        }
        Value::none()
    }
}
