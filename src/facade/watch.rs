//! The watcher: asks every member who is there and who leads, and brings failed replicas back.
//!
//! All members are asked, not one: each answer is a sign of life of its own, and after a failure the
//! first that knows the new leader is heard at once. It must never wait for one member before it
//! hears another.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use http::{StatusCode, Uri};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::time::{Instant, sleep_until};

use super::Core;
use super::exchange::HttpClient;
use super::replica::{Failure, Replica};
use super::view::{REPORT_FRESH, Reports};
use crate::api::Cluster;

/// How long a member may take to say who is there.
const POLL_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a replica may take to say that it is ready.
const PROBE_TIMEOUT: Duration = Duration::from_millis(500);

/// The shortest time between two rounds of polls, however many requests hint at a change.
const ROUND_MIN: Duration = Duration::from_millis(20);

/// How often members are asked while nobody is known to lead.
const LEADERLESS_INTERVAL: Duration = Duration::from_millis(50);

/// The longest report that is read.
const REPORT_BYTES_MAX: usize = 1024 * 1024;

enum Done {
    Poll(String, Result<Cluster, Unheard>),
    Probe(Arc<Replica>, bool),
}

/// Why a poll gave nothing.
enum Unheard {
    /// Nobody is there.
    Unreachable,
    TimedOut,
    /// Somebody is there who cannot say.
    NoReport,
}

/// Runs until the facade ends.
pub(super) async fn run(core: Arc<Core>) {
    let mut reports = Reports::default();
    let mut polled = HashSet::new();
    let mut work: FuturesUnordered<BoxFuture<'static, Done>> = FuturesUnordered::new();
    let mut last_round = Instant::now();
    let mut next_round = last_round;
    loop {
        if next_round <= Instant::now() {
            for address in targets(&core) {
                if polled.insert(address.clone()) {
                    work.push(Box::pin(poll(core.client.clone(), address)));
                }
            }
            last_round = Instant::now();
            next_round = last_round + interval(&core);
        }
        let view = core.members.view();
        let mut wake_at = next_round;
        for peer in &view.peers {
            if peer.replica.start_probe() {
                work.push(Box::pin(probe(core.client.clone(), Arc::clone(&peer.replica))));
            } else if let Some(at) = peer.replica.probe_at() {
                wake_at = wake_at.min(at);
            }
        }
        tokio::select! {
            () = sleep_until(wake_at) => {}
            () = core.members.kick.notified() => {
                next_round = next_round.min(last_round + ROUND_MIN);
            }
            Some(done) = work.next() => match done {
                Done::Poll(address, heard) => {
                    polled.remove(&address);
                    take(&core, &mut reports, address, heard);
                }
                Done::Probe(replica, true) => replica.ready(),
                Done::Probe(replica, false) => core.members.probe_failed(&replica),
            }
        }
    }
}

/// The members; and the seeds while the members are silent, because they may all have moved.
fn targets(core: &Core) -> Vec<String> {
    let view = core.members.view();
    let mut targets: Vec<String> =
        view.peers.iter().map(|peer| peer.replica.address.clone()).collect();
    if !core.members.heard_within(REPORT_FRESH) {
        for seed in &core.settings.seeds {
            if !targets.contains(seed) {
                targets.push(seed.clone());
            }
        }
    }
    targets
}

fn interval(core: &Core) -> Duration {
    let led = core.members.view().leader().is_some_and(|leader| leader.is_fit());
    match led {
        true => core.settings.poll_interval,
        false => core.settings.poll_interval.min(LEADERLESS_INTERVAL),
    }
}

fn take(core: &Core, reports: &mut Reports, address: String, heard: Result<Cluster, Unheard>) {
    let old = core.members.view();
    match heard {
        Ok(report) => {
            core.members.note_heard();
            reports.insert(address, report, old.cluster_id.as_deref());
        }
        Err(unheard) => {
            reports.remove(&address);
            let failure = match unheard {
                Unheard::Unreachable => Some(Failure::Out),
                Unheard::TimedOut => Some(Failure::Doubtful),
                Unheard::NoReport => None,
            };
            if let (Some(failure), Some(replica)) = (failure, old.replica(&address)) {
                core.members.failed(replica, failure);
            }
        }
    }
    if let Some(view) = reports.view(&old) {
        let other_cluster = old.cluster_id.is_some() && old.cluster_id != view.cluster_id;
        if other_cluster {
            tracing::warn!(from = ?old.cluster_id, to = ?view.cluster_id, "another cluster answers");
        }
        if old.leader != view.leader {
            tracing::info!(leader = ?view.leader, term = view.term, "leader");
        }
        // First the cache: whoever began before it and ends after it is told apart by its epoch.
        if other_cluster {
            core.cache.reset();
        }
        core.members.publish(view);
    }
}

async fn poll(client: HttpClient, address: String) -> Done {
    let answer = async {
        let uri = format!("http://{address}/v1/cluster").parse::<Uri>();
        let uri = uri.map_err(|_| Unheard::Unreachable)?;
        let response = client.get(uri).await.map_err(|_| Unheard::Unreachable)?;
        if response.status() != StatusCode::OK {
            return Err(Unheard::NoReport);
        }
        let body = Limited::new(response.into_body(), REPORT_BYTES_MAX).collect().await;
        let body = body.map_err(|error| match error.is::<LengthLimitError>() {
            true => Unheard::NoReport,
            false => Unheard::Unreachable,
        })?;
        serde_json::from_slice(&body.to_bytes()).map_err(|error| {
            tracing::warn!(address, %error, "a member's report cannot be read");
            Unheard::NoReport
        })
    };
    let heard = tokio::time::timeout(POLL_TIMEOUT, answer).await;
    Done::Poll(address, heard.unwrap_or(Err(Unheard::TimedOut)))
}

async fn probe(client: HttpClient, replica: Arc<Replica>) -> Done {
    let ready = async {
        let uri = format!("http://{}/readyz", replica.address).parse::<Uri>().ok()?;
        client.get(uri).await.ok()
    };
    let ready = tokio::time::timeout(PROBE_TIMEOUT, ready).await;
    let ready = matches!(ready, Ok(Some(response)) if response.status() == StatusCode::OK);
    Done::Probe(replica, ready)
}
