//! One request to one member, and its reply, as bytes.
//!
//! Owns what a proxy must do to headers, and what a failed exchange says about the replica and about
//! a write's outcome. It must never look at what a body means, except for the code and the outcome of
//! a problem document.

use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{self as std_header, HeaderName};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Body as _;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::Deserialize;

use super::replica::Outstanding;
use crate::api::{WriteOutcome, header};
use crate::http::problem::Code;
use crate::http::serve::TimedBody;

/// Replies up to this length are taken whole before the client sees them, so that a replica that
/// fails in the middle of one is replaced. Longer ones, and those of unknown length, are passed on as
/// they come.
const WHOLE_BYTES_MAX: u64 = 1024 * 1024;

/// The longest pause in the middle of a reply. Live feeds send a comment every 15 seconds: this is more
/// than two of them.
const READ_TIMEOUT: Duration = Duration::from_secs(35);

/// How long an unused connection to a member is kept; well below the servers' own idle timeout, so
/// that it is we who close it.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// The longest reply to a request whose body was passed on as it came.
const STREAM_REPLY_BYTES_MAX: usize = 1024 * 1024;

/// What is asked of a member.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    pub(super) method: Method,
    /// Path and query.
    pub(super) target: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// What a member answered.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: ReplyBody,
}

#[derive(Debug)]
pub(super) enum ReplyBody {
    Whole(Bytes),
    Stream(Body),
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lost {
    /// No connection: the member has not seen the request.
    NotSent,
    /// The connection broke. The member may have seen and done everything.
    Broken,
    /// No answer in time. The same.
    TimedOut,
}

/// The client for all exchanges with members.
pub(super) type HttpClient = Client<HttpConnector, Full<Bytes>>;

/// Keeps `idle_max` unused connections to each member at most.
///
/// One level below what the rest of the program uses, because a request passes through here unread: what
/// a full client adds for redirects, proxies and cookies was half of the cost of passing it on.
pub(super) fn client(connect_timeout: Duration, idle_max: usize) -> HttpClient {
    let mut connector = HttpConnector::new();
    connector.set_connect_timeout(Some(connect_timeout));
    connector.set_nodelay(true);
    Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(POOL_IDLE_TIMEOUT)
        .pool_max_idle_per_host(idle_max)
        .build(connector)
}

/// The client that passes bodies on as they come.
pub(super) type StreamClient = Client<HttpConnector, Body>;

/// How long a connection on which a body goes may give no sign of life.
const STREAM_SILENCE_MAX: Duration = Duration::from_secs(15);

/// Connections of its own for each request: one that is stale would cost the body.
pub(super) fn stream_client(connect_timeout: Duration) -> StreamClient {
    let mut connector = HttpConnector::new();
    connector.set_connect_timeout(Some(connect_timeout));
    connector.set_nodelay(true);
    // There is no deadline for the whole: this is how a member that is gone is found out.
    connector.set_keepalive(Some(STREAM_SILENCE_MAX / 3));
    connector.set_keepalive_interval(Some(STREAM_SILENCE_MAX / 3));
    connector.set_keepalive_retries(Some(2));
    #[cfg(target_os = "linux")]
    connector.set_tcp_user_timeout(Some(STREAM_SILENCE_MAX));
    Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector)
}

/// What is left to the way back of the time that a member is given, as a part of it. A member that
/// answers "no leader, nothing done" in time leaves no doubt; one that is cut short does.
const WAY_BACK: u32 = 8;

/// The way back takes this much at least where there is as much again for the member: a busy machine
/// may be slow to hand over a reply, however short the time was.
pub(super) const WAY_BACK_MIN: Duration = Duration::from_millis(250);

/// Sends a request to the member at `address`, which is told how long it may take. Small replies are
/// whole within `timeout`; of others the head is there within it. `outstanding` ends with the reply's
/// last byte.
pub(super) async fn send(
    client: &HttpClient,
    address: &str,
    ask: &Ask,
    timeout: Duration,
    outstanding: Option<Outstanding>,
) -> Result<Reply, Lost> {
    let request = request(address, ask, Full::new(ask.body.clone()), timeout)?;
    let answer = async {
        let response = client.request(request).await.map_err(|error| lost(&error))?;
        let (head, body) = response.into_parts();
        let mut headers = head.headers;
        strip_hop_by_hop(&mut headers);
        // The length of a reply to HEAD is that of a body which does not come.
        let whole = ask.method == Method::HEAD
            || body.size_hint().exact().is_some_and(|length| length <= WHOLE_BYTES_MAX);
        let body = if whole {
            let read = body.collect().await.map_err(|error| broken(&error))?;
            ReplyBody::Whole(read.to_bytes())
        } else {
            let body = TimedBody::new(body, READ_TIMEOUT);
            ReplyBody::Stream(Body::new(body.map_frame(move |frame| {
                let _until_the_stream_ends = &outstanding;
                frame
            })))
        };
        Ok(Reply { status: head.status, headers, body })
    };
    tokio::time::timeout(timeout, answer).await.unwrap_or(Err(Lost::TimedOut))
}

/// Sends a request whose body is passed on as it comes, in place of that of `ask`. The member is told
/// how long a step of it may take; the whole takes as long as the body. The reply comes whole.
pub(super) async fn send_stream(
    client: &StreamClient,
    address: &str,
    ask: &Ask,
    body: Body,
    timeout: Duration,
) -> Result<Reply, Lost> {
    let request = request(address, ask, body, timeout)?;
    let response = client.request(request).await.map_err(|error| lost(&error))?;
    let (head, body) = response.into_parts();
    let mut headers = head.headers;
    strip_hop_by_hop(&mut headers);
    let read = Limited::new(TimedBody::new(body, READ_TIMEOUT), STREAM_REPLY_BYTES_MAX).collect();
    let read = read.await.map_err(|error| broken(&*error))?;
    Ok(Reply { status: head.status, headers, body: ReplyBody::Whole(read.to_bytes()) })
}

/// How long a member is told that it may take, of the time there is, in milliseconds.
pub(super) fn given_ms(timeout: Duration) -> u64 {
    let way_back = (timeout / WAY_BACK).max(WAY_BACK_MIN.min(timeout / 2));
    u64::try_from((timeout - way_back).as_millis()).unwrap_or(u64::MAX)
}

fn request<B>(address: &str, ask: &Ask, body: B, timeout: Duration) -> Result<Request<B>, Lost> {
    let mut headers = ask.headers.clone();
    let given = HeaderValue::from(given_ms(timeout));
    headers.insert(HeaderName::from_static(header::TIMEOUT_MS), given);
    let Ok(uri) = format!("http://{address}{}", ask.target).parse::<Uri>() else {
        tracing::debug!(address, target = ask.target, "not an address to send to");
        return Err(Lost::NotSent);
    };
    let mut request = Request::new(body);
    *request.method_mut() = ask.method.clone();
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    Ok(request)
}

fn lost(error: &hyper_util::client::legacy::Error) -> Lost {
    match error.is_connect() {
        true => {
            tracing::debug!(error = error as &dyn std::error::Error, "no connection to a member");
            Lost::NotSent
        }
        false => broken(error),
    }
}

fn broken(error: &(dyn std::error::Error + 'static)) -> Lost {
    tracing::debug!(error, "exchange with a member failed");
    Lost::Broken
}

/// What a reply that is an error says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) code: Option<Code>,
    pub(super) outcome: Option<WriteOutcome>,
}

impl Reply {
    /// The log index that the reply reflects.
    pub(super) fn index(&self) -> Option<u64> {
        self.headers.get(header::INDEX)?.to_str().ok()?.parse().ok()
    }

    /// The body, if it is here.
    pub(super) fn whole(&self) -> Option<&Bytes> {
        match &self.body {
            ReplyBody::Whole(bytes) => Some(bytes),
            ReplyBody::Stream(_) => None,
        }
    }

    /// The code and the outcome, from the headers or the problem document.
    pub(super) fn said(&self) -> Said {
        #[derive(Deserialize, Default)]
        struct Document {
            code: Option<String>,
            outcome: Option<WriteOutcome>,
        }
        let text = |name| self.headers.get(name).and_then(|value| value.to_str().ok());
        // A body that is no problem document says nothing, and that is an answer too.
        let document: Document =
            self.whole().and_then(|body| serde_json::from_slice(body).ok()).unwrap_or_default();
        Said {
            code: text(header::CODE).or(document.code.as_deref()).and_then(Code::parse),
            outcome: text(header::OUTCOME).and_then(parse_outcome).or(document.outcome),
        }
    }

    /// The reply for the client.
    pub(super) fn into_response(self, method: &Method) -> Response {
        let mut headers = self.headers;
        let body = match self.body {
            ReplyBody::Whole(bytes) => {
                // hyper counts for itself, but cannot count what HEAD leaves out.
                if *method != Method::HEAD {
                    headers.remove(std_header::CONTENT_LENGTH);
                }
                Body::from(bytes)
            }
            ReplyBody::Stream(body) => body,
        };
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        *response.headers_mut() = headers;
        response
    }
}

fn parse_outcome(text: &str) -> Option<WriteOutcome> {
    match text {
        "applied" => Some(WriteOutcome::Applied),
        "not_applied" => Some(WriteOutcome::NotApplied),
        "unknown" => Some(WriteOutcome::Unknown),
        _ => None,
    }
}

/// The headers of a client's request as they go to a member.
pub(super) fn forwarded_headers(from: &HeaderMap, via: &HeaderValue) -> HeaderMap {
    let mut headers = from.clone();
    strip_hop_by_hop(&mut headers);
    // The body is in our hands by now, and the address is another.
    headers.remove(std_header::HOST);
    headers.remove(std_header::CONTENT_LENGTH);
    headers.remove(std_header::EXPECT);
    // The client's rate limit is ours to keep. A member that trusts this address would count again.
    headers.remove(std_header::FORWARDED);
    headers.remove("x-forwarded-for");
    headers.append(std_header::VIA, via.clone());
    headers
}

/// Removes what is between two neighbours only (RFC 9110, section 7.6.1).
fn strip_hop_by_hop(headers: &mut HeaderMap) {
    const ALWAYS: [HeaderName; 8] = [
        std_header::CONNECTION,
        HeaderName::from_static("keep-alive"),
        HeaderName::from_static("proxy-connection"),
        std_header::PROXY_AUTHENTICATE,
        std_header::PROXY_AUTHORIZATION,
        std_header::TE,
        std_header::TRANSFER_ENCODING,
        std_header::UPGRADE,
    ];
    let named: Vec<HeaderName> = headers
        .get_all(std_header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&ALWAYS) {
        headers.remove(name);
    }
    headers.remove(std_header::TRAILER);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn hop_by_hop_headers_stay_behind() {
        let from = headers(&[
            ("connection", "close, x-mine"),
            ("x-mine", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("host", "shop"),
            ("content-length", "5"),
            ("idempotency-key", "k"),
            ("accept", "text/csv"),
            ("x-forwarded-for", "192.0.2.1"),
            ("forwarded", "for=192.0.2.1"),
        ]);
        let to = forwarded_headers(&from, &HeaderValue::from_static("1.1 f"));
        assert_eq!(
            to,
            headers(&[("idempotency-key", "k"), ("accept", "text/csv"), ("via", "1.1 f")])
        );
    }

    #[test]
    fn a_member_leaves_time_for_its_reply_however_little_there_is() {
        let given = |ms| given_ms(Duration::from_millis(ms));
        assert_eq!([0, 1, 100, 500, 600].map(given), [0, 0, 50, 250, 350]);
        assert_eq!([2000, 10_000].map(given), [1750, 8750]);
    }

    #[test]
    fn an_error_says_what_it_is_by_header_or_by_document() {
        let reply = |pairs: &[(&'static str, &'static str)], body: &'static str| Reply {
            status: StatusCode::SERVICE_UNAVAILABLE,
            headers: headers(pairs),
            body: ReplyBody::Whole(Bytes::from_static(body.as_bytes())),
        };
        let document = r#"{"code":"leadership_lost","outcome":"unknown","status":503}"#;
        assert_eq!(
            reply(&[], document).said(),
            Said { code: Some(Code::LeadershipLost), outcome: Some(WriteOutcome::Unknown) }
        );
        let by_header = [(header::CODE, "no_leader"), (header::OUTCOME, "not_applied")];
        assert_eq!(
            reply(&by_header, r#"{"Result": "0"}"#).said(),
            Said { code: Some(Code::NoLeader), outcome: Some(WriteOutcome::NotApplied) }
        );
        assert_eq!(reply(&[], "<html>").said(), Said { code: None, outcome: None });
        assert_eq!(reply(&[], "[1]").said(), Said { code: None, outcome: None });
    }
}
