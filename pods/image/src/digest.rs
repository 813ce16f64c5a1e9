//! Digests, compared while what they are of is read.

use std::fmt;
use std::io::{self, Read};
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

/// A SHA-256, written as `sha256:` and 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

/// Why a digest is none, or something has another one.
#[derive(Debug, thiserror::Error)]
pub enum DigestError {
    /// It is no SHA-256.
    #[error(
        "{0:?} is no digest: only sha256 and 64 hexadecimal digits in lower case are known here"
    )]
    Form(String),
    /// Something else was read than what was announced.
    #[error(
        "what was announced as {wanted} is {found}: the image was changed or damaged on its way"
    )]
    Other {
        /// What was announced.
        wanted: Digest,
        /// What was read.
        found: Digest,
    },
    /// It has another size.
    #[error("{wanted} was announced with {size} bytes and has {found}")]
    Size {
        /// What was announced.
        wanted: Digest,
        /// With how many bytes.
        size: u64,
        /// How many there are, or how many were read before reading was given up.
        found: MoreOr,
    },
}

/// A number of bytes, or that there are more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MoreOr {
    /// As many.
    Exactly(u64),
    /// More than were announced.
    More,
}

impl fmt::Display for MoreOr {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(bytes) => write!(out, "{bytes}"),
            Self::More => write!(out, "more"),
        }
    }
}

impl Digest {
    /// Of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Its digits.
    pub fn hex(&self) -> String {
        crate::hex(&self.0)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "sha256:{}", self.hex())
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let wrong = || DigestError::Form(text.chars().take(80).collect());
        let digits = text.strip_prefix("sha256:").ok_or_else(wrong)?;
        let is_hex = digits
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if digits.len() != 64 || !is_hex {
            return Err(wrong());
        }
        let mut bytes = [0; 32];
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte =
                u8::from_str_radix(&digits[2 * index..2 * index + 2], 16).map_err(|_| wrong())?;
        }
        Ok(Self(bytes))
    }
}

/// A reader that is what its digest says: known once it has been read to its end.
pub(crate) struct Checked<R> {
    reader: R,
    hash: Sha256,
    wanted: Digest,
    size: Option<u64>,
    read: u64,
}

impl<R: Read> Checked<R> {
    pub(crate) fn new(reader: R, wanted: Digest, size: Option<u64>) -> Self {
        Self {
            reader,
            hash: Sha256::new(),
            wanted,
            size,
            read: 0,
        }
    }

    /// Reads what is left and compares.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        io::copy(&mut self, &mut io::sink())?;
        let found = Digest(self.hash.finalize().into());
        let wanted = self.wanted;
        match self.size {
            Some(size) if size != self.read => Err(refuse(DigestError::Size {
                wanted,
                size,
                found: MoreOr::Exactly(self.read),
            })),
            _ if found != wanted => Err(refuse(DigestError::Other { wanted, found })),
            _ => Ok(()),
        }
    }
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.reader.read(buffer)?;
        self.hash.update(&buffer[..len]);
        self.read += len as u64;
        match self.size {
            Some(size) if self.read > size => Err(refuse(DigestError::Size {
                wanted: self.wanted,
                size,
                found: MoreOr::More,
            })),
            _ => Ok(len),
        }
    }
}

fn refuse(error: DigestError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// A reader that gives no more than so many bytes: the bound of what is unpacked.
pub(crate) struct Bounded<'a, R> {
    reader: R,
    left: &'a mut u64,
}

impl<'a, R: Read> Bounded<'a, R> {
    pub(crate) fn new(reader: R, left: &'a mut u64) -> Self {
        Self { reader, left }
    }
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.reader.read(buffer)?;
        match self.left.checked_sub(len as u64) {
            Some(left) => *self.left = left,
            None => return Err(io::Error::new(io::ErrorKind::InvalidData, TooLarge)),
        }
        Ok(len)
    }
}

/// More was unpacked than is taken.
#[derive(Debug, thiserror::Error)]
#[error("the layers unpack to more bytes than are taken")]
pub(crate) struct TooLarge;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sha256_in_lower_case_is_a_digest() {
        let good = Digest::of(b"").to_string();
        assert_eq!(good.parse::<Digest>().unwrap(), Digest::of(b""));
        for bad in [
            "",
            "sha256:",
            "sha512:00",
            "sha256:../../etc/passwd",
            &good.to_uppercase(),
            &good[..70],
        ] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }

    fn check(bytes: &[u8], of: &[u8], size: Option<u64>) -> io::Result<()> {
        Checked::new(bytes, Digest::of(of), size).finish()
    }

    #[test]
    fn other_bytes_and_other_sizes_are_refused() {
        assert!(check(b"abc", b"abc", Some(3)).is_ok());
        assert!(check(b"abc", b"abd", Some(3)).is_err());
        assert!(check(b"abc", b"abc", Some(4)).is_err());
        assert!(check(b"abc", b"abc", Some(2)).is_err());
    }
}
