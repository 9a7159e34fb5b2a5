//! The tree as text: a line for each statement, expressions with all their brackets. For people and golden tests; no
//! parser reads it.

use std::fmt::Write;

use super::ast::*;

/// What `script` holds, for `-d ast`.
pub fn print(script: &Script) -> String {
    let mut printer = Printer {
        out: String::new(),
        indent: 0,
    };
    printer.script(script);
    printer.out
}

struct Printer {
    out: String,
    indent: usize,
}

impl Printer {
    fn line(&mut self, text: &str) {
        let _ = writeln!(self.out, "{:1$}{text}", "", 2 * self.indent);
    }

    fn script(&mut self, script: &Script) {
        for entry in &script.config {
            let value = match &entry.value {
                ConfigValue::Integer(value) => value.to_string(),
                ConfigValue::Text(text) => format!("\"{}\"", text.escape_debug()),
            };
            self.line(&format!("config {} = {value}", entry.key.name));
        }
        for definition in &script.types {
            let text = define(definition);
            self.line(&text);
        }
        for map in &script.maps {
            let kind = match map.kind {
                MapKind::Hash => "hash",
                MapKind::LruHash => "lruhash",
                MapKind::PerCpuHash => "percpuhash",
                MapKind::PerCpuLruHash => "percpulruhash",
            };
            self.line(&format!("map @{} = {kind}({})", map.name.name, map.entries));
        }
        for function in &script.functions {
            let params: Vec<String> = function
                .params
                .iter()
                .map(|(name, ty)| format!("${}: {}", name.name, type_text(ty)))
                .collect();
            let returns = function.returns.as_ref().map_or("void".to_string(), type_text);
            self.line(&format!(
                "fn {}({}): {returns}",
                function.name.name,
                params.join(", ")
            ));
            self.block(&function.body);
        }
        for probe in &script.probes {
            for point in &probe.points {
                let name = point
                    .name
                    .as_ref()
                    .map_or(String::new(), |name| format!("{} = ", name.name));
                self.line(&format!("probe {name}{}", point.text));
            }
            if let Some(predicate) = &probe.predicate {
                self.line(&format!("  when {}", expression(predicate)));
            }
            self.block(&probe.body);
        }
        for experiment in &script.experiments {
            self.line(&format!("experiment of {} bytes", experiment.text.len()));
        }
    }

    fn block(&mut self, block: &Block) {
        self.indent += 1;
        for statement in &block.statements {
            self.statement(&statement.kind);
        }
        if let Some(value) = &block.value {
            self.line(&format!("value {}", expression(value)));
        }
        self.indent -= 1;
    }

    fn statement(&mut self, kind: &StmtKind) {
        let head = match kind {
            StmtKind::Block(_) => "block".to_string(),
            other => head(other),
        };
        self.line(&head);
        match kind {
            StmtKind::If(branches) => {
                self.block(&branches.then);
                if let Some(otherwise) = &branches.otherwise {
                    self.line("else");
                    self.block(otherwise);
                }
            }
            StmtKind::While { body, .. }
            | StmtKind::Unroll { body, .. }
            | StmtKind::ForMap { body, .. }
            | StmtKind::ForRange { body, .. }
            | StmtKind::Block(body) => self.block(body),
            _ => {}
        }
    }
}

/// A statement without the blocks in it.
fn head(kind: &StmtKind) -> String {
    match kind {
        StmtKind::Expr(expr) => expression(expr),
        StmtKind::Let { name, ty, value } => {
            let ty = ty
                .as_ref()
                .map_or(String::new(), |ty| format!(": {}", type_text(ty)));
            let value = value
                .as_ref()
                .map_or(String::new(), |value| format!(" = {}", expression(value)));
            format!("let ${}{ty}{value}", name.name)
        }
        StmtKind::Assign { target, op, value } => {
            let op = op.map_or("", BinaryOp::symbol);
            format!("{} {op}= {}", expression(target), expression(value))
        }
        StmtKind::Discard(expr) => format!("_ = {}", expression(expr)),
        StmtKind::If(branches) => format!("if {}", expression(&branches.condition)),
        StmtKind::While { condition, .. } => format!("while {}", expression(condition)),
        StmtKind::Unroll { count, .. } => format!("unroll {}", expression(count)),
        StmtKind::ForMap { variable, map, .. } => format!("for ${} in @{}", variable.name, map.name),
        StmtKind::ForRange {
            variable, from, to, ..
        } => format!(
            "for ${} in {}..{}",
            variable.name,
            expression(from),
            expression(to)
        ),
        StmtKind::Break => "break".to_string(),
        StmtKind::Continue => "continue".to_string(),
        StmtKind::Return(None) => "return".to_string(),
        StmtKind::Return(Some(value)) => format!("return {}", expression(value)),
        StmtKind::Block(_) => String::new(),
    }
}

/// A block on one line.
fn inline(block: &Block) -> String {
    let mut parts: Vec<String> = block
        .statements
        .iter()
        .map(|statement| whole(&statement.kind))
        .collect();
    parts.extend(
        block
            .value
            .as_deref()
            .map(|value| format!("value {}", expression(value))),
    );
    if parts.is_empty() {
        return "{ }".to_string();
    }
    format!("{{ {} }}", parts.join("; "))
}

/// A statement with its blocks on one line.
fn whole(kind: &StmtKind) -> String {
    match kind {
        StmtKind::If(branches) => if_inline(branches),
        StmtKind::While { body, .. }
        | StmtKind::Unroll { body, .. }
        | StmtKind::ForMap { body, .. }
        | StmtKind::ForRange { body, .. } => format!("{} {}", head(kind), inline(body)),
        StmtKind::Block(body) => inline(body),
        _ => head(kind),
    }
}

fn if_inline(branches: &If) -> String {
    let otherwise = branches
        .otherwise
        .as_ref()
        .map_or(String::new(), |block| format!(" else {}", inline(block)));
    format!(
        "if {} {}{otherwise}",
        expression(&branches.condition),
        inline(&branches.then)
    )
}

fn list(expressions: &[Expr]) -> String {
    let texts: Vec<String> = expressions.iter().map(expression).collect();
    texts.join(", ")
}

fn path(names: &[Ident]) -> String {
    let names: Vec<&str> = names.iter().map(|name| name.name.as_str()).collect();
    names.join(".")
}

/// An expression on one line, with all its brackets.
pub fn expression(expr: &Expr) -> String {
    match &expr.kind {
        ExprKind::Integer(value) => value.to_string(),
        ExprKind::String(bytes) => format!("\"{}\"", bytes.escape_ascii()),
        ExprKind::Bool(value) => value.to_string(),
        ExprKind::Positional(index, Some(text)) => format!("${index}=\"{}\"", text.escape_debug()),
        ExprKind::Positional(index, None) => format!("${index}"),
        ExprKind::PositionalCount(count) => format!("$#={count}"),
        ExprKind::Variable(name) => format!("${name}"),
        ExprKind::Map { name, key: None } => format!("@{name}"),
        ExprKind::Map { name, key: Some(key) } => format!("@{name}[{}]", expression(key)),
        ExprKind::Name(name) => name.clone(),
        ExprKind::Call { name, args } => format!("{}({})", name.name, list(args)),
        ExprKind::SizeOf(operand) => format!("sizeof({})", either(operand)),
        ExprKind::OffsetOf(operand, names) => format!("offsetof({}, {})", either(operand), path(names)),
        ExprKind::ContainerOf(pointer, ty, names) => {
            format!(
                "container_of({}, {}, {})",
                expression(pointer),
                type_text(ty),
                path(names)
            )
        }
        ExprKind::TypeInfo(operand) => format!("typeinfo({})", either(operand)),
        ExprKind::Comptime(inner) => format!("comptime {}", expression(inner)),
        ExprKind::Unary(op, operand) => format!("{}{}", op.symbol(), expression(operand)),
        ExprKind::Step {
            target,
            increment,
            prefix,
        } => {
            let sign = if *increment { "++" } else { "--" };
            let target = expression(target);
            if *prefix {
                format!("{sign}{target}")
            } else {
                format!("{target}{sign}")
            }
        }
        ExprKind::Binary(op, left, right) => {
            format!("({} {} {})", expression(left), op.symbol(), expression(right))
        }
        ExprKind::Ternary(condition, Some(then), otherwise) => format!(
            "({} ? {} : {})",
            expression(condition),
            expression(then),
            expression(otherwise)
        ),
        ExprKind::Ternary(condition, None, otherwise) => {
            format!("({} ?: {})", expression(condition), expression(otherwise))
        }
        ExprKind::Cast(ty, value) => format!("({}){}", type_text(ty), expression(value)),
        ExprKind::Field(object, name) => format!("{}.{}", expression(object), name.name),
        ExprKind::TupleField(object, index) => format!("{}.{index}", expression(object)),
        ExprKind::Index(object, index) => format!("{}[{}]", expression(object), expression(index)),
        ExprKind::Tuple(elements) if elements.len() == 1 => format!("({},)", list(elements)),
        ExprKind::Tuple(elements) => format!("({})", list(elements)),
        ExprKind::Record(fields) => {
            let fields: Vec<String> = fields
                .iter()
                .map(|(name, value)| format!("{}={}", name.name, expression(value)))
                .collect();
            format!("({})", fields.join(", "))
        }
        ExprKind::Block(block) => inline(block),
        ExprKind::If(branches) => if_inline(branches),
    }
}

fn either(operand: &TypeOrExpr) -> String {
    match operand {
        TypeOrExpr::Type(ty) => format!("type {}", type_text(ty)),
        TypeOrExpr::Expr(expr) => expression(expr),
    }
}

/// A type as the language writes it.
pub fn type_text(ty: &Type) -> String {
    match &ty.kind {
        TypeKind::Void => "void".to_string(),
        TypeKind::Bool => "bool".to_string(),
        TypeKind::Int { bits, signed } => format!("{}int{bits}", if *signed { "" } else { "u" }),
        TypeKind::String(None) => "string".to_string(),
        TypeKind::String(Some(len)) => format!("string[{len}]"),
        TypeKind::Buffer(None) => "buffer".to_string(),
        TypeKind::Buffer(Some(len)) => format!("buffer[{len}]"),
        TypeKind::Inet => "inet".to_string(),
        TypeKind::Struct(name) => format!("struct {name}"),
        TypeKind::Union(name) => format!("union {name}"),
        TypeKind::Enum(name) => format!("enum {name}"),
        TypeKind::Named(name) => name.clone(),
        TypeKind::Pointer(to) => format!("{} *", type_text(to)),
        TypeKind::Array(of, None) => format!("{}[]", type_text(of)),
        TypeKind::Array(of, Some(len)) => format!("{}[{len}]", type_text(of)),
        TypeKind::Tuple(types) => {
            let types: Vec<String> = types.iter().map(type_text).collect();
            format!("({})", types.join(", "))
        }
        TypeKind::TypeOf(operand) => format!("typeof({})", either(operand)),
        TypeKind::Inline(definition) => define(definition),
    }
}

/// A C definition on one line.
fn define(definition: &TypeDef) -> String {
    let name = definition
        .name
        .as_ref()
        .map_or(String::new(), |name| format!(" {}", name.name));
    match &definition.kind {
        TypeDefKind::Struct(fields, packed) => {
            let packed = if *packed { " packed" } else { "" };
            format!("struct{name}{packed} {{ {} }}", members(fields))
        }
        TypeDefKind::Union(fields) => format!("union{name} {{ {} }}", members(fields)),
        TypeDefKind::Enum(values) => {
            let values: Vec<String> = values
                .iter()
                .map(|(name, value)| format!("{} = {value}", name.name))
                .collect();
            format!("enum{name} {{ {} }}", values.join(", "))
        }
        TypeDefKind::Typedef(ty) => format!("typedef{name} = {}", type_text(ty)),
    }
}

fn members(fields: &[Member]) -> String {
    let fields: Vec<String> = fields
        .iter()
        .map(|field| {
            let name = field.name.as_ref().map_or("", |name| name.name.as_str());
            let bits = field
                .bits
                .map_or(String::new(), |bits| format!(" in {bits} bits"));
            format!("{name}: {}{bits}", type_text(&field.ty))
        })
        .collect();
    fields.join("; ")
}
