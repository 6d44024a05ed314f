//! Follows the change feed of some replica and tells the cache what changed.
//!
//! Owns the position in the log up to which the cache has heard every change. When that is lost, or
//! is no longer kept by the cluster, everything older is given up; it must never skip a change.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use tokio::time::{Instant, sleep};

use super::Core;
use super::exchange::{Ask, Lost, Reply, send};
use super::replica::{Backoff, Failure, Replica};
use super::route::Role;
use crate::api::{ChangePage, PAGE_LIMIT_MAX, header};

/// How long a replica may hold a request for changes until there is one.
const WAIT_MS: u64 = 5_000;

/// How much later than that its answer may come.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// The pause between two pages, so that many changes in a row come in few pages.
const PAGE_INTERVAL: Duration = Duration::from_millis(10);

/// The pause after an empty page that did not take long: the replica does not hold requests.
const EMPTY_INTERVAL: Duration = Duration::from_millis(100);

/// How often the replica's health is looked at while it holds a request.
const HEALTH_INTERVAL: Duration = Duration::from_millis(100);

/// The pause before the next try after a failure.
const RETRY: Backoff = Backoff { min: Duration::from_millis(20), max: Duration::from_secs(1) };

/// Why following stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stopped {
    /// The replica cannot be followed at the moment; another one can, from the same position.
    Elsewhere,
    /// The position means nothing any more: begin anew.
    Anew,
}

/// A position: every change up to `index` has been heard. In the log of one cluster only.
#[derive(Debug, Clone, Copy)]
struct Position {
    epoch: u64,
    index: u64,
}

/// Runs until the facade ends.
pub(super) async fn run(core: Arc<Core>) {
    let mut position = None;
    let mut failures = 0;
    loop {
        if let Some(replica) = core.members.pick(Some(Role::Catalog), &[]) {
            match follow(&core, &replica, &mut position, &mut failures).await {
                Stopped::Elsewhere => {}
                Stopped::Anew => position = None,
            }
        }
        core.cache.suspend();
        failures += 1;
        sleep(RETRY.pause(failures)).await;
    }
}

async fn follow(
    core: &Core,
    replica: &Arc<Replica>,
    position: &mut Option<Position>,
    failures: &mut u32,
) -> Stopped {
    // The first answer says how far this replica is, and is not to be waited for: until then the
    // cache rests.
    let mut wait_ms = 0;
    loop {
        let epoch = core.cache.epoch();
        let at = match *position {
            Some(at) if at.epoch == epoch => at.index,
            _ => match begin(core, replica).await {
                Ok(_) if core.cache.epoch() != epoch => return Stopped::Anew,
                Ok(index) => {
                    // What changed before is not known: replies from before are given up.
                    core.cache.all_changed(index);
                    *position = Some(Position { epoch, index });
                    index
                }
                Err(stopped) => return stopped,
            },
        };
        let asked_at = Instant::now();
        match next(core, replica, Position { epoch, index: at }, wait_ms).await {
            Ok(page) => {
                if core.cache.epoch() != epoch || page.next_after < at {
                    return Stopped::Anew;
                }
                *failures = 0;
                take(core, &page);
                *position = Some(Position { epoch, index: page.next_after });
                // A full page has more behind it, which the cache does not know of yet.
                if page.changes.len() < PAGE_LIMIT_MAX {
                    core.cache.resume();
                    wait_ms = WAIT_MS;
                    let idle = page.changes.is_empty() && asked_at.elapsed() < EMPTY_INTERVAL;
                    sleep(if idle { EMPTY_INTERVAL } else { PAGE_INTERVAL }).await;
                }
            }
            Err(stopped) => return stopped,
        }
    }
}

fn take(core: &Core, page: &ChangePage) {
    for change in &page.changes {
        match change.kind.as_str() {
            "item" => core.cache.item_changed(change.id, change.index),
            // An order changes its items, and each of them has a row of its own.
            "order" => {}
            _ => core.cache.all_changed(change.index),
        }
    }
}

/// The index at which the replica is now.
async fn begin(core: &Core, replica: &Arc<Replica>) -> Result<u64, Stopped> {
    // Every reply carries the index, that for history which is gone included.
    let reply = ask(core, replica, "/v1/changes?after=0&limit=1".to_owned(), 0).await?;
    let answered = matches!(reply.status, StatusCode::OK | StatusCode::GONE);
    reply.index().filter(|_| answered).ok_or(Stopped::Elsewhere)
}

/// The changes after a position, or an empty page if there is none for `wait_ms`.
async fn next(
    core: &Core,
    replica: &Arc<Replica>,
    at: Position,
    wait_ms: u64,
) -> Result<ChangePage, Stopped> {
    let target = format!(
        "/v1/changes?after={}&wait_ms={wait_ms}&limit={PAGE_LIMIT_MAX}&kinds=item",
        at.index
    );
    let held = ask(core, replica, target, wait_ms);
    tokio::pin!(held);
    let reply = loop {
        tokio::select! {
            reply = &mut held => break reply?,
            () = sleep(HEALTH_INTERVAL) => {
                if core.cache.epoch() != at.epoch {
                    return Err(Stopped::Anew);
                }
                if !is_usable(core, replica) {
                    return Err(Stopped::Elsewhere);
                }
            }
        }
    };
    match reply.status {
        StatusCode::OK => {
            let page = reply.whole().and_then(|body| serde_json::from_slice(body).ok());
            page.ok_or_else(|| {
                tracing::warn!(address = replica.address, "a page of changes cannot be read");
                Stopped::Elsewhere
            })
        }
        StatusCode::GONE => Err(Stopped::Anew),
        _ => Err(Stopped::Elsewhere),
    }
}

/// Whether the replica is still worth following. One that the cluster has lost hears of no changes,
/// and would say so by silence.
pub(super) fn is_usable(core: &Core, replica: &Arc<Replica>) -> bool {
    let view = core.members.view();
    view.peers.iter().any(|peer| Arc::ptr_eq(&peer.replica, replica) && peer.is_healthy())
}

async fn ask(
    core: &Core,
    replica: &Arc<Replica>,
    target: String,
    wait_ms: u64,
) -> Result<Reply, Stopped> {
    let mut headers = HeaderMap::new();
    // What this replica has is what it can tell; a leader is not needed for it.
    headers.insert(header::CONSISTENCY, HeaderValue::from_static("stale"));
    let ask = Ask { method: Method::GET, target, headers, body: Bytes::new() };
    let timeout = Duration::from_millis(wait_ms) + ANSWER_TIMEOUT;
    // A request that is held is no work for the replica: it does not count as outstanding.
    send(&core.client, &replica.address, &ask, timeout, None).await.map_err(|lost| {
        match lost {
            Lost::NotSent | Lost::Broken => core.members.failed(replica, Failure::Out),
            Lost::TimedOut => core.members.failed(replica, Failure::Doubtful),
        }
        Stopped::Elsewhere
    })
}
