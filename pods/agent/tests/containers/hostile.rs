//! Requests that nobody sane makes: each is answered, and the agent goes on.

use protocol::api::{CreateRequest, ExecRequest, ResizePtyRequest, UpdateRequest};
use serde_json::json;

use crate::client::{Caller, container, named, of, patient, process, said, three};

async fn still_works(caller: &Caller) {
    let ended = caller.run("well", &container("echo well"), b"").await;
    assert_eq!(ended.text(), "well\n");
}

pub(crate) async fn a_description_that_is_none_is_refused(caller: Caller) {
    for text in [
        "",
        "{",
        "[]",
        "null",
        "{\"process\": 3}",
        "\u{0}",
        "{\"process\": {\"args\": [\"x\"], \"cwd\": \"/\", \"user\": {\"uid\": -1}}}",
    ] {
        let mut request = CreateRequest::new();
        request.container = "c".into();
        request.spec = text.into();
        let sentence = said(caller.agent.create(patient(), &request).await);
        assert!(sentence.contains("config.json"), "{text}: {sentence}");
    }
    still_works(&caller).await;
}

pub(crate) async fn deep_and_long_descriptions_are_refused(caller: Caller) {
    let deep = format!(
        "{{\"annotations\": {}{}}}",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    let many = json!({"process": {"args": vec!["x"; 100_000], "cwd": "/"}}).to_string();
    for text in [deep, many] {
        let mut request = CreateRequest::new();
        request.container = "c".into();
        request.spec = text.into();
        said(caller.agent.create(patient(), &request).await);
    }
    still_works(&caller).await;
}

pub(crate) async fn an_unknown_field_is_refused_by_name(caller: Caller) {
    let mut spec = container("true");
    spec["linux"]["intelRdt"] = json!({"closID": "x"});
    let sentence = said(caller.create("c", &spec, three()).await);
    assert!(sentence.contains("intelRdt"), "{sentence}");
}

pub(crate) async fn names_that_are_paths_are_refused(caller: Caller) {
    for name in ["", "..", "a/b", "/", "a b", &"x".repeat(100)] {
        let sentence = said(caller.create(name, &container("true"), three()).await);
        assert!(sentence.contains("is no name"), "{name}: {sentence}");
        said(caller.signal(name, "", 9, true).await);
        said(caller.agent.wait(patient(), &of(name, "x")).await);
        said(caller.agent.stats(patient(), &named(name)).await);
    }
    still_works(&caller).await;
}

pub(crate) async fn requests_for_what_is_not_there_are_answered(caller: Caller) {
    caller.lasting("c", &container("exec sleep 1000")).await;
    said(caller.start("c", "x").await);
    said(caller.start("x", "").await);
    said(caller.start("c", "").await);
    said(caller.remove("x", "").await);
    said(caller.remove("c", "x").await);
    said(
        caller
            .agent
            .resize_pty(patient(), &ResizePtyRequest::new())
            .await,
    );
    said(caller.agent.update(patient(), &UpdateRequest::new()).await);
    said(caller.agent.exec(patient(), &ExecRequest::new()).await);
    let mut bad = process("true");
    bad["selinuxLabel"] = "x".into();
    let sentence = said(caller.exec("c", "e", &bad, three()).await);
    assert!(sentence.contains("selinuxLabel"), "{sentence}");
    caller.remove("c", "").await.unwrap();
    still_works(&caller).await;
}

pub(crate) async fn there_are_so_many_containers_and_no_more(caller: Caller) {
    let spec = container("true");
    let mut made = 0;
    let sentence = loop {
        match caller.create(&format!("c{made}"), &spec, three()).await {
            Ok(_) => made += 1,
            Err(error) => break said::<()>(Err(error)),
        }
    };
    assert_eq!(made, 64);
    assert!(sentence.contains("64 containers"), "{sentence}");
    for number in 0..made {
        caller.remove(&format!("c{number}"), "").await.unwrap();
    }
    still_works(&caller).await;
}
