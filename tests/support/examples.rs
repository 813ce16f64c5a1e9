//! The examples in the documentation: commands, and what they print.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// The text of a page of the documentation.
pub(crate) fn page(name: &str) -> String {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    fs::read_to_string(docs.join(name)).unwrap()
}

/// A command of a page and what it prints.
#[derive(Debug, Default)]
pub(crate) struct Example {
    pub(crate) command: String,
    pub(crate) prints: String,
}

/// The examples in the blocks marked `console`: `$ `, a command, further lines of it after `> `, and below them
/// what it prints.
pub(crate) fn examples(page: &str) -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    let mut inside = false;
    for line in page.lines() {
        match (line, line.strip_prefix("$ "), examples.last_mut()) {
            ("```console", _, _) => inside = true,
            ("```", _, _) => inside = false,
            (_, Some(command), _) if inside => examples.push(Example {
                command: command.to_owned(),
                prints: String::new(),
            }),
            (text, None, Some(example)) if inside => {
                match text
                    .strip_prefix("> ")
                    .filter(|_| example.prints.is_empty())
                {
                    Some(more) => example.command.extend(["\n", more]),
                    None => example.prints.extend([text, "\n"]),
                }
            }
            _ => {}
        }
    }
    examples
}

/// The search path with ravelin on it.
pub(crate) fn path_with_ravelin() -> OsString {
    let here = PathBuf::from(env!("CARGO_BIN_EXE_ravelin"))
        .parent()
        .unwrap()
        .to_owned();
    let others = env::var_os("PATH").unwrap_or_default();
    env::join_paths([here].into_iter().chain(env::split_paths(&others))).unwrap()
}
