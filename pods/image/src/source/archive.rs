//! A tar archive of a layout, or of "docker save". It is read where it lies: only where its parts are is remembered.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use tar::{Archive, EntryType};

use super::{Part, Source, SourceError, Top, top_of};
use crate::digest::Bounded;
use crate::unpack;

/// Parts of an archive: some three a layer.
const PARTS: usize = 16_384;
/// Links from one part to another: "docker save" had a layer once and links in place of its repetitions.
const LINKS: usize = 8;

/// The archive.
pub(super) struct Packed {
    path: PathBuf,
    file: File,
    parts: HashMap<String, Place>,
}

enum Place {
    Bytes { at: u64, len: u64 },
    Link(String),
}

impl Packed {
    pub(super) fn open(
        path: &Path,
        file: File,
        room: &Path,
        limit: u64,
    ) -> Result<Self, SourceError> {
        let wrap = |error| SourceError::Read(path.to_owned(), error);
        let file = plain(file, room, limit).map_err(wrap)?;
        let mut parts = HashMap::new();
        let mut archive = Archive::new(&file);
        for entry in archive.entries_with_seek().map_err(wrap)?.raw(true) {
            let entry = entry.map_err(wrap)?;
            if parts.len() >= PARTS {
                return Err(SourceError::Parts(PARTS));
            }
            let header = entry.header();
            let name = normal("", &String::from_utf8_lossy(&header.path_bytes()));
            let place = match header.entry_type() {
                EntryType::Regular | EntryType::Continuous => Place::Bytes {
                    at: entry.raw_file_position(),
                    len: header.entry_size().map_err(wrap)?,
                },
                EntryType::Symlink | EntryType::Link => {
                    let target = header.link_name_bytes().unwrap_or_default();
                    let target = String::from_utf8_lossy(&target).into_owned();
                    let is_relative = header.entry_type() == EntryType::Symlink;
                    let folder = name
                        .rsplit_once('/')
                        .filter(|_| is_relative)
                        .map_or("", |(folder, _)| folder);
                    Place::Link(normal(folder, &target))
                }
                _ => continue,
            };
            parts.insert(name, place);
        }
        let path = path.to_owned();
        Ok(Self { path, file, parts })
    }
}

impl Source for Packed {
    fn top(&self, limit: usize) -> Result<Top, SourceError> {
        top_of(self, &self.path, limit)
    }

    fn open(&self, part: &Part) -> Result<Box<dyn Read + Send + '_>, SourceError> {
        let mut name = normal("", &part.path());
        for _ in 0..LINKS {
            match self.parts.get(&name) {
                Some(Place::Bytes { at, len }) => {
                    let file = &self.file;
                    return Ok(Box::new(Section {
                        file,
                        at: *at,
                        left: *len,
                    }));
                }
                Some(Place::Link(target)) => name = target.clone(),
                None => break,
            }
        }
        Err(SourceError::Missing(part.path()))
    }
}

/// An archive that is compressed as a whole cannot be read where it lies: it is unpacked into a file without a name.
fn plain(mut file: File, room: &Path, limit: u64) -> io::Result<File> {
    let mut start = [0; 4];
    let len = file.read_at(&mut start, 0)?;
    let is_gzip = start[..len].starts_with(&[0x1f, 0x8b]);
    let is_zstd = start[..len].starts_with(&[0x28, 0xb5, 0x2f, 0xfd]);
    if !is_gzip && !is_zstd {
        return Ok(file);
    }
    let mut whole = tempfile::tempfile_in(room)?;
    let mut left = limit;
    io::copy(
        &mut Bounded::new(unpack::reader(&mut file)?, &mut left),
        &mut whole,
    )?;
    whole.seek(SeekFrom::Start(0))?;
    Ok(whole)
}

/// A path of the archive without `.` and `..`: only a key, so nothing is lost by what it cannot name.
fn normal(folder: &str, path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in folder.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// A stretch of a file.
struct Section<'a> {
    file: &'a File,
    at: u64,
    left: u64,
}

impl Read for Section<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = usize::try_from(self.left)
            .unwrap_or(buffer.len())
            .min(buffer.len());
        let len = self.file.read_at(&mut buffer[..len], self.at)?;
        self.at += len as u64;
        self.left -= len as u64;
        Ok(len)
    }
}
