//! Options of a mount, as mount(8) and the OCI runtime specification have them.

use std::io;

/// What the options of a mount say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    /// It is something that is there already.
    pub(super) bind: bool,
    /// With what is mounted on that.
    pub(super) recursive: bool,
    /// `MOUNT_ATTR_*` that it has.
    pub(super) set: u64,
    /// `MOUNT_ATTR_*` that it has not.
    pub(super) clear: u64,
    /// `MOUNT_ATTR_*` that it has with all on it.
    pub(super) set_all: u64,
    /// `MS_*` of how mounts on it are passed on, and whether of all on it.
    pub(super) propagation: Option<(u64, bool)>,
    /// The file system's own.
    pub(super) data: Vec<(String, Option<String>)>,
}

const RDONLY: u64 = libc::MOUNT_ATTR_RDONLY;
const NOSUID: u64 = libc::MOUNT_ATTR_NOSUID;
const NODEV: u64 = libc::MOUNT_ATTR_NODEV;
const NOEXEC: u64 = libc::MOUNT_ATTR_NOEXEC;
const NOATIME: u64 = libc::MOUNT_ATTR_NOATIME;
const STRICTATIME: u64 = libc::MOUNT_ATTR_STRICTATIME;
const ATIME: u64 = libc::MOUNT_ATTR__ATIME;
const NODIRATIME: u64 = libc::MOUNT_ATTR_NODIRATIME;
const NOSYMFOLLOW: u64 = libc::MOUNT_ATTR_NOSYMFOLLOW;

impl Options {
    /// From their words.
    ///
    /// # Errors
    ///
    /// One that cannot be obeyed.
    pub(super) fn parse(words: &[String]) -> io::Result<Self> {
        let mut options = Self::default();
        for word in words {
            options.apply(word)?;
        }
        // Among the three manners of access times one is in force: the bits are one number (mount_setattr(2)).
        if options.set & ATIME != 0 || options.clear & ATIME != 0 {
            options.clear |= ATIME;
        }
        Ok(options)
    }

    fn apply(&mut self, word: &str) -> io::Result<()> {
        match word {
            "defaults" | "async" | "relatime" | "norelatime" | "nostrictatime" => {}
            "bind" => self.bind = true,
            "rbind" => (self.bind, self.recursive) = (true, true),
            "ro" => self.on(RDONLY),
            "rw" => self.off(RDONLY),
            "nosuid" => self.on(NOSUID),
            "suid" => self.off(NOSUID),
            "nodev" => self.on(NODEV),
            "dev" => self.off(NODEV),
            "noexec" => self.on(NOEXEC),
            "exec" => self.off(NOEXEC),
            "noatime" => self.on(NOATIME),
            "atime" => self.off(NOATIME),
            "strictatime" => self.on(STRICTATIME),
            "nodiratime" => self.on(NODIRATIME),
            "diratime" => self.off(NODIRATIME),
            "nosymfollow" => self.on(NOSYMFOLLOW),
            "symfollow" => self.off(NOSYMFOLLOW),
            "rro" => self.set_all |= RDONLY,
            "rnosuid" => self.set_all |= NOSUID,
            "rnodev" => self.set_all |= NODEV,
            "rnoexec" => self.set_all |= NOEXEC,
            "remount" | "idmap" | "ridmap" | "tmpcopyup" | "sync" | "dirsync" | "mand" => {
                return Err(io::Error::other(format!(
                    "its option '{word}' cannot be obeyed: leave it out"
                )));
            }
            word => match propagation(word) {
                Some(how) => self.propagation = Some(how),
                None => self.data.push(match word.split_once('=') {
                    Some((name, value)) => (name.into(), Some(value.into())),
                    None => (word.into(), None),
                }),
            },
        }
        Ok(())
    }

    fn on(&mut self, bits: u64) {
        self.set |= bits;
        self.clear &= !bits;
    }

    fn off(&mut self, bits: u64) {
        self.clear |= bits;
        self.set &= !bits;
    }
}

/// The kernel's number for how mounts are passed on, and whether that is said of all below.
pub(super) fn propagation(word: &str) -> Option<(u64, bool)> {
    let (kind, recursive) = match word.strip_prefix('r') {
        Some(kind) => (kind, true),
        None => (word, false),
    };
    let kind = match kind {
        "private" => libc::MS_PRIVATE,
        "slave" => libc::MS_SLAVE,
        "shared" => libc::MS_SHARED,
        "unbindable" => libc::MS_UNBINDABLE,
        _ => return None,
    };
    Some((kind, recursive))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Options {
        let words: Vec<String> = words.iter().map(|word| (*word).into()).collect();
        Options::parse(&words).unwrap()
    }

    #[test]
    fn flags_and_the_file_systems_own_are_told_apart() {
        let options = parse(&["nosuid", "strictatime", "mode=755", "size=65536k"]);
        assert_eq!(options.set, NOSUID | STRICTATIME);
        assert_eq!(
            options.data,
            [
                ("mode".to_owned(), Some("755".to_owned())),
                ("size".to_owned(), Some("65536k".to_owned()))
            ]
        );
    }

    #[test]
    fn the_later_of_two_opposites_stands() {
        let options = parse(&["ro", "rw"]);
        assert_eq!((options.set, options.clear), (0, RDONLY));
    }

    #[test]
    fn a_recursive_bind_may_be_a_slave() {
        let options = parse(&["rbind", "rslave", "ro"]);
        assert!(options.bind && options.recursive);
        assert_eq!(options.propagation, Some((libc::MS_SLAVE, true)));
        assert!(options.data.is_empty());
    }

    #[test]
    fn what_cannot_be_obeyed_is_refused() {
        assert!(Options::parse(&["idmap".into()]).is_err());
    }
}
