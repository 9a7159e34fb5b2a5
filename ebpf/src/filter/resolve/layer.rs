//! Where the header is that a condition speaks of.

use crate::filter::ast::{Relop, Span};
use crate::filter::tree::{Node, Num, NumId, Nums, Place, Window};
use crate::filter::view::Field;

/// A network layer of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layer {
    /// Where its network header starts.
    pub net: Place,
    /// How the protocol of its network header is known.
    link: Link,
}

/// How the protocol of a network header is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    /// The view knows the EtherType.
    Outer,
}

impl Layer {
    /// The packet's own network header.
    pub fn outer() -> Layer {
        Layer {
            net: Place {
                window: Window::L3,
                dynamic: None,
                off: 0,
            },
            link: Link::Outer,
        }
    }

    /// Its network header is of this EtherType.
    pub fn carries(&self, nums: &mut Nums, ethertype: u32, span: &Span) -> Node {
        let a = match self.link {
            Link::Outer => nums.intern(Num::Field(Field::EtherType)),
        };
        let b = nums.constant(ethertype);
        Node::Test {
            op: Relop::Eq,
            a,
            b,
            span: span.clone(),
        }
    }

    /// `size` bytes at `off` of its network header.
    pub fn load(&self, nums: &mut Nums, off: u32, size: u32) -> NumId {
        let off = self.net.off + off;
        nums.load(Place { off, ..self.net }, size)
    }

    /// Where the header after its IPv4 header starts, as far as this layer's IPv4 header's own length says.
    pub fn after_ip(&self, nums: &mut Nums) -> Place {
        use crate::filter::ast::ArithOp;
        let first = self.load(nums, 0, 1);
        let mask = nums.constant(0xf);
        let words = nums.bin(ArithOp::And, first, mask);
        let two = nums.constant(2);
        let bytes = nums.bin(ArithOp::Shl, words, two);
        let dynamic = match self.net.dynamic {
            Some(base) => nums.bin(ArithOp::Add, base, bytes),
            None => bytes,
        };
        Place {
            dynamic: Some(dynamic),
            ..self.net
        }
    }
}
