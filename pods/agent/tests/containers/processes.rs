//! Further processes of a container, signals and ends.

use protocol::api::Streams;

use crate::client::{Caller, Ended, collect, container, process, said, three};

const LASTS: &str = "exec sleep 1000";

async fn with_container(caller: &Caller) {
    caller.lasting("c", &container(LASTS)).await;
}

async fn over(caller: &Caller) {
    caller.remove("c", "").await.unwrap();
}

pub(crate) async fn a_process_runs_in_the_containers_own_world(caller: Caller) {
    with_container(&caller).await;
    let ended = caller
        .run_in(
            "c",
            "e",
            "hostname; readlink /proc/1/exe; cat; exit 5",
            b"in",
        )
        .await;
    assert_eq!(
        (ended.status, ended.text().as_str()),
        (5, "box\n/bin/busybox\nin")
    );
    over(&caller).await;
}

pub(crate) async fn ten_processes_at_once_each_say_their_own(caller: Caller) {
    with_container(&caller).await;
    let mut running = Vec::new();
    for number in 0..10 {
        let caller = caller.clone();
        let name = format!("e{number}");
        let script = format!("cat; echo {number}; exit {number}");
        let task: tokio::task::JoinHandle<Ended> =
            tokio::spawn(async move { caller.run_in("c", &name, &script, b"x").await });
        running.push(task);
    }
    for (number, task) in running.into_iter().enumerate() {
        let ended = task.await.unwrap();
        assert_eq!(ended.status as usize, number);
        assert_eq!(ended.text(), format!("x{number}\n"));
    }
    over(&caller).await;
}

pub(crate) async fn a_child_in_the_background_does_not_hold_up_the_end(caller: Caller) {
    with_container(&caller).await;
    let script = "(while :; do echo more; sleep 1; done) & echo done";
    let ended = caller.run_in("c", "e", script, b"").await;
    assert_eq!(ended.status, 0);
    assert!(ended.text().contains("done\n"), "{}", ended.text());
    over(&caller).await;
}

pub(crate) async fn nothing_runs_in_a_container_that_has_ended(caller: Caller) {
    caller.lasting("c", &container("exit 0")).await;
    assert_eq!(caller.wait("c", "").await, 0);
    let sentence = said(caller.exec("c", "e", &process("true"), three()).await);
    assert!(sentence.contains("has ended"), "{sentence}");
    over(&caller).await;
}

pub(crate) async fn a_killed_container_has_137(caller: Caller) {
    with_container(&caller).await;
    caller.signal("c", "", 9, false).await.unwrap();
    assert_eq!(caller.wait("c", "").await, 137);
    let sentence = said(caller.signal("c", "", 9, false).await);
    assert!(sentence.contains("ended already"), "{sentence}");
    over(&caller).await;
}

pub(crate) async fn a_signal_reaches_who_waits_for_it(caller: Caller) {
    let script = "trap 'echo got it; exit 4' TERM; echo up; while :; do sleep 0.1; done";
    caller
        .create("c", &container(script), three())
        .await
        .unwrap();
    let _stdin = caller.taken("c - stdin").await;
    let mut stdout = caller.taken("c - stdout").await;
    let _stderr = caller.taken("c - stderr").await;
    caller.start("c", "").await.unwrap();
    let mut up = [0; 3];
    tokio::io::AsyncReadExt::read_exact(&mut stdout, &mut up)
        .await
        .unwrap();
    caller.signal("c", "", 15, false).await.unwrap();
    assert_eq!(caller.wait("c", "").await, 4);
    assert_eq!(collect(stdout).await.unwrap(), b"got it\n");
    over(&caller).await;
}

pub(crate) async fn what_is_no_signal_is_refused(caller: Caller) {
    with_container(&caller).await;
    for number in [0, 65, u32::MAX] {
        let sentence = said(caller.signal("c", "", number, false).await);
        assert!(sentence.contains("is no signal"), "{sentence}");
    }
    over(&caller).await;
}

pub(crate) async fn who_has_ended_is_told_again(caller: Caller) {
    caller.lasting("c", &container("exit 6")).await;
    for _ in 0..3 {
        assert_eq!(caller.wait("c", "").await, 6);
    }
    over(&caller).await;
}

pub(crate) async fn fifty_containers_leave_nothing(caller: Caller) {
    for number in 0..50 {
        let script = format!("echo {number} > /file; cat /file");
        let ended = caller.run("c", &container(&script), b"").await;
        assert_eq!(ended.text(), format!("{number}\n"));
    }
    let script = "grep -c . /proc/mounts; set -- /proc/[0-9]*; echo $#";
    let first = caller.run("c", &container(script), b"").await.text();
    let second = caller.run("c", &container(script), b"").await.text();
    assert_eq!(first, second);
}

pub(crate) async fn two_containers_do_not_see_each_other(caller: Caller) {
    caller
        .lasting("a", &container("echo a > /mine; exec sleep 1000"))
        .await;
    caller.lasting("b", &container("exec sleep 1000")).await;
    let ended = caller
        .run_in(
            "b",
            "e",
            "ls /mine 2>/dev/null; set -- /proc/[0-9]*; echo $#",
            b"",
        )
        .await;
    // Its first, and this shell.
    assert_eq!(ended.text(), "2\n");
    for name in ["a", "b"] {
        caller.remove(name, "").await.unwrap();
    }
}

pub(crate) async fn a_process_that_runs_is_not_removed(caller: Caller) {
    with_container(&caller).await;
    caller
        .exec("c", "e", &process(LASTS), Streams::new())
        .await
        .unwrap();
    caller.start("c", "e").await.unwrap();
    let sentence = said(caller.remove("c", "e").await);
    assert!(sentence.contains("runs"), "{sentence}");
    // With its container it is.
    over(&caller).await;
}
