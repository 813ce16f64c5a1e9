//! A VM with a socket: the socket's thread beside the session, from the first request to the last.

mod door;
mod entrance;
mod first;
mod last;
pub(crate) mod launch;
pub(crate) mod ready;

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use log::LevelFilter;
use vmm::controller::{Controller, Draft, ThreadNames};
use vmm::mmds::Mmds;
use vmm::sandbox::Sandbox;

pub(crate) use self::door::{Door, OpenDoor};
pub(crate) use self::entrance::Entrance;
use self::launch::{Face, Launch};
use crate::api::FIRECRACKER_VERSION;
use crate::console::progress::Progress;
use crate::console::sink::Sink;
use crate::console::terminal;
use crate::failure::{self, Failure};
use crate::logger;
use crate::session::{
    Ending, LastWord, Manners, ProcessHost, Session, Signals, Surroundings, Suspicion,
};

/// Starts the VM and serves its socket to its end.
///
/// # Errors
/// What kept it from starting: [`Failure::Usage`] when the description is wrong, else [`Failure::Run`].
pub(crate) fn serve(mut launch: Launch) -> Result<ExitCode, Failure> {
    start_log(&launch)?;
    let face = launch.face;
    let (mut session, door) = begin(&mut launch)?;
    launch.ready.announce();
    let outcome = attend(&mut session, &launch);
    launch.ready.stopping();
    session.tell_end(outcome.as_ref().map(|(_, last)| last));
    // In this order, also after a failure: who still asks is told that the guest has ended, and gets to read it.
    drop(session);
    door.into_iter().for_each(OpenDoor::close);
    let (ending, last) = outcome?;
    Ok(last::leave(face, ending, last.status))
}

/// The VM's session, and its socket. Not inlined: what it needs of the stack would stay in memory as long as the guest
/// runs.
#[inline(never)]
fn begin(launch: &mut Launch) -> Result<(Session, Option<OpenDoor>), Failure> {
    // Before the socket takes anybody, who may send one at once, and before the first thread starts: the threads inherit
    // which signals wait for the event loop.
    let signals = Signals::take().map_err(Failure::run)?;
    let open = |socket| Door::open(&launch.id, launch.face, socket);
    let (door, mailbox) = launch.api.take().map(open).transpose()?.unzip();
    let (host, sinks) = ProcessHost::new(door.as_ref().map(Door::watch));
    let around = Surroundings {
        sink: Sink::stdout().map_err(Failure::run)?,
        sinks,
        has_input: terminal::may_be_read(),
        signals,
        progress: Progress::new(false),
        timeout: None,
        manners: manners(launch.face),
        suspicion: Suspicion::of_host(false),
    };
    let mut session = Session::new(controller(launch, host)?, mailbox, around);
    let process = session.controller().metrics().process().clone();
    launch.times.tell(&process.api_server);
    let door = door
        .map(|door| door.serve(&process, sandbox(launch)))
        .transpose()?;
    Ok((session, door))
}

/// The VM from its first files to its last word.
fn attend(session: &mut Session, launch: &Launch) -> Result<(Ending, LastWord), Failure> {
    first::apply(session, launch)?;
    let (ending, finish) = session.serve().map_err(Failure::run)?;
    Ok((
        ending,
        last::word(launch.face, ending, finish, session.suspicion())?,
    ))
}

fn start_log(launch: &Launch) -> Result<(), Failure> {
    let settings = &launch.log;
    match launch.face {
        Face::Ravelin => {
            let level = settings.level.unwrap_or(LevelFilter::Warn);
            logger::init(level, settings.path.as_deref(), Some(&launch.id)).map_err(|error| {
                let path = settings.path.as_deref().unwrap_or("".as_ref()).display();
                Failure::run(format!(
                    "the log file {path} cannot be opened ({error}): name a file that this user may write, in a \
                     directory that exists"
                ))
            })?;
        }
        Face::Firecracker => {
            logger::firecracker(&launch.id);
            logger::reconfigure(&settings.config()).map_err(Failure::run)?;
            log::info!("Running Firecracker v{FIRECRACKER_VERSION}");
        }
    }
    for warning in &launch.warnings {
        log::warn!("{warning}");
    }
    Ok(())
}

fn manners(face: Face) -> Manners {
    match face {
        Face::Ravelin => Manners::Polite,
        Face::Firecracker => Manners::Obedient,
    }
}

/// How the VM's process is confined.
fn sandbox(launch: &Launch) -> Sandbox {
    Sandbox {
        mode: launch.seccomp,
        has_socket: true,
        in_cell: launch.in_cell,
        has_terminal: io::stdin().is_terminal(),
    }
}

fn controller(launch: &Launch, host: ProcessHost) -> Result<Controller, Failure> {
    let names = match launch.face {
        Face::Ravelin => ThreadNames::default(),
        Face::Firecracker => ThreadNames { vcpu: "fc_vcpu " },
    };
    let mmds = Mmds::new(launch.first.mmds_size_limit).map_err(Failure::run)?;
    let mut draft = Draft::with_threads(names);
    draft.confine(sandbox(launch));
    failure::panic_in_words_of(launch.seccomp);
    if launch.first.boot_timer {
        draft.time_boot();
    }
    let id = launch.id.clone();
    Ok(Controller::new(id, draft, mmds, Box::new(host)))
}
