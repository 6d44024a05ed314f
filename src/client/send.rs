//! One call with its retries.
//!
//! The rule that everything here serves: a write is repeated only with the same idempotency key,
//! and once one try may have reached the log, only an answer that went through the log makes the
//! outcome known again.

use std::time::{Duration, Instant};

use reqwest::header::{ACCEPT, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Method, StatusCode, Url};

use super::addresses::Addresses;
use super::error::{ClientError, Failure};
use crate::api::{Problem, WriteOutcome, header};

/// The largest reply that is read.
const REPLY_BYTES_MAX: usize = 64 << 20;
/// The first pause between tries; it doubles up to [`PAUSE_MAX`].
const PAUSE_FIRST: Duration = Duration::from_millis(50);
/// The longest pause between tries, whatever `Retry-After` says: the deadline bounds the sum.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// The least time for another try. With less, nothing could come of it but a write of unknown
/// outcome.
const REMAINDER_MIN: Duration = Duration::from_millis(100);

/// How long the parts of a call may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// Until a connection stands.
    pub connect: Duration,
    /// One try, from sending to the last byte of the reply. Longer than the facade's own deadline,
    /// so that the facade can wait out an election.
    pub attempt: Duration,
    /// All tries together.
    pub total: Duration,
    /// All tries together while nothing listens at the address: nobody is there to wait for.
    pub nobody_there: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            attempt: Duration::from_secs(12),
            total: Duration::from_secs(15),
            nobody_there: Duration::from_secs(2),
        }
    }
}

impl Timeouts {
    /// The defaults with `total` for everything, and no part longer than that.
    pub fn within(total: Duration) -> Self {
        let default = Self::default();
        Self {
            connect: default.connect.min(total),
            attempt: default.attempt.min(total),
            nobody_there: default.nobody_there.min(total),
            total,
        }
    }
}

/// What is sent.
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Option<Vec<u8>>,
    /// The idempotency key; what has one is a write.
    pub(super) key: Option<String>,
}

/// A reply with a status of success.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    /// The version in the reply's `ETag`.
    pub(super) etag: Option<u64>,
    pub(super) body: Vec<u8>,
}

/// What to do after a try.
pub(super) enum Verdict {
    Done(Reply),
    /// The answer is no.
    Refused(Box<Problem>),
    /// Another try may help; this one changed nothing.
    Again(Failure, Option<Duration>),
    /// Another try may help; this one may have changed something.
    AgainUnknown(Failure, Option<Duration>),
    /// Another try will not help; this one may have changed something.
    Stop(Failure),
    /// Whoever answered is no store, and did nothing.
    Foreign(Failure),
}

impl Verdict {
    /// Whether somebody else might answer better.
    fn is_about_the_address(&self) -> bool {
        match self {
            Self::Again(Failure::Problem(problem), _) => problem.status != 429,
            Self::Again(..) | Self::AgainUnknown(..) => true,
            Self::Done(_) | Self::Refused(_) | Self::Stop(_) | Self::Foreign(_) => false,
        }
    }
}

/// Sends until there is an answer or the time is over. `seen` gets the headers of every reply.
pub(super) async fn send(
    http: &reqwest::Client,
    timeouts: &Timeouts,
    addresses: &Addresses,
    mut call: Call,
    seen: impl Fn(&HeaderMap),
) -> Result<Reply, ClientError> {
    let begun = Instant::now();
    let mut attempts = 0_u32;
    let mut unknown = false;
    let mut somebody_there = false;
    let mut pause = PAUSE_FIRST;
    loop {
        attempts += 1;
        let place = addresses.place(call.key.is_some());
        addresses.aim(place, &mut call.url);
        let url = call.url.origin().ascii_serialization();
        let left = timeouts.total.saturating_sub(begun.elapsed());
        let verdict = attempt(http, &call, timeouts.attempt.min(left), &seen).await;
        let nobody =
            matches!(&verdict, Verdict::Again(Failure::Transport(error), _) if error.is_connect());
        somebody_there |= !nobody;
        if verdict.is_about_the_address() {
            addresses.move_on(place);
        }
        let (last, after) = match verdict {
            Verdict::Done(reply) => return Ok(reply),
            Verdict::Refused(problem) if !unknown || through_the_log(&problem) => {
                return Err(ClientError::Refused(problem));
            }
            Verdict::Refused(problem) => (Failure::Problem(problem), None),
            Verdict::Again(last, after) => (last, Some(after)),
            Verdict::AgainUnknown(last, after) => {
                unknown = call.key.is_some();
                (last, Some(after))
            }
            Verdict::Stop(last) => {
                unknown |= call.key.is_some();
                (last, None)
            }
            Verdict::Foreign(last) => (last, None),
        };
        let patience = if somebody_there { timeouts.total } else { timeouts.nobody_there };
        let limit = patience.min(timeouts.total);
        let left = limit.saturating_sub(begun.elapsed());
        let waited_ms = begun.elapsed().as_millis();
        match (after, &call.key) {
            (Some(after), _) if left > wait_for(after, pause) + REMAINDER_MIN => {
                tokio::time::sleep(wait_for(after, pause.mul_f64(rand::random_range(0.5..1.0))))
                    .await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
            (_, Some(key)) if unknown => {
                return Err(ClientError::OutcomeUnknown {
                    url,
                    key: key.clone(),
                    attempts,
                    waited_ms,
                    last,
                });
            }
            (None, _) => return Err(ClientError::Unexpected { url: call.url.into(), last }),
            _ => return Err(ClientError::Unavailable { url, attempts, waited_ms, last }),
        }
    }
}

/// The pause before the next try: ours, or what the server asks for.
fn wait_for(after: Option<Duration>, pause: Duration) -> Duration {
    after.unwrap_or_default().min(PAUSE_MAX).max(pause)
}

/// Whether a refusal is an outcome that the log recorded, or would have: it then also speaks for
/// the tries before it with the same key.
fn through_the_log(problem: &Problem) -> bool {
    matches!(problem.status, 404 | 409 | 412 | 422)
}

async fn attempt(
    http: &reqwest::Client,
    call: &Call,
    timeout: Duration,
    seen: &impl Fn(&HeaderMap),
) -> Verdict {
    let mut request = http
        .request(call.method.clone(), call.url.clone())
        .timeout(timeout)
        .headers(call.headers.clone())
        .header(ACCEPT, HeaderValue::from_static("application/json"));
    if let Some(key) = &call.key {
        request = request.header(header::IDEMPOTENCY_KEY, key);
    }
    if let Some(body) = &call.body {
        request = request
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .body(body.clone());
    }
    let response = match request.send().await {
        Ok(response) => response,
        Err(error) if error.is_connect() => return Verdict::Again(Failure::Transport(error), None),
        Err(error) if error.is_builder() => return Verdict::Foreign(Failure::Transport(error)),
        Err(error) => return Verdict::AgainUnknown(Failure::Transport(error), None),
    };
    seen(response.headers());
    let status = response.status();
    let after = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .map(Duration::from_secs);
    let outcome = response.headers().get(header::OUTCOME).and_then(outcome_from);
    let etag = response.headers().get(ETAG).and_then(version_from);
    match read_body(response).await {
        Ok(body) if status.is_success() => Verdict::Done(Reply { status, etag, body }),
        Ok(body) => judge(status, after, outcome, &body, call.key.is_some()),
        Err(failure) => Verdict::AgainUnknown(failure, None),
    }
}

pub(super) async fn read_body(mut response: reqwest::Response) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(Failure::Transport)? {
        if body.len() + chunk.len() > REPLY_BYTES_MAX {
            return Err(Failure::Body(format!("the reply is larger than {REPLY_BYTES_MAX} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// What a reply without success means.
pub(super) fn judge(
    status: StatusCode,
    after: Option<Duration>,
    outcome: Option<WriteOutcome>,
    body: &[u8],
    write: bool,
) -> Verdict {
    let problem = serde_json::from_slice::<Problem>(body).ok().map(Box::new);
    let outcome = problem.as_ref().and_then(|problem| problem.outcome).or(outcome);
    let retryable = problem.as_ref().is_none_or(|problem| problem.retryable);
    let failure = |problem: Option<Box<Problem>>| match problem {
        Some(problem) => Failure::Problem(problem),
        None => Failure::Status { status: status.as_u16(), body: excerpt(body) },
    };
    match status.as_u16() {
        429 => Verdict::Again(failure(problem), after),
        400..=499 => match problem {
            Some(problem) => Verdict::Refused(problem),
            None => Verdict::Foreign(failure(None)),
        },
        500..=599 => match outcome {
            Some(WriteOutcome::NotApplied) if !retryable => match problem {
                Some(problem) => Verdict::Refused(problem),
                None => Verdict::Stop(failure(None)),
            },
            Some(WriteOutcome::NotApplied) => Verdict::Again(failure(problem), after),
            Some(WriteOutcome::Unknown | WriteOutcome::Applied) => {
                Verdict::AgainUnknown(failure(problem), after)
            }
            None if !write && retryable => Verdict::Again(failure(problem), after),
            None if !write => match problem {
                Some(problem) => Verdict::Refused(problem),
                None => Verdict::Stop(failure(None)),
            },
            None if retryable => Verdict::AgainUnknown(failure(problem), after),
            None => Verdict::Stop(failure(problem)),
        },
        _ => Verdict::Stop(failure(problem)),
    }
}

/// The outcome as a header: the original's replies have no room for it in their bodies.
fn outcome_from(value: &HeaderValue) -> Option<WriteOutcome> {
    match value.as_bytes() {
        b"applied" => Some(WriteOutcome::Applied),
        b"not_applied" => Some(WriteOutcome::NotApplied),
        b"unknown" => Some(WriteOutcome::Unknown),
        _ => None,
    }
}

fn version_from(etag: &HeaderValue) -> Option<u64> {
    etag.to_str().ok()?.strip_prefix('"')?.strip_suffix('"')?.parse().ok()
}

fn excerpt(body: &[u8]) -> String {
    String::from_utf8_lossy(body).chars().take(200).collect::<String>().trim().to_owned()
}
