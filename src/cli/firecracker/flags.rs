//! Firecracker's flags: the one table that the parser, the help, the completions and the man page read.

use clap::Command;

use crate::cli::grammar::{Flag, as_clap, switch, value};
use crate::serve::launch::{ANONYMOUS, PAYLOAD_LIMIT_TEXT};

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
        "Run without system call filters: whoever breaks out of the guest may ask the kernel for anything",
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

/// The flags as a subcommand of ravelin, for its help, completions and man pages.
pub(super) fn command() -> Command {
    let command = Command::new("firecracker")
        .about("Serve a VM's socket with Firecracker's own command line, log and exit statuses")
        .long_about(ABOUT);
    as_clap(command, &FLAGS)
}

const ABOUT: &str = "\
Serve a VM's socket with Firecracker's own command line, log and exit statuses.

A ravelin that is installed, linked or copied under the name `firecracker` behaves so without the subcommand: \
what drives Firecracker drives it.";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::grammar::help;

    #[test]
    fn the_table_is_in_the_order_of_names() {
        assert!(FLAGS.is_sorted_by(|one, next| one.name < next.name));
    }

    #[test]
    fn the_help_aligns_what_flags_do() {
        let help = help(&FLAGS);
        let column = help
            .lines()
            .find_map(|line| line.find("The VM's name"))
            .unwrap();
        for line in help.lines().skip(1) {
            assert_eq!(line.get(column - 3..column), Some("   "), "{line}");
            assert_ne!(line.get(column..=column), Some(" "), "{line}");
        }
        assert!(help.contains("[default: \"/run/firecracker.socket\"]"));
    }
}
