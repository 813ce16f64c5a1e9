//! Names of containers and of their processes.

/// The longest name, bytes: as containerd has it.
pub const LONGEST: usize = 76;

/// A name that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is no name: 1 to {LONGEST} letters, digits, '_', '.' or '-', the first a letter or a digit"
)]
pub struct BadName(String);

/// `name` again, when a container or a process may be called so: no name is a path, and none holds a space or a line.
///
/// # Errors
///
/// It is empty, too long, begins with something else than a letter or digit, or holds another character.
pub fn check(name: &str) -> Result<&str, BadName> {
    let is_good = name.len() <= LONGEST
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    if is_good {
        Ok(name)
    } else {
        Err(BadName(name.chars().take(LONGEST + 1).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_containerd_calls_containers_is_a_name() {
        for name in ["a", "redis-1", "0af3_x.y", &"f".repeat(76)] {
            assert_eq!(check(name), Ok(name));
        }
    }

    #[test]
    fn a_path_an_option_and_a_line_are_no_names() {
        for name in [
            "",
            ".",
            "..",
            "a/b",
            "-x",
            "a b",
            "a\n",
            "ä",
            &"f".repeat(77),
        ] {
            assert!(check(name).is_err(), "{name:?}");
        }
    }
}
