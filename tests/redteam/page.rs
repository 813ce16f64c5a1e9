//! What the test and the monitor share: the first page of the file that is the monitor's stderr. `src/redteam/page.rs`
//! has the same layout.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::FileExt;

use rustix::fs::{MemfdFlags, memfd_create};

const MAGIC: &[u8; 16] = b"RAVELIN_REDTEAM\n";
const SIZE: u64 = 4096;
/// Where the fields are.
const ATTACKS: u64 = 16;
const STATE: u64 = 20;
const VERDICT: u64 = 24;
const ERRNO: u64 = 28;
const TARGET: u64 = 32;
const NAME: u64 = 48;
const NAME_SIZE: usize = 32;
/// What the state is when an attack is over.
const DONE: u32 = 3;

/// What came of an attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It did what it was to do, or failed with this error for its own arguments.
    Through(i32),
    /// The kernel gave this error.
    Stopped(i32),
    /// The monitor was ended by this signal.
    Killed(i32),
}

/// The page.
#[derive(Debug)]
pub(crate) struct Page(File);

impl Page {
    pub(crate) fn new() -> Self {
        let mut file = File::from(memfd_create("redteam", MemfdFlags::CLOEXEC).unwrap());
        file.set_len(SIZE).unwrap();
        file.write_all_at(MAGIC, 0).unwrap();
        // What is said on stderr comes behind it.
        file.seek(SeekFrom::Start(SIZE)).unwrap();
        Self(file)
    }

    /// For the monitor's stderr.
    pub(crate) fn file(&self) -> File {
        self.0.try_clone().unwrap()
    }

    /// How many attacks the monitor knows.
    pub(crate) fn attacks(&self) -> u32 {
        self.get(ATTACKS)
    }

    /// Says which attack is meant.
    pub(crate) fn ask(&self, attack: &str, target: u32) {
        let mut name = [0; NAME_SIZE];
        name[..attack.len()].copy_from_slice(attack.as_bytes());
        self.0.write_all_at(&name, NAME).unwrap();
        self.set(TARGET, target);
        self.set(STATE, 1);
    }

    /// What has come of it, once it is over.
    pub(crate) fn outcome(&self) -> Option<Outcome> {
        if self.get(STATE) != DONE {
            return None;
        }
        let errno = self.get(ERRNO).cast_signed();
        Some(match self.get(VERDICT) {
            1 => Outcome::Through(errno),
            2 => Outcome::Stopped(errno),
            other => panic!("the monitor does not know the attack ({other})"),
        })
    }

    /// What was said on stderr.
    pub(crate) fn said(&self) -> String {
        let size = self.0.metadata().unwrap().len() - SIZE;
        let mut text = vec![0; usize::try_from(size).unwrap()];
        self.0.read_exact_at(&mut text, SIZE).unwrap();
        String::from_utf8_lossy(&text).into_owned()
    }

    fn get(&self, field: u64) -> u32 {
        let mut bytes = [0; 4];
        self.0.read_exact_at(&mut bytes, field).unwrap();
        u32::from_le_bytes(bytes)
    }

    fn set(&self, field: u64, value: u32) {
        self.0.write_all_at(&value.to_le_bytes(), field).unwrap();
    }
}
