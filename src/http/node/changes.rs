//! `GET /v1/changes`: what happened since a log index, as pages or as a live feed.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE},
};
use pygmy_raft::changes::{Change, ChangeKind, ChangePage, Changes};
use pygmy_storage::command::LogIndex;

use super::{
    Api, Node,
    extract::Params,
    feed::Form,
    openapi,
    respond::{json, read_history, read_history_now},
};
use crate::{
    api,
    http::{
        event_stream::{self, CONTENT_TYPE_EVENTS, LAST_EVENT_ID},
        problem::{ApiError, Code},
    },
};

/// The longest that a request for a page may wait for a change.
pub(super) const WAIT_MS_MAX: u64 = 10_000;

/// A change as the interface shows it.
fn shown(change: &Change) -> api::Change {
    api::Change {
        index: change.index,
        kind: change.kind.as_str().to_owned(),
        id: change.id,
        what: change.what.as_str().to_owned(),
    }
}

/// The kinds that a client asks for, as a set of bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Kinds(u32);

impl Kinds {
    fn bit(kind: ChangeKind) -> u32 {
        1 << kind as u32
    }

    fn has(self, kind: ChangeKind) -> bool {
        self.0 & Self::bit(kind) != 0
    }

    fn from_params(params: &mut Params) -> Self {
        let Some(names) = params.text("kinds") else {
            return Self(ChangeKind::ALL.into_iter().fold(0, |bits, kind| bits | Self::bit(kind)));
        };
        Self(names.split(',').fold(0, |bits, wanted| {
            let known = ChangeKind::ALL.into_iter().find(|kind| kind.as_str() == wanted);
            if known.is_none() {
                let all = ChangeKind::ALL.map(ChangeKind::as_str).join(", ");
                params.refuse("kinds", format!("{wanted:?} is none of {all}"));
            }
            bits | known.map_or(0, Self::bit)
        }))
    }
}

/// `GET /v1/changes`
#[utoipa::path(
    get,
    path = "/v1/changes",
    operation_id = "list_changes",
    tag = "changes",
    summary = "What happened since an index, in log order",
    description = "With `Accept: text/event-stream` it is a live feed (server-sent events): `id` is the \
        log index, the data the list of its changes, and `Last-Event-ID` resumes without gap or repeat. \
        A feed takes neither `limit` nor `wait_ms`.",
    params(openapi::Changes),
    responses(
        (status = 200, description = "A page; none of it may be of the kinds asked for",
            content((api::ChangePage = "application/json"), (String = "text/event-stream"))),
        openapi::Gone,
        openapi::ReadErrors,
    ),
)]
pub(super) async fn changes(
    State(api): State<Api>,
    headers: HeaderMap,
    mut params: Params,
) -> Result<Response, ApiError> {
    let after = params.number("after", 0..=u64::MAX);
    let kinds = Kinds::from_params(&mut params);
    match event_stream::is_wanted(&headers) {
        true => feed(&api, &headers, params, after, kinds).await,
        false => page(&api, params, after, kinds).await,
    }
}

async fn page(
    api: &Api,
    mut params: Params,
    after: Option<LogIndex>,
    kinds: Kinds,
) -> Result<Response, ApiError> {
    let wait_ms = params.number("wait_ms", 0..=WAIT_MS_MAX).unwrap_or(0);
    let limit = params.limit();
    params.finish()?;
    // Without an index the feed begins now.
    let after = after.unwrap_or_else(|| api.node.view().index());
    let mut found = read(&api.node, after, limit).await;
    if let Ok(page) = &found
        && page.changes.is_empty()
        && wait_ms > 0
    {
        let wait = api.node.published().changes.beyond(page.next_after);
        // Whether it ended by a change or by the time, what is there now is the answer.
        let _ = tokio::time::timeout(Duration::from_millis(wait_ms), wait).await;
        found = read(&api.node, after, limit).await;
    }
    let page = match found {
        Ok(page) => page,
        Err(error) => return Ok(gone(api, error)),
    };
    let changes = page.changes.iter().filter(|change| kinds.has(change.kind));
    let body =
        api::ChangePage { changes: changes.map(shown).collect(), next_after: page.next_after };
    Ok(at(json(StatusCode::OK, &body), page.next_after))
}

/// An error that says where this replica is, so that whoever cannot go on knows where to begin.
fn gone(api: &Api, error: ApiError) -> Response {
    at(error.into_response(), api.node.view().index())
}

/// Begins a live feed. The header says where a client was cut off; the parameter, which a browser
/// repeats when it comes back, only where it once began.
async fn feed(
    api: &Api,
    headers: &HeaderMap,
    mut params: Params,
    after: Option<LogIndex>,
    kinds: Kinds,
) -> Result<Response, ApiError> {
    let last_seen = match headers.get(LAST_EVENT_ID) {
        Some(value) if !value.is_empty() => {
            let index = value.to_str().ok().and_then(|text| text.parse().ok());
            if index.is_none() {
                params.refuse("Last-Event-ID", "is no log index");
            }
            index
        }
        Some(_) | None => None,
    };
    params.finish()?;
    let after = last_seen.or(after).unwrap_or_else(|| api.node.view().index());
    let gzip = event_stream::takes_gzip(headers);
    let body = match api.feeds.follow(Form { kinds, gzip }, after).await {
        Ok(body) => body,
        Err(error) => return Ok(gone(api, error)),
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE_EVENTS));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if gzip {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    Ok(at(response, after))
}

/// Adds the index that a reply reflects.
fn at(mut response: Response, index: LogIndex) -> Response {
    response.headers_mut().insert(api::header::INDEX, HeaderValue::from(index));
    response
}

/// The changes after an index, about `limit` of them.
pub(super) async fn read(
    node: &Arc<Node>,
    after: LogIndex,
    limit: usize,
) -> Result<ChangePage, ApiError> {
    let published = Arc::clone(node.published());
    let page = move || published.changes.page(after, limit);
    let read = match node.published().changes.is_recent(after) {
        // In memory.
        true => read_history_now(page)?,
        false => read_history(page).await?,
    };
    match read {
        Changes::Page(page) => Ok(page),
        Changes::Gone { oldest } => {
            let detail = format!(
                "What happened after index {after} is not kept here any more; the oldest that can \
                 be asked for is after={oldest}. Read what you need anew, and go on from the \
                 Pygmy-Index of that reply."
            );
            Err(ApiError::new(Code::HistoryGone, detail).oldest_after(oldest))
        }
    }
}

/// Writes changes of these kinds as events, one for each log index, and gives the first index.
pub(super) fn render(changes: &[Change], kinds: Kinds, bytes: &mut Vec<u8>) -> Option<LogIndex> {
    let mut begin = None;
    for changes in changes.chunk_by(|a, b| a.index == b.index) {
        let wanted = changes.iter().filter(|change| kinds.has(change.kind));
        let wanted: Vec<api::Change> = wanted.map(shown).collect();
        let Some(first) = wanted.first() else { continue };
        begin = begin.or(Some(first.index));
        bytes.extend_from_slice(format!("id: {}\ndata: ", first.index).as_bytes());
        serde_json::to_writer(&mut *bytes, &wanted)
            .expect("a change has string keys and plain values only, and memory takes it");
        bytes.extend_from_slice(b"\n\n");
    }
    begin
}
