//! The last steps before a process's own program: from here on everything is the container's.

use std::convert::Infallible;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::fs::{Gid, Mode, Uid, fchown};
use rustix::process::{chdir, setsid, umask};
use rustix::thread::set_no_new_privs;

use super::console::Terminal;
use super::{During, RunError, identity, seccomp};
use crate::line::{Inner, Word};
use crate::spec::{Process, Seccomp};

/// Status of a command that does not exist, and of one that cannot be executed, as a shell has them.
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;
/// The mask of a process that asks for none.
const MASK: u32 = 0o022;
/// Where a program is looked for if the process has no PATH.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Makes this process what it is to be, says that it is ready, waits for the start, and runs the program.
pub(super) fn run(
    process: &Process,
    filter: Option<&Seccomp>,
    terminal: Option<Terminal>,
    line: &Inner,
) -> Result<Infallible, RunError> {
    setsid().during("begin a session")?;
    if let Some(terminal) = terminal {
        let outer = terminal
            .outer
            .try_clone()
            .during("give the terminal to the agent")?;
        line.say(&Word::Terminal(outer));
        terminal.take()?;
    }
    own_streams(process);
    identity::limits(process)?;
    let filters = filter.map(seccomp::compile).transpose();
    let filters = filters.during("make the filter of system calls")?;
    chdir(process.cwd.as_str()).during(format!("enter {}", process.cwd))?;
    let mut command = command(process);
    umask(Mode::from_raw_mode(process.user.umask.unwrap_or(MASK)));
    line.say(&Word::Ready);
    if !line.hear() {
        std::process::exit(1);
    }
    if process.no_new_privileges {
        identity::become_user(process)?;
        set_no_new_privs(true).during("allow no new privileges")?;
        seccomp::install(filters.as_ref())?;
    } else {
        // A filter needs rights that the process may not have later.
        seccomp::install(filters.as_ref())?;
        identity::become_user(process)?;
    }
    let error = command.exec();
    let (status, reason) = explain(&process.args[0], &error);
    line.say(&Word::Failed(status, reason));
    std::process::exit(status.into())
}

/// Gives the standard streams to the process's user: /dev/stdout is opened anew by many a program.
fn own_streams(process: &Process) {
    let user = (process.user.uid != 0).then(|| Uid::from_raw(process.user.uid));
    if user.is_none() {
        return;
    }
    let (input, output, error) = (
        rustix::stdio::stdin(),
        rustix::stdio::stdout(),
        rustix::stdio::stderr(),
    );
    for stream in [input, output, error] {
        // /dev/null is nobody's, and a process that opens nothing anew does not miss it.
        let is_null =
            rustix::fs::fstat(stream).is_ok_and(|found| found.st_rdev == rustix::fs::makedev(1, 3));
        if !is_null {
            let _ = fchown(stream, user, None::<Gid>);
        }
    }
}

fn command(process: &Process) -> Command {
    let mut command = Command::new(&process.args[0]);
    command.args(&process.args[1..]).env_clear();
    let default = [PATH.to_owned(), format!("HOME={}", home(process.user.uid))];
    // The later of two stands.
    for pair in default.iter().chain(&process.env) {
        if let Some((name, value)) = pair.split_once('=')
            && !name.is_empty()
        {
            command.env(name, value);
        }
    }
    command
}

/// The user's home by the container's /etc/passwd.
fn home(user: u32) -> String {
    /// What of the file is read, bytes.
    const MOST: u64 = 1 << 20;
    let read = || {
        let file = std::fs::File::open("/etc/passwd").ok()?;
        let mut text = String::new();
        io::Read::read_to_string(&mut io::Read::take(file, MOST), &mut text).ok()?;
        home_in(&text, user)
    };
    read().unwrap_or_else(|| if user == 0 { "/root" } else { "/" }.into())
}

fn home_in(passwd: &str, user: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let is_it = fields.get(2)?.parse() == Ok(user);
        let home = fields.get(5).filter(|home| home.starts_with('/'))?;
        is_it.then(|| (*home).to_owned())
    })
}

/// Why the program does not run, and which status that is.
fn explain(program: &str, error: &io::Error) -> (u8, String) {
    let (status, reason) = match error.kind() {
        io::ErrorKind::NotFound if program.contains('/') && Path::new(program).exists() => (
            NOT_FOUND,
            "its interpreter or loader is missing in the container".into(),
        ),
        io::ErrorKind::NotFound => (NOT_FOUND, "the container has no such file".into()),
        io::ErrorKind::PermissionDenied => (NOT_EXECUTABLE, "it is not executable".into()),
        _ => (NOT_EXECUTABLE, error.to_string()),
    };
    (status, format!("cannot run {program}: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_is_the_sixth_field_of_the_users_line() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\n\nbad\nweb:x:33:33::/var/www:/bin/false\nx:x:7:7::rel:/\n";
        assert_eq!(home_in(passwd, 33).as_deref(), Some("/var/www"));
        assert_eq!(home_in(passwd, 0).as_deref(), Some("/root"));
        assert_eq!(home_in(passwd, 7), None);
        assert_eq!(home_in(passwd, 1000), None);
    }

    #[test]
    fn a_missing_program_is_127_and_one_that_is_no_program_126() {
        let status = |kind: io::ErrorKind| explain("x", &kind.into()).0;
        assert_eq!(status(io::ErrorKind::NotFound), 127);
        assert_eq!(status(io::ErrorKind::PermissionDenied), 126);
        assert_eq!(
            explain("x", &io::Error::from_raw_os_error(libc::ENOEXEC)).0,
            126
        );
    }
}
