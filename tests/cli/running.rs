//! `ravelin ctl` with a guest of a few instructions that runs.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::process::Stdio;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::{Value, json};

use crate::client;
use crate::fake::{Place, RAVELIN, json_of, stderr};
use crate::guest::{Guest, Kernel};
use crate::real::Api;

/// A VM whose guest runs.
struct Running {
    place: Place,
    api: Api,
    _kernel: Kernel,
}

/// Whether guests of a few instructions can run here; says so when they cannot.
fn kvm() -> bool {
    let there = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/kvm");
    if let Err(error) = &there {
        eprintln!("SKIPPED: /dev/kvm cannot be opened here: {error}");
    }
    there.is_ok()
}

/// Starts a guest that switches itself off when its power button is pressed.
fn start() -> Running {
    start_with(&json!([]))
}

/// The same, with network cards.
fn start_with(cards: &Value) -> Running {
    let place = Place::new();
    let kernel = Guest::default().wait_for_button().power_off().kernel();
    let disk = place.path().join("disk");
    fs::File::create(&disk).unwrap().set_len(1 << 20).unwrap();
    let config = json!({
        "boot-source": { "kernel_image_path": kernel.path() },
        "machine-config": { "vcpu_count": 1, "mem_size_mib": 64 },
        "drives": [{ "drive_id": "data", "path_on_host": disk, "is_root_device": false }],
        "network-interfaces": cards,
    });
    let file = place.path().join("vm.config");
    fs::write(&file, config.to_string()).unwrap();
    let api = Api::start(
        &place,
        &[
            "--name",
            "web",
            "--image-dir",
            place.path().to_str().unwrap(),
            "--config",
            file.to_str().unwrap(),
        ],
    );
    let running = Running {
        place,
        api,
        _kernel: kernel,
    };
    while running.state() != "Running" {}
    running
}

impl Running {
    fn ctl(&self, line: &str) {
        let args: Vec<_> = ["ctl", "web"].into_iter().chain(line.split(' ')).collect();
        let output = self.place.ravelin(&args);
        assert_eq!(output.status.code(), Some(0), "{line}: {output:?}");
    }

    fn state(&self) -> Value {
        json_of(&self.place.ravelin(&["ctl", "web", "info", "--json"]))["state"].clone()
    }
}

#[test]
fn a_guest_is_halted_and_goes_on() {
    if !kvm() {
        return;
    }
    let vm = start();
    vm.ctl("pause");
    assert_eq!(vm.state(), "Paused");
    let stop = vm.place.ravelin(&["ctl", "web", "stop"]);
    assert!(stderr(&stop).contains("`resume` it first"), "{stop:?}");
    vm.ctl("resume");
    assert_eq!(vm.state(), "Running");
}

#[test]
fn an_audit_knows_what_a_guest_needs_and_lets_it_run() {
    if !kvm() {
        return;
    }
    let vm = start();
    let report = json_of(&vm.place.ravelin(&["audit", "web", "--json"]));
    let rows = report["rows"].as_array().unwrap();
    let found = rows.iter().find(|row| row["id"] == "descriptors").unwrap();
    assert_eq!(found["state"], "in-force", "{found:#}");
    let descriptors = report["descriptors"].as_array().unwrap();
    for kind in ["VM", "vCPU", "file", "Unix socket", "eventfd"] {
        let has = descriptors.iter().any(|one| one["kind"] == kind);
        assert!(has, "{kind}: {descriptors:#?}");
    }
    let threads = report["threads"].as_array().unwrap();
    let is_vcpu = |thread: &Value| thread["name"] == "vcpu0";
    assert!(threads.iter().any(is_vcpu), "{threads:#?}");
    vm.ctl("pause");
    vm.ctl("resume");
    assert_eq!(vm.state(), "Running");
}

#[test]
fn stop_lets_the_guest_switch_itself_off() {
    if !kvm() {
        return;
    }
    let mut vm = start();
    vm.ctl("stop");
    let (status, said) = vm.api.end();
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("the guest powered off"), "{said}");
}

#[test]
fn force_ends_a_guest_that_would_not_end() {
    if !kvm() {
        return;
    }
    let mut vm = start();
    vm.ctl("pause");
    vm.ctl("stop --force");
    let (status, said) = vm.api.end();
    assert_eq!(status, Some(130), "{said}");
    assert!(!vm.place.socket("web").exists());
}

#[test]
fn a_disk_gets_another_file_and_limits() {
    if !kvm() {
        return;
    }
    let vm = start();
    let larger = vm.place.path().join("larger");
    fs::File::create(&larger).unwrap().set_len(2 << 20).unwrap();
    vm.ctl(&format!(
        "drive data --path {} --iops 100",
        larger.display()
    ));
    let config = json_of(&vm.place.ravelin(&["ctl", "web", "config"]));
    assert_eq!(config["drives"][0]["path_on_host"], json!(larger));
    let output = vm
        .place
        .ravelin(&["ctl", "web", "drive", "data", "--path", "/nonexistent"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(
        stderr(&output).contains("the VM refused (400): "),
        "{output:?}"
    );
}

#[test]
fn a_disk_gets_a_file_that_was_passed_as_a_descriptor() {
    if !kvm() {
        return;
    }
    let vm = start();
    let larger = vm.place.path().join("larger");
    let file = fs::File::create_new(&larger).unwrap();
    file.set_len(2 << 20).unwrap();
    let socket = vm.place.socket("web");
    let line = "PUT /ravelin/fds/larger";
    client::ask(&socket, line, None, &[file.as_fd()]).done();
    let drive = json!({ "drive_id": "data", "path_on_host": "fd:larger" });
    client::ask(&socket, "PATCH /drives/data", Some(&drive), &[]).done();
    let config = json_of(&vm.place.ravelin(&["ctl", "web", "config"]));
    assert_eq!(config["drives"][0]["path_on_host"], "fd:larger");
}

#[test]
fn a_disk_with_a_ring_gets_another_file() {
    if !kvm() {
        return;
    }
    let place = Place::new();
    let kernel = Guest::default().halt().kernel();
    let [disk, larger] = ["disk", "larger"].map(|name| place.path().join(name));
    fs::File::create(&disk).unwrap().set_len(1 << 20).unwrap();
    fs::File::create(&larger).unwrap().set_len(2 << 20).unwrap();
    let config = json!({
        "boot-source": { "kernel_image_path": kernel.path() },
        "drives": [{
            "drive_id": "data", "path_on_host": disk, "is_root_device": false, "io_engine": "Async",
        }],
    });
    let file = place.path().join("vm.config");
    fs::write(&file, config.to_string()).unwrap();
    let folder = place.path().to_str().unwrap();
    let mut api = Api::start(
        &place,
        &[
            "--name",
            "web",
            "--image-dir",
            folder,
            "--config",
            file.to_str().unwrap(),
        ],
    );
    let path = larger.to_str().unwrap();
    let patched = place.ravelin(&["ctl", "web", "drive", "data", "--path", path]);
    assert_eq!(patched.status.code(), Some(0), "{patched:?}");
    api.signal(rustix::process::Signal::INT);
    let (status, said) = api.end();
    assert_eq!(status, Some(130), "{said}");
}

#[test]
fn a_service_manager_hears_of_the_end_of_a_guest_without_a_jail() {
    if !kvm() {
        return;
    }
    let place = Place::new();
    let kernel = Guest::default().halt().kernel();
    let file = place.path().join("vm.config");
    let boot = json!({ "boot-source": { "kernel_image_path": kernel.path() } });
    fs::write(&file, boot.to_string()).unwrap();
    let path = place.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    let mut buffer = [0; 64];
    let mut hear = || {
        let length = manager.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    let config = file.to_str().unwrap();
    let mut command = place.command(&["api", "--no-jail", "--name", "web", "--config", config]);
    let child = command.env("NOTIFY_SOCKET", &path).stderr(Stdio::piped());
    let mut api = Api {
        child: Some(child.spawn().unwrap()),
    };
    assert_eq!(hear(), "READY=1");
    let stop = place.ravelin(&["ctl", "web", "stop", "--force"]);
    assert_eq!(stop.status.code(), Some(0), "{stop:?}");
    assert_eq!(hear(), "STOPPING=1");
    let (status, said) = api.end();
    assert_eq!(status, Some(130), "{said}");
}

#[test]
fn a_file_that_another_has_locked_is_not_taken_for_the_one_before_of_that_path() {
    if !kvm() {
        return;
    }
    let vm = start();
    let disk = vm.place.path().join("disk");
    let path = disk.to_str().unwrap();
    // The very same file, whose size may have changed: another path to it is as good.
    let link = vm.place.path().join("link");
    fs::hard_link(&disk, &link).unwrap();
    vm.ctl(&format!("drive data --path {path}"));
    vm.ctl(&format!("drive data --path {}", link.display()));
    vm.ctl(&format!("drive data --path {path}"));
    fs::remove_file(&disk).unwrap();
    let other = fs::File::create(&disk).unwrap();
    other.lock().unwrap();
    let refused = vm
        .place
        .ravelin(&["ctl", "web", "drive", "data", "--path", path]);
    assert!(stderr(&refused).contains("in use"), "{refused:?}");
    other.unlock().unwrap();
    vm.ctl(&format!("drive data --path {path}"));
    assert!(other.try_lock().is_err(), "the VM has it now");
}

#[test]
fn a_vm_in_the_background_of_a_terminal_is_not_stopped_by_it() {
    if !kvm() {
        return;
    }
    let place = Place::new();
    let kernel = Guest::default().power_off().kernel();
    let file = place.path().join("vm.config");
    let config = json!({ "boot-source": { "kernel_image_path": kernel.path() } });
    fs::write(&file, config.to_string()).unwrap();
    let user = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&user).unwrap();
    unlockpt(&user).unwrap();
    let path = ptsname(&user, Vec::new()).unwrap().into_string().unwrap();
    let terminal = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    // A shell with job control has the terminal, and what it starts with `&` is in a group of its own.
    let script =
        "\"$0\" api --name web --config \"$1\" & wait $!; code=$?; kill -9 $! 2>&-; exit $code";
    let mut shell = std::process::Command::new("setsid");
    shell.args(["--ctty", "--wait", "bash", "-mc", script, RAVELIN]);
    shell.arg(&file).env("RAVELIN_RUNTIME_DIR", place.path());
    shell.stdin(terminal.try_clone().unwrap()).stderr(terminal);
    let output = shell.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn a_disk_and_a_card_of_one_id_are_changed_each_by_its_own_name() {
    let tun = fs::OpenOptions::new().write(true).open("/dev/net/tun");
    if !kvm() || tun.is_err() || !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: no tap can be made here");
        return;
    }
    let tap = format!("rv{}", std::process::id());
    let vm = start_with(&json!([{ "iface_id": "data", "host_dev_name": tap }]));
    vm.ctl("net data --rx-bw 1M");
    vm.ctl("drive data --iops 100");
    let config = json_of(&vm.place.ravelin(&["ctl", "web", "config"]));
    assert!(config["network-interfaces"][0]["rx_rate_limiter"]["bandwidth"].is_object());
    assert!(config["drives"][0]["rate_limiter"]["ops"].is_object());
}

#[test]
fn events_come_as_they_happen_until_the_end() {
    if !kvm() {
        return;
    }
    let mut vm = start();
    let mut command = vm.place.command(&["ctl", "web", "events", "--json"]);
    let mut reader = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(reader.stdout.take().unwrap()).lines();
    // Until the stream is there, nothing that happens is in it.
    let mut first = None;
    std::thread::scope(|scope| {
        let next = scope.spawn(|| lines.next().unwrap().unwrap());
        while !next.is_finished() {
            vm.ctl("pause");
            vm.ctl("resume");
        }
        first = Some(next.join().unwrap());
    });
    let first: Value = serde_json::from_str(&first.unwrap()).unwrap();
    assert!(
        ["paused", "resumed"].contains(&first["event"].as_str().unwrap()),
        "{first}"
    );
    vm.ctl("stop");
    vm.api.end();
    let last = lines.last().unwrap().unwrap();
    let last: Value = serde_json::from_str(&last).unwrap();
    assert_eq!(last["event"], "ended", "{last}");
    assert_eq!(last["exit_code"], 0);
    assert!(reader.wait().unwrap().success());
}

#[test]
fn a_guest_of_run_is_found_and_stopped_by_its_socket() {
    if !kvm() {
        return;
    }
    let place = Place::new();
    let kernel = Guest::default()
        .say("up\n")
        .wait_for_button()
        .power_off()
        .kernel();
    let socket = place.socket("shop");
    let mut command = place.command(&["run", "--name", "shop", "--mem", "64M", "--console", "tty"]);
    command.arg("--kernel").arg(kernel.path());
    command.arg("--api-sock").arg(&socket);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    // The socket is there before the guest is.
    let mut line = String::new();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "up\n");
    let listed = json_of(&place.ravelin(&["ps", "--json"]));
    assert_eq!(listed[0]["name"], "shop");
    assert_eq!(listed[0]["state"], "Running");
    let stopped = place.ravelin(&["ctl", "shop", "stop"]);
    assert_eq!(stopped.status.code(), Some(0), "{stopped:?}");
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(0), "{}", stderr(&ended));
    assert!(!socket.exists());
}
