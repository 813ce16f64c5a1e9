//! The format version at the start of Firecracker's snapshot state files.

use std::fs::File;
use std::io::{self, Read};

/// The format that the interface is that of.
pub(super) const VERSION: &str = "11.0.0";
/// The longest version that is believed to be one, in bytes.
const LONGEST: u64 = 64;

/// Why a state file's version cannot be told.
#[derive(Debug, thiserror::Error)]
pub(super) enum SnapshotError {
    /// The file cannot be opened.
    #[error("Unable to open snapshot state file: {0}")]
    Open(io::Error),
    /// It is shorter than its header.
    #[error("Invalid data format version of snapshot file: {0}")]
    Read(io::Error),
    /// It begins otherwise.
    #[error(
        "Invalid data format version of snapshot file: there is no version where one is expected"
    )]
    Version,
}

/// The format version of a state file: three numbers with dots between them.
///
/// # Errors
/// When it cannot be read or is no state file.
pub(super) fn describe(path: &str) -> Result<String, SnapshotError> {
    version(File::open(path).map_err(SnapshotError::Open)?)
}

/// Reads the header, in little-endian order:
///
/// | bytes | what |
/// | --- | --- |
/// | 8 | a number that names the processor, not looked at, as in Firecracker |
/// | 8 | the version's length |
/// | length | the version |
fn version(mut file: impl Read) -> Result<String, SnapshotError> {
    let mut number = [0; 8];
    file.read_exact(&mut number).map_err(SnapshotError::Read)?;
    file.read_exact(&mut number).map_err(SnapshotError::Read)?;
    let length = u64::from_le_bytes(number);
    if length > LONGEST {
        return Err(SnapshotError::Version);
    }
    let mut text = String::new();
    file.take(length)
        .read_to_string(&mut text)
        .map_err(SnapshotError::Read)?;
    let parts: Vec<&str> = text.split('.').collect();
    match parts.len() == 3 && parts.iter().all(|part| part.parse::<u64>().is_ok()) {
        true => Ok(text),
        false => Err(SnapshotError::Version),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(length: u64, version: &str) -> Vec<u8> {
        let magic = 0x0710_1984_8664_0000_u64.to_le_bytes();
        [&magic[..], &length.to_le_bytes(), version.as_bytes()].concat()
    }

    #[test]
    fn a_state_file_tells_its_version() {
        assert_eq!(version(&header(6, "11.0.0rest")[..]).unwrap(), "11.0.0");
    }

    #[test]
    fn a_file_that_is_no_state_file_tells_none() {
        for file in [
            header(6, "elf"),
            header(6, "abcdef"),
            header(u64::MAX, "11.0.0"),
            header(7, "11.0.-1"),
            b"short".to_vec(),
            Vec::new(),
        ] {
            assert!(version(&file[..]).is_err(), "{file:?}");
        }
    }
}
