//! What a guest measured, as a table.

use crate::kernel::Kernel;
use std::collections::BTreeMap;
use std::fmt::Write;

/// One measurement.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Row {
    /// As in [`super::rows`].
    pub name: String,
    fields: BTreeMap<String, String>,
}

impl Row {
    /// A line of the guest's report.
    pub fn parse(line: &str) -> Option<Row> {
        let mut parts = line.strip_prefix("row\t")?.split('\t');
        Some(Row {
            name: parts.next()?.to_owned(),
            fields: parts
                .filter_map(|part| part.split_once('='))
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
        })
    }

    fn number(&self, key: &str) -> Option<f64> {
        self.fields.get(key)?.parse().ok()
    }

    /// Guest instructions a packet.
    fn cost(&self) -> Option<f64> {
        let packets = self.number("packets").filter(|&packets| packets > 0.0)?;
        Some(self.number("seconds")? * 1e9 / packets)
    }
}

const COLUMNS: [&str; 9] = [
    "instructions a packet",
    "times untraced",
    "times floor",
    "ready ms",
    "prompt ms",
    "removed ms",
    "peak MB",
    "events produced",
    "delivered + lost",
];

/// The cells of one row, in the order of [`COLUMNS`].
fn cells(row: &Row, all: &[Row]) -> [String; 9] {
    let show =
        |value: Option<f64>, digits: usize| value.map_or("–".to_owned(), |v| format!("{v:.digits$}"));
    let of = |name: &str| all.iter().find(|row| row.name == name).and_then(Row::cost);
    let ratio = |to: Option<f64>| Some(row.cost()? / to?);
    let backend = row.name.split_once(':').map(|(_, backend)| backend);
    let floor = backend.and_then(|backend| of(&format!("floor:{backend}")));
    let ready = row.number("ready").map(|us| us / 1e3);
    let events = |key: &str| {
        let value = row.number(key);
        value.map_or("–".to_owned(), |value| format!("{value}"))
    };
    let told = match (row.number("delivered"), row.number("lost")) {
        (Some(_), Some(_)) => format!("{} + {}", events("delivered"), events("lost")),
        _ => "–".to_owned(),
    };
    [
        match (row.cost(), row.fields.get("why")) {
            (Some(cost), _) => format!("{:.1}k", cost / 1e3),
            // Nothing of the load: how long it takes is what matters.
            (None, None) if ready.is_some() => "–".to_owned(),
            (None, Some(why)) => format!("failed: {why}"),
            (None, None) => "failed".to_owned(),
        },
        show(ratio(of("untraced")), 2),
        show(ratio(floor), 2),
        match row.number("usual") {
            Some(usual) => format!("{:.0}, all {}", usual * 1e3, show(ready, 0)),
            None => show(ready, 0),
        },
        show(row.number("gone").map(|us| us / 1e3), 0),
        show(row.number("removed").map(|us| us / 1e3), 0),
        show(row.number("memory").map(|kib| kib * 1024.0 / 1e6), 1),
        events("produced"),
        told,
    ]
}

/// For a terminal.
pub fn text(kernel: Kernel, rows: &[Row]) -> String {
    let mut lines = vec![
        std::iter::once(kernel.name().to_owned())
            .chain(COLUMNS.map(str::to_owned))
            .collect(),
    ];
    for row in rows {
        lines.push(
            std::iter::once(row.name.clone())
                .chain(cells(row, rows))
                .collect::<Vec<_>>(),
        );
    }
    let widths: Vec<usize> = (0..=COLUMNS.len())
        .map(|i| {
            lines
                .iter()
                .map(|line| line[i].chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for line in lines {
        for (i, (cell, width)) in line.iter().zip(&widths).enumerate() {
            let _ = match i {
                0 => write!(text, "{cell:<width$}"),
                _ => write!(text, "  {cell:>width$}"),
            };
        }
        text.push('\n');
    }
    text.push('\n');
    text
}

/// For README.md.
pub fn markdown(all: &[(Kernel, Vec<Row>)]) -> String {
    let mut text = format!("| kernel | | {} |\n|---|---|", COLUMNS.join(" | "));
    text.push_str(&"---:|".repeat(COLUMNS.len()));
    text.push('\n');
    for (kernel, rows) in all {
        for row in rows {
            let _ = writeln!(
                text,
                "| {kernel} | {} | {} |",
                row.name,
                cells(row, rows).join(" | ")
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Row> {
        [
            "row\tuntraced\tpackets=100\tseconds=0.001",
            "noise",
            "row\tfloor:kprobe\tpackets=100\tseconds=0.002\tready=1500\tgone=10\tremoved=20\tmemory=1000",
            "row\thit:kprobe\tpackets=100\tseconds=0.004\tproduced=9\tdelivered=7\tlost=2",
            "row\tmiss:kprobe\twhy=no kprobes",
        ]
        .into_iter()
        .filter_map(Row::parse)
        .collect()
    }

    #[test]
    fn costs_are_told_as_ratios() {
        let rows = rows();
        let hit = cells(&rows[2], &rows);
        assert_eq!(hit[..3], ["40.0k", "4.00", "2.00"]);
        assert_eq!(hit[7..], ["9", "7 + 2"]);
        assert_eq!(cells(&rows[1], &rows)[3..7], ["2", "0", "0", "1.0"]);
    }

    #[test]
    fn what_failed_says_why() {
        let rows = rows();
        assert_eq!(cells(&rows[3], &rows)[0], "failed: no kprobes");
        assert!(text(Kernel::V6_1, &rows).contains("failed: no kprobes"));
        assert_eq!(markdown(&[(Kernel::V6_1, rows)]).lines().count(), 6);
    }
}
