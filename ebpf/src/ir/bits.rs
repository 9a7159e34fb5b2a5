//! Sets of small numbers.

/// A set of numbers below a limit, a bit each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bits(Vec<u64>);

impl Bits {
    /// No number, of those below `n`.
    pub fn none(n: usize) -> Bits {
        Bits(vec![0; n.div_ceil(64)])
    }

    /// Add a number.
    pub fn insert(&mut self, i: usize) {
        self.0[i / 64] |= 1 << (i % 64);
    }

    /// Remove a number.
    pub fn remove(&mut self, i: usize) {
        self.0[i / 64] &= !(1 << (i % 64));
    }

    /// Add a range of numbers.
    pub fn insert_range(&mut self, range: std::ops::Range<usize>) {
        range.for_each(|i| self.insert(i));
    }

    /// True if it is in the set.
    pub fn contains(&self, i: usize) -> bool {
        self.0[i / 64] & 1 << (i % 64) != 0
    }

    /// Add all of `other`; true if that changed anything.
    pub fn union(&mut self, other: &Bits) -> bool {
        let mut changed = false;
        for (a, b) in self.0.iter_mut().zip(&other.0) {
            changed |= *b & !*a != 0;
            *a |= *b;
        }
        changed
    }

    /// Add what is in `other` and not in `but`.
    pub fn union_without(&mut self, other: &Bits, but: &Bits) {
        for (a, (b, c)) in self.0.iter_mut().zip(other.0.iter().zip(&but.0)) {
            *a |= b & !c;
        }
    }

    /// Remove what is not in `other`; true if that changed anything.
    pub fn intersect(&mut self, other: &Bits) -> bool {
        let mut changed = false;
        for (a, b) in self.0.iter_mut().zip(&other.0) {
            changed |= *a & !*b != 0;
            *a &= *b;
        }
        changed
    }

    /// In ascending order.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().enumerate().flat_map(|(i, &word)| {
            std::iter::successors(Some(word), |w| Some(w & w.wrapping_sub(1)))
                .take_while(|w| *w != 0)
                .map(move |w| i * 64 + w.trailing_zeros() as usize)
        })
    }
}

/// Bring a set to a place that several paths reach, to hold what all of them have. `None`: none came yet. True if
/// that changed anything.
pub fn meet(place: &mut Option<Bits>, set: &Bits) -> bool {
    match place {
        None => {
            *place = Some(set.clone());
            true
        }
        Some(place) => place.intersect(set),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_counts_in_order() {
        let mut set = Bits::none(200);
        for i in [0, 63, 64, 199] {
            set.insert(i);
        }
        set.remove(63);
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 64, 199]);
        assert!(set.contains(64) && !set.contains(63));
        let mut other = Bits::none(200);
        other.insert_range(60..70);
        assert!(other.union(&set) && !other.union(&set));
        let mut place = None;
        assert!(meet(&mut place, &other) && !meet(&mut place, &other) && meet(&mut place, &set));
        assert_eq!(place, Some(set));
    }
}
