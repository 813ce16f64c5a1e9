//! Lines as their readers find them.

use std::path::PathBuf;
use std::time::Duration;

use log::RecordBuilder;

use super::*;

/// A logger into a file of a folder of its own.
struct Bench {
    logger: Logger,
    folder: tempfile::TempDir,
    counts: Arc<Counts>,
}

impl Bench {
    fn new(face: Face) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let logger = Logger::new(face, Output::Stderr);
        let counts = Arc::<Counts>::default();
        logger.count_into(&counts);
        let bench = Self {
            logger,
            folder,
            counts,
        };
        let path = bench.path();
        bench.set(|config| config.log_path = Some(path.to_str().unwrap().to_owned()));
        bench
    }

    fn firecracker() -> Self {
        Self::new(Face::Firecracker("vm-1".to_owned()))
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn set(&self, change: impl FnOnce(&mut LoggerConfig)) {
        let mut config = LoggerConfig::default();
        change(&mut config);
        self.logger.reconfigure(&config).unwrap();
    }

    fn log(&self, module: &'static str, text: &str, now: Instant) {
        let args = format_args!("{text}");
        let mut builder = RecordBuilder::new();
        let builder = builder.level(Level::Warn).module_path_static(Some(module));
        let builder = builder.file_static(Some("vmm/src/kvm/x.rs")).line(Some(7));
        self.logger.write(&builder.args(args).build(), now);
    }

    fn lines(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.path()).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'));
        text.lines().map(str::to_owned).collect()
    }
}

/// What stands behind the time of a line, whose form is that of Firecracker's.
fn behind_time(line: &str) -> &str {
    let (time, rest) = line.split_once(' ').unwrap();
    let form: String = time
        .chars()
        .map(|c| if c.is_ascii_digit() { '0' } else { c })
        .collect();
    assert_eq!(form, "0000-00-00T00:00:00.000000000", "{line}");
    rest
}

fn here() -> String {
    std::thread::current().name().unwrap().to_owned()
}

#[test]
fn a_line_in_firecrackers_format_shows_what_was_asked_for() {
    let bench = Bench::firecracker();
    let now = Instant::now();
    bench.log("vmm::kvm::x", "one", now);
    bench.set(|config| config.show_level = Some(true));
    bench.log("vmm::kvm::x", "two", now);
    bench.set(|config| config.show_log_origin = Some(true));
    bench.log("vmm::kvm::x", "three", now);
    bench.set(|config| config.show_level = Some(false));
    bench.log("vmm::kvm::x", "four", now);
    let lines = bench.lines();
    let seen: Vec<_> = lines.iter().map(|line| behind_time(line)).collect();
    let thread = here();
    let expected = [
        format!("[vm-1:{thread}] one"),
        format!("[vm-1:{thread}:WARN] two"),
        format!("[vm-1:{thread}:WARN:vmm/src/kvm/x.rs:7] three"),
        format!("[vm-1:{thread}:vmm/src/kvm/x.rs:7] four"),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn ravelins_own_lines_have_the_speaker_and_a_word() {
    let bench = Bench::new(Face::Ravelin("ravelin web".to_owned()));
    bench.log("vmm::kvm::x", "one", Instant::now());
    let lines = bench.lines();
    let (time, rest) = lines[0].split_once(' ').unwrap();
    assert!(time.ends_with('Z'), "{time}");
    assert!(
        rest.starts_with("ravelin web: ") && rest.ends_with("warning: one"),
        "{rest}"
    );
}

#[test]
fn only_modules_that_were_named_are_heard() {
    let bench = Bench::firecracker();
    bench.set(|config| config.module = Some("vmm::boot".to_owned()));
    let now = Instant::now();
    bench.log("vmm::boot::elf", "heard", now);
    bench.log("vmm::kvm", "not heard", now);
    assert_eq!(bench.lines().len(), 1);
    bench.set(|_| ());
    bench.log("vmm::kvm", "still not", now);
    assert_eq!(bench.lines().len(), 1, "what is not named stays");
}

#[test]
fn what_a_guest_can_cause_is_limited_and_the_rest_counted_and_told() {
    let bench = Bench::firecracker();
    bench.set(|config| config.show_level = Some(true));
    let start = Instant::now();
    for n in 0..30 {
        bench.log("vmm::kvm::x", &n.to_string(), start);
    }
    assert_eq!(bench.lines().len(), 10);
    assert_eq!(bench.counts.rate_limited_log_count.get(), 20);
    bench.log("vmm::kvm::x", "later", start + Duration::from_secs(1));
    let lines = bench.lines();
    let told = "20 messages were suppressed due to rate limiting";
    assert!(
        lines[10].ends_with(&format!(":WARN] {told}")),
        "{}",
        lines[10]
    );
    assert!(lines[11].ends_with("] later"));
    assert_eq!(bench.counts.missed_log_count.get(), 0);
}

#[test]
fn what_a_user_asks_for_is_not_limited() {
    let bench = Bench::firecracker();
    let now = Instant::now();
    for module in ["ravelin::api", "vmm::controller"] {
        for _ in 0..30 {
            bench.log(module, "asked", now);
        }
    }
    assert_eq!(bench.lines().len(), 60);
}

#[test]
fn a_file_that_cannot_be_opened_changes_nothing() {
    let bench = Bench::firecracker();
    let config = LoggerConfig {
        log_path: Some("/no/such/log".to_owned()),
        show_level: Some(true),
        ..LoggerConfig::default()
    };
    let error = bench.logger.reconfigure(&config).unwrap_err().to_string();
    assert!(error.contains("No such file or directory"), "{error}");
    bench.log("vmm::kvm::x", "here", Instant::now());
    assert_eq!(
        behind_time(&bench.lines()[0]),
        format!("[vm-1:{}] here", here())
    );
}

#[test]
fn lines_that_are_lost_are_counted_those_before_the_counters_too() {
    let logger = Logger::new(Face::Firecracker("vm".to_owned()), Output::Stderr);
    let config = LoggerConfig {
        log_path: Some("/dev/full".to_owned()),
        ..LoggerConfig::default()
    };
    logger.reconfigure(&config).unwrap();
    let lost = || {
        let mut builder = RecordBuilder::new();
        let builder = builder.module_path_static(Some("ravelin"));
        logger.write(&builder.build(), Instant::now());
    };
    lost();
    let counts = Arc::<Counts>::default();
    logger.count_into(&counts);
    assert_eq!(counts.missed_log_count.get(), 1);
    lost();
    assert_eq!(counts.missed_log_count.get(), 2);
}

#[test]
fn a_guest_cannot_write_a_line_of_its_own() {
    let bench = Bench::firecracker();
    let text = "name\n2026-01-01T00:00:00.000000000 [vm-1:main] forged";
    bench.log("vmm::kvm::x", text, Instant::now());
    let lines = bench.lines();
    assert_eq!(lines.len(), 1);
    assert!(lines[0].contains("name\\n2026-01-01"), "{}", lines[0]);
}
