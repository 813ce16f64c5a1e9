//! `ravelin ctl NAME metrics`: the figures of a VM, from the text that Prometheus reads.

use serde_json::{Map, Value, json};

use super::args::Form;
use super::target::Target;
use crate::cli::print;
use crate::cli::style::{Cell, Style};
use crate::failure::Failure;

/// One figure.
#[derive(Clone, Debug, PartialEq)]
struct Sample {
    name: String,
    /// What it is of, such as a device.
    labels: Vec<(String, String)>,
    /// As it was written: a counter need not fit into a floating-point number.
    value: String,
}

impl Sample {
    fn is_zero(&self) -> bool {
        self.value.parse() == Ok(0.0)
    }
}

/// Shows the figures.
///
/// # Errors
/// When the VM does not tell them.
pub(super) fn show(target: &Target, form: &Form) -> Result<(), Failure> {
    let text = target
        .client
        .get("/ravelin/metrics")
        .map_err(Failure::run)?;
    if form.prometheus {
        print(&text);
        return Ok(());
    }
    let samples: Vec<Sample> = text.lines().filter_map(sample).collect();
    print(&match form.json {
        true => format!("{:#}\n", samples.iter().map(object).collect::<Value>()),
        false => {
            let shown = samples
                .iter()
                .filter(|sample| form.all || !sample.is_zero());
            let rows: Vec<_> = shown.map(row).collect();
            Style::of_stdout().table(["METRIC", "OF", "VALUE"], &rows)
        }
    });
    Ok(())
}

fn row(sample: &Sample) -> [Cell; 3] {
    let labels = sample.labels.iter();
    let labels: Vec<_> = labels
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    [
        sample.name.as_str().into(),
        labels.join(" ").into(),
        sample.value.as_str().into(),
    ]
}

fn object(sample: &Sample) -> Value {
    let labels = sample.labels.iter();
    let labels: Map<_, _> = labels
        .map(|(name, value)| (name.clone(), json!(value)))
        .collect();
    // Infinities and such are no JSON numbers.
    let value = serde_json::from_str(&sample.value).unwrap_or_else(|_| json!(sample.value));
    json!({ "name": sample.name, "labels": labels, "value": value })
}

/// A line of the text format: `name{label="value",...} number [time]`. Comments and what is wrong are none.
fn sample(line: &str) -> Option<Sample> {
    if line.starts_with('#') {
        return None;
    }
    let end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at(end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Vec::new(), rest),
    };
    Some(Sample {
        name: name.to_owned(),
        labels,
        value: rest.split_ascii_whitespace().next()?.to_owned(),
    })
}

/// The labels up to the closing brace, and what follows it.
fn labels(mut rest: &str) -> Option<(Vec<(String, String)>, &str)> {
    let mut labels = Vec::new();
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(rest) = rest.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, after) = rest.split_once("=\"")?;
        let (value, after) = quoted(after)?;
        labels.push((name.to_owned(), value));
        rest = after;
    }
}

/// A value up to its closing quote, with its escapes (`\\`, `\"`, `\n`) taken away.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, text.get(at + 1..)?)),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(name: &str, labels: &[(&str, &str)], value: &str) -> Sample {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Sample {
            name: name.to_owned(),
            labels: labels.iter().map(own).collect(),
            value: value.to_owned(),
        }
    }

    #[test]
    fn a_line_is_a_name_labels_and_a_number() {
        for (line, expected) in [
            ("up 1", figure("up", &[], "1")),
            ("n{} 1", figure("n", &[], "1")),
            (
                r#"reads{drive="a b",engine="sync"} 18446744073709551615 1700"#,
                figure(
                    "reads",
                    &[("drive", "a b"), ("engine", "sync")],
                    "18446744073709551615",
                ),
            ),
            (
                r#"n{path="C:\\x \"y\"\n}"} 1.5"#,
                figure("n", &[("path", "C:\\x \"y\"\n}")], "1.5"),
            ),
        ] {
            assert_eq!(sample(line), Some(expected), "{line}");
        }
    }

    #[test]
    fn what_is_no_figure_is_passed_over() {
        for line in [
            "",
            "# HELP up whether",
            "name",
            "n{a=\"b} 1",
            "n{a=\"b\\",
            "n{a} 1",
            "n ",
        ] {
            assert_eq!(sample(line), None, "{line}");
        }
    }

    #[test]
    fn a_figure_in_json_is_a_number_where_json_has_it() {
        let large = object(&figure("n", &[("a", "b")], "18446744073709551615"));
        let text = r#"{"labels":{"a":"b"},"name":"n","value":18446744073709551615}"#;
        assert_eq!(large.to_string(), text);
        assert_eq!(object(&figure("n", &[], "+Inf"))["value"], "+Inf");
    }
}
