//! Spilling: virtual registers that found no machine register move to the frame, or are made again at each use.

use std::collections::BTreeMap;

use super::mir::*;
use super::regalloc::Graph;
use crate::ir::{Size, Span};
use crate::isa::op;

/// What becomes of a spilled register.
#[derive(Clone)]
enum Home {
    /// Always 8 bytes: the kernel's verifier forgets what a partly written slot holds.
    Slot(Frame),
    /// Made again by this instruction ([`Mfunc::repeatable`]).
    Again(Mop),
}

/// Rewrite `func` so that none of `spilled` is a register any more. The registers that this needs for the time of
/// one instruction are marked in `temporary`: they must not be spilled again.
pub fn insert(func: &mut Mfunc, spilled: &[V], graph: &Graph, temporary: &mut Vec<bool>) {
    let homes = find_homes(func, spilled, graph);
    let mut spiller = Spiller {
        homes,
        vregs: func.vregs,
        out: vec![],
        span: Span::NONE,
    };
    for block in &mut func.blocks {
        for inst in std::mem::take(&mut block.insts) {
            spiller.span = inst.span;
            spiller.instruction(inst.op);
        }
        spiller.span = block.term_span;
        if let Mterm::Return(Arg::V(v)) = block.term
            && let Some(arg) = spiller.homes.get(&v).and_then(as_argument)
        {
            block.term = Mterm::Return(arg);
        } else {
            let mut loaded = BTreeMap::new();
            block.term.visit_mut(|v| *v = spiller.read(*v, &mut loaded));
        }
        block.insts = std::mem::take(&mut spiller.out);
    }
    func.vregs = spiller.vregs;
    for param in &mut func.params {
        if let Param::V(v) = param
            && let Some(Home::Slot(frame)) = spiller.homes.get(v)
        {
            *param = Param::Spilled(*frame);
        }
    }
    temporary.resize(func.vregs as usize, true);
}

/// Choose a home for each spilled register. Registers that don't interfere share slots.
fn find_homes(func: &mut Mfunc, spilled: &[V], graph: &Graph) -> BTreeMap<V, Home> {
    let mut definitions: BTreeMap<V, Vec<Mop>> = spilled.iter().map(|v| (*v, vec![])).collect();
    for inst in func.blocks.iter().flat_map(|block| &block.insts) {
        inst.op.visit(|v, role| {
            if role.writes()
                && let Some(ops) = definitions.get_mut(&v)
            {
                ops.push(inst.op.clone());
            }
        });
    }
    let mut homes = BTreeMap::new();
    let mut slots: Vec<(Frame, Vec<V>)> = vec![];
    for (v, ops) in definitions {
        let parameter = func.params.contains(&Param::V(v));
        if let [op] = ops.as_slice()
            && func.repeatable(op)
            && !parameter
        {
            homes.insert(v, Home::Again(op.clone()));
            continue;
        }
        let shared = slots
            .iter_mut()
            .find(|(_, members)| members.iter().all(|m| !graph.interfere(v, *m)));
        let frame = match shared {
            Some((frame, members)) => {
                members.push(v);
                *frame
            }
            None => {
                let frame = func.frame(8, 8);
                slots.push((frame, vec![v]));
                frame
            }
        };
        homes.insert(v, Home::Slot(frame));
    }
    homes
}

/// The argument that has a spilled register's value, without a register.
fn as_argument(home: &Home) -> Option<Arg> {
    match home {
        Home::Slot(frame) => Some(Arg::Spilled(*frame)),
        Home::Again(Mop::Const { value, .. }) => Some(Arg::Imm(*value)),
        Home::Again(Mop::Map { map, value_off, .. }) => Some(Arg::Map(*map, *value_off)),
        Home::Again(Mop::FrameAddr { frame, off, .. }) => Some(Arg::Frame(*frame, *off)),
        Home::Again(_) => None,
    }
}

struct Spiller {
    homes: BTreeMap<V, Home>,
    vregs: u32,
    out: Vec<Minst>,
    span: Span,
}

impl Spiller {
    fn push(&mut self, op: Mop) {
        self.out.push(Minst { op, span: self.span });
    }

    fn vreg(&mut self) -> V {
        self.vregs += 1;
        V(self.vregs - 1)
    }

    fn load(&mut self, dst: V, home: Home) {
        match home {
            Home::Slot(frame) => self.push(Mop::Load {
                dst,
                base: Base::Frame(frame),
                off: 0,
                size: Size::B8,
                signed: false,
            }),
            Home::Again(mut op) => {
                op.visit_mut(|v, _| *v = dst);
                self.push(op);
            }
        }
    }

    fn store(&mut self, frame: Frame, src: V) {
        self.push(Mop::Store {
            base: Base::Frame(frame),
            off: 0,
            src: Src::V(src),
            size: Size::B8,
        });
    }

    /// A register that holds `v`'s value for the next instruction.
    fn read(&mut self, v: V, loaded: &mut BTreeMap<V, V>) -> V {
        let Some(home) = self.homes.get(&v).cloned() else {
            return v;
        };
        if let Some(temp) = loaded.get(&v) {
            return *temp;
        }
        let temp = self.vreg();
        loaded.insert(v, temp);
        self.load(temp, home);
        temp
    }

    fn instruction(&mut self, mut op: Mop) {
        match &mut op {
            // Moves and constants go to and from the slot directly.
            &mut (Mop::Mov { dst, src } | Mop::Copy { dst, src, .. }) => {
                match (self.homes.get(&dst).cloned(), self.homes.get(&src).cloned()) {
                    (None, Some(home)) => return self.load(dst, home),
                    (Some(Home::Slot(frame)), None) => {
                        if let Mop::Copy { .. } = op {
                            // What is stored keeps what the verifier knows of where it came from.
                            self.push(Mop::Alu {
                                code: op::ADD,
                                signed: false,
                                wide: true,
                                dst: src,
                                src: Src::Imm(0),
                            });
                        }
                        return self.store(frame, src);
                    }
                    (Some(Home::Slot(a)), Some(Home::Slot(b))) if a == b => return,
                    _ => {}
                }
            }
            Mop::Const { dst, value } => {
                if let (Some(Home::Slot(frame)), Ok(value)) = (self.homes.get(dst), i32::try_from(*value)) {
                    let op = Mop::Store {
                        base: Base::Frame(*frame),
                        off: 0,
                        src: Src::Imm(value),
                        size: Size::B8,
                    };
                    return self.push(op);
                }
            }
            Mop::Call { args, .. } => {
                for arg in args {
                    if let Arg::V(v) = arg
                        && let Some(fixed) = self.homes.get(v).and_then(as_argument)
                    {
                        *arg = fixed;
                    }
                }
            }
            _ => {}
        }
        let mut loaded = BTreeMap::new();
        let mut written = None;
        let mut made_again = false;
        op.visit_mut(|v, role| {
            let original = *v;
            match role {
                Role::Use => *v = self.read(original, &mut loaded),
                Role::Both => *v = self.read(original, &mut loaded),
                Role::Def => {}
            }
            if role.writes() {
                match self.homes.get(&original) {
                    Some(Home::Slot(frame)) => {
                        let frame = *frame;
                        // A temporary that was read may be overwritten: this is its only instruction.
                        if role == Role::Def {
                            *v = self.vreg();
                        }
                        written = Some((frame, *v));
                    }
                    Some(Home::Again(_)) => made_again = true,
                    None => {}
                }
            }
        });
        if made_again {
            // The one definition of a register that is made again at each use.
            return;
        }
        self.push(op);
        if let Some((frame, v)) = written {
            self.store(frame, v);
        }
    }
}
