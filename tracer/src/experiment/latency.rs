//! A latency script's output: one value each interval.
//!
//! A line says a value in one of these forms; other lines are counted and passed over:
//!
//! ```text
//! t=10 packets=1234 avg_ns=567     at 10 s, 567 ns on average       (what probes/nf_latency.probe prints)
//! @avg: 567                        a printed map; the time follows from the interval
//! 567                              the same
//! ```

/// One interval's average.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// When the interval ended, in seconds since the script began.
    pub end: f64,
    /// The average, in nanoseconds; none if no packet came.
    pub avg_ns: Option<f64>,
    /// How many packets, if the line says so.
    pub packets: Option<u64>,
}

/// What a file says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Latency {
    /// In the order of the lines.
    pub samples: Vec<Sample>,
    /// Lines that are neither empty nor of a known form.
    pub ignored: usize,
}

/// Reads a script's output; values without a time stand `interval` seconds apart.
pub fn read(text: &str, interval: f64) -> Latency {
    let mut latency = Latency::default();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let next = latency.samples.last().map_or(0.0, |s| s.end) + interval;
        match sample(line, next) {
            Some(sample) => latency.samples.push(sample),
            None => latency.ignored += 1,
        }
    }
    latency
}

fn sample(line: &str, next: f64) -> Option<Sample> {
    if let Some(value) = number(line) {
        return Some(Sample {
            end: next,
            avg_ns: Some(value),
            packets: None,
        });
    }
    if let Some(rest) = line.strip_prefix('@') {
        // A map without keys; one with keys has no single value.
        let (name, value) = rest.split_once(':')?;
        let avg_ns = Some(number(value.trim())?);
        return (!name.contains('[')).then_some(Sample {
            end: next,
            avg_ns,
            packets: None,
        });
    }
    let mut end = None;
    let mut packets = None;
    let mut average = None;
    for word in line.split_whitespace() {
        match word.split_once('=') {
            Some(("t", value)) => end = Some(number(value)?),
            Some(("packets", value)) => packets = Some(value.parse().ok()?),
            Some(("avg_ns", value)) => average = Some(number(value)?),
            _ => {}
        }
    }
    Some(Sample {
        end: end.unwrap_or(next),
        avg_ns: average.filter(|_| packets != Some(0)),
        packets,
    })
    .filter(|_| average.is_some())
}

fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|v: &f64| v.is_finite() && *v >= 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str) -> Vec<(f64, Option<f64>)> {
        read(text, 10.0)
            .samples
            .iter()
            .map(|s| (s.end, s.avg_ns))
            .collect()
    }

    #[test]
    fn the_script_s_lines() {
        let latency = read(
            "Attached 3 probes\nt=10 packets=1234 avg_ns=567\nt=20 packets=0 avg_ns=0\n",
            10.0,
        );
        assert_eq!(latency.ignored, 1);
        assert_eq!(
            latency.samples[0],
            Sample {
                end: 10.0,
                avg_ns: Some(567.0),
                packets: Some(1234)
            }
        );
        assert_eq!(latency.samples[1].avg_ns, None);
    }

    #[test]
    fn others_lines() {
        assert_eq!(
            values("120\n\n130.5\n"),
            [(10.0, Some(120.0)), (20.0, Some(130.5))]
        );
        assert_eq!(values("@avg: 77\n@avg: 78\n@start: 1\n")[1], (20.0, Some(78.0)));
        assert_eq!(values("@start[123]: 5\nhello\n-3\ninf\n"), []);
        assert_eq!(values("avg_ns=5"), [(10.0, Some(5.0))]);
    }
}
