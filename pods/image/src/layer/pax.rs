//! What stands before an entry: long names (GNU), and records of any kind (POSIX pax).

use std::io::Read;

use tar::{Entry, EntryType};

use super::LayerError;
use crate::tree::{Attributes, shows_attribute};

/// Bytes of one such block. Attributes may have 64 KiB, a path and a link 4 KiB each.
const LIMIT: u64 = 256 << 10;
const ATTRIBUTE: &[u8] = b"SCHILY.xattr.";

/// What the next entry has beyond its header.
#[derive(Debug, Default)]
pub(super) struct Extension {
    pub(super) path: Option<Vec<u8>>,
    pub(super) target: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<(u64, u32)>,
    pub(super) attributes: Attributes,
}

impl Extension {
    /// Takes an entry that speaks of the next one; `false` if this is no such entry.
    pub(super) fn take(
        &mut self,
        entry: &mut Entry<'_, &mut dyn Read>,
    ) -> Result<bool, LayerError> {
        match entry.header().entry_type() {
            EntryType::GNULongName => self.path = Some(name(entry)?),
            EntryType::GNULongLink => self.target = Some(name(entry)?),
            EntryType::XHeader => {
                let bytes = bytes(entry)?;
                self.records(&bytes)?;
            }
            // About all that follow: a comment, nothing that a layer needs.
            EntryType::XGlobalHeader => {}
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn records(&mut self, bytes: &[u8]) -> Result<(), LayerError> {
        let mut left = bytes;
        while !left.is_empty() {
            let (key, value, rest) = record(left).ok_or_else(|| {
                LayerError::Header(
                    "(the next entry)".into(),
                    "a record whose length is another",
                )
            })?;
            left = rest;
            match key {
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.target = Some(value.to_vec()),
                b"size" => self.size = number(value),
                b"uid" => self.uid = number(value),
                b"gid" => self.gid = number(value),
                b"mtime" => self.mtime = Some(time(value)),
                key => {
                    if let Some(name) = key
                        .strip_prefix(ATTRIBUTE)
                        .filter(|name| shows_attribute(name))
                    {
                        self.attributes.retain(|(other, _)| **other != *name);
                        self.attributes.push((name.into(), value.into()));
                    }
                }
            }
        }
        self.attributes.sort_unstable();
        Ok(())
    }
}

/// The first record: its key, its value, and what stands behind it. Values may hold every byte, so lengths count and
/// line ends do not.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().take(8).position(|byte| *byte == b' ')?;
    let len: usize = std::str::from_utf8(&bytes[..space]).ok()?.parse().ok()?;
    let (record, rest) = bytes.split_at_checked(len)?;
    let record = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    Some((&record[..equals], &record[equals + 1..], rest))
}

fn bytes(entry: &mut Entry<'_, &mut dyn Read>) -> Result<Vec<u8>, LayerError> {
    let mut bytes = Vec::new();
    let read = entry.by_ref().take(LIMIT + 1).read_to_end(&mut bytes);
    read.map_err(LayerError::Read)?;
    if bytes.len() as u64 > LIMIT {
        let why = "more than 256 KiB of names and attributes";
        return Err(LayerError::Header("(the next entry)".into(), why));
    }
    Ok(bytes)
}

fn name(entry: &mut Entry<'_, &mut dyn Read>) -> Result<Vec<u8>, LayerError> {
    let mut bytes = bytes(entry)?;
    if bytes.last() == Some(&0) {
        bytes.pop();
    }
    Ok(bytes)
}

fn number(value: &[u8]) -> Option<u64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// Seconds and their fraction. What is before 1970 becomes 0.
fn time(value: &[u8]) -> (u64, u32) {
    let text = std::str::from_utf8(value).unwrap_or_default();
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = fraction.bytes().take_while(u8::is_ascii_digit).take(9);
    let (count, sum) = digits.fold((0, 0), |(count, sum), digit| {
        (count + 1, sum * 10 + u32::from(digit - b'0'))
    });
    match seconds.parse() {
        Ok(seconds) => (seconds, sum * 10_u32.pow(9 - count)),
        Err(_) => (0, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::time;

    #[test]
    fn a_time_has_nanoseconds() {
        assert_eq!(time(b"1000.5"), (1000, 500_000_000));
        assert_eq!(time(b"1000.1234567899"), (1000, 123_456_789));
        assert_eq!(time(b"1000"), (1000, 0));
        assert_eq!(time(b"-5.5"), (0, 0));
    }
}
