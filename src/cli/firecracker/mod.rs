//! Firecracker's command line, for a ravelin that is called `firecracker` or by that subcommand.

mod flags;
mod snapshot;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Command;
use log::LevelFilter;
use vmm::sandbox::Mode;

use super::grammar::{ArgError, Given, Grammar, Request, help, text};
use super::id::instance_id;
use super::print;
use crate::api::FIRECRACKER_VERSION;
use crate::failure::{Failure, chain};
use crate::logger;
use crate::serve::launch::{
    ANONYMOUS, Face, First, Launch, Listen, LogSettings, PAYLOAD_LIMIT, ProcessTimes, Socket,
};
use crate::serve::ready::Ready;
use crate::serve::serve;

/// Firecracker's command line.
const GRAMMAR: Grammar = Grammar {
    flags: &flags::FLAGS,
    needs: &[("no-api", "config-file")],
    apart: &[("no-seccomp", "seccomp-filter")],
};
/// Exit status: something failed.
const GENERIC: u8 = 1;
/// Exit status: a configuration is wrong.
const BAD_CONFIGURATION: u8 = 152;
/// Exit status: the command line is wrong.
const BAD_ARGUMENTS: u8 = 153;

/// Why no VM was started, or why it broke off.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("Arguments parsing error: {0} \n\nFor more information try --help.")]
    Arguments(#[from] ArgError),
    #[error(
        "Invalid value for logger level: Failed to parse string to level filter: {0}.Possible values: [Error, Warning, Info, Debug]"
    )]
    Level(String),
    #[error("When printing Snapshot Data format: {0}")]
    Snapshot(#[from] snapshot::SnapshotError),
    /// A filter for Firecracker's threads and system calls would kill ravelin's; not to apply it would leave
    /// its user with less than was asked for.
    #[error(
        "Seccomp error: the filter {0} was made for Firecracker's own threads and system calls and this program's \
         differ: leave --seccomp-filter out"
    )]
    Seccomp(String),
    #[error("{0}")]
    Run(String),
    #[error("{0}")]
    Configuration(String),
}

impl Refusal {
    /// Says why, in the log, on stderr and with the exit status.
    fn report(&self) -> ExitCode {
        let status = self.status();
        let last = format!("Firecracker exiting with error. exit_code={status}");
        match self {
            // The log was set up for these.
            Self::Run(_) | Self::Configuration(_) => {
                log::error!("{self}");
                log::error!("{last}");
            }
            _ => print(&format!("{}{}", line(&self.to_string()), line(&last))),
        }
        // A stderr that is gone stops nothing.
        let _ = writeln!(io::stderr(), "Error: {self}");
        ExitCode::from(status)
    }

    fn status(&self) -> u8 {
        match self {
            Self::Arguments(_) => BAD_ARGUMENTS,
            Self::Level(_) | Self::Configuration(_) => BAD_CONFIGURATION,
            Self::Snapshot(_) | Self::Seccomp(_) | Self::Run(_) => GENERIC,
        }
    }
}

/// The subcommand's flags, for help, completions and man pages.
pub(super) fn command() -> Command {
    flags::command()
}

/// Does what a command line without its program's name asks for.
pub(super) fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    match run(args) {
        Ok(code) => code,
        Err(refusal) => refusal.report(),
    }
}

fn run(args: impl Iterator<Item = OsString>) -> Result<ExitCode, Refusal> {
    match ask(args)? {
        Asked::Answered(code) => Ok(code),
        Asked::Launch(launch) => serve(*launch).map_err(|failure| match failure {
            Failure::Usage(error) => Refusal::Configuration(chain(error.as_ref())),
            Failure::Run(error) => Refusal::Run(chain(error.as_ref())),
        }),
    }
}

/// What a command line asks for.
enum Asked {
    /// A word, which was given.
    Answered(ExitCode),
    /// A VM.
    Launch(Box<Launch>),
}

/// Not inlined: what it needs of the stack would stay there, and in memory, as long as the guest runs.
#[inline(never)]
fn ask(args: impl Iterator<Item = OsString>) -> Result<Asked, Refusal> {
    let args = args.map(text).collect::<Result<Vec<_>, _>>()?;
    let given = match GRAMMAR.parse(&args)? {
        Request::Help => {
            let help = format!("{}{}", version(), help(&flags::FLAGS));
            return Ok(Asked::Answered(answer(&help)));
        }
        Request::Version => return Ok(Asked::Answered(answer(&version()))),
        Request::Flags(given) => given,
    };
    if given.has("snapshot-version") {
        return Ok(Asked::Answered(answer(&format!(
            "v{}\n",
            snapshot::VERSION
        ))));
    }
    if let Some(path) = given.value("describe-snapshot") {
        let version = format!("v{}\n", snapshot::describe(path)?);
        return Ok(Asked::Answered(answer(&version)));
    }
    Ok(Asked::Launch(Box::new(read(&given)?)))
}

fn version() -> String {
    format!("Firecracker v{FIRECRACKER_VERSION}\n\n")
}

/// Prints what was asked for, and the log line that a reader of Firecracker's output finds below it.
fn answer(text: &str) -> ExitCode {
    print(text);
    print(&line("Firecracker exiting successfully. exit_code=0"));
    ExitCode::SUCCESS
}

/// A log line of before the log is set up.
fn line(text: &str) -> String {
    format!("{} [{ANONYMOUS}:main] {text}\n", logger::nanoseconds())
}

/// The VM that the flags describe.
fn read(given: &Given) -> Result<Launch, Refusal> {
    let payload_limit = given
        .number("http-api-max-payload-size")?
        .unwrap_or(PAYLOAD_LIMIT);
    let path = |name| given.value(name).map(PathBuf::from);
    let socket = |path| Socket {
        listen: Listen::Path(path),
        mode: None,
        allowed_uids: Vec::new(),
        payload_limit,
    };
    if let Some(filter) = given.value("seccomp-filter") {
        return Err(Refusal::Seccomp(filter.to_owned()));
    }
    Ok(Launch {
        face: Face::Firecracker,
        id: id(given.value("id").unwrap_or(ANONYMOUS))?,
        api: path("api-sock")
            .filter(|_| !given.has("no-api"))
            .map(socket),
        first: First {
            config_file: path("config-file"),
            metadata: path("metadata"),
            boot_timer: given.has("boot-timer"),
            mmds_size_limit: given.number("mmds-size-limit")?.unwrap_or(payload_limit),
        },
        log: LogSettings {
            path: path("log-path"),
            level: given.value("level").map(level).transpose()?,
            module: given.value("module").map(str::to_owned),
            show_level: given.has("show-level"),
            show_origin: given.has("show-log-origin"),
        },
        metrics_path: path("metrics-path"),
        times: ProcessTimes {
            start_us: given.number("start-time-us")?,
            start_cpu_us: given.number("start-time-cpu-us")?,
            parent_cpu_us: given.number("parent-cpu-time-us")?,
        },
        // A service manager's socket is not Firecracker's to use.
        ready: Ready::default(),
        seccomp: seccomp(given),
        in_cell: false,
        warnings: warnings(given),
    })
}

fn warnings(given: &Given) -> Vec<String> {
    let mut warnings = Vec::new();
    if given.has("enable-pci") {
        warnings.push("--enable-pci: this version has no PCI: all devices are on MMIO".to_owned());
    }
    if seccomp(given) == Mode::Off {
        warnings.push(
            "--no-seccomp: no system call is forbidden to this process: whoever breaks out of the guest may ask the \
             kernel for anything"
                .to_owned(),
        );
    }
    warnings
}

/// What becomes of a system call that no filter lists.
fn seccomp(given: &Given) -> Mode {
    match given.has("no-seccomp") {
        true => Mode::Off,
        false => Mode::Kill,
    }
}

fn id(text: &str) -> Result<String, ArgError> {
    match instance_id(text) {
        Ok(()) => Ok(text.to_owned()),
        Err(why) => Err(ArgError::Value("id", text.to_owned(), why.to_string())),
    }
}

/// A level by one of its names, in any case.
fn level(text: &str) -> Result<LevelFilter, Refusal> {
    let name = match text {
        _ if text.eq_ignore_ascii_case("warning") => "warn",
        _ => text,
    };
    name.parse().map_err(|_| Refusal::Level(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launch(line: &str) -> Result<Launch, Refusal> {
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        match GRAMMAR.parse(&args)? {
            Request::Flags(given) => read(&given),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_bare_command_line_is_a_vm_with_the_default_socket() {
        let launch = launch("").unwrap();
        assert_eq!(launch.id, "anonymous-instance");
        let Some(Socket {
            listen: Listen::Path(path),
            payload_limit,
            ..
        }) = launch.api
        else {
            panic!("no path");
        };
        assert_eq!(path, PathBuf::from("/run/firecracker.socket"));
        assert_eq!(payload_limit, 51_200);
        assert_eq!(launch.first.mmds_size_limit, 51_200);
    }

    #[test]
    fn the_metadata_store_is_as_large_as_a_request_unless_said_otherwise() {
        let limits = |line| launch(line).unwrap().first.mmds_size_limit;
        assert_eq!(limits("--http-api-max-payload-size 100"), 100);
        assert_eq!(
            limits("--http-api-max-payload-size 100 --mmds-size-limit 7"),
            7
        );
    }

    #[test]
    fn without_an_api_there_is_no_socket() {
        let launch = launch("--no-api --config-file vm.json --api-sock x").unwrap();
        assert!(launch.api.is_none());
        assert_eq!(launch.first.config_file, Some("vm.json".into()));
    }

    #[test]
    fn what_the_jailer_says_of_times_is_kept() {
        let line = "--start-time-us 1 --start-time-cpu-us 2 --parent-cpu-time-us 3";
        let times = ProcessTimes {
            start_us: Some(1),
            start_cpu_us: Some(2),
            parent_cpu_us: Some(3),
        };
        assert_eq!(launch(line).unwrap().times, times);
    }

    #[test]
    fn levels_read_in_any_case() {
        for (text, level) in [
            ("Error", LevelFilter::Error),
            ("WARNING", LevelFilter::Warn),
            ("warn", LevelFilter::Warn),
            ("info", LevelFilter::Info),
            ("Off", LevelFilter::Off),
        ] {
            assert_eq!(
                launch(&format!("--level {text}")).unwrap().log.level,
                Some(level)
            );
        }
    }

    #[test]
    fn each_refusal_has_its_exit_status() {
        let long = format!("--id {}", "a".repeat(65));
        for (line, status) in [
            ("--id a_b", 153),
            (&long, 153),
            ("--start-time-us x", 153),
            ("--mmds-size-limit -1", 153),
            ("--level loud", 152),
            ("--seccomp-filter f", 1),
        ] {
            assert_eq!(launch(line).unwrap_err().status(), status, "{line}");
        }
    }

    #[test]
    fn what_is_accepted_without_effect_is_warned_of() {
        assert!(launch("").unwrap().warnings.is_empty());
        let warnings = launch("--enable-pci --no-seccomp").unwrap().warnings;
        assert!(warnings[0].contains("MMIO") && warnings[1].contains("--no-seccomp"));
    }
}
