//! From the tree to IR: types are found and programs are built in one walk.
//!
//! The types of maps and variables are the whole script's: a map that one probe writes types what another reads.
//! So the walk is repeated, with the types that the last one found, until nothing changes ([`settle`]); what the last
//! walk built and complained about is the result.
//!
//! | file | what |
//! |---|---|
//! | `points` | attach points, wildcards |
//! | `programs` | how many programs a probe's targets need, and of which kind |
//! | `body`, `loops` | scopes, statements, loops |
//! | `expr` | expressions and conditions |
//! | `place` | fields, elements, pointers, casts |
//! | `maps` | entries of maps, aggregations |
//! | `events` | what is reported to the runtime |
//! | `builtins`, `calls`, `text`, `memory`, `path`, `packet`, `options` | names and functions of the language |
//! | `settings` | the config block and the environment |
//! | `meta` | functions about the script itself, mostly answered while it is compiled |
//! | `constants` | C's `#define`s that scripts use |
//! | `value` | values in registers and memory |
//! | `format` | printf formats |
//! | `merge` | types that are to be one |
//!
//! Deliberately absent: optimisation, and anything of the machine.

mod body;
mod builtins;
mod calls;
mod constants;
mod events;
mod expr;
mod format;
mod loops;
mod maps;
mod memory;
mod merge;
mod meta;
mod options;
mod packet;
mod path;
mod place;
pub(super) mod points;
mod programs;
mod settings;
mod text;
mod value;

pub use settings::from_environment;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::ast;
use super::diagnostic::Diagnostic;
use super::env::{FunctionName, ScriptEnv};
use super::output::{
    Compiled, ErrorKind, ErrorSite, EventInfo, MapInfo, Note, Probe, ScriptOption, StackMap, ValueTy,
};
use super::resolve::Universe;
use super::types::Ty;
use crate::ir::{MapDecl, MapKind, Span};
use settings::Settings;

/// Most walks until the types must have settled. Types only ever grow, and seldom more than twice.
const MOST_WALKS: usize = 24;
/// Where all-zero values are, to make new entries from.
const ZEROS: &str = "zeros";

/// Compile a script.
///
/// # Errors
/// Everything that is wrong with it, at its place.
pub fn compile(script: &ast::Script, env: &dyn ScriptEnv) -> Result<Compiled, Vec<Diagnostic>> {
    let mut diagnostics = vec![];
    let settings = Settings::read(script, &mut diagnostics);
    let (universe, wrong) = Universe::new(env.types(), &script.types, settings.strlen);
    for (span, message) in wrong {
        diagnostics.push(Diagnostic::error(span, message));
    }
    let mut global = Global {
        env,
        universe,
        script,
        settings,
        functions: script
            .functions
            .iter()
            .map(|f| (f.name.name.clone(), f))
            .collect(),
        maps: BTreeMap::new(),
        map_index: HashMap::new(),
        vars: HashMap::new(),
        addressed: HashSet::new(),
        changed: false,
        diagnostics: vec![],
        probes: vec![],
        events: vec![],
        errors: vec![],
        stacks: BTreeMap::new(),
        options: vec![],
        dangerous: vec![],
        probe_names: vec![],
        contended: BTreeSet::new(),
        zeros: 8,
    };
    global.declare_maps();
    let points = points::expand(&mut global);
    global.contended = programs::contended(&points);
    diagnostics.append(&mut global.diagnostics);
    settle(&mut global, &points);
    global.unassigned_maps();
    diagnostics.append(&mut global.diagnostics);
    // What several probes or places of a macro have in common is said once.
    let mut seen: Vec<Diagnostic> = vec![];
    for d in diagnostics {
        if !seen.contains(&d) {
            seen.push(d);
        }
    }
    let diagnostics = seen;
    let (errors, warnings): (Vec<_>, Vec<_>) = diagnostics.into_iter().partition(Diagnostic::is_error);
    if errors.is_empty() {
        Ok(global.finish(warnings))
    } else {
        Err(errors)
    }
}

/// Walk the script until its types don't change.
fn settle(global: &mut Global<'_>, points: &[points::Program<'_>]) {
    for walk in 0.. {
        global.changed = false;
        global.start_walk();
        for (instance, program) in points.iter().enumerate() {
            programs::build(global, instance as u32, program);
        }
        if !global.changed {
            return;
        }
        if walk == MOST_WALKS {
            let span = points.first().map(|p| p.source.span).unwrap_or_default();
            global.error(
                span,
                "the types of this script's variables depend on themselves without end",
            );
            return;
        }
    }
}

/// What is known of a map of the script.
#[derive(Clone, Debug, Default)]
pub struct MapState {
    /// `None`: not known yet. `Some(None)`: it has no key.
    pub key: Option<Option<Ty>>,
    pub value: Option<ValueTy>,
    pub declared: Option<(ast::MapKind, u32)>,
    /// Where it is used first.
    pub first: ast::Span,
}

/// What the whole script shares.
pub struct Global<'a> {
    pub env: &'a dyn ScriptEnv,
    pub universe: Universe<'a>,
    pub script: &'a ast::Script,
    pub settings: Settings,
    pub functions: HashMap<String, &'a ast::Function>,
    /// By name without `@`.
    pub maps: BTreeMap<String, MapState>,
    /// Numbers of the maps, as in [`Compiled::maps`].
    map_index: HashMap<String, usize>,
    /// The types of variables, by program and number of declaration in it.
    pub vars: HashMap<(u32, u32), Ty>,
    /// Those of them that are in memory because the script wants their address.
    pub addressed: HashSet<(u32, u32)>,
    pub changed: bool,
    pub diagnostics: Vec<Diagnostic>,
    pub probes: Vec<Probe>,
    pub events: Vec<EventInfo>,
    pub errors: Vec<ErrorSite>,
    pub stacks: BTreeMap<u32, StackMap>,
    options: Vec<ScriptOption>,
    dangerous: Vec<Note>,
    pub probe_names: Vec<String>,
    /// Functions that no link of trampolines may have.
    pub contended: BTreeSet<FunctionName>,
    /// Bytes of the value of [`ZEROS`].
    pub zeros: u32,
}

/// A place in the text, as the IR has it.
pub fn ir_span(span: ast::Span) -> Span {
    Span {
        start: span.start,
        end: span.end,
    }
}

impl Global<'_> {
    pub fn error(&mut self, span: ast::Span, message: impl Into<String>) {
        self.diagnostics.push(Diagnostic::error(span, message));
    }

    pub fn report(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    fn declare_maps(&mut self) {
        for decl in &self.script.maps {
            let entries = u32::try_from(decl.entries).unwrap_or(0);
            if entries == 0 || entries >= 1 << 24 {
                self.diagnostics.push(Diagnostic::error(
                    decl.span,
                    "a map holds from 1 to 16777215 entries",
                ));
                continue;
            }
            let state = self.maps.entry(decl.name.name.clone()).or_default();
            if state.declared.is_some() {
                let message = format!("'@{}' is declared already", decl.name.name);
                self.diagnostics.push(Diagnostic::error(decl.span, message));
            }
            state.declared = Some((decl.kind, entries));
            state.first = decl.span;
        }
    }

    fn start_walk(&mut self) {
        self.diagnostics.clear();
        self.probes.clear();
        self.events.clear();
        self.errors.clear();
        self.probe_names.clear();
        self.stacks.clear();
        self.options.clear();
        self.dangerous.clear();
        self.map_index = self
            .maps
            .keys()
            .enumerate()
            .map(|(i, name)| (name.clone(), i))
            .collect();
    }

    /// The number of a map in [`Compiled::maps`].
    pub fn map_number(&mut self, name: &str, span: ast::Span) -> usize {
        if !self.maps.contains_key(name) {
            self.changed = true;
            let state = MapState {
                first: span,
                ..MapState::default()
            };
            self.maps.insert(name.into(), state);
        }
        self.map_index.get(name).copied().unwrap_or(0)
    }

    fn unassigned_maps(&mut self) {
        let unknown: Vec<(String, ast::Span)> = self
            .maps
            .iter()
            .filter(|(_, state)| state.value.is_none() && state.declared.is_none())
            .map(|(name, state)| (name.clone(), state.first))
            .collect();
        for (name, span) in unknown {
            self.error(span, format!("'@{name}' is used, but nothing is ever put in it"));
        }
    }

    /// The number of an event. Equal events of one place are one.
    pub fn event(&mut self, event: EventInfo) -> u32 {
        if let Some(i) = self.events.iter().position(|e| *e == event) {
            return i as u32;
        }
        self.events.push(event);
        self.events.len() as u32 - 1
    }

    /// The number of a place where something can go wrong.
    pub fn error_site(&mut self, kind: ErrorKind, span: ast::Span) -> u32 {
        let site = ErrorSite {
            kind,
            span: ir_span(span),
        };
        if let Some(i) = self.errors.iter().position(|e| *e == site) {
            return i as u32;
        }
        self.errors.push(site);
        self.errors.len() as u32 - 1
    }

    /// The number of a probe's name.
    pub fn probe_name(&mut self, name: &str) -> u64 {
        match self.probe_names.iter().position(|n| n == name) {
            Some(i) => i as u64,
            None => {
                self.probe_names.push(name.into());
                self.probe_names.len() as u64 - 1
            }
        }
    }

    /// Note an option of the script's. The same name may be asked for again, but not with another default.
    pub fn add_option(&mut self, option: ScriptOption) -> Result<(), String> {
        match self.options.iter().find(|o| o.name == option.name) {
            None => self.options.push(option),
            Some(known) if known.default != option.default => {
                return Err(format!(
                    "the option '{}' has another default elsewhere",
                    option.name
                ));
            }
            Some(_) => {}
        }
        Ok(())
    }

    /// Note a call that the user must allow.
    pub fn needs_unsafe(&mut self, function: &str, span: ast::Span) {
        let note = Note {
            span: ir_span(span),
            message: format!("{function}() changes what the system does; allow it with --unsafe"),
        };
        if !self.dangerous.contains(&note) {
            self.dangerous.push(note);
        }
    }

    /// The stack trace map for so many frames.
    pub fn stack_map(&mut self, depth: u32) -> MapDecl {
        let map = StackMap {
            depth,
            decl: MapDecl {
                name: format!("stack_{depth}"),
                kind: MapKind::StackTrace,
                key_size: 4,
                value_size: 8 * depth,
                max_entries: 1 << 14,
            },
        };
        self.stacks.entry(depth).or_insert(map).decl.clone()
    }

    fn finish(mut self, warnings: Vec<Diagnostic>) -> Compiled {
        let names: Vec<String> = self.maps.keys().cloned().collect();
        let maps = names
            .iter()
            .filter_map(|name| self.map_info(name))
            .collect::<Vec<MapInfo>>();
        let (errors, zeros) = (self.errors.len().max(1) as u32, self.zeros);
        for probe in &mut self.probes {
            for map in &mut probe.program.maps {
                match map.name.as_str() {
                    super::output::ERRORS => map.max_entries = errors,
                    ZEROS => map.value_size = zeros,
                    _ => {}
                }
            }
        }
        Compiled {
            probes: self.probes,
            maps,
            events: self.events,
            errors: self.errors,
            stacks: self.stacks.into_values().collect(),
            probe_names: self.probe_names,
            config: self.settings.config,
            options: self.options,
            dangerous: self.dangerous,
            warnings: warnings
                .into_iter()
                .map(|w| Note {
                    span: ir_span(w.span),
                    message: w.message,
                })
                .collect(),
        }
    }
}
