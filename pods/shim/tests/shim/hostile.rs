//! Agents that flood, lie, fall silent or hang up: the shim's memory and time stay bounded, and the container is dead.

use crate::engine::{Engine, within};

/// The most that the shim may ever have in memory, KiB: a build without optimisation, and one longest message.
const MOST_KIB: u64 = 64 << 10;

crate::tests![
    one_that_never_calls_is_given_up,
    one_that_never_answers_is_given_up,
    one_that_floods_is_cut_off,
    a_length_is_not_believed,
    an_answer_that_is_none_ends_the_vm,
    an_answer_too_many_ends_the_container,
    one_that_hangs_up_is_dead,
    events_are_let_through_slowly,
    output_without_end_does_not_keep_a_dead_container,
    streams_that_stay_open_do_not_keep_a_dead_container,
    one_of_another_version_is_refused_by_its_number,
    a_long_refusal_is_cut_short,
    a_process_that_does_not_die_takes_its_vm_with_it,
];

/// The sentence with which a container is refused.
async fn refusal(engine: &Engine) -> String {
    let error = engine.create(false).await.unwrap_err().to_string();
    assert!(engine.peak_kib() < MOST_KIB, "{} KiB", engine.peak_kib());
    assert!(error.len() < 8192, "{}", error.len());
    error
}

fn one_that_never_calls_is_given_up() {
    within(async {
        let engine = Engine::new("no-call", "a", &["sleep"]).await;
        let error = refusal(&engine).await;
        assert!(
            error.contains("did not call within 3 s") && error.contains("a fake's console"),
            "{error}"
        );
        engine.shut_down().await;
        assert_eq!(engine.left(), Vec::<String>::new());
    });
}

fn one_that_never_answers_is_given_up() {
    within(async {
        let error = refusal(&Engine::new("mute", "a", &["sleep"]).await).await;
        assert!(error.contains("no answer came in time"), "{error}");
    });
}

fn one_that_floods_is_cut_off() {
    within(async {
        let error = refusal(&Engine::new("flood", "a", &["sleep"]).await).await;
        assert!(error.contains("the connection has ended"), "{error}");
    });
}

fn a_length_is_not_believed() {
    within(async {
        refusal(&Engine::new("length", "a", &["sleep"]).await).await;
    });
}

fn an_answer_that_is_none_ends_the_vm() {
    within(async {
        let error = refusal(&Engine::new("garbage", "a", &["sleep"]).await).await;
        assert!(error.contains("cannot be understood"), "{error}");
    });
}

fn an_answer_too_many_ends_the_container() {
    within(async {
        let engine = Engine::new("twice", "a", &["sleep"]).await;
        engine.create(false).await.unwrap();
        let _ = engine.start("").await;
        assert_eq!(engine.wait("").await.unwrap(), 255);
    });
}

fn one_that_hangs_up_is_dead() {
    within(async {
        let engine = Engine::new("hang-up", "a", &["sleep"]).await;
        engine.create(false).await.unwrap();
        engine.start("").await.unwrap();
        assert_eq!(engine.wait("").await.unwrap(), 255);
        assert_eq!(engine.delete("").await.unwrap(), 255);
        engine.shut_down().await;
        assert_eq!(engine.left(), Vec::<String>::new());
    });
}

fn events_are_let_through_slowly() {
    within(async {
        let engine = Engine::new("events", "oom", &["sleep"]).await;
        engine.create(false).await.unwrap();
        engine.start("").await.unwrap();
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        engine.kill("", 9).await.unwrap();
        engine.wait("").await.unwrap();
        let mut count = 0;
        while engine.event().await.0 != "/tasks/exit" {
            count += 1;
        }
        assert!((2..30).contains(&count), "{count}");
    });
}

fn output_without_end_does_not_keep_a_dead_container() {
    within(async {
        let engine = Engine::new("endless", "a", &["exit", "0"]).await;
        engine.create(false).await.unwrap();
        let output = engine.output("stdout");
        engine.start("").await.unwrap();
        assert_eq!(engine.wait("").await.unwrap(), 0);
        output.await.unwrap();
        assert!(engine.peak_kib() < MOST_KIB, "{} KiB", engine.peak_kib());
    });
}

fn streams_that_stay_open_do_not_keep_a_dead_container() {
    within(async {
        let engine = Engine::new("open", "a", &["exit", "0"]).await;
        engine.create(false).await.unwrap();
        engine.start("").await.unwrap();
        assert_eq!(engine.wait("").await.unwrap(), 0);
    });
}

fn one_of_another_version_is_refused_by_its_number() {
    within(async {
        let error = refusal(&Engine::new("version", "a", &["sleep"]).await).await;
        assert!(error.contains("speaks version 99"), "{error}");
    });
}

fn a_long_refusal_is_cut_short() {
    within(async {
        refusal(&Engine::new("no-streams", "a", &["sleep"]).await).await;
    });
}

fn a_process_that_does_not_die_takes_its_vm_with_it() {
    within(async {
        let engine = Engine::new("immortal", "a", &["sleep"]).await;
        engine.create(false).await.unwrap();
        engine.start("").await.unwrap();
        engine.kill("", 9).await.unwrap();
        assert_eq!(engine.wait("").await.unwrap(), 137);
    });
}
