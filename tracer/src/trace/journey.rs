//! Journeys: which events belong to one packet, when a packet has ended, and what became of it.
//!
//! A journey has one copy for each skb that carried the packet: the first, and what was cloned or copied from it.
//! A copy ends when its memory goes back ([`Sign::Freed`]); where the kernel's attach points don't show that, some
//! time after it was dropped or consumed. The journey ends with its last copy.
//!
//! Deliberately absent: the kernel's side of following (which journey an event belongs to is in the event), and
//! printing.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use super::event::{Event, Point, Sign, Tuple};
use super::roles::{self, Role};

mod fate;
#[cfg(test)]
mod tests;

use fate::CopyState;
pub use fate::{Consumption, Device, Fate, Had, Process};

/// What bounds the memory that journeys take. What goes beyond is counted in the journey or in [`Totals`].
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Events kept from a journey's beginning; 0 for keeping none but those in `tail`, without counting the others.
    pub head: usize,
    /// Events kept from its end, at least 1. Those in between are counted in [`Journey::cut`].
    pub tail: usize,
    /// Copies followed within one journey; at one more the journey is given up.
    pub copies: usize,
    /// Journeys open at once; at one more the oldest is given up.
    pub open: usize,
    /// How long a dropped, consumed or released copy waits for [`Sign::Freed`], in nanoseconds.
    pub linger: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            head: 4096,
            tail: 64,
            copies: 1024,
            open: 16384,
            linger: 100_000_000,
        }
    }
}

impl Limits {
    /// For printing events as they come, where nothing needs to be kept.
    pub fn live() -> Self {
        Limits {
            head: 0,
            tail: 1,
            ..Self::default()
        }
    }
}

/// One event of a journey.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The event.
    pub event: Event,
    /// Which of the journey's copies it is about, from 0.
    pub copy: usize,
    /// Set on the first event of a copy whose origin is known: the copy that it was made from.
    pub of: Option<usize>,
}

/// One skb of a journey.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// Its address.
    pub skb: u64,
    /// The copy that it was made from; none for the first, and where cloning couldn't be seen.
    pub of: Option<usize>,
    /// What became of it.
    pub fate: Fate,
}

/// A packet's journey, ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Journey {
    /// 1, 2, … in the order of first events.
    pub number: u64,
    /// The first addresses and ports seen; addresses alone, with ports 0, if none were.
    pub tuple: Option<Tuple>,
    /// EtherType of the first event that had one, else 0.
    pub ethertype: u16,
    /// Time of the first event, in nanoseconds of CLOCK_MONOTONIC.
    pub start: u64,
    /// Time of the last event.
    pub end: u64,
    /// How many events it has, kept or not.
    pub count: u64,
    /// Its events from the beginning, in order.
    pub head: Vec<Step>,
    /// Events between `head` and `tail` that were not kept.
    pub cut: u64,
    /// Its last events, if they aren't in `head`.
    pub tail: VecDeque<Step>,
    /// Its skbs, in order of first events.
    pub copies: Vec<Copy>,
    /// The copy whose fate is the packet's.
    pub teller: usize,
    /// Events lost by the ring, of any packet, while this journey was open.
    pub lost: u64,
    /// Whether it was ended by a limit, not by the packet's end.
    pub given_up: bool,
}

impl Journey {
    /// What became of the packet: the furthest that any of its copies got, copies for packet sockets aside.
    pub fn fate(&self) -> &Fate {
        &self.copies[self.teller].fate
    }
}

/// What was counted over a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Totals {
    /// Packets: journeys begun.
    pub packets: u64,
    /// Events taken.
    pub events: u64,
    /// Events that were not kept because their journey had too many.
    pub cut: u64,
    /// Events of journeys that had already ended; they are in no journey.
    pub stray: u64,
    /// Journeys ended by a limit.
    pub given_up: u64,
    /// Events lost by the ring.
    pub lost: u64,
    /// Journeys ended, by fate, in the order of [`Fate::KINDS`].
    pub fates: [u64; Fate::KINDS.len()],
}

/// Sorts events into journeys.
pub struct Journeys {
    roles: Vec<Role>,
    limits: Limits,
    open: HashMap<u64, Open>,
    /// Numbers of open journeys, for finding the oldest.
    by_number: BTreeMap<u64, u64>,
    /// Which open journey holds a live skb.
    holder: HashMap<u64, u64>,
    /// Journeys without a live copy, with the time of the event that made them so.
    lingering: VecDeque<(u64, u64)>,
    closed: Vec<u64>,
    ended: VecDeque<Journey>,
    past: Past,
    totals: Totals,
}

/// Journeys that ended lately, so that a straggler isn't taken for a new packet.
#[derive(Default)]
struct Past {
    order: VecDeque<u64>,
    ids: HashSet<u64>,
}

impl Past {
    const KEPT: usize = 65536;

    fn add(&mut self, id: u64) {
        if self.ids.insert(id) {
            self.order.push_back(id);
        }
        if self.order.len() > Self::KEPT
            && let Some(old) = self.order.pop_front()
        {
            self.ids.remove(&old);
        }
    }
}

struct Open {
    journey: Journey,
    states: Vec<CopyState>,
    /// The latest copy at each address.
    at: HashMap<u64, usize>,
    /// Copies that are neither freed, released, dropped nor consumed.
    live: usize,
    /// Copies whose [`Sign::Freed`] has come or can't come any more.
    gone: usize,
}

impl Journeys {
    /// For events from `points`, which [`PointId`] indexes.
    pub fn new(points: &[Point], limits: Limits) -> Self {
        Journeys {
            roles: points.iter().map(roles::role).collect(),
            limits,
            open: HashMap::new(),
            by_number: BTreeMap::new(),
            holder: HashMap::new(),
            lingering: VecDeque::new(),
            closed: Vec::new(),
            ended: VecDeque::new(),
            past: Past::default(),
            totals: Totals::default(),
        }
    }

    /// Takes the next event and says which packet (its number) and which of its copies it is about; none if its
    /// journey has already ended. After each event, take what [`Journeys::ended`] gives.
    pub fn push(&mut self, event: Event) -> Option<(u64, &Step)> {
        self.totals.events += 1;
        self.close_due();
        let id = event.journey;
        if event.sign.is_beneath() {
            return self.beneath(event);
        }
        let role = self
            .roles
            .get(event.point.0 as usize)
            .copied()
            .unwrap_or_default();
        self.end_if_reborn(&event, role);
        if !self.open.contains_key(&id) {
            if self.past.ids.contains(&id) {
                self.totals.stray += 1;
                return None;
            }
            self.begin(&event);
        }
        self.take_over(&event, role);
        let (time, limits) = (event.time, self.limits);
        let open = self.open.get_mut(&id)?;
        let (copy, of) = open.copy_of(&event, role);
        let state = &mut open.states[copy];
        let (alive, gone) = (state.alive(), state.gone());
        state.see(&event, role);
        if alive && !state.alive() {
            open.live -= 1;
            self.holder.remove(&event.skb);
        }
        open.gone += usize::from(!gone && state.gone());
        if open.gone == open.states.len() {
            self.closed.push(id);
        } else if open.states.len() > limits.copies {
            open.journey.given_up = true;
            self.closed.push(id);
        } else if open.live == 0 {
            self.lingering.push_back((time, id));
        }
        let before = open.journey.cut;
        open.journey.keep(Step { event, copy, of }, &limits);
        let open = &self.open[&id];
        self.totals.cut += open.journey.cut - before;
        Some((open.journey.number, open.journey.latest(time)))
    }

    /// Takes a call on behalf of a packet, which says nothing of where that is or of how it ends.
    fn beneath(&mut self, event: Event) -> Option<(u64, &Step)> {
        let (id, time, limits) = (event.journey, event.time, self.limits);
        let Some(open) = self.open.get_mut(&id) else {
            self.totals.stray += 1;
            return None;
        };
        let copy = open.at.get(&event.skb).copied().unwrap_or_default();
        let before = open.journey.cut;
        open.journey.keep(
            Step {
                event,
                copy,
                of: None,
            },
            &limits,
        );
        let open = &self.open[&id];
        self.totals.cut += open.journey.cut - before;
        Some((open.journey.number, open.journey.latest(time)))
    }

    /// An skb of a journey is known to be another packet's by now, which is not seen here.
    pub fn lose(&mut self, journey: u64, skb: u64) {
        let Some(open) = self.open.get_mut(&journey) else {
            return;
        };
        let Some(copy) = open.at.remove(&skb) else {
            return;
        };
        let state = &mut open.states[copy];
        open.live -= usize::from(state.alive());
        open.gone += usize::from(!state.gone());
        state.lose();
        self.holder.remove(&skb);
    }

    /// Counts events that the ring lost just now: any open journey may miss some of them.
    pub fn lost(&mut self, count: u64) {
        self.totals.lost += count;
        for open in self.open.values_mut() {
            open.journey.lost += count;
        }
    }

    /// Ends the journeys of which nothing more is to come, given that all events up to `watermark` have been pushed.
    pub fn advance(&mut self, watermark: u64) {
        while let Some(&(time, id)) = self.lingering.front()
            && time.saturating_add(self.limits.linger) <= watermark
        {
            self.lingering.pop_front();
            // A later event may have brought it back to life, or prolonged its wait.
            if self.open.get(&id).is_some_and(|open| {
                open.live == 0 && open.journey.end.saturating_add(self.limits.linger) <= watermark
            }) {
                self.close(id);
            }
        }
    }

    /// The next journey that has ended, if there is one. Call it until there is none.
    pub fn ended(&mut self) -> Option<Journey> {
        self.close_due();
        self.ended.pop_front()
    }

    /// The run has ended: ends what is left. Take the journeys from [`Journeys::ended`].
    pub fn finish(&mut self) {
        self.close_due();
        for id in std::mem::take(&mut self.by_number).into_values() {
            self.close(id);
        }
    }

    /// How many journeys are open.
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// What has been counted so far.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    fn begin(&mut self, event: &Event) {
        if self.open.len() >= self.limits.open
            && let Some((_, oldest)) = self.by_number.pop_first()
        {
            if let Some(open) = self.open.get_mut(&oldest) {
                open.journey.given_up = open.live > 0;
            }
            self.close(oldest);
        }
        self.totals.packets += 1;
        let number = self.totals.packets;
        self.by_number.insert(number, event.journey);
        self.open.insert(event.journey, Open::new(number, event));
    }

    /// A packet that a process has read moves no more: if it seems to, another packet has got its memory, and the
    /// end of the first has not been seen. If nothing else is left of the first one's journey, that ends, and the
    /// event begins another under the same identity.
    fn end_if_reborn(&mut self, event: &Event, role: Role) {
        let id = event.journey;
        let Some(open) = self.open.get_mut(&id) else {
            return;
        };
        let moves = event.sign == Sign::Passed && role.moves();
        let Some(&copy) = open.at.get(&event.skb).filter(|_| moves) else {
            return;
        };
        if !open.states[copy].was_read() || !open.states[copy].alive() {
            return;
        }
        open.at.remove(&event.skb);
        open.states[copy].lose();
        open.live -= 1;
        open.gone += 1;
        self.holder.remove(&event.skb);
        if self.open[&id].live == 0 {
            self.close(id);
            self.past.ids.remove(&id);
        }
    }

    /// Notes that the event's journey holds its skb now. If another held it, the memory has changed hands unseen.
    fn take_over(&mut self, event: &Event, role: Role) {
        let (id, skb) = (event.journey, event.skb);
        let open = &self.open[&id];
        if open
            .current(event, role)
            .is_some_and(|copy| !open.states[copy].alive())
        {
            return;
        }
        let Some(other) = self.holder.insert(skb, id).filter(|&other| other != id) else {
            return;
        };
        if let Some(open) = self.open.get_mut(&other)
            && let Some(copy) = open.at.remove(&skb)
        {
            open.live -= 1;
            open.gone += 1;
            open.states[copy].lose();
            if open.gone == open.states.len() {
                self.closed.push(other);
            } else if open.live == 0 {
                self.lingering.push_back((open.journey.end, other));
            }
        }
    }

    fn close_due(&mut self) {
        for id in std::mem::take(&mut self.closed) {
            self.close(id);
        }
    }

    fn close(&mut self, id: u64) {
        let Some(open) = self.open.remove(&id) else {
            return;
        };
        for skb in open.at.keys() {
            if self.holder.get(skb) == Some(&id) {
                self.holder.remove(skb);
            }
        }
        self.by_number.remove(&open.journey.number);
        self.past.add(id);
        let journey = open.end();
        self.totals.given_up += u64::from(journey.given_up);
        self.totals.fates[journey.fate().kind()] += 1;
        self.ended.push_back(journey);
    }
}

impl Open {
    fn new(number: u64, event: &Event) -> Self {
        Open {
            journey: Journey {
                number,
                tuple: None,
                ethertype: 0,
                start: event.time,
                end: event.time,
                count: 0,
                head: Vec::new(),
                cut: 0,
                tail: VecDeque::new(),
                copies: Vec::new(),
                teller: 0,
                lost: 0,
                given_up: false,
            },
            states: Vec::new(),
            at: HashMap::new(),
            live: 0,
            gone: 0,
        }
    }

    /// The copy that an event is about; none if a new one begins with it.
    fn current(&self, event: &Event, role: Role) -> Option<usize> {
        let &copy = self.at.get(&event.skb)?;
        let state = &self.states[copy];
        let again = match event.sign {
            Sign::Cloned { .. } => true,
            // What is still to come from freeing moves no packet.
            Sign::Passed if state.gone() => !matches!(role, Role::Aside | Role::Release),
            Sign::Passed => role.moves(),
            _ => false,
        };
        (state.alive() || !again).then_some(copy)
    }

    /// The same, begun if it is new, and, if then known, the copy that it was made from.
    fn copy_of(&mut self, event: &Event, role: Role) -> (usize, Option<usize>) {
        if let Some(copy) = self.current(event, role) {
            return (copy, None);
        }
        let of = match event.sign {
            Sign::Cloned { from } if from != event.skb => self.at.get(&from).copied(),
            _ => None,
        };
        let copy = self.states.len();
        self.states
            .push(CopyState::new(event.point, of.map(|of| &self.states[of])));
        let fate = Fate::LostSight { point: event.point };
        self.journey.copies.push(Copy {
            skb: event.skb,
            of,
            fate,
        });
        if let Some(old) = self.at.insert(event.skb, copy)
            && !self.states[old].gone()
        {
            self.states[old].lose();
            self.gone += 1;
        }
        self.live += 1;
        (copy, of)
    }

    fn end(self) -> Journey {
        let mut journey = self.journey;
        for (copy, state) in journey.copies.iter_mut().zip(&self.states) {
            copy.fate = state.fate();
        }
        journey.teller = fate::teller(&self.states);
        journey
    }
}

impl Journey {
    /// Keeps an event where its time puts it, or counts what falls out for it.
    fn keep(&mut self, step: Step, limits: &Limits) {
        self.count += 1;
        self.start = self.start.min(step.event.time);
        self.end = self.end.max(step.event.time);
        if let Some(packet) = &step.event.packet {
            // Where a packet is made, its addresses come before its ports.
            let begun = |tuple: &Tuple| tuple.ports == Some((0, 0)) && !tuple.is_icmp();
            if self.tuple.as_ref().is_none_or(begun) {
                self.tuple = packet
                    .tuple
                    .filter(|new| !begun(new))
                    .or(self.tuple)
                    .or(packet.tuple);
            }
            if self.ethertype == 0 {
                self.ethertype = packet.ethertype;
            }
        }
        let time = step.event.time;
        if self.tail.is_empty() && self.head.len() < limits.head {
            let place = self.head.partition_point(|s| s.event.time <= time);
            self.head.insert(place, step);
            return;
        }
        let mut step = step;
        if self.head.last().is_some_and(|last| last.event.time > time) {
            let place = self.head.partition_point(|s| s.event.time <= time);
            self.head.insert(place, step);
            match self.head.pop() {
                Some(pushed_out) => step = pushed_out,
                None => return,
            }
        }
        let place = self.tail.partition_point(|s| s.event.time <= step.event.time);
        self.tail.insert(place, step);
        if self.tail.len() > limits.tail.max(1) {
            // The event that was just taken is still needed, for printing it as it comes.
            self.tail.remove(usize::from(place == 0));
            self.cut += u64::from(limits.head > 0);
        }
    }

    /// The event last kept with this time.
    fn latest(&self, time: u64) -> &Step {
        let in_tail = self.tail.partition_point(|s| s.event.time <= time);
        let in_head = self.head.partition_point(|s| s.event.time <= time);
        match in_tail.checked_sub(1) {
            Some(place) => &self.tail[place],
            None => &self.head[in_head.saturating_sub(1)],
        }
    }

    /// The events that were kept, in order; those counted in `cut` would come after the first `head.len()`.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.head.iter().chain(&self.tail)
    }
}
