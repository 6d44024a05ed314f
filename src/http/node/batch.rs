//! `POST /v1/orders/batch`.
//!
//! Three kinds of failure, kept apart: what is wrong with the request is found before the log and
//! refuses all of it, with the place; what is wrong with the store is the request's as well, with what
//! became of it; what is refused of an order stands in the order's result.

use std::collections::BTreeMap;

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode};
use pygmy_raft::types::Reply;
use pygmy_storage::{
    command::{
        BatchOrder, BatchOutcome, BatchResult, Command, KeyClaim, Outcome, PlaceOrder, PlaceOrders,
        Rejection,
    },
    orders::Order,
};

use super::{
    Api,
    extract::{self, Json, Params, before_the_log},
    openapi, orders,
    ranges::Ranges,
    render,
    respond::{self, json, rejection, written},
};
use crate::{
    api::{self, BATCH_LINES_MAX, OrderResultStatus, header},
    http::problem::{ApiError, Code},
};

/// After so many wrong places the others are not looked for any more.
const WRONG_PLACES_MAX: usize = 100;

/// A batch that is well-formed.
struct Batch {
    atomic: bool,
    /// The key of the batch as a whole.
    key: Option<String>,
    orders: PlaceOrders,
}

/// `POST /v1/orders/batch`
#[utoipa::path(
    post,
    path = "/v1/orders/batch",
    operation_id = "place_orders",
    tag = "orders",
    summary = "Places many orders",
    description = "`atomic`: all or none, in one log entry; otherwise each for itself. A key of the \
        batch stands in the header; or each order has one, as if it were sent alone. At most 10,000 \
        lines in all.",
    params(openapi::Write),
    request_body = api::NewOrderBatch,
    responses(
        (status = 200, description = "What came of each order, in order", body = api::OrderBatch),
        openapi::BodyErrors,
        openapi::WriteErrors,
    ),
)]
pub(super) async fn create(
    State(api): State<Api>,
    headers: HeaderMap,
    params: Params,
    body: Result<Json<api::NewOrderBatch>, ApiError>,
) -> Result<Response, ApiError> {
    let batch = before_the_log(|| {
        params.finish()?;
        let Json(body) = body?;
        read(body, &headers, api.settings.max_batch_orders)
    })?;
    match batch.atomic {
        true => place_together(&api, &headers, batch).await,
        false => place_separately(&api, &headers, batch).await,
    }
}

/// One entry: all orders or none.
async fn place_together(
    api: &Api,
    headers: &HeaderMap,
    batch: Batch,
) -> Result<Response, ApiError> {
    let command = Command::PlaceOrders(batch.orders);
    let claim = batch.key.map(|key| KeyClaim::new(&key, &command));
    let reply = api.write_claimed(headers, claim, command).await?;
    Ok(match &reply.applied.outcome {
        Outcome::Batch(outcome) => answer(together(outcome, &reply), reply.applied.index),
        // The key of the batch belongs to another request.
        Outcome::Rejected(why) => written(&reply, rejection(why).into_response()),
        Outcome::Ordered(_)
        | Outcome::Item(_)
        | Outcome::Restocked(_)
        | Outcome::PolicySet
        | Outcome::NodeId(_)
        | Outcome::Deleted { .. }
        | Outcome::Imported(_)
        | Outcome::Cancelled(_)
        | Outcome::Reservation(_)
        | Outcome::MaintenanceSet(_)
        | Outcome::Ticked => respond::unexpected_outcome(&reply),
    })
}

fn together(outcome: &BatchOutcome, reply: &Reply) -> Vec<api::OrderResult> {
    let again = reply.applied.replayed;
    let mut orders = reply.orders.iter();
    let results = outcome.results().map(|result| match result {
        BatchResult::Ordered(_) => placed(orders.next(), again),
        BatchResult::Replayed(_) => placed(orders.next(), true),
        BatchResult::Refused(refusal) => refused(&refusal.why, again || refusal.replayed),
        BatchResult::NotApplied => api::OrderResult {
            status: OrderResultStatus::NotApplied,
            replayed: again,
            order: None,
            problem: None,
        },
    });
    results.collect()
}

/// One entry for each order, proposed all at once.
async fn place_separately(
    api: &Api,
    headers: &HeaderMap,
    batch: Batch,
) -> Result<Response, ApiError> {
    let commands = batch.orders.separately(batch.key.as_deref());
    let replies = api.write_many(headers, commands).await?;
    // Under a key of the batch the orders stand or fall with it; maintenance is of the whole store.
    if let Some(first) = replies.first()
        && let Outcome::Rejected(why) = &first.applied.outcome
        && (*why == Rejection::Maintenance || *why == Rejection::KeyReused && batch.key.is_some())
        && replies.iter().all(|reply| reply.applied.outcome == first.applied.outcome)
    {
        return Ok(written(first, rejection(why).into_response()));
    }
    let index = replies.iter().map(|reply| reply.applied.index).max().unwrap_or(0);
    let mut results = Vec::with_capacity(replies.len());
    for reply in &replies {
        results.push(match &reply.applied.outcome {
            Outcome::Ordered(_) => placed(reply.orders.first(), reply.applied.replayed),
            Outcome::Rejected(why) => refused(why, reply.applied.replayed),
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
            | Outcome::Ticked => return Ok(respond::unexpected_outcome(reply)),
        });
    }
    Ok(answer(results, index))
}

fn placed(order: Option<&std::sync::Arc<Order>>, replayed: bool) -> api::OrderResult {
    api::OrderResult {
        status: OrderResultStatus::Placed,
        replayed,
        order: order.map(|order| render::order(order, None)),
        problem: None,
    }
}

fn refused(why: &Rejection, replayed: bool) -> api::OrderResult {
    api::OrderResult {
        status: OrderResultStatus::Refused,
        replayed,
        order: None,
        problem: Some(rejection(why).to_problem()),
    }
}

fn answer(results: Vec<api::OrderResult>, index: u64) -> Response {
    let replayed = results.iter().all(|result| result.replayed);
    let mut response = json(StatusCode::OK, &api::OrderBatch { results });
    let headers = response.headers_mut();
    headers.insert(header::INDEX, HeaderValue::from(index));
    if replayed {
        headers.insert(header::IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
    }
    response
}

/// Checks everything that can be checked before the log.
fn read(
    body: api::NewOrderBatch,
    headers: &HeaderMap,
    orders_max: usize,
) -> Result<Batch, ApiError> {
    let mut size = Ranges::default();
    let count = body.orders.len();
    let detail = format!("must be 1 to {orders_max} orders, and are {count}");
    size.expect((1..=orders_max).contains(&count), "/orders", &detail);
    let lines: usize = body.orders.iter().map(|order| order.lines.len()).sum();
    let detail = format!("must have {BATCH_LINES_MAX} lines in all at most, and have {lines}");
    size.expect(lines <= BATCH_LINES_MAX, "/orders", &detail);
    size.finish()?;
    let key = batch_key(&body.orders, headers)?;
    let mut ranges = Ranges::default();
    let mut orders = Vec::with_capacity(count);
    for (position, order) in body.orders.into_iter().enumerate() {
        if ranges.count() >= WRONG_PLACES_MAX {
            break;
        }
        let api::NewBatchOrder { lines, customer, reference, idempotency_key } = order;
        let order = api::NewOrder { lines, customer, reference };
        orders::check(&order, &format!("/orders/{position}"), &mut ranges);
        let order = orders::plain_order(order);
        let key = idempotency_key.map(|key| claim(&key, &order));
        orders.push(BatchOrder { key, order });
    }
    ranges.finish()?;
    Ok(Batch { atomic: body.atomic, key, orders: PlaceOrders { orders } })
}

/// An order's key claims it as the order alone would be claimed.
fn claim(key: &str, order: &PlaceOrder) -> KeyClaim {
    KeyClaim::new(key, &Command::PlaceOrder(order.clone()))
}

/// The key of the batch as a whole. Either that or a key for every order, each another one.
fn batch_key(
    orders: &[api::NewBatchOrder],
    headers: &HeaderMap,
) -> Result<Option<String>, ApiError> {
    let given = extract::idempotency_key(headers)?;
    if orders.iter().all(|order| order.idempotency_key.is_none()) {
        return Ok(given);
    }
    let refuse = |position: usize, what: &str| {
        let pointer = format!("/orders/{position}/idempotency_key");
        let detail = format!("{pointer} {what}.");
        Err(ApiError::new(Code::Malformed, detail).error(pointer, what))
    };
    let made = headers.contains_key(header::KEY_MADE);
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for (position, order) in orders.iter().enumerate() {
        let Some(key) = order.idempotency_key.as_deref() else {
            return refuse(position, "is missing, while other orders have one");
        };
        if given.is_some() && !made {
            return refuse(position, "cannot stand together with the header Idempotency-Key");
        }
        if !extract::is_idempotency_key(key) {
            return refuse(position, "is not 1 to 255 visible ASCII characters");
        }
        if let Some(first) = seen.insert(key, position) {
            return refuse(position, &format!("is that of order {first} as well"));
        }
    }
    Ok(None)
}
