//! Reads: to the healthy replicas of the role in turn, and on failure to the next one within the
//! deadline.
//!
//! The seed's `/search` and `/lookup` are read at `session` level, at this facade's newest write. When no
//! replica can show that write in a short time, which is so when the leader died before it told
//! anybody that the write is committed, they are read again as `stale`: a shop window that is a moment
//! old is better than a closed shop, and the reply says what it is by its `Pygmy-Index` and
//! `Pygmy-Staleness-Ms`. Whoever asks for a level in so many words gets that level or an error.

use std::sync::Arc;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::header::{ACCEPT, AGE, AUTHORIZATION, CACHE_CONTROL, DATE, RANGE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use tokio::time::Instant;

use super::Core;
use super::cache::{Began, Entry};
use super::exchange::{Ask, Lost, Reply, send};
use super::follow::pass_through;
use super::link::ask;
use super::replica::{Backoff, Failure, Replica};
use super::route::{Freshness, Read, Scope, query_value};
use crate::api::header;
use crate::http::problem::{ApiError, Code};

/// How long an answer may take that is long by its nature.
const LONG_TIMEOUT: Duration = Duration::from_secs(60);

/// The longest that a client may have a node hold a request.
const WAIT_MS_MAX: u64 = 10_000;

/// The pause before all replicas are asked once more.
const ROUND: Backoff = Backoff { min: Duration::from_millis(20), max: Duration::from_millis(250) };

/// A read of a client.
pub(super) struct Reading {
    pub(super) read: Read,
    pub(super) ask: Ask,
    /// Whether a live feed is wanted.
    pub(super) live: bool,
}

/// An answer, and who gave it.
type Answered = (Reply, Arc<Replica>);

/// How long things may take.
#[derive(Debug, Clone, Copy)]
struct Times {
    attempt: Duration,
    deadline: Instant,
}

/// How asking all replicas ended without an answer.
struct Unanswered {
    /// The last error that a replica gave.
    refusal: Option<Reply>,
    timed_out: bool,
}

impl Reading {
    /// Answers the read.
    pub(super) async fn answer(mut self, core: &Arc<Core>, uri: &Uri) -> Response {
        let freshness = freshness(self.read, &self.ask.headers, uri);
        let method = self.ask.method.clone();
        let cached = cache_key(self.read, freshness, &self.ask, uri);
        if let Some((key, _)) = &cached
            && let Some(entry) = core.cache.get(key)
        {
            return hit(&entry);
        }
        let began = core.cache.begin();
        let times = self.times(core, uri);
        let answered = match freshness {
            Freshness::Own => {
                self.at_session(core.members.newest_write());
                let wait = Instant::now() + core.settings.session_wait;
                let session = Times { deadline: wait.min(times.deadline), ..times };
                match self.ask_all(core, session, false).await {
                    Ok(answered) => Ok(answered),
                    Err(_) => {
                        self.at_stale();
                        self.ask_all(core, times, true).await
                    }
                }
            }
            Freshness::Stale | Freshness::Asked => self.ask_all(core, times, true).await,
        };
        match answered {
            Ok((reply, replica)) => {
                if let Some((key, scope)) = cached {
                    store(core, key, scope, &reply, began);
                }
                let response = reply.into_response(&method);
                match self.live && response.status() == StatusCode::OK {
                    true => response.map(|body| pass_through(core, replica, body)),
                    false => response,
                }
            }
            Err(Unanswered { refusal: Some(reply), .. }) => reply.into_response(&method),
            Err(Unanswered { refusal: None, timed_out: true }) => {
                ApiError::new(Code::Timeout, "No replica answered in time: try again.")
                    .into_response()
            }
            Err(Unanswered { refusal: None, timed_out: false }) => ApiError::new(
                Code::NoLeader,
                "No member of the store can be reached: try again shortly.",
            )
            .into_response(),
        }
    }

    fn times(&self, core: &Core, uri: &Uri) -> Times {
        let settings = &core.settings;
        let (attempt, deadline) = if self.read.long {
            (LONG_TIMEOUT, LONG_TIMEOUT)
        } else {
            let held = query_value(uri, "wait_ms").and_then(|ms| ms.parse().ok()).unwrap_or(0);
            let held = Duration::from_millis(WAIT_MS_MAX.min(held));
            (settings.read_attempt_timeout + held, settings.deadline + held)
        };
        Times { attempt, deadline: Instant::now() + deadline }
    }

    fn at_session(&mut self, min_index: u64) {
        let headers = &mut self.ask.headers;
        headers.insert(header::CONSISTENCY, HeaderValue::from_static("session"));
        headers.insert(header::MIN_INDEX, HeaderValue::from(min_index));
    }

    fn at_stale(&mut self) {
        self.ask.headers.insert(header::CONSISTENCY, HeaderValue::from_static("stale"));
        self.ask.headers.remove(header::MIN_INDEX);
    }

    /// Asks one replica after the other until one answers. With `rounds`, asks all of them again
    /// until the deadline, where a later answer may be another one.
    async fn ask_all(
        &self,
        core: &Core,
        times: Times,
        rounds: bool,
    ) -> Result<Answered, Unanswered> {
        let mut tried: Vec<Arc<Replica>> = Vec::new();
        let mut unanswered = Unanswered { refusal: None, timed_out: false };
        let mut may_change = false;
        let mut round = 1;
        loop {
            let left = times.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                unanswered.timed_out = true;
                return Err(unanswered);
            }
            let Some(replica) = core.members.pick(self.read.role, &tried) else {
                if !rounds || (!may_change && !tried.is_empty()) {
                    return Err(unanswered);
                }
                core.wait_for_change(ROUND.pause(round).min(left)).await;
                round += 1;
                tried.clear();
                may_change = false;
                continue;
            };
            let timeout = times.attempt.min(left);
            // A feed is no work for the replica most of the time: it does not count as outstanding.
            let outstanding = (!self.live).then(|| replica.begin());
            let sent = match self.live || self.read.long {
                true => send(&core.client, &replica.address, &self.ask, timeout, outstanding).await,
                false => ask(core, &replica, &self.ask, timeout, outstanding).await,
            };
            match sent {
                Ok(reply) if is_answer(&reply) => {
                    replica.answered();
                    if let Some(index) = reply.index() {
                        core.members.note_seen(index);
                    }
                    return Ok((reply, replica));
                }
                Ok(reply) => {
                    may_change |= note_refusal(core, &replica, &reply);
                    unanswered.refusal = Some(reply);
                }
                Err(lost) => {
                    may_change = true;
                    unanswered.timed_out |= lost == Lost::TimedOut;
                    match lost {
                        Lost::NotSent | Lost::Broken => core.members.failed(&replica, Failure::Out),
                        // With less time than it may take, being late is not its fault.
                        Lost::TimedOut if timeout < times.attempt => {}
                        Lost::TimedOut => core.members.failed(&replica, Failure::Doubtful),
                    }
                }
            }
            tried.push(replica);
        }
    }
}

/// Whether this is for the client to see, and not a matter between us and the replica.
fn is_answer(reply: &Reply) -> bool {
    !reply.status.is_server_error() || reply.said().code == Some(Code::Maintenance)
}

/// What an error of a replica says about it. True if asking again later may bring an answer.
fn note_refusal(core: &Core, replica: &Replica, reply: &Reply) -> bool {
    match reply.said().code {
        // The cluster's trouble, not the replica's.
        Some(Code::NoLeader | Code::LeadershipLost | Code::Timeout) => {
            core.members.kick.notify_one();
            true
        }
        Some(Code::ShuttingDown | Code::Recovering) => {
            core.members.failed(replica, Failure::Out);
            true
        }
        // A request that is poison for one replica is so for the others: each is asked once.
        Some(Code::Internal) | None => {
            core.members.failed(replica, Failure::Doubtful);
            false
        }
        // Asking again at once would only add to the load, or bring the same refusal.
        Some(
            Code::Overloaded
            | Code::TooStale
            | Code::Maintenance
            | Code::DiskFull
            | Code::RateLimited
            | Code::Malformed
            | Code::Unauthenticated
            | Code::Forbidden
            | Code::NotFound
            | Code::MethodNotAllowed
            | Code::NotAcceptable
            | Code::TooLarge
            | Code::UnsupportedMediaType
            | Code::HeadersTooLarge
            | Code::OutOfStock
            | Code::WrongState
            | Code::Replaced
            | Code::HistoryGone
            | Code::VersionMismatch
            | Code::IdempotencyKeyReused
            | Code::Invalid,
        ) => false,
    }
}

fn freshness(read: Read, headers: &HeaderMap, uri: &Uri) -> Freshness {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let bounded =
        ["min_index", "max_staleness_ms"].iter().any(|name| query_value(uri, name).is_some())
            || headers.contains_key(header::MIN_INDEX)
            || headers.contains_key(header::MAX_STALENESS_MS);
    let level = query_value(uri, "consistency").or(text(header::CONSISTENCY));
    match level {
        None if read.seed && !bounded && !headers.contains_key(header::CONSISTENCY) => {
            Freshness::Own
        }
        Some("stale") if !bounded => Freshness::Stale,
        _ => Freshness::Asked,
    }
}

/// Under which key the reply may come from the cache and go there, if it may.
fn cache_key(read: Read, freshness: Freshness, ask: &Ask, uri: &Uri) -> Option<(String, Scope)> {
    let headers = &ask.headers;
    // A reply to somebody with a token is for nobody else; a conditional one is no whole reply.
    let special = headers.contains_key(AUTHORIZATION)
        || headers.get(ACCEPT).is_some_and(|accept| !takes_json(accept))
        || headers.contains_key(RANGE)
        || headers.keys().any(|name| name.as_str().starts_with("if-"));
    if freshness == Freshness::Asked || ask.method != Method::GET || special {
        return None;
    }
    let scope = read.scope?;
    let mut key = plain_key(uri.path());
    let parameters = uri.query().unwrap_or_default().split('&');
    for pair in parameters.filter(|pair| !pair.is_empty() && *pair != "consistency=stale") {
        key.push('?');
        key.push_str(pair);
    }
    Some((key, scope))
}

/// Whether a client that accepts this gets what everybody gets.
fn takes_json(accept: &HeaderValue) -> bool {
    accept.to_str().is_ok_and(|text| text.contains("*/*") || text.contains("application/json"))
}

/// The key of a path without parameters.
fn plain_key(path: &str) -> String {
    path.trim_end_matches('/').to_owned()
}

/// The keys under which an item's own replies lie.
pub(super) fn item_keys(item: u64) -> Vec<String> {
    vec![plain_key(&format!("/lookup/{item}")), plain_key(&format!("/v1/items/{item}"))]
}

fn store(core: &Core, key: String, scope: Scope, reply: &Reply, began: Began) {
    let (StatusCode::OK, Some(index), Some(body)) = (reply.status, reply.index(), reply.whole())
    else {
        return;
    };
    let mut headers = reply.headers.clone();
    let may_store = |value: &HeaderValue| !value.as_bytes().starts_with(b"no-store");
    if !headers.get_all(CACHE_CONTROL).iter().all(may_store) {
        return;
    }
    // These are of this one exchange.
    headers.remove(header::REQUEST_ID);
    headers.remove(DATE);
    let (status, body) = (reply.status, body.clone());
    let stored_at = Instant::now();
    core.cache.put(key, Entry { status, headers, body, index, scope, stored_at }, began);
}

fn hit(entry: &Entry) -> Response {
    let age = entry.stored_at.elapsed();
    let mut response = Response::new(entry.body.clone().into());
    *response.status_mut() = entry.status;
    *response.headers_mut() = entry.headers.clone();
    let headers = response.headers_mut();
    headers.remove(http::header::CONTENT_LENGTH);
    headers.insert(AGE, HeaderValue::from(age.as_secs()));
    headers.insert(HeaderName::from_static(header::X_CACHE), HeaderValue::from_static("HIT"));
    let staleness = entry.headers.get(header::STALENESS_MS).and_then(|value| value.to_str().ok());
    if let Some(staleness) = staleness.and_then(|text| text.parse::<u64>().ok()) {
        let aged = Duration::from_millis(staleness).saturating_add(age);
        let aged = u64::try_from(aged.as_millis()).unwrap_or(u64::MAX);
        headers.insert(header::STALENESS_MS, HeaderValue::from(aged));
    }
    response
}
