//! A VM with a socket: the socket's thread beside the session, from the first request to the last.

mod first;
mod last;
pub(crate) mod launch;
pub(crate) mod ready;
mod server;

use std::process::ExitCode;

use log::LevelFilter;
use vmm::controller::{Controller, Draft, ThreadNames};
use vmm::events::Event;
use vmm::metrics::Process;
use vmm::mmds::Mmds;

use self::launch::{Face, Launch, Listen, ProcessTimes, Socket};
use self::server::ServerThread;
use crate::api::FIRECRACKER_VERSION;
use crate::api::http::{EventSink, EventSource, Limits, Listener, Server, events};
use crate::console::progress::Progress;
use crate::console::sink::Sink;
use crate::console::terminal;
use crate::failure::Failure;
use crate::logger;
use crate::registry::{self, Registration, Registry};
use crate::session::{
    Ending, LastWord, Mailbox, Manners, ProcessHost, Session, Signals, Surroundings, Watch, mailbox,
};

/// Starts the VM and serves its socket to its end.
///
/// # Errors
/// What kept it from starting: [`Failure::Usage`] when the description is wrong, else [`Failure::Run`].
pub(crate) fn serve(mut launch: Launch) -> Result<ExitCode, Failure> {
    start_log(&launch)?;
    let (face, id) = (launch.face, launch.id.clone());
    // Named before its socket is bound; the name is given up last.
    let _registration = register(&launch)?;
    let (sink, source) = events().map_err(Failure::run)?;
    let mut waiting = match launch.api.take() {
        None => None,
        Some(socket) => Some(listen(socket, source)?),
    };
    // Before the first thread starts: the threads inherit which signals wait for the event loop.
    let signals = Signals::take().map_err(Failure::run)?;
    let (host, sinks) = ProcessHost::new(Some(watch(sink)));
    let around = Surroundings {
        sink: Sink::stdout().map_err(Failure::run)?,
        sinks,
        has_input: terminal::may_be_read(),
        signals,
        progress: Progress::new(false),
        timeout: None,
        manners: manners(face),
    };
    let controller = controller(&launch, id, host)?;
    let (server, mailbox) = match waiting.take() {
        None => (None, None),
        Some(waiting) => {
            let (server, mailbox) =
                waiting.start(face, &launch.times, controller.metrics().process())?;
            (Some(server), Some(mailbox))
        }
    };
    launch.ready.announce();
    let mut session = Session::new(controller, mailbox, around);
    let ended = live(&mut session, &launch);
    launch.ready.stopping();
    tell_end(&mut session, &ended);
    drop(session);
    // Also after a failure: what was answered is written, and the socket's file is gone.
    if let Some(server) = server {
        server.stop();
    }
    let (ending, last) = ended?;
    Ok(last::leave(face, ending, last.status))
}

/// The VM's life, from what its command line says to its end.
fn live(session: &mut Session, launch: &Launch) -> Result<(Ending, LastWord), Failure> {
    first::apply(session, launch)?;
    let (ending, finish) = session.serve().map_err(Failure::run)?;
    Ok((ending, last::word(launch.face, ending, finish)?))
}

/// Says how it has ended to those who listen on the socket, and to the user; a failure the user hears later.
fn tell_end(session: &mut Session, ended: &Result<(Ending, LastWord), Failure>) {
    let (reason, exit_code) = match ended {
        Ok((_, last)) => (last.text.clone(), last.status),
        Err(failure) => (failure.text(), failure.status()),
    };
    session.controller().tell(&Event::Ended {
        reason: reason.clone(),
        exit_code,
    });
    if ended.is_ok() {
        session.say(&reason);
    }
}

/// A socket that accepts and is not served yet.
struct Waiting {
    server: Server,
}

impl Waiting {
    fn start(
        self,
        face: Face,
        times: &ProcessTimes,
        process: &Process,
    ) -> Result<(ServerThread, Mailbox), Failure> {
        times.tell(&process.api_server);
        let (caller, mailbox) = mailbox().map_err(Failure::run)?;
        let name = match face {
            Face::Ravelin => "api",
            Face::Firecracker => "fc_api",
        };
        let process = process.clone();
        let thread = ServerThread::start(self.server, caller, process, name)?;
        Ok((thread, mailbox))
    }
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

/// Enters the VM among those that run, where it is to be found there.
fn register(launch: &Launch) -> Result<Option<Registration>, Failure> {
    if launch.face == Face::Firecracker {
        return Ok(None);
    }
    let socket = launch.api.as_ref().and_then(|socket| socket.listen.path());
    let vm = registry::this_process(&launch.id, socket.as_deref(), None);
    let entered = Registry::of_this_user().enter(&vm);
    entered.map(Some).map_err(Failure::run)
}

fn listen(socket: Socket, events: EventSource) -> Result<Waiting, Failure> {
    let listener = match socket.listen {
        Listen::Path(path) => {
            let listener = Listener::bind(&path, socket.mode);
            log::info!("Listening on API socket ({path:?}).");
            listener
        }
        Listen::Fd(fd) => Listener::adopt(fd),
    };
    let limits = Limits {
        payload: socket.payload_limit,
        allowed_uids: (!socket.allowed_uids.is_empty()).then_some(socket.allowed_uids),
        ..Limits::default()
    };
    let listener = listener.map_err(Failure::run)?;
    let server = Server::new(listener, limits, Some(events)).map_err(Failure::run)?;
    Ok(Waiting { server })
}

/// Sends what happens to those who listen on the socket (HTML standard §9.2).
fn watch(sink: EventSink) -> Watch {
    Box::new(move |event| {
        let data = serde_json::to_string(event).unwrap_or_default();
        sink.send(format!("event: {}\ndata: {data}", event.name()));
    })
}

fn manners(face: Face) -> Manners {
    match face {
        Face::Ravelin => Manners::Polite,
        Face::Firecracker => Manners::Obedient,
    }
}

fn controller(launch: &Launch, id: String, host: ProcessHost) -> Result<Controller, Failure> {
    let names = match launch.face {
        Face::Ravelin => ThreadNames::default(),
        Face::Firecracker => ThreadNames { vcpu: "fc_vcpu " },
    };
    let mmds = Mmds::new(launch.first.mmds_size_limit).map_err(Failure::run)?;
    let mut draft = Draft::with_threads(names);
    if launch.first.boot_timer {
        draft.time_boot();
    }
    Ok(Controller::new(id, draft, mmds, Box::new(host)))
}
