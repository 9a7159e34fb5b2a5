//! pcap-filter: text to a predicate over packets, and that predicate to IR.
//!
//! ```text
//!   text ─▶ lex ─▶ parse: Ast ─▶ resolve: tree of tests ─▶ lower: IR in a program of the caller's
//! ```
//!
//! A filter is a piece of a program, never a whole one: [`lower`] appends to the caller's function and leaves it
//! through one of two blocks. What the filter knows about the packet comes from the caller's [`View`]; what it knows
//! about names, from [`Names`].
//!
//! Deliberately absent: name resolution itself, capture files, and any knowledge of where the packet comes from.

pub mod ast;
mod error;
pub mod frame;
mod lex;
mod lower;
mod names;
mod parse;
mod resolve;
mod show;
mod tree;
mod uses;
mod view;
mod words;

pub use error::{Error, Notice};
pub use names::{Names, NoNames, Transport};
pub use view::{COMM_LEN, Field, Regs, View};

use crate::ir::{Block, Builder};
use crate::kernel::Types;

/// What a filter's text is read against.
#[derive(Clone, Copy)]
pub struct Env<'a> {
    /// Host, service and interface names.
    pub names: &'a dyn Names,
    /// Follow libpcap to the letter where ktrail otherwise differs on purpose.
    pub pcap_compat: bool,
    /// The types of the kernel whose packets are meant; `None` for packets of a capture, of which nothing is known but
    /// their bytes.
    pub kernel: Option<&'a dyn Types>,
}

impl Default for Env<'_> {
    fn default() -> Self {
        Env {
            names: &NoNames,
            pcap_compat: false,
            kernel: None,
        }
    }
}

/// A filter that has been read and resolved: ready to be lowered into any number of programs.
#[derive(Clone, Debug)]
pub struct Filter {
    ast: ast::Ast,
    resolved: resolve::Resolved,
}

impl Filter {
    /// What was read.
    pub fn ast(&self) -> &ast::Ast {
        &self.ast
    }

    /// What whoever typed the filter should know.
    pub fn notices(&self) -> &[Notice] {
        &self.resolved.notices
    }

    /// Whether the filter asks for more than a packet's bytes: something that only a packet in the kernel has.
    pub fn asks_the_kernel(&self) -> bool {
        let fields = &self.resolved.fields;
        fields.iter().any(|field| {
            matches!(
                field,
                Field::Skb | Field::Netns | Field::Pid | Field::Comm { .. } | Field::Cgroup { .. }
            )
        })
    }

    /// Whether the filter may ask the view for `field`.
    pub fn asks_for(&self, field: Field) -> bool {
        self.resolved.fields.contains(&field)
    }
}

/// Read and resolve a filter. An empty text matches every packet.
///
/// # Errors
/// One, at the first place that can't be read or has no meaning.
pub fn parse(text: &str, env: &Env<'_>) -> Result<Filter, Error> {
    let ast = parse::parse(text, env)?;
    let resolved = resolve::resolve(&ast, env)?;
    Ok(Filter { ast, resolved })
}

/// Append `filter` to `b`'s current block. Every way through it ends in a jump to `hit` or to `miss`. As in libpcap a
/// load outside of the packet means that the whole filter doesn't match, even under `not`.
pub fn lower(b: &mut Builder, filter: &Filter, view: &mut dyn View, hit: Block, miss: Block) {
    lower::lower(b, &filter.resolved, view, hit, miss);
}
