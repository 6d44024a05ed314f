//! The connection to a member on which requests go as frames, and HTTP where there is none.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::header::{CONNECTION, HeaderName, UPGRADE, VIA};
use http::{HeaderValue, Request, StatusCode, Uri};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use pygmy_raft::network::link::{Answer, Link, Writes};
use tokio::time::Instant;

use super::Core;
use super::exchange::{Ask, Lost, Reply, ReplyBody, given_ms, send};
use super::replica::{Outstanding, Replica};
use crate::api::header;
use crate::http::frames;
use crate::http::is_write;

/// How long a member that takes no frames is not asked again whether it does.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// A member's connection for frames.
#[derive(Debug, Default)]
pub(super) struct Slot {
    known: Mutex<Known>,
    /// Held by who makes the connection; the others wait.
    making: tokio::sync::Mutex<()>,
    /// How often making it failed.
    failures: AtomicU64,
}

#[derive(Debug, Default, Clone)]
enum Known {
    #[default]
    Nothing,
    Open(Arc<Link>),
    /// The member takes none; when it was asked.
    Without(Instant),
}

impl Slot {
    /// What is known, if it still counts: a connection, or that there is none.
    fn known(&self) -> Option<Option<Arc<Link>>> {
        // No code panics while it holds the lock.
        match &*self.known.lock().unwrap_or_else(PoisonError::into_inner) {
            Known::Open(link) if link.is_open() => Some(Some(Arc::clone(link))),
            Known::Without(since) if since.elapsed() < RETRY_AFTER => Some(None),
            Known::Nothing | Known::Open(_) | Known::Without(_) => None,
        }
    }

    fn learn(&self, known: Known) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = known;
    }

    /// The connection, made if need be; `None` where the member takes no frames.
    ///
    /// Errors: the member cannot be reached.
    async fn link(&self, core: &Core, address: &str) -> Result<Option<Arc<Link>>, Lost> {
        if let Some(known) = self.known() {
            return Ok(known);
        }
        let failures = self.failures.load(Ordering::Relaxed);
        let _making = self.making.lock().await;
        if let Some(known) = self.known() {
            return Ok(known);
        }
        // Who waited while it failed need not wait for the next failure.
        if self.failures.load(Ordering::Relaxed) != failures {
            return Err(Lost::NotSent);
        }
        match connect(core, address).await {
            Ok(link) => {
                let link = link.map(Arc::new);
                self.learn(match &link {
                    Some(link) => Known::Open(Arc::clone(link)),
                    None => Known::Without(Instant::now()),
                });
                Ok(link)
            }
            Err(lost) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                Err(lost)
            }
        }
    }
}

/// Nothing of a request has been sent yet, so whatever goes wrong here, it was not.
async fn connect(core: &Core, address: &str) -> Result<Option<Link>, Lost> {
    let Ok(uri) = format!("http://{address}{}", frames::PATH).parse::<Uri>() else {
        return Err(Lost::NotSent);
    };
    let mut request = Request::new(Full::default());
    *request.uri_mut() = uri;
    request.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    request.headers_mut().insert(UPGRADE, HeaderValue::from_static(frames::PROTOCOL));
    // So that a facade whose seed is itself finds that out.
    request.headers_mut().insert(VIA, core.via.clone());
    let failed = |error: &(dyn std::error::Error + 'static)| {
        tracing::debug!(address, error, "no connection for frames");
        Lost::NotSent
    };
    let response = core.client.request(request).await.map_err(|error| failed(&error))?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(None);
    }
    let stream = hyper::upgrade::on(response).await.map_err(|error| failed(&error))?;
    Ok(Some(Link::new(TokioIo::new(stream), frames::REPLY_BYTES_MAX, Writes::Gathered)))
}

/// Sends a request to a member, by frames if it can, and gives its reply, which is whole if it came by
/// frames. See [`send`] for the rest.
pub(super) async fn ask(
    core: &Core,
    replica: &Replica,
    ask: &Ask,
    timeout: Duration,
    outstanding: Option<Outstanding>,
) -> Result<Reply, Lost> {
    let by_http = |outstanding| send(&core.client, &replica.address, ask, timeout, outstanding);
    if ask.body.len() > frames::REQUEST_BODY_MAX {
        return by_http(outstanding).await;
    }
    let deadline = Instant::now() + timeout;
    let mut used = None;
    let call = async {
        let mut frame = None;
        loop {
            let Some(link) = replica.link.link(core, &replica.address).await? else {
                return Ok(None);
            };
            // What making the connection took is not the member's to take again.
            let left = || deadline.saturating_duration_since(Instant::now());
            match link.send(frame.take().unwrap_or_else(|| encode(ask, left()))) {
                Ok(answer) => {
                    used = Some((link, Instant::now()));
                    return Ok(Some(answer.await));
                }
                // It closed at this very moment, and has taken nothing.
                Err(again) => frame = Some(again),
            }
        }
    };
    match tokio::time::timeout(timeout, call).await {
        Ok(Ok(Some(Some(Answer::Reply(frame))))) => match frames::decode_reply(&frame.into()) {
            Some((status, headers, body)) => {
                Ok(Reply { status, headers, body: ReplyBody::Whole(body) })
            }
            None => Err(Lost::Broken),
        },
        Ok(Ok(Some(Some(Answer::Refusal(why))))) => {
            let why = String::from_utf8_lossy(&why);
            tracing::debug!(address = replica.address, target = ask.target, %why, "not by frames");
            match is_write(&ask.method, ask.target.split('?').next().unwrap_or_default()) {
                true => Err(Lost::Broken),
                false => by_http(outstanding).await,
            }
        }
        Ok(Ok(Some(None))) => Err(Lost::Broken),
        Ok(Ok(None)) => by_http(outstanding).await,
        Ok(Err(lost)) => Err(lost),
        Err(_) => match used {
            Some((link, sent)) => {
                // A connection that has gone silent may be dead: the next request makes a new one.
                link.close_if_silent_since(sent);
                Err(Lost::TimedOut)
            }
            None => Err(Lost::NotSent),
        },
    }
}

fn encode(ask: &Ask, timeout: Duration) -> Vec<u8> {
    let name = HeaderName::from_static(header::TIMEOUT_MS);
    let value = HeaderValue::from(given_ms(timeout));
    frames::encode_request(&ask.method, &ask.target, &ask.headers, (&name, &value), &ask.body)
}
