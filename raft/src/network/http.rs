//! Peer calls over HTTP: the client side on reqwest, the server side as an axum router.
//!
//! HTTP only opens a connection and says who is there; then both sides speak frames (see `link`),
//! because a request and a response of HTTP for every call cost more than the calls themselves.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    extract::{Request, State},
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{CONNECTION, UPGRADE},
    },
    response::{IntoResponse, Response},
    routing::get,
};
use futures_util::FutureExt;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use pygmy_storage::codec;

use super::{
    CallError, CallHeader, Refusal, SecretProof, Transport,
    link::{self, Answer, Limits, Link, Writes},
    wire::BODY_BYTES_MAX,
};
use crate::{
    node::Node,
    types::{ClusterId, Tokio},
};

const PATH: &str = "/peer";
const CLUSTER: &str = "pygmy-cluster";
const FROM: &str = "pygmy-from";
const TARGET: &str = "pygmy-target";
const PROOF: &str = "pygmy-proof";
/// What the connection becomes.
const PROTOCOL: &str = "pygmy-peer/1";
/// How long to wait for a connection. Peers are near; one that does not accept in this time is down.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// Larger calls have a connection of their own, so that heartbeats do not wait behind them.
const LARGE_BYTES: usize = 128 << 10;

/// After so long without a word the other side's kernel is asked whether it is still there, and again
/// each time it does not answer.
const KEEPALIVE: Duration = Duration::from_secs(1);
/// How often it may fail to answer.
const KEEPALIVE_PROBES: u32 = 3;
/// Of a connection on which a peer calls.
const LIMITS: Limits = Limits {
    calls_max: 1024,
    call_bytes_max: BODY_BYTES_MAX,
    answer_bytes_max: BODY_BYTES_MAX,
    writes: Writes::AtOnce,
};

/// Calls peers over HTTP. Clones share connections.
#[derive(Debug, Clone)]
pub struct HttpTransport {
    client: reqwest::Client,
    links: Arc<Mutex<HashMap<(String, Lane), Slot>>>,
}

/// Which of the connections to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Lane {
    Small,
    Large,
}

/// The place of a connection. Who holds the lock makes it; the others wait.
type Slot = Arc<tokio::sync::Mutex<Option<(CallHeader, Arc<Link>)>>>;

impl HttpTransport {
    /// Errors: the HTTP client could not be set up.
    pub fn new() -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_max_idle_per_host(0)
            .tcp_nodelay(true)
            // A host that lost its power answers nothing, and a snapshot's install may take minutes:
            // what tells the two apart is whether the other side's kernel still answers.
            .tcp_keepalive(KEEPALIVE)
            .tcp_keepalive_interval(KEEPALIVE)
            .tcp_keepalive_retries(KEEPALIVE_PROBES)
            .tcp_user_timeout(KEEPALIVE * (KEEPALIVE_PROBES + 1))
            .http1_only()
            .build()?;
        Ok(Self { client, links: Arc::default() })
    }

    /// The connection to an address, made if there is none.
    async fn link(
        &self,
        address: &str,
        header: &CallHeader,
        lane: Lane,
    ) -> Result<Arc<Link>, CallError> {
        let slot = {
            let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
            links.entry((address.to_owned(), lane)).or_default().clone()
        };
        let mut slot = slot.lock().await;
        match &*slot {
            Some((known, link)) if known == header && link.is_open() => Ok(link.clone()),
            Some(_) | None => {
                let link = Arc::new(self.connect(address, header).await?);
                *slot = Some((header.clone(), link.clone()));
                Ok(link)
            }
        }
    }

    async fn connect(&self, address: &str, header: &CallHeader) -> Result<Link, CallError> {
        let mut request = self
            .client
            .get(format!("http://{address}{PATH}"))
            .header(CONNECTION, "upgrade")
            .header(UPGRADE, PROTOCOL)
            .header(FROM, header.from)
            .header(TARGET, header.target)
            .header(PROOF, header.proof.to_hex());
        if let Some(cluster) = header.cluster {
            request = request.header(CLUSTER, cluster.to_string());
        }
        // Nothing of a call has been sent yet, so whatever goes wrong here, it was not delivered.
        let failed = |error: reqwest::Error| CallError::Unreachable {
            address: address.to_owned(),
            detail: describe(&error),
        };
        let response = request.send().await.map_err(failed)?;
        let status = response.status();
        if status == StatusCode::SWITCHING_PROTOCOLS {
            let stream = response.upgrade().await.map_err(failed)?;
            return Ok(Link::new(stream, BODY_BYTES_MAX, Writes::AtOnce));
        }
        let bytes = response.bytes().await.map_err(failed)?;
        Err(match codec::unseal::<Refusal>(&bytes, "a refusal") {
            Ok(refusal) => CallError::Refused { address: address.to_owned(), refusal },
            Err(_) => CallError::Unreachable {
                address: address.to_owned(),
                detail: format!("HTTP status {status}; is this a peer listener?"),
            },
        })
    }
}

impl Transport for HttpTransport {
    async fn reach(
        &self,
        address: &str,
        header: &CallHeader,
        timeout: Duration,
    ) -> Result<(), CallError> {
        let link = self.link(address, header, Lane::Small);
        match tokio::time::timeout(timeout, link).await {
            Ok(link) => link.map(|_| ()),
            Err(_) => Err(CallError::Unreachable {
                address: address.to_owned(),
                detail: format!("no connection within {timeout:?}"),
            }),
        }
    }

    async fn call(
        &self,
        address: &str,
        header: CallHeader,
        body: Vec<u8>,
        timeout: Duration,
    ) -> Result<Vec<u8>, CallError> {
        let lane = if body.len() > LARGE_BYTES { Lane::Large } else { Lane::Small };
        let mut used = None;
        let call = async {
            let mut body = body;
            loop {
                let link = self.link(address, &header, lane).await?;
                match link.send(body) {
                    Ok(answer) => {
                        used = Some((link.clone(), tokio::time::Instant::now()));
                        return Ok(answer.await);
                    }
                    // It closed at this very moment, and has taken nothing.
                    Err(again) => body = again,
                }
            }
        };
        match tokio::time::timeout(timeout, call).await {
            Ok(Ok(Some(Answer::Reply(reply)))) => Ok(reply),
            Ok(Ok(Some(Answer::Refusal(bytes)))) => {
                let address = address.to_owned();
                Err(match codec::unseal::<Refusal>(&bytes, "a refusal") {
                    Ok(refusal) => CallError::Refused { address, refusal },
                    Err(error) => CallError::Broken { address, detail: error.to_string() },
                })
            }
            Ok(Ok(None)) => {
                let detail = "the other side closed it".to_owned();
                Err(CallError::Broken { address: address.to_owned(), detail })
            }
            Ok(Err(error)) => Err(error),
            Err(_) => {
                // A connection that has gone silent may be dead: the next call makes a new one.
                if let Some((link, sent)) = &used {
                    link.close_if_silent_since(*sent);
                }
                Err(CallError::Timeout { address: address.to_owned(), waited: timeout })
            }
        }
    }
}

/// An error with its causes, which reqwest keeps to itself otherwise.
fn describe(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// The peer listener's routes.
pub fn router<T: Transport>(node: Arc<Node<Tokio, T>>) -> Router {
    Router::new().route(PATH, get(open::<T>)).with_state(node)
}

/// Opens a connection for calls.
async fn open<T: Transport>(
    State(node): State<Arc<Node<Tokio, T>>>,
    mut request: Request,
) -> Response {
    let header = read_header(request.headers()).ok_or(Refusal::WrongSecret);
    let header = match header.and_then(|header| node.check_secret(&header).map(|()| header)) {
        Ok(header) => header,
        Err(refusal) => {
            return (StatusCode::UNAUTHORIZED, codec::seal(&refusal)).into_response();
        }
    };
    let asked = request.headers().get(UPGRADE).is_some_and(|protocol| protocol == PROTOCOL);
    let upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let Some(upgrade) = upgrade.filter(|_| asked) else {
        let wanted = [(UPGRADE, PROTOCOL), (CONNECTION, "upgrade")];
        return (StatusCode::UPGRADE_REQUIRED, wanted).into_response();
    };
    let node = Arc::downgrade(&node);
    tokio::spawn(async move {
        match upgrade.await {
            Ok(stream) => {
                let answer = move |body| {
                    let answer = node.upgrade()?.handle_peer(header.clone(), body);
                    let sealed = async { answer.await.map_err(|refusal| codec::seal(&refusal)) };
                    Some(sealed.boxed())
                };
                // A member that ends hands over first; who calls it then may as well be cut.
                let ending = std::future::pending();
                link::serve(TokioIo::new(stream), LIMITS, ending, answer).await;
            }
            Err(error) => tracing::debug!(%error, "a peer's connection could not be taken over"),
        }
    });
    let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    response.headers_mut().insert(UPGRADE, HeaderValue::from_static(PROTOCOL));
    response
}

fn read_header(headers: &HeaderMap) -> Option<CallHeader> {
    let text = |name: &str| headers.get(name)?.to_str().ok();
    let cluster = match text(CLUSTER) {
        Some(cluster) => Some(ClusterId::parse(cluster)?),
        None => None,
    };
    Some(CallHeader {
        cluster,
        from: text(FROM)?.parse().ok()?,
        target: text(TARGET)?.parse().ok()?,
        proof: SecretProof::from_hex(text(PROOF)?)?,
    })
}
