//! Which fields of the view a filter may ask for, and which numbers it speaks of.

use std::collections::{BTreeSet, HashSet};

use super::tree::{Node, Num, NumId, Nums, Place, Window};
use super::view::Field;

/// All fields that testing `root` may ask for.
pub(super) fn fields(root: &Node, nums: &Nums) -> BTreeSet<Field> {
    Uses::of(root, nums).fields
}

/// All numbers that testing `root` may compute.
pub(super) fn numbers(root: &Node, nums: &Nums) -> HashSet<NumId> {
    Uses::of(root, nums).seen
}

struct Uses<'a> {
    nums: &'a Nums,
    seen: HashSet<NumId>,
    fields: BTreeSet<Field>,
}

impl<'a> Uses<'a> {
    fn of(root: &Node, nums: &'a Nums) -> Self {
        let mut uses = Uses {
            nums,
            seen: HashSet::new(),
            fields: BTreeSet::new(),
        };
        uses.node(root);
        uses
    }

    fn node(&mut self, node: &Node) {
        match node {
            Node::Const(_) => {}
            Node::Test { a, b, .. } => {
                self.num(*a);
                self.num(*b);
            }
            Node::In { a, .. } => self.num(*a),
            Node::Has(field) => {
                self.fields.insert(*field);
            }
            Node::NotNull(_) => {
                self.fields.insert(Field::Skb);
            }
            Node::Chain { net, .. } => self.place(*net),
            Node::And(nodes) | Node::Or(nodes) => nodes.iter().for_each(|node| self.node(node)),
            Node::Not(inner) => self.node(inner),
            Node::Enter(values) => values.iter().for_each(|(_, value)| self.num(*value)),
            Node::Inside { ways, inside, .. } => {
                self.node(ways);
                self.node(inside);
            }
        }
    }

    fn num(&mut self, num: NumId) {
        if !self.seen.insert(num) {
            return;
        }
        match self.nums.get(num) {
            Num::Const(_) | Num::Slot(_) => {}
            Num::Load { place, .. } => self.place(place),
            Num::Walk { net, .. } => self.place(net),
            Num::Kernel { .. } => {
                self.fields.insert(Field::Skb);
            }
            Num::Bin { a, b, .. } => {
                self.num(a);
                self.num(b);
            }
            Num::Field(field) => {
                self.fields.insert(field);
            }
            Num::Choose { num, same, other, .. } => {
                [num, same, other].into_iter().for_each(|inner| self.num(inner))
            }
        }
    }

    fn place(&mut self, place: Place) {
        self.fields.extend(match place.window {
            Window::L2 => [Field::L2, Field::L2Len],
            Window::L3 => [Field::L3, Field::L3Len],
        });
        place.dynamic.into_iter().for_each(|dynamic| self.num(dynamic));
    }
}
