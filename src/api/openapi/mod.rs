//! The description of the API (OpenAPI 3.1.0), made of the table of paths and the types of the bodies.
//!
//! **`resources/openapi.json` is what is made here**, or the test fails. After a change of a path or a body:
//! `RAVELIN_WRITE=1 cargo test --bin ravelin openapi`.

mod operations;
mod schemas;
#[cfg(test)]
mod tests;

use schemars::SchemaGenerator;
use serde_json::{Map, Value, json};
use vmm::events::Event;

use self::operations::{Answer, Note, OPERATIONS, Operation};
use super::http::Method;

/// What is to be known of all of it.
const ABOUT: &str = "The paths without /ravelin are Firecracker's API, wire for wire. A request that is met gets 200 \
    with a body or 204 without one. One that is not gets 400 with a sentence, leaves the VM as it was, and the next \
    right one works; this is so for a path that is not there too. What HTTP itself has against a request is answered \
    with 400 and `error` for `fault_message`: Firecracker's bytes, with a line break that strict JSON readers refuse. \
    A described balloon, pmem device or memory to plug is checked and shown, and refused at \
    InstanceStart.";

/// The description.
fn document() -> Map<String, Value> {
    let mut generator = schemas::generator();
    let mut paths = Map::new();
    for operation in OPERATIONS {
        let item = paths
            .entry(operation.path)
            .or_insert_with(|| path_item(operation.path));
        let method = operation.method.name().to_lowercase();
        item[method] = describe(operation, &mut generator);
    }
    // Named by the stream's description and by no body.
    generator.subschema_for::<Event>();
    let mut schemas = generator.take_definitions(true);
    schemas.insert("Fault".to_owned(), fault());
    let components = json!({ "schemas": schemas, "responses": responses(), "headers": {
        "Deprecation": {
            "description": "`true`: the request used something that will go away.",
            "schema": { "const": "true" },
        },
    } });
    let mut document = Map::new();
    document.insert("openapi".to_owned(), json!("3.1.0"));
    document.insert("info".to_owned(), info());
    document.insert("tags".to_owned(), tags());
    document.insert("paths".to_owned(), paths.into());
    document.insert("components".to_owned(), components);
    document.values_mut().for_each(schemas::tidy);
    document
}

fn info() -> Value {
    json!({
        "title": "ravelin",
        "version": env!("CARGO_PKG_VERSION"),
        "description": ABOUT,
        "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
    })
}

fn tags() -> Value {
    json!([
        { "name": "firecracker", "description": "Firecracker's API" },
        { "name": "ravelin", "description": "What only ravelin has" },
    ])
}

/// A path, with the part that it leaves open.
fn path_item(path: &str) -> Value {
    let open = path
        .split_once('{')
        .and_then(|(_, rest)| rest.split_once('}'));
    let Some((name, _)) = open else {
        return json!({});
    };
    let (pattern, what) = match name {
        "name" => (
            "^[A-Za-z0-9_-]{1,12}$",
            "How the descriptor is called from now on",
        ),
        _ => ("^[A-Za-z0-9_]{1,64}$", "The id that the body has too"),
    };
    json!({ "parameters": [{
        "name": name,
        "in": "path",
        "required": true,
        "description": what,
        "schema": { "type": "string", "pattern": pattern },
    }] })
}

fn describe(operation: &Operation, generator: &mut SchemaGenerator) -> Value {
    let tag = match operation.path.starts_with("/ravelin") {
        true => "ravelin",
        false => "firecracker",
    };
    let mut described = json!({
        "operationId": name(operation.method, operation.path),
        "summary": operation.summary,
        "tags": [tag],
        "responses": answers(operation, generator),
    });
    if matches!(operation.answer, Answer::NotYet) {
        described["description"] = json!("Always refused with 400: not in this version.");
    }
    if let Some(shape) = operation.body {
        let required = !operation.path.starts_with("/balloon/hinting/");
        described["requestBody"] = json!({
            "required": required,
            "content": json_content(&shape(generator).into()),
        });
    }
    described
}

/// `putMmdsConfig` for `PUT /mmds/config`.
fn name(method: Method, path: &str) -> String {
    let mut name = method.name().to_lowercase();
    let parts = path.split(['/', '-', '.']);
    let parts: Vec<_> = parts
        .filter(|part| !part.is_empty() && !part.starts_with('{'))
        .collect();
    for part in if parts.is_empty() {
        &["instance"]
    } else {
        parts.as_slice()
    } {
        let (first, rest) = part.split_at(1);
        name.push_str(&first.to_uppercase());
        name.push_str(rest);
    }
    name
}

fn answers(operation: &Operation, generator: &mut SchemaGenerator) -> Value {
    let mut answers = json!({
        "400": reference("Refused"), "403": reference("NotAllowed"), "503": reference("Busy"),
    });
    match operation.answer {
        Answer::Done if operation.note == Note::Deprecates => {
            answers["204"] = json!({ "description": "Done", "headers": deprecation() });
        }
        Answer::Done => answers["204"] = reference("Done"),
        Answer::Shows(shape) => {
            let content = json_content(&shape(generator).into());
            answers["200"] = json!({ "description": "As asked", "content": content });
        }
        Answer::Text => {
            let content = json!({ "text/plain": { "schema": { "type": "string" } } });
            answers["200"] = json!({
                "description": "Prometheus' text format, version 0.0.4", "content": content,
            });
        }
        Answer::Events => answers["200"] = stream(),
        Answer::NotYet => {}
    }
    if operation.note == Note::Limited {
        answers["413"] = reference("TooLarge");
    }
    answers
}

/// The media type of OpenAPI 3.1 has no word for the events of a stream: their shape is named.
fn stream() -> Value {
    json!({
        "description": "Until the VM ends. Each event has a name and, as `data`, JSON of the schema Event. A slow \
            reader loses events; at most 4 connections are streams.",
        "content": { "text/event-stream": { "schema": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": { "$ref": "#/components/schemas/Event" },
        } } },
    })
}

fn reference(response: &str) -> Value {
    json!({ "$ref": format!("#/components/responses/{response}") })
}

fn json_content(schema: &Value) -> Value {
    json!({ "application/json": { "schema": schema } })
}

fn deprecation() -> Value {
    json!({ "Deprecation": { "$ref": "#/components/headers/Deprecation" } })
}

/// Why something is not done.
fn fault() -> Value {
    json!({
        "type": "object",
        "description": "Why something is not done, in a sentence.",
        "properties": {
            "fault_message": { "type": "string", "description": "What the VM has against the request." },
            "error": { "type": "string", "description": "What HTTP has against it." },
        },
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": false,
    })
}

fn responses() -> Value {
    let content = json_content(&json!({ "$ref": "#/components/schemas/Fault" }));
    json!({
        "Done": { "description": "Done" },
        "Refused": {
            "description": "Not done; the VM is as before", "content": content, "headers": deprecation(),
        },
        "NotAllowed": {
            "description": "The caller's uid may not use this socket (--allow-uid)", "content": content,
        },
        "TooLarge": {
            "description": "The metadata would be larger than --mmds-limit", "content": content,
        },
        "Busy": {
            "description": "10 connections are open, or 4 of them are streams", "content": content,
        },
    })
}

/// The description as it is served: one line for each path and each schema, so that a change can be read.
fn text(document: &Map<String, Value>) -> String {
    let value = |name: &str| &document[name];
    let head = ["openapi", "info", "tags"].map(|name| format!("{name:?}:{}", value(name)));
    let lines = |of: &Value| {
        let of = of.as_object().expect("an object is asked for");
        let lines: Vec<_> = of
            .iter()
            .map(|(key, value)| format!("{key:?}:{value}"))
            .collect();
        format!("{{\n{}\n}}", lines.join(",\n"))
    };
    let components = value("components");
    let rooms = ["headers", "responses", "schemas"]
        .map(|room| format!("{room:?}:{}", lines(&components[room])));
    format!(
        "{{{},\n\"paths\":{},\n\"components\":{{{}}}}}\n",
        head.join(",\n"),
        lines(value("paths")),
        rooms.join(",\n")
    )
}
