//! Firecracker's and its jailer's way to read a command line, which is not clap's: tables of flags, their help
//! in Firecracker's form, and the same flags as clap knows them.

mod parse;

use std::ffi::OsString;

use clap::{Arg, ArgAction, Command};

pub(super) use self::parse::{ArgError, Given, Grammar, Request};

/// A flag of such a command line.
#[derive(Debug)]
pub(super) struct Flag {
    /// Its name, without the two hyphens.
    pub(super) name: &'static str,
    /// Whether a value follows it.
    takes_value: bool,
    /// Whether it must be there.
    required: bool,
    /// Whether it may be there more than once.
    repeats: bool,
    /// Its value where nothing was said.
    default: Option<&'static str>,
    /// What it does.
    help: &'static str,
}

/// A flag without a value.
pub(super) const fn switch(name: &'static str, help: &'static str) -> Flag {
    Flag {
        name,
        takes_value: false,
        required: false,
        repeats: false,
        default: None,
        help,
    }
}

/// A flag with a value.
pub(super) const fn value(name: &'static str, help: &'static str) -> Flag {
    Flag {
        takes_value: true,
        ..switch(name, help)
    }
}

impl Flag {
    /// The flag, with a value where nothing is said.
    pub(super) const fn or_else(self, default: &'static str) -> Self {
        Self {
            default: Some(default),
            ..self
        }
    }

    /// The flag, which must be there.
    pub(super) const fn required(self) -> Self {
        Self {
            required: true,
            ..self
        }
    }

    /// The flag, which may be there more than once.
    pub(super) const fn repeats(self) -> Self {
        Self {
            repeats: true,
            ..self
        }
    }

    /// The flag as it is typed: `--id <id>`.
    fn usage(&self) -> String {
        let dots = if self.repeats { "..." } else { "" };
        match self.takes_value {
            true => format!("--{0} <{0}>{dots}", self.name),
            false => format!("--{}", self.name),
        }
    }
}

/// The flags and what they do, in Firecracker's form: those that must be there last.
pub(super) fn help(flags: &[Flag]) -> String {
    let width = flags.iter().map(|flag| flag.usage().len()).max();
    let width = width.unwrap_or_default();
    let mut text = String::new();
    for (title, required) in [("optional", false), ("required", true)] {
        let mut flags = flags.iter().filter(|flag| flag.required == required);
        let Some(first) = flags.next() else {
            continue;
        };
        text.push_str(&format!("{title} arguments:\n"));
        for flag in [first].into_iter().chain(flags) {
            text.push_str(&format!("  {:<width$}   {}", flag.usage(), flag.help));
            if let Some(default) = flag.default {
                text.push_str(&format!(" [default: \"{default}\"]"));
            }
            text.push('\n');
        }
    }
    text
}

/// A command with the flags, for ravelin's help, completions and manual pages.
pub(super) fn as_clap(command: Command, flags: &'static [Flag]) -> Command {
    let command = command.disable_help_flag(true);
    flags.iter().fold(command, |command, flag| {
        let arg = Arg::new(flag.name)
            .long(flag.name)
            .help(flag.help)
            .required(flag.required);
        command.arg(match (flag.takes_value, flag.default) {
            (true, Some(default)) => arg.value_name(flag.name).default_value(default),
            (true, None) if flag.repeats => arg.value_name(flag.name).action(ArgAction::Append),
            (true, None) => arg.value_name(flag.name),
            (false, _) if flag.name == "help" => arg.action(ArgAction::Help),
            (false, _) => arg.action(ArgAction::SetTrue),
        })
    })
}

/// An argument as text.
///
/// # Errors
/// When it is none: there is no flag or value that would not be.
pub(super) fn text(arg: OsString) -> Result<String, ArgError> {
    arg.into_string()
        .map_err(|arg| ArgError::Unexpected(arg.to_string_lossy().into_owned()))
}
