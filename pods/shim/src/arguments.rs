//! The command line that containerd gives its shims, in the manner of Go's flags.

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// Begin a shim and say where it answers.
    Start,
    /// Clear up behind one that is gone.
    Delete,
    /// Say who this is, for containerd.
    Info,
    /// Say it for people.
    Version,
    /// Be the shim.
    Serve,
}

/// What containerd says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Arguments {
    /// What is to be done.
    pub(crate) act: Act,
    /// The namespace of containerd's that the container is in.
    pub(crate) namespace: String,
    /// The container's name.
    pub(crate) id: String,
    /// containerd's own socket: with the two above it tells one shim from every other.
    pub(crate) address: String,
    /// The container's directory; none is the working directory.
    pub(crate) bundle: Option<String>,
    /// Whether to log more.
    pub(crate) debug: bool,
}

/// A command line that containerd does not write.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ArgumentError {
    /// A flag of another program's.
    #[error(
        "the flag {0} is not one that containerd gives its shims; to run a container: ctr run --runtime io.containerd.ravelin.v2 IMAGE NAME"
    )]
    Unknown(String),
    /// A flag at the end.
    #[error("the flag {0} stands without its value")]
    NoValue(String),
    /// A word of another program's.
    #[error("'{0}' is nothing that a shim does: start or delete was expected")]
    Act(String),
}

impl Arguments {
    /// Reads a command line without the program's name.
    ///
    /// # Errors
    /// What containerd does not say.
    pub(crate) fn read(words: impl Iterator<Item = String>) -> Result<Self, ArgumentError> {
        let mut words = words;
        let mut read = Self {
            act: Act::Serve,
            namespace: String::new(),
            id: String::new(),
            address: String::new(),
            bundle: None,
            debug: false,
        };
        while let Some(word) = words.next() {
            let Some(flag) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else {
                read.act = act(&word)?;
                continue;
            };
            let (flag, given) = match flag.split_once('=') {
                Some((flag, value)) => (flag, Some(value.to_owned())),
                None => (flag, None),
            };
            match flag {
                "debug" => read.debug = given.is_none_or(|value| value != "false"),
                "info" => read.act = Act::Info,
                "v" | "version" | "help" | "h" => read.act = Act::Version,
                _ => {
                    let value = given
                        .or_else(|| words.next())
                        .ok_or(ArgumentError::NoValue(word.clone()))?;
                    read.set(flag, value, &word)?;
                }
            }
        }
        Ok(read)
    }

    fn set(&mut self, flag: &str, value: String, word: &str) -> Result<(), ArgumentError> {
        match flag {
            "namespace" => self.namespace = value,
            "id" => self.id = value,
            "address" => self.address = value,
            "bundle" => self.bundle = Some(value),
            // Where this program publishes is in its environment, and its socket is open.
            "publish-binary" | "socket" => {}
            _ => return Err(ArgumentError::Unknown(word.to_owned())),
        }
        Ok(())
    }
}

fn act(word: &str) -> Result<Act, ArgumentError> {
    match word {
        "start" => Ok(Act::Start),
        "delete" => Ok(Act::Delete),
        _ => Err(ArgumentError::Act(word.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Arguments, ArgumentError> {
        Arguments::read(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn what_containerd_says_is_read() {
        let read = read("-namespace default -address /run/c.sock -publish-binary /bin/containerd -id web -debug start").unwrap();
        assert_eq!(
            (read.act, read.id.as_str(), read.namespace.as_str()),
            (Act::Start, "web", "default")
        );
        assert_eq!(
            (read.address.as_str(), read.debug, read.bundle),
            ("/run/c.sock", true, None)
        );
    }

    #[test]
    fn a_value_may_stand_behind_an_equals_sign() {
        let read = read("--id=web --bundle=/b delete").unwrap();
        assert_eq!(
            (read.id.as_str(), read.bundle.as_deref(), read.act),
            ("web", Some("/b"), Act::Delete)
        );
    }

    #[test]
    fn what_containerd_does_not_say_is_refused() {
        assert!(matches!(read("-x y"), Err(ArgumentError::Unknown(_))));
        assert!(matches!(read("-id"), Err(ArgumentError::NoValue(_))));
        assert!(matches!(read("stop"), Err(ArgumentError::Act(_))));
    }
}
