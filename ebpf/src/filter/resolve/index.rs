//! `proto[offset:size]` and arithmetic.

use super::layer::{Ether, Layer, plus};
use super::{Resolver, ethertype, ip_protocol};
use crate::filter::Error;
use crate::filter::ast::*;
use crate::filter::tree::{Node, NumId, Place};
use crate::filter::view::Field;

impl Resolver<'_> {
    /// `lhs op rhs`. What an index needs (that the packet is of that protocol) is tested first; without it the relation
    /// doesn't hold, whichever it is.
    pub(super) fn relation(
        &mut self,
        op: Relop,
        lhs: &Arith,
        rhs: &Arith,
        span: &Span,
        layer: &Layer,
    ) -> Result<Node, Error> {
        let mut guards = vec![];
        let a = self.operand(lhs, layer, &mut guards)?;
        let b = self.operand(rhs, layer, &mut guards)?;
        guards.push(match (a, b) {
            ((a, None), (b, None)) => Node::Test {
                op,
                a,
                b,
                span: span.clone(),
            },
            (a, b) => self.wide_relation(op, a, b, span),
        });
        Ok(match guards.len() {
            1 => guards.remove(0),
            _ => Node::And(guards),
        })
    }

    /// One side of a relation: its lower and, for a kernel's number of 8 bytes, its upper half.
    fn operand(
        &mut self,
        arith: &Arith,
        layer: &Layer,
        guards: &mut Vec<Node>,
    ) -> Result<(NumId, Option<NumId>), Error> {
        match arith {
            Arith::Kernel { path, span } => self.kernel_words(path, span, guards),
            arith => Ok((self.arith(arith, layer, guards)?, None)),
        }
    }

    fn arith(&mut self, arith: &Arith, layer: &Layer, guards: &mut Vec<Node>) -> Result<NumId, Error> {
        Ok(match arith {
            Arith::Num(value) => self.nums.constant(*value),
            Arith::Len(_) => self.nums.field(Field::PacketLen),
            Arith::Kernel { path, span } => self.kernel_number(path, span, guards)?,
            Arith::Neg(operand) => {
                let operand = self.arith(operand, layer, guards)?;
                let zero = self.nums.constant(0);
                self.nums.bin(ArithOp::Sub, zero, operand)
            }
            Arith::Bin { op, lhs, rhs, span } => {
                match (op, &**rhs) {
                    (ArithOp::Div | ArithOp::Mod, Arith::Num(0)) => {
                        return Err(Error::new(span.clone(), "division by zero"));
                    }
                    (ArithOp::Shl | ArithOp::Shr, Arith::Num(count)) if *count > 31 => {
                        let message = format!("numbers have 32 bits, so they can't be shifted by {count}");
                        return Err(Error::new(span.clone(), message));
                    }
                    _ => {}
                }
                let a = self.arith(lhs, layer, guards)?;
                let b = match self.env.pcap_compat {
                    false => self.arith(rhs, layer, guards)?,
                    // libpcap forgets what the right operand needs.
                    true => self.arith(rhs, layer, &mut vec![])?,
                };
                self.nums.bin(*op, a, b)
            }
            Arith::Index {
                proto,
                offset,
                size,
                span,
            } => {
                self.check_scope(span, layer);
                let offset = self.arith(offset, layer, guards)?;
                let (guard, start) = self.indexed(proto, span, layer)?;
                if let Some(guard) = guard {
                    guards.push(guard);
                }
                let place = match self.nums.as_const(offset) {
                    // So far off that it is outside of any packet; the sum must not wrap.
                    Some(off) if off >= 1 << 16 && start.dynamic.is_none() => Place {
                        off: u32::MAX - 8,
                        ..start
                    },
                    _ => plus(&mut self.nums, start, offset),
                };
                self.nums.load(place, *size)
            }
        })
    }

    /// What must hold of a packet for `proto[…]`, and where that starts.
    fn indexed(
        &mut self,
        proto: &'static str,
        span: &Span,
        layer: &Layer,
    ) -> Result<(Option<Node>, Place), Error> {
        Ok(match proto {
            "ether" => match layer.ether {
                Ether::Perhaps(place, has) => (Some(self.nums.test(Relop::Ne, has, 0, span)), place),
                _ => (None, layer.link_start),
            },
            "ip" | "ip6" | "arp" | "rarp" | "atalk" | "decnet" | "lat" | "sca" | "mopdl" | "moprc" => {
                (Some(self.carries(ethertype(proto), span, layer)?), layer.net)
            }
            // Behind extension headers IPv6's are looked for too.
            "tcp" | "udp" | "sctp" | "pim" if layer.walk => {
                let (v4, _) = self.transport(false, ip_protocol(proto), span, layer)?;
                let (v6, _) = self.transport(true, ip_protocol(proto), span, layer)?;
                (Some(v4.or(v6)), layer.after_either_ip(&mut self.nums))
            }
            "tcp" | "udp" | "sctp" | "icmp" | "igmp" | "igrp" | "pim" | "vrrp" | "carp" => {
                let (guard, start) = self.transport(false, ip_protocol(proto), span, layer)?;
                (Some(guard), start)
            }
            "icmp6" => {
                let (guard, start) = self.transport(true, 58, span, layer)?;
                (Some(guard), start)
            }
            _ => {
                return Err(
                    Error::new(span.clone(), format!("'{proto}' can't be indexed")).expected(
                        "ether, arp, ip, ip6, icmp, icmp6, tcp, udp, sctp, igmp, pim or another header",
                    ),
                );
            }
        })
    }
}
