//! The grammar: `--help` and `--version` win wherever they stand, `--flag=value` is an unknown flag, a value may
//! begin with one hyphen but not with two, there are no short flags and no abbreviations, what follows `--` is
//! for somebody else, and each mistake has its own message.

use super::Flag;

/// A command line's flags and how they go together.
#[derive(Debug)]
pub(in crate::cli) struct Grammar {
    /// The flags, by name.
    pub(in crate::cli) flags: &'static [Flag],
    /// A flag that may stand only beside another: `(flag, what it needs)`.
    pub(in crate::cli) needs: &'static [(&'static str, &'static str)],
    /// Flags that exclude one another; the message names the second first.
    pub(in crate::cli) apart: &'static [(&'static str, &'static str)],
}

/// Why a command line is refused, in Firecracker's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::cli) enum ArgError {
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
pub(in crate::cli) enum Request {
    /// The help.
    Help,
    /// The version.
    Version,
    /// A VM, or another question of the remaining flags.
    Flags(Given),
}

/// The flags that were given, and their values.
#[derive(Debug)]
pub(in crate::cli) struct Given {
    flags: &'static [Flag],
    given: Vec<(&'static Flag, String)>,
    rest: Vec<String>,
}

impl Given {
    /// Whether a flag was given.
    pub(in crate::cli) fn has(&self, name: &str) -> bool {
        self.given.iter().any(|(flag, _)| flag.name == name)
    }

    /// A flag's value, or its default.
    pub(in crate::cli) fn value(&self, name: &str) -> Option<&str> {
        let given = self.given.iter().find(|(flag, _)| flag.name == name);
        match given {
            Some((_, value)) => Some(value),
            None => self.flags.iter().find(|flag| flag.name == name)?.default,
        }
    }

    /// The values of a flag that may be there more than once.
    pub(in crate::cli) fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        let given = self.given.iter().filter(move |(flag, _)| flag.name == name);
        given.map(|(_, value)| value.as_str())
    }

    /// What followed `--`.
    pub(in crate::cli) fn rest(&self) -> &[String] {
        &self.rest
    }

    /// A flag's value, or its default, as a number.
    ///
    /// # Errors
    /// When it is none.
    pub(in crate::cli) fn number<N: std::str::FromStr>(
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
    fn check(self, grammar: &Grammar) -> Result<Self, ArgError> {
        let missing = |flag: &&Flag| flag.required && !self.has(flag.name);
        if let Some(flag) = self.flags.iter().find(missing) {
            return Err(ArgError::MissingArgument(flag.name));
        }
        for (flag, needs) in grammar.needs {
            if self.has(flag) && !self.has(needs) {
                return Err(ArgError::MissingArgument(needs));
            }
        }
        for (one, other) in grammar.apart {
            if self.has(one) && self.has(other) {
                return Err(ArgError::Forbidden(one, other));
            }
        }
        Ok(self)
    }
}

impl Grammar {
    /// Reads a command line without its program's name.
    ///
    /// # Errors
    /// The first mistake.
    pub(in crate::cli) fn parse(&self, args: &[String]) -> Result<Request, ArgError> {
        let end = args.iter().position(|arg| arg == "--");
        let (args, rest) = args.split_at(end.unwrap_or(args.len()));
        if args.iter().any(|arg| arg == "--help") {
            return Ok(Request::Help);
        }
        if args.iter().any(|arg| arg == "--version") {
            return Ok(Request::Version);
        }
        let mut given = Given {
            flags: self.flags,
            given: Vec::new(),
            rest: rest.iter().skip(1).cloned().collect(),
        };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let flag = self.flag(arg)?;
            if given.has(flag.name) && !flag.repeats {
                return Err(ArgError::Duplicate(flag.name));
            }
            let value = match flag.takes_value {
                true => args.next().filter(|value| !value.starts_with("--")),
                false => Some(arg),
            };
            let value = value.ok_or(ArgError::MissingValue(flag.name))?;
            given.given.push((flag, value.clone()));
        }
        given.check(self).map(Request::Flags)
    }

    /// The flag that an argument names.
    fn flag(&self, arg: &str) -> Result<&'static Flag, ArgError> {
        let unexpected = |name: &str| ArgError::Unexpected(name.to_owned());
        let name = arg.strip_prefix("--").ok_or_else(|| unexpected(arg))?;
        let flag = self.flags.iter().find(|flag| flag.name == name);
        flag.ok_or_else(|| unexpected(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::grammar::{switch, value};

    const GRAMMAR: Grammar = Grammar {
        flags: &[
            value("api-sock", "").or_else("/run/firecracker.socket"),
            switch("boot-timer", ""),
            value("cgroup", "").repeats(),
            value("config-file", ""),
            value("http-api-max-payload-size", "").or_else("51200"),
            value("id", "").or_else("anonymous-instance"),
            value("module", ""),
            switch("no-api", ""),
            switch("no-seccomp", ""),
            value("seccomp-filter", ""),
            value("start-time-us", ""),
        ],
        needs: &[("no-api", "config-file")],
        apart: &[("no-seccomp", "seccomp-filter")],
    };

    fn read(line: &str) -> Result<Request, ArgError> {
        GRAMMAR.parse(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
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
    fn what_follows_two_hyphens_is_left_alone() {
        let given = given("--id a -- --bogus --id b");
        assert_eq!(given.value("id"), Some("a"));
        assert_eq!(given.rest(), ["--bogus", "--id", "b"]);
    }

    #[test]
    fn a_flag_that_repeats_has_all_its_values_in_order() {
        let given = given("--cgroup a=1 --id x --cgroup b=2");
        assert_eq!(given.values("cgroup").collect::<Vec<_>>(), ["a=1", "b=2"]);
    }

    #[test]
    fn the_first_flag_that_must_be_there_and_is_not_is_named() {
        const NEEDY: Grammar = Grammar {
            flags: &[value("gid", "").required(), value("uid", "").required()],
            needs: &[],
            apart: &[],
        };
        let wrong = NEEDY.parse(&[]).unwrap_err().to_string();
        assert_eq!(wrong, "Argument 'gid' required, but not found.");
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
