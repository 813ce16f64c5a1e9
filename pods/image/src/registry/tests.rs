//! A registry that is a thread of the test, and Debian's where it is installed.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use super::*;
use crate::limits::Limits;
use crate::manifest::Image;
use crate::store::Store;
use crate::tests::Archive;
use crate::tree::Tree;

/// What a registry wants to see.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wants {
    Nothing,
    /// A token, which it gives to everybody.
    Token,
    /// A token, which it gives to its user.
    UsersToken,
    /// Its user's password.
    Password,
}

/// Its user, "user:open".
const USER: &str = "dXNlcjpvcGVu";

/// Answers by path.
struct Fake {
    address: String,
    asked_for_tokens: Arc<AtomicUsize>,
}

impl Fake {
    fn start(answers: HashMap<String, Vec<u8>>, wants: Wants) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked_for_tokens = Arc::new(AtomicUsize::new(0));
        let (own, counter) = (address.clone(), asked_for_tokens.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                let head: Vec<_> = lines
                    .by_ref()
                    .map(Result::unwrap)
                    .take_while(|line| !line.is_empty())
                    .collect();
                let path = head[0].split(' ').nth(1).unwrap().to_owned();
                let has = |value: &str| {
                    let wanted = format!("authorization: {value}");
                    head.iter().any(|line| line.eq_ignore_ascii_case(&wanted))
                };
                let is_user = has(&format!("Basic {USER}"));
                let may = match wants {
                    Wants::Nothing => true,
                    Wants::Token | Wants::UsersToken => has("Bearer sesame"),
                    Wants::Password => is_user,
                };
                let (status, body) = if path.starts_with("/token?") {
                    counter.fetch_add(1, Ordering::SeqCst);
                    match wants == Wants::UsersToken && !is_user {
                        true => ("401 Unauthorized", Vec::new()),
                        false => ("200 OK", br#"{"token": "sesame"}"#.to_vec()),
                    }
                } else if !may {
                    ("401 Unauthorized", Vec::new())
                } else {
                    answers
                        .get(&path)
                        .map_or(("404 Not Found", Vec::new()), |body| {
                            ("200 OK", body.clone())
                        })
                };
                let challenge = match wants {
                    Wants::Password => "Basic realm=\"fake\"".to_owned(),
                    _ => format!("Bearer realm=\"http://{own}/token\",service=\"fake\""),
                };
                let head = format!(
                    "HTTP/1.1 {status}\r\nContent-Length: {}\r\nWWW-Authenticate: {challenge}\r\nConnection: close\r\n\r\n",
                    body.len()
                );
                stream
                    .write_all(head.as_bytes())
                    .and_then(|()| stream.write_all(&body))
                    .unwrap();
            }
        });
        Self {
            address,
            asked_for_tokens,
        }
    }

    fn take(&self, version: &str) -> Result<Tree, String> {
        taken(&format!("{}/app{version}", self.address))
    }
}

fn sentence(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

fn taken(reference: &str) -> Result<Tree, String> {
    taken_by(reference, None)
}

fn taken_by(reference: &str, credentials: Option<Credentials>) -> Result<Tree, String> {
    let registry = Registry::open(&reference.parse().unwrap(), credentials);
    let limits = Limits::default();
    let image = Image::find(&registry, None, &limits).map_err(|error| sentence(&error))?;
    let file = || tempfile::tempfile().unwrap();
    let mut store = Store::new(file(), file()).unwrap();
    image
        .build(&registry, &mut store, &limits, &mut |_| {})
        .map_err(|error| sentence(&error))
}

/// An image of one layer, by the paths of a registry; and its digest.
fn image() -> (HashMap<String, Vec<u8>>, Digest) {
    let layer = Archive::new().file("bin/app", b"app").bytes();
    let config = json!({"architecture": "amd64", "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [Digest::of(&layer).to_string()]}});
    let config = config.to_string().into_bytes();
    let describe =
        |bytes: &[u8]| json!({"digest": Digest::of(bytes).to_string(), "size": bytes.len()});
    let manifest = json!({"config": describe(&config), "layers": [describe(&layer)]})
        .to_string()
        .into_bytes();
    let digest = Digest::of(&manifest);
    let answers = HashMap::from([
        ("/v2/app/manifests/1".to_owned(), manifest.clone()),
        (format!("/v2/app/manifests/{digest}"), manifest),
        (format!("/v2/app/blobs/{}", Digest::of(&config)), config),
        (format!("/v2/app/blobs/{}", Digest::of(&layer)), layer),
    ]);
    (answers, digest)
}

#[test]
fn an_image_is_taken_by_tag_and_by_digest() {
    let (answers, digest) = image();
    let fake = Fake::start(answers, Wants::Nothing);
    for version in [":1".to_owned(), format!("@{digest}")] {
        let tree = fake.take(&version).unwrap();
        assert!(tree.find(b"bin/app").unwrap().is_some());
    }
}

#[test]
fn a_token_is_fetched_once() {
    let fake = Fake::start(image().0, Wants::Token);
    assert!(fake.take(":1").is_ok());
    assert_eq!(fake.asked_for_tokens.load(Ordering::SeqCst), 1);
}

/// The user's credentials, by the file that docker login writes for a registry.
fn user(host: &str) -> Option<Credentials> {
    let text = json!({"auths": {host: {"auth": USER}}}).to_string();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    std::fs::write(&path, text).unwrap();
    Credentials::read(&path, host).unwrap()
}

#[test]
fn who_has_logged_in_is_given_what_others_are_not() {
    for wants in [Wants::Password, Wants::UsersToken] {
        let fake = Fake::start(image().0, wants);
        let sentence = fake.take(":1").unwrap_err();
        assert!(sentence.contains("docker login"), "{sentence}");
        let reference = format!("{}/app:1", fake.address);
        assert!(taken_by(&reference, user(&fake.address)).is_ok());
    }
}

#[test]
fn another_manifest_than_the_digest_names_is_refused() {
    let (mut answers, digest) = image();
    answers.insert(format!("/v2/app/manifests/{digest}"), b"{}".to_vec());
    let sentence = Fake::start(answers, Wants::Nothing)
        .take(&format!("@{digest}"))
        .unwrap_err();
    assert!(sentence.contains("announced"), "{sentence}");
}

#[test]
fn what_a_registry_does_not_have_is_named() {
    let fake = Fake::start(image().0, Wants::Nothing);
    assert!(
        fake.take(":2")
            .unwrap_err()
            .contains("has no app/manifests/2")
    );
}

#[test]
fn a_registry_that_is_not_there_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    assert!(
        taken(&format!("{address}/app:1"))
            .unwrap_err()
            .contains("cannot be asked")
    );
}

#[test]
fn this_host_is_known_by_its_addresses() {
    for host in [
        "localhost",
        "localhost:5000",
        "127.0.0.1:1",
        "127.1.2.3",
        "[::1]:5000",
    ] {
        assert!(is_loopback(host), "{host}");
    }
    for host in [
        "registry.example",
        "localhost.example:5000",
        "10.0.0.1",
        "127.0.0.1.example",
    ] {
        assert!(!is_loopback(host), "{host}");
    }
}

/// Debian's registry, which ends with the test.
struct Debian(Child);

impl Drop for Debian {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn an_image_is_taken_from_debians_registry() {
    take_from_debian(false);
}

#[test]
fn an_image_is_taken_from_debians_registry_with_its_users_password() {
    take_from_debian(true);
}

fn take_from_debian(has_users: bool) {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let layer = Archive::new().file("bin/app", b"app");
    std::fs::write(path("layer.tar"), layer.bytes()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    // user:open, by bcrypt.
    let users = "user:$2b$04$aaaaaaaaaaaaaaaaaaaaae.IQwHewU/Pt1Sad6KsKHj7qD7M6iv/y\n";
    std::fs::write(path("users"), users).unwrap();
    let auth = match has_users {
        true => format!(
            "auth: {{htpasswd: {{realm: tools, path: {}}}}}\n",
            path("users")
        ),
        false => String::new(),
    };
    let config = format!(
        "{auth}version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"{address}\"}}\n",
        path("storage")
    );
    std::fs::write(path("config.yml"), config).unwrap();
    let mut registry = Command::new("docker-registry");
    registry
        .args(["serve", &path("config.yml")])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let Ok(registry) = registry.spawn() else {
        println!("skipped: there is no docker-registry here");
        return;
    };
    let _registry = Debian(registry);
    let run = |program: &str, args: &[&str]| {
        Command::new(program)
            .args(args)
            .output()
            .is_ok_and(|output| output.status.success())
    };
    for tool in ["umoci", "skopeo"] {
        if !run(tool, &["--version"]) {
            println!("skipped: there is no {tool} here");
            return;
        }
    }
    let layout = path("layout");
    let of_layout = format!("{layout}:1");
    let made = run("umoci", &["init", "--layout", &layout])
        && run("umoci", &["new", "--image", &of_layout])
        && run(
            "umoci",
            &[
                "raw",
                "add-layer",
                "--image",
                &of_layout,
                &path("layer.tar"),
            ],
        );
    assert!(made, "umoci makes no image");
    let target = format!("docker://{address}/tools/app:1");
    // It listens when it does: a push that comes too early is tried again.
    let push = || {
        run(
            "skopeo",
            &[
                "copy",
                "--retry-times=0",
                "--dest-tls-verify=false",
                "--dest-creds=user:open",
                &format!("oci:{of_layout}"),
                &target,
            ],
        )
    };
    let pushed = (0..100).any(|_| {
        push() || {
            std::thread::sleep(Duration::from_millis(50));
            false
        }
    });
    assert!(pushed, "the registry takes no image");
    let reference = format!("{address}/tools/app:1");
    if has_users {
        let sentence = taken(&reference).unwrap_err();
        assert!(sentence.contains("docker login"), "{sentence}");
    }
    let tree = taken_by(&reference, user(&address)).unwrap();
    assert!(tree.find(b"bin/app").unwrap().is_some());
}
