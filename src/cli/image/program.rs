//! The program that reads images.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde::Deserialize;
use serde_json::Value;

use super::Args;
use crate::failure::Failure;

const NAME: &str = "ravelin-image";
/// Bytes of its answer.
const ANSWER: u64 = 16 << 20;

/// What it says of an image.
#[derive(Debug, Deserialize)]
pub(super) struct Answer {
    pub(super) image: String,
    pub(super) digest: String,
    pub(super) disk: PathBuf,
    pub(super) kernel: Option<PathBuf>,
    pub(super) agent: Option<PathBuf>,
    pub(super) container: Value,
}

/// It, while it keeps the disk from being removed.
pub(super) struct Holder(Child);

impl Holder {
    /// Lets it go.
    pub(super) fn release(mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// It, beside this program or in PATH.
pub(super) fn command() -> Command {
    let own = std::env::current_exe().ok();
    let beside = own.and_then(|own| Some(own.parent()?.join(NAME)));
    let beside = beside.filter(|path| path.is_file());
    Command::new(beside.unwrap_or_else(|| NAME.into()))
}

/// Why it could not be started.
pub(super) fn missing(error: &std::io::Error) -> Failure {
    Failure::run(format!(
        "{NAME} cannot be started ({error}): it comes with ravelin and belongs beside it, or into PATH"
    ))
}

/// Has an image taken. It says itself on stderr what it refuses.
pub(super) fn resolve(
    args: &Args,
    image: &str,
    terminal: Option<&str>,
    quiet: bool,
    words: &[String],
) -> Result<(Answer, Holder), Failure> {
    let mut command = command();
    command.args(["resolve", "--hold", "--pull", args.pull.word()]);
    let mut flag = |name: &str, value: &str| {
        command.arg(format!("--{name}={value}"));
    };
    args.env.iter().for_each(|variable| flag("env", variable));
    for (name, value) in [
        ("user", &args.user),
        ("workdir", &args.workdir),
        ("entrypoint", &args.entrypoint),
    ] {
        if let Some(value) = value {
            flag(name, value);
        }
    }
    if let Some(term) = terminal {
        command.args(["--tty", "--term", term]);
    }
    if quiet {
        command.arg("--quiet");
    }
    command
        .arg(format!("--image={image}"))
        .arg("--")
        .args(words);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(|error| missing(&error))?;
    let mut line = String::new();
    let out = child
        .stdout
        .take()
        .map(|out| BufReader::new(out.take(ANSWER)));
    let read = out.map(|mut out| out.read_line(&mut line));
    if !matches!(read, Some(Ok(_))) || !line.ends_with('\n') {
        drop(child.stdin.take());
        let _ = child.wait();
        return Err(Failure::run(format!("the image {image} was not taken")));
    }
    match serde_json::from_str(&line) {
        Ok(answer) => Ok((answer, Holder(child))),
        Err(error) => Err(Failure::run(format!(
            "{NAME} belongs to another version of ravelin: {error}"
        ))),
    }
}

/// What a reference means now; `None` if that cannot be found out.
pub(crate) fn digest(image: &str) -> Option<String> {
    let mut command = command();
    let command = command.args([OsStr::new("digest"), OsStr::new("--"), OsStr::new(image)]);
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
