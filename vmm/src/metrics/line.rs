//! A line of metrics as Firecracker writes it: one JSON object, with every figure since the line before.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use devices::metrics::{Figure, Value};
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use super::registry::Entry;

/// What stands at the beginning of each line.
#[derive(Debug, Default)]
pub(super) struct Head {
    /// The VM's id, if lines carry it.
    pub(super) id: Option<String>,
    /// What the operator wants to find in each line.
    pub(super) properties: BTreeMap<String, String>,
}

/// The line, with its end.
pub(super) fn line(head: &Head, at: SystemTime, entries: &[Entry]) -> Vec<u8> {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let line = Line {
        utc_timestamp_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
        head,
        entries,
    };
    let mut bytes = serde_json::to_vec(&line).expect("strings and numbers can be written as JSON");
    bytes.push(b'\n');
    bytes
}

struct Line<'a> {
    utc_timestamp_ms: u64,
    head: &'a Head,
    entries: &'a [Entry],
}

impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(None)?;
        map.serialize_entry("utc_timestamp_ms", &self.utc_timestamp_ms)?;
        if let Some(id) = &self.head.id {
            map.serialize_entry("id", id)?;
        }
        if !self.head.properties.is_empty() {
            map.serialize_entry("properties", &self.head.properties)?;
        }
        for (key, figures) in self.entries {
            map.serialize_entry(key, &Figures(figures))?;
        }
        map.end()
    }
}

struct Figures<'a>(&'a [Figure]);

impl Serialize for Figures<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(
            self.0
                .iter()
                .map(|figure| (figure.key, Written(figure.value))),
        )
    }
}

struct Written(Value);

impl Serialize for Written {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Never => to.serialize_u64(0),
            Value::Count(value) | Value::Level(value) => to.serialize_u64(value),
            Value::Latency {
                min_us,
                max_us,
                sum_us,
            } => to.collect_map([("min_us", min_us), ("max_us", max_us), ("sum_us", sum_us)]),
        }
    }
}
