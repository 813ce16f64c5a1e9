//! The console on a terminal, on a pipe, and in a file.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::process::Stdio;

use rustix::fs::{Mode, OFlags};
use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Termios, tcgetattr};

use crate::guest::{Guest, Running};
use crate::transcript::Transcript;

crate::tests!(
    TRIMMED => [
        ctrl_a_x_ends_the_guest_and_gives_130,
        ctrl_a_c_shows_the_keys_and_the_guest_goes_on,
        the_terminal_is_raw_while_a_guest_runs,
        the_terminal_is_as_before_after_a_power_off,
        the_terminal_is_as_before_after_a_second_sigterm,
        a_shell_reads_commands_from_a_pipe,
        what_is_typed_reaches_the_command,
        a_large_output_arrives_whole,
        the_console_goes_into_a_file,
        a_console_that_is_off_says_nothing,
        a_quiet_run_says_nothing_of_its_own,
    ],
);

/// Lives until a line is typed; its answer does not stand in the script, which some kernels print.
const ASKS: &str = "echo guest is waiting; read line; echo answer=$line; exit 4";

/// A terminal with a guest on it.
pub(crate) struct Terminal {
    keyboard: File,
    /// The guest's end, held open so that its settings outlive the guest.
    screen: OwnedFd,
    before: String,
}

impl Terminal {
    /// Starts a guest on a new terminal and waits for its question.
    pub(crate) fn with(guest: Guest) -> (Self, Running) {
        let keyboard = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&keyboard).unwrap();
        unlockpt(&keyboard).unwrap();
        let path = ptsname(&keyboard, Vec::new()).unwrap();
        // Not as the controlling terminal: its end would be this test's end.
        let flags = OFlags::RDWR | OFlags::NOCTTY;
        let screen = rustix::fs::open(path, flags, Mode::empty()).unwrap();
        let keyboard = File::from(keyboard);
        let said = Transcript::of(keyboard.try_clone().unwrap());
        let before = settings(&screen);
        let running = guest
            .script(ASKS)
            .start_on(|| Stdio::from(screen.try_clone().unwrap()), said);
        running.wait_for("guest is waiting");
        (
            Self {
                keyboard,
                screen,
                before,
            },
            running,
        )
    }

    pub(crate) fn press(&mut self, keys: &[u8]) {
        self.keyboard.write_all(keys).unwrap();
    }

    pub(crate) fn assert_as_before(&self) {
        assert_eq!(settings(&self.screen), self.before);
    }
}

fn attributes(terminal: &OwnedFd) -> Termios {
    tcgetattr(terminal).unwrap()
}

/// Everything that a terminal is set to, as text to compare.
fn settings(terminal: &OwnedFd) -> String {
    format!("{:?}", attributes(terminal))
}

fn ctrl_a_x_ends_the_guest_and_gives_130() {
    let (mut terminal, guest) = Terminal::with(Guest::trimmed());
    terminal.press(b"\x01x");
    guest.end().status(130).last_line("ended by its user");
    terminal.assert_as_before();
}

fn ctrl_a_c_shows_the_keys_and_the_guest_goes_on() {
    let (mut terminal, guest) = Terminal::with(Guest::trimmed());
    terminal.press(b"\x01c");
    guest.wait_for_error("Ctrl-A x  end the guest at once");
    terminal.press(b"still here\r");
    guest.end().said("answer=still here").status(4);
}

fn the_terminal_is_raw_while_a_guest_runs() {
    let (mut terminal, guest) = Terminal::with(Guest::trimmed());
    let modes = attributes(&terminal.screen).local_modes;
    assert!(
        !modes.intersects(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG),
        "{modes:?}"
    );
    // A key that would end ravelin on a terminal that is not raw.
    terminal.press(b"\x03");
    guest
        .end()
        .status(130)
        .last_line("its command's status was 130");
}

fn the_terminal_is_as_before_after_a_power_off() {
    let (mut terminal, guest) = Terminal::with(Guest::trimmed());
    terminal.press(b"\r");
    guest.end().status(4);
    terminal.assert_as_before();
}

fn the_terminal_is_as_before_after_a_second_sigterm() {
    // Without ACPI a guest has no power button to listen to.
    let (terminal, guest) = Terminal::with(Guest::trimmed().flag("--cmdline", "acpi=off"));
    guest.signal(Signal::TERM);
    guest.wait_for_error("pressed the guest's power button");
    guest.signal(Signal::TERM);
    guest.end().status(143);
    terminal.assert_as_before();
}

fn a_shell_reads_commands_from_a_pipe() {
    let mut guest = Guest::trimmed().start();
    guest.wait_for("# ");
    guest.type_line("echo product=$((6 * 7)); exit 9");
    guest.end().said("product=42").status(9);
}

fn what_is_typed_reaches_the_command() {
    let mut guest = Guest::trimmed().script(ASKS).start();
    guest.wait_for("guest is waiting");
    guest.type_line("a line from here");
    guest.end().said("answer=a line from here").status(4);
}

fn a_large_output_arrives_whole() {
    let outcome = Guest::trimmed().script("seq 1 2000; echo the end").run();
    let numbers = outcome
        .status(0)
        .console
        .lines()
        .filter_map(|line| line.parse::<u32>().ok());
    assert!(numbers.eq(1..=2000), "the output has gaps");
    outcome.said("the end");
}

fn the_console_goes_into_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("console.log");
    let flag = format!("file={}", path.display());
    let outcome = Guest::trimmed()
        .flag("--console", flag)
        .script("echo in a file")
        .run();
    assert_eq!(outcome.status(0).console, "", "{outcome}");
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.contains("in a file"), "{text}");
}

fn a_console_that_is_off_says_nothing() {
    let outcome = Guest::trimmed()
        .flag("--console", "off")
        .script("echo nobody hears this; exit 6")
        .run();
    assert_eq!(outcome.status(6).console, "", "{outcome}");
}

fn a_quiet_run_says_nothing_of_its_own() {
    let outcome = Guest::trimmed()
        .switch("--quiet")
        .script("echo guest says=this")
        .run();
    assert_eq!(
        outcome.status(0).said("guest says=this").errors,
        "",
        "{outcome}"
    );
}
