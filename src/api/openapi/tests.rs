//! The description is that of this program.

use std::collections::BTreeSet;
use std::path::Path;

use super::*;
use crate::api::route::{Body, ROUTES};

#[test]
fn the_served_description_is_the_one_that_the_types_make() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("resources/openapi.json");
    let made = text(&document());
    if std::env::var_os("RAVELIN_WRITE").is_some() {
        std::fs::write(&file, &made).unwrap();
    }
    let kept = std::fs::read_to_string(&file).unwrap();
    assert!(
        made == kept,
        "resources/openapi.json is an older one: RAVELIN_WRITE=1 cargo test --bin ravelin openapi"
    );
}

#[test]
fn every_path_is_described_and_every_description_has_a_path() {
    let described: Vec<_> = OPERATIONS
        .iter()
        .map(|one| (one.method.name(), one.path))
        .collect();
    let served: Vec<_> = ROUTES
        .iter()
        .map(|one| (one.method.name(), one.path))
        .collect();
    assert_eq!(described, served);
    for (operation, route) in OPERATIONS.iter().zip(ROUTES) {
        let takes = route.body != Body::None;
        assert_eq!(operation.body.is_some(), takes, "{}", route.path);
    }
}

#[test]
fn the_lines_are_the_document() {
    let document = document();
    let read: Value = serde_json::from_str(&text(&document)).unwrap();
    assert_eq!(read, Value::from(document));
}

/// Every value below `value` that stands under `key`.
fn under<'a>(key: &str, value: &'a Value, found: &mut Vec<&'a Value>) {
    match value {
        Value::Object(object) => {
            found.extend(object.get(key));
            object.values().for_each(|value| under(key, value, found));
        }
        Value::Array(values) => values.iter().for_each(|value| under(key, value, found)),
        _ => {}
    }
}

#[test]
fn every_reference_leads_somewhere() {
    let document = Value::from(document());
    let mut references = Vec::new();
    under("$ref", &document, &mut references);
    assert!(references.len() > 50);
    for reference in references {
        let path = reference.as_str().unwrap().strip_prefix('#').unwrap();
        assert!(document.pointer(path).is_some(), "{path}");
    }
}

#[test]
fn operations_have_names_of_their_own() {
    let names: BTreeSet<_> = OPERATIONS
        .iter()
        .map(|one| name(one.method, one.path))
        .collect();
    assert_eq!(names.len(), OPERATIONS.len());
    assert!(names.contains("getInstance") && names.contains("putMmdsConfig"));
}

#[test]
fn a_body_with_an_unknown_field_is_described_as_wrong() {
    let document = document();
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        // Of a processor's registers, Firecracker takes more than it knows; answers have no such rule.
        let free = [
            "CpuidModifier",
            "RegisterModifier",
            "MsrModifier",
            "Instance",
            "Version",
        ];
        if schema["type"] == "object" && !free.contains(&name.as_str()) {
            assert_eq!(schema["additionalProperties"], false, "{name}");
        }
    }
}

#[test]
fn everything_is_described() {
    let document = document();
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        assert!(schema["description"].is_string(), "{name}");
        for (field, schema) in schema["properties"].as_object().into_iter().flatten() {
            assert!(schema["description"].is_string(), "{name} {field}");
        }
    }
}
