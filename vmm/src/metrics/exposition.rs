//! Every figure since the start, as Prometheus reads it: its text format 0.0.4.
//!
//! | figure | names | type |
//! | --- | --- | --- |
//! | a count | `ravelin_{group}_{key}_total` | counter |
//! | a level | `ravelin_{group}_{key}` | gauge |
//! | a latency | `ravelin_{group}_{key}_seconds_total`, `..._min_seconds`, `..._max_seconds` | counter, gauges |
//!
//! The endings `_count`, `_us` and `_agg` of Firecracker's keys are left out, and microseconds become seconds.
//! What cannot happen in ravelin is not shown. There are no sums over devices: the reader of the figures makes
//! them.

use std::fmt::Write;

use devices::metrics::{Figure, Value};

use super::registry::{Reading, Registry, Section};

/// The media type of the text.
pub const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The text. `id` is the VM's.
pub(super) fn exposition(registry: &Registry, reading: &Reading, id: &str) -> String {
    let mut text = String::new();
    let info = Family {
        name: "ravelin_info",
        kind: "gauge",
        help: "The VM and the version that runs it.",
    };
    info.begin(&mut text);
    let version = env!("CARGO_PKG_VERSION");
    sample(
        &mut text,
        info.name,
        &[("id", id), ("version", version)],
        "1",
    );
    for (section, read) in reading.of(registry) {
        let count = read.first().map_or(0, Vec::len);
        for place in 0..count {
            put(&mut text, section, read, place);
        }
    }
    text
}

/// A metric with all its samples to come.
struct Family<'a> {
    name: &'a str,
    kind: &'static str,
    help: &'a str,
}

impl Family<'_> {
    // Writing into a string cannot fail.
    fn begin(&self, text: &mut String) {
        let help = self.help.trim().replace('\\', "\\\\").replace('\n', "\\n");
        let _ = writeln!(text, "# HELP {} {help}", self.name);
        let _ = writeln!(text, "# TYPE {} {}", self.name, self.kind);
    }
}

/// The figure at `place` of every source of a section.
fn put(text: &mut String, section: &Section, read: &[Vec<Figure>], place: usize) {
    let figures = || read.iter().filter_map(|figures| figures.get(place));
    let Some(first) = figures().next() else {
        return;
    };
    let label = section.label();
    for (at, number) in numbers(section.name, first).iter().enumerate() {
        let family = Family {
            name: &number.name,
            kind: number.kind,
            help: first.help,
        };
        family.begin(text);
        for (source, figure) in section.sources.iter().zip(figures()) {
            let label = label.map(|label| (label, source.id.as_str()));
            if let Some(number) = numbers(section.name, figure).get(at) {
                sample(text, &number.name, label.as_slice(), &number.value);
            }
        }
    }
}

/// A number of a figure.
struct Number {
    name: String,
    kind: &'static str,
    value: String,
}

fn numbers(section: &str, figure: &Figure) -> Vec<Number> {
    let base = format!("ravelin_{}_{}", stem(section), stem(figure.key));
    let number = |ending: &str, kind, value| Number {
        name: format!("{base}{ending}"),
        kind,
        value,
    };
    let is_time = section.ends_with("_us") || figure.key.ends_with("_us");
    match figure.value {
        Value::Never => vec![],
        Value::Count(value) => vec![number("_total", "counter", value.to_string())],
        Value::Level(us) if is_time => vec![number("_seconds", "gauge", seconds(us))],
        Value::Level(value) => vec![number("", "gauge", value.to_string())],
        Value::Latency {
            min_us,
            max_us,
            sum_us,
        } => vec![
            number("_seconds_total", "counter", seconds(sum_us)),
            number("_min_seconds", "gauge", seconds(min_us)),
            number("_max_seconds", "gauge", seconds(max_us)),
        ],
    }
}

/// A name of Firecracker's without its ending.
fn stem(name: &str) -> &str {
    let endings = ["_count", "_us", "_agg"];
    let stems = endings.iter().find_map(|ending| name.strip_suffix(ending));
    stems.unwrap_or(name)
}

fn seconds(us: u64) -> String {
    format!("{}.{:06}", us / 1_000_000, us % 1_000_000)
}

fn sample(text: &mut String, name: &str, labels: &[(&str, &str)], value: &str) {
    let quoted = |(label, value): &(&str, &str)| {
        let value = value.replace('\\', "\\\\");
        let value = value.replace('"', "\\\"").replace('\n', "\\n");
        format!("{label}=\"{value}\"")
    };
    let labels: Vec<String> = labels.iter().map(quoted).collect();
    let labels = if labels.is_empty() {
        String::new()
    } else {
        format!("{{{}}}", labels.join(","))
    };
    let _ = writeln!(text, "{name}{labels} {value}");
}
