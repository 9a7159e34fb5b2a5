//! iperf3's JSON report.
//!
//! Only what figures need: each interval's throughput, retransmits and congestion window, and the run's totals.
//! Running iperf3 is elsewhere.

use serde::Deserialize;

use super::stats::mean;

/// One interval of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// When it ended, in seconds since the run began.
    pub end: f64,
    /// Throughput, in Mbit/s.
    pub mbit: f64,
    /// TCP segments sent again; none for UDP.
    pub retransmits: Option<u64>,
    /// The first stream's congestion window, in KB of 1,000 bytes; none for UDP and where the kernel does not say.
    pub window_kb: Option<f64>,
}

/// A run.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Its intervals, without those that iperf3 was told to omit.
    pub intervals: Vec<Interval>,
    /// Why it ended before its time, if it did.
    pub ended: Option<String>,
}

/// Why a report can't be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not JSON, or not of this form.
    #[error("not an iperf3 report (iperf3 -J writes one)")]
    Form(#[from] serde_json::Error),
    /// iperf3 says that it failed.
    #[error("iperf3 failed: {0}")]
    Iperf(String),
    /// A report of a run that ended before its first interval.
    #[error("the iperf3 report has no intervals")]
    Empty,
}

#[derive(Deserialize)]
struct Raw {
    #[serde(default)]
    intervals: Vec<RawInterval>,
    error: Option<String>,
}

#[derive(Deserialize)]
struct RawInterval {
    #[serde(default)]
    streams: Vec<RawStream>,
    sum: RawSum,
}

#[derive(Deserialize)]
struct RawStream {
    snd_cwnd: Option<f64>,
}

#[derive(Deserialize)]
struct RawSum {
    end: f64,
    bits_per_second: f64,
    retransmits: Option<u64>,
    #[serde(default)]
    omitted: bool,
}

impl Report {
    /// Reads what `iperf3 -J` wrote. A run that ended before its time counts as far as it came.
    pub fn read(text: &str) -> Result<Report, Error> {
        let raw: Raw = serde_json::from_str(text)?;
        let intervals: Vec<Interval> = raw
            .intervals
            .iter()
            .filter(|interval| !interval.sum.omitted)
            .map(|interval| Interval {
                end: interval.sum.end,
                mbit: interval.sum.bits_per_second / 1e6,
                retransmits: interval.sum.retransmits,
                window_kb: interval
                    .streams
                    .first()
                    .and_then(|s| s.snd_cwnd)
                    .map(|bytes| bytes / 1e3),
            })
            .collect();
        match raw.error {
            Some(error) if intervals.is_empty() => Err(Error::Iperf(error)),
            _ if intervals.is_empty() => Err(Error::Empty),
            ended => Ok(Report { intervals, ended }),
        }
    }

    /// Mean throughput, in Mbit/s.
    pub fn mbit(&self) -> Option<f64> {
        mean(&self.intervals.iter().map(|i| i.mbit).collect::<Vec<_>>())
    }

    /// Mean congestion window, in KB.
    pub fn window_kb(&self) -> Option<f64> {
        mean(
            &self
                .intervals
                .iter()
                .filter_map(|i| i.window_kb)
                .collect::<Vec<_>>(),
        )
    }

    /// All retransmits.
    pub fn retransmits(&self) -> Option<u64> {
        self.intervals.iter().map(|i| i.retransmits).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = r#"{
        "start": {"version": "iperf 3.12"},
        "intervals": [
            {"streams": [{"socket": 5, "snd_cwnd": 3100000}],
             "sum": {"start": 0, "end": 1, "bits_per_second": 9e9, "retransmits": 9, "omitted": true}},
            {"streams": [{"socket": 5, "snd_cwnd": 3200000}],
             "sum": {"start": 0, "end": 1.0001, "bits_per_second": 1e10, "retransmits": 2, "omitted": false}},
            {"streams": [{"socket": 5, "snd_cwnd": 3400000}],
             "sum": {"start": 1.0001, "end": 2, "bits_per_second": 8e9, "retransmits": 1, "omitted": false}}
        ],
        "end": {}
    }"#;

    #[test]
    fn a_report() {
        let report = Report::read(REPORT).unwrap();
        assert_eq!(report.intervals.len(), 2);
        assert_eq!(
            report.intervals[0],
            Interval {
                end: 1.0001,
                mbit: 10_000.0,
                retransmits: Some(2),
                window_kb: Some(3200.0)
            }
        );
        assert_eq!(report.mbit(), Some(9000.0));
        assert_eq!(report.window_kb(), Some(3300.0));
        assert_eq!((report.retransmits(), report.ended), (Some(3), None));
        let cut = REPORT.replace("\"end\": {}", "\"error\": \"the server has terminated\"");
        let report = Report::read(&cut).unwrap();
        assert_eq!(report.intervals.len(), 2);
        assert_eq!(report.ended.as_deref(), Some("the server has terminated"));
    }

    #[test]
    fn udp_has_no_window() {
        let report =
            Report::read(r#"{"intervals": [{"streams": [{}], "sum": {"end": 1, "bits_per_second": 1e6}}]}"#)
                .unwrap();
        assert_eq!((report.window_kb(), report.retransmits()), (None, None));
    }

    #[test]
    fn what_is_no_report() {
        let read = |text| Report::read(text).unwrap_err().to_string();
        assert!(read("iperf3: error").starts_with("not an iperf3 report"));
        assert_eq!(read("{}"), "the iperf3 report has no intervals");
        let error = r#"{"start": {}, "intervals": [], "end": {}, "error": "unable to connect to server"}"#;
        assert_eq!(read(error), "iperf3 failed: unable to connect to server");
    }
}
