//! Prometheus's text, read by its grammar.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::*;

/// A sample: its metric's name, its labels, its value.
type Sample = (String, Vec<(String, String)>, f64);

/// The samples of a text, each below the one HELP and the one TYPE of its metric.
fn parse(text: &str) -> Vec<Sample> {
    let (mut samples, mut kinds) = (Vec::new(), HashMap::new());
    let (mut helped, mut seen) = (HashSet::new(), HashSet::new());
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, words) = help.split_once(' ').unwrap();
            assert!(
                !words.is_empty() && helped.insert(name.to_owned()),
                "{line}"
            );
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert!(["counter", "gauge"].contains(&kind), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            assert!(helped.contains(name), "{line}");
            assert!(kinds.insert(name.to_owned(), kind.to_owned()).is_none());
        } else {
            let sample = parse_sample(line);
            assert!(kinds.contains_key(&sample.0), "{line}");
            assert!(seen.insert((sample.0.clone(), sample.1.clone())), "{line}");
            samples.push(sample);
        }
    }
    samples
}

fn is_name(name: &str) -> bool {
    let mut letters = name.chars();
    letters
        .next()
        .is_some_and(|first| first.is_ascii_lowercase())
        && letters.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

fn parse_sample(line: &str) -> Sample {
    let (series, value) = line.rsplit_once(' ').unwrap();
    let (name, labels) = match series.split_once('{') {
        None => (series, vec![]),
        Some((name, labels)) => (name, parse_labels(labels.strip_suffix('}').unwrap())),
    };
    assert!(is_name(name), "{line}");
    (name.to_owned(), labels, value.parse().unwrap())
}

fn parse_labels(mut text: &str) -> Vec<(String, String)> {
    let mut labels = Vec::new();
    while !text.is_empty() {
        let (name, rest) = text.split_once("=\"").unwrap();
        assert!(is_name(name), "{text}");
        let (mut value, mut letters) = (String::new(), rest.char_indices());
        let end = loop {
            match letters.next().unwrap() {
                (_, '\\') => value.push(match letters.next().unwrap().1 {
                    'n' => '\n',
                    other => other,
                }),
                (end, '"') => break end,
                (_, letter) => value.push(letter),
            }
        };
        labels.push((name.to_owned(), value));
        text = rest[end + 1..].trim_start_matches(',');
    }
    labels
}

fn find(samples: &[Sample], name: &str, label: Option<(&str, &str)>) -> f64 {
    let labels: Vec<_> = label
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into_iter()
        .collect();
    let found = samples
        .iter()
        .find(|sample| sample.0 == name && sample.1 == labels);
    found.unwrap_or_else(|| panic!("{name} {label:?}")).2
}

#[test]
fn the_text_keeps_to_the_grammar_and_tells_totals() {
    let mut bench = Bench::new();
    let drive = drive(&mut bench.metrics, "rootfs");
    drive.read_bytes.add(512);
    bench.line();
    drive.read_bytes.add(512);
    drive.read_agg.record(Duration::from_micros(1_500_000), 1);
    drive.lingered.add(3);
    for id in ["0", "1"] {
        let vcpu = Arc::<vcpu::Vcpu>::default();
        vcpu.exit_io_out.add(4);
        bench.metrics.add(Kind::Vcpu, id, vcpu);
    }
    let process = bench.metrics.process();
    process.put_api_requests.drive_count.increment();
    process.latencies_us.pause_vm.set(250);
    let samples = parse(&bench.metrics.exposition());
    let of_drive = |name| find(&samples, name, Some(("drive", "rootfs")));
    assert_eq!(of_drive("ravelin_block_read_bytes_total"), 1024.0);
    assert_eq!(of_drive("ravelin_block_read_seconds_total"), 1.5);
    assert_eq!(of_drive("ravelin_block_read_max_seconds"), 1.5);
    assert_eq!(of_drive("ravelin_block_lingered_total"), 3.0);
    let vcpu = find(
        &samples,
        "ravelin_vcpu_exit_io_out_total",
        Some(("vcpu", "1")),
    );
    assert_eq!(vcpu, 4.0);
    let puts = find(&samples, "ravelin_put_api_requests_drive_total", None);
    assert_eq!(puts, 1.0);
    let pause = find(&samples, "ravelin_latencies_pause_vm_seconds", None);
    assert_eq!(pause, 0.00025);
}

#[test]
fn what_cannot_happen_and_who_is_not_there_is_not_shown() {
    let mut bench = Bench::new();
    drive(&mut bench.metrics, "rootfs");
    let text = bench.metrics.exposition();
    for absent in [
        "block_cfg",
        "ravelin_balloon",
        "ravelin_vsock",
        "ravelin_net_",
        "ravelin_memory",
    ] {
        assert!(!text.contains(absent), "{absent}");
    }
}

#[test]
fn labels_are_escaped() {
    let mut metrics = Metrics::new("a\"b\\c\nd", Process::default());
    drive(&mut metrics, "x\"} 1\nravelin_fake 2");
    let samples = parse(&metrics.exposition());
    let info = samples
        .iter()
        .find(|sample| sample.0 == "ravelin_info")
        .unwrap();
    assert_eq!(info.1[0], ("id".to_owned(), "a\"b\\c\nd".to_owned()));
    let label = ("drive", "x\"} 1\nravelin_fake 2");
    assert_eq!(find(&samples, "ravelin_block_read_total", Some(label)), 0.0);
}
