//! From a request to an end.

use protocol::api::{Empty, Streams};

use crate::client::{Caller, container, patient, said, three};

pub(crate) async fn the_agent_says_who_it_is(caller: Caller) {
    let reply = caller
        .agent
        .version(patient(), &Empty::new())
        .await
        .unwrap();
    assert_eq!(reply.version, env!("CARGO_PKG_VERSION"));
    assert_eq!(reply.protocol, protocol::PROTOCOL);
    assert!(
        reply
            .kernel
            .starts_with(|first: char| first.is_ascii_digit())
    );
}

pub(crate) async fn what_a_container_prints_and_its_status_arrive(caller: Caller) {
    let spec = container("echo out; echo err >&2; exit 3");
    let ended = caller.run("c", &spec, b"").await;
    assert_eq!((ended.status, ended.text().as_str()), (3, "out\n"));
    assert_eq!(ended.stderr, b"err\n");
}

pub(crate) async fn a_container_reads_its_input_to_the_end(caller: Caller) {
    let ended = caller.run("c", &container("cat"), b"all\nof it").await;
    assert_eq!((ended.status, ended.text().as_str()), (0, "all\nof it"));
}

pub(crate) async fn a_command_that_is_not_there_is_said_at_the_start(caller: Caller) {
    let mut spec = container("");
    spec["process"]["args"] = serde_json::json!(["/bin/nonsense"]);
    caller.create("c", &spec, Streams::new()).await.unwrap();
    let sentence = said(caller.start("c", "").await);
    assert!(sentence.contains("cannot run /bin/nonsense"), "{sentence}");
    assert_eq!(caller.wait("c", "").await, 127);
    caller.remove("c", "").await.unwrap();
}

pub(crate) async fn a_name_is_taken_once_and_free_again(caller: Caller) {
    let spec = container("sleep 1000");
    caller.lasting("c", &spec).await;
    let sentence = said(caller.create("c", &spec, three()).await);
    assert!(sentence.contains("there already"), "{sentence}");
    caller.remove("c", "").await.unwrap();
    caller.lasting("c", &spec).await;
    caller.remove("c", "").await.unwrap();
}

pub(crate) async fn a_container_that_is_removed_before_its_start_is_gone(caller: Caller) {
    caller
        .create("c", &container("true"), three())
        .await
        .unwrap();
    caller.remove("c", "").await.unwrap();
    let sentence = said(caller.start("c", "").await);
    assert!(sentence.contains("no container c"), "{sentence}");
}
