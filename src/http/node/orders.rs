//! `/v1/orders`.

use std::sync::Arc;

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode, header::LOCATION};
use pygmy_raft::{node::Freshness, types::Reply};
use pygmy_storage::{
    command::{CancelOrder, Command, KeyClaim, Outcome, PlaceOrder, PlaceOrderLine},
    orders::{Order, OrderId, OrderStatus},
    query::{Found, OrderFilter},
};

use super::{
    Api,
    extract::{self, Id, Json, JsonOrNothing, Params, before_the_log},
    openapi,
    ranges::Ranges,
    render,
    respond::{self, Answer, json, rejection, written},
};
use crate::{
    api::{
        self, AMOUNT_MAX, CANCEL_REASON_BYTES_MAX, Consistency, ORDER_LINES_MAX, QUANTITY_MAX,
        REFERENCE_BYTES_MAX, WriteOutcome,
    },
    http::problem::{ApiError, Code},
};

/// `POST /v1/orders`
#[utoipa::path(
    post,
    path = "/v1/orders",
    operation_id = "place_order",
    tag = "orders",
    summary = "Places an order: all lines or none",
    description = "The reply shows the order as it was placed, also when it is given again.",
    params(openapi::Write),
    request_body = api::NewOrder,
    responses(
        (status = 201, description = "Placed", body = api::Order,
            headers(("Location" = String, description = "Its path"))),
        openapi::NoSuch,
        openapi::Conflict,
        openapi::BodyErrors,
        openapi::WriteErrors,
    ),
)]
pub(super) async fn create(
    State(api): State<Api>,
    headers: HeaderMap,
    params: Params,
    body: Result<Json<api::NewOrder>, ApiError>,
) -> Result<Response, ApiError> {
    let command = before_the_log(|| {
        params.finish()?;
        let Json(body) = body?;
        let mut ranges = Ranges::default();
        check(&body, "", &mut ranges);
        ranges.finish()?;
        Ok(Command::PlaceOrder(plain_order(body)))
    })?;
    let reply = api.write(&headers, command).await?;
    Ok(ordered(&reply))
}

/// The reply to a write that makes one order. It shows the order as it was made, when it is repeated
/// too: what became of it since, the order itself tells.
pub(super) fn ordered(reply: &Reply) -> Response {
    match (&reply.applied.outcome, reply.orders.first()) {
        (Outcome::Ordered(id), Some(order)) => {
            let response = json(StatusCode::CREATED, &render::order(order, None));
            written(reply, at(response, &format!("/v1/orders/{id}")))
        }
        (Outcome::Rejected(why), _) => written(reply, rejection(why).into_response()),
        (
            Outcome::Ordered(_)
            | Outcome::Item(_)
            | Outcome::Restocked(_)
            | Outcome::PolicySet
            | Outcome::NodeId(_)
            | Outcome::Batch(_)
            | Outcome::Deleted { .. }
            | Outcome::Imported(_)
            | Outcome::Cancelled(_)
            | Outcome::Reservation(_)
            | Outcome::MaintenanceSet(_)
            | Outcome::Ticked,
            _,
        ) => respond::unexpected_outcome(reply),
    }
}

/// Adds the path of what was made.
pub(super) fn at(mut response: Response, path: &str) -> Response {
    let path = HeaderValue::from_str(path).expect("an ASCII path");
    response.headers_mut().insert(LOCATION, path);
    response
}

/// `POST /v1/orders/{id}/cancel`
#[utoipa::path(
    post,
    path = "/v1/orders/{id}/cancel",
    operation_id = "cancel_order",
    tag = "orders",
    summary = "Takes an order back: its pieces return",
    description = "No pieces return to an item that was deleted since. The body may be left out.",
    params(("id" = u64, Path, description = "The order number"), openapi::Write),
    request_body = Option<api::CancelOrder>,
    responses(
        (status = 200, description = "The order, cancelled", body = api::Order),
        openapi::NoSuch,
        openapi::WrongState,
        openapi::BodyErrors,
        openapi::WriteErrors,
    ),
)]
pub(super) async fn cancel(
    State(api): State<Api>,
    Id(id): Id,
    headers: HeaderMap,
    params: Params,
    body: Result<JsonOrNothing<api::CancelOrder>, ApiError>,
) -> Result<Response, ApiError> {
    let not_applied = |error: ApiError| error.outcome(WriteOutcome::NotApplied);
    let read = (|| {
        params.finish()?;
        let JsonOrNothing(api::CancelOrder { reason }) = body?;
        let mut ranges = Ranges::default();
        if let Some(reason) = &reason {
            ranges.text(reason, 1, CANCEL_REASON_BYTES_MAX, "/reason");
        }
        ranges.finish()?;
        Ok((reason, extract::idempotency_key(&headers)?, api.deadline(&headers)?))
    })();
    let (reason, key, deadline) = read.map_err(not_applied)?;
    // An order never changes, so it does not matter how old this is once it is there.
    let answer = api.read_until(Freshness::Linearizable, deadline).await.map_err(not_applied)?;
    let Some(order) = find(&api, &answer, id).await.map_err(not_applied)? else {
        return Ok(answer.error(not_applied(no_order(id))));
    };
    let command = Command::CancelOrder(CancelOrder::of(&order, reason));
    let claim = key.map(|key| KeyClaim::new(&key, &command));
    let reply = api.write_until(claim, command, deadline).await?;
    Ok(match &reply.applied.outcome {
        Outcome::Cancelled(cancellation) => {
            written(&reply, json(StatusCode::OK, &render::order(&order, Some(cancellation))))
        }
        Outcome::Rejected(why) => written(&reply, rejection(why).into_response()),
        Outcome::Ordered(_)
        | Outcome::Item(_)
        | Outcome::Restocked(_)
        | Outcome::PolicySet
        | Outcome::NodeId(_)
        | Outcome::Batch(_)
        | Outcome::Deleted { .. }
        | Outcome::Imported(_)
        | Outcome::Reservation(_)
        | Outcome::MaintenanceSet(_)
        | Outcome::Ticked => respond::unexpected_outcome(&reply),
    })
}

/// An order as the log has it.
pub(super) fn plain_order(order: api::NewOrder) -> PlaceOrder {
    let lines = plain_lines(order.lines);
    PlaceOrder { lines, customer: order.customer, reference: order.reference }
}

/// Lines as the log has them.
pub(super) fn plain_lines(lines: Vec<api::NewOrderLine>) -> Vec<PlaceOrderLine> {
    let lines = lines.into_iter().map(|line| PlaceOrderLine {
        item: line.item,
        quantity: line.quantity,
        expected_price_cents: line.expected_price_cents,
    });
    lines.collect()
}

/// Checks an order that stands at `place` in the body.
pub(super) fn check(order: &api::NewOrder, place: &str, ranges: &mut Ranges) {
    check_lines(&order.lines, place, ranges);
    check_texts(order.customer.as_deref(), order.reference.as_deref(), place, ranges);
}

/// Checks the lines of what stands at `place` in the body.
pub(super) fn check_lines(lines: &[api::NewOrderLine], place: &str, ranges: &mut Ranges) {
    let count = lines.len();
    ranges.expect(
        (1..=ORDER_LINES_MAX).contains(&count),
        format_args!("{place}/lines"),
        format_args!("must be 1 to {ORDER_LINES_MAX} lines, and are {count}"),
    );
    for (n, line) in lines.iter().enumerate().take(ORDER_LINES_MAX) {
        ranges.expect(
            (1..=QUANTITY_MAX).contains(&line.quantity),
            format_args!("{place}/lines/{n}/quantity"),
            format_args!("must be from 1 to {QUANTITY_MAX}"),
        );
        ranges.expect(
            line.expected_price_cents.unwrap_or(0) <= AMOUNT_MAX,
            format_args!("{place}/lines/{n}/expected_price_cents"),
            "is larger than any price",
        );
    }
}

/// Checks for whom it is, and the caller's reference.
pub(super) fn check_texts(
    customer: Option<&str>,
    reference: Option<&str>,
    place: &str,
    ranges: &mut Ranges,
) {
    for (text, name) in [(customer, "customer"), (reference, "reference")] {
        if let Some(text) = text {
            ranges.text(text, 1, REFERENCE_BYTES_MAX, format_args!("{place}/{name}"));
        }
    }
}

/// `GET /v1/orders/{id}`
#[utoipa::path(
    get,
    path = "/v1/orders/{id}",
    operation_id = "get_order",
    tag = "orders",
    summary = "An order",
    params(("id" = u64, Path, description = "The order number"), openapi::Read),
    responses(
        (status = 200, description = "The order", body = api::Order),
        openapi::NoSuch,
        openapi::ReadErrors,
    ),
)]
pub(super) async fn get(
    State(api): State<Api>,
    Id(id): Id,
    headers: HeaderMap,
    mut params: Params,
) -> Result<Response, ApiError> {
    let freshness = params.freshness(&headers, Consistency::Linearizable);
    params.finish()?;
    let answer = api.read(freshness).await?;
    let Some(order) = find(&api, &answer, id).await? else {
        return Ok(answer.error(no_order(id)));
    };
    let cancellation = match answer.view.state.status_of(&order) {
        OrderStatus::Placed => None,
        OrderStatus::Cancelled => {
            let view = answer.view.clone();
            api.read_history(move || view.cancellation(id)).await?
        }
    };
    Ok(answer.json(&render::order(&order, cancellation.as_deref())))
}

async fn find(api: &Api, answer: &Answer, id: OrderId) -> Result<Option<Arc<Order>>, ApiError> {
    Ok(match answer.view.state.find_order(id) {
        Found::None => None,
        Found::Recent(order) => Some(order),
        packed @ Found::Packed(_) => {
            let history = answer.view.history.clone();
            api.read_history(move || packed.or_history(&history)).await?
        }
    })
}

fn no_order(id: OrderId) -> ApiError {
    ApiError::new(Code::NotFound, format!("There is no order {id}."))
}

/// `GET /v1/orders`
#[utoipa::path(
    get,
    path = "/v1/orders",
    operation_id = "list_orders",
    tag = "orders",
    summary = "Orders, by number",
    params(openapi::Orders, openapi::Page, openapi::Read),
    responses((status = 200, description = "A page", body = api::OrderPage), openapi::ReadErrors),
)]
pub(super) async fn list(
    State(api): State<Api>,
    headers: HeaderMap,
    mut params: Params,
) -> Result<Response, ApiError> {
    let freshness = params.freshness(&headers, Consistency::Linearizable);
    let (limit, after) = (params.limit(), params.cursor('o'));
    let filter = order_filter(&mut params);
    params.finish()?;
    let answer = api.read(freshness).await?;
    let view = answer.view.clone();
    let read = move || {
        let page = view.orders(&filter, after, limit)?;
        let cancellations = view.cancellations_of(&page.rows)?;
        Ok((page, cancellations))
    };
    let (page, cancellations) = api.read_history(read).await?;
    let rows = page.rows.iter().zip(&cancellations);
    let orders = rows.map(|(order, cancelled)| render::order(order, cancelled.as_deref()));
    let (orders, next_cursor) = (orders.collect(), extract::cursor('o', page.next_after));
    Ok(answer.json(&api::OrderPage { orders, next_cursor }))
}

fn order_filter(params: &mut Params) -> OrderFilter {
    let status = params.text("status").and_then(|name| {
        let status = OrderStatus::parse(&name);
        if status.is_none() {
            params.refuse("status", format!("{name:?} is no status of an order"));
        }
        status
    });
    OrderFilter {
        item: params.number("item", 0..=u64::MAX),
        customer: params.text("customer"),
        status,
        from_ms: params.time("from"),
        to_ms: params.time("to"),
    }
}
