//! Builds an experiment's topology, and keeps its rules.
//!
//! Rules are in OUTPUT's path, in the workload's namespace: iptables' in a chain `ktrail-PID` to which one rule at
//! the head of OUTPUT jumps, nft's in a table `ktrail-PID` whose chain hooks output. No rule of anybody else is
//! touched.

use std::fmt::Write;
use std::net::Ipv4Addr;

use super::block::{Count, End, Experiment, Rule, Series, Tool, Topology};
use super::ledger::{self, Item, Ledger, namespace_exists};
use super::tools::{self, run, run_with};

/// Why something can't be built.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program failed.
    #[error(transparent)]
    Tool(#[from] tools::Error),
    /// The ledger can't be written.
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
    /// A name or an address is taken.
    #[error("{0}")]
    Taken(String),
    /// A rule has dropped or rejected packets.
    #[error("this rule matches the workload, so the experiment means nothing: {0}")]
    Matched(String),
}

/// The name of a namespace as `ip netns` knows it.
pub fn real_name(namespace: &str) -> String {
    format!("ktrail-{namespace}")
}

/// Fails if a name or an address of the topology is taken; changes nothing.
pub fn check(topology: &Topology) -> Result<(), Error> {
    for namespace in topology.namespaces.iter().map(|n| real_name(n)) {
        if namespace_exists(&namespace) {
            return Err(Error::Taken(format!(
                "the network namespace {namespace} is there already; is another experiment running? If it is left \
                 over from elsewhere: ip netns del {namespace}"
            )));
        }
    }
    let devices = run(None, "ip", &["-o", "link", "show"])?;
    let addresses = run(None, "ip", &["-4", "-o", "addr", "show"])?;
    for end in topology.veths.iter().flatten() {
        // "7: kt-host@kt-iperf3: <BROADCAST…": what /sys shows may be another namespace's.
        let is_it = |line: &str| {
            let name = line.split_whitespace().nth(1).unwrap_or("");
            name.trim_end_matches(':').split('@').next() == Some(end.device.as_str())
        };
        if devices.lines().any(is_it) {
            return Err(Error::Taken(format!(
                "there is a device {} already; remove it, or name another in the script's topology",
                end.device
            )));
        }
        if end.namespace.is_none()
            && let Some((device, address)) = overlapping(end.address, &addresses)
        {
            return Err(Error::Taken(format!(
                "the address {}/{} is in use: {device} has {address}; choose another network in the script's topology",
                end.address.0, end.address.1
            )));
        }
    }
    Ok(())
}

/// The first device in what `ip -o addr` printed whose network shares addresses with this one.
fn overlapping((address, length): (Ipv4Addr, u8), list: &str) -> Option<(&str, &str)> {
    list.lines().find_map(|line| {
        let device = line.split_whitespace().nth(1)?;
        let theirs = line.split_whitespace().skip_while(|w| *w != "inet").nth(1)?;
        let (base, len) = theirs.split_once('/').unwrap_or((theirs, "32"));
        let shortest = length.min(len.parse().ok()?);
        let other: Ipv4Addr = base.parse().ok()?;
        let differ = u32::from(other) ^ u32::from(address);
        (shortest == 0 || differ >> (32 - shortest) == 0).then_some((device, theirs))
    })
}

/// Builds the topology.
pub fn build(topology: &Topology, ledger: &mut Ledger) -> Result<(), Error> {
    for namespace in topology.namespaces.iter().map(|n| real_name(n)) {
        let item = Item::Namespace {
            name: namespace.clone(),
        };
        create(ledger, item, || {
            run(None, "ip", &["netns", "add", &namespace]).map(drop)
        })?;
        run(None, "ip", &["-n", &namespace, "link", "set", "lo", "up"])?;
    }
    for [one, other] in &topology.veths {
        // Created in the host's namespace, and moved from there.
        let names = [one.device.as_str(), other.device.as_str()];
        let item = Item::Link {
            name: names[0].into(),
        };
        create(ledger, item, || {
            run(
                None,
                "ip",
                &["link", "add", names[0], "type", "veth", "peer", "name", names[1]],
            )
            .map(drop)
        })?;
        up(one)?;
        up(other)?;
    }
    for (device, discipline) in &topology.qdiscs {
        let end = topology.veths.iter().flatten().find(|end| end.device == *device);
        let namespace = end.and_then(|end| end.namespace.as_deref()).map(real_name);
        let mut args = vec!["qdisc", "add", "dev", device, "root"];
        args.extend(discipline.split_whitespace());
        run(namespace.as_deref(), "tc", &args)?;
    }
    Ok(())
}

fn up(end: &End) -> Result<(), Error> {
    let (device, address) = (
        end.device.as_str(),
        format!("{}/{}", end.address.0, end.address.1),
    );
    let namespace = end.namespace.as_deref().map(real_name);
    let mut prefix = Vec::new();
    if let Some(namespace) = &namespace {
        run(None, "ip", &["link", "set", device, "netns", namespace])?;
        prefix = vec!["-n", namespace];
    }
    let ip = |args: &[&str]| run(None, "ip", &[&prefix[..], args].concat());
    ip(&["addr", "add", &address, "dev", device])?;
    ip(&["link", "set", device, "up"])?;
    Ok(())
}

/// Writes the item down, creates it, and strikes it out again if that fails.
fn create(
    ledger: &mut Ledger,
    item: Item,
    make: impl FnOnce() -> Result<(), tools::Error>,
) -> Result<(), Error> {
    ledger.add(item.clone())?;
    make().inspect_err(|_| ledger.strike(&item))?;
    Ok(())
}

/// The programs that an experiment runs.
pub fn programs(experiment: &Experiment) -> Vec<String> {
    let mut programs = vec!["ip".to_owned(), "iperf3".to_owned(), "kill".to_owned()];
    if !experiment.topology.qdiscs.is_empty() {
        programs.push("tc".into());
    }
    for series in std::iter::once(&experiment.main).chain(&experiment.controls) {
        for rule in &series.rules {
            programs.push(rule.tool.name().into());
            if rule.tool != Tool::Nft {
                programs.push(format!("{}-restore", rule.tool.name()));
            }
        }
    }
    programs.sort();
    programs.dedup();
    programs
}

/// The rules of one series, in place.
pub struct Rules<'a> {
    series: &'a Series,
    namespace: Option<String>,
    name: String,
    /// How many the step has.
    pub count: u64,
}

/// How many elements of a set one command adds.
const BATCH: u64 = 1000;

impl<'a> Rules<'a> {
    /// Creates the chains of this series, with the rules that there are once.
    pub fn begin(
        series: &'a Series,
        namespace: Option<&str>,
        ledger: &mut Ledger,
    ) -> Result<Rules<'a>, Error> {
        let rules = Rules {
            series,
            namespace: namespace.map(real_name),
            name: format!("ktrail-{}", std::process::id()),
            count: 0,
        };
        let ns = rules.namespace.as_deref();
        for tool in rules.tools() {
            let item = rules.item(tool);
            match tool {
                Tool::Nft => {
                    let table = format!(
                        "add table ip {0}\nadd chain ip {0} output {{ type filter hook output priority 0; policy accept; }}\n",
                        rules.name
                    );
                    create(ledger, item, || {
                        run_with(ns, "nft", &["-f", "-"], &table).map(drop)
                    })?;
                }
                _ => {
                    let name = rules.name.as_str();
                    create(ledger, item, || {
                        run(ns, tool.name(), &["-w", "10", "-N", name]).map(drop)
                    })?;
                    run(ns, tool.name(), &["-w", "10", "-I", "OUTPUT", "1", "-j", name])?;
                }
            }
        }
        for (index, rule) in rules.series.rules.iter().enumerate() {
            match rule.count {
                Count::Once => rules.add(rule, std::iter::once(rules.text(rule, 0)))?,
                Count::Set => {
                    let set = format!(
                        "add set ip {} addresses{index} {{ type ipv4_addr; }}\n",
                        rules.name
                    );
                    run_with(ns, "nft", &["-f", "-"], &set)?;
                    let text = rule.text.replace("{set}", &format!("@addresses{index}"));
                    rules.add(rule, std::iter::once(text))?;
                }
                Count::Each => {}
            }
        }
        Ok(rules)
    }

    /// Adds rules, or elements of a set, until there are as many as this.
    pub fn grow(&mut self, count: u64) -> Result<(), Error> {
        let range = self.count..count.max(self.count);
        for (index, rule) in self.series.rules.iter().enumerate() {
            match rule.count {
                Count::Once => {}
                Count::Each => self.add(rule, range.clone().map(|n| self.text(rule, n)))?,
                Count::Set => {
                    let Some(from) = rule.from else { continue };
                    let mut input = String::new();
                    for begin in range.clone().step_by(BATCH as usize) {
                        let end = (begin + BATCH).min(range.end);
                        let elements: Vec<String> = (begin..end).map(|n| from.nth(n).to_string()).collect();
                        let _ = writeln!(
                            input,
                            "add element ip {} addresses{index} {{ {} }}",
                            self.name,
                            elements.join(", ")
                        );
                    }
                    run_with(self.namespace.as_deref(), "nft", &["-f", "-"], &input)?;
                }
            }
        }
        self.count = range.end;
        Ok(())
    }

    /// Fails if a rule that drops or rejects has matched a packet: then it is not the rules' length that is measured.
    pub fn check_idle(&self) -> Result<(), Error> {
        let ns = self.namespace.as_deref();
        for tool in self.tools() {
            let found = match tool {
                Tool::Nft => {
                    counted(&run(ns, "nft", &["list", "table", "ip", &self.name])?).map(str::to_owned)
                }
                _ => matched(&run(ns, tool.name(), &["-w", "10", "-nvxL", &self.name])?).map(str::to_owned),
            };
            if let Some(rule) = found {
                return Err(Error::Matched(rule));
            }
        }
        Ok(())
    }

    /// Removes the chains.
    pub fn end(self, ledger: &mut Ledger) -> Result<(), Error> {
        for tool in self.tools() {
            let item = self.item(tool);
            if ledger.has(&item) {
                ledger.remove(&item)?;
            }
        }
        Ok(())
    }

    fn tools(&self) -> Vec<Tool> {
        let used = |tool: &Tool| self.series.rules.iter().any(|r| r.tool == *tool);
        Tool::ALL.iter().map(|(_, tool)| *tool).filter(used).collect()
    }

    fn item(&self, tool: Tool) -> Item {
        let (namespace, name) = (self.namespace.clone(), self.name.clone());
        match tool {
            Tool::Nft => Item::Table { namespace, name },
            _ => Item::Chain {
                tool: tool.name().into(),
                namespace,
                name,
            },
        }
    }

    fn text(&self, rule: &Rule, n: u64) -> String {
        match rule.from {
            Some(from) => rule.text.replace("{addr}", &from.nth(n).to_string()),
            None => rule.text.clone(),
        }
    }

    fn add(&self, rule: &Rule, texts: impl Iterator<Item = String>) -> Result<(), Error> {
        let ns = self.namespace.as_deref();
        let mut input = String::new();
        let mut any = false;
        for text in texts {
            any = true;
            let _ = match rule.tool {
                Tool::Nft => writeln!(input, "add rule ip {} output {}", self.name, with_counter(&text)),
                _ => writeln!(input, "-A {} {text}", self.name),
            };
        }
        if !any {
            return Ok(());
        }
        match rule.tool {
            Tool::Nft => run_with(ns, "nft", &["-f", "-"], &input)?,
            tool => {
                let program = format!("{}-restore", tool.name());
                let input = format!("*filter\n{input}COMMIT\n");
                run_with(ns, &program, &["--noflush", "-w", "10"], &input)?
            }
        };
        Ok(())
    }
}

/// The first rule in a listing by `-nvxL` that has dropped or rejected a packet.
fn matched(list: &str) -> Option<&str> {
    list.lines().skip(2).map(str::trim).find(|line| {
        let mut words = line.split_whitespace();
        let packets = words.next().and_then(|w| w.parse::<u64>().ok()).unwrap_or(0);
        packets > 0 && matches!(words.nth(1), Some("DROP" | "REJECT"))
    })
}

/// The nft rule with a counter before its verdict, which costs nothing until all else has matched.
fn with_counter(text: &str) -> String {
    let mut words: Vec<&str> = text.split_whitespace().collect();
    if let Some(at) = words.iter().position(|w| matches!(*w, "drop" | "reject"))
        && !words.contains(&"counter")
    {
        words.insert(at, "counter");
    }
    words.join(" ")
}

/// The first rule in a listing of nft's that has dropped or rejected a packet.
fn counted(list: &str) -> Option<&str> {
    list.lines().map(str::trim).find(|line| {
        let mut words = line
            .split_whitespace()
            .skip_while(|w| *w != "counter")
            .skip_while(|w| *w != "packets");
        let packets = words.nth(1).and_then(|w| w.parse::<u64>().ok()).unwrap_or(0);
        packets > 0 && line.split_whitespace().any(|w| matches!(w, "drop" | "reject"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_that_matched_is_found() {
        let list = "Chain ktrail-1 (1 references)\n    pkts      bytes target     prot opt in     out     source               destination\n       0        0 DROP       0    --  *      *       198.18.0.0           0.0.0.0/0\n";
        assert_eq!(matched(list), None);
        let list = format!("{list}      12      720 DROP       0    --  *      *       10.0.0.1\n");
        assert!(matched(&list).unwrap().starts_with("12 "));
        let list = list.replace("12      720 DROP  ", "12      720 RETURN");
        assert_eq!(matched(&list), None);
    }

    #[test]
    fn networks_that_share_addresses_overlap() {
        let list = "1: lo    inet 127.0.0.1/8 scope host lo\n2: eth0    inet 10.0.2.15/16 brd 10.0.255.255 scope global eth0\n";
        let overlaps = |address: &str, len| overlapping((address.parse().unwrap(), len), list);
        assert_eq!(overlaps("10.0.2.15", 24), Some(("eth0", "10.0.2.15/16")));
        assert_eq!(overlaps("10.0.99.1", 24), Some(("eth0", "10.0.2.15/16")));
        assert_eq!(overlaps("10.99.0.1", 8), Some(("eth0", "10.0.2.15/16")));
        assert_eq!(overlaps("10.99.0.1", 24), None);
    }

    #[test]
    fn an_nft_rule_that_matched_is_found() {
        assert_eq!(
            with_counter("ip saddr 10.0.0.1 drop"),
            "ip saddr 10.0.0.1 counter drop"
        );
        assert_eq!(
            with_counter("tcp dport 1 reject with tcp reset"),
            "tcp dport 1 counter reject with tcp reset"
        );
        assert_eq!(with_counter("counter drop"), "counter drop");
        let list = "table ip k {\n\tchain output {\n\t\tip saddr 10.0.0.1 counter packets 0 bytes 0 drop\n";
        assert_eq!(counted(list), None);
        let rule = "ip saddr 10.0.0.2 counter packets 7 bytes 420 drop";
        assert_eq!(counted(&format!("{list}\t\t{rule}\n")), Some(rule));
    }
}
