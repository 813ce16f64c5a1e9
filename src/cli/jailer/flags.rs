//! The jailer's flags: the one table that the parser, the help, the completions and the man page read.

use clap::Command;

use crate::cli::grammar::{Flag, Grammar, as_clap, switch, value};

/// Every flag, by name; ravelin's own is the last.
const FLAGS: [Flag; 15] = [
    value(
        "cgroup",
        "A cgroup's file and what is written to it, as cpu.shares=10; may be given more than once",
    )
    .repeats(),
    value(
        "cgroup-version",
        "The kind of cgroup hierarchy that is used, 1 or 2",
    )
    .or_else("1"),
    value(
        "chroot-base-dir",
        "The directory below which jails are made, in DIR/EXEC-FILE'S-NAME/ID/root",
    )
    .or_else("/srv/jailer"),
    switch(
        "daemonize",
        "Leave the caller's session and terminal, with /dev/null for stdin, stdout and stderr",
    ),
    value(
        "exec-file",
        "The program to run in the jail, linked statically; its name must contain `firecracker`",
    )
    .required(),
    value("gid", "The group that the program runs as").required(),
    switch("help", "Print this help, and do nothing else"),
    value("id", "The jail's name: 1 to 64 letters, digits and hyphens").required(),
    value("netns", "The network namespace that the program joins"),
    switch(
        "new-pid-ns",
        "Make the program the first process of a PID namespace of its own",
    ),
    value(
        "parent-cgroup",
        "The cgroup in which that of the jail is made; as the exec file's name when left out",
    ),
    value(
        "resource-limit",
        "A limit of the program, fsize=BYTES or no-file=COUNT (2048); may be given more than once",
    )
    .repeats(),
    value("uid", "The user that the program runs as").required(),
    switch("version", "Print the version, and do nothing else"),
    value(
        "without",
        "Leave walls out that Firecracker's jailer has not: namespaces,capabilities,no-new-privs,core-limit",
    ),
];

/// The flags of Firecracker's jailer.
const ITS_FLAGS: &[Flag] = FLAGS.split_at(FLAGS.len() - 1).0;

/// The command line of a program that is called `jailer`.
pub(super) const JAILER: Grammar = Grammar {
    flags: ITS_FLAGS,
    needs: &[],
    apart: &[],
};

/// The command line of `ravelin jailer`.
pub(super) const OWN: Grammar = Grammar {
    flags: &FLAGS,
    ..JAILER
};

/// The flags as a subcommand of ravelin, for its help, completions and man pages.
pub(super) fn command() -> Command {
    let command = Command::new("jailer")
        .about(
            "Build a jail and run a program in it, with the command line of Firecracker's jailer",
        )
        .long_about(ABOUT);
    as_clap(command, OWN.flags)
}

const ABOUT: &str = "\
Build a jail and run a program in it, with the command line of Firecracker's jailer.

A ravelin that is installed, linked or copied under the name `jailer` behaves so without the subcommand: what drives \
Firecracker's jailer drives it. What follows `--` is handed to the program. See docs/jailer.md.";
