//! Archives for tests, made here: what no tool would write.

use std::io::Write;

use tar::{EntryType, Header};

/// A tar archive.
#[derive(Default)]
pub(crate) struct Archive(Vec<u8>);

/// An entry without content.
pub(crate) struct Made {
    header: Header,
    target: Vec<u8>,
}

/// An entry of a kind.
pub(crate) fn entry(path: &str, kind: EntryType) -> Made {
    let mut header = Header::new_gnu();
    let name = path.as_bytes();
    assert!(name.len() <= 100, "longer names need a record");
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.set_entry_type(kind);
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    Made {
        header,
        target: Vec::new(),
    }
}

impl Made {
    pub(crate) fn target(mut self, target: &str) -> Self {
        self.target = target.into();
        self
    }

    pub(crate) fn owner(mut self, uid: u64, gid: u64) -> Self {
        self.header.set_uid(uid);
        self.header.set_gid(gid);
        self
    }

    pub(crate) fn size(mut self, size: u64) -> Self {
        self.header.set_size(size);
        self
    }
}

impl Archive {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn with(mut self, made: Made) -> Self {
        let Made { mut header, target } = made;
        header.as_old_mut().linkname[..target.len()].copy_from_slice(&target);
        header.set_cksum();
        self.0.extend(header.as_bytes());
        self
    }

    pub(crate) fn file(self, path: &str, content: &[u8]) -> Self {
        let made = entry(path, EntryType::Regular).size(content.len() as u64);
        let mut archive = self.with(made);
        archive.content(content);
        archive
    }

    /// Records for the next entry.
    pub(crate) fn records(self, records: &[(&str, &[u8])]) -> Self {
        let mut bytes = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut len = rest + rest.to_string().len();
            if rest + len.to_string().len() != len {
                len = rest + len.to_string().len();
            }
            write!(bytes, "{len} {key}=").unwrap();
            bytes.extend(*value);
            bytes.push(b'\n');
        }
        let made = entry("records", EntryType::XHeader).size(bytes.len() as u64);
        let mut archive = self.with(made);
        archive.content(&bytes);
        archive
    }

    fn content(&mut self, content: &[u8]) {
        self.0.extend(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        [&self.0[..], &[0; 1024]].concat()
    }
}
