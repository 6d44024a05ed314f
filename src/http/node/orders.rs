//! `/v1/orders`.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode, header::LOCATION};
use pygmy_storage::{
    command::{Command, Outcome, PlaceOrder, PlaceOrderLine},
    query::Found,
};

use super::{
    Api,
    extract::{self, Id, Json, Params},
    items::Ranges,
    render,
    respond::{self, json, rejection, written},
};
use crate::{
    api::{
        self, AMOUNT_MAX, Consistency, ORDER_LINES_MAX, QUANTITY_MAX, REFERENCE_BYTES_MAX,
        WriteOutcome,
    },
    http::problem::{ApiError, Code},
};

/// `POST /v1/orders`
pub(super) async fn create(
    State(api): State<Api>,
    headers: HeaderMap,
    params: Params,
    body: Result<Json<api::NewOrder>, ApiError>,
) -> Result<Response, ApiError> {
    let command = (|| {
        params.finish()?;
        let Json(body) = body?;
        let mut ranges = Ranges::default();
        check(&body, "", &mut ranges);
        ranges.finish()?;
        Ok(Command::PlaceOrder(plain_order(body)))
    })();
    let command = command.map_err(|e: ApiError| e.outcome(WriteOutcome::NotApplied))?;
    let reply = api.write(&headers, command).await?;
    Ok(match (&reply.applied.outcome, reply.orders.first()) {
        (Outcome::Ordered(id), Some(order)) => {
            let mut response = json(StatusCode::CREATED, &render::order(order));
            let place = format!("/v1/orders/{id}");
            let place = HeaderValue::from_str(&place).expect("an ASCII path");
            response.headers_mut().insert(LOCATION, place);
            written(&reply, response)
        }
        (Outcome::Rejected(why), _) => written(&reply, rejection(why).into_response()),
        (
            Outcome::Ordered(_)
            | Outcome::Item(_)
            | Outcome::Restocked(_)
            | Outcome::PolicySet
            | Outcome::NodeId(_)
            | Outcome::Batch(_),
            _,
        ) => respond::unexpected_outcome(&reply),
    })
}

/// An order as the log has it.
pub(super) fn plain_order(order: api::NewOrder) -> PlaceOrder {
    let lines = order.lines.into_iter().map(|line| PlaceOrderLine {
        item: line.item,
        quantity: line.quantity,
        expected_price_cents: line.expected_price_cents,
    });
    PlaceOrder { lines: lines.collect(), customer: order.customer, reference: order.reference }
}

/// Checks an order that stands at `place` in the body.
pub(super) fn check(order: &api::NewOrder, place: &str, ranges: &mut Ranges) {
    let count = order.lines.len();
    ranges.expect(
        (1..=ORDER_LINES_MAX).contains(&count),
        format!("{place}/lines"),
        &format!("must be 1 to {ORDER_LINES_MAX} lines, and are {count}"),
    );
    for (n, line) in order.lines.iter().enumerate().take(ORDER_LINES_MAX) {
        ranges.expect(
            (1..=QUANTITY_MAX).contains(&line.quantity),
            format!("{place}/lines/{n}/quantity"),
            &format!("must be from 1 to {QUANTITY_MAX}"),
        );
        ranges.expect(
            line.expected_price_cents.unwrap_or(0) <= AMOUNT_MAX,
            format!("{place}/lines/{n}/expected_price_cents"),
            "is larger than any price",
        );
    }
    for (text, name) in [(&order.customer, "customer"), (&order.reference, "reference")] {
        if let Some(text) = text {
            ranges.text(text, 1, REFERENCE_BYTES_MAX, &format!("{place}/{name}"));
        }
    }
}

/// `GET /v1/orders/{id}`
pub(super) async fn get(
    State(api): State<Api>,
    Id(id): Id,
    headers: HeaderMap,
    mut params: Params,
) -> Result<Response, ApiError> {
    let freshness = params.freshness(&headers, Consistency::Linearizable);
    params.finish()?;
    let answer = api.read(freshness).await?;
    let found = match answer.view.state.find_order(id) {
        Found::None => None,
        Found::Recent(order) => Some(order),
        packed @ Found::Packed(_) => {
            let history = answer.view.history.clone();
            api.read_history(move || packed.or_history(&history)).await?
        }
    };
    Ok(match found {
        Some(order) => answer.json(&render::order(&order)),
        None => {
            let detail = format!("There is no order {id}.");
            answer.error(ApiError::new(Code::NotFound, detail))
        }
    })
}

/// `GET /v1/orders`
pub(super) async fn list(
    State(api): State<Api>,
    headers: HeaderMap,
    mut params: Params,
) -> Result<Response, ApiError> {
    let freshness = params.freshness(&headers, Consistency::Linearizable);
    let (limit, after) = (params.limit(), params.cursor('o'));
    params.finish()?;
    let answer = api.read(freshness).await?;
    let view = answer.view.clone();
    let page = api.read_history(move || view.orders(after, limit)).await?;
    let orders = page.rows.iter().map(|order| render::order(order)).collect();
    let next_cursor = extract::cursor('o', page.next_after);
    Ok(answer.json(&api::OrderPage { orders, next_cursor }))
}
