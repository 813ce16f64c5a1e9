//! The kernel command line, as far as this init reads it.
//!
//! | parameter | meaning |
//! | --- | --- |
//! | `ravelin.command=WORDS` | the command: percent-encoded words joined by `%00`; without it, a shell |
//! | `ravelin.ip=ADDRESS/PREFIX[,GATEWAY]` | eth0's address and the default route |
//! | `ravelin.size=ROWSxCOLUMNS` | the console's window size |
//! | `ravelin.term=NAME` | TERM of the command; `vt220` without it |
//! | `root=/dev/NAME` | in an initramfs: the root to hand over to |
//! | `rootfstype=` `rootflags=` `ro` `rw` `rootwait` `init=` | as the kernel reads them |

use std::ffi::OsString;
use std::net::IpAddr;
use std::os::unix::ffi::OsStringExt;
use std::str::FromStr;

use percent_encoding::percent_decode_str;

/// What the kernel command line asks of this init.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Words of the command, at least one; `None` for an interactive shell.
    pub command: Option<Vec<OsString>>,
    /// TERM of the command.
    pub term: Option<String>,
    /// Window size of the console.
    pub size: Option<Size>,
    /// Address of eth0.
    pub ip: Option<IpConfig>,
    /// The root's device, e.g. `/dev/vda`.
    pub root: Option<String>,
    /// How the root is mounted.
    pub mount: RootMount,
    /// Path of the init inside the root; `/sbin/init` without it.
    pub init: Option<String>,
}

/// How the root is mounted.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct RootMount {
    /// File system types to try, in order; empty for all that the kernel knows.
    pub types: Vec<String>,
    /// The file system's own options.
    pub flags: Option<String>,
    /// Whether it may be written: the kernel's default is not.
    pub writable: bool,
    /// Whether to wait for the device for ever.
    pub wait: bool,
}

/// A terminal's size in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "two numbers that say what they are")]
pub struct Size {
    pub rows: u16,
    pub columns: u16,
}

/// An interface's address, the length of its network prefix in bits, and the default gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the comment above names them")]
pub struct IpConfig {
    pub address: IpAddr,
    pub prefix: u8,
    pub gateway: Option<IpAddr>,
}

impl Options {
    /// Reads a kernel command line; what it does not know or cannot parse it leaves alone.
    pub fn parse(line: &str) -> Self {
        let mut options = Self::default();
        for word in words(line).take_while(|word| word != "--") {
            let (name, value) = word.split_once('=').unwrap_or((&word, ""));
            options.apply(name, value);
        }
        options
    }

    fn apply(&mut self, name: &str, value: &str) {
        let text = || (!value.is_empty()).then(|| value.to_owned());
        match name {
            "ravelin.command" => self.command = decode_command(value),
            "ravelin.term" => self.term = text(),
            "ravelin.size" => self.size = value.parse().ok(),
            "ravelin.ip" => self.ip = value.parse().ok(),
            "root" => self.root = text(),
            "rootfstype" => self.mount.types = value.split(',').map(str::to_owned).collect(),
            "rootflags" => self.mount.flags = text(),
            "rootwait" => self.mount.wait = true,
            "ro" => self.mount.writable = false,
            "rw" => self.mount.writable = true,
            "init" => self.init = text(),
            _ => {}
        }
    }
}

impl FromStr for Size {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (rows, columns) = text.split_once('x').ok_or(())?;
        let rows = rows.parse().map_err(|_| ())?;
        let columns = columns.parse().map_err(|_| ())?;
        Ok(Self { rows, columns })
    }
}

impl FromStr for IpConfig {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (network, gateway) = match text.split_once(',') {
            Some((network, gateway)) => (network, Some(gateway.parse().map_err(|_| ())?)),
            None => (text, None),
        };
        let (address, prefix) = network.split_once('/').ok_or(())?;
        let address: IpAddr = address.parse().map_err(|_| ())?;
        let prefix = prefix.parse().map_err(|_| ())?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let same_family =
            gateway.is_none_or(|gateway: IpAddr| gateway.is_ipv4() == address.is_ipv4());
        (prefix <= bits && same_family)
            .then_some(Self {
                address,
                prefix,
                gateway,
            })
            .ok_or(())
    }
}

/// The words of `ravelin.command=`: split at `%00`, then decoded. A command needs a first word.
fn decode_command(value: &str) -> Option<Vec<OsString>> {
    let words: Vec<OsString> = value
        .split("%00")
        .map(|word| OsString::from_vec(percent_decode_str(word).collect()))
        .collect();
    words
        .first()
        .is_some_and(|word| !word.is_empty())
        .then_some(words)
}

/// The command line's words as the kernel splits them: at white space outside double quotes, which are
/// dropped.
fn words(line: &str) -> impl Iterator<Item = String> {
    let mut rest = line.chars();
    std::iter::from_fn(move || {
        let mut word = String::new();
        let mut quoted = false;
        let mut seen = false;
        for letter in rest.by_ref() {
            match letter {
                '"' => (quoted, seen) = (!quoted, true),
                space if space.is_ascii_whitespace() && !quoted => {
                    if seen {
                        break;
                    }
                }
                other => {
                    word.push(other);
                    seen = true;
                }
            }
        }
        seen.then_some(word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(line: &str) -> Option<Vec<OsString>> {
        Options::parse(line).command
    }

    fn ip(text: &str) -> Option<IpConfig> {
        text.parse().ok()
    }

    #[test]
    fn a_command_is_split_at_its_terminators_and_decoded() {
        assert_eq!(
            command("console=ttyS0 ravelin.command=uname%00-a quiet"),
            Some(vec!["uname".into(), "-a".into()])
        );
        assert_eq!(
            command("ravelin.command=sh%00-c%00echo%20%22a%25b%22%0A%C3%A9"),
            Some(vec!["sh".into(), "-c".into(), "echo \"a%b\"\né".into()])
        );
    }

    #[test]
    fn empty_words_of_a_command_are_kept_but_not_an_empty_first_one() {
        assert_eq!(
            command("ravelin.command=echo%00%00x%00"),
            Some(vec!["echo".into(), "".into(), "x".into(), "".into()])
        );
        assert_eq!(command("ravelin.command="), None);
        assert_eq!(command("quiet"), None);
    }

    #[test]
    fn bytes_that_are_no_utf_8_reach_the_command() {
        assert_eq!(
            command("ravelin.command=echo%00%FF%FE"),
            Some(vec!["echo".into(), OsString::from_vec(vec![0xff, 0xfe])])
        );
    }

    #[test]
    fn the_last_of_two_parameters_stands() {
        let options = Options::parse("root=/dev/vda rw root=/dev/vdb ro");
        assert_eq!(options.root.as_deref(), Some("/dev/vdb"));
        assert!(!options.mount.writable);
    }

    #[test]
    fn the_root_is_read_only_unless_asked() {
        assert!(!Options::parse("root=/dev/vda").mount.writable);
        assert!(Options::parse("root=/dev/vda rw").mount.writable);
    }

    #[test]
    fn what_stands_after_two_dashes_belongs_to_init() {
        assert_eq!(Options::parse("ro -- root=/dev/vda").root, None);
    }

    #[test]
    fn quotes_hold_a_word_together() {
        let options = Options::parse("  \"rootflags=a b\"\tinit=\"/my init\"  x=\"\" \n");
        assert_eq!(options.mount.flags.as_deref(), Some("a b"));
        assert_eq!(options.init.as_deref(), Some("/my init"));
    }

    #[test]
    fn a_size_needs_two_numbers() {
        let size = |text: &str| text.parse::<Size>().ok();
        assert_eq!(
            size("24x80"),
            Some(Size {
                rows: 24,
                columns: 80
            })
        );
        for bad in ["", "24", "24x", "x80", "24x80x2", "-1x80", "70000x1"] {
            assert_eq!(size(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_address_needs_a_prefix_that_fits_and_a_gateway_of_its_family() {
        let with_gateway = ip("10.0.0.2/24,10.0.0.1").unwrap();
        assert_eq!(with_gateway.prefix, 24);
        assert_eq!(with_gateway.gateway, Some("10.0.0.1".parse().unwrap()));
        assert_eq!(ip("fd00::2/64").unwrap().gateway, None);
        for bad in [
            "10.0.0.2",
            "10.0.0.2/33",
            "fd00::2/129",
            "10.0.0.2/24,fd00::1",
            "x/24",
            "10.0.0.2/24,",
        ] {
            assert_eq!(ip(bad), None, "{bad}");
        }
    }
}
