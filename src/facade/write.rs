//! Writes: to the leader, across elections, within the deadline, with one idempotency key.
//!
//! The key makes every retry safe: whichever try reaches the log first decides, and the others are
//! told the same. An answer of the store, a refusal too, is never asked for again. At the deadline the
//! client is told the truth: `not_applied` only if no try can have reached a log, `unknown` otherwise.

use std::sync::Arc;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use serde::Deserialize;
use tokio::time::Instant;

use super::Core;
use super::exchange::{Ask, Lost, Reply, ReplyBody, WAY_BACK_MIN};
use super::link::ask;
use super::replica::{Backoff, Failure, Replica};
use super::route::{Touch, Write};
use super::view::View;
use crate::api::{Problem, WriteOutcome, header};
use crate::http::node;
use crate::http::problem::{ApiError, Code};
use crate::http::seed_gone;

/// The pause before the next try. It ends early when the membership changes.
const RETRY: Backoff = Backoff { min: Duration::from_millis(20), max: Duration::from_millis(250) };

/// The pause while the members agree that nobody leads: they are asked often, and a new leader ends
/// it at once.
const LEADERLESS: Backoff =
    Backoff { min: Duration::from_millis(100), max: Duration::from_secs(1) };

/// With less time than this left no further try is made, or than a part of the whole if that is less.
/// It would most likely be cut short, and turn a sure "not done" into doubt.
const TRY_MIN: Duration = WAY_BACK_MIN.saturating_mul(2);
const TRY_MIN_PART: u32 = 4;

/// How many internal errors a write may meet before the last one is passed back. A request that is
/// poison for one member is so for the others.
const FAULTS_MAX: u32 = 3;

/// A write of a client.
pub(super) struct Writing {
    pub(super) write: Write,
    pub(super) ask: Ask,
}

/// What a try came to.
enum Tried {
    /// The store has answered.
    Answered(Reply),
    /// Refused in a way that passes; nothing was done.
    NotApplied,
    /// The member has more to do than it takes on; nothing was done.
    Overloaded(Reply),
    /// It may have been done, or may yet be.
    Unknown,
    /// The same, after an error that nobody planned for.
    Fault(Reply),
}

impl Writing {
    /// Sees the write through.
    pub(super) async fn answer(mut self, core: &Core) -> Response {
        // How long it may take is for the facade to say, but nonsense is refused as by a node.
        if let Err(error) = node::timeout(&self.ask.headers, core.settings.deadline) {
            return refuse_write(self.write, error.outcome(WriteOutcome::NotApplied));
        }
        let key = self.ensure_key();
        let deadline = Instant::now() + core.settings.deadline;
        let try_min = TRY_MIN.min(core.settings.deadline / TRY_MIN_PART);
        let mut unsure = false;
        let mut overloaded = false;
        let mut faults = 0;
        let mut avoid = None;
        let mut tries = 0;
        let epoch = core.cache.epoch();
        while tries == 0 || Instant::now() + try_min < deadline {
            let Some((replica, view)) = target(core, avoid.as_ref()) else {
                // Not even a seed is known: only a report can change that.
                core.wait_for_change(RETRY.max).await;
                tries += 1;
                continue;
            };
            let tried = self.attempt(core, &replica, &view, deadline).await;
            match tried {
                Tried::Answered(reply) => return self.finish(core, reply, unsure, epoch),
                Tried::Overloaded(reply) if overloaded => {
                    return self.finish(core, reply, unsure, epoch);
                }
                Tried::Overloaded(_) => {
                    overloaded = true;
                    avoid = None;
                }
                Tried::NotApplied => avoid = Some(replica),
                Tried::Fault(reply) if faults + 1 == FAULTS_MAX || !self.write.keyed => {
                    return self.finish(core, reply, true, epoch);
                }
                Tried::Unknown | Tried::Fault(_) => {
                    faults += u32::from(matches!(tried, Tried::Fault(_)));
                    unsure = true;
                    avoid = Some(replica);
                    if !self.write.keyed {
                        break;
                    }
                }
            }
            tries += 1;
            let left = deadline.saturating_duration_since(Instant::now());
            let now = core.members.view();
            // A leader that took over meanwhile is asked at once.
            if now.leader.is_none() || now.term == view.term {
                let pause = if now.leader.is_some() { RETRY } else { LEADERLESS };
                core.wait_for_change_since(&now, pause.pause(tries).min(left)).await;
            }
        }
        self.give_up(unsure, key)
    }

    /// Gives the write a key, if the client did not.
    fn ensure_key(&mut self) -> Option<HeaderValue> {
        if !self.write.keyed {
            return None;
        }
        let name = HeaderName::from_static(header::IDEMPOTENCY_KEY);
        if let Some(key) = self.ask.headers.get(&name) {
            return Some(key.clone());
        }
        let key = HeaderValue::from_str(&format!("facade-{:032x}", rand::random::<u128>()))
            .expect("letters and digits are a header value");
        self.ask.headers.insert(name, key.clone());
        // A batch may have keys in its body, which is not looked into here: those count then.
        let made = HeaderName::from_static(header::KEY_MADE);
        self.ask.headers.insert(made, HeaderValue::from_static("true"));
        Some(key)
    }

    async fn attempt(
        &self,
        core: &Core,
        replica: &Arc<Replica>,
        view: &View,
        deadline: Instant,
    ) -> Tried {
        let left = deadline.saturating_duration_since(Instant::now());
        // Without a key there is no second try, so the first one may take all the time there is.
        let limit = if self.write.keyed { core.settings.attempt_timeout } else { left };
        let timeout = limit.min(left);
        let outstanding = Some(replica.begin());
        let sent = tokio::select! {
            sent = ask(core, replica, &self.ask, timeout, outstanding) => sent,
            () = superseded(core, replica, view), if self.write.keyed => {
                tracing::debug!(address = replica.address, "another leader took over during a write");
                return Tried::Unknown;
            }
        };
        match sent {
            Ok(reply) => {
                let tried = self.judge(core, replica, reply);
                if matches!(tried, Tried::Answered(_)) {
                    replica.answered();
                }
                tried
            }
            Err(Lost::NotSent) => {
                core.members.failed(replica, Failure::Out);
                Tried::NotApplied
            }
            Err(Lost::Broken) => {
                core.members.failed(replica, Failure::Out);
                Tried::Unknown
            }
            Err(Lost::TimedOut) => {
                // A member without a quorum keeps a write for long and is well: it is asked first.
                core.members.failed(replica, Failure::Doubtful);
                Tried::Unknown
            }
        }
    }

    fn judge(&self, core: &Core, replica: &Replica, reply: Reply) -> Tried {
        if !reply.status.is_server_error() {
            return Tried::Answered(reply);
        }
        let said = reply.said();
        let surely_not =
            said.outcome.unwrap_or(WriteOutcome::NotApplied) == WriteOutcome::NotApplied;
        if said.outcome == Some(WriteOutcome::Applied) {
            return Tried::Answered(reply);
        }
        match said.code {
            Some(Code::Maintenance | Code::DiskFull) => Tried::Answered(reply),
            Some(Code::Overloaded) => Tried::Overloaded(reply),
            Some(Code::NoLeader) => {
                core.members.kick.notify_one();
                if surely_not { Tried::NotApplied } else { Tried::Unknown }
            }
            Some(Code::ShuttingDown | Code::Recovering) => {
                core.members.failed(replica, Failure::Out);
                if surely_not { Tried::NotApplied } else { Tried::Unknown }
            }
            Some(Code::LeadershipLost | Code::Timeout) => {
                core.members.kick.notify_one();
                Tried::Unknown
            }
            None if self.write.buy && is_not_bought(&reply) => {
                core.members.kick.notify_one();
                Tried::NotApplied
            }
            Some(
                Code::Internal
                | Code::TooStale
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
                | Code::Invalid
                | Code::RateLimited,
            )
            | None => {
                core.members.failed(replica, Failure::Doubtful);
                Tried::Fault(reply)
            }
        }
    }

    /// Hands the store's answer on, after everything in this facade that it outdates knows of it.
    fn finish(&self, core: &Core, mut reply: Reply, unsure: bool, epoch: u64) -> Response {
        // An index of a cluster that is gone would be waited for in vain in the new one.
        if let Some(index) = reply.index()
            && core.cache.epoch() == epoch
        {
            core.members.note_seen(index);
            if reply.status.is_success() {
                core.members.note_write(index);
                self.outdate(core, &reply, index);
            }
        }
        if unsure {
            admit_doubt(&mut reply);
        }
        reply.into_response(&self.ask.method)
    }

    fn outdate(&self, core: &Core, reply: &Reply, index: u64) {
        let items = match self.write.touch {
            Touch::Item(item) => Some(vec![item]),
            Touch::OrderInReply => reply.whole().and_then(ordered_items),
            Touch::ItemInReply => reply.whole().and_then(shown_item),
            Touch::Nothing => Some(Vec::new()),
            Touch::All => None,
        };
        match items {
            Some(items) => items.into_iter().for_each(|item| core.cache.item_changed(item, index)),
            None => core.cache.all_changed(index),
        }
    }

    fn give_up(&self, unsure: bool, key: Option<HeaderValue>) -> Response {
        if !unsure {
            let error = ApiError::new(
                Code::NoLeader,
                "No leader took the write within the deadline; it was not done. Try again shortly.",
            )
            .outcome(WriteOutcome::NotApplied);
            return refuse_write(self.write, error);
        }
        let detail = match &key {
            Some(_) => {
                "No answer within the deadline; the write may have been done. Send it again to find \
                 out, with its own keys or else with the Idempotency-Key of this reply: it is never \
                 done twice."
            }
            None => {
                "No answer within the deadline; the write may have been done. Look before you \
                 repeat it."
            }
        };
        let error = ApiError::new(Code::Timeout, detail).outcome(WriteOutcome::Unknown);
        let mut response = error.into_response();
        if let Some(key) = key {
            response.headers_mut().insert(header::IDEMPOTENCY_KEY, key);
        }
        response
    }
}

/// An error of ours for a write that was not done.
pub(super) fn refuse_write(write: Write, error: ApiError) -> Response {
    match write.buy {
        true => seed_gone::buy_unavailable(error),
        false => error.into_response(),
    }
}

/// Whom to try: the leader; any other member, which passes it on, where the leader is unknown or has
/// just failed us. That leads around a cut between us and the leader, and costs one hop if there is
/// none; the try after that is the leader's again.
fn target(core: &Core, avoid: Option<&Arc<Replica>>) -> Option<(Arc<Replica>, Arc<View>)> {
    let view = core.members.view();
    if let Some(leader) = view.leader()
        && leader.is_fit()
        && avoid.is_none_or(|avoid| !Arc::ptr_eq(avoid, leader))
    {
        return Some((Arc::clone(leader), view));
    }
    let avoid = avoid.map(std::slice::from_ref).unwrap_or_default();
    let replica = core.members.pick(None, avoid).or_else(|| core.members.pick(None, &[]))?;
    Some((replica, view))
}

/// Resolves when somebody else leads, in a later term than at the beginning of the try.
async fn superseded(core: &Core, replica: &Replica, then: &View) {
    let mut views = core.members.watch();
    let taken_over = |now: &Arc<View>| {
        now.term > then.term && now.leader.as_ref().is_some_and(|leader| *leader != replica.address)
    };
    if views.wait_for(taken_over).await.is_err() {
        // The views end with the facade only; until then the try itself decides.
        std::future::pending().await
    }
}

/// Whether this is the seed's way of saying that nothing was bought.
fn is_not_bought(reply: &Reply) -> bool {
    #[derive(Deserialize)]
    struct Bought {
        #[serde(rename = "Result")]
        result: String,
    }
    reply.status == StatusCode::SERVICE_UNAVAILABLE
        && reply
            .whole()
            .and_then(|body| serde_json::from_slice::<Bought>(body).ok())
            .is_some_and(|bought| bought.result == "0")
}

/// The item that a reply shows.
fn shown_item(body: &Bytes) -> Option<Vec<u64>> {
    #[derive(Deserialize)]
    struct Item {
        id: u64,
    }
    let item: Item = serde_json::from_slice(body).ok()?;
    Some(vec![item.id])
}

/// The items in the lines of an order or a reservation, or of the orders of a batch.
fn ordered_items(body: &Bytes) -> Option<Vec<u64>> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Ordered {
        One(Order),
        Batch { results: Vec<Placed> },
    }
    #[derive(Deserialize)]
    struct Placed {
        order: Option<Order>,
    }
    #[derive(Deserialize)]
    struct Order {
        lines: Vec<Line>,
    }
    #[derive(Deserialize)]
    struct Line {
        item: u64,
    }
    let orders = match serde_json::from_slice(body).ok()? {
        Ordered::One(order) => vec![order],
        Ordered::Batch { results } => results.into_iter().filter_map(|one| one.order).collect(),
    };
    let mut items: Vec<u64> =
        orders.iter().flat_map(|order| &order.lines).map(|line| line.item).collect();
    items.sort_unstable();
    items.dedup();
    Some(items)
}

/// A refusal that the store made before the log knows only of its own try. After an earlier try
/// that may have been done, "not applied" would be a guess.
fn admit_doubt(reply: &mut Reply) {
    let before_the_log =
        reply.status.is_server_error() || reply.status == StatusCode::TOO_MANY_REQUESTS;
    if !before_the_log || reply.said().outcome == Some(WriteOutcome::Applied) {
        return;
    }
    reply.headers.remove(header::OUTCOME);
    let problem = reply.whole().and_then(|body| serde_json::from_slice::<Problem>(body).ok());
    let said = problem.unwrap_or_else(|| {
        let code = reply.said().code.unwrap_or(Code::Timeout);
        ApiError::new(code, "An earlier try of this write may have been done.").to_problem()
    });
    let problem = Problem { outcome: Some(WriteOutcome::Unknown), ..said };
    let body =
        serde_json::to_vec(&problem).expect("a problem has string keys and plain values only");
    reply.body = ReplyBody::Whole(body.into());
    reply.headers.insert(
        http::header::CONTENT_TYPE,
        HeaderValue::from_static(crate::http::problem::CONTENT_TYPE_PROBLEM),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_items_of_an_order_and_of_a_batch_are_found_in_the_reply() {
        let items = |body: &'static str| ordered_items(&Bytes::from_static(body.as_bytes()));
        assert_eq!(items(r#"{"id":1,"lines":[{"item":5},{"item":2}]}"#), Some(vec![2, 5]));
        let batch = r#"{"results":[{"status":"placed","order":{"lines":[{"item":7}]}},
            {"status":"refused","problem":{}},{"order":{"lines":[{"item":7},{"item":1}]}}]}"#;
        assert_eq!(items(batch), Some(vec![1, 7]));
        assert_eq!(items("[]"), None);
    }
}
