//! An instance's id, as Firecracker and its jailer take it.

/// The longest id, in characters.
const LONGEST: usize = 64;

/// Why an id is refused, in Firecracker's words.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum IdError {
    #[error("invalid len ({0});  the length must be between 1 and {LONGEST}")]
    Length(usize),
    #[error("invalid char ({0}) at position {1}")]
    Char(char, usize),
}

/// Checks an id: 1 to 64 letters, digits and hyphens. So it is also a safe name for a directory.
///
/// # Errors
/// What is wrong with it.
pub(super) fn instance_id(text: &str) -> Result<(), IdError> {
    if text.is_empty() || text.len() > LONGEST {
        return Err(IdError::Length(text.len()));
    }
    let strange = |c: char| !(c.is_ascii_alphanumeric() || c == '-');
    match text.chars().enumerate().find(|(_, c)| strange(*c)) {
        Some((at, c)) => Err(IdError::Char(c, at)),
        None => Ok(()),
    }
}
