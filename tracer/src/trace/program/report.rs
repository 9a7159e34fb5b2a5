//! The part of the tracer's program that reports an event: what it reads of the packet, and how it goes into the ring.

use ktrail_ebpf::ir::{BinOp, Builder, Cond, Operand, Reg, Size, Type, Width};
use ktrail_ebpf::isa::Helper;

use super::super::record::{self, Record, SignCode};
use super::super::{trail, view};
use super::hits::Hit;
use super::{Body, EVENTS, Place, Role, Stat};

impl Body<'_> {
    /// Report the event, or count it as lost.
    pub(super) fn report(&mut self) {
        if let Some(task_stack) = self.spec.beneath() {
            self.enter(task_stack);
        }
        let extra = self.spec.extras.size();
        self.report_with(extra, |body, record, plain| body.extras(record, plain), |_| {});
    }

    /// Report the event with `extra` bytes at its end, which `fill` fills, or count it as lost; what `then` adds is for
    /// a report that was made.
    pub(super) fn report_with(
        &mut self,
        extra: u32,
        fill: impl FnOnce(&mut Self, Reg, u32),
        then: impl FnOnce(&mut Self),
    ) {
        // Looked up once, also for what is lost: under load most are.
        let stats = self.stats();
        self.add_one(stats, Stat::Produced as i32);
        if self.spec.limits.watch.is_some() {
            self.count_here(Hit::Followed);
        }
        let ring = self.b.map(EVENTS);
        let plain = match self.spec.role {
            Role::Hook { .. } => record::SIZE + record::HOOK_SIZE,
            Role::Verdict { .. } => record::SIZE + record::RULE_SIZE,
            _ => record::SIZE,
        };
        let size = plain + extra;
        let ty = Type::Record { size, nullable: true };
        let args = vec![ring.into(), i64::from(size).into(), 0.into()];
        let record = self.b.call_as(ty, Helper::RingbufReserve, args);
        let (lost, done) = (self.b.block(), self.b.block());
        let record = self.b.non_null(record, lost);
        self.fill(record);
        if let Role::Hook { state, rules } = self.spec.role {
            self.hook(record, state, rules);
        }
        if let Role::Verdict { immediate } = self.spec.role {
            self.rule(record, immediate);
        }
        fill(self, record, plain);
        let wake = self.wake(ring);
        self.b
            .call_void(Helper::RingbufSubmit, vec![record.into(), wake.into()]);
        then(self);
        self.b.jump(done);
        self.b.switch_to(lost);
        self.add_one(stats, Stat::Lost as i32);
        self.b.jump(done);
        self.b.switch_to(done);
    }

    /// Whether a report wakes the reader: an interrupt and a switch of processes. It looks by itself every few
    /// milliseconds, so only when a quarter of the ring waits for it; for a few reports, in case one is late.
    pub(super) fn wake(&mut self, ring: Reg) -> Reg {
        const BPF_RB_AVAIL_DATA: i64 = 0;
        const BPF_RB_NO_WAKEUP: i64 = 1;
        const BPF_RB_FORCE_WAKEUP: i64 = 2;
        let waiting = self
            .b
            .call(Helper::RingbufQuery, vec![ring.into(), BPF_RB_AVAIL_DATA.into()]);
        let quarter = i64::from(self.spec.limits.ring / 4);
        let above = self.b.bin(BinOp::Sub, Width::W64, waiting, quarter);
        let largest = match self.spec.limits.folds() {
            true => trail::SIZE,
            false => record::SIZE + record::HOOK_SIZE.max(record::RULE_SIZE) + self.spec.extras.size(),
        };
        let flags = self.b.int();
        let (crossing, done) = (self.b.block(), self.b.block());
        self.b.mov(flags, BPF_RB_NO_WAKEUP);
        self.b
            .branch(Cond::Lt, above, i64::from(4 * largest), crossing, done);
        self.b.switch_to(crossing);
        self.b.mov(flags, BPF_RB_FORCE_WAKEUP);
        self.b.jump(done);
        self.b.switch_to(done);
        flags
    }

    fn fill(&mut self, record: Reg) {
        let spec = self.spec;
        let (subject, sign, extra) = self.sign();
        let put =
            |b: &mut Builder, field: Record, src: Operand| b.store(record, field.offset(), src, field.size());

        let time = self.b.call(Helper::KtimeGetNs, vec![]);
        put(&mut self.b, Record::Time, time.into());
        put(&mut self.b, Record::Journey, self.journey.into());
        put(&mut self.b, Record::Skb, self.skb.into());
        let ids = self.b.call(Helper::GetCurrentPidTgid, vec![]);
        put(&mut self.b, Record::PidTgid, ids.into());
        let cpu = self.b.call(Helper::GetSmpProcessorId, vec![]);
        put(&mut self.b, Record::Cpu, cpu.into());
        let (point, ip) = self.place();
        put(&mut self.b, Record::Point, point);
        put(&mut self.b, Record::Ip, ip);
        put(&mut self.b, Record::Sign, sign);
        put(&mut self.b, Record::Extra0, extra[0]);
        put(&mut self.b, Record::Extra1, extra[1]);
        let comm = self.b.add(record, i64::from(record::COMM.0));
        self.b.call_void(
            Helper::GetCurrentComm,
            vec![comm.into(), i64::from(record::COMM.1).into()],
        );

        match spec.role {
            Role::ByCookie => {
                let (gone, there, done) = (self.b.block(), self.b.block(), self.b.block());
                self.b
                    .branch(Cond::Eq, self.told, SignCode::Freed as i64, gone, there);
                self.b.switch_to(gone);
                self.no_state(record);
                self.b.jump(done);
                self.b.switch_to(there);
                self.state(record, subject);
                self.b.jump(done);
                self.b.switch_to(done);
            }
            role if role.has_state() => self.state(record, subject),
            _ => self.no_state(record),
        }
    }

    fn no_state(&mut self, record: Reg) {
        let known = Record::HasState;
        self.b.store(record, known.offset(), 0, known.size());
        // The verifier does not ask for it, but no report shall carry what the ring held before.
        for off in (record::STATE..record::SIZE).step_by(8) {
            self.b.store(record, off as i32, 0, Size::B8);
        }
    }

    fn state(&mut self, record: Reg, subject: Reg) {
        let o = self.spec.offsets;
        let put =
            |b: &mut Builder, field: Record, src: Operand| b.store(record, field.offset(), src, field.size());
        put(&mut self.b, Record::HasState, 1.into());
        for (field, off, size) in [
            (Record::Len, o.skb_len, Size::B4),
            (Record::Mark, o.skb_mark, Size::B4),
            (Record::Protocol, o.skb_protocol, Size::B2),
        ] {
            let value = self.b.kernel_load(subject, off as i32, size);
            put(&mut self.b, field, value.into());
        }
        let data = self.b.kernel_load(subject, o.skb_data as i32, Size::B8);
        let head = self.b.kernel_load(subject, o.skb_head as i32, Size::B8);
        let headroom = self.b.bin(BinOp::Sub, Width::W64, data, head);
        put(&mut self.b, Record::Data, headroom.into());
        self.conntrack(record, subject);
        self.device(record, subject);
        self.headers(record, subject);
    }

    /// What connection tracking makes of the packet: `skb->_nfct` is its entry's address, with `enum
    /// ip_conntrack_info` in the lower three bits.
    fn conntrack(&mut self, record: Reg, subject: Reg) {
        let field = Record::Conntrack;
        let unknown = i64::try_from(record::NO_CONNTRACK).unwrap_or_default();
        let Some(off) = self.spec.offsets.skb_nfct else {
            self.b.store(record, field.offset(), unknown, field.size());
            return;
        };
        let (unseen, done) = (self.b.block(), self.b.block());
        let entry = self.b.kernel_load(subject, off as i32, Size::B8);
        self.b.branch_if(Cond::Eq, entry, 0, unseen);
        let info = self.b.and(entry, 7);
        self.b.store(record, field.offset(), info, field.size());
        self.b.jump(done);
        self.b.switch_to(unseen);
        self.b.store(record, field.offset(), unknown, field.size());
        self.b.jump(done);
        self.b.switch_to(done);
    }

    /// What the role adds to a report: the skb whose state is reported, the sign and its two values.
    pub(super) fn sign(&mut self) -> (Reg, Operand, [Operand; 2]) {
        use SignCode as S;
        let none = Operand::Imm(0);
        let (subject, sign, values) = match self.spec.role {
            Role::ByCookie => return (self.skb, self.told.into(), [none, none]),
            Role::Pass
            | Role::Device
            | Role::Hook { .. }
            | Role::Verdict { .. }
            | Role::PassFollowed
            | Role::Reallocate => (self.skb, S::Passed, [none, none]),
            Role::Copy => (self.skb, S::Copied, [none, none]),
            Role::Free { .. } => (self.skb, S::Freed, [none, none]),
            Role::Consume { location, .. } => {
                let location = match location {
                    Some(index) => self.b.arg(index, Type::Int).into(),
                    None => none,
                };
                (self.skb, S::Consumed, [location, none])
            }
            Role::Clone { from } => {
                let original = self.b.arg(from, Type::Kernel { direct: false });
                (original, S::Cloned, [original.into(), none])
            }
            Role::Transmit { code } => {
                let code = self.b.arg(code, Type::Int);
                (self.skb, S::Transmitted, [code.into(), none])
            }
            Role::Drop { location, reason, .. } => {
                let location = self.b.arg(location, Type::Int);
                match reason {
                    Some(index) => {
                        let reason = self.b.arg(index, Type::Int);
                        (self.skb, S::DroppedFor, [location.into(), reason.into()])
                    }
                    None => (self.skb, S::Dropped, [location.into(), none]),
                }
            }
        };
        (subject, i64::from(sign).into(), values)
    }

    /// The point's number and the probed address, of which one is known.
    pub(super) fn place(&mut self) -> (Operand, Operand) {
        let unknown = Operand::Imm(i64::from(record::NO_POINT));
        match self.spec.place {
            Place::Fixed(point) => (i64::from(point).into(), 0.into()),
            Place::Cookie => {
                let ctx = self.b.ctx();
                let cookie = self.b.call(Helper::GetAttachCookie, vec![ctx.into()]);
                (cookie.into(), 0.into())
            }
            Place::Ip => {
                let ctx = self.b.ctx();
                let ip = if self.spec.get_func_ip {
                    self.b.call(Helper::GetFuncIp, vec![ctx.into()])
                } else {
                    // x86-64's `struct pt_regs`: `ip` is its 17th word.
                    self.b.load(ctx, 128, Size::B8)
                };
                (unknown, ip.into())
            }
        }
    }

    /// Device and network namespace.
    fn device(&mut self, record: Reg, subject: Reg) {
        let o = self.spec.offsets;
        let (no_device, named) = (self.b.block(), self.b.block());
        let name = self.b.add(record, i64::from(record::IFNAME.0));
        let put =
            |b: &mut Builder, field: Record, src: Operand| b.store(record, field.offset(), src, field.size());

        let dev = self.b.kernel_ptr(subject, o.skb_dev as i32);
        self.b.branch_if(Cond::Eq, dev, 0, no_device);
        let ifindex = self.b.kernel_load(dev, o.dev_ifindex as i32, Size::B4);
        put(&mut self.b, Record::Ifindex, ifindex.into());
        let from = self.b.add(dev, i64::from(o.dev_name));
        let args = vec![name.into(), i64::from(record::IFNAME.1).into(), from.into()];
        self.b.call_void(Helper::ProbeReadKernel, args);
        self.b.jump(named);

        self.b.switch_to(no_device);
        put(&mut self.b, Record::Ifindex, 0.into());
        for half in [0, 8] {
            self.b.store(record, record::IFNAME.0 as i32 + half, 0, Size::B8);
        }
        self.b.jump(named);

        self.b.switch_to(named);
        let netns = self.netns(subject);
        put(&mut self.b, Record::Netns, netns.into());
    }

    /// Inode of the network namespace of the skb's device, else of its socket; 0 where it has neither.
    pub(super) fn netns(&mut self, subject: Reg) -> Reg {
        let o = self.spec.offsets;
        let (no_device, have_net, no_net, done) =
            (self.b.block(), self.b.block(), self.b.block(), self.b.block());
        let net = self.b.reg(Type::Kernel { direct: false });
        let netns = self.b.int();

        let dev = self.b.kernel_ptr(subject, o.skb_dev as i32);
        self.b.branch_if(Cond::Eq, dev, 0, no_device);
        let dev_net = self.b.kernel_ptr(dev, o.dev_net as i32);
        self.b.mov(net, dev_net);
        self.b.jump(have_net);

        self.b.switch_to(no_device);
        let sk = self.b.kernel_ptr(subject, o.skb_sk as i32);
        self.b.branch_if(Cond::Eq, sk, 0, no_net);
        let sk_net = self.b.kernel_ptr(sk, o.sock_net as i32);
        self.b.mov(net, sk_net);
        self.b.jump(have_net);

        self.b.switch_to(no_net);
        self.b.mov(netns, 0);
        self.b.jump(done);

        self.b.switch_to(have_net);
        let inum = self.b.kernel_load(net, o.net_inum as i32, Size::B4);
        self.b.mov(netns, inum);
        self.b.jump(done);

        self.b.switch_to(done);
        netns
    }

    /// The bytes from the network header on, as many as are there.
    fn headers(&mut self, record: Reg, subject: Reg) {
        let (absent, done) = (self.b.block(), self.b.block());
        let (start, len) = view::network(&mut self.b, self.spec.offsets, subject, self.head, absent);
        self.b
            .store(record, Record::HeaderLen.offset(), len, Record::HeaderLen.size());
        let head = self
            .b
            .kernel_load(subject, self.spec.offsets.skb_head as i32, Size::B8);
        let at = self.b.bin(BinOp::Sub, Width::W64, start, head);
        self.b
            .store(record, Record::Network.offset(), at, Record::Network.size());
        let to = self.b.add(record, i64::from(record::HEADERS.0));
        // Always as many bytes: behind the packet's data its `skb_shared_info` follows, so the memory is there.
        let args = vec![to.into(), i64::from(record::HEADERS.1).into(), start.into()];
        self.b.call_void(Helper::ProbeReadKernel, args);
        self.b.jump(done);
        self.b.switch_to(absent);
        for field in [Record::HeaderLen, Record::Network] {
            self.b.store(record, field.offset(), 0, field.size());
        }
        for off in (0..record::HEADERS.1 as i32).step_by(8) {
            self.b.store(record, record::HEADERS.0 as i32 + off, 0, Size::B8);
        }
        self.b.jump(done);
        self.b.switch_to(done);
    }
}
