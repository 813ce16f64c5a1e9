//! Sizes and durations as people write them: `512M`, `2G`, `90s`.

use std::time::Duration;

/// Reads a size in bytes: a whole number with one of the suffixes K, M, G, T (powers of 1024), or none for
/// bytes.
///
/// # Errors
/// A sentence with what was expected.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    scaled(text, 0).ok_or_else(|| expected(text, "a size such as 100M, 2G or 1048576 (bytes)"))
}

/// Reads a memory size in MiB: as [`bytes`], but a number without a suffix is in MiB already.
///
/// # Errors
/// A sentence with what was expected.
pub(crate) fn mebibytes(text: &str) -> Result<u64, String> {
    let bytes =
        scaled(text, 20).ok_or_else(|| expected(text, "a size such as 512M, 2G or 512 (MiB)"))?;
    if !bytes.is_multiple_of(1 << 20) {
        return Err(expected(text, "a whole number of MiB, such as 512M"));
    }
    Ok(bytes >> 20)
}

/// Reads a number of vCPUs; how many there may be, the machine knows.
///
/// # Errors
/// A sentence with what was expected.
pub(crate) fn vcpus(text: &str) -> Result<u32, String> {
    text.parse()
        .map_err(|_| expected(text, "a number of vCPUs, 1 to 32,"))
}

/// Reads a duration: a number of seconds, or with a suffix ms, s, m or h.
///
/// # Errors
/// A sentence with what was expected.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let milliseconds: Option<u64> = match &text[digits.len()..] {
        "ms" => Some(1),
        "" | "s" => Some(1000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    digits
        .parse()
        .ok()
        .zip(milliseconds)
        .and_then(|(count, unit): (u64, u64)| count.checked_mul(unit))
        .filter(|total| *total > 0)
        .map(Duration::from_millis)
        .ok_or_else(|| expected(text, "a duration such as 90, 90s, 500ms or 5m"))
}

/// `text` as a number times its suffix; `plain` is the power of two of a number without one.
fn scaled(text: &str, plain: u32) -> Option<u64> {
    let text = text.trim_end_matches(['B', 'b']).trim_end_matches('i');
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" => plain,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

fn expected(text: &str, what: &str) -> String {
    format!("`{text}` was given and {what} was expected")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_with_and_without_a_suffix() {
        assert_eq!(bytes("1048576"), Ok(1 << 20));
        assert_eq!(bytes("2G"), Ok(2 << 30));
        assert_eq!(bytes("100MiB"), Ok(100 << 20));
        assert_eq!(mebibytes("512"), Ok(512));
        assert_eq!(mebibytes("2g"), Ok(2048));
    }

    #[test]
    fn a_size_that_is_none_says_what_was_expected() {
        for text in ["", "M", "-1", "1.5G", "12X", "99999999999T"] {
            assert!(bytes(text).unwrap_err().contains("was expected"), "{text}");
        }
        assert!(mebibytes("1K").unwrap_err().contains("whole number of MiB"));
    }

    #[test]
    fn durations_read_in_their_units() {
        assert_eq!(duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert!(duration("0").is_err());
        assert!(duration("fast").is_err());
        assert!(duration("99999999999999999999h").is_err());
    }
}
