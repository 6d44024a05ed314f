//! The original's endpoints, byte for byte as its clients read them: values are JSON strings.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE},
};
use pygmy_raft::{node::Freshness, types::Reply};
use pygmy_storage::{
    catalog::Item,
    command::{Command, Outcome, PlaceOrder, PlaceOrderLine, Rejection},
};
use serde_json::{Map, Value, json};

use super::{
    Api,
    extract::{self, Name, Params},
    openapi, render,
    respond::{self, Answer, json as json_reply, rejection, written},
};
use crate::{
    api::Consistency,
    http::{problem::ApiError, request_id, seed_gone},
};

/// Titles in one answer to a search. The original's catalog had seven.
const SEARCH_MAX: usize = 10_000;
const WELCOME: &str = "Welcome to Pygmy.com, the world's smallest book store!";

/// `GET /`
#[utoipa::path(
    get,
    path = "/",
    operation_id = "welcome",
    tag = "original",
    summary = "A welcome",
    responses((status = 200, description = "A line of text", body = String), openapi::Busy),
)]
pub(super) async fn welcome() -> Response {
    let mut response = (StatusCode::OK, WELCOME).into_response();
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, text);
    response
}

/// `GET /search/{topic}/`
#[utoipa::path(
    get,
    path = "/search/{topic}/",
    operation_id = "search",
    tag = "original",
    summary = "The items of a topic",
    description = "Nothing said, a node answers whatever it has, a facade at least its own newest \
        write.",
    params(("topic" = String, Path, description = "The topic, exactly"), openapi::ReadStale),
    responses(
        (status = 200, description = "Item numbers by title", body = openapi::Found),
        openapi::ReadErrors,
    ),
)]
pub(super) async fn search(
    State(api): State<Api>,
    Name(topic): Name,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, ApiError> {
    let answer = read(&api, &headers, params).await?;
    let page = answer.view.items(Some(&topic), None, SEARCH_MAX);
    let items: Map<String, Value> =
        page.rows.iter().map(|item| (item.title.to_string(), json!(item.id.to_string()))).collect();
    Ok(answer.json(&json!({ "items": items })))
}

/// `GET /lookup/{n}/`
#[utoipa::path(
    get,
    path = "/lookup/{n}/",
    operation_id = "lookup",
    tag = "original",
    summary = "An item",
    description = "Nothing said, a node answers whatever it has, a facade at least its own newest \
        write.",
    params(("n" = String, Path, description = "The item number"), openapi::ReadStale),
    responses(
        (status = 200, description = "The item, or nothing", body = openapi::Lookup),
        openapi::ReadErrors,
    ),
)]
pub(super) async fn lookup(
    State(api): State<Api>,
    Name(n): Name,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, ApiError> {
    let answer = read(&api, &headers, params).await?;
    let item = n.parse().ok().and_then(|id| answer.view.item(id));
    Ok(answer.json(&Value::Object(item.map(|item| fields(item)).unwrap_or_default())))
}

/// The original read whatever its replica had; who wants more says so as elsewhere.
async fn read(api: &Api, headers: &HeaderMap, mut params: Params) -> Result<Answer, ApiError> {
    let freshness = params.freshness(headers, Consistency::Stale);
    params.finish()?;
    api.read(freshness).await
}

fn fields(item: &Item) -> Map<String, Value> {
    let now = httpdate::fmt_http_date(std::time::SystemTime::now());
    [
        ("ItemNumber", item.id.to_string()),
        ("Title", item.title.to_string()),
        ("Topic", item.topic.to_string()),
        ("Cost", render::cost(item.price_cents)),
        ("Stock", item.stock.to_string()),
        ("Time", now),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), Value::String(value)))
    .collect()
}

/// `GET /buy/{n}/`
#[utoipa::path(
    get,
    path = "/buy/{n}/",
    operation_id = "buy",
    tag = "original",
    summary = "Buys one piece",
    description = "Changes the store though it is a GET, for old clients; `POST /v1/orders` is \
        better. Can be switched off: 410 then.",
    params(("n" = String, Path, description = "The item number"), openapi::Write),
    responses(
        (status = 200, description = "The item after the sale, or that there was none",
            body = openapi::Bought),
        openapi::Gone,
        openapi::Conflict,
        openapi::BuyErrors,
    ),
)]
pub(super) async fn buy(
    State(api): State<Api>,
    Name(n): Name,
    headers: HeaderMap,
    params: Params,
) -> Response {
    let mut response = match sell(&api, &n, &headers, params).await {
        Ok(response) => response,
        Err(error) => seed_gone::buy_unavailable(error),
    };
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn sell(
    api: &Api,
    n: &str,
    headers: &HeaderMap,
    params: Params,
) -> Result<Response, ApiError> {
    if !api.settings.legacy_get_buy {
        return Err(seed_gone::buy_switched_off());
    }
    params.finish().map_err(|e| e.outcome(crate::api::WriteOutcome::NotApplied))?;
    // Its headers must be right also where there is nothing to buy.
    extract::idempotency_key(headers)
        .and(extract::timeout(headers, api.settings.request_timeout))
        .map_err(|e| e.outcome(crate::api::WriteOutcome::NotApplied))?;
    let Ok(item) = n.parse() else { return Ok(json_reply(StatusCode::OK, &json!({}))) };
    let command = Command::PlaceOrder(PlaceOrder {
        lines: vec![PlaceOrderLine { item, quantity: 1, expected_price_cents: None }],
        customer: None,
        reference: None,
    });
    let reply = api.write(headers, command).await?;
    Ok(match &reply.applied.outcome {
        Outcome::Ordered(_) => sold(api, &reply, item).await,
        Outcome::Rejected(Rejection::OutOfStock { .. }) => {
            written(&reply, json_reply(StatusCode::OK, &json!({ "Result": "0" })))
        }
        Outcome::Rejected(Rejection::UnknownItem { .. }) => {
            written(&reply, json_reply(StatusCode::OK, &json!({})))
        }
        Outcome::Rejected(why) => written(&reply, rejection(why).into_response()),
        Outcome::Item(_)
        | Outcome::Restocked(_)
        | Outcome::PolicySet
        | Outcome::NodeId(_)
        | Outcome::Batch(_)
        | Outcome::Deleted { .. }
        | Outcome::Imported(_)
        | Outcome::Cancelled(_)
        | Outcome::Reservation(_)
        | Outcome::MaintenanceSet(_)
        | Outcome::Ticked => respond::unexpected_outcome(&reply),
    })
}

/// The item after the sale, read here once this replica has the sale, so that the buyer's next
/// lookup at this node sees it too.
async fn sold(api: &Api, reply: &Reply, item: u64) -> Response {
    let mut body = Map::new();
    body.insert("Result".to_owned(), json!("1"));
    match api.read(Freshness::AtIndex(reply.applied.index)).await {
        Ok(answer) => {
            if let Some(item) = answer.view.item(item) {
                body.extend(fields(item));
            }
        }
        // The sale stands, whether this replica can show its item or not.
        Err(error) => tracing::warn!(
            ?error,
            request = request_id::text(),
            "sold, but the item could not be read"
        ),
    }
    written(reply, json_reply(StatusCode::OK, &Value::Object(body)))
}

/// `DELETE /invalidate/{n}/`: a node has no cache, so there is nothing left to do.
#[utoipa::path(
    delete,
    path = "/invalidate/{n}/",
    operation_id = "invalidate",
    tag = "original",
    summary = "Has a facade forget what it keeps of an item",
    params(("n" = String, Path, description = "The item number")),
    responses(
        (status = 200, description = "Forgotten", body = openapi::Invalidated),
        openapi::Busy,
    ),
)]
pub(super) async fn invalidate(_: Name) -> Response {
    json_reply(StatusCode::OK, &json!({ "invalidated": true }))
}

/// `POST /restock/`
#[utoipa::path(
    post,
    path = "/restock/",
    operation_id = "restock",
    tag = "original",
    summary = "Fills up every item that is sold out",
    params(openapi::Write),
    responses(
        (status = 200, description = "Done", body = openapi::Restocked),
        openapi::WriteErrors,
    ),
)]
pub(super) async fn restock(
    State(api): State<Api>,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, ApiError> {
    params.finish().map_err(|e| e.outcome(crate::api::WriteOutcome::NotApplied))?;
    let reply = api.write(&headers, Command::Restock).await?;
    Ok(match &reply.applied.outcome {
        Outcome::Restocked(items) => {
            written(&reply, json_reply(StatusCode::OK, &json!({ "Restocked": *items > 0 })))
        }
        Outcome::Rejected(why) => written(&reply, rejection(why).into_response()),
        Outcome::Ordered(_)
        | Outcome::Item(_)
        | Outcome::PolicySet
        | Outcome::NodeId(_)
        | Outcome::Batch(_)
        | Outcome::Deleted { .. }
        | Outcome::Imported(_)
        | Outcome::Cancelled(_)
        | Outcome::Reservation(_)
        | Outcome::MaintenanceSet(_)
        | Outcome::Ticked => respond::unexpected_outcome(&reply),
    })
}
