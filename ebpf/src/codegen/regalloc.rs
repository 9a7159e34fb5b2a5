//! Register allocation by graph colouring (Chaitin and Briggs): build the interference graph, coalesce moves
//! where that can't hurt, colour optimistically, spill what has no colour, again.
//!
//! ```text
//!   build ─▶ coalesce ─▶ simplify ─▶ select ──▶ done
//!     ▲                                 │
//!     └──────── insert spills ◀─────────┘
//! ```
//!
//! The machine: r0 to r5 don't survive calls, r6 to r9 do, r10 is the frame pointer and is never allocated.
//! Arguments and results of calls stand in fixed registers; the emitter moves them there, here they are wishes.
//!
//! Deliberately absent: splitting of live ranges. A spilled register lives in its 8-byte slot and is loaded at
//! each use; one that holds a constant or an address is made again instead.

use super::liveness::{before, live_out};
use super::mir::*;
use super::spill;
use crate::ir::Bits;

/// How many registers can be allocated: r0 to r9.
const REGISTERS: usize = 10;
/// r0 to r5 as a set.
const CLOBBERED: u16 = 0x3f;
/// r6 to r9 as a set: the kernel's compiler saves those that a function uses when it begins.
const PRESERVED: u16 = 0x3c0;

/// The interference graph over virtual registers.
pub struct Graph {
    n: usize,
    matrix: Vec<u64>,
    pub neighbours: Vec<Vec<u32>>,
    /// Machine registers that each can't have.
    forbidden: Vec<u16>,
    /// What a spill would cost: executed loads and stores, by guess.
    pub cost: Vec<f64>,
    /// Written anywhere, or a parameter.
    used: Vec<bool>,
    /// How much each would like each machine register.
    wishes: Vec<[f32; REGISTERS]>,
    /// Moves between virtual registers: (destination, source, weight).
    moves: Vec<(V, V, f32)>,
}

impl Graph {
    fn new(n: usize) -> Graph {
        Graph {
            n,
            matrix: vec![0; (n * n).div_ceil(64)],
            neighbours: vec![vec![]; n],
            forbidden: vec![0; n],
            cost: vec![0.0; n],
            used: vec![false; n],
            wishes: vec![[0.0; REGISTERS]; n],
            moves: vec![],
        }
    }

    fn bit(&self, a: usize, b: usize) -> (usize, u64) {
        let i = a * self.n + b;
        (i / 64, 1 << (i % 64))
    }

    /// True if both are live at the same time with different values.
    pub fn interfere(&self, a: V, b: V) -> bool {
        let (word, bit) = self.bit(a.index(), b.index());
        self.matrix[word] & bit != 0
    }

    fn edge(&mut self, a: V, b: V) {
        if a == b || self.interfere(a, b) {
            return;
        }
        for (a, b) in [(a, b), (b, a)] {
            let (word, bit) = self.bit(a.index(), b.index());
            self.matrix[word] |= bit;
            self.neighbours[a.index()].push(b.0);
        }
    }

    /// How many machine registers are open to it.
    fn choices(&self, v: usize) -> usize {
        REGISTERS - self.forbidden[v].count_ones() as usize
    }
}

/// Allocate: afterwards each [`V`] is the number of a machine register. Returns how many bytes of spill slots
/// were added to the frame.
pub fn allocate(func: &mut Mfunc) -> u32 {
    let mut temporary = vec![false; func.vregs as usize];
    let frames = func.frames.len();
    loop {
        let mut graph = build(func);
        for (v, &temporary) in temporary.iter().enumerate() {
            if temporary {
                graph.cost[v] = f64::INFINITY;
            }
        }
        let alias = coalesce(&mut graph);
        match colour(&graph, &alias) {
            Ok(colours) => {
                rewrite(func, &alias, &colours);
                return func.frames[frames..].iter().map(|f| f.size).sum();
            }
            Err(spilled) => {
                // Apply what was coalesced first: the members of a spilled node share its slot.
                rename(func, &alias);
                spill::insert(func, &spilled, &graph, &mut temporary);
            }
        }
    }
}

fn build(func: &Mfunc) -> Graph {
    let out = live_out(func);
    let depths = func.cfg().loop_depths();
    let mut graph = Graph::new(func.vregs as usize);
    if func.lean {
        graph.forbidden.fill(PRESERVED);
    }
    for (b, block) in func.blocks.iter().enumerate() {
        let weight = 10f64.powi(depths[b].min(6) as i32);
        let mut live = out[b].clone();
        if let Mterm::Return(Arg::V(v)) = block.term {
            graph.wishes[v.index()][0] += weight as f32;
        }
        block.term.visit(|v| {
            graph.cost[v.index()] += weight;
            live.insert(v.index());
        });
        for inst in block.insts.iter().rev() {
            instruction(&mut graph, &mut live, &inst.op, weight);
            // Spilled, it would not be stored, and its definition would go.
            if func.repeatable(&inst.op) {
                inst.op.visit(|v, _| graph.cost[v.index()] -= weight);
            }
        }
        if b == func.entry.index() {
            parameters(&mut graph, func, &live);
        }
    }
    graph
}

fn instruction(graph: &mut Graph, live: &mut Bits, op: &Mop, weight: f64) {
    if let Mop::Call { args, dst, .. } = op {
        if let Some(dst) = dst {
            live.remove(dst.index());
            graph.wishes[dst.index()][0] += weight as f32;
        }
        for v in live.iter() {
            graph.forbidden[v] |= CLOBBERED;
        }
        for (i, arg) in args.iter().enumerate() {
            if let Arg::V(v) = arg {
                graph.wishes[v.index()][i + 1] += weight as f32;
            }
        }
    }
    let copied = match *op {
        Mop::Mov { dst, src } | Mop::Copy { dst, src, .. } => {
            graph.moves.push((dst, src, weight as f32));
            Some(src)
        }
        _ => None,
    };
    op.visit(|v, role| {
        graph.cost[v.index()] += weight;
        if role.writes() {
            graph.used[v.index()] = true;
            for other in live.iter().map(|i| V(i as u32)) {
                if Some(other) != copied {
                    graph.edge(v, other);
                }
            }
        }
    });
    before(op, live);
}

fn parameters(graph: &mut Graph, func: &Mfunc, live: &Bits) {
    for (i, param) in func.params.iter().enumerate() {
        let Param::V(v) = *param else { continue };
        graph.used[v.index()] = true;
        graph.cost[v.index()] += 1.0;
        graph.wishes[v.index()][i + 1] += 1.0;
        for other in live.iter() {
            graph.edge(v, V(other as u32));
        }
        for other in &func.params {
            if let Param::V(other) = *other {
                graph.edge(v, other);
            }
        }
    }
}

/// Merge the ends of moves where the merged node is still sure to find a register (Briggs' test). Returns whom
/// each register was merged into.
fn coalesce(graph: &mut Graph) -> Vec<u32> {
    let mut alias: Vec<u32> = (0..graph.n as u32).collect();
    let mut moves = std::mem::take(&mut graph.moves);
    // The hottest first; of equals the first.
    moves.sort_by(|a, b| b.2.total_cmp(&a.2));
    let mut again = true;
    while again {
        again = false;
        for &(dst, src, _) in &moves {
            let (a, b) = (find(&alias, dst.0), find(&alias, src.0));
            if a == b || graph.interfere(V(a), V(b)) || !briggs(graph, a as usize, b as usize) {
                continue;
            }
            merge(graph, a, b);
            alias[b as usize] = a;
            again = true;
        }
    }
    graph.moves = moves;
    alias
}

/// Whom `v` was merged into.
fn find(alias: &[u32], mut v: u32) -> u32 {
    while alias[v as usize] != v {
        v = alias[v as usize];
    }
    v
}

fn briggs(graph: &Graph, a: usize, b: usize) -> bool {
    let choices = REGISTERS - (graph.forbidden[a] | graph.forbidden[b]).count_ones() as usize;
    if choices == 0 {
        return false;
    }
    // Temporaries of spills must stay as small as they are.
    if graph.cost[a].is_infinite() || graph.cost[b].is_infinite() {
        return false;
    }
    let significant = |v: usize| graph.neighbours[v].len() >= graph.choices(v);
    let from_a = graph.neighbours[a]
        .iter()
        .filter(|&&v| significant(v as usize))
        .count();
    let from_b = graph.neighbours[b]
        .iter()
        .filter(|&&v| significant(v as usize) && !graph.interfere(V(a as u32), V(v)))
        .count();
    from_a + from_b < choices
}

/// Merge `b` into `a`. `b` loses its edges.
fn merge(graph: &mut Graph, a: u32, b: u32) {
    for v in std::mem::take(&mut graph.neighbours[b as usize]) {
        for (x, y) in [(v, b), (b, v)] {
            let (word, bit) = graph.bit(x as usize, y as usize);
            graph.matrix[word] &= !bit;
        }
        graph.neighbours[v as usize].retain(|&x| x != b);
        graph.edge(V(a), V(v));
    }
    graph.forbidden[a as usize] |= graph.forbidden[b as usize];
    graph.cost[a as usize] += graph.cost[b as usize];
    graph.used[a as usize] |= graph.used[b as usize];
    for i in 0..REGISTERS {
        graph.wishes[a as usize][i] += graph.wishes[b as usize][i];
    }
}

/// A machine register for each node, or the nodes to spill.
fn colour(graph: &Graph, alias: &[u32]) -> Result<Vec<Option<u8>>, Vec<V>> {
    let n = graph.n;
    let node = |v: usize| alias[v] as usize == v && (graph.used[v] || graph.cost[v] > 0.0);
    let mut degree: Vec<usize> = (0..n).map(|v| graph.neighbours[v].len()).collect();
    let mut removed: Vec<bool> = (0..n).map(|v| !node(v)).collect();
    let mut order = vec![];
    let mut easy: Vec<usize> = (0..n)
        .rev()
        .filter(|&v| !removed[v] && degree[v] < graph.choices(v))
        .collect();
    let mut left = removed.iter().filter(|r| !**r).count();
    while left > 0 {
        let v = match easy.pop() {
            Some(v) if removed[v] => continue,
            Some(v) => v,
            None => {
                // The cheapest to spill for the room it makes.
                let price = |v: usize| graph.cost[v] / (degree[v] + 1) as f64;
                (0..n)
                    .filter(|&v| !removed[v])
                    .min_by(|&a, &b| price(a).total_cmp(&price(b)))
                    .expect("nodes are left")
            }
        };
        removed[v] = true;
        left -= 1;
        order.push(v);
        for &other in &graph.neighbours[v] {
            let other = other as usize;
            degree[other] -= 1;
            if !removed[other] && degree[other] + 1 == graph.choices(other) {
                easy.push(other);
            }
        }
    }

    // Partners of moves that could not be merged.
    let mut partners: Vec<Vec<(usize, f32)>> = vec![vec![]; n];
    for &(dst, src, weight) in &graph.moves {
        let (a, b) = (find(alias, dst.0) as usize, find(alias, src.0) as usize);
        if a != b {
            partners[a].push((b, weight));
            partners[b].push((a, weight));
        }
    }
    let mut colours: Vec<Option<u8>> = vec![None; n];
    let mut spilled = vec![];
    for &v in order.iter().rev() {
        let mut taken = graph.forbidden[v];
        for &other in &graph.neighbours[v] {
            if let Some(colour) = colours[other as usize] {
                taken |= 1 << colour;
            }
        }
        let mut wishes = graph.wishes[v];
        // Leave to neighbours what they would like, unless it is worth more here.
        for &other in &graph.neighbours[v] {
            if colours[other as usize].is_none() {
                for (wish, theirs) in wishes.iter_mut().zip(&graph.wishes[other as usize]) {
                    *wish -= theirs / 2.0;
                }
            }
        }
        for &(partner, weight) in &partners[v] {
            if let Some(colour) = colours[partner] {
                wishes[usize::from(colour)] += weight;
            }
        }
        // Of equals the lowest: those that calls clobber first.
        let best = (0..REGISTERS)
            .rev()
            .filter(|&r| taken & 1 << r == 0)
            .max_by(|&a, &b| wishes[a].total_cmp(&wishes[b]));
        match best {
            Some(r) => colours[v] = Some(r as u8),
            None => spilled.push(V(v as u32)),
        }
    }
    if spilled.is_empty() {
        Ok(colours)
    } else {
        Err(spilled)
    }
}

/// Replace each register by the one that it was merged into.
fn rename(func: &mut Mfunc, alias: &[u32]) {
    map_registers(func, |v| V(find(alias, v.0)));
}

/// Replace each register by its machine register.
fn rewrite(func: &mut Mfunc, alias: &[u32], colours: &[Option<u8>]) {
    map_registers(func, |v| {
        V(colours[find(alias, v.0) as usize].unwrap_or_default().into())
    });
    for block in &mut func.blocks {
        block.insts.retain(
            |inst| !matches!(inst.op, Mop::Mov { dst, src } | Mop::Copy { dst, src, .. } if dst == src),
        );
    }
}

fn map_registers(func: &mut Mfunc, f: impl Fn(V) -> V) {
    for block in &mut func.blocks {
        for inst in &mut block.insts {
            inst.op.visit_mut(|v, _| *v = f(*v));
        }
        block.insts.retain(
            |inst| !matches!(inst.op, Mop::Mov { dst, src } | Mop::Copy { dst, src, .. } if dst == src),
        );
        block.term.visit_mut(|v| *v = f(*v));
    }
    for param in &mut func.params {
        if let Param::V(v) = param {
            *v = f(*v);
        }
    }
}
