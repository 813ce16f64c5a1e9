//! Firecracker's grammar, which is not clap's: `--help` and `--version` win wherever they stand, `--flag=value`
//! is an unknown flag, a value may begin with one hyphen but not with two, there are no short flags and no
//! abbreviations, what follows `--` is ignored, and each mistake has its own message.

use super::flags::{FLAGS, Flag};

/// A flag that may stand only beside another: `(flag, what it needs)`.
const NEEDS: (&str, &str) = ("no-api", "config-file");
/// Flags that exclude one another; the message names the second first.
const APART: (&str, &str) = ("no-seccomp", "seccomp-filter");

/// Why a command line is refused, in Firecracker's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ArgError {
    /// Two flags that exclude one another.
    #[error("Argument '{1}' cannot be used together with argument '{0}'.")]
    Forbidden(&'static str, &'static str),
    /// A flag without the flag that it needs.
    #[error("Argument '{0}' required, but not found.")]
    MissingArgument(&'static str),
    /// A flag without its value.
    #[error("The argument '{0}' requires a value, but none was supplied.")]
    MissingValue(&'static str),
    /// No flag at all, or an unknown one.
    #[error("Found argument '{0}' which wasn't expected, or isn't valid in this context.")]
    Unexpected(String),
    /// A flag given twice.
    #[error("The argument '{0}' was provided more than once.")]
    Duplicate(&'static str),
    /// A value that is not what the flag takes. Firecracker aborts here; the message is ours.
    #[error("The argument '{0}' has the value '{1}': {2}.")]
    Value(&'static str, String, String),
}

/// What a command line asks for.
#[derive(Debug)]
pub(super) enum Request {
    /// The help.
    Help,
    /// The version.
    Version,
    /// A VM, or another question of the remaining flags.
    Flags(Given),
}

/// The flags that were given, and their values.
#[derive(Debug, Default)]
pub(super) struct Given(Vec<(&'static Flag, String)>);

impl Given {
    /// Whether a flag was given.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(flag, _)| flag.name == name)
    }

    /// A flag's value, or its default.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        let given = self.0.iter().find(|(flag, _)| flag.name == name);
        match given {
            Some((_, value)) => Some(value),
            None => FLAGS.iter().find(|flag| flag.name == name)?.default,
        }
    }

    /// A flag's value, or its default, as a number.
    ///
    /// # Errors
    /// When it is none.
    pub(super) fn number<N: std::str::FromStr>(
        &self,
        name: &'static str,
    ) -> Result<Option<N>, ArgError> {
        let Some(text) = self.value(name) else {
            return Ok(None);
        };
        let number = text.parse().map_err(|_| {
            ArgError::Value(name, text.to_owned(), "a number was expected".to_owned())
        });
        number.map(Some)
    }

    /// Whether the flags go together.
    fn check(self) -> Result<Self, ArgError> {
        if self.has(NEEDS.0) && !self.has(NEEDS.1) {
            return Err(ArgError::MissingArgument(NEEDS.1));
        }
        if self.has(APART.0) && self.has(APART.1) {
            return Err(ArgError::Forbidden(APART.0, APART.1));
        }
        Ok(self)
    }
}

/// Reads a command line without its program's name.
///
/// # Errors
/// The first mistake.
pub(super) fn parse(args: &[String]) -> Result<Request, ArgError> {
    let end = args.iter().position(|arg| arg == "--");
    let args = &args[..end.unwrap_or(args.len())];
    if args.iter().any(|arg| arg == "--help") {
        return Ok(Request::Help);
    }
    if args.iter().any(|arg| arg == "--version") {
        return Ok(Request::Version);
    }
    let mut given = Given::default();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let name = arg
            .strip_prefix("--")
            .ok_or_else(|| ArgError::Unexpected(arg.clone()))?;
        let flag = Flag::named(name).ok_or_else(|| ArgError::Unexpected(name.to_owned()))?;
        if given.has(name) {
            return Err(ArgError::Duplicate(flag.name));
        }
        let value = match flag.takes_value {
            true => args.next().filter(|value| !value.starts_with("--")),
            false => Some(arg),
        };
        let value = value.ok_or(ArgError::MissingValue(flag.name))?;
        given.0.push((flag, value.clone()));
    }
    given.check().map(Request::Flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Request, ArgError> {
        parse(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    fn given(line: &str) -> Given {
        match read(line) {
            Ok(Request::Flags(given)) => given,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let given = given("--id web-1 --boot-timer");
        assert_eq!(given.value("id"), Some("web-1"));
        assert_eq!(given.value("api-sock"), Some("/run/firecracker.socket"));
        assert_eq!(given.number("http-api-max-payload-size"), Ok(Some(51_200)));
        assert_eq!(given.number::<u64>("start-time-us"), Ok(None));
        assert!(given.has("boot-timer") && !given.has("no-api"));
    }

    #[test]
    fn help_and_version_win_over_any_mistake() {
        assert!(matches!(
            read("--bogus --version --help"),
            Ok(Request::Help)
        ));
        assert!(matches!(read("--id --version"), Ok(Request::Version)));
        assert!(matches!(read("--id a -- --help"), Ok(Request::Flags(_))));
    }

    #[test]
    fn what_follows_two_hyphens_is_ignored() {
        let given = given("--id a -- --bogus --id b");
        assert_eq!(given.value("id"), Some("a"));
    }

    #[test]
    fn a_value_may_begin_with_one_hyphen() {
        assert_eq!(given("--module -x").value("module"), Some("-x"));
    }

    #[test]
    fn each_mistake_has_firecrackers_words() {
        for (line, message) in [
            (
                "--bogus",
                "Found argument 'bogus' which wasn't expected, or isn't valid in this context.",
            ),
            (
                "-h",
                "Found argument '-h' which wasn't expected, or isn't valid in this context.",
            ),
            (
                "--id=a",
                "Found argument 'id=a' which wasn't expected, or isn't valid in this context.",
            ),
            (
                "--id",
                "The argument 'id' requires a value, but none was supplied.",
            ),
            (
                "--id --no-api",
                "The argument 'id' requires a value, but none was supplied.",
            ),
            (
                "--id a --id b",
                "The argument 'id' was provided more than once.",
            ),
            (
                "--no-api",
                "Argument 'config-file' required, but not found.",
            ),
            (
                "--no-seccomp --seccomp-filter f",
                "Argument 'seccomp-filter' cannot be used together with argument 'no-seccomp'.",
            ),
        ] {
            assert_eq!(read(line).unwrap_err().to_string(), message, "{line}");
        }
    }
}
