//! Files with JSON that a command line names.

use std::io::{self, Read};
use std::path::Path;

use rustix::fs::OFlags;
use serde::de::DeserializeOwned;
use vmm::outside;

use crate::failure::Failure;
use crate::nearest;

/// The longest file, in bytes.
const MOST: u64 = 1 << 20;

/// What a file holds, in the words of messages.
pub(crate) struct Content {
    what: &'static str,
    advice: &'static str,
}

/// The description of a VM.
pub(crate) const CONFIGURATION: Content = Content {
    what: "configuration",
    advice: "ravelin run --print-config shows what one looks like",
};
/// The content of the metadata store.
pub(crate) const METADATA: Content = Content {
    what: "metadata",
    advice: "an object such as {\"key\": \"value\"} was expected",
};

/// Reads a file. That it cannot be read is a failure at run time, as with any other file; what stands in it
/// is the user's word.
///
/// # Errors
/// [`Failure::Run`] and [`Failure::Usage`], in this order.
pub(crate) fn read<T: DeserializeOwned>(path: &Path, content: &Content) -> Result<T, Failure> {
    let (name, Content { what, advice }) = (path.display(), content);
    let text = read_some(path).map_err(|error| {
        Failure::run(format!(
            "the {what} {name} cannot be read ({error}): name a file with JSON that this user may read; {advice}"
        ))
    })?;
    if u64::try_from(text.len()).is_ok_and(|len| len > MOST) {
        return Err(Failure::usage(format!(
            "the {what} {name} has more than {MOST} bytes, which no VM needs: name another file"
        )));
    }
    serde_json::from_slice(&text).map_err(|error| {
        let wrong = if error.is_data() {
            "is wrong"
        } else {
            "is not JSON"
        };
        let hint = nearest::suggestion(&error.to_string());
        Failure::usage(format!(
            "the {what} {name} {wrong}: {error}{hint}; {advice}"
        ))
    })
}

/// Reads a file, which may also be a pipe or an endless device, until it is too long.
fn read_some(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    outside::open(path, OFlags::RDONLY)?
        .take(MOST + 1)
        .read_to_end(&mut text)?;
    Ok(text)
}
