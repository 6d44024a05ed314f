//! What is said of all endpoints alike, put into the finished document.

use serde_json::{Map, Value, json};

use crate::http::problem::Code;

/// The methods that a path can have operations for.
pub(super) const METHODS: [&str; 7] = ["get", "put", "post", "delete", "options", "head", "patch"];

/// Adds what every endpoint has, and what the derived shapes do not say.
pub(super) fn finish(mut document: Value) -> Value {
    let paths = document.get_mut("paths").and_then(Value::as_object_mut);
    for (path, item) in paths.into_iter().flatten() {
        for method in METHODS {
            if let Some(operation) = item.get_mut(method) {
                finish_operation(path, operation);
            }
        }
    }
    bound_integers(&mut document);
    let codes: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
    document["components"]["schemas"]["Problem"]["properties"]["code"]["enum"] = json!(codes);
    document
}

fn finish_operation(path: &str, operation: &mut Value) {
    let has = |name: &str| {
        let parameters = operation["parameters"].as_array();
        parameters.is_some_and(|all| all.iter().any(|parameter| parameter["name"] == name))
    };
    let (is_read, is_write) = (has("consistency"), has("Idempotency-Key"));
    let in_path = path.split('{').skip(1).filter_map(|rest| rest.split_once('}'));
    for (name, _) in in_path {
        debug_assert!(has(name), "{path} does not describe {name}");
    }
    let request_id = parameter(
        "X-Request-Id",
        "An id of the client's, up to 128 visible ASCII characters; another one is replaced.",
    );
    if let Some(object) = operation.as_object_mut() {
        let parameters = object.entry("parameters").or_insert_with(|| json!([]));
        parameters.as_array_mut().into_iter().for_each(|all| all.push(request_id.clone()));
    }
    let media = operation.pointer_mut("/requestBody/content").and_then(Value::as_object_mut);
    for (_, media) in media.into_iter().flatten() {
        // A body that may be left out is not one that may be null.
        let shapes = media.pointer("/schema/oneOf").and_then(Value::as_array);
        let mut shapes = shapes.into_iter().flatten().filter(|shape| shape["type"] != "null");
        if let (Some(shape), None) = (shapes.next().cloned(), shapes.next()) {
            media["schema"] = shape;
        }
    }
    let responses = operation.get_mut("responses").and_then(Value::as_object_mut);
    for (status, response) in responses.into_iter().flatten() {
        let Some(response) = response.as_object_mut() else { continue };
        let headers = response.entry("headers").or_insert_with(|| json!({}));
        let Some(headers) = headers.as_object_mut() else { continue };
        let mut add = |name, kind, description| add_header(headers, name, kind, description);
        add("X-Request-Id", "string", "The request's id.");
        add("Pygmy-Node", "string", "Who answered.");
        add(
            "Pygmy-Index",
            "integer",
            "The log index that the reply reflects, or at which the write was applied.",
        );
        if is_read && status == "200" {
            add(
                "Pygmy-Staleness-Ms",
                "integer",
                "Of a stale read: milliseconds since the replica heard from a leader.",
            );
            add("Age", "integer", "From a facade's cache: seconds since it was stored.");
            add("X-Cache", "string", "`HIT`: from a facade's cache.");
        }
        if is_write && !status.starts_with('5') {
            add(
                "Idempotent-Replayed",
                "string",
                "`true`: this repeats the first reply to the same key.",
            );
        }
        if is_write && status == "504" {
            add("Idempotency-Key", "string", "The key that a facade made, to repeat the request.");
        }
    }
}

fn parameter(name: &str, description: &str) -> Value {
    json!({
        "name": name,
        "in": "header",
        "required": false,
        "description": description,
        "schema": { "type": "string" },
    })
}

fn add_header(headers: &mut Map<String, Value>, name: &str, kind: &str, description: &str) {
    let mut schema = json!({ "type": kind });
    if kind == "integer" {
        schema["minimum"] = json!(0);
    }
    headers.insert(name.to_owned(), json!({ "schema": schema, "description": description }));
}

/// A whole number without a sign is one of 64 bits, which the derived shapes call `int64`: half of
/// what is taken.
fn bound_integers(value: &mut Value) {
    match value {
        Value::Object(object) => {
            let of_64_bits =
                object.get("format").is_some_and(|format| format == "int64" || format == "uint64");
            let unsigned =
                object.get("minimum").and_then(Value::as_i64).is_some_and(|min| min >= 0);
            if of_64_bits && unsigned {
                object.insert("format".to_owned(), json!("uint64"));
                object.entry("maximum").or_insert_with(|| json!(u64::MAX));
            }
            object.values_mut().for_each(bound_integers);
        }
        Value::Array(array) => array.iter_mut().for_each(bound_integers),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
