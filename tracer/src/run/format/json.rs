//! Values as JSON: tuples are arrays, records are objects, what has a number and a name is the number.

use std::time::{Duration, UNIX_EPOCH};

use super::hist::Histogram;
use super::map::Content;
use super::series::Series;
use super::value::{INDENT, Value};
use ktrail_ebpf::script::output::ValueTy;

/// A value as JSON, objects with blanks and arrays without.
pub fn value(value: &Value) -> String {
    match value {
        Value::None => "null".into(),
        Value::Bool(b) => b.to_string(),
        Value::Int(n) => number(*n),
        Value::Named {
            number: n,
            constant: true,
            ..
        } => number(*n),
        Value::Named { name, .. } => string(name.as_bytes()),
        Value::Pointer(p) => number((*p).into()),
        Value::Str(bytes) => string(bytes),
        Value::Text(text) => string(text.as_bytes()),
        Value::Stack(_) => string(&value.text()),
        Value::Buffer(bytes) => list(bytes.iter().map(|b| b.to_string())),
        Value::Array(values) | Value::Tuple(values) => list(values.iter().map(self::value)),
        Value::Record(fields) => object(fields.iter().map(|(k, v)| (k.clone(), self::value(v)))),
        Value::Stats(stats) => object(
            [
                ("count", i128::from(stats.count)),
                ("average", stats.average),
                ("total", stats.total),
            ]
            .into_iter()
            .map(|(name, n)| (name.to_string(), number(n))),
        ),
        Value::Histogram(hist) => histogram(hist),
        Value::Series(series) => self::series(series),
    }
}

/// A map's content as JSON; keys are text without blanks, of tuples without parentheses.
pub fn content(content: &Content) -> String {
    match content {
        Content::Scalar(scalar) => value(scalar),
        Content::Keyed(entries) => object(entries.iter().map(|(k, v)| (key(k), value(v)))),
    }
}

/// What a line about a map is called: by what the map holds.
pub fn map_type(holds: &ValueTy) -> &'static str {
    match holds {
        ValueTy::Hist { .. } | ValueTy::Lhist { .. } => "hist",
        ValueTy::Series { .. } => "tseries",
        ValueTy::Avg { .. } | ValueTy::Stats { .. } => "stats",
        _ => "map",
    }
}

/// Bytes as a JSON string; what is not UTF-8 becomes a replacement character.
pub fn string(bytes: &[u8]) -> String {
    serde_json::Value::from(String::from_utf8_lossy(bytes)).to_string()
}

fn key(key: &Value) -> String {
    let mut text = Vec::new();
    key.write(&mut text, INDENT);
    let text = String::from_utf8_lossy(&text).into_owned();
    let inner = match key {
        Value::Tuple(_) => &text[1..text.len() - 1],
        _ => &text,
    };
    inner.replace(' ', "")
}

/// Readers take numbers for floating point: what that can't hold exactly is a string.
fn number(n: i128) -> String {
    match n as f64 as i128 == n {
        true => n.to_string(),
        false => format!("\"{n}\""),
    }
}

fn list(values: impl Iterator<Item = String>) -> String {
    format!("[{}]", values.collect::<Vec<_>>().join(","))
}

fn object(fields: impl Iterator<Item = (String, String)>) -> String {
    let fields: Vec<String> = fields
        .map(|(name, value)| format!("{}: {value}", string(name.as_bytes())))
        .collect();
    format!("{{{}}}", fields.join(", "))
}

/// Ranges that include both ends.
fn histogram(hist: &Histogram) -> String {
    list(hist.buckets.iter().map(|bucket| {
        let min = bucket.min.map(|min| ("min".to_string(), number(min)));
        let max = bucket.end.map(|end| ("max".to_string(), number(end - 1)));
        let count = ("count".to_string(), bucket.count.to_string());
        object(min.into_iter().chain(max).chain([count]))
    }))
}

/// Values with the starts of their intervals, in UTC.
fn series(series: &Series) -> String {
    list(series.shown().map(|(start, value)| {
        let start = UNIX_EPOCH + Duration::from_nanos(start.unsigned_abs());
        let start = humantime::format_rfc3339_nanos(start).to_string();
        let start = start.trim_end_matches('Z').replace('T', " ");
        format!("{{\"interval_start\":\"{start}\",\"value\":{value}}}")
    }))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn values() {
        for (value, expected) in [
            (Value::Int(5), "5"),
            (Value::Int(i64::MAX.into()), "\"9223372036854775807\""),
            (Value::Int(1 << 62), "4611686018427387904"),
            (Value::Str(b"a\"\n".to_vec()), r#""a\"\n""#),
            (Value::Bool(false), "false"),
            (
                Value::Tuple(vec![
                    Value::Int(1),
                    Value::Array(vec![Value::Int(2), Value::Int(3)]),
                ]),
                "[1,[2,3]]",
            ),
            (
                Value::Record(vec![("a".into(), Value::Int(1)), ("b".into(), Value::None)]),
                r#"{"a": 1, "b": null}"#,
            ),
            (
                Value::Named {
                    number: 7,
                    name: "TCP_CLOSE".into(),
                    constant: true,
                },
                "7",
            ),
            (
                Value::Named {
                    number: 0x10,
                    name: "vfs_read".into(),
                    constant: false,
                },
                "\"vfs_read\"",
            ),
        ] {
            assert_eq!(super::value(&value), expected);
        }
    }

    #[test]
    fn maps() {
        let key = |name: &str, n| Value::Tuple(vec![Value::Str(name.into()), Value::Int(n)]);
        let map = Content::Keyed(vec![(key("bpftrace", 2), Value::Int(5))]);
        assert_eq!(content(&map), r#"{"bpftrace,2": 5}"#);
        assert_eq!(content(&Content::Scalar(Value::Int(5))), "5");

        let counts: BTreeMap<u64, u64> = [(0, 1), (1, 2)].into();
        let hist = Content::Scalar(Value::Histogram(Histogram::log2(0, &counts)));
        assert_eq!(
            content(&hist),
            r#"[{"max": -1, "count": 1},{"min": 0, "max": 0, "count": 2}]"#
        );
        let points: BTreeMap<u64, i128> = [(3, -1), (5, 9)].into();
        let series = Content::Scalar(Value::Series(Series::new(500_000_000, 5, points)));
        assert_eq!(
            content(&series),
            r#"[{"interval_start":"1970-01-01 00:00:01.500000000","value":-1},{"interval_start":"1970-01-01 00:00:02.500000000","value":9}]"#
        );
        let over: BTreeMap<u64, u64> = [(11, 1)].into();
        let linear = Content::Scalar(Value::Histogram(Histogram::linear(0, 100, 10, &over)));
        assert_eq!(content(&linear), r#"[{"min": 100, "count": 1}]"#);
    }
}
