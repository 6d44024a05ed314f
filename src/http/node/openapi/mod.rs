//! `/openapi.json`: the OpenAPI 3.1 document of the whole interface, generated from the handlers'
//! `#[utoipa::path]` and the shapes of [`crate::api`].
//!
//! What is the same for many endpoints is said once: parameters in [`parameters`], errors in
//! [`problems`], and what every reply carries is added to all of them in [`finish`].

mod docs;
mod finish;
mod parameters;
mod problems;
mod shapes;

use std::sync::LazyLock;

use axum::{
    body::Bytes,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header::CONTENT_TYPE};
use serde_json::Value;
use utoipa::OpenApi;

pub(super) use self::{
    docs::{docs, docs_file},
    parameters::{
        Changes, Export, IfMatch, IfNoneMatch, Import, Items, OnlyCreate, Orders, Page, Probe,
        Read, ReadStale, Reservations, Write,
    },
    problems::{
        BodyErrors, Busy, BuyErrors, Conflict, Gone, Mismatch, NoSuch, ReadErrors, WriteErrors,
        WrongState,
    },
    shapes::{Bought, Flags, Found, Health, Invalidated, Lookup, Restocked},
};
use super::{
    backup, batch, changes, cluster, export, health, import, items, orders, policy, reservations,
    seed,
};
use crate::api;

/// The document as the handlers make it. A new handler is added to `paths`.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Pygmy",
        description = "A replicated store for a product catalog and its orders. The facade and every \
            node serve the same interface. Money is in cents; times are RFC 3339 in UTC; every \
            error is an RFC 9457 problem document with a stable `code`.",
    ),
    servers((url = "/")),
    tags(
        (name = "items", description = "The catalog and its stock."),
        (name = "orders", description = "Sales: all lines of an order, or none."),
        (name = "reservations", description = "Pieces held for a time, then sold or given back."),
        (name = "files", description = "The catalog, the orders, and everything as files."),
        (name = "changes", description = "What happened since an index."),
        (name = "cluster", description = "The members, and what they hold."),
        (name = "health", description = "For probes; answered also when a node is full."),
        (name = "original", description = "The endpoints of the original system, for its clients. \
            Each is there with and without the slash at the end; values are strings."),
        (name = "documentation", description = "This document."),
    ),
    paths(
        items::list,
        items::get,
        items::put,
        items::change_stock,
        items::topics,
        items::ledger,
        items::create,
        items::patch,
        items::delete,
        items::prices,
        orders::list,
        orders::create,
        batch::create,
        orders::get,
        orders::cancel,
        reservations::list,
        reservations::create,
        reservations::get,
        reservations::release,
        reservations::confirm,
        changes::changes,
        import::import,
        export::export,
        backup::backup,
        cluster::members,
        cluster::verify,
        policy::get,
        policy::put,
        policy::set_maintenance,
        health::livez,
        health::readyz,
        health::clusterz,
        seed::welcome,
        seed::search,
        seed::lookup,
        seed::buy,
        seed::invalidate,
        seed::restock,
        cluster::heartbeat,
        document,
        docs::docs,
        docs::docs_file,
    ),
    components(schemas(api::Problem))
)]
struct Document;

/// The document, finished. It is the same for as long as the program runs.
pub(super) static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
    let document = serde_json::to_value(Document::openapi());
    finish::finish(document.expect("a document has string keys and plain values only"))
});
static DOCUMENT_BYTES: LazyLock<Bytes> = LazyLock::new(|| DOCUMENT.to_string().into());

/// The methods that a path takes, for `Allow`; None if there is no such path.
pub(crate) fn methods_of(path: &str) -> Option<String> {
    let paths = DOCUMENT["paths"].as_object()?;
    let fits = paths.iter().filter(|(template, _)| is_of(path, template));
    // Of `/v1/orders/batch` and `/v1/orders/{id}` the one that says more.
    let (template, item) = fits.min_by_key(|(template, _)| template.matches('{').count())?;
    let mut methods: Vec<_> =
        item.as_object()?.keys().map(|method| method.to_uppercase()).collect();
    if methods.iter().any(|method| method == "GET") && !template.starts_with(super::BUY) {
        methods.push("HEAD".to_owned());
    }
    Some(methods.join(", "))
}

/// Whether a path is one of this template. The original's are there without their last slash too.
fn is_of(path: &str, template: &str) -> bool {
    let path = match template.strip_suffix('/') {
        Some(_) => path.strip_suffix('/').unwrap_or(path),
        None => path,
    };
    let template = template.strip_suffix('/').unwrap_or(template);
    let (mut parts, mut templates) = (path.split('/'), template.split('/'));
    loop {
        match (parts.next(), templates.next()) {
            (None, None) => return true,
            (Some(part), Some(wanted)) if wanted.starts_with('{') && !part.is_empty() => {}
            (Some(part), Some(wanted)) if part == wanted => {}
            _ => return false,
        }
    }
}

/// This document.
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "documentation",
    responses((status = 200, description = "The OpenAPI 3.1 document", body = serde_json::Value)),
)]
pub(super) async fn document() -> Response {
    let mut response = (StatusCode::OK, DOCUMENT_BYTES.clone()).into_response();
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}
