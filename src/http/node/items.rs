//! `/v1/items`, `/v1/topics`.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{ETAG, LOCATION},
};
use pygmy_raft::types::Reply;
use pygmy_storage::{
    catalog::StockReason,
    command::{
        ChangeStock, Command, CreateItem, DeleteItem, Outcome, PatchItem, PutItem, StockChange,
    },
};

use super::{
    Api,
    extract::{self, Id, Json, MergePatch, Params, before_the_log},
    listing, openapi,
    ranges::Ranges,
    render,
    respond::{self, json as json_reply, rejection, written},
};
use crate::{
    api::{self, AMOUNT_MAX, Consistency, REFERENCE_BYTES_MAX, TITLE_BYTES_MAX, TOPIC_BYTES_MAX},
    http::problem::{ApiError, Code},
};

/// `GET /v1/items`
#[utoipa::path(
    get,
    path = "/v1/items",
    operation_id = "list_items",
    tag = "items",
    summary = "Items: all, of a topic, or found by words",
    params(openapi::Items, openapi::Page, openapi::Read),
    responses((status = 200, description = "A page", body = api::ItemPage), openapi::ReadErrors),
)]
pub(super) async fn list(
    State(api): State<Api>,
    headers: HeaderMap,
    mut params: Params,
) -> Result<Response, ApiError> {
    let freshness = params.freshness(&headers, Consistency::Linearizable);
    let (limit, (listing, after)) = (params.limit(), listing::take(&mut params));
    params.finish()?;
    // Before the view: an index that knows more than its view would be of no use.
    let index = api.node.published().index();
    let answer = api.read(freshness).await?;
    let page = match listing.is_long() {
        false => answer.view.listing(index.as_deref(), &listing, after.as_ref(), limit),
        true => {
            let (view, listing) = (answer.view.clone(), listing.clone());
            let read = move || Ok(view.listing(index.as_deref(), &listing, after.as_ref(), limit));
            api.read_history(read).await?
        }
    };
    let items = page.rows.iter().map(|item| render::item(item)).collect();
    let next_cursor = page.next.map(|position| listing::cursor(&listing, &position));
    Ok(answer.json(&api::ItemPage { items, next_cursor }))
}

/// `GET /v1/topics`
#[utoipa::path(
    get,
    path = "/v1/topics",
    operation_id = "list_topics",
    tag = "items",
    summary = "Topics with their item counts",
    params(openapi::Read),
    responses((status = 200, description = "All of them", body = api::Topics), openapi::ReadErrors),
)]
pub(super) async fn topics(
    State(api): State<Api>,
    headers: HeaderMap,
    mut params: Params,
) -> Result<Response, ApiError> {
    let freshness = params.freshness(&headers, Consistency::Linearizable);
    params.finish()?;
    let answer = api.read(freshness).await?;
    let topics = answer.view.topics();
    let topics =
        topics.map(|(topic, items)| api::Topic { topic: topic.to_owned(), items }).collect();
    Ok(answer.json(&api::Topics { topics }))
}

/// `GET /v1/items/{id}`
#[utoipa::path(
    get,
    path = "/v1/items/{id}",
    operation_id = "get_item",
    tag = "items",
    summary = "An item",
    params(
        ("id" = u64, Path, description = "The item number"),
        openapi::IfNoneMatch,
        openapi::Read,
    ),
    responses(
        (status = 200, description = "The item", body = api::Item,
            headers(("ETag" = String, description = "Its version, in quotes"))),
        (status = 304, description = "It still has the version that the client has",
            headers(("ETag" = String, description = "Its version, in quotes"))),
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
    let Some(item) = answer.view.item(id) else {
        return Ok(answer.error(no_such_item(id)));
    };
    let mut response = match extract::none_match(&headers, item.version) {
        true => answer.with_headers(StatusCode::NOT_MODIFIED.into_response()),
        false => answer.json(&render::item(item)),
    };
    response.headers_mut().insert(ETAG, etag(item.version));
    Ok(response)
}

/// `GET /v1/items/{id}/ledger`
#[utoipa::path(
    get,
    path = "/v1/items/{id}/ledger",
    operation_id = "get_item_ledger",
    tag = "items",
    summary = "Every movement of an item's stock, newest first",
    params(("id" = u64, Path, description = "The item number"), openapi::Page, openapi::Read),
    responses(
        (status = 200, description = "A page", body = api::LedgerPage),
        openapi::NoSuch,
        openapi::ReadErrors,
    ),
)]
pub(super) async fn ledger(
    State(api): State<Api>,
    Id(id): Id,
    headers: HeaderMap,
    mut params: Params,
) -> Result<Response, ApiError> {
    let freshness = params.freshness(&headers, Consistency::Linearizable);
    let (limit, before) = (params.limit(), params.ledger_cursor());
    params.finish()?;
    let answer = api.read(freshness).await?;
    let view = answer.view.clone();
    let page = api.read_history(move || view.ledger(id, before, limit)).await?;
    let untold = page.rows.is_empty() && page.next.is_none() && before.is_none();
    if untold && answer.view.item(id).is_none() {
        return Ok(answer.error(no_such_item(id)));
    }
    let rows = page.rows.iter().map(render::movement).collect();
    let next_cursor = page.next.map(extract::ledger_cursor);
    Ok(answer.json(&api::LedgerPage { rows, next_cursor }))
}

/// `GET /v1/items/{id}/prices`
#[utoipa::path(
    get,
    path = "/v1/items/{id}/prices",
    operation_id = "get_item_prices",
    tag = "items",
    summary = "What an item cost when, and the lowest price of the last 30 days",
    params(("id" = u64, Path, description = "The item number"), openapi::Read),
    responses(
        (status = 200, description = "The prices that are kept", body = api::Prices),
        openapi::NoSuch,
        openapi::ReadErrors,
    ),
)]
pub(super) async fn prices(
    State(api): State<Api>,
    Id(id): Id,
    headers: HeaderMap,
    mut params: Params,
) -> Result<Response, ApiError> {
    let freshness = params.freshness(&headers, Consistency::Linearizable);
    params.finish()?;
    let answer = api.read(freshness).await?;
    Ok(match answer.view.prices(id) {
        Some(prices) => answer.json(&render::prices(&prices)),
        None => answer.error(no_such_item(id)),
    })
}

fn no_such_item(id: u64) -> ApiError {
    ApiError::new(Code::NotFound, format!("There is no item {id}.")).item(id)
}

pub(super) fn etag(version: u64) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{version}\"")).expect("digits in quotes are a header value")
}

/// `POST /v1/items`
#[utoipa::path(
    post,
    path = "/v1/items",
    operation_id = "create_item",
    tag = "items",
    summary = "Creates an item under a number that the store gives",
    params(openapi::Write),
    request_body = api::NewItem,
    responses(
        (status = 201, description = "Created", body = api::Item,
            headers(
                ("ETag" = String, description = "Its version, in quotes"),
                ("Location" = String, description = "Its path"),
            )),
        openapi::BodyErrors,
        openapi::WriteErrors,
    ),
)]
pub(super) async fn create(
    State(api): State<Api>,
    headers: HeaderMap,
    params: Params,
    body: Result<Json<api::NewItem>, ApiError>,
) -> Result<Response, ApiError> {
    let command = before_the_log(|| {
        params.finish()?;
        let Json(api::NewItem { title, topic, price_cents, stock }) = body?;
        check_item(Some(&title), Some(&topic), Some(price_cents), Some(stock))?;
        Ok(Command::CreateItem(CreateItem { title, topic, price_cents, stock }))
    })?;
    let reply = api.write(&headers, command).await?;
    Ok(item_reply(&reply))
}

/// `PUT /v1/items/{id}`
#[utoipa::path(
    put,
    path = "/v1/items/{id}",
    operation_id = "put_item",
    tag = "items",
    summary = "Creates or replaces an item",
    params(
        ("id" = u64, Path, description = "The item number"),
        openapi::IfMatch,
        openapi::OnlyCreate,
        openapi::Write,
    ),
    request_body = api::PutItem,
    responses(
        (status = 200, description = "Replaced", body = api::Item,
            headers(("ETag" = String, description = "Its version, in quotes"))),
        (status = 201, description = "Created", body = api::Item,
            headers(
                ("ETag" = String, description = "Its version, in quotes"),
                ("Location" = String, description = "Its path"),
            )),
        openapi::NoSuch,
        openapi::Conflict,
        openapi::Mismatch,
        openapi::BodyErrors,
        openapi::WriteErrors,
    ),
)]
pub(super) async fn put(
    State(api): State<Api>,
    Id(id): Id,
    headers: HeaderMap,
    params: Params,
    body: Result<Json<api::PutItem>, ApiError>,
) -> Result<Response, ApiError> {
    let command = before_the_log(|| {
        params.finish()?;
        let Json(body) = body?;
        check_item(Some(&body.title), Some(&body.topic), Some(body.price_cents), body.stock)?;
        Ok(Command::PutItem(PutItem {
            id,
            title: body.title,
            topic: body.topic,
            price_cents: body.price_cents,
            stock: body.stock,
            precondition: extract::precondition(&headers, true)?,
        }))
    })?;
    let reply = api.write(&headers, command).await?;
    Ok(item_reply(&reply))
}

/// The reply to a write of an item: 201 with its place when it is new, 200 otherwise.
fn item_reply(reply: &Reply) -> Response {
    match &reply.applied.outcome {
        Outcome::Item(item) => {
            let created = item.created_index == item.version;
            let status = if created { StatusCode::CREATED } else { StatusCode::OK };
            let mut response = json_reply(status, &render::item(item));
            let headers = response.headers_mut();
            headers.insert(ETAG, etag(item.version));
            if created {
                let place = format!("/v1/items/{}", item.id);
                headers.insert(LOCATION, HeaderValue::from_str(&place).expect("an ASCII path"));
            }
            written(reply, response)
        }
        Outcome::Rejected(why) => written(reply, rejection(why).into_response()),
        Outcome::Ordered(_)
        | Outcome::Restocked(_)
        | Outcome::PolicySet
        | Outcome::NodeId(_)
        | Outcome::Batch(_)
        | Outcome::Deleted { .. }
        | Outcome::Imported(_)
        | Outcome::Cancelled(_)
        | Outcome::Reservation(_)
        | Outcome::MaintenanceSet(_)
        | Outcome::Ticked => respond::unexpected_outcome(reply),
    }
}

/// `POST /v1/items/{id}/stock`
#[utoipa::path(
    post,
    path = "/v1/items/{id}/stock",
    operation_id = "change_stock",
    tag = "items",
    summary = "Changes how many pieces there are",
    description = "`delta` adds or takes away, `set` says how many there are after a count: one of \
        the two. `received` and `returned` add, `damaged` takes away; `set` goes with `count` and \
        `correction`. Never below what is reserved.",
    params(
        ("id" = u64, Path, description = "The item number"),
        openapi::IfMatch,
        openapi::Write,
    ),
    request_body = api::ChangeStock,
    responses(
        (status = 200, description = "Changed", body = api::Item,
            headers(("ETag" = String, description = "Its version, in quotes"))),
        openapi::NoSuch,
        openapi::Conflict,
        openapi::Mismatch,
        openapi::BodyErrors,
        openapi::WriteErrors,
    ),
)]
pub(super) async fn change_stock(
    State(api): State<Api>,
    Id(id): Id,
    headers: HeaderMap,
    params: Params,
    body: Result<Json<api::ChangeStock>, ApiError>,
) -> Result<Response, ApiError> {
    let command = before_the_log(|| {
        params.finish()?;
        let Json(body) = body?;
        let (change, reason) = check_change(&body)?;
        Ok(Command::ChangeStock(ChangeStock {
            item: id,
            change,
            reason,
            reference: body.reference,
            precondition: extract::precondition(&headers, false)?,
        }))
    })?;
    let reply = api.write(&headers, command).await?;
    Ok(changed_reply(&reply))
}

/// The reply to a write of an item that was there before.
fn changed_reply(reply: &Reply) -> Response {
    match &reply.applied.outcome {
        Outcome::Item(item) => {
            let mut response = json_reply(StatusCode::OK, &render::item(item));
            response.headers_mut().insert(ETAG, etag(item.version));
            written(reply, response)
        }
        Outcome::Rejected(_)
        | Outcome::Ordered(_)
        | Outcome::Restocked(_)
        | Outcome::PolicySet
        | Outcome::NodeId(_)
        | Outcome::Batch(_)
        | Outcome::Deleted { .. }
        | Outcome::Imported(_)
        | Outcome::Cancelled(_)
        | Outcome::Reservation(_)
        | Outcome::MaintenanceSet(_)
        | Outcome::Ticked => item_reply(reply),
    }
}

/// `PATCH /v1/items/{id}`
#[utoipa::path(
    patch,
    path = "/v1/items/{id}",
    operation_id = "patch_item",
    tag = "items",
    summary = "Changes some of what an item says of itself",
    description = "A JSON merge patch (RFC 7396). Where nothing is another than before, the version \
        stays too.",
    params(
        ("id" = u64, Path, description = "The item number"),
        openapi::IfMatch,
        openapi::Write,
    ),
    request_body(content(
        (api::PatchItem = "application/merge-patch+json"),
        (api::PatchItem = "application/json"),
    )),
    responses(
        (status = 200, description = "The item as it is now", body = api::Item,
            headers(("ETag" = String, description = "Its version, in quotes"))),
        openapi::NoSuch,
        openapi::Mismatch,
        openapi::BodyErrors,
        openapi::WriteErrors,
    ),
)]
pub(super) async fn patch(
    State(api): State<Api>,
    Id(id): Id,
    headers: HeaderMap,
    params: Params,
    body: Result<MergePatch<api::PatchItem>, ApiError>,
) -> Result<Response, ApiError> {
    let command = before_the_log(|| {
        params.finish()?;
        let MergePatch(api::PatchItem { title, topic, price_cents }) = body?;
        check_item(title.as_deref(), topic.as_deref(), price_cents, None)?;
        let precondition = extract::precondition(&headers, false)?;
        Ok(Command::PatchItem(PatchItem { id, title, topic, price_cents, precondition }))
    })?;
    let reply = api.write(&headers, command).await?;
    Ok(changed_reply(&reply))
}

/// `DELETE /v1/items/{id}`
#[utoipa::path(
    delete,
    path = "/v1/items/{id}",
    operation_id = "delete_item",
    tag = "items",
    summary = "Takes an item out of the catalog",
    description = "Refused while reservations hold pieces of it. Orders keep their copy.",
    params(
        ("id" = u64, Path, description = "The item number"),
        openapi::IfMatch,
        openapi::Write,
    ),
    responses(
        (status = 204, description = "It is gone"),
        openapi::NoSuch,
        openapi::Conflict,
        openapi::Mismatch,
        openapi::WriteErrors,
    ),
)]
pub(super) async fn delete(
    State(api): State<Api>,
    Id(id): Id,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, ApiError> {
    let command = before_the_log(|| {
        params.finish()?;
        let precondition = extract::precondition(&headers, false)?;
        Ok(Command::DeleteItem(DeleteItem { id, precondition }))
    })?;
    let reply = api.write(&headers, command).await?;
    Ok(match &reply.applied.outcome {
        Outcome::Deleted { .. } => written(&reply, StatusCode::NO_CONTENT.into_response()),
        Outcome::Rejected(why) => written(&reply, rejection(why).into_response()),
        Outcome::Item(_)
        | Outcome::Ordered(_)
        | Outcome::Restocked(_)
        | Outcome::PolicySet
        | Outcome::NodeId(_)
        | Outcome::Batch(_)
        | Outcome::Imported(_)
        | Outcome::Cancelled(_)
        | Outcome::Reservation(_)
        | Outcome::MaintenanceSet(_)
        | Outcome::Ticked => respond::unexpected_outcome(&reply),
    })
}

/// Checks what is said of an item.
fn check_item(
    title: Option<&str>,
    topic: Option<&str>,
    price_cents: Option<u64>,
    stock: Option<u64>,
) -> Result<(), ApiError> {
    ranges_of_item(title, topic, price_cents, stock).finish()
}

/// What is out of range of what is said of an item, alone or in an import.
pub(super) fn ranges_of_item(
    title: Option<&str>,
    topic: Option<&str>,
    price_cents: Option<u64>,
    stock: Option<u64>,
) -> Ranges {
    let mut ranges = Ranges::default();
    if let Some(title) = title {
        ranges.text(title, 1, TITLE_BYTES_MAX, "/title");
    }
    if let Some(topic) = topic {
        ranges.text(topic, 1, TOPIC_BYTES_MAX, "/topic");
    }
    let fits = price_cents.unwrap_or(0) <= AMOUNT_MAX;
    ranges.expect(fits, "/price_cents", "is larger than any price");
    ranges.expect(stock.unwrap_or(0) <= AMOUNT_MAX, "/stock", "is larger than any stock");
    ranges
}

fn check_change(change: &api::ChangeStock) -> Result<(StockChange, StockReason), ApiError> {
    let mut ranges = Ranges::default();
    let reason = StockReason::parse(&change.reason);
    ranges.expect(
        reason.is_some(),
        "/reason",
        "must be one of received, count, damaged, returned, correction",
    );
    if let Some(reference) = &change.reference {
        ranges.text(reference, 1, REFERENCE_BYTES_MAX, "/reference");
    }
    let how = match (change.delta, change.set) {
        (Some(delta), None) => {
            ranges.expect(delta != 0, "/delta", "must not be 0");
            ranges.expect(delta.unsigned_abs() <= AMOUNT_MAX, "/delta", "is larger than any stock");
            let sign_fits = match reason {
                Some(StockReason::Received | StockReason::Returned) => delta > 0,
                Some(StockReason::Damaged) => delta < 0,
                Some(
                    StockReason::Count
                    | StockReason::Correction
                    | StockReason::Restock
                    | StockReason::Deleted
                    | StockReason::Cancelled,
                )
                | None => true,
            };
            ranges.expect(sign_fits, "/delta", "has the wrong sign for its reason");
            StockChange::Delta(delta)
        }
        (None, Some(set)) => {
            ranges.expect(set <= AMOUNT_MAX, "/set", "is larger than any stock");
            let counted =
                matches!(reason, Some(StockReason::Count | StockReason::Correction) | None);
            ranges.expect(counted, "/reason", "must be count or correction with set");
            StockChange::Set(set)
        }
        (Some(_), Some(_)) | (None, None) => {
            ranges.expect(false, "", "needs either delta or set");
            StockChange::Delta(0)
        }
    };
    ranges.finish()?;
    // A reason that does not parse was refused above.
    Ok((how, reason.unwrap_or(StockReason::Correction)))
}
