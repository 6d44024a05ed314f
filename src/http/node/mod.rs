//! The node's REST interface: thin handlers over [`pygmy_raft`]'s node.
//!
//! A handler reads the request, asks the node, and renders the answer. It never touches the log or
//! the engine, and every error leaves through [`crate::http::problem`].

mod batch;
mod cluster;
mod extract;
mod health;
mod items;
mod orders;
mod render;
mod respond;
mod seed;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{delete, get, post},
};
use http::{HeaderValue, Method, header::ACCEPT};
use pygmy_raft::{network::http::HttpTransport, types::Tokio};
use tokio::sync::Semaphore;

use crate::{
    api::{WriteOutcome, header},
    http::{
        problem::{ApiError, Code},
        request_id, seed_gone,
    },
};

/// The node that the handlers talk to.
pub type Node = pygmy_raft::node::Node<Tokio, HttpTransport>;

/// What the interface is told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long a request may wait for its answer.
    pub request_timeout: Duration,
    /// Bytes of a body.
    pub body_limit_bytes: usize,
    /// Requests at once; one more is refused.
    pub max_in_flight: usize,
    /// Orders in one batch.
    pub max_batch_orders: usize,
    /// Whether `GET /buy/{n}/` sells, as the original's did.
    pub legacy_get_buy: bool,
}

/// What the handlers share. Cloned for every request, so that it is one counter.
#[derive(Clone)]
struct Api(Arc<Shared>);

struct Shared {
    node: Arc<Node>,
    settings: Settings,
    in_flight: Semaphore,
    /// A full check reads everything: one at a time.
    verifying: Arc<Semaphore>,
    name: HeaderValue,
}

impl std::ops::Deref for Api {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

/// The routes of a node.
pub fn router(node: Arc<Node>, settings: Settings) -> Router {
    // Names come from the configuration, which takes none that is no header value.
    let name =
        HeaderValue::from_str(node.name()).unwrap_or_else(|_| HeaderValue::from_static("unnamed"));
    let api = Api(Arc::new(Shared {
        name,
        in_flight: Semaphore::new(settings.max_in_flight),
        verifying: Arc::new(Semaphore::new(1)),
        settings,
        node,
    }));
    let version_1 = Router::new()
        .route("/v1/items", get(items::list))
        .route("/v1/items/{id}", get(items::get).put(items::put))
        .route("/v1/items/{id}/stock", post(items::change_stock))
        .route("/v1/topics", get(items::topics))
        .route("/v1/orders", get(orders::list).post(orders::create))
        .route("/v1/orders/batch", post(batch::create))
        .route("/v1/orders/{id}", get(orders::get))
        .route("/v1/changes", get(cluster::changes))
        .route("/v1/cluster", get(cluster::members))
        .route("/v1/verify", get(cluster::verify));
    seed_routes()
        .merge(version_1)
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .route("/clusterz", get(health::clusterz))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(api.clone(), around))
        .with_state(api)
}

/// The original's endpoints, each with and without the trailing slash.
fn seed_routes() -> Router<Api> {
    let mut router = Router::new().route("/", get(seed::welcome));
    for slash in ["", "/"] {
        router = router
            .route(&format!("/search/{{topic}}{slash}"), get(seed::search))
            .route(&format!("/lookup/{{n}}{slash}"), get(seed::lookup))
            // `get` alone would sell on HEAD too.
            .route(&format!("/buy/{{n}}{slash}"), get(seed::buy).head(method_not_allowed))
            .route(&format!("/invalidate/{{n}}{slash}"), delete(seed::invalidate))
            .route(&format!("/restock{slash}"), post(seed::restock))
            .route(&format!("/heartbeat{slash}"), get(cluster::heartbeat));
    }
    router
}

/// The beginning of the one path where GET changes something.
const BUY: &str = "/buy/";

/// Whether a request can change something.
fn is_write(method: &Method, path: &str) -> bool {
    !method.is_safe() || path.starts_with(BUY)
}

fn refused(error: ApiError, request: &Request) -> Response {
    let path = request.uri().path();
    match is_write(request.method(), path) {
        true => {
            let error = error.outcome(WriteOutcome::NotApplied);
            if path.starts_with(BUY) {
                seed_gone::buy_unavailable(error)
            } else {
                error.into_response()
            }
        }
        false => error.into_response(),
    }
}

/// What is around every handler: the request's id, who answered, what the client takes, and the bound
/// on requests in work. One layer for all of them, because each one costs every request a few
/// allocations: as five layers they were a third of the cost of a read.
async fn around(State(api): State<Api>, request: Request, next: Next) -> Response {
    let name = api.name.clone();
    let answered = request_id::around(request, async move |request| {
        if let Some(refused) = not_acceptable(&request) {
            return refused;
        }
        // What says how the node is must answer also when it is full.
        if matches!(request.uri().path(), "/livez" | "/readyz" | "/clusterz") {
            return next.run(request).await;
        }
        let Ok(_permit) = api.in_flight.try_acquire() else {
            let detail =
                "This node has as many requests in work as it may; try again, or another one.";
            return refused(ApiError::new(Code::Overloaded, detail), &request);
        };
        next.run(request).await
    });
    let mut response = answered.await;
    response.headers_mut().insert(header::NODE, name);
    response
}

/// Everything here is JSON, but for the welcome: who takes none of it is told so.
fn not_acceptable(request: &Request) -> Option<Response> {
    let takes_json = |value: &HeaderValue| {
        value.to_str().is_ok_and(|text| {
            text.split(',').any(|range| {
                let range = range.split(';').next().unwrap_or_default().trim();
                matches!(
                    range.to_ascii_lowercase().as_str(),
                    "" | "*/*" | "application/*" | "application/json" | "application/problem+json"
                )
            })
        })
    };
    let mut ranges = request.headers().get_all(ACCEPT).iter().peekable();
    ranges.peek()?;
    if !request.uri().path().starts_with("/v1/") || ranges.any(takes_json) {
        return None;
    }
    let detail = "This interface answers application/json only; send Accept: application/json.";
    Some(refused(ApiError::new(Code::NotAcceptable, detail), request))
}

async fn not_found(request: Request) -> Response {
    if let Some(gone) = seed_gone::replaced(request.method(), request.uri().path()) {
        return gone.into_response();
    }
    let detail = format!("There is nothing at {}.", request.uri().path());
    refused(ApiError::new(Code::NotFound, detail), &request)
}

async fn method_not_allowed(request: Request) -> Response {
    if let Some(gone) = seed_gone::replaced(request.method(), request.uri().path()) {
        return gone.into_response();
    }
    let detail = format!("{} does not take {}.", request.uri().path(), request.method());
    let error = ApiError::new(Code::MethodNotAllowed, detail);
    match request.uri().path().starts_with(BUY) {
        true => refused(error.allow("GET"), &request),
        // axum knows what the path takes, and says it.
        false => refused(error, &request),
    }
}
