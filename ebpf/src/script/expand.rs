//! Macros: each use becomes the macro's body, with the arguments in it.
//!
//! A macro's own variables get names that nobody can write, so they meet nobody else's. What isn't the macro's own
//! must be a parameter. Recursion, the size of the result and its depth are bounded.

use std::collections::HashSet;

use super::Diagnostic;
use super::ast::*;
use super::syntax::MAX_DEPTH;
use super::visit::{Visitor, walk_block, walk_expression, walk_statement};

/// How many expressions all macros together may bring.
const MAX_SIZE: usize = 50_000;
/// How deep the result may be: twice what the parser takes, once for blocks and once for expressions.
const MAX_TREE: u32 = 2 * MAX_DEPTH;

/// Replaces all uses of macros in `script` and gives all expressions new numbers.
pub(super) fn expand(script: &mut Script, diagnostics: &mut Vec<Diagnostic>) {
    let mut signatures = HashSet::new();
    for one in &script.macros {
        if !signatures.insert((one.name.name.clone(), signature(one))) {
            let message = format!(
                "there is a macro '{}' with such parameters already",
                one.name.name
            );
            diagnostics.push(Diagnostic::error(one.name.span, message));
        }
        check_definition(one, diagnostics);
    }
    let macros = std::mem::take(&mut script.macros);
    let mut expander = Expander {
        macros: &macros,
        names: macros.iter().map(|one| one.name.name.as_str()).collect(),
        within: Vec::new(),
        uses: 0,
        size: 0,
        depth: 0,
        failed: false,
        diagnostics,
    };
    if !macros.is_empty() {
        for probe in &mut script.probes {
            if let Some(predicate) = &mut probe.predicate {
                expander.expression(predicate);
            }
            expander.block(&mut probe.body);
        }
        for function in &mut script.functions {
            expander.block(&mut function.body);
        }
    }
    let mut numbers = Numbers(0);
    for probe in &mut script.probes {
        if let Some(predicate) = &mut probe.predicate {
            numbers.expression(predicate);
        }
        numbers.block(&mut probe.body);
    }
    for function in &mut script.functions {
        function.params.iter_mut().for_each(|(_, ty)| numbers.ty(ty));
        function.returns.iter_mut().for_each(|ty| numbers.ty(ty));
        numbers.block(&mut function.body);
    }
    script.expressions = numbers.0;
    script.macros = macros;
}

struct Numbers(u32);

impl Visitor for Numbers {
    fn expression(&mut self, expr: &mut Expr) {
        expr.id = self.0;
        self.0 += 1;
        walk_expression(self, expr);
    }
}

/// What kinds of parameters a macro has.
fn signature(one: &Macro) -> Vec<u8> {
    let kind = |param: &MacroParam| match param {
        MacroParam::Variable(_) => b'$',
        MacroParam::Map(_) => b'@',
        MacroParam::Expr(_) => b' ',
    };
    one.params.iter().map(kind).collect()
}

fn check_definition(one: &Macro, diagnostics: &mut Vec<Diagnostic>) {
    let mut own = Own::of(one);
    let mut body = one.body.clone();
    own.block(&mut body);
    let foreign = std::mem::take(&mut own.foreign);
    diagnostics.extend(
        foreign
            .into_iter()
            .filter(|(name, _)| !own.variables.contains(name))
            .map(|(_, d)| d),
    );
    diagnostics.append(&mut own.maps);
}

/// What a macro's body uses.
struct Own<'a> {
    one: &'a Macro,
    /// What it declares or assigns to.
    variables: HashSet<String>,
    /// Variables that it reads and whose origin isn't known yet.
    foreign: Vec<(String, Diagnostic)>,
    maps: Vec<Diagnostic>,
}

impl<'a> Own<'a> {
    fn of(one: &'a Macro) -> Self {
        Self {
            one,
            variables: HashSet::new(),
            foreign: Vec::new(),
            maps: Vec::new(),
        }
    }

    fn has_variable(&self, name: &str) -> bool {
        let is = |param: &MacroParam| matches!(param, MacroParam::Variable(ident) if ident.name == name);
        self.one.params.iter().any(is)
    }

    fn map(&mut self, name: &str, span: Span) {
        let is = |param: &MacroParam| matches!(param, MacroParam::Map(ident) if ident.name == name);
        if !self.one.params.iter().any(is) {
            let message = format!("the macro '{}' has no parameter @{name}", self.one.name.name);
            let hint = "a macro uses only maps that it is given; write the map among its parameters";
            self.maps.push(Diagnostic::error(span, message).hint(hint));
        }
    }
}

impl Visitor for Own<'_> {
    fn statement(&mut self, statement: &mut Stmt) {
        match &statement.kind {
            StmtKind::Let { name, .. } => {
                self.variables.insert(name.name.clone());
            }
            StmtKind::ForMap { variable, map, .. } => {
                self.variables.insert(variable.name.clone());
                self.map(&map.name, map.span);
            }
            StmtKind::ForRange { variable, .. } => {
                self.variables.insert(variable.name.clone());
            }
            StmtKind::Assign { target, op: None, .. } => {
                if let ExprKind::Variable(name) = &target.kind {
                    self.variables.insert(name.clone());
                }
            }
            _ => {}
        }
        walk_statement(self, statement);
    }

    fn expression(&mut self, expr: &mut Expr) {
        match &expr.kind {
            ExprKind::Variable(name) if !self.has_variable(name) => {
                let message = format!(
                    "the macro '{}' neither sets ${name} nor has it as a parameter",
                    self.one.name.name
                );
                self.foreign
                    .push((name.clone(), Diagnostic::error(expr.span, message)));
            }
            ExprKind::Map { name, .. } => self.map(&name.clone(), expr.span),
            _ => {}
        }
        walk_expression(self, expr);
    }
}

struct Expander<'a> {
    macros: &'a [Macro],
    names: HashSet<&'a str>,
    /// The macros that are being expanded.
    within: Vec<&'a str>,
    /// How many uses there were: the number in the names of a macro's own variables.
    uses: usize,
    size: usize,
    depth: u32,
    failed: bool,
    diagnostics: &'a mut Vec<Diagnostic>,
}

impl<'a> Expander<'a> {
    fn fail(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
        self.failed = true;
    }

    /// The macro that `args` fit, if there is one of this name.
    fn chosen(&mut self, name: &str, args: &[Expr], span: Span) -> Option<&'a Macro> {
        let macros = self.macros;
        let fits = |one: &&Macro| {
            one.params.len() == args.len()
                && one.params.iter().zip(args).all(|(param, arg)| match param {
                    MacroParam::Variable(_) => matches!(arg.kind, ExprKind::Variable(_)),
                    MacroParam::Map(_) => matches!(arg.kind, ExprKind::Map { key: None, .. }),
                    MacroParam::Expr(_) => true,
                })
        };
        let special = |one: &&Macro| signature(one).iter().filter(|kind| **kind != b' ').count();
        let named = || macros.iter().filter(|one| one.name.name == name);
        if let Some(found) = named().filter(fits).max_by_key(special) {
            return Some(found);
        }
        let forms: Vec<String> = named().map(form).collect();
        if forms.is_empty() {
            return None;
        }
        let error = Diagnostic::error(span, format!("these arguments fit no macro '{name}'"));
        self.fail(error.hint(format!("there is {}", forms.join(", "))));
        None
    }

    /// What stands for a use of a macro.
    fn instance(&mut self, one: &'a Macro, args: Vec<Expr>, span: Span) -> Option<ExprKind> {
        let name = one.name.name.as_str();
        if self.within.contains(&name) {
            let error = Diagnostic::error(span, format!("the macro '{name}' uses itself"));
            self.fail(error.hint("a loop, or a function (fn), can repeat things"));
            return None;
        }
        self.uses += 1;
        let mut body = one.body.clone();
        let mut substitution = Substitution {
            one,
            args: &args,
            number: self.uses,
            size: 0,
            room: MAX_SIZE.saturating_sub(self.size),
        };
        substitution.block(&mut body);
        self.size += substitution.size;
        if self.size > MAX_SIZE {
            let message = format!("the macros of this script come to more than {MAX_SIZE} expressions");
            self.fail(Diagnostic::error(span, message));
            return None;
        }
        self.within.push(name);
        self.block(&mut body);
        self.within.pop();
        Some(match body.value.take() {
            Some(value) if body.statements.is_empty() => value.kind,
            value => {
                body.value = value;
                ExprKind::Block(Box::new(body))
            }
        })
    }
}

fn form(one: &Macro) -> String {
    let param = |param: &MacroParam| match param {
        MacroParam::Variable(ident) => format!("${}", ident.name),
        MacroParam::Map(ident) => format!("@{}", ident.name),
        MacroParam::Expr(ident) => ident.name.clone(),
    };
    let params: Vec<String> = one.params.iter().map(param).collect();
    format!("{}({})", one.name.name, params.join(", "))
}

impl Visitor for Expander<'_> {
    fn block(&mut self, block: &mut Block) {
        self.depth += 1;
        walk_block(self, block);
        self.depth -= 1;
    }

    fn statement(&mut self, statement: &mut Stmt) {
        walk_statement(self, statement);
        // A macro without a value that stands for a statement.
        if let StmtKind::Expr(expr) = &mut statement.kind
            && let ExprKind::Block(block) = &mut expr.kind
            && block.value.is_none()
        {
            statement.kind = StmtKind::Block(std::mem::take(block));
        }
    }

    fn expression(&mut self, expr: &mut Expr) {
        if self.failed {
            return;
        }
        if self.depth > MAX_TREE {
            let message = format!("macros in macros come to more than {MAX_TREE} levels here");
            self.fail(Diagnostic::error(expr.span, message));
            return;
        }
        self.depth += 1;
        walk_expression(self, expr);
        let used = match &mut expr.kind {
            ExprKind::Call { name, args } if self.is_macro(&name.name) => {
                Some((name.name.clone(), std::mem::take(args)))
            }
            ExprKind::Name(name) if self.is_macro(name) => Some((name.clone(), Vec::new())),
            _ => None,
        };
        if let Some((name, args)) = used
            && !self.failed
            && let Some(one) = self.chosen(&name, &args, expr.span)
            && let Some(kind) = self.instance(one, args, expr.span)
        {
            expr.kind = kind;
        }
        self.depth -= 1;
    }

    /// `sizeof(NAME)`: the parser takes a name for a type.
    fn type_or_expression(&mut self, operand: &mut TypeOrExpr) {
        match operand {
            TypeOrExpr::Type(ty) => match &ty.kind {
                TypeKind::Named(name) if self.is_macro(name) => {
                    let kind = ExprKind::Name(name.clone());
                    let mut expr = Expr {
                        id: 0,
                        kind,
                        span: ty.span,
                    };
                    self.expression(&mut expr);
                    *operand = TypeOrExpr::Expr(expr);
                }
                _ => self.ty(ty),
            },
            TypeOrExpr::Expr(expr) => self.expression(expr),
        }
    }
}

impl Expander<'_> {
    fn is_macro(&self, name: &str) -> bool {
        self.names.contains(name)
    }
}

/// Puts the arguments into a copy of a macro's body.
struct Substitution<'a> {
    one: &'a Macro,
    args: &'a [Expr],
    number: usize,
    size: usize,
    room: usize,
}

impl Substitution<'_> {
    /// The argument for the parameter that `is` accepts.
    fn arg(&self, is: impl Fn(&MacroParam) -> bool) -> Option<&Expr> {
        let index = self.one.params.iter().position(is)?;
        self.args.get(index)
    }

    fn variable(&self, name: &str) -> String {
        let is = |param: &MacroParam| matches!(param, MacroParam::Variable(ident) if ident.name == name);
        match self.arg(is).map(|arg| &arg.kind) {
            Some(ExprKind::Variable(outer)) => outer.clone(),
            _ => format!("{name}'{}", self.number),
        }
    }

    fn map(&self, name: &str) -> String {
        let is = |param: &MacroParam| matches!(param, MacroParam::Map(ident) if ident.name == name);
        match self.arg(is).map(|arg| &arg.kind) {
            Some(ExprKind::Map { name, .. }) => name.clone(),
            _ => name.to_string(),
        }
    }

    fn value(&self, name: &str) -> Option<&Expr> {
        self.arg(|param| matches!(param, MacroParam::Expr(ident) if ident.name == name))
    }
}

/// Counts expressions.
struct Count(usize);

impl Visitor for Count {
    fn expression(&mut self, expr: &mut Expr) {
        self.0 += 1;
        walk_expression(self, expr);
    }
}

impl Visitor for Substitution<'_> {
    fn statement(&mut self, statement: &mut Stmt) {
        match &mut statement.kind {
            StmtKind::Let { name, .. } => name.name = self.variable(&name.name),
            StmtKind::ForMap { variable, map, .. } => {
                variable.name = self.variable(&variable.name);
                map.name = self.map(&map.name);
            }
            StmtKind::ForRange { variable, .. } => variable.name = self.variable(&variable.name),
            _ => {}
        }
        walk_statement(self, statement);
    }

    fn expression(&mut self, expr: &mut Expr) {
        if self.size > self.room {
            return;
        }
        self.size += 1;
        match &mut expr.kind {
            ExprKind::Variable(name) => *name = self.variable(name),
            ExprKind::Map { name, .. } => *name = self.map(name),
            ExprKind::Name(name) => {
                if let Some(value) = self.value(name) {
                    *expr = value.clone();
                    let mut count = Count(0);
                    count.expression(expr);
                    self.size += count.0;
                    return;
                }
            }
            _ => {}
        }
        walk_expression(self, expr);
    }

    fn type_or_expression(&mut self, operand: &mut TypeOrExpr) {
        if let TypeOrExpr::Type(ty) = operand
            && let TypeKind::Named(name) = &ty.kind
            && let Some(value) = self.value(name)
        {
            let value = value.clone();
            *operand = TypeOrExpr::Expr(value);
            self.size += 1;
            return;
        }
        match operand {
            TypeOrExpr::Type(ty) => self.ty(ty),
            TypeOrExpr::Expr(expr) => self.expression(expr),
        }
    }
}
