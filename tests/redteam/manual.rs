//! The tables of `docs/security.md`, made of the one that the attacks are compared with.
//!
//! `RAVELIN_WRITE=1 cargo test --test redteam manual` writes them.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use crate::table::{Row, TABLE, Wall, Without};

const BEGIN: &str = "<!-- attacks: made by a test -->\n";
const END: &str = "<!-- end of attacks -->\n";

/// Compares the page with the table, or writes it.
pub(crate) fn assert_current() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/security.md");
    let page = fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let current = format!("{before}{BEGIN}{}{END}{after}", tables());
    if std::env::var_os("RAVELIN_WRITE").is_some() {
        fs::write(path, &current).unwrap();
        return;
    }
    assert!(
        page == current,
        "docs/security.md has older tables: RAVELIN_WRITE=1 cargo test --test redteam manual"
    );
}

fn tables() -> String {
    let mut text = String::new();
    let all = TABLE.iter().filter(|row| row.without != Without::Everybody);
    let all = all.count();
    write!(text, "\n| wall, alone | stops, of {all} |\n| --- | --- |\n").unwrap();
    for (wall, name) in Wall::COLUMNS {
        let count = TABLE.iter().filter(|row| row.has(wall)).count();
        writeln!(text, "| {name} | {count} |").unwrap();
    }
    text.push_str("| seccomp | all; `much-memory` in the threads of vCPUs and queues alone |\n");
    text.push_str("\n| attack | what it does | walls that stop it alone |\n| --- | --- | --- |\n");
    for row in TABLE {
        writeln!(
            text,
            "| `{}` | {} | {} |",
            row.attack,
            row.says,
            stopped_by(row)
        )
        .unwrap();
    }
    text.push('\n');
    text
}

fn stopped_by(row: &Row) -> String {
    let columns = Wall::COLUMNS.iter().filter(|(wall, _)| row.has(*wall));
    let mut names: Vec<_> = columns.map(|(_, name)| *name).collect();
    if row.without == Without::Everybody {
        names.push("the monitor itself: there is nothing to do it with");
    }
    if row.attack != "ask-warden" {
        names.push("seccomp");
    }
    names.join(", ")
}
