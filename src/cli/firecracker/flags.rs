//! Firecracker's flags: the one table that the parser, the help, the completions and the man page read.

use clap::{Arg, ArgAction, Command};

use crate::serve::launch::{ANONYMOUS, PAYLOAD_LIMIT_TEXT};

/// A flag of Firecracker's command line.
#[derive(Debug)]
pub(super) struct Flag {
    /// Its name, without the two hyphens.
    pub(super) name: &'static str,
    /// Whether a value follows it.
    pub(super) takes_value: bool,
    /// Its value where nothing was said.
    pub(super) default: Option<&'static str>,
    /// What it does.
    pub(super) help: &'static str,
}

/// Every flag, by name.
pub(super) const FLAGS: [Flag; 24] = [
    value("api-sock", "The unix socket that serves the API").or_else("/run/firecracker.socket"),
    switch(
        "boot-timer",
        "Give the guest the device whose write logs how long its boot took",
    ),
    value("config-file", "The whole VM as JSON, started at once"),
    value(
        "describe-snapshot",
        "Print the format version of a snapshot's state file, and do nothing else",
    ),
    switch(
        "enable-pci",
        "Put devices on PCI: this version warns and leaves them on MMIO",
    ),
    switch("help", "Print this help, and do nothing else"),
    value(
        "http-api-max-payload-size",
        "The longest body of a request, in bytes",
    )
    .or_else(PAYLOAD_LIMIT_TEXT),
    value("id", "The VM's name: 1 to 64 letters, digits and hyphens").or_else(ANONYMOUS),
    value(
        "level",
        "The least level that is logged: Error, Warning, Info, Debug, Trace or Off",
    ),
    value(
        "log-path",
        "The file or fifo for log lines, in place of stdout",
    ),
    value("metadata", "The metadata store's content, as JSON"),
    value("metrics-path", "The file or fifo for metrics"),
    value(
        "mmds-size-limit",
        "The largest metadata store, in bytes; as http-api-max-payload-size when left out",
    ),
    value(
        "module",
        "Log only what modules whose path begins so have to say",
    ),
    switch(
        "no-api",
        "Serve no socket: run the VM of config-file and nothing else",
    ),
    switch(
        "no-seccomp",
        "Run without system call filters: this version has none",
    ),
    value(
        "parent-cpu-time-us",
        "Processor time of the program that started this one, in microseconds",
    ),
    value(
        "seccomp-filter",
        "System call filters of one's own: this version refuses them",
    ),
    switch("show-level", "Write each log line's level"),
    switch("show-log-origin", "Write each log line's file and line"),
    switch(
        "snapshot-version",
        "Print the format version of snapshots, and do nothing else",
    ),
    value(
        "start-time-cpu-us",
        "Processor time of this process when it started, in microseconds",
    ),
    value(
        "start-time-us",
        "The monotonic clock when the program that started this one did, in microseconds",
    ),
    switch("version", "Print the version, and do nothing else"),
];

const fn switch(name: &'static str, help: &'static str) -> Flag {
    Flag {
        name,
        takes_value: false,
        default: None,
        help,
    }
}

const fn value(name: &'static str, help: &'static str) -> Flag {
    Flag {
        takes_value: true,
        ..switch(name, help)
    }
}

impl Flag {
    const fn or_else(self, default: &'static str) -> Self {
        Self {
            default: Some(default),
            ..self
        }
    }

    /// The flag of a name, without its hyphens.
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        FLAGS.iter().find(|flag| flag.name == name)
    }

    /// The flag as it is typed: `--id <id>`.
    fn usage(&self) -> String {
        match self.takes_value {
            true => format!("--{0} <{0}>", self.name),
            false => format!("--{}", self.name),
        }
    }
}

/// The flags and what they do, in Firecracker's form.
pub(super) fn help() -> String {
    let width = FLAGS.iter().map(|flag| flag.usage().len()).max();
    let width = width.unwrap_or_default();
    let mut text = "optional arguments:\n".to_owned();
    for flag in &FLAGS {
        text.push_str(&format!("  {:<width$}   {}", flag.usage(), flag.help));
        if let Some(default) = flag.default {
            text.push_str(&format!(" [default: \"{default}\"]"));
        }
        text.push('\n');
    }
    text
}

/// The flags as a subcommand of ravelin, for its help, completions and man pages.
pub(super) fn command() -> Command {
    let command = Command::new("firecracker")
        .about("Serve a VM's socket with Firecracker's own command line, log and exit statuses")
        .long_about(ABOUT)
        .disable_help_flag(true);
    FLAGS.iter().fold(command, |command, flag| {
        let arg = Arg::new(flag.name).long(flag.name).help(flag.help);
        command.arg(match (flag.takes_value, flag.default) {
            (true, Some(default)) => arg.value_name(flag.name).default_value(default),
            (true, None) => arg.value_name(flag.name),
            (false, _) if flag.name == "help" => arg.action(ArgAction::Help),
            (false, _) => arg.action(ArgAction::SetTrue),
        })
    })
}

const ABOUT: &str = "\
Serve a VM's socket with Firecracker's own command line, log and exit statuses.

A ravelin that is installed, linked or copied under the name `firecracker` behaves so without the subcommand: \
what drives Firecracker drives it.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_names() {
        assert!(FLAGS.is_sorted_by(|one, next| one.name < next.name));
    }

    #[test]
    fn the_help_aligns_what_flags_do() {
        let help = help();
        let column = help
            .lines()
            .find_map(|line| line.find("The VM's name"))
            .unwrap();
        for (line, flag) in help.lines().skip(1).zip(&FLAGS) {
            assert_eq!(line.find(flag.help), Some(column), "{line}");
        }
        assert!(help.contains("[default: \"/run/firecracker.socket\"]"));
    }
}
