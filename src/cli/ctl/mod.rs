//! `ravelin ctl`: asks something of a running VM, on its socket.

mod args;
mod metrics;
mod stop;
mod target;

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::ExitCode;

use serde_json::{Map, Value, json};
use vmm::spec::{RateLimiter, TokenBucket};

pub(super) use self::args::Args;
use self::args::{Action, Drive, Net, Verb};
use self::target::Target;
use super::client::Event;
use super::print;
use super::ps::{Shape, age, uptime};
use super::style::{Style, plain};
use crate::failure::Failure;

/// The longest metadata that is read, in bytes.
const LONGEST_METADATA: u64 = 16 << 20;

/// Runs the subcommand.
///
/// # Errors
/// When there is no such VM, it does not answer, or it refuses.
#[inline(never)]
pub(super) fn run(args: Args) -> Result<ExitCode, Failure> {
    let target = Target::find(&args)?;
    match args.action {
        Action::Info { json } => info(&target, json),
        Action::Start => act(&target, "InstanceStart"),
        Action::Pause => set_state(&target, "Paused"),
        Action::Resume => set_state(&target, "Resumed"),
        Action::Stop { force } => stop::stop(&target, force, args.timeout),
        Action::Metrics(form) => metrics::show(&target, &form),
        Action::Config => config(&target),
        Action::Drive(drive) => change_drive(&target, &drive),
        Action::Net(net) => change_net(&target, &net),
        Action::Events { json } => follow(&target, json),
        Action::Mmds { verb, file } => metadata(&target, verb, file.as_deref()),
    }?;
    Ok(ExitCode::SUCCESS)
}

fn act(target: &Target, action: &str) -> Result<(), Failure> {
    let body = json!({ "action_type": action });
    target.send("PUT", "/actions", &body)
}

fn set_state(target: &Target, state: &str) -> Result<(), Failure> {
    target.send("PATCH", "/vm", &json!({ "state": state }))
}

fn config(target: &Target) -> Result<(), Failure> {
    let config = target.client.get_json("/vm/config");
    print(&format!("{:#}\n", config.map_err(Failure::run)?));
    Ok(())
}

/// What `info` shows: a name for people, and its key and value in JSON.
type Row = (&'static str, &'static str, Value);

fn info(target: &Target, json: bool) -> Result<(), Failure> {
    let instance = target.client.get_json("/").map_err(Failure::run)?;
    let shape = Shape::ask(&target.client);
    let vm = target.vm.as_ref();
    let rows: [Row; 9] = [
        ("Name", "id", instance["id"].clone()),
        ("State", "state", instance["state"].clone()),
        ("vCPUs", "vcpus", json!(shape.vcpus)),
        ("Memory, MiB", "mem_size_mib", json!(shape.mem_size_mib)),
        ("Version", "vmm_version", instance["vmm_version"].clone()),
        ("Process", "pid", json!(vm.map(|vm| vm.pid))),
        ("Uptime", "uptime_s", json!(vm.map(age))),
        ("Socket", "socket", json!(target.socket)),
        (
            "Kernel",
            "kernel",
            json!(vm.and_then(|vm| vm.kernel.clone())),
        ),
    ];
    if json {
        let rows = rows.into_iter();
        let object: Map<_, _> = rows
            .map(|(_, key, value)| (key.to_owned(), value))
            .collect();
        print(&format!("{:#}\n", Value::from(object)));
        return Ok(());
    }
    let style = Style::of_stdout();
    let width = rows.iter().map(|row| row.0.len()).max().unwrap_or_default();
    for (title, key, value) in rows {
        let text = match (key, &value) {
            ("uptime_s", Value::Number(seconds)) => uptime(seconds.as_u64().unwrap_or_default()),
            _ => words(&value),
        };
        print(&format!(
            "{}  {text}\n",
            style.bold(&format!("{title:<width$}"))
        ));
    }
    Ok(())
}

/// A value for people: a text without its quotes.
fn words(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => plain(text),
        other => plain(&other.to_string()),
    }
}

fn change_drive(target: &Target, drive: &Drive) -> Result<(), Failure> {
    let mut body = json!({ "drive_id": drive.id });
    if let Some(path) = &drive.path {
        // The VM may stand in another directory.
        body["path_on_host"] = json!(std::path::absolute(path).map_err(Failure::run)?);
    }
    if let Some(limiter) = limiter(drive.bw, drive.iops) {
        body["rate_limiter"] = json!(limiter);
    }
    target.send("PATCH", &format!("/drives/{}", id(&drive.id)?), &body)
}

fn change_net(target: &Target, net: &Net) -> Result<(), Failure> {
    let mut body = json!({ "iface_id": net.id });
    if let Some(limiter) = limiter(net.rx_bw, net.rx_pps) {
        body["rx_rate_limiter"] = json!(limiter);
    }
    if let Some(limiter) = limiter(net.tx_bw, net.tx_pps) {
        body["tx_rate_limiter"] = json!(limiter);
    }
    let path = format!("/network-interfaces/{}", id(&net.id)?);
    target.send("PATCH", &path, &body)
}

fn limiter(bandwidth: Option<TokenBucket>, ops: Option<TokenBucket>) -> Option<RateLimiter> {
    let some = bandwidth.is_some() || ops.is_some();
    some.then_some(RateLimiter { bandwidth, ops })
}

/// An id that stands in a path as it is.
fn id(text: &str) -> Result<&str, Failure> {
    let fits = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    match fits {
        true => Ok(text),
        false => Err(Failure::usage(format!(
            "`{}` is no device's id: letters, digits and `_` were expected, and `ravelin ctl NAME config` shows \
             the ids there are",
            plain(text)
        ))),
    }
}

/// Prints events until the VM ends, or whoever reads them.
fn follow(target: &Target, json: bool) -> Result<(), Failure> {
    let events = target.client.follow("/ravelin/events");
    for event in events.map_err(Failure::run)? {
        let line = line(&event.map_err(Failure::run)?, json);
        if io::stdout().write_all(line.as_bytes()).is_err() {
            break;
        }
    }
    Ok(())
}

/// An event as a line: JSON is one object, with the event's name as its `event`.
fn line(event: &Event, json: bool) -> String {
    let mut fields = match serde_json::from_str(&event.data) {
        Ok(Value::Object(fields)) => fields,
        Ok(other) => Map::from_iter([("data".to_owned(), other)]),
        Err(_) => Map::from_iter([("data".to_owned(), json!(event.data))]),
    };
    if json {
        fields.insert("event".to_owned(), json!(event.name));
        return format!("{}\n", Value::from(fields));
    }
    fields.remove("event");
    let mut line = plain(&event.name);
    for (key, value) in &fields {
        line.push_str(&format!(" {}={}", plain(key), words(value)));
    }
    line.push('\n');
    line
}

fn metadata(target: &Target, verb: Verb, file: Option<&Path>) -> Result<(), Failure> {
    let method = match (verb, file) {
        (Verb::Get, None) => {
            let data = target.client.get_json("/mmds").map_err(Failure::run)?;
            print(&format!("{data:#}\n"));
            return Ok(());
        }
        (Verb::Get, Some(_)) => {
            return Err(Failure::usage(
                "`mmds get` prints the metadata: it takes no file",
            ));
        }
        (Verb::Put, _) => "PUT",
        (Verb::Patch, _) => "PATCH",
    };
    target.send(method, "/mmds", &read_json(file.unwrap_or(Path::new("-")))?)
}

/// Reads JSON from a file, or from stdin for `-`.
fn read_json(path: &Path) -> Result<Value, Failure> {
    let name = match path.to_str() {
        Some("-") => "stdin".to_owned(),
        _ => format!("the file {}", path.display()),
    };
    let text = read_some(path).map_err(|error| {
        Failure::run(format!(
            "{name} cannot be read ({error}): name a file with JSON"
        ))
    })?;
    if text.len() as u64 > LONGEST_METADATA {
        return Err(Failure::usage(format!(
            "{name} has more than {LONGEST_METADATA} bytes, which is more than any metadata"
        )));
    }
    serde_json::from_slice(&text)
        .map_err(|error| Failure::usage(format!("{name} is not JSON: {error}")))
}

fn read_some(path: &Path) -> io::Result<Vec<u8>> {
    let source: Box<dyn Read> = match path.to_str() {
        Some("-") => Box::new(io::stdin()),
        _ => Box::new(File::open(path)?),
    };
    let mut text = Vec::new();
    source.take(LONGEST_METADATA + 1).read_to_end(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(data: &str) -> Event {
        Event {
            name: "exit".to_owned(),
            data: data.to_owned(),
        }
    }

    #[test]
    fn an_event_is_a_line_of_words_or_of_json() {
        let exit = event(r#"{"event":"exit","reason":"power off","status":0}"#);
        assert_eq!(line(&exit, false), "exit reason=power off status=0\n");
        let json = "{\"event\":\"exit\",\"reason\":\"power off\",\"status\":0}\n";
        assert_eq!(line(&exit, true), json);
    }

    #[test]
    fn an_event_that_is_not_json_is_shown_as_it_is_and_stays_one_line() {
        assert_eq!(line(&event("a\nb"), false), "exit data=a\\nb\n");
        assert_eq!(line(&event("a\nb"), true).lines().count(), 1);
    }

    #[test]
    fn an_id_leads_to_no_other_path() {
        assert!(id("data_1").is_ok());
        for text in ["", "../actions", "a b", "a?b", "é"] {
            assert!(id(text).is_err(), "{text}");
        }
    }
}
