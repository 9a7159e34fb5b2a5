//! The parser: recursive descent over the block's text. The first error ends it.

use std::net::Ipv4Addr;
use std::ops::Range;

use ktrail_ebpf::script::Diagnostic;
use ktrail_ebpf::script::ast::{RawBlock, Span};

use super::{Count, End, Experiment, Plan, Prefix, Rule, Sample, Series, Server, Tool, Topology, Workload};

type Parsed<T> = Result<T, Diagnostic>;

/// What the block says; an error's place is one in the script.
pub fn parse(block: &RawBlock) -> Result<Experiment, Diagnostic> {
    let mut parser = Parser {
        text: &block.text,
        at: 0,
        start: block.span.start as usize,
        token: 0..0,
    };
    parser.experiment()
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    /// Where the text stands in the script.
    start: usize,
    /// The last token that was looked at.
    token: Range<usize>,
}

impl<'a> Parser<'a> {
    fn error<T>(&self, at: &Range<usize>, message: impl Into<String>) -> Parsed<T> {
        Err(Diagnostic::error(self.span(at), message))
    }

    fn wrong<T>(&self, at: &Range<usize>, message: impl Into<String>, hint: impl Into<String>) -> Parsed<T> {
        Err(Diagnostic::error(self.span(at), message).hint(hint))
    }

    fn span(&self, at: &Range<usize>) -> Span {
        Span::new(self.start + at.start, self.start + at.end)
    }

    /// Passes blanks and comments.
    fn blanks(&mut self) {
        loop {
            let rest = &self.text[self.at..];
            let trimmed = rest.trim_start();
            self.at += rest.len() - trimmed.len();
            if trimmed.starts_with("//") {
                self.at += trimmed.find('\n').unwrap_or(trimmed.len());
            } else if trimmed.starts_with("/*") {
                self.at += trimmed.find("*/").map_or(trimmed.len(), |end| end + 2);
            } else {
                return;
            }
        }
    }

    /// The next token, which is not passed: a text in quotes, a sign, or a word. Empty at the end.
    fn peek(&mut self) -> &'a str {
        self.blanks();
        let rest = &self.text[self.at..];
        let len = match rest.chars().next() {
            None => 0,
            Some('"') => rest[1..].find('"').map_or(rest.len(), |end| end + 2),
            Some(c @ ('{' | '}' | ';' | ',')) => c.len_utf8(),
            Some(_) => rest
                .find(|c: char| c.is_whitespace() || "{};,\"".contains(c))
                .unwrap_or(rest.len()),
        };
        self.token = self.at..self.at + len;
        &rest[..len]
    }

    fn next(&mut self) -> &'a str {
        let token = self.peek();
        self.at = self.token.end;
        token
    }

    fn accept(&mut self, wanted: &str) -> bool {
        let found = self.peek() == wanted;
        if found {
            self.at = self.token.end;
        }
        found
    }

    fn expect(&mut self, wanted: &str) -> Parsed<()> {
        if self.accept(wanted) {
            return Ok(());
        }
        let found = self.peek();
        let found = if found.is_empty() {
            "the block's end".to_owned()
        } else {
            format!("'{found}'")
        };
        self.error(&self.token.clone(), format!("expected '{wanted}', found {found}"))
    }

    fn word(&mut self, what: &str) -> Parsed<(&'a str, Range<usize>)> {
        let token = self.next();
        let at = self.token.clone();
        if token.is_empty() || token.starts_with(['{', '}', ';', ',', '"']) {
            return self.error(&at, format!("expected {what}"));
        }
        Ok((token, at))
    }

    fn name(&mut self, what: &str, longest: usize) -> Parsed<(String, Range<usize>)> {
        let (name, at) = self.word(what)?;
        let fits = name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        if !fits || name.len() > longest || !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return self.error(
                &at,
                format!("{what} is a letter, then letters, digits, '-', '_' or '.', {longest} at most"),
            );
        }
        Ok((name.to_owned(), at))
    }

    fn quoted(&mut self, what: &str) -> Parsed<(String, Range<usize>)> {
        let token = self.next();
        let at = self.token.clone();
        match token.strip_prefix('"').and_then(|t| t.strip_suffix('"')) {
            Some(text) if token.len() > 1 && !text.contains('\n') => Ok((text.to_owned(), at)),
            _ => self.error(&at, format!("expected {what} in double quotes, on one line")),
        }
    }

    fn number<T: std::str::FromStr>(&mut self, what: &str) -> Parsed<(T, Range<usize>)> {
        let (word, at) = self.word(what)?;
        match word.parse() {
            Ok(number) => Ok((number, at)),
            Err(_) => self.error(&at, format!("expected {what}, a whole number")),
        }
    }

    fn positive(&mut self, what: &str) -> Parsed<u32> {
        let (number, at) = self.number::<u32>(what)?;
        if number == 0 {
            return self.error(&at, format!("{what} must be more than 0"));
        }
        Ok(number)
    }

    /// `A..B`
    fn range<T: std::str::FromStr + PartialOrd>(&mut self, what: &str) -> Parsed<(T, T)> {
        let (word, at) = self.word(what)?;
        let ends = word
            .split_once("..")
            .and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
        match ends {
            Some((from, to)) if from < to => Ok((from, to)),
            _ => self.error(
                &at,
                format!("expected {what} such as 0..3000, the second number larger"),
            ),
        }
    }

    /// `ADDRESS/LENGTH`
    fn address(&mut self, what: &str) -> Parsed<((Ipv4Addr, u8), Range<usize>)> {
        let (word, at) = self.word(what)?;
        let parsed = word
            .split_once('/')
            .and_then(|(a, n)| Some((a.parse().ok()?, n.parse().ok()?)));
        match parsed {
            Some((address, len)) if (1..=32).contains(&len) => Ok(((address, len), at)),
            _ => self.error(
                &at,
                format!("expected {what}, an IPv4 address with its length such as 10.99.0.1/24"),
            ),
        }
    }

    fn prefix(&mut self) -> Parsed<(Prefix, Range<usize>)> {
        let ((base, len), at) = self.address("a prefix")?;
        let host = (1u64 << (32 - len)) - 1;
        if u64::from(u32::from(base)) & host != 0 {
            return self.error(&at, format!("{base} is not the first address of a /{len}"));
        }
        Ok((Prefix { base, len }, at))
    }

    fn experiment(&mut self) -> Parsed<Experiment> {
        let mut title = None;
        let mut topology = None;
        let mut server = None;
        let mut workload = None;
        let mut sample = None;
        let mut plan = None;
        let mut controls = Vec::new();
        let mut repeat = None;
        let mut prefixes = Vec::new();
        let places = Places::default();
        let mut places = places;
        loop {
            let key = self.next();
            let at = self.token.clone();
            match key {
                "" => break,
                "title" => {
                    self.once(&title, &at)?;
                    title = Some(self.quoted("a title")?.0);
                    self.expect(";")?;
                }
                "topology" => {
                    self.once(&topology, &at)?;
                    topology = Some(self.topology()?);
                }
                "server" => {
                    self.once(&server, &at)?;
                    server = Some(self.server(&mut places)?);
                }
                "workload" => {
                    self.once(&workload, &at)?;
                    workload = Some(self.workload(&mut places)?);
                }
                "sample" => {
                    self.once(&sample, &at)?;
                    sample = Some(self.sample()?);
                }
                "sweep" | "timeline" => {
                    self.once(&plan, &at)?;
                    let parsed = if key == "sweep" {
                        self.sweep()?
                    } else {
                        self.timeline()?
                    };
                    let name = self.quoted("a name for the legend")?.0;
                    plan = Some((parsed, self.series(name, &mut prefixes)?));
                }
                "control" => {
                    let name = self.quoted("a name for the legend")?.0;
                    controls.push((self.series(name, &mut prefixes)?, at));
                }
                "repeat" => {
                    self.once(&repeat, &at)?;
                    repeat = Some((self.positive("the number of repetitions")?, at));
                    self.expect(";")?;
                }
                other => {
                    return self.wrong(
                        &at,
                        format!("'{other}' means nothing in an experiment"),
                        "it has title, topology, server, workload, sample, sweep or timeline, control and repeat",
                    );
                }
            }
        }
        let end = self.text.len()..self.text.len();
        let Some((plan, main)) = plan else {
            return self.wrong(
                &end,
                "the experiment has no plan",
                "say 'sweep rules 0..3000 step 100 \"name\" { … }' or 'timeline …'",
            );
        };
        let Some(workload) = workload else {
            return self.wrong(
                &end,
                "the experiment has no workload",
                "say 'workload iperf3 to ADDRESS seconds 5;'",
            );
        };
        let topology: Topology = topology.unwrap_or_default();
        for (name, at) in &places.namespaces {
            if !topology.namespaces.contains(name) {
                return self.wrong(
                    at,
                    format!("there is no namespace '{name}'"),
                    "name it in the topology: 'netns NAME;'",
                );
            }
        }
        if let (Plan::Timeline { .. }, Some((_, at))) = (plan, controls.first()) {
            return self.error(at, "a timeline has no controls");
        }
        if let (Plan::Timeline { .. }, Some((_, at))) = (plan, &repeat) {
            return self.error(at, "a timeline is one run: it is not repeated");
        }
        for (prefix, at) in &prefixes {
            let ends = topology.veths.iter().flatten().map(|end| end.address.0);
            let mut addresses = ends.chain(workload.to.parse());
            if let Some(address) = addresses.find(|a| prefix.contains(*a)) {
                return self.wrong(
                    at,
                    format!("these rules would match the workload: {address} is inside"),
                    "take a prefix that nobody here uses, such as 198.18.0.0/15",
                );
            }
            let most = plan.steps().last().copied().unwrap_or(0);
            if most > prefix.size() {
                return self.error(
                    at,
                    format!(
                        "{most} rules need more than the {} addresses of this prefix",
                        prefix.size()
                    ),
                );
            }
        }
        Ok(Experiment {
            title: title.unwrap_or_else(|| "Experiment".into()),
            topology,
            server,
            workload,
            sample,
            plan,
            main,
            controls: controls.into_iter().map(|(series, _)| series).collect(),
            repeat: repeat.map_or(1, |(times, _)| times),
        })
    }

    fn once<T>(&self, seen: &Option<T>, at: &Range<usize>) -> Parsed<()> {
        if seen.is_some() {
            return self.error(at, "an experiment says this once");
        }
        Ok(())
    }

    fn topology(&mut self) -> Parsed<Topology> {
        self.expect("{")?;
        let mut topology = Topology::default();
        while !self.accept("}") {
            let key = self.next();
            let at = self.token.clone();
            match key {
                "netns" => topology.namespaces.push(self.name("a namespace", 32)?.0),
                "veth" => {
                    let one = self.end(&topology)?;
                    self.expect(",")?;
                    let other = self.end(&topology)?;
                    topology.veths.push([one, other]);
                }
                "qdisc" => {
                    let (device, at) = self.name("a device", 15)?;
                    if !topology.veths.iter().flatten().any(|end| end.device == device) {
                        return self.error(&at, format!("no veth above has an end '{device}'"));
                    }
                    topology
                        .qdiscs
                        .push((device, self.quoted("a queueing discipline")?.0));
                }
                _ => {
                    return self.wrong(&at, "a topology has namespaces, veth pairs and queueing disciplines", "say 'netns NAME;', 'veth A ADDRESS/24, B ADDRESS/24 in NAME;' or 'qdisc A \"netem delay 1ms\";'");
                }
            }
            self.expect(";")?;
        }
        Ok(topology)
    }

    fn end(&mut self, topology: &Topology) -> Parsed<End> {
        let (device, _) = self.name("a device", 15)?;
        let (address, _) = self.address("the device's address")?;
        let mut namespace = None;
        if self.accept("in") {
            let (name, at) = self.name("a namespace", 32)?;
            if !topology.namespaces.contains(&name) {
                return self.wrong(
                    &at,
                    format!("there is no namespace '{name}' yet"),
                    format!("say 'netns {name};' above"),
                );
            }
            namespace = Some(name);
        }
        Ok(End {
            device,
            address,
            namespace,
        })
    }

    fn server(&mut self, places: &mut Places) -> Parsed<Server> {
        self.expect("iperf3")?;
        let mut server = Server {
            namespace: None,
            port: 5201,
        };
        loop {
            match self.next() {
                ";" => return Ok(server),
                "in" => server.namespace = Some(self.place(places)?),
                "port" => server.port = self.number("a port")?.0,
                _ => {
                    return self.error(
                        &self.token.clone(),
                        "a server is told 'in NAMESPACE', 'port NUMBER', then ';'",
                    );
                }
            }
        }
    }

    fn place(&mut self, places: &mut Places) -> Parsed<String> {
        let (name, at) = self.name("a namespace", 32)?;
        places.namespaces.push((name.clone(), at));
        Ok(name)
    }

    fn workload(&mut self, places: &mut Places) -> Parsed<Workload> {
        let begin = self.token.clone();
        self.expect("iperf3")?;
        let mut to = None;
        let (mut port, mut seconds, mut namespace) = (5201, 5, None);
        loop {
            match self.next() {
                ";" => break,
                "to" => to = Some(self.word("the server's address")?.0.to_owned()),
                "port" => port = self.number("a port")?.0,
                "seconds" => seconds = self.positive("the number of seconds")?,
                "in" => namespace = Some(self.place(places)?),
                _ => {
                    return self.error(
                        &self.token.clone(),
                        "a workload is told 'to ADDRESS', 'port NUMBER', 'seconds NUMBER', 'in NAMESPACE', then ';'",
                    );
                }
            }
        }
        match to {
            Some(to) => Ok(Workload {
                to,
                port,
                seconds,
                namespace,
            }),
            None => self.error(&begin, "the workload does not say where to: 'to ADDRESS'"),
        }
    }

    fn sample(&mut self) -> Parsed<Sample> {
        let (map, at) = self.word("a map such as @ns")?;
        if !map.starts_with('@') || map.contains('[') {
            return self.error(&at, "expected a map without keys, such as @ns");
        }
        let label = self.quoted("what the map is the time of")?.0;
        self.expect(";")?;
        Ok(Sample {
            map: map.to_owned(),
            label,
        })
    }

    fn sweep(&mut self) -> Parsed<Plan> {
        self.expect("rules")?;
        let (from, to) = self.range("a range of rules")?;
        self.expect("step")?;
        let step = u64::from(self.positive("the step")?);
        Ok(Plan::Sweep { from, to, step })
    }

    fn timeline(&mut self) -> Parsed<Plan> {
        let seconds = self.positive("the number of seconds")?;
        self.expect("s")?;
        self.expect("inject")?;
        let rules = u64::from(self.positive("the number of rules")?);
        self.expect("rules")?;
        let inject = self.range("a range of seconds")?;
        let at = self.token.clone();
        self.expect("window")?;
        let window = self.positive("the window's seconds")?;
        if inject.1 > seconds || window > seconds {
            return self.error(&at, format!("the timeline is over after {seconds} s"));
        }
        Ok(Plan::Timeline {
            seconds,
            rules,
            inject,
            window,
        })
    }

    fn series(&mut self, name: String, prefixes: &mut Vec<(Prefix, Range<usize>)>) -> Parsed<Series> {
        self.expect("{")?;
        let mut rules = Vec::new();
        while !self.accept("}") {
            rules.push(self.rule(prefixes)?);
        }
        Ok(Series { name, rules })
    }

    fn rule(&mut self, prefixes: &mut Vec<(Prefix, Range<usize>)>) -> Parsed<Rule> {
        let count = match self.next() {
            "each" => Count::Each,
            "once" => Count::Once,
            "set" => Count::Set,
            _ => {
                return self.wrong(
                    &self.token.clone(),
                    "expected 'each', 'once' or 'set'",
                    "say 'each iptables-legacy \"-s {addr} -j DROP\" from 198.18.0.0/15;'",
                );
            }
        };
        let (word, at) = self.word("a tool")?;
        let Some((_, tool)) = Tool::ALL.into_iter().find(|(name, _)| *name == word) else {
            return self.error(&at, "rules are added by iptables-legacy, iptables-nft or nft");
        };
        if count == Count::Set && tool != Tool::Nft {
            return self.error(&at, "only nft has sets");
        }
        let (text, at) = self.quoted("a rule")?;
        self.rule_text(count, tool, &text, &at)?;
        let mut from = None;
        if self.accept("from") {
            let (prefix, at) = self.prefix()?;
            prefixes.push((prefix, at));
            from = Some(prefix);
        }
        if from.is_none() && (text.contains("{addr}") || count == Count::Set) {
            return self.error(
                &at,
                "the addresses come from a prefix: say 'from 198.18.0.0/15' after the rule",
            );
        }
        self.expect(";")?;
        Ok(Rule {
            count,
            tool,
            text,
            from,
        })
    }

    fn rule_text(&self, count: Count, tool: Tool, text: &str, at: &Range<usize>) -> Parsed<()> {
        let options = text.split_whitespace().next().unwrap_or("");
        if tool != Tool::Nft && !options.starts_with('-') {
            return self.error(at, "expected iptables' options, such as -s 198.18.0.1 -j DROP");
        }
        if tool != Tool::Nft
            && ["-A", "-I", "-D", "-F", "-t", "--append", "--insert", "--table"].contains(&options)
        {
            return self.error(
                at,
                "the chain is ktrail's own: say only what the rule matches, and -j",
            );
        }
        if count == Count::Set && !text.contains("{set}") {
            return self.error(
                at,
                "the rule does not use the set: say {set}, as in 'ip saddr {set} drop'",
            );
        }
        Ok(())
    }
}

/// Namespaces that are used, and where.
#[derive(Default)]
struct Places {
    namespaces: Vec<(String, Range<usize>)>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use ktrail_ebpf::script::ast::Span;

    fn block(text: &str) -> RawBlock {
        RawBlock {
            text: text.into(),
            span: Span::new(0, text.len()),
        }
    }

    const WHOLE: &str = r#"
        // A comment.
        title "The cost";
        topology {
            netns server;
            veth kt-host 10.99.0.1/24, kt-server 10.99.0.2/24 in server;
            qdisc kt-host "netem delay 1ms";
        }
        server iperf3 in server;
        workload iperf3 to 10.99.0.2 seconds 2;
        sample @ns "average time in nf_hook_slow";
        sweep rules 0..250 step 100 "chain" { each iptables-legacy "-s {addr} -j DROP" from 198.18.0.0/15; }
        control "prefix" { once iptables-nft "-s 198.18.0.0/15 -j DROP"; }
        control "set" { set nft "ip saddr {set} drop" from 198.18.0.0/15; }
        repeat 3;
    "#;

    #[test]
    fn a_whole_block() {
        let experiment = parse(&block(WHOLE)).unwrap();
        assert_eq!(experiment.topology.namespaces, ["server"]);
        assert_eq!(
            experiment.topology.veths[0][1].namespace.as_deref(),
            Some("server")
        );
        assert_eq!(
            experiment.server,
            Some(Server {
                namespace: Some("server".into()),
                port: 5201
            })
        );
        assert_eq!(experiment.plan.steps(), [0, 100, 200, 250]);
        assert_eq!(experiment.plan.control_steps(), [0, 100, 200, 250]);
        assert_eq!((experiment.controls.len(), experiment.repeat), (2, 3));
        assert_eq!(experiment.controls[1].rules[0].count, Count::Set);
    }

    #[test]
    fn the_shipped_experiments_are_right() {
        for (name, text) in [
            (
                "bloated_chain",
                include_str!("../../../../probes/bloated_chain.probe"),
            ),
            (
                "bloated_chain_timeline",
                include_str!("../../../../probes/bloated_chain_timeline.probe"),
            ),
            (
                "firewall_tools",
                include_str!("../../../../probes/firewall_tools.probe"),
            ),
            (
                "conntrack_cost",
                include_str!("../../../../probes/conntrack_cost.probe"),
            ),
        ] {
            let (script, diagnostics) = ktrail_ebpf::script::parse(text, &Default::default());
            assert_eq!(diagnostics, [], "{name}");
            let experiment = parse(&script.experiments[0]).map_err(|error| error.render(name, text));
            assert!(experiment.unwrap().sample.is_some());
        }
    }

    #[test]
    fn a_timeline() {
        let text = r#"workload iperf3 to 127.0.0.1;
            timeline 300 s inject 6000 rules 60..180 window 10 "chain" { once nft "drop"; }"#;
        let plan = Plan::Timeline {
            seconds: 300,
            rules: 6000,
            inject: (60, 180),
            window: 10,
        };
        assert_eq!(parse(&block(text)).unwrap().plan, plan);
    }

    fn message(change: (&str, &str)) -> String {
        assert!(WHOLE.contains(change.0), "{} is not in the text", change.0);
        let text = WHOLE.replacen(change.0, change.1, 1);
        let error = parse(&block(&text)).unwrap_err();
        let marked = &text[error.span.start as usize..error.span.end as usize];
        format!("{} [{marked}]", error.message)
    }

    #[test]
    fn errors_have_a_place() {
        assert_eq!(
            message(("title", "titel")),
            "'titel' means nothing in an experiment [titel]"
        );
        assert_eq!(
            message(("repeat 3", "repeat 0")),
            "the number of repetitions must be more than 0 [0]"
        );
        assert_eq!(
            message(("0..250", "250..0")).split(',').next(),
            Some("expected a range of rules such as 0..3000")
        );
        assert_eq!(
            message(("repeat 3;", "title \"b\";")),
            "an experiment says this once [title]"
        );
        assert_eq!(
            message(("in server;\n        workload", "in serve;\n        workload")),
            "there is no namespace 'serve' [serve]"
        );
        assert_eq!(
            message(("from 198.18.0.0/15", "from 10.99.0.0/16")),
            "these rules would match the workload: 10.99.0.1 is inside [10.99.0.0/16]"
        );
        assert_eq!(
            message(("from 198.18.0.0/15", "from 198.18.0.0/25")),
            "250 rules need more than the 128 addresses of this prefix [198.18.0.0/25]"
        );
        assert_eq!(
            message(("from 198.18.0.0/15", "from 198.19.0.0/15")),
            "198.19.0.0 is not the first address of a /15 [198.19.0.0/15]"
        );
        assert_eq!(
            message(("{set} drop", "1.2.3.4 drop")).split(':').next(),
            Some("the rule does not use the set")
        );
        assert_eq!(
            message(("\"-s {addr}", "\"-A OUTPUT -s {addr}"))
                .split(':')
                .next(),
            Some("the chain is ktrail's own")
        );
        assert_eq!(
            message(("each iptables-legacy", "each iptables")),
            "rules are added by iptables-legacy, iptables-nft or nft [iptables]"
        );
        assert_eq!(
            message(("repeat 3;", "repeat 3")),
            "expected ';', found the block's end []"
        );
        assert_eq!(
            message(("\"chain\"", "chain")),
            "expected a name for the legend in double quotes, on one line [chain]"
        );
    }
}
