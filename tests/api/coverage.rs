//! That the transcripts leave out no row of the table of paths.

use std::collections::BTreeSet;
use std::path::Path;
use std::{env, fs};

use crate::transcript::{self, Step};

/// A method and a path whose `{...}` stands for any one part.
type Row = (String, String);

/// The rows of the table, from its source.
fn table() -> BTreeSet<Row> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/api/route.rs");
    let source = fs::read_to_string(path).unwrap();
    let (_, table) = source.split_once("pub(crate) const ROUTES").unwrap();
    let (table, _) = table.split_once("\n];").unwrap();
    let mut rows = BTreeSet::new();
    let mut method = String::new();
    for piece in table.split(['(', ',', '\n', ' ']) {
        if let Some(path) = piece.strip_prefix('"') {
            rows.insert((method.clone(), path.trim_end_matches('"').to_owned()));
        } else if ["get", "put", "patch", "delete"].contains(&piece) {
            method = piece.to_uppercase();
        } else if let Some(name) = piece.strip_prefix("Method::") {
            method = name.to_uppercase();
        }
    }
    assert!(rows.len() > 40, "the table is read wrongly: {rows:?}");
    rows
}

fn is_of(row: &Row, method: &str, path: &str) -> bool {
    let wanted: Vec<&str> = row.1.split('/').collect();
    let given: Vec<&str> = path.split('/').collect();
    let same = |(wanted, given): (&&str, &&str)| wanted == given || wanted.starts_with('{');
    row.0 == method && wanted.len() == given.len() && wanted.iter().zip(&given).all(same)
}

#[test]
fn every_row_is_asked_before_the_start_and_after_it() {
    let table = table();
    let (mut before, mut after) = (table.clone(), table.clone());
    for path in transcript::files() {
        let mut started = false;
        for step in transcript::read(&path) {
            match step {
                Step::Title(_) => started = false,
                Step::Order(order) if order == "start" => started = true,
                Step::Exchange(asked) => {
                    let left = if started { &mut after } else { &mut before };
                    left.retain(|row| !is_of(row, &asked.method, &asked.path));
                }
                _ => {}
            }
        }
    }
    assert!(before.is_empty(), "not asked before the start: {before:?}");
    assert!(after.is_empty(), "not asked after the start: {after:?}");
}
