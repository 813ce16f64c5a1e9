//! `ravelin run --image`, with a stand-in for the program that reads images.

use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::guest::Guest;
use crate::process::{kvm, last_line, stderr, stdout};
use crate::support::RAVELIN;

/// A folder with ravelin in it, and what belongs beside it.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let built = PathBuf::from(RAVELIN);
        let folder = tempfile::tempdir_in(built.parent().unwrap()).unwrap();
        fs::hard_link(built, folder.path().join("ravelin")).unwrap();
        Self(folder)
    }

    /// With a program that remembers how it was called, and then does this.
    fn with_program(script: &str) -> Self {
        let place = Self::new();
        let path = place.path("ravelin-image");
        let remember = place.path("called");
        fs::write(
            &path,
            format!("#!/bin/sh\necho \"$*\" >{}\n{script}\n", remember.display()),
        )
        .unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        place
    }

    /// With a program that answers as if it had taken an image.
    fn with_image() -> Self {
        let place = Self::with_program("true");
        fs::write(place.path("disk"), vec![0; 4096]).unwrap();
        fs::write(place.path("agent"), b"agent").unwrap();
        let answer = serde_json::json!({
            "image": "registry.example/app:1",
            "digest": "sha256:0123",
            "disk": place.path("disk"),
            "agent": place.path("agent"),
            "container": {"mounts": []},
        });
        let script = fs::read_to_string(place.path("ravelin-image")).unwrap();
        fs::write(
            place.path("ravelin-image"),
            format!("{script}echo '{answer}'\ncat >/dev/null\n"),
        )
        .unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn called(&self) -> String {
        fs::read_to_string(self.path("called"))
            .unwrap()
            .trim()
            .to_owned()
    }

    fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Output {
        self.run_with(Stdio::null(), arguments)
    }

    fn run_with<S: AsRef<OsStr>>(
        &self,
        stdin: Stdio,
        arguments: impl IntoIterator<Item = S>,
    ) -> Output {
        let mut command = Command::new(self.path("ravelin"));
        command.arg("run").args(arguments).stdin(stdin);
        command.env("PATH", "/usr/bin:/bin").output().unwrap()
    }
}

#[test]
fn the_container_is_booted_like_any_guest() {
    if !kvm() {
        return;
    }
    let place = Place::with_image();
    let kernel = Guest::default()
        .say("here\n")
        .leave_status(7)
        .power_off()
        .kernel();
    let kernel = kernel.path().to_str().unwrap();
    let output = place.run([
        "--image",
        "registry.example/app:1",
        "--kernel",
        kernel,
        "-e",
        "A=1",
        "-u",
        "web",
        "-v",
        "/etc/hostname:/h:ro",
        "--",
        "cmd",
        "-x",
    ]);
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    assert_eq!(stdout(&output), "here\n");
    let called = "resolve --hold --pull missing --env=A=1 --user=web --image=registry.example/app:1 -- cmd -x";
    assert_eq!(place.called(), called);
}

#[test]
fn a_pipe_that_no_container_reads_is_spoken_of() {
    let place = Place::with_image();
    let (pipe, _writer) = std::io::pipe().unwrap();
    let image = ["--image", "registry.example/app:1"];
    let output = place.run_with(pipe.into(), image);
    assert!(
        stderr(&output).contains("what stands on stdin is not passed on"),
        "{output:?}"
    );
    assert!(!stderr(&place.run(image)).contains("stdin"));
}

#[test]
fn an_image_that_was_not_taken_is_status_1() {
    let place = Place::with_program("echo 'ravelin-image: no' >&2; exit 1");
    let output = place.run(["--image", "registry.example/app:1"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(
        stderr(&output),
        "ravelin-image: no\nravelin: the image registry.example/app:1 was not taken\n"
    );
}

#[test]
fn a_kernel_and_an_agent_that_are_missing_are_told_of() {
    let place = Place::with_image();
    let output = place.run(["--image", "registry.example/app:1"]);
    assert!(
        last_line(&output).contains("no kernel for the image: give --kernel"),
        "{output:?}"
    );
    fs::remove_file(place.path("agent")).unwrap();
    let output = place.run(["--image", "registry.example/app:1", "--kernel", "/k"]);
    assert!(last_line(&output).contains("the agent"), "{output:?}");
}

#[test]
fn the_program_that_reads_images_is_named_when_it_is_missing() {
    let output = Place::new().run(["--image", "registry.example/app:1"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        last_line(&output).contains("it comes with ravelin and belongs beside it"),
        "{output:?}"
    );
}

#[test]
fn flags_of_an_image_need_one() {
    for flags in [
        &["-e", "A=1"][..],
        &["--volume", "/a:/b"],
        &["--image", "a", "--root", "disk"],
    ] {
        let output = Place::new().run(flags);
        assert_eq!(output.status.code(), Some(2), "{flags:?} {output:?}");
    }
}

#[test]
fn a_vm_whose_image_means_something_newer_is_outdated() {
    if !kvm() {
        return;
    }
    let place = Place::with_image();
    let script = fs::read_to_string(place.path("ravelin-image")).unwrap();
    let newer = "[ \"$1\" = digest ] && { cat \"$0.now\"; exit; }\n";
    fs::write(
        place.path("ravelin-image"),
        script.replacen('\n', &format!("\n{newer}"), 1),
    )
    .unwrap();
    let now = |digest: &str| fs::write(place.path("ravelin-image.now"), digest).unwrap();
    let ravelin = || {
        let mut command = Command::new(place.path("ravelin"));
        command.env("RAVELIN_RUNTIME_DIR", place.path("vms"));
        command
    };
    let kernel = Guest::default()
        .say("here\n")
        .echo_until(b'q')
        .power_off()
        .kernel();
    let mut vm = ravelin();
    vm.args([
        "run",
        "--name",
        "web",
        "--image",
        "registry.example/app:1",
        "--kernel",
    ])
    .arg(kernel.path());
    let mut vm = vm
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = [0; 5];
    vm.stdout.as_mut().unwrap().read_exact(&mut line).unwrap();
    let outdated = || stdout(&ravelin().args(["ps", "--outdated"]).output().unwrap());
    now("sha256:0123");
    assert!(!outdated().contains("web"));
    now("sha256:4567");
    let text = outdated();
    assert!(
        text.contains("web") && text.contains("sha256:0123"),
        "{text}"
    );
    vm.kill().unwrap();
    vm.wait().unwrap();
}
