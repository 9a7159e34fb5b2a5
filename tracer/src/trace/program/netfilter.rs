//! What Netfilter does with a packet: at which hook, in whose rules, and which rule of nftables decided.
//!
//! nftables' functions know the expression that they run, not its rule. A verdict ends its rule, so that behind the
//! expression the next rule's header follows, and from header to header one comes to the chain's end, which knows the
//! chain (6.4+); in the chain's rules the one around the expression is looked for.

use ktrail_ebpf::ir::{BinOp, Block, Cond, Op, Reg, Size, Type, Width};
use ktrail_ebpf::isa::Helper;

use super::{Body, Rules};
use crate::trace::offsets::{NftOffsets, RuleOffsets};
use crate::trace::record;

/// No rule is looked for beyond so many.
const MOST_RULES: u32 = 4096;

/// `NF_DROP`: what a rule that rejects gives.
const NF_DROP: i64 = 0;

const KERNEL: Type = Type::Kernel { direct: false };

impl Body<'_> {
    /// The Netfilter hook, and whose rules run there.
    pub(super) fn hook(&mut self, record: Reg, state: u8, rules: Option<Rules>) {
        for off in (record::SIZE..record::SIZE + record::HOOK_SIZE).step_by(8) {
            self.b.store(record, off as i32, 0, Size::B8);
        }
        let Some(o) = self.spec.offsets.netfilter else {
            return;
        };
        let done = self.b.block();
        let state = self.b.arg(state, Type::Kernel { direct: false });
        self.b.branch_if(Cond::Eq, state, 0, done);
        // `hook` was an unsigned int until 5.12 and is a byte since: the first byte holds it either way.
        for (to, from) in [
            (record::HOOK_NUMBER, o.state_hook),
            (record::HOOK_FAMILY, o.state_pf),
        ] {
            let value = self.b.kernel_load(state, from as i32, Size::B1);
            self.b.store(record, to as i32, value, Size::B1);
        }
        match (rules, o.nft, o.xt_table_name) {
            (Some(Rules::Nft(index)), Some(nft), _) => {
                let chain = self.b.arg(index, Type::Kernel { direct: false });
                self.b.branch_if(Cond::Eq, chain, 0, done);
                self.chain(
                    record,
                    chain,
                    &nft,
                    (record::HOOK_TABLE, record::HOOK_CHAIN),
                    done,
                );
            }
            (Some(Rules::Xt(index)), _, Some(name)) => {
                let table = self.b.arg(index, Type::Kernel { direct: false });
                self.b.branch_if(Cond::Eq, table, 0, done);
                let name = self.b.add(table, i64::from(name));
                self.string(record, record::HOOK_TABLE, name);
            }
            _ => {}
        }
        self.b.jump(done);
        self.b.switch_to(done);
    }

    /// The names of a chain of nftables and of its table, which is the answer.
    fn chain(
        &mut self,
        record: Reg,
        chain: Reg,
        nft: &NftOffsets,
        (to_table, to_chain): ((u32, u32), (u32, u32)),
        none: Block,
    ) -> Reg {
        let name = self.b.kernel_ptr(chain, nft.chain_name as i32);
        self.string(record, to_chain, name);
        let table = self.b.kernel_ptr(chain, nft.chain_table as i32);
        self.b.branch_if(Cond::Eq, table, 0, none);
        let name = self.b.kernel_ptr(table, nft.table_name as i32);
        self.string(record, to_table, name);
        table
    }

    /// Copy a string of the kernel's; what can't be read stays empty.
    pub(super) fn string(&mut self, record: Reg, (off, len): (u32, u32), from: Reg) {
        let to = self.b.add(record, i64::from(off));
        let args = vec![to.into(), i64::from(len).into(), from.into()];
        self.b.call_void(Helper::ProbeReadKernelStr, args);
    }

    /// Leave the program unless the expression, kind `immediate`, gives a verdict.
    pub(super) fn only_verdicts(&mut self) {
        let Some(nft) = self.nft() else {
            return;
        };
        let expression = self.b.arg(0, KERNEL);
        let register = self
            .b
            .kernel_load(expression, nft.verdict.register as i32, Size::B1);
        self.b.branch_if(Cond::Ne, register, 0, self.out);
    }

    fn nft(&self) -> Option<NftOffsets> {
        self.spec.offsets.netfilter.and_then(|netfilter| netfilter.nft)
    }

    /// The rule that the expression belongs to, and its verdict.
    pub(super) fn rule(&mut self, record: Reg, immediate: bool) {
        for off in (record::SIZE..record::SIZE + record::RULE_SIZE).step_by(8) {
            self.b.store(record, off as i32, 0, Size::B8);
        }
        let Some(nft) = self.nft() else {
            return;
        };
        let expression = self.b.arg(0, KERNEL);
        let verdict = self.verdict(immediate);
        self.b
            .store(record, record::RULE_VERDICT as i32, verdict, Size::B4);
        let Some(rules) = nft.rules else {
            return;
        };
        let done = self.b.block();
        let chain = self.chain_of(expression, &rules, done);
        let to = (record::RULE_TABLE, record::RULE_CHAIN);
        let table = self.chain(record, chain, &nft, to, done);
        let family = nft.table_family.load(&mut self.b, table);
        self.b.store(record, record::RULE_FAMILY as i32, family, Size::B1);
        for blob in rules.chain_blobs {
            let next = self.b.block();
            let blob = self.b.kernel_ptr(chain, blob as i32);
            self.b.branch_if(Cond::Eq, blob, 0, next);
            let handle = self.rule_around(expression, blob, &rules, next);
            self.b.store(record, record::RULE_HANDLE as i32, handle, Size::B8);
            self.b.jump(done);
            self.b.switch_to(next);
        }
        self.b.jump(done);
        self.b.switch_to(done);
    }

    /// What the rule's expression says.
    pub(super) fn verdict(&mut self, immediate: bool) -> Reg {
        match self.nft().filter(|_| immediate) {
            Some(nft) => {
                let expression = self.b.arg(0, KERNEL);
                self.b.kernel_load(expression, nft.verdict.code as i32, Size::B4)
            }
            None => self.b.imm(NF_DROP),
        }
    }

    /// The chain that the expression's rule is in.
    fn chain_of(&mut self, expression: Reg, rules: &RuleOffsets, none: Block) -> Reg {
        let operations = self.b.kernel_ptr(expression, 0);
        self.b.branch_if(Cond::Eq, operations, 0, none);
        let size = self.b.kernel_load(operations, rules.expr_size as i32, Size::B4);
        let at = self.b.reg(KERNEL);
        self.b.push(Op::Bin {
            op: BinOp::Add,
            width: Width::W64,
            dst: at,
            a: expression,
            b: size.into(),
        });
        let (each, end) = (self.b.block(), self.b.block());
        self.b.jump(each);
        self.b.bound(each, MOST_RULES, none);
        self.b.switch_to(each);
        let length = self.rule_length(at, rules, end).1;
        self.advance(at, length);
        self.b.jump(each);
        self.b.switch_to(end);
        let chain = self.b.kernel_ptr(at, rules.last_chain as i32);
        self.b.branch_if(Cond::Eq, chain, 0, none);
        chain
    }

    /// The handle of the rule in `blob` that the expression belongs to.
    fn rule_around(&mut self, expression: Reg, blob: Reg, rules: &RuleOffsets, none: Block) -> Reg {
        let size = self.b.kernel_load(blob, rules.blob_size as i32, Size::B8);
        let at = self.b.reg(KERNEL);
        let start = self.b.add(blob, i64::from(rules.blob_data));
        self.b.mov(at, start);
        let offset = self.b.bin(BinOp::Sub, Width::W64, expression, start);
        // Before its beginning is very far behind its end, too.
        self.b.branch_if(Cond::Ge, offset, size, none);
        let (each, found) = (self.b.block(), self.b.block());
        let header = self.b.int();
        self.b.jump(each);
        self.b.bound(each, MOST_RULES, none);
        self.b.switch_to(each);
        let (loaded, length) = self.rule_length(at, rules, none);
        self.b.mov(header, loaded);
        self.advance(at, length);
        self.b.branch(Cond::Gt, at, expression, found, each);
        self.b.switch_to(found);
        self.bits(header, rules.handle)
    }

    /// The first word of a rule's header, and the rule's length with it; goes to `end` at the last header.
    fn rule_length(&mut self, at: Reg, rules: &RuleOffsets, end: Block) -> (Reg, Reg) {
        let header = self.b.kernel_load(at, 0, Size::B8);
        let last = self.bits(header, (rules.is_last, 1));
        self.b.branch_if(Cond::Ne, last, 0, end);
        let length = self.bits(header, rules.dlen);
        let length = self.b.add(length, i64::from(rules.header));
        (header, length)
    }

    fn bits(&mut self, of: Reg, (at, bits): (u32, u32)) -> Reg {
        let shifted = self.b.bin(BinOp::Shl, Width::W64, of, i64::from(64 - at - bits));
        self.b.bin(BinOp::Shr, Width::W64, shifted, i64::from(64 - bits))
    }

    fn advance(&mut self, at: Reg, by: Reg) {
        self.b.push(Op::Bin {
            op: BinOp::Add,
            width: Width::W64,
            dst: at,
            a: at,
            b: by.into(),
        });
    }
}
