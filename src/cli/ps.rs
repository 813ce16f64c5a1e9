//! `ravelin ps`: the VMs that run.

use std::process::ExitCode;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::client::Client;
use super::image;
use super::print;
use super::style::{Cell, Style};
use crate::failure::Failure;
use crate::registry::{Registry, Vm};

/// How long a VM may take to say how it is.
const PATIENCE: Duration = Duration::from_millis(500);
/// How many are asked at a time.
const AT_ONCE: usize = 16;

/// List this user's VMs that run behind a socket, or of a container image
///
/// The state and the size are asked on their sockets.
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Print a JSON array of objects: {name, pid, state, vcpus, mem_size_mib, uptime_s, socket, kernel, image, digest},
    /// null for what is not known
    #[arg(long)]
    json: bool,
    /// List only VMs of container images whose names mean something else by now: each registry is asked
    #[arg(long)]
    outdated: bool,
}

const AFTER_HELP: &str = "\
A state of `no answer` is that of a VM whose socket is not served, or not within half a second. One without a
socket runs: it cannot be paused.

Examples:
  ravelin ps
  ravelin ps --outdated
  ravelin ps --json | jq -r '.[] | select(.state == \"Paused\") | .name'

What can be done with them: ravelin ctl --help";

/// How a VM is, as it says itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Shape {
    /// Firecracker's word for its state; none when it does not answer.
    pub(super) state: Option<String>,
    /// How many vCPUs it has.
    pub(super) vcpus: Option<u64>,
    /// Its memory in MiB.
    pub(super) mem_size_mib: Option<u64>,
    /// Its kernel.
    pub(super) kernel: Option<String>,
}

impl Shape {
    /// Asks a VM.
    pub(super) fn ask(client: &Client) -> Self {
        let Ok(instance) = client.get_json("/") else {
            return Self::default();
        };
        let machine = client.get_json("/machine-config").unwrap_or_default();
        let boot = client.get_json("/vm/config").unwrap_or_default()["boot-source"].take();
        Self {
            state: instance["state"].as_str().map(str::to_owned),
            vcpus: machine["vcpu_count"].as_u64(),
            mem_size_mib: machine["mem_size_mib"].as_u64(),
            kernel: boot["kernel_image_path"].as_str().map(str::to_owned),
        }
    }

    /// Of a VM that nobody can ask, and that nobody can pause.
    fn silent() -> Self {
        Self {
            state: Some("Running".to_owned()),
            ..Self::default()
        }
    }

    /// The state as a cell of a table.
    pub(super) fn cell(&self) -> Cell {
        match self.state.as_deref() {
            Some("Running") => Cell::from("Running").coloured("32"),
            Some("Paused") => Cell::from("Paused").coloured("33"),
            Some(other) => other.into(),
            None => Cell::from("no answer").coloured("1;31"),
        }
    }
}

/// Runs the subcommand.
///
/// # Errors
/// When the running VMs cannot be read.
#[inline(never)]
pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let mut vms = Registry::of_this_user().list().map_err(Failure::run)?;
    if args.outdated {
        vms.retain(is_outdated);
    }
    let shapes = ask(&vms);
    let rows = vms.iter().zip(&shapes);
    print(&match args.json {
        true => format!(
            "{:#}\n",
            rows.map(|(vm, shape)| object(vm, shape)).collect::<Value>()
        ),
        false => {
            let rows: Vec<_> = rows.map(|(vm, shape)| row(vm, shape)).collect();
            let headings = [
                "NAME", "PID", "STATE", "VCPUS", "MEM", "UPTIME", "KERNEL", "IMAGE", "SOCKET",
            ];
            Style::of_stdout().table(headings, &rows)
        }
    });
    Ok(ExitCode::SUCCESS)
}

/// Asks several at a time, so that those that hang are waited for together.
fn ask(vms: &[Vm]) -> Vec<Shape> {
    let mut shapes = Vec::new();
    for some in vms.chunks(AT_ONCE) {
        thread::scope(|scope| {
            let ask = |vm: &Vm| {
                let client = vm.socket.as_deref().map(|path| Client::new(path, PATIENCE));
                client.map_or_else(Shape::silent, |client| Shape::ask(&client))
            };
            let asked: Vec<_> = some.iter().map(|vm| scope.spawn(move || ask(vm))).collect();
            let answers = asked.into_iter().map(|one| one.join().unwrap_or_default());
            shapes.extend(answers);
        });
    }
    shapes
}

fn row(vm: &Vm, shape: &Shape) -> [Cell; 9] {
    let unknown = || "-".to_owned();
    let number = |number: Option<u64>, unit: &str| {
        number.map_or_else(unknown, |number| format!("{number}{unit}"))
    };
    let socket = vm.socket.as_deref();
    [
        vm.name.as_str().into(),
        vm.pid.into(),
        shape.cell(),
        number(shape.vcpus, "").into(),
        number(shape.mem_size_mib, "M").into(),
        uptime(age(vm)).into(),
        kernel(vm, shape)
            .map_or_else(unknown, |path| last(&path))
            .into(),
        vm.image
            .as_ref()
            .map_or_else(unknown, |image| short(&image.digest))
            .into(),
        socket
            .map_or_else(unknown, |path| path.display().to_string())
            .into(),
    ]
}

fn object(vm: &Vm, shape: &Shape) -> Value {
    json!({
        "name": vm.name,
        "pid": vm.pid,
        "state": shape.state,
        "vcpus": shape.vcpus,
        "mem_size_mib": shape.mem_size_mib,
        "uptime_s": age(vm),
        "socket": vm.socket,
        "kernel": kernel(vm, shape),
        "image": vm.image.as_ref().map(|image| &image.name),
        "digest": vm.image.as_ref().map(|image| &image.digest),
    })
}

/// Whether the name of its image means something else by now. What cannot be looked up is not outdated.
fn is_outdated(vm: &Vm) -> bool {
    let image = vm.image.as_ref();
    image.is_some_and(|image| image::digest(&image.name).is_some_and(|now| now != image.digest))
}

fn kernel(vm: &Vm, shape: &Shape) -> Option<String> {
    vm.kernel.clone().or_else(|| shape.kernel.clone())
}

/// The last part of a path.
fn last(path: &str) -> String {
    path.rsplit('/').next().unwrap_or(path).to_owned()
}

/// As much of a digest as tells people which one it is.
fn short(digest: &str) -> String {
    digest.chars().take("sha256:".len() + 12).collect()
}

/// How long a VM runs, in seconds.
pub(super) fn age(vm: &Vm) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default()
        .as_secs()
        .saturating_sub(vm.started_at)
}

/// Seconds as the two largest of their units.
pub(super) fn uptime(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, _, _) => format!("{hours}h {}m", minutes % 60),
        _ => format!("{days}d {}h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_its_two_largest_units() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (61, "1m 1s"),
            (3600, "1h 0m"),
            (90_061, "1d 1h"),
        ] {
            assert_eq!(uptime(seconds), text);
        }
    }
}
