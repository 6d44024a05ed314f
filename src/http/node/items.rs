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
    command::{ChangeStock, Command, Outcome, PutItem, StockChange},
};
use serde_json::json;

use super::{
    Api,
    extract::{self, Id, Json, Params},
    render,
    respond::{self, json as json_reply, rejection, written},
};
use crate::{
    api::{
        self, AMOUNT_MAX, Consistency, FieldError, REFERENCE_BYTES_MAX, TITLE_BYTES_MAX,
        TOPIC_BYTES_MAX, WriteOutcome,
    },
    http::problem::{ApiError, Code},
};

/// `GET /v1/items`
pub(super) async fn list(
    State(api): State<Api>,
    headers: HeaderMap,
    mut params: Params,
) -> Result<Response, ApiError> {
    let freshness = params.freshness(&headers, Consistency::Linearizable);
    let (topic, limit, after) = (params.text("topic"), params.limit(), params.cursor('i'));
    params.finish()?;
    let answer = api.read(freshness).await?;
    let page = answer.view.items(topic.as_deref(), after, limit);
    let items = page.rows.iter().map(|item| render::item(item)).collect();
    let next_cursor = extract::cursor('i', page.next_after);
    Ok(answer.json(&api::ItemPage { items, next_cursor }))
}

/// `GET /v1/topics`
pub(super) async fn topics(
    State(api): State<Api>,
    headers: HeaderMap,
    mut params: Params,
) -> Result<Response, ApiError> {
    let freshness = params.freshness(&headers, Consistency::Linearizable);
    params.finish()?;
    let answer = api.read(freshness).await?;
    let topics: Vec<_> = answer
        .view
        .topics()
        .map(|(topic, items)| json!({ "topic": topic, "items": items }))
        .collect();
    Ok(answer.json(&json!({ "topics": topics })))
}

/// `GET /v1/items/{id}`
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

fn no_such_item(id: u64) -> ApiError {
    ApiError::new(Code::NotFound, format!("There is no item {id}.")).item(id)
}

fn etag(version: u64) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{version}\"")).expect("digits in quotes are a header value")
}

/// `PUT /v1/items/{id}`
pub(super) async fn put(
    State(api): State<Api>,
    Id(id): Id,
    headers: HeaderMap,
    params: Params,
    body: Result<Json<api::PutItem>, ApiError>,
) -> Result<Response, ApiError> {
    let command = (|| {
        params.finish()?;
        let Json(body) = body?;
        check_put(&body)?;
        Ok(Command::PutItem(PutItem {
            id,
            title: body.title,
            topic: body.topic,
            price_cents: body.price_cents,
            stock: body.stock,
            precondition: extract::precondition(&headers, true)?,
        }))
    })();
    let command = command.map_err(|e: ApiError| e.outcome(WriteOutcome::NotApplied))?;
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
        | Outcome::Batch(_) => respond::unexpected_outcome(reply),
    }
}

/// `POST /v1/items/{id}/stock`
pub(super) async fn change_stock(
    State(api): State<Api>,
    Id(id): Id,
    headers: HeaderMap,
    params: Params,
    body: Result<Json<api::ChangeStock>, ApiError>,
) -> Result<Response, ApiError> {
    let command = (|| {
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
    })();
    let command = command.map_err(|e: ApiError| e.outcome(WriteOutcome::NotApplied))?;
    let reply = api.write(&headers, command).await?;
    Ok(match &reply.applied.outcome {
        Outcome::Item(item) => {
            let mut response = json_reply(StatusCode::OK, &render::item(item));
            response.headers_mut().insert(ETAG, etag(item.version));
            written(&reply, response)
        }
        Outcome::Rejected(_)
        | Outcome::Ordered(_)
        | Outcome::Restocked(_)
        | Outcome::PolicySet
        | Outcome::NodeId(_)
        | Outcome::Batch(_) => item_reply(&reply),
    })
}

/// Collects what is out of range.
#[derive(Default)]
pub(super) struct Ranges(Vec<FieldError>);

impl Ranges {
    pub(super) fn expect(&mut self, holds: bool, pointer: impl Into<String>, detail: &str) {
        if !holds {
            self.0.push(FieldError { pointer: pointer.into(), detail: detail.to_owned() });
        }
    }

    pub(super) fn text(&mut self, text: &str, min: usize, max: usize, pointer: &str) {
        let fits = (min..=max).contains(&text.len()) && !text.chars().any(char::is_control);
        let detail = format!("must be {min} to {max} bytes without control characters");
        self.expect(fits, pointer, &detail);
    }

    /// How many places are wrong so far.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    pub(super) fn finish(self) -> Result<(), ApiError> {
        match self.0.first() {
            None => Ok(()),
            Some(first) => {
                let detail = format!("{} {}.", first.pointer, first.detail);
                Err(ApiError::new(Code::Invalid, detail).errors(self.0))
            }
        }
    }
}

fn check_put(put: &api::PutItem) -> Result<(), ApiError> {
    let mut ranges = Ranges::default();
    ranges.text(&put.title, 1, TITLE_BYTES_MAX, "/title");
    ranges.text(&put.topic, 1, TOPIC_BYTES_MAX, "/topic");
    ranges.expect(put.price_cents <= AMOUNT_MAX, "/price_cents", "is larger than any price");
    ranges.expect(put.stock.unwrap_or(0) <= AMOUNT_MAX, "/stock", "is larger than any stock");
    ranges.finish()
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
                Some(StockReason::Count | StockReason::Correction | StockReason::Restock)
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
