//! What operators read: keys, differences and totals, and Prometheus's text.

mod keys;
mod text;

use std::collections::BTreeMap;
use std::path::PathBuf;

use devices::virtio::{block, net};
use serde_json::Value;

use super::*;

/// Metrics into a file of a folder of their own.
struct Bench {
    metrics: Metrics,
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self::with(|_| ())
    }

    fn with(change: impl FnOnce(&mut MetricsConfig)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics");
        let mut config = MetricsConfig {
            metrics_path: path.to_str().unwrap().to_owned(),
            emit_id: false,
            properties: BTreeMap::new(),
        };
        change(&mut config);
        let mut metrics = Metrics::new("vm-1", Process::default());
        metrics.write_to(&config).unwrap();
        Self {
            metrics,
            path,
            _folder: folder,
        }
    }

    /// Has a line written and reads it.
    fn line(&mut self) -> Value {
        assert!(self.metrics.flush().unwrap());
        let text = std::fs::read_to_string(&self.path).unwrap();
        serde_json::from_str(text.lines().last().unwrap()).unwrap()
    }
}

fn drive(metrics: &mut Metrics, id: &str) -> Arc<block::Metrics> {
    let drive = Arc::<block::Metrics>::default();
    metrics.add(Kind::Block, id, drive.clone());
    drive
}

#[test]
fn a_line_tells_what_was_counted_since_the_line_before() {
    let mut bench = Bench::new();
    let drive = drive(&mut bench.metrics, "rootfs");
    drive.read_count.add(5);
    assert_eq!(bench.line()["block_rootfs"]["read_count"], 5);
    drive.read_count.add(2);
    assert_eq!(bench.line()["block_rootfs"]["read_count"], 2);
    assert_eq!(bench.line()["block_rootfs"]["read_count"], 0);
}

#[test]
fn what_was_set_stands_until_it_is_set_again() {
    let mut bench = Bench::new();
    bench.metrics.process().latencies_us.pause_vm.set(170);
    for _ in 0..2 {
        assert_eq!(bench.line()["latencies_us"]["pause_vm"], 170);
    }
}

#[test]
fn the_group_of_a_kind_is_the_sum_of_its_devices_without_their_extremes() {
    use std::time::Duration;
    let mut bench = Bench::new();
    for (id, us) in [("b", 7), ("a", 3)] {
        let drive = drive(&mut bench.metrics, id);
        drive.write_bytes.add(512);
        drive.write_agg.record(Duration::from_micros(us), 1);
    }
    let line = bench.line();
    assert_eq!(line["block"]["write_bytes"], 1024);
    let times = |group: &str| line[group]["write_agg"].to_string();
    assert_eq!(times("block"), r#"{"max_us":0,"min_us":0,"sum_us":10}"#);
    assert_eq!(times("block_b"), r#"{"max_us":7,"min_us":7,"sum_us":7}"#);
}

#[test]
fn vcpus_are_told_together_with_their_extremes() {
    use std::time::Duration;
    let mut bench = Bench::new();
    for (id, us) in [("0", 9), ("1", 4)] {
        let vcpu = Arc::<vcpu::Vcpu>::default();
        vcpu.exit_io_in.increment();
        vcpu.exit_io_in_agg.record(Duration::from_micros(us), 1);
        bench.metrics.add(Kind::Vcpu, id, vcpu);
    }
    let vcpu = &bench.line()["vcpu"];
    assert_eq!(vcpu["exit_io_in"], 2);
    let times = vcpu["exit_io_in_agg"].to_string();
    assert_eq!(times, r#"{"max_us":9,"min_us":4,"sum_us":13}"#);
}

#[test]
fn a_device_that_was_taken_away_is_told_of_once_more() {
    let mut bench = Bench::new();
    let drive = drive(&mut bench.metrics, "data");
    drive.flush_count.add(3);
    bench.metrics.remove(Kind::Block, "data");
    let line = bench.line();
    assert_eq!(line["block_data"]["flush_count"], 3);
    assert_eq!(line["block"]["flush_count"], 3);
    let line = bench.line();
    assert_eq!(line.get("block_data"), None);
    assert_eq!(line["block"]["flush_count"], 0);
}

#[test]
fn a_device_that_comes_again_has_one_entry() {
    let mut bench = Bench::new();
    drive(&mut bench.metrics, "data").flush_count.add(3);
    bench.metrics.remove(Kind::Block, "data");
    drive(&mut bench.metrics, "data").flush_count.add(4);
    bench.metrics.flush().unwrap();
    let text = std::fs::read_to_string(&bench.path).unwrap();
    assert_eq!(text.matches("\"block_data\":").count(), 1);
    let line: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(line["block_data"]["flush_count"], 7);
    drive(&mut bench.metrics, "other").flush_count.add(1);
    assert_eq!(bench.line()["block"]["flush_count"], 1);
}

#[test]
fn where_nobody_reads_a_device_is_forgotten_at_once() {
    let mut metrics = Metrics::new("vm-1", Process::default());
    drive(&mut metrics, "data");
    metrics.remove(Kind::Block, "data");
    assert!(!metrics.exposition().contains("\"data\""));
    assert!(!metrics.flush().unwrap(), "lines go nowhere");
    assert!(metrics.timer().is_none());
}

#[test]
fn a_line_begins_with_the_time_and_with_what_the_operator_wants() {
    let mut bench = Bench::with(|config| {
        config.emit_id = true;
        config.properties = [("b", "2"), ("a", "\"1\"")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
    });
    bench.metrics.flush().unwrap();
    let text = std::fs::read_to_string(&bench.path).unwrap();
    let (stamp, rest) = text
        .strip_prefix("{\"utc_timestamp_ms\":")
        .and_then(|text| text.split_once(','))
        .unwrap();
    let stamp = std::time::Duration::from_millis(stamp.parse().unwrap());
    let age = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH + stamp);
    assert!(age.unwrap().as_secs() < 60);
    let expected = r#""id":"vm-1","properties":{"a":"\"1\"","b":"2"},"api_server":{"#;
    assert!(rest.starts_with(expected), "{rest}");
    assert!(text.ends_with("}\n") && text.matches('\n').count() == 1);
}

#[test]
fn lines_go_to_one_place_only() {
    let mut bench = Bench::new();
    let other = MetricsConfig {
        metrics_path: bench.path.to_str().unwrap().to_owned(),
        emit_id: false,
        properties: BTreeMap::new(),
    };
    let error = bench.metrics.write_to(&other).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Reinitialization of metrics not allowed."
    );
}

#[test]
fn a_path_that_cannot_be_opened_leaves_everything_as_it_was() {
    let mut metrics = Metrics::new("vm-1", Process::default());
    let config = MetricsConfig {
        metrics_path: "/no/such/folder/metrics".to_owned(),
        emit_id: false,
        properties: BTreeMap::new(),
    };
    let error = metrics.write_to(&config).unwrap_err().to_string();
    assert!(error.contains("No such file or directory"), "{error}");
    assert!(!metrics.flush().unwrap());
}

#[test]
fn a_line_that_was_lost_is_counted_and_the_next_one_has_its_counts() {
    let full = MetricsConfig {
        metrics_path: "/dev/full".to_owned(),
        emit_id: false,
        properties: BTreeMap::new(),
    };
    let mut metrics = Metrics::new("vm-1", Process::default());
    metrics.write_to(&full).unwrap();
    let drive = drive(&mut metrics, "rootfs");
    drive.read_count.add(5);
    metrics.flush().unwrap_err();
    let mut bench = Bench::new();
    bench.metrics.registry = metrics.registry;
    drive.read_count.add(1);
    let line = bench.line();
    assert_eq!(line["block_rootfs"]["read_count"], 6);
    assert_eq!(line["logger"]["missed_metrics_count"], 1);
}

#[test]
fn a_line_is_due_every_minute() {
    let bench = Bench::new();
    let timer = bench.metrics.timer().unwrap();
    let setting = rustix::time::timerfd_gettime(timer).unwrap();
    assert_eq!(setting.it_interval.tv_sec, 60);
    assert!((50..=60).contains(&setting.it_value.tv_sec));
}

#[test]
fn a_thread_counts_into_its_clone_of_the_process() {
    let mut bench = Bench::new();
    let process = bench.metrics.process().clone();
    std::thread::spawn(move || process.put_api_requests.drive_count.increment())
        .join()
        .unwrap();
    assert_eq!(bench.line()["put_api_requests"]["drive_count"], 1);
}

#[test]
fn the_last_of_two_interfaces_does_not_hide_the_first() {
    let mut bench = Bench::new();
    for (id, frames) in [("eth1", 2), ("eth0", 1)] {
        let card = Arc::<net::Metrics>::default();
        card.rx_packets_count.add(frames);
        bench.metrics.add(Kind::Net, id, card);
    }
    let line = bench.line();
    assert_eq!(line["net_eth0"]["rx_packets_count"], 1);
    assert_eq!(line["net_eth1"]["rx_packets_count"], 2);
    assert_eq!(line["net"]["rx_packets_count"], 3);
}
