//! Live feeds of changes, passed through from one replica as they come.
//!
//! A feed is never continued on another replica: it ends, and the client, who knows what it has seen,
//! resumes with `Last-Event-ID`. A facade that joined two feeds would have to read them.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tokio::sync::watch;
use tokio::time::sleep;

use super::Core;
use super::feed::is_usable;
use super::replica::Replica;

/// How often the replica's health is looked at while it is silent.
const HEALTH_INTERVAL: Duration = Duration::from_secs(1);

/// The feed, until it ends, the replica is no longer worth following, or the facade is about to end.
pub(super) fn pass_through(core: &Arc<Core>, replica: Arc<Replica>, body: Body) -> Body {
    let stopping = core.stopping.subscribe();
    let chunks = body.into_data_stream();
    let feed = Passing { core: Arc::clone(core), stopping, replica, chunks };
    Body::from_stream(stream::unfold(feed, |mut feed| async {
        let chunk = feed.next().await?;
        Some((Ok::<_, Infallible>(chunk), feed))
    }))
}

/// A feed on its way.
struct Passing {
    core: Arc<Core>,
    stopping: watch::Receiver<bool>,
    replica: Arc<Replica>,
    chunks: BodyDataStream,
}

impl Passing {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            tokio::select! {
                chunk = self.chunks.next() => {
                    let address = &self.replica.address;
                    return chunk?
                        .inspect_err(|error| tracing::debug!(address, %error, "a feed broke off"))
                        .ok();
                }
                _ = self.stopping.wait_for(|stopping| *stopping) => return None,
                () = sleep(HEALTH_INTERVAL) => {
                    if !is_usable(&self.core, &self.replica) {
                        return None;
                    }
                }
            }
        }
    }
}
