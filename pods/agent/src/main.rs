//! The first process of a guest that runs containers.
//!
//! Booted as `/init` of an initramfs it takes a root of its own and then either runs the one container that
//! `/ravelin/config.json` describes, on the console, or serves the host over vsock ([`protocol`]).

mod boot;
mod cgroup;
mod disk;
mod error;
mod events;
mod exits;
mod files;
mod line;
mod pod;
mod poll;
mod process;
mod raw;
mod run;
mod serve;
mod service;
mod setup;
mod signals;
mod spec;
mod standalone;
mod streams;

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use guest_init::kmsg;
use guest_init::power::{self, Ending};
use rustix::process::{Pid, getpid, set_child_subreaper};

use events::Events;
use exits::Exits;
use pod::{Places, Pod};

fn main() -> ExitCode {
    kmsg::speak_as("ravelin-agent");
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let mode = arguments.first().and_then(|word| word.to_str());
    match (mode, getpid() == Pid::INIT) {
        (Some(run::MODE), false) => run::main(&arguments[1..]),
        (Some(boot::SETTLED), true) => be_first(),
        (_, true) => match boot::settle() {
            Ok(never) => match never {},
            Err(error) => {
                kmsg::error(&error);
                power::end(Ending::PowerOff { status: 1 })
            }
        },
        (Some("try"), false) if arguments.len() == 2 => try_out(Path::new(&arguments[1])),
        _ => {
            eprintln!(
                "ravelin-agent is the first process of a guest, not a command: boot a kernel with it as /init of an \
                 initramfs; or try it out without a guest, as root: ravelin-agent try FOLDER"
            );
            ExitCode::from(2)
        }
    }
}

/// The first process, once it has its root.
fn be_first() -> ExitCode {
    let ending = boot::furnish()
        .map_err(|error| error.to_string())
        .and_then(|places| in_runtime(guest(places)).map_err(|error| error.to_string()))
        .unwrap_or_else(|error| {
            kmsg::error(&error);
            Ending::PowerOff { status: 1 }
        });
    power::end(ending)
}

async fn guest(places: Places) -> io::Result<Ending> {
    let pod = pod(places)?;
    let config = Path::new(boot::GIVEN).join("config.json");
    let work = async {
        if config.exists() {
            let status = standalone::run(&pod, &config).await;
            return Ok(Ending::PowerOff { status });
        }
        serve::vsock(Arc::clone(&pod)).await?;
        Ok(Ending::PowerOff { status: 0 })
    };
    tokio::select! {
        ending = work => ending,
        ending = signals::ending() => ending,
    }
}

/// The same agent on a machine that is no guest: it serves Unix sockets in a folder, has no cgroups, and the disks are
/// the folders in `FOLDER/roots`.
fn try_out(folder: &Path) -> ExitCode {
    let serve = async {
        // Processes whose parent has ended become its own, as if it were the first.
        set_child_subreaper(Some(Pid::INIT))?;
        let pod = pod(Places {
            containers: folder.join("containers"),
            files: folder.join("files"),
            given: folder.join("given"),
            cgroup: None,
            folders: Some(folder.join("roots")),
        })?;
        serve::unix(Arc::clone(&pod), folder).await?;
        for name in pod.names() {
            // It is about to be gone.
            let _ = pod.remove(&name, "").await;
        }
        Ok(())
    };
    match in_runtime(serve) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ravelin-agent: {error}");
            ExitCode::FAILURE
        }
    }
}

fn pod(places: Places) -> io::Result<Arc<Pod>> {
    let exits = Arc::new(Exits::default());
    exits.watch()?;
    let events = Events::new()?;
    Ok(Arc::new(Pod::new(places, exits, events)))
}

/// Runs on this thread, and no other.
fn in_runtime<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(work)
}
