//! Golden transcripts: what is asked, and the very answer.
//!
//! A file of `transcripts/` is read from the top. Lines that start with `#` are for the reader.
//!
//! | line | meaning |
//! | --- | --- |
//! | `== TITLE` | a fresh VM from here on |
//! | `! secluded` | right after a title: the VM is in a network namespace of its own; needs root |
//! | `! flag WORD` | right after a title: a word of its command line |
//! | `! start` | the payload becomes the kernel, and the guest starts; needs KVM |
//! | `! file NAME BYTES` | a file of zeros in the VM's folder |
//! | `! exits STATUS` | the process ends so |
//! | `> METHOD PATH` | a request; the next `>` line, if any, is its body |
//! | `< STATUS [deprecated] [TYPE]` | the answer; whether it has the header `Deprecation: true`; its type where that is not JSON |
//! | `< BODY` | its body, every byte; without the line it has none |
//! | `<~ TEXT` | instead: what its body contains, where the rest differs from run to run |
//!
//! In requests and answers `{{dir}}` is the VM's folder, `{{kernel}}` the payload and `{{long}}` 51,000 times
//! the letter x. With `RAVELIN_BLESS=1` in the environment the answers are written into the files instead of
//! compared: look at the difference before you keep it.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use crate::client::{Client, Reply};
use crate::vm::{self, Face, Vm};

/// How many letters stand for `{{long}}`.
const LONG: usize = 51_000;

/// A line of a transcript, or a request with its answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// For the reader.
    Comment(String),
    /// A fresh VM.
    Title(String),
    /// What the reader of transcripts itself does.
    Order(String),
    /// A request and what is expected.
    Exchange(Exchange),
}

/// A request and its answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Exchange {
    pub(crate) method: String,
    pub(crate) path: String,
    body: Option<String>,
    status: String,
    answer: Option<String>,
    contains: Vec<String>,
    line: usize,
}

/// Every transcript, by name.
pub(crate) fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/api/transcripts");
    let entries = fs::read_dir(folder).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Reads a transcript.
pub(crate) fn read(path: &Path) -> Vec<Step> {
    let text = fs::read_to_string(path).unwrap();
    let mut steps: Vec<Step> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let at = format!("{}:{}", path.display(), index + 1);
        let (mark, rest) = line.split_once(' ').unwrap_or((line, ""));
        match (mark, steps.last_mut()) {
            ("==", _) => steps.push(Step::Title(rest.to_owned())),
            ("!", _) => steps.push(Step::Order(rest.to_owned())),
            (">", last) => match (request(rest), last) {
                (Some((method, path)), _) => steps.push(Step::Exchange(Exchange {
                    method: method.to_owned(),
                    path: path.to_owned(),
                    line: index + 1,
                    ..Exchange::default()
                })),
                (None, Some(Step::Exchange(last))) => last.body = Some(rest.to_owned()),
                (None, _) => panic!("{at}: a body without a request"),
            },
            ("<", Some(Step::Exchange(last))) if last.status.is_empty() => {
                last.status = rest.to_owned();
            }
            ("<", Some(Step::Exchange(last))) => last.answer = Some(rest.to_owned()),
            ("<~", Some(Step::Exchange(last))) => last.contains.push(rest.to_owned()),
            ("" | "#", _) => steps.push(Step::Comment(line.to_owned())),
            _ => panic!("{at}: {line}"),
        }
    }
    steps
}

/// A method and a path. No body looks like that.
fn request(text: &str) -> Option<(&str, &str)> {
    let (method, path) = text.split_once(' ')?;
    let is_method = method.bytes().all(|byte| byte.is_ascii_uppercase());
    (is_method && path.starts_with('/')).then_some((method, path))
}

/// A transcript that is replayed.
struct Replay {
    vm: Vm,
    client: Client,
}

impl Replay {
    fn start(face: Face, flags: &[String]) -> Self {
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let vm = Vm::start(face, &flags);
        let client = vm.client();
        Self { vm, client }
    }

    fn filled(&self, text: &str) -> String {
        text.replace("{{dir}}", &self.vm.folder().display().to_string())
            .replace("{{kernel}}", &vm::payload().display().to_string())
            .replace("{{long}}", &"x".repeat(LONG))
    }

    fn general(&self, text: &str) -> String {
        text.replace(&self.vm.folder().display().to_string(), "{{dir}}")
            .replace(&vm::payload().display().to_string(), "{{kernel}}")
            .replace(&"x".repeat(LONG), "{{long}}")
    }

    fn obey(&mut self, order: &str) {
        let words: Vec<&str> = order.split(' ').collect();
        match words[..] {
            ["start"] => self.vm.boot("idle"),
            ["file", name, bytes] => {
                self.vm.file(name, bytes.parse().unwrap());
            }
            ["exits", status] => {
                assert_eq!(self.vm.end().code(), Some(status.parse().unwrap()));
            }
            _ => panic!("no such order: {order}"),
        }
    }

    fn ask(&mut self, exchange: &Exchange) -> Reply {
        let body = exchange.body.as_ref().map(|body| self.filled(body));
        let reply = self
            .client
            .ask(&exchange.method, &exchange.path, body.as_deref());
        let is_stream = reply.header("content-type") == Some("text/event-stream");
        if is_stream
            || reply.header("connection") != Some("keep-alive")
            || reply.status == 400 && reply.fault().is_empty()
        {
            self.client = self.vm.client();
        }
        reply
    }

    /// What a transcript would say of an answer.
    fn told(&self, reply: &Reply) -> (String, Option<String>) {
        let mut status = reply.status.to_string();
        match reply.header("deprecation") {
            Some("true") => status.push_str(" deprecated"),
            None => {}
            Some(other) => panic!("Deprecation: {other}"),
        }
        match (reply.header("content-type"), reply.status) {
            (None, 204) | (Some("application/json"), _) => {}
            (other, _) => status.push_str(&format!(" {}", other.unwrap_or("untyped"))),
        }
        let body = (!reply.body.is_empty()).then(|| self.general(&reply.body).replace('\n', "\\n"));
        (status, body)
    }
}

/// Replays the transcript `path`. True: something of it could not run here.
fn replay(path: &Path, bless: bool) -> bool {
    let steps = read(path);
    let mut text = String::new();
    let mut skipped = false;
    let mut at = 0;
    while at < steps.len() {
        let end = steps[at + 1..]
            .iter()
            .position(|step| matches!(step, Step::Title(_)));
        let end = end.map_or(steps.len(), |next| at + 1 + next);
        skipped |= replay_section(path, &steps[at..end], bless, &mut text);
        at = end;
    }
    if bless && !skipped {
        fs::write(path, text).unwrap();
    }
    skipped
}

fn replay_section(path: &Path, steps: &[Step], bless: bool, text: &mut String) -> bool {
    let orders = || {
        steps.iter().filter_map(|step| match step {
            Step::Order(order) => Some(order.as_str()),
            _ => None,
        })
    };
    let secluded = orders().any(|order| order == "secluded");
    if secluded && !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: a network namespace needs root: {steps:?}");
        return true;
    }
    if orders().any(|order| order == "start") && !vm::kvm() {
        return true;
    }
    let face = if secluded {
        Face::Secluded
    } else {
        Face::Firecracker
    };
    let flags: Vec<String> = orders()
        .filter_map(|order| order.strip_prefix("flag ").map(str::to_owned))
        .collect();
    let mut replay = None;
    for step in steps {
        match step {
            Step::Comment(line) => writeln!(text, "{line}").unwrap(),
            Step::Title(title) => {
                writeln!(text, "== {title}").unwrap();
                replay = Some(Replay::start(face, &flags));
            }
            Step::Order(order) => {
                writeln!(text, "! {order}").unwrap();
                if order != "secluded" && !order.starts_with("flag ") {
                    replay.as_mut().unwrap().obey(order);
                }
            }
            Step::Exchange(exchange) => {
                let replay = replay.as_mut().unwrap();
                let reply = replay.ask(exchange);
                let told = replay.told(&reply);
                exchange.write(&told, text);
                if !bless {
                    exchange.compare(path, &reply, &told);
                }
            }
        }
    }
    false
}

impl Exchange {
    fn compare(&self, path: &Path, reply: &Reply, told: &(String, Option<String>)) {
        let at = format!(
            "{}:{}: {} {}",
            path.display(),
            self.line,
            self.method,
            self.path
        );
        let (status, body) = told;
        assert_eq!(*status, self.status, "{at}: {reply:?}");
        if self.contains.is_empty() {
            assert_eq!(*body, self.answer, "{at}");
        }
        for part in &self.contains {
            assert!(reply.body.contains(part), "{at}: no {part:?} in {reply:?}");
        }
        assert_eq!(reply.header("server"), Some("Firecracker API"), "{at}");
    }

    fn write(&self, (status, body): &(String, Option<String>), text: &mut String) {
        writeln!(text, "> {} {}", self.method, self.path).unwrap();
        if let Some(body) = &self.body {
            writeln!(text, "> {body}").unwrap();
        }
        writeln!(text, "< {status}").unwrap();
        if !self.contains.is_empty() {
            for part in &self.contains {
                writeln!(text, "{}", format!("<~ {part}").trim_end()).unwrap();
            }
        } else if let Some(body) = body {
            writeln!(text, "< {body}").unwrap();
        }
    }
}

#[test]
fn every_answer_is_the_one_that_was_written_down() {
    let bless = std::env::var_os("RAVELIN_BLESS").is_some();
    for path in files() {
        if replay(&path, bless) {
            eprintln!("SKIPPED: a part of {}", path.display());
        }
    }
}
