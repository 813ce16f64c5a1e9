//! What runs, as whom, with which words and what status.

use std::thread;

use crate::engine::{Engine, text};

crate::tests![
    a_commands_status_is_ctrs,
    a_container_runs_in_a_kernel_of_its_own,
    environment_user_and_directory_are_the_commands,
    the_root_is_the_images_and_what_is_written_is_the_containers_own,
    ten_processes_at_once_have_statuses_of_their_own,
    two_containers_at_once_do_not_see_each_other,
    a_command_that_is_not_there_is_refused_with_a_sentence,
    a_file_of_the_hosts_is_copied_in,
];

fn a_commands_status_is_ctrs() {
    let engine = Engine::new();
    for (id, status) in [("zero", 0), ("one", 1), ("many", 137)] {
        let output = engine.run(&["--null-io"], id, &["sh", "-c", &format!("exit {status}")]);
        assert_eq!(
            output.status.code(),
            Some(status),
            "{output:?}\n{}",
            engine.log()
        );
    }
}

fn a_container_runs_in_a_kernel_of_its_own() {
    let engine = Engine::new();
    let output = engine.run(&[], "kernel", &["uname", "-r"]);
    let host = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert!(output.status.success(), "{output:?}\n{}", engine.log());
    assert_ne!(text(&output), host);
}

fn environment_user_and_directory_are_the_commands() {
    let engine = Engine::new();
    let options = ["--env", "COLOUR=green", "--cwd", "/tmp"];
    engine.begin(
        &options,
        "who",
        &[
            "sh",
            "-c",
            "echo $COLOUR $(id -u) $(pwd) > /said; sleep 1000",
        ],
    );
    let words = [
        "task",
        "exec",
        "--exec-id",
        "e",
        "--user",
        "65534",
        "who",
        "sh",
        "-c",
    ];
    let script =
        "while ! [ -s /said ]; do sleep 0.1; done; cat /said; echo $COLOUR $(id -u) $(pwd)";
    let said = engine.ok(&[&words[..], &[script]].concat());
    assert_eq!(said, "green 0 /tmp\ngreen 65534 /tmp\n", "{}", engine.log());
}

fn the_root_is_the_images_and_what_is_written_is_the_containers_own() {
    let engine = Engine::new();
    let command = [
        "sh",
        "-c",
        "cat /etc/passwd | head -n 1; ls /mark; echo x > /mark && cat /mark",
    ];
    for id in ["first", "second"] {
        let output = engine.run(&[], id, &command);
        assert_eq!(
            text(&output),
            "root:x:0:0:root:/root:/bin/sh\nx\n",
            "{output:?}\n{}",
            engine.log()
        );
    }
    let output = engine.run(&["--read-only"], "closed", &["sh", "-c", "echo x > /mark"]);
    assert_eq!(
        output.status.code(),
        Some(1),
        "{output:?}\n{}",
        engine.log()
    );
}

fn ten_processes_at_once_have_statuses_of_their_own() {
    let engine = Engine::new();
    engine.begin(&[], "many", &["sleep", "1000"]);
    thread::scope(|scope| {
        for number in 0..10 {
            let engine = &engine;
            scope.spawn(move || {
                let command = format!("echo number {number}; exit {number}");
                let output = engine.exec("many", &format!("e{number}"), &["sh", "-c", &command]);
                assert_eq!(
                    output.status.code(),
                    Some(number),
                    "{output:?}\n{}",
                    engine.log()
                );
                assert_eq!(text(&output), format!("number {number}\n"));
            });
        }
    });
}

fn two_containers_at_once_do_not_see_each_other() {
    let engine = Engine::new();
    engine.begin(&[], "left", &["sleep", "1000"]);
    engine.begin(&[], "right", &["sleep", "2000"]);
    for (id, own, other) in [
        ("left", "sleep 1000", "sleep 2000"),
        ("right", "sleep 2000", "sleep 1000"),
    ] {
        let seen = text(&engine.exec(id, "look", &["ps", "-o", "args"]));
        assert!(seen.contains(own) && !seen.contains(other), "{seen}");
    }
}

fn a_command_that_is_not_there_is_refused_with_a_sentence() {
    let engine = Engine::new();
    let output = engine.run(&["--null-io"], "nothing", &["/nosuch"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && said.contains("nosuch"),
        "{output:?}\n{}",
        engine.log()
    );
    assert_eq!(engine.state("nothing"), None);
}

fn a_file_of_the_hosts_is_copied_in() {
    let engine = Engine::new();
    let path = engine.root().join("motd");
    std::fs::write(&path, "welcome\n").unwrap();
    let mount = format!(
        "type=bind,src={},dst=/etc/motd,options=rbind:ro",
        path.display()
    );
    let output = engine.run(&["--mount", &mount], "files", &["cat", "/etc/motd"]);
    assert_eq!(text(&output), "welcome\n", "{output:?}\n{}", engine.log());
}
