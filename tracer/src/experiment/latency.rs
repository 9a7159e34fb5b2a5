//! A latency script's output: one value each interval.
//!
//! A line says a value in one of these forms. The file's first such line says which one the file is of; lines of
//! another form, or of another map, are counted and passed over:
//!
//! ```text
//! t=10 packets=1234 avg_ns=567              at 10 s, 567 ns on average (what probes/nf_latency.probe prints)
//! @avg: 567                                 a printed map; the time follows from the interval
//! @ns: count 1234, average 567, total 9     the same, of stats()
//! 10 567                                    seconds and nanoseconds, also with a comma between them
//! 567                                       nanoseconds; the time follows from the interval
//! ```

/// One interval's average.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// When the interval ended, in seconds since the script began.
    pub end: f64,
    /// The average, in nanoseconds; none if no packet came. That is what an average of 0 means: no call takes no time.
    pub avg_ns: Option<f64>,
    /// How many packets, if the line says so.
    pub packets: Option<u64>,
}

/// What a file says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Latency {
    /// In the order of the lines.
    pub samples: Vec<Sample>,
    /// Lines that are neither empty nor of the file's form.
    pub ignored: usize,
}

/// The form of a line.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Form<'a> {
    Named,
    Map(&'a str),
    Pair,
    Number,
}

/// Reads a script's output; values without a time stand `interval` seconds apart.
pub fn read(text: &str, interval: f64) -> Latency {
    let mut latency = Latency::default();
    let mut of_file = None;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let next = latency.samples.last().map_or(0.0, |s| s.end) + interval;
        match sample(line, next) {
            Some((form, mut sample)) if *of_file.get_or_insert(form) == form => {
                sample.avg_ns = sample.avg_ns.filter(|ns| *ns > 0.0);
                latency.samples.push(sample);
            }
            _ => latency.ignored += 1,
        }
    }
    latency
}

fn sample(line: &str, next: f64) -> Option<(Form<'_>, Sample)> {
    if let Some(rest) = line.strip_prefix('@') {
        let (name, value) = rest.split_once(':')?;
        // A map with keys has no single value.
        return Some((Form::Map(name), map(value, next)?)).filter(|_| !name.contains('['));
    }
    if line.contains('=') {
        return Some((Form::Named, named(line, next)?));
    }
    let plain = |end, ns| Sample {
        end,
        avg_ns: Some(ns),
        packets: None,
    };
    let line = line.strip_suffix("ns").unwrap_or(line);
    let numbers: Vec<f64> = line
        .split([' ', '\t', ','])
        .filter(|word| !word.is_empty())
        .map(number)
        .collect::<Option<_>>()?;
    match numbers[..] {
        [ns] => Some((Form::Number, plain(next, ns))),
        [end, ns] => Some((Form::Pair, plain(end, ns))),
        _ => None,
    }
}

/// A printed map's value: a number, or what stats() has gathered.
fn map(value: &str, next: f64) -> Option<Sample> {
    let mut fields = value.split(',').map(str::trim);
    let mut field = |name| fields.next()?.strip_prefix(name).map(str::trim_start);
    let (packets, average) = match field("count ") {
        Some(count) => (Some(count.parse().ok()?), field("average ")?),
        None => (None, value.trim()),
    };
    Some(Sample {
        end: next,
        avg_ns: Some(number(average)?),
        packets,
    })
}

/// Words of the form NAME=VALUE.
fn named(line: &str, next: f64) -> Option<Sample> {
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
    let average = average?;
    Some(Sample {
        end: end.unwrap_or(next),
        avg_ns: Some(average),
        packets,
    })
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
        assert_eq!(values("@avg: 77\n@avg: 78\n")[1], (20.0, Some(78.0)));
        assert_eq!(
            values("@ns: count 3, average 7, total 21\n@ns: count 0, average 0, total 0\n"),
            [(10.0, Some(7.0)), (20.0, None)]
        );
        assert_eq!(values("@avg: 7\n@avg: 0\n")[1], (20.0, None));
        assert_eq!(
            values("time,ns\n5,120\n15, 130 ns\n"),
            [(5.0, Some(120.0)), (15.0, Some(130.0))]
        );
        assert_eq!(values("@start[123]: 5\nhello\n-3\ninf\n"), []);
        assert_eq!(values("avg_ns=5"), [(10.0, Some(5.0))]);
    }

    #[test]
    fn the_first_value_says_what_the_file_holds() {
        let latency = read("10 5\n20 6\n\n@count: 9\n@sum: 77\n", 10.0);
        assert_eq!((latency.samples.len(), latency.ignored), (2, 2));
        let latency = read("@avg: 5\n@count: 9\n@avg: 6\n@count: 9\n", 10.0);
        assert_eq!(latency.samples[1].end, 20.0);
        assert_eq!((latency.samples.len(), latency.ignored), (2, 2));
    }
}
