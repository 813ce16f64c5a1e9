//! Limits of the specification, which has the words of version 1, as files and values of version 2.

use std::fmt::Write as _;

use crate::error::AgentError;
use crate::spec::Resources;

/// What is written to one file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Value {
    pub(super) file: String,
    pub(super) text: String,
    /// Whether a guest whose kernel does not have it may do without.
    pub(super) is_hint: bool,
}

/// The controllers that `unified` may name files of.
const CONTROLLERS: [&str; 5] = ["memory", "cpu", "cpuset", "pids", "io"];

/// All that is to be written, in order.
pub(super) fn of(resources: &Resources) -> Result<Vec<Value>, AgentError> {
    let mut values = Vec::new();
    memory(resources, &mut values)?;
    processors(resources, &mut values);
    if let Some(limit) = resources.pids.limit {
        limit_of(&mut values, "pids.max", if limit <= 0 { -1 } else { limit });
    }
    disks(resources, &mut values);
    for (file, text) in &resources.unified {
        let is_known = file.split_once('.').is_some_and(|(controller, rest)| {
            CONTROLLERS.contains(&controller)
                && !rest.is_empty()
                && rest
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte == b'.' || byte == b'_')
        });
        if !is_known {
            return Err(AgentError::Asked(format!(
                "linux.resources.unified names '{file}' and a file of one of {} was expected",
                CONTROLLERS.join(", ")
            )));
        }
        must(&mut values, file, text.clone());
    }
    Ok(values)
}

fn memory(resources: &Resources, values: &mut Vec<Value>) -> Result<(), AgentError> {
    let memory = &resources.memory;
    let limit = memory.limit.filter(|limit| *limit != 0);
    if let Some(swap) = memory.swap.filter(|swap| *swap != 0) {
        let only = match (swap, limit) {
            (..0, _) => -1,
            (swap, Some(limit @ 1..)) if swap >= limit => swap - limit,
            _ => {
                return Err(AgentError::Asked(format!(
                    "linux.resources.memory.swap is {swap} and memory and swap together were expected, no less \
                     than the limit"
                )));
            }
        };
        // A kernel without swap has nothing to limit.
        hint(values, "memory.swap.max", amount(only));
    }
    if let Some(limit) = limit {
        limit_of(values, "memory.max", limit);
    }
    if let Some(low) = memory.reservation.filter(|low| *low > 0) {
        must(values, "memory.low", low.to_string());
    }
    Ok(())
}

fn processors(resources: &Resources, values: &mut Vec<Value>) {
    let cpu = &resources.cpu;
    if let Some(idle) = cpu.idle {
        must(values, "cpu.idle", idle.to_string());
    }
    if let Some(shares) = cpu.shares.filter(|shares| *shares != 0) {
        must(values, "cpu.weight", weight(shares).to_string());
    }
    if cpu.quota.is_some() || cpu.period.is_some() {
        let quota = cpu.quota.filter(|quota| *quota > 0).unwrap_or(-1);
        let mut text = amount(quota);
        if let Some(period) = cpu.period.filter(|period| *period != 0) {
            // Writing to a string cannot fail.
            let _ = write!(text, " {period}");
        }
        must(values, "cpu.max", text);
    }
    if let Some(burst) = cpu.burst {
        must(values, "cpu.max.burst", burst.to_string());
    }
    for (file, list) in [("cpuset.cpus", &cpu.cpus), ("cpuset.mems", &cpu.mems)] {
        if let Some(list) = list.as_ref().filter(|list| !list.is_empty()) {
            must(values, file, list.clone());
        }
    }
}

fn disks(resources: &Resources, values: &mut Vec<Value>) {
    let io = &resources.block_io;
    if let Some(weight) = io.weight.filter(|weight| *weight != 0) {
        // 10 to 1000 become 1 to 10000.
        let weight = 1 + (u64::from(weight.max(10)) - 10) * 9999 / 990;
        hint(values, "io.weight", format!("default {weight}"));
    }
    let rates = [
        ("rbps", &io.throttle_read_bps_device),
        ("wbps", &io.throttle_write_bps_device),
        ("riops", &io.throttle_read_iops_device),
        ("wiops", &io.throttle_write_iops_device),
    ];
    for (name, disks) in rates {
        for disk in disks {
            let rate = match disk.rate {
                0 => "max".into(),
                rate => rate.to_string(),
            };
            must(
                values,
                "io.max",
                format!("{}:{} {name}={rate}", disk.major, disk.minor),
            );
        }
    }
}

/// Shares of version 1, 2 to 262144, as a weight of version 2, 1 to 10000.
fn weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

fn amount(number: i64) -> String {
    match number {
        ..0 => "max".into(),
        number => number.to_string(),
    }
}

fn limit_of(values: &mut Vec<Value>, file: &str, number: i64) {
    must(values, file, amount(number));
}

fn must(values: &mut Vec<Value>, file: &str, text: String) {
    push(values, file, text, false);
}

fn hint(values: &mut Vec<Value>, file: &str, text: String) {
    push(values, file, text, true);
}

fn push(values: &mut Vec<Value>, file: &str, text: String, is_hint: bool) {
    values.push(Value {
        file: file.into(),
        text,
        is_hint,
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> Vec<(String, String)> {
        let resources = Resources::parse(text.as_bytes()).unwrap();
        of(&resources)
            .unwrap()
            .into_iter()
            .map(|value| (value.file, value.text))
            .collect()
    }

    fn one(text: &str) -> (String, String) {
        let mut all = written(text);
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    #[test]
    fn what_is_not_limited_is_not_written() {
        assert_eq!(written("{}"), []);
        assert_eq!(written(r#"{"memory": null, "cpu": {}, "pids": {}}"#), []);
    }

    #[test]
    fn swap_is_what_is_beyond_memory() {
        assert_eq!(
            written(r#"{"memory": {"limit": 100, "swap": 150}}"#),
            [
                ("memory.swap.max".into(), "50".into()),
                ("memory.max".into(), "100".into())
            ]
        );
        let none = Resources::parse(br#"{"memory": {"limit": 100, "swap": 50}}"#).unwrap();
        assert!(of(&none).is_err());
    }

    #[test]
    fn a_quota_goes_with_its_period() {
        let max = "cpu.max".to_owned();
        assert_eq!(
            one(r#"{"cpu": {"quota": 50000, "period": 100000}}"#),
            (max.clone(), "50000 100000".into())
        );
        assert_eq!(
            one(r#"{"cpu": {"quota": -1, "period": 100000}}"#),
            (max, "max 100000".into())
        );
    }

    #[test]
    fn shares_are_weights() {
        for (shares, weight) in [(2, "1"), (1024, "39"), (262_144, "10000"), (1, "1")] {
            let text = format!(r#"{{"cpu": {{"shares": {shares}}}}}"#);
            assert_eq!(one(&text), ("cpu.weight".into(), weight.into()));
        }
    }

    #[test]
    fn no_limit_of_processes_is_max() {
        for limit in [-1, 0] {
            let text = format!(r#"{{"pids": {{"limit": {limit}}}}}"#);
            assert_eq!(one(&text), ("pids.max".into(), "max".into()));
        }
    }

    #[test]
    fn unified_names_files_of_controllers_alone() {
        assert_eq!(
            one(r#"{"unified": {"memory.high": "1"}}"#),
            ("memory.high".into(), "1".into())
        );
        for file in ["cgroup.procs", "memory/../x", "../memory.max", "memory."] {
            let text = format!(r#"{{"unified": {{"{file}": "1"}}}}"#);
            let resources = Resources::parse(text.as_bytes()).unwrap();
            assert!(of(&resources).is_err(), "{file}");
        }
    }
}
