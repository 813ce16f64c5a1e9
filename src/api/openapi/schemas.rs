//! Schemas as types make them, and what they lack for readers of JSON.

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

/// Makes schemas of what is read. What is written can be read again, so one schema serves for both.
pub(super) fn generator() -> SchemaGenerator {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
    });
    settings.into_generator()
}

/// Puts ranges in the place of Rust's integer types, and plain words in the place of links into its docs.
pub(super) fn tidy(value: &mut Value) {
    match value {
        Value::Object(object) => {
            let most = object
                .get("format")
                .and_then(Value::as_str)
                .and_then(largest);
            if let Some(most) = most {
                object.remove("format");
                object.entry("maximum").or_insert(most);
            }
            // `null` as a default says no more than that the field may be left out.
            if object.get("default") == Some(&Value::Null) {
                object.remove("default");
            }
            if let Some(Value::String(text)) = object.get_mut("description") {
                *text = plain(text);
            }
            object.values_mut().for_each(tidy);
        }
        Value::Array(values) => values.iter_mut().for_each(tidy),
        _ => {}
    }
}

/// The largest number of one of Rust's integer types, for which JSON Schema has no word.
fn largest(format: &str) -> Option<Value> {
    Some(match format {
        "uint8" => json!(u8::MAX),
        "uint16" => json!(u16::MAX),
        "uint32" => json!(u32::MAX),
        "uint64" => json!(u64::MAX),
        _ => return None,
    })
}

/// A doc comment without links and line breaks.
fn plain(text: &str) -> String {
    let text = text
        .replace("[`", "`")
        .replace("`]", "`")
        .replace("`Self::", "`");
    let paragraphs = text
        .split("\n\n")
        .map(|paragraph| paragraph.replace('\n', " "));
    paragraphs.collect::<Vec<_>>().join("\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_integer_type_becomes_a_range() {
        let mut schema = json!({ "a": { "type": "integer", "format": "uint16", "minimum": 0 } });
        tidy(&mut schema);
        let range = json!({ "type": "integer", "minimum": 0, "maximum": 65535 });
        assert_eq!(schema["a"], range);
    }

    #[test]
    fn a_doc_comment_becomes_plain_text() {
        assert_eq!(plain("as\n[`Self::T2`], [`X`]\n\nb"), "as `T2`, `X`\n\nb");
    }
}
