//! The data: one JSON document, changed by the user, read by the guest.

use serde_json::Value;

/// A guest's metadata.
#[derive(Debug)]
pub(super) struct Store {
    /// Null until the first [`Store::put`].
    data: Value,
    is_initialized: bool,
    limit: usize,
}

/// Why a change was refused; the data are as before. The texts are Firecracker's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The document would be longer than the limit. REST answers with 413.
    #[error("The MMDS patch request doesn't fit.")]
    TooLarge,
    /// A patch came before any document.
    #[error("The MMDS data store is not initialized.")]
    NotInitialized,
}

/// Why a guest gets no value. The texts are Firecracker's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum LookupError {
    /// Nothing at this path.
    #[error("The MMDS resource does not exist.")]
    NotFound,
    /// Neither a text nor an object, and text was asked for.
    #[error("Cannot retrieve value. The value has an unsupported type.")]
    NotText,
}

/// How a value is written for the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// As JSON without blanks.
    Json,
    /// As EC2's service does: a text as it is, an object as its keys, one a line.
    Imds,
}

impl Store {
    /// An empty store for documents of at most `limit` bytes of JSON without blanks.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            data: Value::Null,
            is_initialized: false,
            limit,
        }
    }

    /// Replaces the document.
    pub(super) fn put(&mut self, data: Value) -> Result<(), StoreError> {
        self.check(&data)?;
        self.data = data;
        self.is_initialized = true;
        Ok(())
    }

    /// Changes the document by a merge patch (RFC 7396).
    pub(super) fn patch(&mut self, patch: Value) -> Result<(), StoreError> {
        if !self.is_initialized {
            return Err(StoreError::NotInitialized);
        }
        let mut data = self.data.clone();
        merge(&mut data, patch);
        self.check(&data)?;
        self.data = data;
        Ok(())
    }

    /// The whole document; an empty object before there is one.
    pub(super) fn get(&self) -> Value {
        match &self.data {
            Value::Null => Value::Object(serde_json::Map::new()),
            data => data.clone(),
        }
    }

    /// The value at `path`, whose parts are separated by one or more slashes and may end with some. In a
    /// part, `~1` is a slash and `~0` a tilde, and a number picks from an array (RFC 6901).
    ///
    /// **The work is bounded by the path's length and the store's limit.**
    pub(super) fn lookup(&self, path: &str, format: Format) -> Result<String, LookupError> {
        let value = self.data.pointer(&pointer(path));
        let value = value.ok_or(LookupError::NotFound)?;
        match (format, value) {
            (Format::Json, value) => Ok(value.to_string()),
            (Format::Imds, Value::String(text)) => Ok(text.clone()),
            (Format::Imds, Value::Object(object)) => {
                let lines = object.iter().map(|(key, value)| match value {
                    Value::Object(_) => format!("{key}/"),
                    _ => key.clone(),
                });
                Ok(lines.collect::<Vec<_>>().join("\n"))
            }
            (Format::Imds, _) => Err(LookupError::NotText),
        }
    }

    fn check(&self, data: &Value) -> Result<(), StoreError> {
        if data.to_string().len() > self.limit {
            return Err(StoreError::TooLarge);
        }
        Ok(())
    }
}

/// A path as a JSON pointer: one slash in place of several, none at the end.
pub(super) fn pointer(path: &str) -> String {
    let mut pointer = String::with_capacity(path.len());
    for letter in path.chars() {
        if letter != '/' || !pointer.ends_with('/') {
            pointer.push(letter);
        }
    }
    if pointer.ends_with('/') {
        pointer.pop();
    }
    pointer
}

/// RFC 7396 §2. As deep as the patch is: 128 levels if serde_json has parsed it.
fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Some(object) = target.as_object_mut() else {
        return;
    };
    for (key, value) in patch {
        if value.is_null() {
            object.remove(&key);
        } else {
            merge(object.entry(key).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn store(data: Value) -> Store {
        let mut store = Store::new(51_200);
        store.put(data).unwrap();
        store
    }

    fn sample() -> Store {
        store(json!({
            "name": {"first": "Ada", "last": "Vauban"},
            "age": 43,
            "phones": ["+1", "+2"],
            "a/b": "slash", "m~n": "tilde", "empty": "", "nothing": null,
        }))
    }

    #[test]
    fn json_gives_any_value_by_its_path() {
        let store = sample();
        for (path, wanted) in [
            ("/name", r#"{"first":"Ada","last":"Vauban"}"#),
            ("/name/", r#"{"first":"Ada","last":"Vauban"}"#),
            ("/name/first", r#""Ada""#),
            ("//name///first//", r#""Ada""#),
            ("/age", "43"),
            ("/phones", r#"["+1","+2"]"#),
            ("/phones/1", r#""+2""#),
            ("/a~1b", r#""slash""#),
            ("/m~0n", r#""tilde""#),
            ("/nothing", "null"),
        ] {
            let found = store.lookup(path, Format::Json);
            assert_eq!(found.as_deref(), Ok(wanted), "{path}");
        }
    }

    #[test]
    fn text_gives_texts_and_the_keys_of_objects() {
        let store = sample();
        let keys = "a/b\nage\nempty\nm~n\nname/\nnothing\nphones";
        for (path, wanted) in [
            ("/", Ok(keys)),
            ("/name", Ok("first\nlast")),
            ("/name/first/", Ok("Ada")),
            ("/empty", Ok("")),
            ("/phones/0", Ok("+1")),
            ("/age", Err(LookupError::NotText)),
            ("/phones", Err(LookupError::NotText)),
            ("/nothing", Err(LookupError::NotText)),
        ] {
            let found = store.lookup(path, Format::Imds);
            assert_eq!(found.as_deref(), wanted.as_ref().copied(), "{path}");
        }
    }

    #[test]
    fn a_path_to_nothing_finds_nothing() {
        let store = sample();
        for path in [
            "/x",
            "/name/x",
            "/age/x",
            "/phones/2",
            "/phones/-1",
            "/ ",
            "/name/first/x",
        ] {
            let found = store.lookup(path, Format::Json);
            assert_eq!(found, Err(LookupError::NotFound), "{path}");
        }
    }

    #[test]
    fn ten_thousand_parts_lead_nowhere() {
        let path = "/name".repeat(10_000);
        assert_eq!(
            sample().lookup(&path, Format::Imds),
            Err(LookupError::NotFound)
        );
    }

    #[test]
    fn the_deepest_document_that_can_be_read_is_held_patched_and_found() {
        let deep = format!("{}1{}", r#"{"a":"#.repeat(127), "}".repeat(127));
        let mut store = store(serde_json::from_str(&deep).unwrap());
        let patch = format!("{}\"x\"{}", r#"{"a":"#.repeat(127), "}".repeat(127));
        store.patch(serde_json::from_str(&patch).unwrap()).unwrap();
        let found = store.lookup(&"/a".repeat(127), Format::Imds);
        assert_eq!(found.as_deref(), Ok("x"));
        assert!(serde_json::from_str::<Value>(&"[".repeat(129)).is_err());
    }

    #[test]
    fn before_the_first_document_there_is_an_empty_one_and_nothing_to_patch() {
        let mut store = Store::new(100);
        assert_eq!(store.get(), json!({}));
        assert_eq!(
            store.patch(json!({"a": 1})),
            Err(StoreError::NotInitialized)
        );
        assert_eq!(store.lookup("/", Format::Json).as_deref(), Ok("null"));
        assert_eq!(store.lookup("/", Format::Imds), Err(LookupError::NotText));
        assert_eq!(store.lookup("/a", Format::Json), Err(LookupError::NotFound));
        store.put(json!({})).unwrap();
        assert_eq!(store.patch(json!({"a": 1})), Ok(()));
        assert_eq!(store.get(), json!({"a": 1}));
    }

    #[test]
    fn a_document_of_the_limit_fits_and_one_byte_more_does_not() {
        // {"a":"..."} is 8 bytes and the text.
        let of = |len: usize| json!({"a": "x".repeat(len - 8)});
        let mut store = Store::new(100);
        assert_eq!(store.put(of(100)), Ok(()));
        assert_eq!(store.put(of(101)), Err(StoreError::TooLarge));
        assert_eq!(store.patch(json!({"b": 1})), Err(StoreError::TooLarge));
        assert_eq!(store.get(), of(100), "a refused change changes nothing");
        assert_eq!(store.patch(json!({"a": "y"})), Ok(()));
    }

    #[test]
    fn patches_are_merged_as_the_rfc_says() {
        // RFC 7396, appendix A.
        for (before, patch, after) in [
            (json!({"a":"b"}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"b"}), json!({"b":"c"}), json!({"a":"b","b":"c"})),
            (json!({"a":"b"}), json!({"a":null}), json!({})),
            (
                json!({"a":"b","b":"c"}),
                json!({"a":null}),
                json!({"b":"c"}),
            ),
            (json!({"a":["b"]}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"c"}), json!({"a":["b"]}), json!({"a":["b"]})),
            (
                json!({"a":{"b":"c"}}),
                json!({"a":{"b":"d","c":null}}),
                json!({"a":{"b":"d"}}),
            ),
            (json!({"a":[{"b":"c"}]}), json!({"a":[1]}), json!({"a":[1]})),
            (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
            (json!({"a":"b"}), json!(["c"]), json!(["c"])),
            (json!({"a":"foo"}), json!(null), json!(null)),
            (json!({"e":null}), json!({"a":1}), json!({"e":null,"a":1})),
            (json!([1, 2]), json!({"a":"b","c":null}), json!({"a":"b"})),
            (
                json!({}),
                json!({"a":{"bb":{"ccc":null}}}),
                json!({"a":{"bb":{}}}),
            ),
        ] {
            let mut merged = before.clone();
            merge(&mut merged, patch.clone());
            assert_eq!(merged, after, "{before} and {patch}");
        }
    }
}
