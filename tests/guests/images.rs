//! Container images in guests: `ravelin run --image`, with a real agent.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::console::Terminal;
use crate::guest::{Guest, ravelin};
use crate::kit;

crate::tests!(
    CONTAINER => [
        an_image_runs_what_it_names_as_whom_it_is_told,
        a_containers_status_is_ravelins,
        a_file_of_the_host_is_copied_and_cannot_be_written,
        a_vm_of_an_image_is_listed_with_its_digest,
        what_is_typed_on_a_terminal_reaches_the_container,
        an_interrupt_key_ends_what_runs_in_the_container,
    ],
);

/// An archive with an image, and a cache for it.
struct Image {
    folder: TempDir,
}

impl Image {
    fn new() -> Self {
        let folder = tempfile::tempdir_in("/var/tmp").unwrap();
        let tool = concat!(env!("CARGO_MANIFEST_DIR"), "/tools/pods-image");
        let archive = folder.path().join("app.tar");
        let made = Command::new(tool)
            .arg(archive)
            .arg("registry.example/app:1")
            .status();
        assert!(made.unwrap().success());
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn guest(&self) -> Guest {
        let mut cache = std::ffi::OsString::from("RAVELIN_CACHE=");
        cache.push(self.folder.path());
        Guest::new()
            .wrapped(&["env".as_ref(), &cache])
            .kernel("vmlinux-trimmed")
            .flag("--agent", kit::file("agent.cpio"))
            .flag("--image", self.path("app.tar"))
    }
}

fn an_image_runs_what_it_names_as_whom_it_is_told() {
    let image = Image::new();
    let guest = image
        .guest()
        .flag("--user", "nobody")
        .flag("--env", "GREETING=hello")
        .flag("--workdir", "/new/place");
    let outcome = guest.script("echo id=$(id -u):$(id -g) env=$GREETING; echo cwd=$(pwd); touch /tmp/x && echo written=yes").run();
    assert_eq!(outcome.status, 0, "{outcome}");
    assert_eq!(outcome.value("id"), "65534:65534 env=hello");
    assert_eq!(outcome.value("cwd"), "/new/place");
    assert_eq!(outcome.value("written"), "yes");
    assert!(image.path("images/disks").read_dir().unwrap().count() > 0);
}

fn a_containers_status_is_ravelins() {
    let image = Image::new();
    for (script, status) in [("exit 7", 7), ("sh -c 'kill -9 $$'; exit $?", 137)] {
        let outcome = image.guest().script(script).run();
        assert_eq!(outcome.status, status, "{outcome}");
    }
}

fn a_file_of_the_host_is_copied_and_cannot_be_written() {
    let image = Image::new();
    fs::create_dir_all(image.path("conf/deep")).unwrap();
    fs::write(image.path("conf/deep/file"), "from the host").unwrap();
    let volume = format!("{}:/etc/app:ro", image.path("conf").display());
    let guest = image.guest().flag("-v", volume);
    let outcome = guest.script("echo said=$(cat /etc/app/deep/file); echo x 2>/dev/null >/etc/app/deep/file || echo kept=yes").run();
    assert_eq!(outcome.value("said"), "from the host", "{outcome}");
    assert_eq!(outcome.value("kept"), "yes");
}

fn a_vm_of_an_image_is_listed_with_its_digest() {
    let image = Image::new();
    let name = format!("image-{}", std::process::id());
    let running = image
        .guest()
        .flag("--name", &name)
        .script("echo guest is waiting; sleep 1000")
        .start();
    running.wait_for("guest is waiting");
    let list = Command::new(ravelin())
        .args(["ps", "--json"])
        .output()
        .unwrap();
    let list: Vec<Value> = serde_json::from_slice(&list.stdout).unwrap();
    let vm = list.iter().find(|vm| vm["name"] == *name);
    let vm = vm.unwrap_or_else(|| panic!("it is not among {list:?}: {}", running.said()));
    assert!(
        vm["digest"].as_str().unwrap().starts_with("sha256:"),
        "{vm}"
    );
    assert!(
        vm["kernel"].as_str().unwrap().ends_with("vmlinux-trimmed"),
        "{vm}"
    );
}

fn what_is_typed_on_a_terminal_reaches_the_container() {
    let image = Image::new();
    let (mut terminal, guest) = Terminal::with(image.guest());
    terminal.press(b"typed here\r");
    guest.end().said("answer=typed here").status(4);
    terminal.assert_as_before();
}

fn an_interrupt_key_ends_what_runs_in_the_container() {
    let image = Image::new();
    let (mut terminal, guest) = Terminal::with(image.guest());
    terminal.press(b"\x03");
    guest.end().status(130);
    terminal.assert_as_before();
}
