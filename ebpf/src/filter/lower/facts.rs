//! What is known at a point of the program that is being built.

use crate::filter::tree::{NumId, PathId, Window};
use crate::filter::view::Field;
use crate::ir::Reg;

/// As many numbers are kept in registers, and as many facts are remembered: what is older is forgotten.
const MEMORY: usize = 24;

/// What a test has found out about a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fact {
    /// It has this value.
    Is(u32),
    /// It doesn't have this value.
    Not(u32),
}

/// What is known.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    /// Numbers in registers.
    regs: Vec<(NumId, Reg)>,
    /// Loaded numbers in registers, in network byte order.
    raw: Vec<(NumId, Reg)>,
    facts: Vec<(NumId, Fact)>,
    /// Fields of the view in registers.
    fields: Vec<(Field, Reg)>,
    /// Addresses of kernel objects in registers.
    objects: Vec<(PathId, Reg)>,
    /// Bytes that are known to be inside, by window, or taken to be until a later check.
    proven: [u32; 2],
    /// Bytes from the network header on that are known to be inside.
    checked: u32,
}

impl State {
    /// The value of a number, if a test has found it out.
    pub fn value(&self, num: NumId) -> Option<u32> {
        self.facts.iter().find_map(|(known, fact)| match fact {
            Fact::Is(value) if *known == num => Some(*value),
            _ => None,
        })
    }

    /// It is known that `num` is not `value`.
    pub fn excludes(&self, num: NumId, value: u32) -> bool {
        self.facts.iter().any(|(known, fact)| {
            *known == num
                && match fact {
                    Fact::Is(is) => *is != value,
                    Fact::Not(not) => *not == value,
                }
        })
    }

    pub fn learn(&mut self, num: NumId, fact: Fact) {
        remember(&mut self.facts, (num, fact));
    }

    pub fn reg(&self, num: NumId) -> Option<Reg> {
        find(&self.regs, num)
    }

    pub fn set_reg(&mut self, num: NumId, reg: Reg) {
        remember(&mut self.regs, (num, reg));
    }

    pub fn raw(&self, num: NumId) -> Option<Reg> {
        find(&self.raw, num)
    }

    pub fn set_raw(&mut self, num: NumId, reg: Reg) {
        remember(&mut self.raw, (num, reg));
    }

    pub fn field(&self, field: Field) -> Option<Reg> {
        find(&self.fields, field)
    }

    pub fn set_field(&mut self, field: Field, reg: Reg) {
        self.fields.push((field, reg));
    }

    pub fn object(&self, path: PathId) -> Option<Reg> {
        find(&self.objects, path)
    }

    pub fn set_object(&mut self, path: PathId, reg: Reg) {
        remember(&mut self.objects, (path, reg));
    }

    pub fn proven(&self, window: Window) -> u32 {
        self.proven[window as usize]
    }

    pub fn prove(&mut self, window: Window, bytes: u32) {
        self.proven[window as usize] = self.proven(window).max(bytes);
    }

    pub fn checked(&self) -> u32 {
        self.checked
    }

    pub fn check(&mut self, bytes: u32) {
        self.checked = self.checked.max(bytes);
    }

    /// Keep what `other` knows too.
    pub fn meet(&mut self, other: &State) {
        self.regs.retain(|known| other.regs.contains(known));
        self.raw.retain(|known| other.raw.contains(known));
        self.fields.retain(|known| other.fields.contains(known));
        self.objects.retain(|known| other.objects.contains(known));
        self.facts.retain(|(num, fact)| match fact {
            Fact::Not(value) => other.excludes(*num, *value),
            _ => other.facts.contains(&(*num, *fact)),
        });
        for (mine, theirs) in self.proven.iter_mut().zip(other.proven) {
            *mine = theirs.min(*mine);
        }
        self.checked = self.checked.min(other.checked);
    }
}

fn find<K: PartialEq, V: Copy>(known: &[(K, V)], key: K) -> Option<V> {
    known.iter().rev().find(|(k, _)| *k == key).map(|(_, v)| *v)
}

fn remember<T: PartialEq>(memory: &mut Vec<T>, new: T) {
    if memory.contains(&new) {
        return;
    }
    if memory.len() == MEMORY {
        memory.remove(0);
    }
    memory.push(new);
}
