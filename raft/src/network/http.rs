//! Peer calls over HTTP: the client side on reqwest, the server side as an axum router.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::post,
};
use pygmy_storage::codec;

use super::{CallError, CallHeader, Refusal, SecretProof, Transport, wire::BODY_BYTES_MAX};
use crate::{
    node::Node,
    types::{ClusterId, Tokio},
};

const PATH: &str = "/peer";
const CLUSTER: &str = "pygmy-cluster";
const FROM: &str = "pygmy-from";
const TARGET: &str = "pygmy-target";
const PROOF: &str = "pygmy-proof";
/// How long to wait for a connection. Peers are near; one that does not accept in this time is down.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// Idle connections per peer: one for each kind of call that runs at once.
const IDLE_CONNECTIONS_MAX: usize = 16;

/// After so long without a word the other side's kernel is asked whether it is still there, and again
/// each time it does not answer.
const KEEPALIVE: Duration = Duration::from_secs(1);
/// How often it may fail to answer.
const KEEPALIVE_PROBES: u32 = 3;

/// Calls peers over HTTP. Clones share connections.
#[derive(Debug, Clone)]
pub struct HttpTransport {
    client: reqwest::Client,
}

impl HttpTransport {
    /// Errors: the HTTP client could not be set up.
    pub fn new() -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .pool_idle_timeout(Duration::from_secs(30))
            .tcp_nodelay(true)
            // A host that lost its power answers nothing, and a snapshot's install may take minutes:
            // what tells the two apart is whether the other side's kernel still answers.
            .tcp_keepalive(KEEPALIVE)
            .tcp_keepalive_interval(KEEPALIVE)
            .tcp_keepalive_retries(KEEPALIVE_PROBES)
            .tcp_user_timeout(KEEPALIVE * (KEEPALIVE_PROBES + 1))
            .http1_only()
            .build()?;
        Ok(Self { client })
    }
}

impl Transport for HttpTransport {
    async fn call(
        &self,
        address: &str,
        header: CallHeader,
        body: Vec<u8>,
        timeout: Duration,
    ) -> Result<Vec<u8>, CallError> {
        let mut request = self
            .client
            .post(format!("http://{address}{PATH}"))
            .timeout(timeout)
            .header(FROM, header.from)
            .header(TARGET, header.target)
            .header(PROOF, header.proof.to_hex())
            .body(body);
        if let Some(cluster) = header.cluster {
            request = request.header(CLUSTER, cluster.to_string());
        }
        let failed = |error: reqwest::Error| {
            let (address, detail) = (address.to_owned(), describe(&error));
            if error.is_connect() {
                CallError::Unreachable { address, detail }
            } else if error.is_timeout() {
                CallError::Timeout { address, waited: timeout }
            } else {
                CallError::Broken { address, detail }
            }
        };
        let response = request.send().await.map_err(failed)?;
        let status = response.status();
        let bytes = response.bytes().await.map_err(failed)?;
        if status == StatusCode::OK {
            return Ok(bytes.into());
        }
        match codec::unseal::<Refusal>(&bytes, "a refusal") {
            Ok(refusal) => Err(CallError::Refused { address: address.to_owned(), refusal }),
            Err(_) => Err(CallError::Broken {
                address: address.to_owned(),
                detail: format!("HTTP status {status}; is this a peer listener?"),
            }),
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
    Router::new()
        .route(PATH, post(handle::<T>))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(node)
}

async fn handle<T: Transport>(
    State(node): State<Arc<Node<Tokio, T>>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let result = match read_header(&headers) {
        Some(header) => node.handle_peer(header, body).await,
        None => Err(Refusal::WrongSecret),
    };
    match result {
        Ok(reply) => reply.into_response(),
        Err(refusal) => {
            let status = match refusal {
                Refusal::WrongSecret => StatusCode::UNAUTHORIZED,
                Refusal::WrongCluster { .. } | Refusal::WrongTarget { .. } | Refusal::NoCluster => {
                    StatusCode::MISDIRECTED_REQUEST
                }
                Refusal::Malformed(_) => StatusCode::BAD_REQUEST,
                Refusal::Stopped(_) => StatusCode::SERVICE_UNAVAILABLE,
            };
            (status, codec::seal(&refusal)).into_response()
        }
    }
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
