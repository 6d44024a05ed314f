//! Lets a request in if there is room for it, and passes it on to a member.
//!
//! Overload is refused here, at once; nothing waits for its turn.

use std::sync::Arc;

use axum::body::{Body, HttpBody};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt;
use http::header::{CONTENT_LENGTH, VIA};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::Core;
use super::exchange::{Ask, forwarded_headers};
use super::read::Reading;
use super::route::{Read, Write};
use super::write::{Writing, refuse_write};
use crate::api::{WriteOutcome, header};
use crate::http::event_stream;
use crate::http::problem::{ApiError, Code};
use crate::http::request_id;
use crate::http::seed_gone;

/// Request bodies are counted against the budget in units of this many bytes.
pub(super) const BODY_UNIT: usize = 1024;

/// A request that a member answers.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pass {
    Read(Read),
    Write(Write),
}

impl Pass {
    /// An error of ours, before anything was passed on.
    fn refuse(self, error: ApiError) -> Response {
        match self {
            Self::Read(_) => error.into_response(),
            Self::Write(write) => refuse_write(write, error.outcome(WriteOutcome::NotApplied)),
        }
    }
}

/// Passes a request on, and answers what came of it.
pub(super) async fn pass(core: &Arc<Core>, pass: Pass, parts: Parts, body: Body) -> Response {
    if let Pass::Write(Write { buy: true, .. }) = pass
        && !core.settings.legacy_get_buy
    {
        return seed_gone::buy_switched_off().into_response();
    }
    if parts.headers.get_all(VIA).iter().any(|via| mentions(via, &core.via)) {
        let detail = "The request came back to this facade: one of its seeds leads to itself.";
        return pass.refuse(ApiError::new(Code::Internal, detail));
    }
    let live = matches!(pass, Pass::Read(Read { changes: true, .. }))
        && event_stream::is_wanted(&parts.headers);
    let admission = if live { Admission::feed(core) } else { Admission::request(core, pass) };
    let Some(admission) = admission else {
        return pass.refuse(overloaded("This facade has as many requests as it takes on."));
    };
    if let Pass::Write(Write { import: true, .. }) = pass {
        let (target, headers) = forwarded(core, &parts);
        return super::import::import(core, target, headers, body).await;
    }
    let Some(_budget) = reserve_body(core, &parts, &body) else {
        return pass.refuse(overloaded("This facade holds as many request bodies as it can."));
    };
    let body = match read_body(core, body).await {
        Ok(body) => body,
        Err(error) => return pass.refuse(error),
    };
    let (target, headers) = forwarded(core, &parts);
    let ask = Ask { method: parts.method, target, headers, body };
    let response = match pass {
        Pass::Read(read) => Reading { read, ask, live }.answer(core, &parts.uri).await,
        Pass::Write(write) => Writing { write, ask }.answer(core).await,
    };
    admission.until_the_end_of(response)
}

/// Path and query, and headers, as they go to a member.
fn forwarded(core: &Core, parts: &Parts) -> (String, HeaderMap) {
    let mut headers = forwarded_headers(&parts.headers, &core.via);
    if let Some(id) = request_id::current() {
        headers.insert(HeaderName::from_static(header::REQUEST_ID), id.header_value());
    }
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
    (target, headers)
}

fn overloaded(detail: &str) -> ApiError {
    ApiError::new(Code::Overloaded, format!("{detail} Try again shortly."))
}

/// Whether `via` is one of the hops in this header's list.
fn mentions(list: &HeaderValue, via: &HeaderValue) -> bool {
    list.as_bytes().split(|byte| *byte == b',').any(|hop| hop.trim_ascii() == via.as_bytes())
}

/// A place among the requests that are in hand.
struct Admission {
    _request: OwnedSemaphorePermit,
    _write: Option<OwnedSemaphorePermit>,
}

impl Admission {
    fn request(core: &Core, pass: Pass) -> Option<Self> {
        let _write = match pass {
            Pass::Read(_) => None,
            Pass::Write(_) => Some(Arc::clone(&core.writes).try_acquire_owned().ok()?),
        };
        let _request = Arc::clone(&core.requests).try_acquire_owned().ok()?;
        Some(Self { _request, _write })
    }

    /// Feeds last, so that they have places of their own.
    fn feed(core: &Core) -> Option<Self> {
        let _request = Arc::clone(&core.feeds).try_acquire_owned().ok()?;
        Some(Self { _request, _write: None })
    }

    /// Keeps the place until a reply that is passed on piece by piece has ended.
    fn until_the_end_of(self, response: Response) -> Response {
        if response.body().size_hint().exact().is_some() {
            return response;
        }
        response.map(|body| {
            Body::from_stream(body.into_data_stream().inspect_ok(move |_| {
                let _until_the_stream_ends = &self;
            }))
        })
    }
}

/// Takes a share of the budget for a body of the length that is told; of the longest one where none
/// is. None if there is not that much left.
fn reserve_body(core: &Core, parts: &Parts, body: &Body) -> Option<OwnedSemaphorePermit> {
    let limit = core.settings.body_limit;
    let told = parts.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let length = match told.and_then(|text| text.parse().ok()) {
        Some(length) => limit.min(length),
        None if body.is_end_stream() => 0,
        None => limit,
    };
    let units = u32::try_from(length.div_ceil(BODY_UNIT)).unwrap_or(u32::MAX);
    Arc::clone(&core.body_budget).try_acquire_many_owned(units).ok()
}

/// Reads a request's body, whole: it may have to be sent more than once.
async fn read_body(core: &Core, body: Body) -> Result<Bytes, ApiError> {
    let limit = core.settings.body_limit;
    let too_large = || {
        let detail = format!("The body is longer than {limit} bytes: send less at a time.");
        Err(ApiError::new(Code::TooLarge, detail))
    };
    if body.size_hint().lower() > limit as u64 {
        return too_large();
    }
    let mut chunks = body.into_data_stream();
    let mut bytes = BytesMut::new();
    let read = async {
        while let Some(chunk) = chunks.try_next().await.map_err(|error| {
            ApiError::new(Code::Malformed, format!("The body broke off: {error}."))
        })? {
            if bytes.len() + chunk.len() > limit {
                return too_large();
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes.freeze())
    };
    timeout(core.settings.deadline, read).await.unwrap_or_else(|_| {
        Err(ApiError::new(Code::Malformed, "The body did not come within the deadline."))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hop_is_found_among_others() {
        let via = HeaderValue::from_static("1.1 pygmy-facade-1");
        let list = |text| HeaderValue::from_static(text);
        assert!(mentions(&list("1.1 proxy, 1.1 pygmy-facade-1"), &via));
        assert!(!mentions(&list("1.1 pygmy-facade-12"), &via));
    }
}
