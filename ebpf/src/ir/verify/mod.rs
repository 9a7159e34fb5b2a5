//! The IR's verifier: what code generation relies on, and what the kernel's verifier would refuse with a message
//! that nobody understands.
//!
//! # Rules
//! Structure (`structure`):
//! - A program has an entry function, without parameters; functions have at most 5, in distinct registers.
//! - Registers, slots, blocks, maps and functions that are named exist. Every block has a terminator.
//! - A slot has 1 byte at least and is aligned to 1, 2, 4 or 8.
//! - Map declarations are what the kernel takes: sizes of keys, values and ring buffers.
//! - A back edge enters a block with a [`LoopBound`] that dominates where it comes from; the bound is 1 at least,
//!   and the way out of it lies outside of the loop.
//! - Functions don't call each other in a circle, nor more than 8 deep.
//!
//! Types (`types`, `calls`):
//! - Plain loads and stores go to the context (loads), stack, map values and ring records. A pointer that may be
//!   null is only compared, moved and checked.
//! - Arithmetic on pointers is addition and subtraction of integers, 64 bits wide; on a `direct` kernel pointer
//!   of constants. Kernel addresses that are not `direct` and user addresses are numbers to the kernel, so they
//!   mix with integers.
//! - `direct` pointers come from arguments of [`ProgramKind::Tracing`] and from 8-byte loads through `direct`
//!   pointers. That the pointee is what BTF says is the front end's promise; so is that an `Int` loaded through
//!   one is not a pointer there.
//! - The context and arguments are for the entry function, and for functions whose first parameter is the context.
//! - Map registers are written once, by [`Op::MapAddr`]; packet registers only by [`Op::PacketOpen`].
//! - A helper's arguments and result follow [`crate::isa::Helper::signature`]; the map is of a type that the helper
//!   works on; a called function's arguments have its parameters' types.
//!
//! Memory (`memory`), where addresses are known to be constant:
//! - Accesses, helpers' buffers, keys and values lie inside of the slot, the map's value, the record.
//! - Accesses to the stack are aligned, and so are atomic ones anywhere.
//! - Bytes of a slot are written before they are read, on every path (kernels before 6.3 insist). Slots whose
//!   address is computed at run time, or handed to a function, are exempt.
//!
//! Flow (`flow`):
//! - A register is written before it is read, on every path.
//! - A reserved ring record is submitted or discarded exactly once on every path, and not used after that.
//!
//! Deliberately absent: the ranges of offsets that are computed at run time, how many instructions the kernel's
//! verifier will walk, and which helpers a program type may call. The kernel says so at load time.

mod calls;
mod flow;
mod memory;
mod structure;
mod types;

use super::*;

/// A rule that is broken. Always a front end's bug, except where the message says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("in {func}, {place}: {message}")]
pub struct VerifyError {
    /// The function.
    pub func: String,
    /// Block and operation, in textual IR.
    pub place: String,
    /// What is wrong.
    pub message: String,
    /// Where it came from.
    pub span: Span,
}

/// Check a program against the rules above.
///
/// # Errors
/// Every rule that is broken, in order of function and block. What is too broken to look further is reported
/// alone.
pub fn verify(program: &Program) -> Result<(), Vec<VerifyError>> {
    let mut errors = vec![];
    structure::check(program, &mut errors);
    if !errors.is_empty() {
        return Err(errors);
    }
    for (index, func) in program.functions.iter().enumerate() {
        let mut checker = Checker::new(program, index, func);
        types::check(&mut checker);
        // What follows takes sound types for granted.
        if checker.errors.is_empty() {
            flow::check(&mut checker);
            memory::check(&mut checker);
        }
        errors.extend(checker.errors);
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// The state of checking one function.
struct Checker<'a> {
    program: &'a Program,
    index: usize,
    func: &'a Function,
    cfg: Cfg,
    /// How often each register is written.
    writes: Vec<u32>,
    /// What is being looked at: block, and operation (the terminator counts as one behind the last).
    at: (usize, usize),
    errors: Vec<VerifyError>,
}

impl<'a> Checker<'a> {
    fn new(program: &'a Program, index: usize, func: &'a Function) -> Checker<'a> {
        Checker {
            program,
            index,
            func,
            cfg: func.cfg(),
            writes: func.count_writes(),
            at: (0, 0),
            errors: vec![],
        }
    }

    fn type_of(&self, reg: Reg) -> Type {
        self.func.type_of(reg)
    }

    fn written_once(&self, reg: Reg) -> bool {
        self.writes[reg.0 as usize] == 1
    }

    /// A type in words, with its article.
    fn name(&self, ty: Type) -> String {
        let text = match ty {
            Type::Int => "an integer".into(),
            Type::Ctx => "the context".into(),
            Type::Stack => "a stack address".into(),
            Type::Map => "a map".into(),
            Type::MapValue { map, .. } => format!("an address in a value of {}", self.program.map(map)),
            Type::Record { size, .. } => format!("a ring record of {size} bytes"),
            Type::Kernel { direct: false } => "a kernel address".into(),
            Type::Kernel { direct: true } => "a direct kernel pointer".into(),
            Type::User => "a user address".into(),
            Type::Packet => "a packet".into(),
        };
        if ty.nullable() {
            format!("{text}, or null")
        } else {
            text
        }
    }

    /// Report that a rule is broken here.
    fn fail(&mut self, message: impl Into<String>) {
        let (b, i) = self.at;
        let block = &self.func.blocks[b];
        let (text, span) = match block.insts.get(i) {
            Some(inst) => (self.program.op_text(&inst.op), inst.span),
            None => (
                block.term.as_ref().map(Term::to_string).unwrap_or_default(),
                block.term_span,
            ),
        };
        self.errors.push(VerifyError {
            func: self.func.name.clone(),
            place: format!("b{b}: {text}"),
            message: message.into(),
            span,
        });
    }
}
