//! `ravelin run`: flags -> spec -> a guest and its console.

mod args;
mod config;

use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use vmm::controller::{Controller, Draft, StartError};
use vmm::mmds::{self, Mmds};
use vmm::spec::Spec;

pub(super) use self::args::Args;
use self::args::Console;
use crate::cli::image::{self, Around};
use crate::cli::jail::{Place, Told};
use crate::console::progress::Progress;
use crate::console::sink::Sink;
use crate::failure::{self, Failure};
use crate::jail::cell::WallSet;
use crate::logger;
use crate::registry::{self, Registration, Registry};
use crate::serve::launch::{Face, Socket};
use crate::serve::{Door, OpenDoor};
use crate::session::{
    LastWord, Manners, ProcessHost, Session, Signals, Surroundings, Suspicion, last_word,
};
use crate::warden::{Charge, watch};

/// Runs the subcommand.
///
/// # Errors
/// What kept the guest from starting, or broke it off.
#[inline(never)]
pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    if let (Some(image), None) = (&args.image.image, &args.image.made) {
        let around = Around {
            kernel: args.kernel.as_deref(),
            command: &args.command,
            quiet: args.quiet,
            on_console: args.console == Console::Tty,
        };
        return image::boot(&args.image, image, &around).map(|never| match never {});
    }
    if args.print_config {
        start_log(args)?;
        return print(&config::spec(args)?);
    }
    match args.jail.place(args.quiet)? {
        Place::Outside(walls) => {
            let _entered = enter(args)?;
            watch(charge(args, walls))
        }
        Place::Monitor(told) => monitor(args, &told),
    }
}

/// Says what the VM is made of, and enters it among those that run if its socket will not: a VM of an image is listed
/// also without one, to be replaced when its image is.
fn enter(args: &Args) -> Result<Option<Registration>, Failure> {
    let kernel = args.kernel.as_ref();
    let made = args.image.made.as_ref();
    let kernel = kernel
        .or(made.map(|made| &made.kernel))
        .map(|path| path.display().to_string());
    registry::say_origin(kernel, made.map(image::Made::origin));
    if made.is_none() || args.api_sock.is_some() {
        return Ok(None);
    }
    let vm = registry::vm_of(std::process::id(), &args.id(), None, None);
    Registry::of_this_user()
        .enter(&vm)
        .map(Some)
        .map_err(Failure::run)
}

/// What the warden is to do.
fn charge(args: &Args, walls: WallSet) -> Charge {
    let owner = Socket::at;
    let socket = args.api_sock.as_deref().map(owner);
    Charge {
        socket: socket.map(|socket| (socket.listen, socket.mode)),
        has_input: args.has_input(),
        speaker: args.name.clone(),
        ..args.jail.charge(args.id(), walls, args.quiet)
    }
}

/// The guest, from its files to its last word. Not inlined: the warden's stack, which stays in memory as long as the guest
/// runs, has no need of it.
#[inline(never)]
fn monitor(args: &Args, told: &Told) -> Result<ExitCode, Failure> {
    let (mut session, door) = begin(args, told)?;
    let last = attend(&mut session);
    session.tell_end(last.as_ref());
    drop(session);
    door.into_iter().for_each(OpenDoor::close);
    Ok(ExitCode::from(last?.status))
}

/// The guest's session, and its socket. Not inlined: what it needs of the stack would stay in memory as long as the guest
/// runs.
#[inline(never)]
fn begin(args: &Args, told: &Told) -> Result<(Session, Option<OpenDoor>), Failure> {
    start_log(args)?;
    let mut spec = config::spec(args)?;
    config::tell_of_terminal(&mut spec, args, told.term.as_deref()).map_err(Failure::usage)?;
    let mut draft = Draft::new(spec, args.protocol.into()).map_err(Failure::usage)?;
    let sandbox = args.sandbox(told.in_cell);
    draft.confine(sandbox);
    failure::panic_in_words_of(sandbox.mode);
    let id = told.name.clone().unwrap_or_else(|| args.id());
    let open = |path: &PathBuf| Door::open(&id, Face::Ravelin, Socket::at(path));
    let (door, mailbox) = args.api_sock.as_ref().map(open).transpose()?.unzip();
    let (host, sinks) = ProcessHost::new(door.as_ref().map(Door::watch));
    let surroundings = Surroundings {
        sink: sink(&args.console)?,
        sinks,
        has_input: args.has_input(),
        // Before the first thread starts: the threads inherit which signals wait for the event loop.
        signals: Signals::take().map_err(Failure::run)?,
        progress: Progress::new(!args.quiet),
        timeout: args.timeout,
        manners: Manners::Attended { quiet: args.quiet },
        suspicion: Suspicion::of_host(!args.quiet),
    };
    let mmds = Mmds::new(mmds::DEFAULT_LIMIT).map_err(Failure::run)?;
    let mut controller = Controller::new(id, draft, mmds, Box::new(host));
    controller.connect().map_err(Failure::run)?;
    let mut session = Session::new(controller, mailbox, surroundings);
    let process = session.controller().metrics().process().clone();
    // No thread can be started once the guest runs: what is asked meanwhile waits for the boot.
    let door = door.map(|door| door.serve(&process, sandbox)).transpose()?;
    Ok((session, door))
}

/// The guest from its start to its last word.
fn attend(session: &mut Session) -> Result<LastWord, Failure> {
    session.start().map_err(|error| failure(*error))?;
    let (ending, finish) = session.serve().map_err(Failure::run)?;
    last_word(ending, finish, session.suspicion())
}

fn print(spec: &Spec) -> Result<ExitCode, Failure> {
    let mut text = serde_json::to_string_pretty(spec).map_err(Failure::run)?;
    text.push('\n');
    match io::stdout().write_all(text.as_bytes()) {
        // Who reads the start only has read what it wanted.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::run(format!(
            "the configuration cannot be written to stdout: {error}"
        ))),
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn start_log(args: &Args) -> Result<(), Failure> {
    let path = args.log_file.as_deref();
    logger::init(args.level(), path, args.name.as_deref()).map_err(|error| {
        let path = path.unwrap_or("".as_ref()).display();
        Failure::run(format!(
            "the log file {path} cannot be opened ({error}): name a file that this user may write, in a \
             directory that exists"
        ))
    })
}

/// Opens where the guest's output goes: before the guest, which would run already while its user reads
/// that it cannot be heard.
fn sink(console: &Console) -> Result<Sink, Failure> {
    match console {
        Console::Tty => Sink::stdout().map_err(Failure::run),
        Console::Off => Ok(Sink::nowhere()),
        Console::File(path) => Sink::file(path).map_err(|error| {
            let path = path.display();
            Failure::run(format!(
                "the console file {path} cannot be written ({error}): name a file that this user may write, \
                 in a directory that exists"
            ))
        }),
    }
}

/// A start that failed: where KVM was the reason, in the words of the host's examination.
fn failure(error: StartError) -> Failure {
    if error.is_of_the_description() {
        return Failure::usage(error);
    }
    let explained = error.is_of_kvm().then(vmm::host::explain).flatten();
    match explained {
        Some(sentence) => Failure::run(sentence),
        None => Failure::run(error),
    }
}
