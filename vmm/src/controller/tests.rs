//! What a VM answers before its start. With a machine behind it: `tests/api`.

use std::fs::File;
use std::io::Write;

use rustix::fs::{CWD, FileType, mknodat};
use serde_json::json;

use super::*;
use crate::spec::{BootSource, Drive, MachinePatch};

#[derive(Debug)]
struct Deaf;

impl Host for Deaf {
    fn builds(&mut self) {}

    fn is_complete(&mut self, _memory_mib: u64, _vcpus: u64) {}

    fn bound(&mut self, _memory_mib: u64, _vcpus: u64) -> Result<(), String> {
        Ok(())
    }

    fn may_run(&mut self, _memory_mib: u64, _vcpus: u64) -> Result<(), String> {
        Ok(())
    }

    fn set_log(&mut self, _: &LoggerConfig) -> Result<(), String> {
        Ok(())
    }

    fn set_serial(&mut self, _: &Serial) -> Result<(), String> {
        Ok(())
    }

    fn hear(&mut self, _: &Event) {}
}

fn controller() -> Controller {
    let mmds = Mmds::new(1000).unwrap();
    Controller::new("vm".to_owned(), Draft::default(), mmds, Box::new(Deaf))
}

fn drive(id: &str, path: &std::path::Path, is_root_device: bool) -> Setting {
    let json = json!({"drive_id": id, "path_on_host": path, "is_root_device": is_root_device});
    Setting::Drive(serde_json::from_value::<Drive>(json).unwrap())
}

fn file() -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&[0; 512]).unwrap();
    file
}

fn boot_source(path: &str) -> Setting {
    Setting::BootSource(BootSource {
        kernel_image_path: path.to_owned(),
        ..BootSource::default()
    })
}

#[test]
fn what_needs_a_running_guest_is_refused_before_the_start() {
    let mut vm = controller();
    for command in [
        Command::Pause,
        Command::Resume,
        Command::SendCtrlAltDel,
        Command::FlushMetrics,
        Command::Show(Show::BalloonStatistics),
        Command::Unplug("a".to_owned()),
    ] {
        let refused = vm.handle(command).unwrap_err();
        assert!(matches!(refused, CommandError::NotBeforeStart), "{refused}");
    }
}

#[test]
fn a_start_without_a_kernel_says_what_is_missing_and_may_be_tried_again() {
    let mut vm = controller();
    for _ in 0..2 {
        let error = vm.handle(Command::Start).unwrap_err().to_string();
        let words = "Start microvm error: Cannot start microvm without kernel configuration.";
        assert!(error.starts_with(words), "{error}");
    }
}

#[test]
fn a_kernel_that_is_not_there_leaves_the_one_before() {
    let mut vm = controller();
    let kernel = file();
    let path = kernel.path().to_str().unwrap();
    vm.handle(Command::Set(boot_source(path))).unwrap();
    let refused = vm.handle(Command::Set(boot_source("/nowhere/vmlinux")));
    let error = refused.unwrap_err().to_string();
    assert!(error.starts_with("Boot source error: "), "{error}");
    assert!(error.contains("No such file or directory"), "{error}");
    let boot = vm.spec().boot_source.clone().unwrap();
    assert_eq!(boot.kernel_image_path, path);
}

#[test]
fn a_drive_of_a_known_id_takes_the_place_of_the_first() {
    let mut vm = controller();
    let (first, second) = (file(), file());
    vm.handle(Command::Set(drive("a", first.path(), true)))
        .unwrap();
    vm.handle(Command::Set(drive("b", second.path(), false)))
        .unwrap();
    // The very same file again, which this VM itself holds locked.
    vm.handle(Command::Set(drive("a", first.path(), false)))
        .unwrap();
    let ids: Vec<_> = vm
        .spec()
        .drives
        .iter()
        .map(|drive| &drive.drive_id)
        .collect();
    assert_eq!(ids, ["a", "b"]);
    assert!(!vm.spec().drives[0].is_root_device);
}

#[test]
fn a_refused_drive_leaves_the_one_before_open() {
    let mut vm = controller();
    let image = file();
    vm.handle(Command::Set(drive("a", image.path(), true)))
        .unwrap();
    let gone = std::path::Path::new("/nowhere/disk");
    let refused = vm.handle(Command::Set(drive("a", gone, true)));
    assert!(matches!(refused, Err(CommandError::Drive(_))));
    // It is locked, so it is open.
    let mut other = controller();
    let busy = other.handle(Command::Set(drive("a", image.path(), true)));
    assert!(busy.unwrap_err().to_string().contains("in use"));
}

#[test]
fn a_refused_drive_leaves_a_file_whose_path_is_gone() {
    let (mut vm, mut other) = (controller(), controller());
    let image = file();
    let link = image.path().with_extension("link");
    std::fs::hard_link(image.path(), &link).unwrap();
    vm.handle(Command::Set(drive("a", &link, true))).unwrap();
    std::fs::remove_file(&link).unwrap();
    let gone = std::path::Path::new("/nowhere/disk");
    assert!(vm.handle(Command::Set(drive("a", gone, true))).is_err());
    let busy = other.handle(Command::Set(drive("a", image.path(), true)));
    assert!(busy.unwrap_err().to_string().contains("in use"));
}

#[test]
fn a_refused_drive_leaves_a_descriptor_that_was_passed() {
    let (mut vm, mut other) = (controller(), controller());
    let image = file();
    let file = File::options().read(true).write(true).open(image.path());
    let (name, fd) = ("disk".to_owned(), file.unwrap().into());
    vm.handle(Command::Deposit { name, fd }).unwrap();
    let passed = std::path::Path::new("fd:disk");
    vm.handle(Command::Set(drive("a", passed, true))).unwrap();
    let gone = std::path::Path::new("/nowhere/disk");
    assert!(vm.handle(Command::Set(drive("a", gone, true))).is_err());
    let busy = other.handle(Command::Set(drive("a", image.path(), true)));
    assert!(busy.unwrap_err().to_string().contains("in use"));
}

#[test]
fn a_drive_that_others_read_too_is_not_taken_for_writing() {
    let (mut vm, mut other) = (controller(), controller());
    let image = file();
    let read_only = |id: &str| {
        let json = json!({
            "drive_id": id, "path_on_host": image.path(), "is_root_device": false, "is_read_only": true,
        });
        Command::Set(Setting::Drive(serde_json::from_value(json).unwrap()))
    };
    vm.handle(read_only("a")).unwrap();
    other.handle(read_only("a")).unwrap();
    let writing = || Command::Set(drive("a", image.path(), false));
    assert!(
        vm.handle(writing())
            .unwrap_err()
            .to_string()
            .contains("in use")
    );
    assert!(vm.spec().drives[0].is_read_only);
    // And it still reads: the other may not write either.
    assert!(other.handle(writing()).is_err());
}

#[test]
fn a_second_root_device_is_refused() {
    let mut vm = controller();
    let (first, second) = (file(), file());
    vm.handle(Command::Set(drive("a", first.path(), true)))
        .unwrap();
    let refused = vm.handle(Command::Set(drive("b", second.path(), true)));
    let error = refused.unwrap_err().to_string();
    let words = "Drive config error: A root block device already exists";
    assert!(error.starts_with(words), "{error}");
    assert_eq!(vm.spec().drives.len(), 1);
}

#[test]
fn a_descriptor_serves_as_a_file() {
    let mut vm = controller();
    let image = file();
    let fd = File::options()
        .read(true)
        .write(true)
        .open(image.path())
        .unwrap()
        .into();
    let name = "disk".to_owned();
    vm.handle(Command::Deposit { name, fd }).unwrap();
    let path = std::path::Path::new("fd:disk");
    vm.handle(Command::Set(drive("a", path, true))).unwrap();
    let again = vm.handle(Command::Set(drive("b", path, false)));
    assert!(again.unwrap_err().to_string().contains("`disk`"));
}

#[test]
fn a_descriptor_for_reading_only_is_no_disk_to_write_and_is_not_spent() {
    let mut vm = controller();
    let image = file();
    let fd = File::open(image.path()).unwrap().into();
    let name = "disk".to_owned();
    vm.handle(Command::Deposit { name, fd }).unwrap();
    let path = std::path::Path::new("fd:disk");
    for _ in 0..2 {
        let refused = vm.handle(Command::Set(drive("a", path, true)));
        let error = refused.unwrap_err().to_string();
        assert!(error.contains("for reading only"), "{error}");
    }
}

#[test]
fn a_descriptor_is_no_place_for_log_figures_or_output() {
    let mut vm = controller();
    for (setting, prefix) in [
        (
            json!({"logger": {"log_path": "fd:a"}}),
            "Logger error: fd:a",
        ),
        (
            json!({"metrics": {"metrics_path": "fd:a"}}),
            "Metrics error: fd:a",
        ),
        (
            json!({"serial": {"serial_out_path": "fd:a"}}),
            "Serial error: fd:a",
        ),
    ] {
        let error = vm
            .describe(serde_json::from_value(setting).unwrap())
            .unwrap_err();
        assert!(error.to_string().starts_with(prefix), "{error}");
    }
}

#[test]
fn a_patch_changes_only_what_it_names() {
    let mut vm = controller();
    let patch = MachinePatch {
        mem_size_mib: Some(256),
        ..MachinePatch::default()
    };
    vm.handle(Command::PatchMachine(patch)).unwrap();
    let config = &vm.spec().machine_config;
    assert_eq!((config.vcpu_count, config.mem_size_mib), (1, 256));
}

#[test]
fn of_a_template_and_a_list_of_changes_the_later_one_counts() {
    let mut vm = controller();
    let template = || {
        let json = json!({"vcpu_count": 1, "mem_size_mib": 128, "cpu_template": "T2"});
        Command::Set(Setting::Machine(serde_json::from_value(json).unwrap()))
    };
    let changes = || Command::Set(Setting::Cpu(serde_json::from_value(json!({})).unwrap()));
    vm.handle(template()).unwrap();
    vm.handle(changes()).unwrap();
    assert!(vm.spec().cpu_config.is_some() && vm.spec().machine_config.cpu_template.is_none());
    vm.handle(template()).unwrap();
    assert!(vm.spec().cpu_config.is_none() && vm.spec().machine_config.cpu_template.is_some());
}

#[test]
fn a_snapshot_is_refused_once_the_machine_is_described() {
    let load = || {
        let json = json!({"snapshot_path": "/nowhere/snapshot"});
        Command::LoadSnapshot(Box::new(serde_json::from_value(json).unwrap()))
    };
    let mut vm = controller();
    let failed = vm.handle(load()).unwrap_err();
    assert!(matches!(&failed, CommandError::Load(text) if text.contains("No such file")));
    vm.handle(Command::PatchMachine(MachinePatch::default()))
        .unwrap();
    let refused = vm.handle(load()).unwrap_err();
    assert!(matches!(refused, CommandError::LoadNotAllowed), "{refused}");
}

#[test]
fn metadata_can_be_put_patched_and_shown_and_has_a_limit() {
    let mut vm = controller();
    let early = vm.handle(Command::PatchMmds(json!({"a": 1}))).unwrap_err();
    assert!(early.to_string().contains("not initialized"), "{early}");
    vm.handle(Command::PutMmds(json!({"a": 1, "b": 2})))
        .unwrap();
    vm.handle(Command::PatchMmds(json!({"a": null}))).unwrap();
    let shown = vm.handle(Command::Show(Show::Mmds)).unwrap();
    assert_eq!(shown, Outcome::Mmds(json!({"b": 2})));
    let large = json!({"a": "x".repeat(1000)});
    let refused = vm.handle(Command::PutMmds(large)).unwrap_err();
    assert!(
        matches!(refused, CommandError::MmdsTooLarge(_)),
        "{refused}"
    );
}

#[test]
fn figures_go_where_was_asked_once_and_are_shown_as_text_too() {
    let mut vm = controller();
    let folder = tempfile::tempdir().unwrap();
    let to = |name: &str| {
        let path = folder.path().join(name).to_str().unwrap().to_owned();
        let json = json!({"metrics_path": path});
        Command::Set(Setting::Metrics(serde_json::from_value(json).unwrap()))
    };
    let refused = vm.handle(to("no/such")).unwrap_err().to_string();
    assert!(refused.starts_with("Metrics error: "), "{refused}");
    assert!(refused.contains("No such file or directory"), "{refused}");
    vm.handle(to("metrics")).unwrap();
    let refused = vm.handle(to("other")).unwrap_err().to_string();
    assert_eq!(
        refused,
        "Metrics error: Reinitialization of metrics not allowed."
    );
    assert!(vm.spec().metrics.is_some());
    let Outcome::Metrics(text) = vm.handle(Command::Show(Show::Metrics)).unwrap() else {
        panic!("figures");
    };
    assert!(text.contains("ravelin_info{id=\"vm\","), "{text}");
    assert!(text.contains("ravelin_mmds_rx_accepted_total 0"), "{text}");
    assert!(vm.metrics_mut().flush().unwrap());
    let line = std::fs::read_to_string(folder.path().join("metrics")).unwrap();
    assert!(line.starts_with("{\"utc_timestamp_ms\":"), "{line}");
}

#[test]
fn a_pipe_holds_nobody_whatever_it_is_named_as() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    mknodat(CWD, &pipe, FileType::Fifo, mode, 0).unwrap();
    let mut vm = controller();
    let load = json!({"snapshot_path": pipe});
    for command in [
        Command::LoadSnapshot(Box::new(serde_json::from_value(load).unwrap())),
        Command::Set(boot_source(pipe.to_str().unwrap())),
        Command::Set(drive("a", &pipe, true)),
    ] {
        let asked = format!("{command:?}");
        assert!(vm.handle(command).is_err(), "{asked}");
    }
}
