//! Reading small files of `/proc` and `/sys`.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

/// No file that the checks read is longer; a longer one is cut.
const LIMIT_BYTES: u64 = 1 << 20;

/// The content of `path` without the white space at its end.
pub(super) fn text(path: impl AsRef<Path>) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(LIMIT_BYTES)
        .read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
}

/// The names in a directory, sorted.
pub(super) fn names(path: impl AsRef<Path>) -> io::Result<Vec<String>> {
    let mut names = fs::read_dir(path)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<io::Result<Vec<_>>>()?;
    names.sort_unstable();
    Ok(names)
}

/// The word in brackets of a `first [second] third` file.
pub(super) fn chosen(text: &str) -> Option<&str> {
    text.split_whitespace()
        .find_map(|word| word.strip_prefix('[')?.strip_suffix(']'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chosen_word_stands_in_brackets() {
        assert_eq!(chosen("always [madvise] never"), Some("madvise"));
        assert_eq!(chosen("always madvise"), None);
    }

    #[test]
    fn text_loses_its_last_line_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("value");
        fs::write(&path, "0\n").unwrap();
        assert_eq!(text(&path).unwrap(), "0");
        assert_eq!(names(dir.path()).unwrap(), ["value"]);
    }
}
