//! Why a command ends without having done what it was asked, and with which exit status.

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

use vmm::sandbox::Mode;

use crate::logger;

/// Exit status: something failed while running.
pub(crate) const FAILED: u8 = 1;
/// Exit status: the command line or a configuration is wrong.
pub(crate) const USAGE: u8 = 2;

/// Why a subcommand ended without doing what it was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The user asked for something that cannot be: exit status 2.
    Usage(Box<dyn Error>),
    /// It could be, but failed: exit status 1.
    Run(Box<dyn Error>),
}

impl Failure {
    /// A usage failure.
    pub(crate) fn usage(error: impl Into<Box<dyn Error>>) -> Self {
        Self::Usage(error.into())
    }

    /// A run-time failure.
    pub(crate) fn run(error: impl Into<Box<dyn Error>>) -> Self {
        Self::Run(error.into())
    }

    /// Says why on stderr; the exit status.
    pub(crate) fn report(&self) -> ExitCode {
        logger::tell(&self.text());
        ExitCode::from(self.status())
    }

    /// Why, in one sentence.
    pub(crate) fn text(&self) -> String {
        let (Self::Usage(error) | Self::Run(error)) = self;
        chain(error.as_ref())
    }

    /// The exit status.
    pub(crate) fn status(&self) -> u8 {
        match self {
            Self::Usage(_) => USAGE,
            Self::Run(_) => FAILED,
        }
    }
}

/// Has a panic say its line with what a confined thread may do: the standard library's words ask the kernel for
/// more. There is no backtrace then, which would have to read files. Nothing changes where nothing is forbidden.
pub(crate) fn panic_in_words_of(mode: Mode) {
    if mode != Mode::Kill {
        return;
    }
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("unnamed");
        // Whoever does not take it cannot be told.
        let _ = io::stderr().write_all(format!("\nthread '{name}' {panic}\n").as_bytes());
    }));
}

/// An error and its causes in one sentence, each said once.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let said = inner.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = inner.source();
    }
    text
}
