//! `ravelin ctl`: what is asked of a VM, and what its user sees.

use std::fs;
use std::io::Write;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::fake::{Place, Vm, done, in_state, json_of, ok, refusal, stderr, stdout};

/// Runs `ravelin ctl web LINE`, which must succeed, and gives what it said and what the VM was asked.
fn ctl(place: &Place, vm: &Vm, line: &str) -> (String, Vec<String>) {
    let args: Vec<_> = ["ctl", "web"].into_iter().chain(line.split(' ')).collect();
    let output = place.ravelin(&args);
    assert_eq!(output.status.code(), Some(0), "{line}: {output:?}");
    (stdout(&output), vm.requests())
}

/// The last request, its body as JSON.
fn last(requests: &[String]) -> (&str, Value) {
    let request = requests.last().unwrap();
    let (head, body) = request.split_once(" {").unwrap();
    (head, serde_json::from_str(&format!("{{{body}")).unwrap())
}

#[test]
fn each_verb_is_firecrackers_request() {
    let place = Place::new();
    let vm = place.vm("web", |_| done());
    let limit = |size: u64| json!({ "size": size, "refill_time": 1000 });
    let none = json!({ "size": 0, "refill_time": 0 });
    for (line, head, body) in [
        ("pause", "PATCH /vm", json!({ "state": "Paused" })),
        ("resume", "PATCH /vm", json!({ "state": "Resumed" })),
        (
            "start",
            "PUT /actions",
            json!({ "action_type": "InstanceStart" }),
        ),
        (
            "drive data --path /disks/new --bw 1M --iops 500",
            "PATCH /drives/data",
            json!({
                "drive_id": "data",
                "path_on_host": "/disks/new",
                "rate_limiter": { "bandwidth": limit(1 << 20), "ops": limit(500) },
            }),
        ),
        (
            "drive data --bw off",
            "PATCH /drives/data",
            json!({ "drive_id": "data", "rate_limiter": { "bandwidth": none } }),
        ),
        (
            "net eth0 --rx-pps 7 --tx-bw 2K",
            "PATCH /network-interfaces/eth0",
            json!({
                "iface_id": "eth0",
                "rx_rate_limiter": { "ops": limit(7) },
                "tx_rate_limiter": { "bandwidth": limit(2048) },
            }),
        ),
    ] {
        let (said, requests) = ctl(&place, &vm, line);
        assert_eq!(said, "", "{line}");
        assert_eq!(last(&requests), (head, body), "{line}");
    }
}

#[test]
fn a_relative_path_is_that_of_the_user_and_not_of_the_vm() {
    let place = Place::new();
    let vm = place.vm("web", |_| done());
    let mut command = place.command(&["ctl", "web", "drive", "data", "--path", "new.img"]);
    let output = command.current_dir("/usr").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(last(&vm.requests()).1["path_on_host"], "/usr/new.img");
}

#[test]
fn a_vm_is_reached_by_its_socket_alone() {
    let place = Place::new();
    let vm = place.vm("web", |_| done());
    let socket = place.socket("web");
    let elsewhere = Place::new();
    let output = elsewhere.ravelin(&["ctl", "--sock", socket.to_str().unwrap(), "pause"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(last(&vm.requests()).0, "PATCH /vm");
}

#[test]
fn a_refusal_is_told_in_the_vms_words() {
    let place = Place::new();
    let _vm = place.vm("web", |_| refusal("Drive config error: no such file"));
    let output = place.ravelin(&["ctl", "web", "drive", "x", "--path", "/y"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(
        stderr(&output),
        "ravelin: the VM refused (400): Drive config error: no such file\n"
    );
}

#[test]
fn a_name_that_is_not_there_is_answered_with_those_that_are() {
    let place = Place::new();
    let _vms = [place.vm("web", |_| done()), place.vm("db", |_| done())];
    let output = place.ravelin(&["ctl", "wbe", "pause"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(
        stderr(&output),
        "ravelin: no VM with the name `wbe` runs: there are `db`, `web`\n"
    );
}

#[test]
fn a_wrong_command_line_is_explained() {
    let place = Place::new();
    for (line, message) in [
        ("ctl", "Usage: ravelin ctl"),
        ("ctl pause", "<NAME>"),
        ("ctl web", "requires a subcommand"),
        ("ctl web puase", "a similar subcommand exists: 'pause'"),
        ("ctl web --sock x pause", "cannot be used with"),
        ("ctl web drive data", "--path <FILE>|--bw <SIZE>|--iops <N>"),
        ("ctl web net eth0", "--rx-bw <SIZE>"),
        ("ctl web drive data --bw 0", "leave it out for no limit"),
        ("ctl web mmds put", "<FILE>"),
        ("ctl web mmds post x", "[possible values: get, put, patch]"),
        ("ctl web pause --timeout soon", "a duration such as"),
        ("ctl web metrics --json --prometheus", "cannot be used with"),
    ] {
        let args: Vec<_> = line.split(' ').collect();
        let output = place.ravelin(&args);
        assert_eq!(output.status.code(), Some(2), "{line}: {output:?}");
        assert!(stderr(&output).contains(message), "{line}: {output:?}");
    }
}

#[test]
fn an_id_cannot_lead_to_another_request() {
    let place = Place::new();
    let vm = place.vm("web", |_| done());
    let output = place.ravelin(&["ctl", "web", "drive", "../actions", "--bw", "1M"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(
        stderr(&output).contains("`../actions` is no device's id"),
        "{output:?}"
    );
    assert!(vm.requests().is_empty());
}

#[test]
fn info_shows_state_size_and_process() {
    let place = Place::new();
    let vm = place.vm("web", in_state("Running"));
    let pid = vm.child.id();
    let (text, _) = ctl(&place, &vm, "info");
    for line in [
        "Name         web",
        "State        Running",
        "vCPUs        2",
        "Memory, MiB  512",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
    assert!(text.contains(&format!("Process      {pid}\n")), "{text}");
    let json = json_of(&place.ravelin(&["ctl", "web", "info", "--json"]));
    assert_eq!(json["state"], "Running");
    assert_eq!(json["mem_size_mib"], 512);
    assert_eq!(json["kernel"], "vmlinux");
    assert_eq!(json["pid"], pid);
}

#[test]
fn the_configuration_is_printed_as_it_is() {
    let place = Place::new();
    let config = json!({ "drives": [], "boot-source": { "kernel_image_path": "vmlinux" } });
    let body = config.to_string();
    let vm = place.vm("web", move |_| ok(&body));
    let (text, requests) = ctl(&place, &vm, "config");
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), config);
    assert_eq!(requests, ["GET /vm/config"]);
}

const METRICS: &str = "\
# HELP ravelin_block_reads Reads
# TYPE ravelin_block_reads counter
ravelin_block_reads{drive=\"rootfs\"} 12
ravelin_up 1
ravelin_down 0
";

#[test]
fn metrics_are_a_table_json_or_prometheus_text() {
    let place = Place::new();
    let vm = place.vm("web", |_| ok(METRICS));
    let (table, requests) = ctl(&place, &vm, "metrics");
    assert_eq!(requests, ["GET /ravelin/metrics"]);
    assert_eq!(
        table,
        "METRIC               OF            VALUE\n\
         ravelin_block_reads  drive=rootfs  12\n\
         ravelin_up                         1\n"
    );
    let (all, _) = ctl(&place, &vm, "metrics --all");
    assert!(
        all.ends_with("ravelin_down                       0\n"),
        "{all}"
    );
    assert_eq!(ctl(&place, &vm, "metrics --prometheus").0, METRICS);
    let json = json_of(&place.ravelin(&["ctl", "web", "metrics", "--json"]));
    assert_eq!(
        json,
        json!([
            { "name": "ravelin_block_reads", "labels": { "drive": "rootfs" }, "value": 12 },
            { "name": "ravelin_up", "labels": {}, "value": 1 },
            { "name": "ravelin_down", "labels": {}, "value": 0 },
        ])
    );
}

const EVENTS: &str = "HTTP/1.0 200 \r\nContent-Type: text/event-stream\r\n\r\n\
    : hello\n\nevent: paused\ndata: {}\n\nevent: exit\ndata: {\"reason\":\"power off\"}\n\n";

#[test]
fn events_are_lines_of_words_or_json_until_the_vm_ends() {
    let place = Place::new();
    let vm = place.vm("web", |_| EVENTS.to_owned());
    let (text, requests) = ctl(&place, &vm, "events");
    assert_eq!(requests, ["GET /ravelin/events"]);
    assert_eq!(text, "paused\nexit reason=power off\n");
    let (text, _) = ctl(&place, &vm, "events --json");
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines[1], json!({ "event": "exit", "reason": "power off" }));
}

#[test]
fn metadata_is_read_and_written() {
    let place = Place::new();
    let vm = place.vm("web", |request| match request {
        "GET /mmds" => ok(r#"{"a":1}"#),
        _ => done(),
    });
    assert_eq!(ctl(&place, &vm, "mmds get").0, "{\n  \"a\": 1\n}\n");
    let file = place.path().join("data");
    fs::write(&file, r#"{"b":[2]}"#).unwrap();
    ctl(&place, &vm, &format!("mmds put {}", file.display()));
    let mut command = place.command(&["ctl", "web", "mmds", "patch", "-"]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(br#"{"b":null}"#)
        .unwrap();
    assert!(child.wait().unwrap().success());
    let requests = vm.requests();
    assert_eq!(
        requests[1..],
        [r#"PUT /mmds {"b":[2]}"#, r#"PATCH /mmds {"b":null}"#]
    );
}

#[test]
fn metadata_that_is_not_json_is_refused_before_the_vm_sees_it() {
    let place = Place::new();
    let vm = place.vm("web", |_| done());
    for (file, status, message) in [
        ("/dev/null", 2, "the file /dev/null is not JSON"),
        ("/dev/zero", 2, "the file /dev/zero has more than"),
        ("/nonexistent", 1, "the file /nonexistent cannot be read"),
        ("-", 2, "stdin is not JSON"),
    ] {
        let output = place.ravelin(&["ctl", "web", "mmds", "put", file]);
        assert_eq!(output.status.code(), Some(status), "{output:?}");
        assert!(stderr(&output).contains(message), "{output:?}");
    }
    let output = place.ravelin(&["ctl", "web", "mmds", "get", "x"]);
    assert!(stderr(&output).contains("it takes no file"), "{output:?}");
    assert!(vm.requests().is_empty());
}
