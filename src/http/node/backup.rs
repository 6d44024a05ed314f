//! `GET /v1/backup`: the whole state of one index, streamed.
//!
//! A client holds nothing but a file that nobody else needs, however slowly it reads: see
//! [`pygmy_raft::node::Backup`].

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::stream;
use http::{
    HeaderMap, HeaderValue,
    header::{CONTENT_DISPOSITION, CONTENT_TYPE},
};
use pygmy_raft::{node::Backup, types::Tokio};
use tokio::time::Instant;

use super::{Api, extract::Params, openapi, respond::read_history_now};
use crate::{
    api::Consistency,
    http::problem::{ApiError, Code},
};

/// Backups at once; one more is refused. Each is work, and a file as large as the state, beside the rest.
pub(super) const BACKUPS_MAX: usize = 2;
/// The longest that a client may take. Whoever takes longer keeps the disk from others.
const TAKEN_WITHIN: Duration = Duration::from_secs(6 * 3600);

/// `GET /v1/backup`
#[utoipa::path(
    get,
    path = "/v1/backup",
    operation_id = "backup",
    tag = "files",
    summary = "The whole store, as of one index",
    description = "Everything that a cluster needs to go on from there, idempotency keys and reservations \
        among it, for `pygmy restore`. Streamed while it is made, which is done with rests so that others \
        notice little of it. It ends with a checksum: one that breaks off, or has a byte changed, is refused \
        by `pygmy backup --check` and by `pygmy restore`.",
    params(openapi::Read),
    responses(
        (status = 200, description = "All of it", content((String = "application/octet-stream"))),
        openapi::ReadErrors,
    ),
)]
pub(super) async fn backup(
    State(api): State<Api>,
    headers: HeaderMap,
    mut params: Params,
) -> Result<Response, ApiError> {
    let freshness = params.freshness(&headers, Consistency::Linearizable);
    params.finish()?;
    let Ok(permit) = Arc::clone(&api.backups).try_acquire_owned() else {
        let detail = "As many backups as this node makes are under way; try again later.";
        return Err(ApiError::new(Code::Overloaded, detail));
    };
    let answer = api.read(freshness).await?;
    let backup = read_history_now(|| api.node.backup(&answer.view))?;
    let until = Instant::now() + TAKEN_WITHIN;
    let pieces = stream::try_unfold((backup, permit), move |(backup, permit)| async move {
        let piece = next(backup, until).await?;
        Ok::<_, std::io::Error>(piece.map(|(piece, backup)| (piece, (backup, permit))))
    });
    let mut response = answer.with_headers(Body::from_stream(pieces).into_response());
    let name = format!("attachment; filename=\"pygmy-{}.backup\"", answer.view.index());
    let name = HeaderValue::from_str(&name).expect("an ASCII name");
    let kind = HeaderValue::from_static("application/octet-stream");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response.headers_mut().insert(CONTENT_DISPOSITION, name);
    Ok(response)
}

/// The next piece. The client sees that the reply breaks off; what the fault is stands in the log.
async fn next(
    backup: Backup<Tokio>,
    until: Instant,
) -> std::io::Result<Option<(Bytes, Backup<Tokio>)>> {
    if Instant::now() >= until {
        tracing::warn!("a backup is broken off: its client took it too slowly");
        return Err(std::io::ErrorKind::TimedOut.into());
    }
    backup.next().await.map_err(|error| {
        tracing::error!(%error, "a backup is broken off");
        std::io::Error::other(error)
    })
}
