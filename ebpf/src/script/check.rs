//! What can be said about names without a kernel: functions that don't exist, variables that nobody sets.
//!
//! Variables belong to the block that sets them first. Older scripts read a variable behind the block that set it;
//! for those a `let` is put where both can see it, so that later stages need to know one rule only.

use std::collections::{HashMap, HashSet};

use super::ast::*;
use super::names;
use super::visit::{Visitor, walk_block, walk_expression, walk_statement};
use super::{Diagnostic, MAX_DIAGNOSTICS};

/// Reports wrong names in `script`, whose macros are expanded.
pub(super) fn check(script: &mut Script, diagnostics: &mut Vec<Diagnostic>) {
    let mut functions = HashSet::new();
    for function in &script.functions {
        let name = &function.name.name;
        if !functions.insert(name.clone()) || names::FUNCTIONS.contains(&name.as_str()) {
            let message = format!("there is a function '{name}' already");
            diagnostics.push(Diagnostic::error(function.name.span, message));
        }
    }
    let mut maps = HashSet::new();
    for map in &script.maps {
        if !maps.insert(&map.name.name) {
            let message = format!("@{} is declared already", map.name.name);
            diagnostics.push(Diagnostic::error(map.name.span, message));
        }
    }
    if script.probes.is_empty()
        && script.experiments.is_empty()
        && !diagnostics.iter().any(Diagnostic::is_error)
    {
        let error = Diagnostic::error(Span::default(), "the script has no probe");
        diagnostics.push(error.hint("a probe looks like 'kprobe:tcp_connect { @[comm] = count(); }'"));
    }
    for probe in &mut script.probes {
        if let Some(predicate) = &mut probe.predicate {
            Checker::new(&functions, diagnostics).expression(predicate);
        }
        Checker::new(&functions, diagnostics).body(&mut probe.body, &[]);
    }
    for function in &mut script.functions {
        let params: Vec<Ident> = function.params.iter().map(|(name, _)| name.clone()).collect();
        Checker::new(&functions, diagnostics).body(&mut function.body, &params);
    }
}

/// How a variable came to be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    Let,
    Assignment,
    Loop,
}

struct Checker<'a> {
    functions: &'a HashSet<String>,
    diagnostics: &'a mut Vec<Diagnostic>,
    /// What each open block can see of its own.
    scopes: Vec<HashMap<String, Origin>>,
    /// The numbers of the open blocks, in the order in which blocks begin.
    path: Vec<usize>,
    blocks: usize,
    /// Where variables were set without `let` in blocks that have ended.
    ended: HashMap<String, Vec<Vec<usize>>>,
    /// The variables for which blocks get a `let`.
    lifted: HashMap<usize, Vec<Ident>>,
    /// What has been reported.
    reported: HashSet<String>,
    loops: usize,
}

impl<'a> Checker<'a> {
    fn new(functions: &'a HashSet<String>, diagnostics: &'a mut Vec<Diagnostic>) -> Self {
        Self {
            functions,
            diagnostics,
            scopes: Vec::new(),
            path: Vec::new(),
            blocks: 0,
            ended: HashMap::new(),
            lifted: HashMap::new(),
            reported: HashSet::new(),
            loops: 0,
        }
    }

    fn body(mut self, body: &mut Block, params: &[Ident]) {
        let params = params.iter().map(|param| (param.name.clone(), Origin::Let));
        self.scopes.push(params.collect());
        self.block(body);
        if !self.lifted.is_empty() {
            Lift {
                blocks: 0,
                lifted: self.lifted,
            }
            .block(body);
        }
    }

    fn seen(&self, name: &str) -> Option<Origin> {
        self.scopes
            .iter()
            .rev()
            .find_map(|scope| scope.get(name))
            .copied()
    }

    fn declare(&mut self, name: &str, origin: Origin) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.insert(name.to_string(), origin);
        }
    }

    /// `$name` is read.
    fn read(&mut self, name: &str, span: Span) {
        if self.seen(name).is_some() {
            return;
        }
        let Some(ended) = self.ended.get(name) else {
            self.unknown_variable(name, span);
            return;
        };
        // The innermost block around this place and all those that set it.
        let shared = |other: &Vec<usize>| other.iter().zip(&self.path).take_while(|(a, b)| a == b).count();
        let depth = ended.iter().map(shared).min().unwrap_or(0).max(1);
        let Some(&block) = self.path.get(depth - 1) else {
            return;
        };
        let ident = Ident {
            name: name.to_string(),
            span,
        };
        self.lifted.entry(block).or_default().push(ident);
        // The first scope holds a function's parameters.
        if let Some(scope) = self.scopes.get_mut(depth) {
            scope.insert(name.to_string(), Origin::Let);
        }
    }

    fn unknown_variable(&mut self, name: &str, span: Span) {
        if self.diagnostics.len() >= MAX_DIAGNOSTICS || !self.reported.insert(name.to_string()) {
            return;
        }
        let error = Diagnostic::error(span, format!("'${}' has no value yet", plain(name)));
        let known = self.scopes.iter().flat_map(HashMap::keys);
        let known = known.chain(self.ended.keys()).map(String::as_str);
        self.diagnostics.push(match names::nearest(name, known) {
            Some(meant) => error.hint(format!("did you mean '${}'?", plain(meant))),
            None => error,
        });
    }

    /// `$name` is assigned to.
    fn assign(&mut self, name: &str, span: Span) {
        match self.seen(name) {
            None => self.declare(name, Origin::Assignment),
            Some(Origin::Loop) => self.loop_variable(name, span),
            Some(_) => {}
        }
    }

    fn loop_variable(&mut self, name: &str, span: Span) {
        let message = format!("${} is the loop's own and can't be changed", plain(name));
        self.diagnostics.push(Diagnostic::error(span, message));
    }

    /// `let $name`, or a loop's variable.
    fn new_variable(&mut self, name: &Ident, origin: Origin) {
        if self.seen(&name.name).is_some() {
            let error = Diagnostic::error(name.span, format!("${} is declared already", plain(&name.name)));
            self.diagnostics.push(error.hint("use another name"));
        }
        self.declare(&name.name, origin);
    }

    /// A loop over a new variable.
    fn loop_body(&mut self, variable: Option<&Ident>, body: &mut Block) {
        self.loops += 1;
        // Neither the numbers nor the paths of blocks know this scope: `read` counts scopes from the outside.
        match variable {
            Some(variable) => {
                self.new_variable(variable, Origin::Loop);
                self.block(body);
                if let Some(scope) = self.scopes.last_mut() {
                    scope.remove(&variable.name);
                }
            }
            None => self.block(body),
        }
        self.loops -= 1;
    }
}

/// A macro's variable as it was written.
fn plain(name: &str) -> &str {
    name.split('\'').next().unwrap_or(name)
}

impl Visitor for Checker<'_> {
    fn block(&mut self, block: &mut Block) {
        self.path.push(self.blocks);
        self.blocks += 1;
        self.scopes.push(HashMap::new());
        walk_block(self, block);
        for (name, origin) in self.scopes.pop().unwrap_or_default() {
            if origin == Origin::Assignment {
                self.ended.entry(name).or_default().push(self.path.clone());
            }
        }
        self.path.pop();
    }

    fn statement(&mut self, statement: &mut Stmt) {
        match &mut statement.kind {
            StmtKind::Let { name, ty, value } => {
                if let Some(ty) = ty {
                    self.ty(ty);
                }
                if let Some(value) = value {
                    self.expression(value);
                }
                let name = name.clone();
                self.new_variable(&name, Origin::Let);
            }
            StmtKind::Assign { target, op, value } => {
                self.expression(value);
                match &target.kind {
                    ExprKind::Variable(name) => {
                        let name = name.clone();
                        if op.is_some() {
                            self.read(&name, target.span);
                        }
                        self.assign(&name, target.span);
                    }
                    _ => self.expression(target),
                }
            }
            StmtKind::While { condition, body } => {
                self.expression(condition);
                self.loop_body(None, body);
            }
            StmtKind::Unroll { count, body } => {
                self.expression(count);
                self.loop_body(None, body);
            }
            StmtKind::ForMap { variable, body, .. } => self.loop_body(Some(variable), body),
            StmtKind::ForRange {
                variable,
                from,
                to,
                body,
            } => {
                self.expression(from);
                self.expression(to);
                self.loop_body(Some(variable), body);
            }
            StmtKind::Break | StmtKind::Continue if self.loops == 0 => {
                let word = if statement.kind == StmtKind::Break {
                    "break"
                } else {
                    "continue"
                };
                let error = Diagnostic::error(statement.span, format!("'{word}' is not inside of a loop"));
                self.diagnostics.push(error.hint("'return' ends a probe"));
            }
            _ => walk_statement(self, statement),
        }
    }

    fn expression(&mut self, expr: &mut Expr) {
        match &mut expr.kind {
            ExprKind::Variable(name) => {
                let name = name.clone();
                self.read(&name, expr.span);
            }
            ExprKind::Step { target, .. } => {
                self.expression(target);
                if let ExprKind::Variable(name) = &target.kind
                    && self.seen(name) == Some(Origin::Loop)
                {
                    let name = name.clone();
                    self.loop_variable(&name, expr.span);
                }
            }
            ExprKind::Call { name, args } => {
                self.call(name);
                // find() sets its third argument.
                if name.name == "find"
                    && let Some(Expr {
                        kind: ExprKind::Variable(out),
                        span,
                        ..
                    }) = args.get(2)
                {
                    let out = out.clone();
                    self.assign(&out, *span);
                }
                walk_expression(self, expr);
            }
            _ => walk_expression(self, expr),
        }
    }
}

impl Checker<'_> {
    fn call(&mut self, name: &Ident) {
        if self.diagnostics.len() >= MAX_DIAGNOSTICS {
            return;
        }
        let known = |word: &str| names::FUNCTIONS.contains(&word) || names::BUILTINS.contains(&word);
        if known(&name.name)
            || self.functions.contains(&name.name)
            || !self.reported.insert(name.name.clone())
        {
            return;
        }
        let error = Diagnostic::error(name.span, format!("there is no function '{}'", name.name));
        let words = names::FUNCTIONS
            .iter()
            .chain(names::BUILTINS)
            .chain(names::OPERATORS)
            .copied();
        let words = words.chain(self.functions.iter().map(String::as_str));
        self.diagnostics.push(match names::nearest(&name.name, words) {
            Some(meant) => error.hint(format!("did you mean '{meant}'?")),
            None => {
                error.hint("a function of the script's own is written 'fn NAME($a : int64) : int64 { … }'")
            }
        });
    }
}

/// Puts a `let` at the start of blocks.
struct Lift {
    blocks: usize,
    lifted: HashMap<usize, Vec<Ident>>,
}

impl Visitor for Lift {
    fn block(&mut self, block: &mut Block) {
        let variables = self.lifted.remove(&self.blocks).unwrap_or_default();
        self.blocks += 1;
        walk_block(self, block);
        let lets = variables.into_iter().map(|name| Stmt {
            span: name.span,
            kind: StmtKind::Let {
                name,
                ty: None,
                value: None,
            },
        });
        block.statements.splice(0..0, lets);
    }
}
