//! A container's life, with an agent that means well.

use std::fs::File;
use std::io::Write;
use std::time::Duration;

use containerd_shim_protos::api::{PidsRequest, StateRequest, StatsRequest, Status};

use crate::engine::{Engine, SHIM, limit, within};

crate::tests![
    events_come_in_order_and_the_status_is_the_commands,
    output_arrives_whole,
    input_is_read_to_its_end,
    a_signal_ends_a_process,
    further_processes_have_lives_of_their_own,
    the_state_is_what_was_done_last,
    what_is_not_there_is_not_found,
    a_second_container_is_refused_with_a_sentence,
    nothing_is_left_after_fifty_lives,
    a_killed_shim_leaves_nothing_once_its_container_is_deleted,
    a_killed_monitor_is_the_end_of_its_container,
    a_container_that_was_never_started_is_deleted,
    a_started_shim_is_small,
    a_person_who_starts_it_is_told_who_does,
];

fn events_come_in_order_and_the_status_is_the_commands() {
    within(async {
        let engine = Engine::new("", "a", &["exit", "7"]).await;
        engine.create(false).await.unwrap();
        engine.start("").await.unwrap();
        assert_eq!(engine.wait("").await.unwrap(), 7);
        assert_eq!(engine.delete("").await.unwrap(), 7);
        let mut topics = engine.topics(2).await;
        let exit = engine.event().await;
        topics.extend(engine.topics(1).await);
        assert_eq!(topics, ["/tasks/create", "/tasks/start", "/tasks/delete"]);
        assert_eq!(exit, ("/tasks/exit".to_owned(), Some(7)));
    });
}

fn output_arrives_whole() {
    within(async {
        let engine = Engine::new("", "a", &["print", "3000000"]).await;
        engine.create(false).await.unwrap();
        let output = engine.output("stdout");
        engine.start("").await.unwrap();
        assert_eq!(engine.wait("").await.unwrap(), 0);
        let output = output.await.unwrap();
        assert!(
            output.len() == 3_000_000 && output.iter().all(|byte| *byte == b'x'),
            "{}",
            output.len()
        );
    });
}

fn input_is_read_to_its_end() {
    within(async {
        let engine = Engine::new("", "a", &["cat"]).await;
        engine.create(true).await.unwrap();
        let output = engine.output("stdout");
        engine.start("").await.unwrap();
        File::options()
            .write(true)
            .open(engine.bundle.join("stdin"))
            .unwrap()
            .write_all(b"line\n")
            .unwrap();
        engine.close_stdin().await.unwrap();
        assert_eq!(engine.wait("").await.unwrap(), 0);
        assert_eq!(output.await.unwrap(), b"line\n");
    });
}

fn a_signal_ends_a_process() {
    within(async {
        let engine = Engine::new("", "a", &["sleep"]).await;
        engine.create(false).await.unwrap();
        engine.start("").await.unwrap();
        engine.kill("", 15).await.unwrap();
        assert_eq!(engine.wait("").await.unwrap(), 143);
        let gone = engine.kill("", 15).await.unwrap_err().to_string();
        assert!(gone.contains("NOT_FOUND"), "{gone}");
    });
}

fn further_processes_have_lives_of_their_own() {
    within(async {
        let engine = Engine::new("", "a", &["sleep"]).await;
        engine.create(false).await.unwrap();
        engine.start("").await.unwrap();
        engine.exec("one", &["exit", "3"]).await.unwrap();
        engine.exec("two", &["sleep"]).await.unwrap();
        assert!(
            engine
                .exec("two", &["sleep"])
                .await
                .unwrap_err()
                .to_string()
                .contains("ALREADY_EXISTS")
        );
        assert_eq!(engine.start("one").await.unwrap(), 7);
        engine.start("two").await.unwrap();
        assert_eq!(engine.wait("one").await.unwrap(), 3);
        assert_eq!(engine.delete("one").await.unwrap(), 3);
        assert!(
            engine
                .delete("two")
                .await
                .unwrap_err()
                .to_string()
                .contains("it runs")
        );
        // Its container's end is its own.
        engine.kill("", 9).await.unwrap();
        assert_eq!(engine.wait("two").await.unwrap(), 137);
        assert_eq!(engine.wait("").await.unwrap(), 137);
    });
}

fn the_state_is_what_was_done_last() {
    within(async {
        let engine = Engine::new("", "a", &["sleep"]).await;
        engine.create(false).await.unwrap();
        let state = async || {
            let request = StateRequest {
                id: "a".to_owned(),
                ..Default::default()
            };
            engine
                .task
                .state(limit(), &request)
                .await
                .unwrap()
                .status
                .unwrap()
        };
        assert_eq!(state().await, Status::CREATED);
        engine.start("").await.unwrap();
        assert_eq!(state().await, Status::RUNNING);
        let pause = containerd_shim_protos::api::PauseRequest {
            id: "a".to_owned(),
            ..Default::default()
        };
        engine.task.pause(limit(), &pause).await.unwrap();
        assert_eq!(state().await, Status::PAUSED);
        assert!(engine.task.pause(limit(), &pause).await.is_err());
        let resume = containerd_shim_protos::api::ResumeRequest {
            id: "a".to_owned(),
            ..Default::default()
        };
        engine.task.resume(limit(), &resume).await.unwrap();
        assert_eq!(state().await, Status::RUNNING);
        let stats = engine
            .task
            .stats(
                limit(),
                &StatsRequest {
                    id: "a".to_owned(),
                    ..Default::default()
                },
            )
            .await
            .unwrap();
        assert!(stats.stats.type_url.starts_with("io.containerd.cgroups.v"));
        let pids = engine
            .task
            .pids(
                limit(),
                &PidsRequest {
                    id: "a".to_owned(),
                    ..Default::default()
                },
            )
            .await
            .unwrap();
        assert_eq!(pids.processes.len(), 1);
        engine.kill("", 9).await.unwrap();
        engine.wait("").await.unwrap();
        assert_eq!(state().await, Status::STOPPED);
    });
}

fn what_is_not_there_is_not_found() {
    within(async {
        let engine = Engine::new("", "a", &["sleep"]).await;
        for error in [
            engine.start("").await.unwrap_err(),
            engine.wait("").await.unwrap_err(),
            engine.kill("", 9).await.unwrap_err(),
        ] {
            assert!(error.to_string().contains("NOT_FOUND"), "{error}");
        }
        engine.create(false).await.unwrap();
        assert!(
            engine
                .start("nobody")
                .await
                .unwrap_err()
                .to_string()
                .contains("NOT_FOUND")
        );
    });
}

fn a_second_container_is_refused_with_a_sentence() {
    within(async {
        let mut engine = Engine::new("", "a", &["sleep"]).await;
        engine.create(false).await.unwrap();
        engine.id = "b".to_owned();
        std::fs::remove_file(engine.bundle.join("stdout")).unwrap();
        let error = engine.create(false).await.unwrap_err().to_string();
        assert!(error.contains("one container"), "{error}");
        engine.id = "a".to_owned();
    });
}

fn nothing_is_left_after_fifty_lives() {
    within(async {
        for _ in 0..50 {
            let engine = Engine::new("", "a", &["exit", "0"]).await;
            engine.create(false).await.unwrap();
            engine.start("").await.unwrap();
            engine.wait("").await.unwrap();
            engine.delete("").await.unwrap();
            engine.shut_down().await;
            assert_eq!(engine.left(), Vec::<String>::new());
        }
    });
}

fn a_killed_shim_leaves_nothing_once_its_container_is_deleted() {
    within(async {
        let engine = Engine::new("", "a", &["sleep"]).await;
        engine.create(false).await.unwrap();
        engine.start("").await.unwrap();
        std::process::Command::new("kill")
            .args(["-KILL", &engine.shim.to_string()])
            .status()
            .unwrap();
        engine.await_end().await;
        engine.delete_from_outside();
        engine.delete_from_outside();
        assert_eq!(engine.left(), Vec::<String>::new());
    });
}

fn a_killed_monitor_is_the_end_of_its_container() {
    within(async {
        let engine = Engine::new("", "a", &["sleep"]).await;
        let monitor = engine.create(false).await.unwrap();
        engine.start("").await.unwrap();
        engine.exec("one", &["sleep"]).await.unwrap();
        engine.start("one").await.unwrap();
        std::process::Command::new("kill")
            .args(["-KILL", &monitor.to_string()])
            .status()
            .unwrap();
        assert_eq!(engine.wait("one").await.unwrap(), 137);
        assert_eq!(engine.wait("").await.unwrap(), 255);
        engine.topics(4).await;
        assert_eq!(engine.event().await, ("/tasks/exit".to_owned(), Some(137)));
        assert_eq!(engine.event().await, ("/tasks/exit".to_owned(), Some(255)));
        assert_eq!(engine.delete("").await.unwrap(), 255);
    });
}

fn a_container_that_was_never_started_is_deleted() {
    within(async {
        let engine = Engine::new("", "a", &["sleep"]).await;
        engine.create(false).await.unwrap();
        assert_eq!(engine.delete("").await.unwrap(), 137);
        engine.shut_down().await;
        assert_eq!(engine.left(), Vec::<String>::new());
    });
}

fn a_started_shim_is_small() {
    within(async {
        let engine = Engine::new("", "a", &["sleep"]).await;
        engine.create(false).await.unwrap();
        engine.start("").await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(engine.peak_kib() < 32 << 10, "{} KiB", engine.peak_kib());
    });
}

fn a_person_who_starts_it_is_told_who_does() {
    let place = tempfile::tempdir().unwrap();
    let mut command = std::process::Command::new(SHIM);
    command.env_remove("TTRPC_ADDRESS").current_dir(&place);
    let output = command.stdin(std::process::Stdio::null()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        !output.status.success() && said.contains("ctr run --runtime io.containerd.ravelin.v2"),
        "{said}"
    );
}
