//! `-v SRC:DST[:ro]`: files of this host that a container gets a copy of.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::archive::Archive;

/// Bytes of all copies: they stand in the guest's memory.
const BYTES: u64 = 256 << 20;
/// Directories within directories.
const DEPTH: usize = 64;

/// The value of the flag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Volume {
    pub(super) source: PathBuf,
    pub(super) destination: String,
}

impl Volume {
    /// Reads the value of the flag.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let text = match text.strip_suffix(":rw") {
            Some(_) => {
                return Err(
                    "a container gets a copy, which it cannot write to: leave `:rw` out".to_owned(),
                );
            }
            None => text.strip_suffix(":ro").unwrap_or(text),
        };
        let parts = text.rsplit_once(':').filter(|(source, destination)| {
            !source.is_empty()
                && destination.starts_with('/')
                && !destination.split('/').any(|part| part == "..")
        });
        let (source, destination) =
            parts.ok_or("SOURCE:/DESTINATION was expected, as in ./data:/data:ro")?;
        Ok(Self {
            source: source.into(),
            destination: destination.to_owned(),
        })
    }
}

/// The command line of `ravelin run` with `-v SRC:DST` as `--volume SRC:DST`: `-v` alone says more, and takes no value.
pub(crate) fn rewritten(args: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut args: Vec<_> = args.collect();
    let end = args
        .iter()
        .position(|arg| arg == "--")
        .unwrap_or(args.len());
    for at in 1..end.saturating_sub(1) {
        let is_value =
            |arg: &OsStr| !arg.as_bytes().starts_with(b"-") && arg.as_bytes().contains(&b':');
        if args[at] == "-v" && is_value(&args[at + 1]) {
            args[at] = "--volume".into();
        }
    }
    args
}

/// Puts a copy of everything at `source` into the archive, as `path`. Links are copied as links.
pub(super) fn copy<W: Write>(
    archive: &mut Archive<W>,
    source: &Path,
    path: &str,
) -> io::Result<()> {
    let mut left = BYTES;
    one(archive, source, path, &mut left, DEPTH)
}

fn one<W: Write>(
    archive: &mut Archive<W>,
    source: &Path,
    path: &str,
    left: &mut u64,
    depth: usize,
) -> io::Result<()> {
    let refuse = |why: &str| {
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{}: {why}", source.display()),
        ))
    };
    // What the user named may be a link; what is in it is copied as it is.
    let stat = if depth == DEPTH {
        fs::metadata(source)?
    } else {
        fs::symlink_metadata(source)?
    };
    if stat.is_dir() {
        if depth == 0 {
            return refuse("it has more than 64 directories within each other");
        }
        archive.directory(path)?;
        let mut names = fs::read_dir(source)?
            .map(|entry| Ok(entry?.file_name()))
            .collect::<io::Result<Vec<_>>>()?;
        names.sort();
        for name in names {
            let Some(text) = name.to_str() else {
                return refuse("a name in it is not valid UTF-8");
            };
            one(
                archive,
                &source.join(&name),
                &format!("{path}/{text}"),
                left,
                depth - 1,
            )?;
        }
        return Ok(());
    }
    if stat.is_symlink() {
        return archive.link(path, fs::read_link(source)?.as_os_str().as_bytes());
    }
    if !stat.is_file() {
        return refuse("only files, directories and links can be copied into a container");
    }
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file: File = fs::OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(source)?;
    let stat = file.metadata()?;
    match left.checked_sub(stat.len()) {
        Some(rest) => *left = rest,
        None => {
            return refuse(
                "more than 256 MiB were to be copied; put them into the image, or on a disk",
            );
        }
    }
    archive.file(path, stat.permissions().mode(), stat.len(), file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_has_a_source_and_a_place() {
        let volume = |source: &str, destination: &str| {
            Ok(Volume {
                source: source.into(),
                destination: destination.into(),
            })
        };
        assert_eq!(Volume::parse("a:/b"), volume("a", "/b"));
        assert_eq!(Volume::parse("./a:b:/c:ro"), volume("./a:b", "/c"));
        for text in ["", "a", ":/a", "a:b", "a:/b/../c", "a:/b:rw"] {
            assert!(Volume::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_letter_with_a_value_is_a_volume_and_alone_says_more() {
        let line = |text: &str| {
            let args = rewritten(text.split(' ').map(Into::into));
            args.iter()
                .map(|arg| arg.to_str().unwrap().to_owned())
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(
            line("ravelin run -v a:/b -v -- -v a:/b"),
            "ravelin run --volume a:/b -v -- -v a:/b"
        );
        assert_eq!(
            line("ravelin run -v --image a:1"),
            "ravelin run -v --image a:1"
        );
    }
}
