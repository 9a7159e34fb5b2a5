//! From text to tree, by recursive descent.
//!
//! An error is reported where it is found and travels up as [`Failed`] to the next place where it is clear how to go
//! on: the next statement or the next probe. Nesting, the height of expressions and the number of errors are bounded, so
//! no text can exhaust stack, memory or time.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ops::Range;

use super::ast::{Expr, ExprKind, Script, Span, Type, TypeKind, TypeOrExpr};
use super::{Diagnostic, MAX_TEXT, ParseOptions};
use lex::{Tok, Token};
use preprocess::Preprocessed;

mod expressions;
mod items;
mod lex;
mod points;
mod preprocess;
mod statements;
mod types;

/// How high an expression's tree may be, and how deep blocks may stand in each other.
pub(super) const MAX_DEPTH: u32 = 100;
/// How many of the parser's own functions may stand in each other; a bracket takes two,
/// a block three.
const MAX_NESTING: u32 = 2 * MAX_DEPTH;
/// After so many errors the rest of the text isn't looked at.
const MAX_ERRORS: usize = 20;
/// How many tokens all uses of `#define`d names may bring.
const MAX_REPLACED: usize = 4096;

/// Something is wrong, and it has been reported.
pub(super) struct Failed;

type Parsed<T> = Result<T, Failed>;

/// What is tried first where the text can mean two things.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Guess {
    /// A bracket is a cast.
    Cast,
    /// An operand of `sizeof` and the like is a type.
    Type,
}

pub(super) struct Parser<'a> {
    source: Preprocessed,
    options: &'a ParseOptions,
    /// Where the next token is read from.
    at: usize,
    /// Tokens that were looked at, but not taken.
    queue: VecDeque<Token>,
    /// The token taken last.
    last: Span,
    diagnostics: Vec<Diagnostic>,
    depth: u32,
    /// The height of each expression's tree, by its number.
    heights: Vec<u32>,
    /// The greatest height since somebody set it to zero.
    tallest: u32,
    /// Where a guess was wrong already: guesses in guesses would double the work with each level.
    wrong_guesses: HashSet<(Guess, u32, u32)>,
    /// How many tokens came from `#define`s.
    replaced: usize,
    /// A `/` before a `{` ends the expression.
    in_predicate: bool,
    /// Values of the enums that the script defines.
    constants: HashMap<String, i64>,
    script: Script,
}

/// The tree of `text` with its macros not yet expanded.
pub(super) fn parse(text: &str, options: &ParseOptions) -> (Script, Vec<Diagnostic>) {
    if text.len() > MAX_TEXT {
        let message = format!("the script is longer than {MAX_TEXT} bytes");
        return (
            Script::default(),
            vec![Diagnostic::error(Span::default(), message)],
        );
    }
    let mut parser = Parser {
        source: preprocess::preprocess("", 0),
        options,
        at: 0,
        queue: VecDeque::new(),
        last: Span::default(),
        diagnostics: Vec::new(),
        depth: 0,
        heights: Vec::new(),
        tallest: 0,
        wrong_guesses: HashSet::new(),
        replaced: 0,
        in_predicate: false,
        constants: HashMap::new(),
        script: Script::default(),
    };
    // What is imported comes before what imports it, so from the last file to the first.
    let mut end = text.len();
    for start in options.imported.iter().rev().copied().chain([0]) {
        parser.file(text, start..end);
        end = start;
    }
    parser.script.expressions = parser.heights.len() as u32;
    (parser.script, parser.diagnostics)
}

/// What [`Parser::restore`] goes back to.
struct Saved {
    at: usize,
    queue: VecDeque<Token>,
    last: Span,
    diagnostics: usize,
    depth: u32,
}

impl Parser<'_> {
    /// One of the script's files, which stands at `range`.
    fn file(&mut self, text: &str, range: Range<usize>) {
        let Some(own) = text.get(range.clone()) else {
            return;
        };
        // Behind blanks, so that places stay what they are.
        let padded = " ".repeat(range.start) + own;
        self.source = preprocess::preprocess(&padded, range.start);
        self.diagnostics.append(&mut self.source.diagnostics);
        self.at = range.start;
        self.queue.clear();
        self.last = Span::new(range.start, range.start);
        self.script();
    }

    /// Makes sure that `count` tokens are in the queue.
    fn fill(&mut self, count: usize) {
        while self.queue.len() < count {
            let text = &self.source.text;
            let token = lex::next(text, self.at, text.len(), &mut self.diagnostics);
            self.at = token.span.end as usize;
            let name = match &token.tok {
                Tok::Word(name) if self.source.defines.contains_key(name) => name.clone(),
                _ => {
                    self.queue.push_back(token);
                    continue;
                }
            };
            let before = self.queue.len();
            self.replace(token, &name, &mut Vec::new());
            for (part, token) in self.queue.iter_mut().skip(before).enumerate() {
                token.part = part as u32;
            }
        }
    }

    /// Queues what `#define` says for `name`, or the token itself.
    fn replace(&mut self, token: Token, name: &str, within: &mut Vec<String>) {
        let range = match self.source.define(name, token.span.start as usize) {
            Some(range) if !within.iter().any(|outer| outer == name) => range,
            _ => {
                self.queue.push_back(token);
                return;
            }
        };
        within.push(name.to_string());
        let mut at = range.start;
        loop {
            let next = lex::next(&self.source.define_text, at, range.end, &mut self.diagnostics);
            at = next.span.end as usize;
            self.replaced += 1;
            if next.tok == Tok::End || within.len() > 32 {
                break;
            }
            if self.replaced > MAX_REPLACED {
                if self.replaced == MAX_REPLACED + 1 {
                    self.error(
                        token.span,
                        format!("#defines bring more than {MAX_REPLACED} words and signs"),
                    );
                }
                break;
            }
            let placed = Token {
                tok: next.tok,
                span: token.span,
                part: 0,
            };
            match placed.tok.clone() {
                Tok::Word(inner) => self.replace(placed, &inner, within),
                _ => self.queue.push_back(placed),
            }
        }
        within.pop();
    }

    /// The next token without taking it.
    fn peek(&mut self) -> &Tok {
        self.peek_at(0)
    }

    /// The token behind `skip` others without taking it.
    fn peek_at(&mut self, skip: usize) -> &Tok {
        self.fill(skip + 1);
        &self.queue[skip].tok
    }

    /// Where the next token stands.
    fn here(&mut self) -> Span {
        self.fill(1);
        self.queue[0].span
    }

    fn take(&mut self) -> Token {
        self.fill(1);
        let token = self.queue.pop_front().unwrap_or(Token {
            tok: Tok::End,
            span: self.last,
            part: 0,
        });
        self.last = token.span;
        token
    }

    fn is(&mut self, sign: &str) -> bool {
        matches!(self.peek(), Tok::Sign(found) if *found == sign)
    }

    fn is_word(&mut self, word: &str) -> bool {
        matches!(self.peek(), Tok::Word(found) if found == word)
    }

    /// Takes `sign` if it is next.
    fn eat(&mut self, sign: &str) -> bool {
        let found = self.is(sign);
        if found {
            self.take();
        }
        found
    }

    fn eat_word(&mut self, word: &str) -> bool {
        let found = self.is_word(word);
        if found {
            self.take();
        }
        found
    }

    fn expect(&mut self, sign: &str, context: &str) -> Parsed<Span> {
        if self.is(sign) {
            return Ok(self.take().span);
        }
        self.unexpected(&format!("'{sign}' {context}"))
    }

    /// Reports that something else was expected at the next token.
    fn unexpected<T>(&mut self, expected: &str) -> Parsed<T> {
        let found = self.peek().describe();
        let mut span = self.here();
        if *self.peek() == Tok::End {
            // At the end of what stands there rather than behind blank lines.
            let end = self.last.end as usize;
            span = Span::new(end, end);
        }
        self.fail(Diagnostic::error(
            span,
            format!("expected {expected}, found {found}"),
        ))
    }

    fn error(&mut self, span: Span, message: impl Into<String>) {
        self.diagnostics.push(Diagnostic::error(span, message));
    }

    fn fail<T>(&mut self, diagnostic: Diagnostic) -> Parsed<T> {
        self.diagnostics.push(diagnostic);
        Err(Failed)
    }

    /// So much is wrong that more messages help nobody.
    fn gave_up(&self) -> bool {
        self.diagnostics
            .iter()
            .filter(|diagnostic| diagnostic.is_error())
            .count()
            >= MAX_ERRORS
    }

    fn save(&self) -> Saved {
        Saved {
            at: self.at,
            queue: self.queue.clone(),
            last: self.last,
            diagnostics: self.diagnostics.len(),
            depth: self.depth,
        }
    }

    fn restore(&mut self, saved: Saved) {
        self.at = saved.at;
        self.queue = saved.queue;
        self.last = saved.last;
        self.diagnostics.truncate(saved.diagnostics);
        self.depth = saved.depth;
    }

    /// Goes back to characters: the queue's tokens are read again.
    fn back_to_characters(&mut self) {
        if let Some(token) = self.queue.front() {
            // Tokens of a #define all stand at its use: never go back before what was taken.
            self.at = (token.span.start as usize).max(self.last.end as usize);
            self.queue.clear();
        }
    }

    /// Runs `inner` one level deeper.
    fn nested<T>(&mut self, inner: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        self.deeper(1, inner)
    }

    /// Runs `inner`, which needs as much of the stack as so many levels.
    fn deeper<T>(&mut self, levels: u32, inner: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.depth + levels > MAX_NESTING {
            let span = self.here();
            return self.fail(too_deep(span));
        }
        self.depth += levels;
        let result = inner(self);
        self.depth -= levels;
        result
    }

    /// An expression with the next number.
    fn make(&mut self, kind: ExprKind, span: Span) -> Parsed<Expr> {
        let height = 1 + self.height_below(&kind);
        let id = self.heights.len() as u32;
        self.heights.push(height);
        self.tallest = self.tallest.max(height);
        if height > MAX_DEPTH {
            return self.fail(too_deep(span));
        }
        Ok(Expr { id, kind, span })
    }

    fn height_below(&self, kind: &ExprKind) -> u32 {
        let of = |expr: &Expr| self.heights.get(expr.id as usize).copied().unwrap_or(0);
        let either = |operand: &TypeOrExpr| match operand {
            TypeOrExpr::Expr(expr) => of(expr),
            TypeOrExpr::Type(ty) => height_of_type(ty, &of),
        };
        match kind {
            ExprKind::Integer(_)
            | ExprKind::String(_)
            | ExprKind::Bool(_)
            | ExprKind::Positional(..)
            | ExprKind::PositionalCount(_)
            | ExprKind::Variable(_)
            | ExprKind::Name(_) => 0,
            ExprKind::Map { key, .. } => key.as_deref().map_or(0, of),
            ExprKind::Call { args, .. } | ExprKind::Tuple(args) => args.iter().map(of).max().unwrap_or(0),
            ExprKind::SizeOf(operand) | ExprKind::OffsetOf(operand, _) | ExprKind::TypeInfo(operand) => {
                either(operand)
            }
            ExprKind::ContainerOf(inner, ty, _) | ExprKind::Cast(ty, inner) => {
                of(inner).max(height_of_type(ty, &of))
            }
            ExprKind::Comptime(inner)
            | ExprKind::Unary(_, inner)
            | ExprKind::Step { target: inner, .. }
            | ExprKind::Field(inner, _)
            | ExprKind::TupleField(inner, _) => of(inner),
            ExprKind::Binary(_, left, right) | ExprKind::Index(left, right) => of(left).max(of(right)),
            ExprKind::Ternary(condition, then, otherwise) => of(condition)
                .max(of(otherwise))
                .max(then.as_deref().map_or(0, of)),
            ExprKind::Record(fields) => fields.iter().map(|(_, value)| of(value)).max().unwrap_or(0),
            // Set to zero before their blocks were parsed.
            ExprKind::Block(_) | ExprKind::If(_) => self.tallest,
        }
    }

    /// An expression made of blocks, which `parse` parses.
    fn make_of_blocks(&mut self, parse: impl FnOnce(&mut Self) -> Parsed<ExprKind>) -> Parsed<Expr> {
        let start = self.here();
        let before = std::mem::take(&mut self.tallest);
        let kind = parse(self);
        let made = kind.and_then(|kind| self.make(kind, start.to(self.last)));
        self.tallest = self.tallest.max(before);
        made
    }
}

/// The expressions inside of a type.
fn height_of_type(ty: &Type, of: &dyn Fn(&Expr) -> u32) -> u32 {
    match &ty.kind {
        TypeKind::Pointer(inner) | TypeKind::Array(inner, _) => height_of_type(inner, of),
        TypeKind::Tuple(inner) => inner.iter().map(|ty| height_of_type(ty, of)).max().unwrap_or(0),
        TypeKind::TypeOf(operand) => match &**operand {
            TypeOrExpr::Type(ty) => height_of_type(ty, of),
            TypeOrExpr::Expr(expr) => of(expr),
        },
        _ => 0,
    }
}

fn too_deep(span: Span) -> Diagnostic {
    Diagnostic::error(
        span,
        format!("more than {MAX_DEPTH} levels stand in each other here"),
    )
    .hint("split it with variables, or with macros or functions of less depth")
}
