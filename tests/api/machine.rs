//! Random sequences of calls against a [`Model`]: no answer that it does not allow, and whatever is refused
//! leaves everything as it was.

use std::cell::RefCell;
use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::json;

use crate::client::{Client, Reply};
use crate::model::{Answer, Call, Disk, Kernel, Model};
use crate::vm::{self, Vm};

/// Sequences.
const CASES: u32 = 200;
/// The longest sequence.
const LONGEST: usize = 30;

/// A few calls; in half of the sequences then a kernel and a start, and some more.
fn calls() -> impl Strategy<Value = Vec<Call>> {
    let some = |most| prop::collection::vec(call(), 0..=most);
    (some(LONGEST / 2 - 2), any::<bool>(), some(LONGEST / 2)).prop_map(
        |(mut calls, starts, more)| {
            if starts {
                calls.extend([Call::Kernel(Kernel::Good), Call::Start]);
            }
            calls.extend(more);
            calls
        },
    )
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        3 => description(),
        1 => prop::sample::select(&[
            "/", "/version", "/vm/config", "/machine-config", "/mmds", "/balloon", "/balloon/statistics",
            "/hotplug/memory",
        ][..]).prop_map(Call::Get),
        1 => prop::sample::select(&[
            Call::Start, Call::Start, Call::Flush, Call::CtrlAltDel, Call::Pause, Call::Resume, Call::Save, Call::Load,
        ][..]),
        1 => (0..3_u8, 0..4_u8).prop_map(|(id, file)| Call::OtherFile { id, file }),
        1 => (0..4_u8).prop_map(Call::PutMmds),
        1 => (0..4_u8).prop_map(Call::PatchMmds),
        1 => prop::sample::select(&[
            Call::Nonsense("/actions", "{"),
            Call::Nonsense("/boot-source", "{}"),
            Call::Nonsense("/drives/d0", r#"{"drive_id": "d1", "is_root_device": false}"#),
            Call::Nonsense("/nosuch", "{}"),
            Call::Nonsense("/machine-config", r#"{"vcpu_count": 1, "mem_size_mib": 64, "ht_enabled": true}"#),
        ][..]),
    ]
}

fn description() -> impl Strategy<Value = Call> {
    let disk = (0..4_u8, any::<bool>(), any::<bool>()).prop_map(|(file, root, read_only)| Disk {
        file,
        root,
        read_only,
    });
    let kernels = [Kernel::Good, Kernel::Good, Kernel::Bad, Kernel::Missing];
    prop_oneof![
        3 => prop::sample::select(kernels.to_vec()).prop_map(Call::Kernel),
        2 => (prop::sample::select(&[0_u8, 1, 2, 33][..]), prop::sample::select(&[0_u64, 32, 64][..]), any::<bool>())
            .prop_map(|(vcpus, memory, patch)| Call::Machine { vcpus, memory, patch }),
        3 => (0..3_u8, disk).prop_map(|(id, disk)| Call::Drive { id, disk }),
        1 => (0..3_u8).prop_map(Call::TakeAway),
        1 => prop::sample::select(&[Call::Entropy, Call::Metrics, Call::MmdsConfig][..]),
        1 => prop_oneof![
            8 => Just(Call::Balloon(1000)),
            1 => (0..100_u32).prop_map(Call::Balloon),
            2 => (0..4_u32).prop_map(Call::Vsock),
        ],
    ]
}

fn ask(client: &mut Client, call: &Call) -> Reply {
    let action = |kind: &str| ("PUT", "/actions".to_owned(), json!({"action_type": kind}));
    let state = |state: &str| ("PATCH", "/vm".to_owned(), json!({"state": state}));
    let put = |path: &str, body| ("PUT", path.to_owned(), body);
    let (method, path, body) = match call {
        Call::Get(path) => return client.ask("GET", path, None),
        Call::TakeAway(id) => return client.ask("DELETE", &format!("/drives/d{id}"), None),
        Call::Nonsense(path, body) => return client.ask("PUT", path, Some(body)),
        Call::Kernel(kernel) => {
            let path = match kernel {
                Kernel::Good => vm::payload().display().to_string(),
                Kernel::Bad => "disk0".to_owned(),
                Kernel::Missing => "nowhere".to_owned(),
            };
            let args = "payload=idle";
            put(
                "/boot-source",
                json!({"kernel_image_path": path, "boot_args": args}),
            )
        }
        Call::Machine {
            vcpus,
            memory,
            patch,
        } => {
            let body = json!({"vcpu_count": vcpus, "mem_size_mib": memory});
            let method = if *patch { "PATCH" } else { "PUT" };
            (method, "/machine-config".to_owned(), body)
        }
        Call::Drive { id, disk } => {
            let (id, file) = (format!("d{id}"), format!("disk{}", disk.file));
            let body = json!({
                "drive_id": id, "path_on_host": file, "is_root_device": disk.root, "is_read_only": disk.read_only,
            });
            put(&format!("/drives/{id}"), body)
        }
        Call::OtherFile { id, file } => {
            let (id, file) = (format!("d{id}"), format!("disk{file}"));
            let body = json!({"drive_id": id, "path_on_host": file});
            ("PATCH", format!("/drives/{id}"), body)
        }
        Call::Balloon(amount) => put(
            "/balloon",
            json!({"amount_mib": amount, "deflate_on_oom": true}),
        ),
        Call::Vsock(cid) => put("/vsock", json!({"guest_cid": cid, "uds_path": "v.sock"})),
        Call::Entropy => put("/entropy", json!({})),
        Call::Metrics => put("/metrics", json!({"metrics_path": "metrics"})),
        Call::PutMmds(key) => put("/mmds", json!({format!("k{key}"): key})),
        Call::PatchMmds(key) => ("PATCH", "/mmds".to_owned(), json!({format!("k{key}"): key})),
        Call::MmdsConfig => put("/mmds/config", json!({"network_interfaces": ["1"]})),
        Call::Start => action("InstanceStart"),
        Call::Flush => action("FlushMetrics"),
        Call::CtrlAltDel => action("SendCtrlAltDel"),
        Call::Pause => state("Paused"),
        Call::Resume => state("Resumed"),
        Call::Save => put(
            "/snapshot/create",
            json!({"snapshot_path": "s", "mem_file_path": "m"}),
        ),
        Call::Load => {
            let memory = json!({"backend_type": "File", "backend_path": "m"});
            put(
                "/snapshot/load",
                json!({"snapshot_path": "nowhere", "mem_backend": memory}),
            )
        }
    };
    client.ask(method, &path, Some(&body.to_string()))
}

/// Makes the calls, and says how the VM is after them. Panics at an answer that the model does not allow.
fn run(calls: &[Call]) -> &'static str {
    let mut vm = Vm::firecracker();
    for disk in 0..3 {
        vm.file(&format!("disk{disk}"), 4096 << disk);
    }
    let mut client = vm.client();
    let mut model = Model::default();
    let mut before = client.ask("GET", "/vm/config", None).json();
    for call in calls {
        let answer = model.answer(call);
        let reply = ask(&mut client, call);
        match answer {
            Answer::Done => assert_eq!(reply.status, 204, "{call:?}: {reply:?}"),
            Answer::Shown => assert_eq!(reply.status, 200, "{call:?}: {reply:?}"),
            Answer::Refused(words) | Answer::Fatal(words) => {
                assert_eq!(reply.status, 400, "{call:?}: {reply:?}");
                let fault = reply.fault();
                assert!(
                    !fault.is_empty() && fault.starts_with(words),
                    "{call:?}: {fault}"
                );
            }
        }
        if let Answer::Fatal(_) = answer {
            assert_eq!(vm.end().code(), Some(1));
            return "Ended";
        }
        let state = client.ask("GET", "/", None).json();
        assert_eq!(state["state"], model.state(), "{call:?}");
        let shown = client.ask("GET", "/vm/config", None).json();
        if answer != Answer::Done {
            assert_eq!(shown, before, "{call:?} has changed something");
        }
        model.check(&shown);
        assert_eq!(client.ask("GET", "/mmds", None).json(), model.data());
        before = shown;
    }
    let state = model.state();
    the_next_right_call_works(&mut client, &mut model);
    assert!(vm.lives());
    state
}

fn the_next_right_call_works(client: &mut Client, model: &mut Model) {
    let right = match model.state() {
        "Not started" => Call::Kernel(Kernel::Good),
        "Running" => Call::Pause,
        _ => Call::Resume,
    };
    assert_eq!(model.answer(&right), Answer::Done);
    let reply = ask(client, &right);
    assert_eq!(reply.status, 204, "{right:?}: {reply:?}");
}

#[test]
fn no_sequence_of_calls_gets_an_answer_that_is_not_allowed() {
    if !vm::kvm() {
        return;
    }
    let config = Config {
        cases: CASES,
        // What fails is told in whole; nothing is kept beside the tests.
        failure_persistence: None,
        max_shrink_iters: 200,
        ..Config::default()
    };
    // The same sequences each time.
    let random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut states = RefCell::new(BTreeMap::new());
    let outcome = TestRunner::new_with_rng(config, random).run(&calls(), |calls| {
        *states.borrow_mut().entry(run(&calls)).or_insert(0) += 1;
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
    // Every way of life was met, and more than once.
    let states = states.get_mut();
    assert!(
        states.len() == 4 && states.values().all(|count| *count > 4),
        "{states:?}"
    );
}
