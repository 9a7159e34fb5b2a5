//! What a run adds up to.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::folded::Folding;
use super::journey::{Fate, Totals};

/// What a run attached to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Attached {
    /// How: `kprobe-multi`, `kprobe`, `tracepoint`, ….
    pub backend: String,
    /// Functions attached.
    pub functions: u64,
    /// Tracepoints attached.
    pub tracepoints: u64,
    /// Functions and tracepoints that were wanted but not attached: for each reason, how many.
    pub skipped: Vec<Skipped>,
    /// What the programs cost, if that was watched.
    #[serde(default)]
    pub cost: Option<Cost>,
}

/// What a run with a budget has cost: the time that the kernel measured in its programs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// The budget: per cent of one CPU.
    pub budget: f64,
    /// All programs on all CPUs over the whole run, per cent of one CPU.
    pub percent: f64,
    /// The same in the second that cost most.
    pub peak: f64,
    /// The functions and tracepoints that cost most, first the most costly; empty if nothing was hit while that was
    /// looked at.
    pub costliest: Vec<CostOf>,
    /// What was detached to stay within the budget.
    pub detached: Vec<CostOf>,
}

/// A function's or tracepoint's part in the cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CostOf {
    /// `function` or `tracepoint`: some are called the same.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// The module that it is in; empty for the kernel itself.
    pub module: String,
    /// Per cent of the programs' time; of what was detached, just before.
    pub share: f64,
}

/// Why some attach points were left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// In words, as in "7 …".
    pub reason: String,
    /// How many.
    pub count: u64,
}

/// What the kernel's side has counted: what it reported and what it could not see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// Events that were due. Counted beside the ring: it is what was delivered and what was lost together.
    pub produced: u64,
    /// Events that came out of the ring.
    pub delivered: u64,
    /// Hits that the kernel refused to run the program for, because it ran already on that CPU.
    pub recursion: u64,
    /// Packets that matched when too many were followed already.
    pub unfollowed: u64,
    /// Followed skbs whose end went unseen: their address was another packet's when they were next met.
    pub reused: u64,
    /// Reports that could not be decoded, which is a bug.
    pub malformed: u64,
    /// Calls beneath followed packets' functions whose return was not seen: they have no event.
    #[serde(default)]
    pub unreturned: u64,
}

/// A run's summary. Zero is written as zero.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// What it attached to.
    pub attached: Attached,
    /// What the kernel's side has counted.
    pub counted: Counted,
    /// Events that arrived too late to be put in order among those printed.
    pub late: u64,
    /// Packets, events, losses, fates.
    pub totals: Totals,
    /// Where the kernel has folded the journeys.
    pub folding: Option<Folding>,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let totals = &self.totals;
        write!(
            f,
            "{}, {}",
            number(totals.packets, "packet"),
            number(totals.events, "event")
        )?;
        writeln!(
            f,
            "; {} lost, {} missed by recursion",
            number(totals.lost, "event"),
            self.counted.recursion
        )?;
        let fates: Vec<String> = Fate::KINDS
            .iter()
            .zip(totals.fates)
            .filter(|&(_, count)| count > 0)
            .map(|(kind, count)| format!("{count} {}", kind.replace("lost_sight", "lost sight of")))
            .collect();
        if !fates.is_empty() {
            writeln!(f, "{}", fates.join(", "))?;
        }
        let attached = &self.attached;
        let skipped: u64 = attached.skipped.iter().map(|s| s.count).sum();
        writeln!(
            f,
            "{}: {} and {} attached, {skipped} skipped",
            attached.backend,
            number(attached.functions, "function"),
            number(attached.tracepoints, "tracepoint"),
        )?;
        for Skipped { reason, count } in &attached.skipped {
            writeln!(f, "  {count} {reason}")?;
        }
        if let Some(cost) = &attached.cost {
            write!(f, "{cost}")?;
        }
        for (count, what) in [
            (self.late, "arrived late: their order may be wrong"),
            (totals.stray, "left out: after the end of their packet's journey"),
            (totals.cut, "left out: too many of one packet"),
        ] {
            if count > 0 {
                writeln!(f, "{} {what}", number(count, "event"))?;
            }
        }
        if totals.given_up > 0 {
            writeln!(
                f,
                "{} given up: too many at once",
                number(totals.given_up, "packet")
            )?;
        }
        if self.counted.unfollowed > 0 {
            let packets = number(self.counted.unfollowed, "packet");
            writeln!(f, "{packets} not followed: too many were followed already")?;
        }
        if self.counted.reused > 0 {
            let skbs = number(self.counted.reused, "skb");
            writeln!(
                f,
                "{skbs} lost sight of: the end went unseen and the address was used again"
            )?;
        }
        if self.counted.unreturned > 0 {
            let calls = number(self.counted.unreturned, "call");
            writeln!(f, "{calls} beneath left out: the return was not seen")?;
        }
        if let Some(folding) = &self.folding {
            write!(f, "{folding}")?;
        }
        let unreported = self.folding.map_or(0, |folding| folding.unreported);
        let accounted = self.counted.delivered + totals.lost + unreported;
        if self.counted.produced != accounted {
            writeln!(
                f,
                "{} produced, but {} delivered or lost: a bug in ktrail",
                number(self.counted.produced, "event"),
                number(accounted, "event")
            )?;
        }
        if self.counted.malformed > 0 {
            writeln!(
                f,
                "{} unreadable: a bug in ktrail",
                number(self.counted.malformed, "report")
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for CostOf {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.kind.as_str() {
            "tracepoint" => write!(f, "tp:{}", self.name),
            _ => f.write_str(&self.name),
        }
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let list = |all: &[CostOf]| {
            let of = |c: &CostOf| format!("{c} {} %", c.share);
            all.iter().map(of).collect::<Vec<_>>().join(", ")
        };
        let (percent, peak) = (self.percent, self.peak);
        write!(
            f,
            "programs took {percent} % of one CPU, {peak} % in the worst second"
        )?;
        match self.costliest.as_slice() {
            [] => writeln!(f)?,
            most => writeln!(f, "; most of it: {}", list(most))?,
        }
        if !self.detached.is_empty() {
            let budget = self.budget;
            writeln!(
                f,
                "detached to stay within {budget} %, not on any followed packet's way: {}",
                list(&self.detached)
            )?;
        }
        Ok(())
    }
}

/// "1 packet", "2 packets", "12,345 events".
pub(crate) fn number(count: u64, noun: &str) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    format!("{text} {noun}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_accounted_for() {
        let part = |name: &str, share| CostOf {
            kind: "function".into(),
            name: name.into(),
            module: String::new(),
            share,
        };
        let mut cost = Cost {
            budget: 2.5,
            percent: 1.2,
            peak: 3.0,
            ..Cost::default()
        };
        assert_eq!(
            cost.to_string(),
            "programs took 1.2 % of one CPU, 3 % in the worst second\n"
        );
        cost.costliest = vec![part("ip_rcv", 20.0), part("icmp_rcv", 12.5)];
        cost.detached = vec![part("icmp_rcv", 25.0), part("netif_rx", 1.5)];
        cost.detached[1].kind = "tracepoint".into();
        assert_eq!(
            cost.to_string(),
            "programs took 1.2 % of one CPU, 3 % in the worst second; most of it: ip_rcv 20 %, icmp_rcv 12.5 %\n\
             detached to stay within 2.5 %, not on any followed packet's way: icmp_rcv 25 %, tp:netif_rx 1.5 %\n"
        );
    }
}
