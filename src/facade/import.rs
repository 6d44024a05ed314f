//! Imports: passed to the leader as they come, held nowhere.
//!
//! What was passed on is gone, so an import is never tried again here: the client is told, and sends
//! the file again, which changes nothing that is in already.

use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, Method};
use tokio::time::Instant;

use super::Core;
use super::exchange::{Ask, Lost, send_stream};
use super::replica::{Failure, Replica};
use crate::api::WriteOutcome;
use crate::http::node;
use crate::http::problem::{ApiError, Code};

/// Passes an import on to the leader, once there is one.
pub(super) async fn import(
    core: &Core,
    target: String,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let refuse = |error: ApiError| error.outcome(WriteOutcome::NotApplied).into_response();
    if let Err(error) = node::timeout(&headers, core.settings.deadline) {
        return refuse(error);
    }
    let Some(leader) = leader(core).await else {
        let detail =
            "No leader was found within the deadline; nothing was done. Try again shortly.";
        return refuse(ApiError::new(Code::NoLeader, detail));
    };
    let epoch = core.cache.epoch();
    let ask = Ask { method: Method::POST, target, headers, body: bytes::Bytes::new() };
    let sent =
        send_stream(&core.stream_client, &leader.address, &ask, body, core.settings.deadline);
    match sent.await {
        Ok(reply) => {
            if let Some(index) = reply.index()
                && core.cache.epoch() == epoch
            {
                core.members.note_seen(index);
                core.members.note_write(index);
                // Where an import ended in the middle, too, it has changed items.
                core.cache.all_changed(index);
            }
            reply.into_response(&ask.method)
        }
        Err(Lost::NotSent) => {
            core.members.failed(&leader, Failure::Out);
            let detail = "The leader could not be reached; nothing was done. Try again shortly.";
            refuse(ApiError::new(Code::NoLeader, detail))
        }
        Err(Lost::Broken | Lost::TimedOut) => {
            core.members.failed(&leader, Failure::Out);
            let detail = "The member that took the import was lost. Rows may be in; send the file \
                          again to go on: what is in is not done twice.";
            ApiError::new(Code::LeadershipLost, detail)
                .outcome(WriteOutcome::Unknown)
                .into_response()
        }
    }
}

/// The leader, waited for within the deadline.
async fn leader(core: &Core) -> Option<Arc<Replica>> {
    let deadline = Instant::now() + core.settings.deadline;
    loop {
        let view = core.members.view();
        if let Some(leader) = view.leader()
            && leader.is_fit()
        {
            return Some(Arc::clone(leader));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        core.wait_for_change_since(&view, left.min(core.settings.poll_interval)).await;
    }
}
