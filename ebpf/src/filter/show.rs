//! [`Ast`] as text: a filter that means the same, with what was inherited written out and every joint in parentheses.

use std::fmt::{self, Display, Formatter};

use super::ast::*;

impl Display for Ast {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Ast::All => Ok(()),
            Ast::Chain(first, rest) => {
                // To the left: (((a and b) or c) and d).
                f.write_str(&"(".repeat(rest.len()))?;
                write!(f, "{first}")?;
                for (joint, ast) in rest {
                    let joint = match joint {
                        Joint::And => "and",
                        Joint::Or => "or",
                    };
                    write!(f, " {joint} {ast})")?;
                }
                Ok(())
            }
            Ast::Not(inner) => write!(f, "not {inner}"),
            Ast::Primitive { quals, id, .. } => {
                write!(f, "{quals}")?;
                // A number that is a host without saying so.
                if quals.kind.is_none() && quals.proto.is_none() && quals.dir.is_none() {
                    f.write_str("host ")?;
                }
                write!(f, "{id}")
            }
            Ast::Protocol(proto, _) => f.write_str(proto),
            Ast::Broadcast(proto, _) => write!(f, "{}broadcast", prefix(*proto)),
            Ast::Multicast(proto, _) => write!(f, "{}multicast", prefix(*proto)),
            Ast::Relation { op, lhs, rhs, .. } => {
                let op = match op {
                    Relop::Eq => "=",
                    Relop::Ne => "!=",
                    Relop::Lt => "<",
                    Relop::Le => "<=",
                    Relop::Gt => ">",
                    Relop::Ge => ">=",
                };
                write!(f, "{lhs} {op} {rhs}")
            }
            Ast::Encap(encap, number, _) => {
                f.write_str(match encap {
                    Encap::Vlan => "vlan",
                    Encap::Mpls => "mpls",
                    Encap::PppoeDiscovery => "pppoed",
                    Encap::PppoeSession => "pppoes",
                    Encap::Geneve => "geneve",
                    Encap::Vxlan => "vxlan",
                })?;
                match number {
                    Some(number) => write!(f, " {number}"),
                    None => Ok(()),
                }
            }
            Ast::Outbound(true, _) => f.write_str("outbound"),
            Ast::Outbound(false, _) => f.write_str("inbound"),
            Ast::IfIndex(index, _) => write!(f, "ifindex {index}"),
            Ast::IfName(name, _) => write!(f, "ifname \"{name}\""),
            Ast::Inner(inside, _) => write!(f, "inner ({inside})"),
            Ast::Ext(inside) => write!(f, "ext ({inside})"),
            Ast::KernelText {
                path, negated, text, ..
            } => write!(f, "{path} {} \"{text}\"", if *negated { "!=" } else { "=" }),
            Ast::Whose {
                whose,
                negated,
                value,
                ..
            } => {
                write!(f, "{} {}", whose.word(), if *negated { "!= " } else { "" })?;
                match value {
                    Value::Number(number) => write!(f, "{number}"),
                    Value::Text(text) => write!(f, "\"{text}\""),
                }
            }
        }
    }
}

fn prefix(proto: Option<&str>) -> String {
    proto.map_or(String::new(), |proto| format!("{proto} "))
}

/// Each with a blank behind it.
impl Display for Quals {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let dir = match self.dir {
            None => "",
            Some(Dir::Src) => "src ",
            Some(Dir::Dst) => "dst ",
            Some(Dir::Either) => "src or dst ",
            Some(Dir::Both) => "src and dst ",
        };
        let kind = match self.kind {
            None => "",
            Some(Kind::Host) => "host ",
            Some(Kind::Net) => "net ",
            Some(Kind::Port) => "port ",
            Some(Kind::PortRange) => "portrange ",
            Some(Kind::Proto) => "proto ",
            Some(Kind::ProtoChain) => "protochain ",
        };
        write!(f, "{}{dir}{kind}", prefix(self.proto))
    }
}

impl Display for Id {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Id::Num(number) => write!(f, "{number}"),
            Id::V4(text) => f.write_str(text),
            Id::V4Prefix(text, len) => write!(f, "{text}/{len}"),
            Id::V4Mask(text, mask) => write!(f, "{text} mask {mask}"),
            Id::V6(address) => write!(f, "{address}"),
            Id::V6Prefix(address, len) => write!(f, "{address}/{len}"),
            Id::Mac([a, b, c, d, e, g]) => write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}"),
            // Escaped: it may be a keyword.
            Id::Name(name) => write!(f, "\\{name}"),
        }
    }
}

impl Display for Arith {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Arith::Num(number) => write!(f, "{number}"),
            Arith::Len(_) => f.write_str("len"),
            Arith::Index {
                proto, offset, size, ..
            } => match size {
                1 => write!(f, "{proto}[{offset}]"),
                size => write!(f, "{proto}[{offset} : {size}]"),
            },
            Arith::Kernel { path, .. } => f.write_str(path),
            Arith::Neg(operand) => write!(f, "(- {operand})"),
            Arith::Bin { op, lhs, rhs, .. } => {
                let op = match op {
                    ArithOp::Add => "+",
                    ArithOp::Sub => "-",
                    ArithOp::Mul => "*",
                    ArithOp::Div => "/",
                    ArithOp::Mod => "%",
                    ArithOp::And => "&",
                    ArithOp::Or => "|",
                    ArithOp::Xor => "^",
                    ArithOp::Shl => "<<",
                    ArithOp::Shr => ">>",
                };
                write!(f, "({lhs} {op} {rhs})")
            }
        }
    }
}
