//! Control-flow graphs: order, dominators, loops. Shared by the IR and by code generation.

/// What is known about the shape of a graph of blocks, numbered from 0.
pub struct Cfg {
    /// Successors of each block, as given.
    pub succs: Vec<Vec<usize>>,
    /// Predecessors of each block that are reachable themselves, without repetition, in order of number.
    pub preds: Vec<Vec<usize>>,
    /// The reachable blocks in reverse post-order. The last successor of a block is visited last, so it comes
    /// right behind where possible.
    pub rpo: Vec<usize>,
    /// Position of each block in `rpo`; `usize::MAX` for an unreachable one.
    pub position: Vec<usize>,
    /// The edges along which a depth-first walk meets a block that it is still inside of: `(from, to)`.
    pub back_edges: Vec<(usize, usize)>,
    idom: Vec<usize>,
}

const NONE: usize = usize::MAX;

impl Cfg {
    /// The graph that starts at `entry`.
    pub fn new(entry: usize, succs: Vec<Vec<usize>>) -> Cfg {
        let n = succs.len();
        let mut state = vec![0u8; n]; // 0 new, 1 inside, 2 done
        let mut post = vec![];
        let mut back_edges = vec![];
        let mut stack = vec![(entry, 0)];
        state[entry] = 1;
        while let Some(&mut (block, ref mut next)) = stack.last_mut() {
            if let Some(&to) = succs[block].get(*next) {
                *next += 1;
                match state[to] {
                    0 => {
                        state[to] = 1;
                        stack.push((to, 0));
                    }
                    1 => back_edges.push((block, to)),
                    _ => {}
                }
            } else {
                state[block] = 2;
                post.push(block);
                stack.pop();
            }
        }
        let rpo: Vec<usize> = post.into_iter().rev().collect();
        let mut position = vec![NONE; n];
        for (i, &block) in rpo.iter().enumerate() {
            position[block] = i;
        }
        let mut preds = vec![vec![]; n];
        for from in 0..n {
            if position[from] == NONE {
                continue;
            }
            for &to in &succs[from] {
                if preds[to].last() != Some(&from) {
                    preds[to].push(from);
                }
            }
        }
        back_edges.sort_unstable();
        back_edges.dedup();
        let mut cfg = Cfg {
            succs,
            preds,
            rpo,
            position,
            back_edges,
            idom: vec![NONE; n],
        };
        cfg.find_dominators(entry);
        cfg
    }

    /// Cooper, Harvey and Kennedy's iteration.
    fn find_dominators(&mut self, entry: usize) {
        self.idom[entry] = entry;
        // The latest first: then the way up from where they meet is walked once, however many they are.
        let mut preds = self.preds.clone();
        for preds in &mut preds {
            preds.sort_unstable_by_key(|p| std::cmp::Reverse(self.position[*p]));
        }
        let mut changed = true;
        while changed {
            changed = false;
            for &block in &self.rpo[1..] {
                let mut new = NONE;
                for &pred in &preds[block] {
                    if self.idom[pred] != NONE {
                        new = if new == NONE { pred } else { self.common(new, pred) };
                    }
                }
                if self.idom[block] != new {
                    self.idom[block] = new;
                    changed = true;
                }
            }
        }
    }

    fn common(&self, mut a: usize, mut b: usize) -> usize {
        while a != b {
            while self.position[a] > self.position[b] {
                a = self.idom[a];
            }
            while self.position[b] > self.position[a] {
                b = self.idom[b];
            }
        }
        a
    }

    /// True if control reaches the block.
    pub fn reachable(&self, block: usize) -> bool {
        self.position[block] != NONE
    }

    /// True if every path from the entry to `b` passes through `a`. Both must be reachable.
    pub fn dominates(&self, a: usize, mut b: usize) -> bool {
        while self.position[b] > self.position[a] {
            b = self.idom[b];
        }
        a == b
    }

    /// The block that every path to `block` passes last, itself aside; itself for the entry. Must be reachable.
    pub fn immediate_dominator(&self, block: usize) -> usize {
        self.idom[block]
    }

    /// The last block that every path to `a` and every path to `b` passes. Both must be reachable.
    pub fn common_dominator(&self, a: usize, b: usize) -> usize {
        self.common(a, b)
    }

    /// The blocks of the loop that starts at `header`: those that reach one of its back edges without passing
    /// through it. Back edges that it does not dominate don't count.
    pub fn natural_loop(&self, header: usize) -> Vec<bool> {
        let mut inside = vec![false; self.succs.len()];
        inside[header] = true;
        let mut work: Vec<usize> = self
            .back_edges
            .iter()
            .filter(|edge| edge.1 == header && self.dominates(header, edge.0))
            .map(|edge| edge.0)
            .collect();
        while let Some(block) = work.pop() {
            if !inside[block] {
                inside[block] = true;
                work.extend(&self.preds[block]);
            }
        }
        inside
    }

    /// In how many loops each block is. Counts loops whose header dominates the jump back.
    pub fn loop_depths(&self) -> Vec<u32> {
        let mut depth = vec![0; self.succs.len()];
        let mut headers: Vec<usize> = self.back_edges.iter().map(|edge| edge.1).collect();
        headers.sort_unstable();
        headers.dedup();
        for header in headers {
            for (d, inside) in depth.iter_mut().zip(self.natural_loop(header)) {
                *d += u32::from(inside);
            }
        }
        depth
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_in_a_loop() {
        // 0 → 1 → 2 → 2, 2 → 1, 1 → 3; 4 is unreachable.
        let cfg = Cfg::new(0, vec![vec![1], vec![3, 2], vec![1, 2], vec![], vec![3]]);
        assert_eq!(cfg.rpo, [0, 1, 2, 3]);
        assert_eq!(cfg.back_edges, [(2, 1), (2, 2)]);
        assert_eq!(cfg.loop_depths(), [0, 1, 2, 0, 0]);
        assert_eq!(cfg.preds[3], [1]);
        assert!(!cfg.reachable(4));
        assert!(cfg.dominates(1, 3) && cfg.dominates(1, 1) && !cfg.dominates(2, 3));
    }

    #[test]
    fn a_diamond_is_dominated_by_its_top() {
        let cfg = Cfg::new(0, vec![vec![1, 2], vec![3], vec![3], vec![]]);
        assert!(cfg.dominates(0, 3) && !cfg.dominates(1, 3));
        assert!(cfg.back_edges.is_empty());
        assert_eq!(cfg.rpo[0], 0);
        assert_eq!(cfg.rpo[3], 3);
    }
}
