//! The node's REST interface: thin handlers over [`pygmy_raft`]'s node.
//!
//! A handler reads the request, asks the node, and renders the answer. It never touches the log or
//! the engine, and every error leaves through [`crate::http::problem`].

mod backup;
mod batch;
mod changes;
mod cluster;
mod export;
mod extract;
mod feed;
mod health;
mod import;
mod items;
mod listing;
mod openapi;
mod orders;
mod policy;
mod ranges;
mod render;
mod reservations;
mod respond;
mod seed;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::Request,
    handler::Handler,
    response::{IntoResponse, Response},
    routing::{MethodRouter, delete, get, post},
};
use futures_util::{FutureExt, future::BoxFuture};
use http::{HeaderValue, Method, header::ACCEPT};
use pygmy_raft::{network::http::HttpTransport, types::Tokio};
use tokio::sync::{Semaphore, watch};
use tower::Service;

use self::feed::Feeds;
pub(crate) use self::{extract::timeout, openapi::methods_of};
use crate::{
    api::{WriteOutcome, header},
    http::{
        BUY, HEALTH,
        app::{Answer, App},
        event_stream, is_write,
        problem::{ApiError, Code},
        rate_limit::RateLimit,
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
    /// How many requests each client may send. The listener must tell where they come from
    /// ([`tell_peer`](crate::http::serve::Limits::tell_peer)).
    pub rate_limit: Option<RateLimit>,
    /// Live feeds of changes at once; one more is refused. They do not count as requests.
    pub max_feeds: usize,
    /// How long a live feed may be silent before a comment goes out.
    pub feed_comment_interval: Duration,
    /// Bytes of an import's body.
    pub import_limit_bytes: u64,
    /// Imports at once; one more is refused.
    pub max_imports: usize,
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
    feeds: Arc<Feeds>,
    imports: Arc<Semaphore>,
    exports: Arc<Semaphore>,
    backups: Arc<Semaphore>,
    name: HeaderValue,
}

impl std::ops::Deref for Api {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

/// The interface of a node. When `draining` says so, live feeds end, so that those who follow go on
/// elsewhere; everything else goes on. To be called within a tokio runtime.
pub fn app(node: Arc<Node>, settings: Settings, draining: watch::Receiver<bool>) -> App {
    // Names come from the configuration, which takes none that is no header value.
    let name =
        HeaderValue::from_str(node.name()).unwrap_or_else(|_| HeaderValue::from_static("unnamed"));
    let api = Api(Arc::new(Shared {
        name,
        feeds: Feeds::new(
            Arc::clone(&node),
            settings.max_feeds,
            settings.feed_comment_interval,
            draining,
        ),
        in_flight: Semaphore::new(settings.max_in_flight),
        verifying: Arc::new(Semaphore::new(1)),
        imports: Arc::new(Semaphore::new(settings.max_imports)),
        exports: Arc::new(Semaphore::new(export::EXPORTS_MAX)),
        backups: Arc::new(Semaphore::new(backup::BACKUPS_MAX)),
        settings,
        node,
    }));
    let router = routes()
        .router
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(api.clone());
    App::new(Interface { api, router })
}

/// The routes, and what is around them.
struct Interface {
    api: Api,
    router: Router,
}

impl Answer for Interface {
    fn answer(&self, request: Request) -> BoxFuture<'static, Response> {
        around(self.api.clone(), self.router.clone(), request).boxed()
    }
}

/// Routes, and their paths, which a `Router` does not tell: a test holds them against the document.
#[derive(Default)]
struct Routes {
    router: Router<Api>,
    paths: Vec<String>,
}

impl Routes {
    fn route(mut self, path: &str, methods: MethodRouter<Api>) -> Self {
        self.paths.push(path.to_owned());
        self.router = self.router.route(path, methods);
        self
    }
}

/// Every route. How a new endpoint comes to be:
///
/// 1. its route here;
/// 2. `#[utoipa::path(...)]` on its handler, with the sets of parameters and errors of [`openapi`]
///    that fit: `openapi::Read` and `openapi::ReadErrors` for what asks the state, `openapi::Write`
///    and `openapi::WriteErrors` for what changes it, `openapi::BodyErrors` where there is a body,
///    `openapi::NoSuch`, `openapi::Conflict` and `openapi::Mismatch` where they can happen;
/// 3. the handler's name under `paths` in `openapi/mod.rs`;
/// 4. `ToSchema` on its shapes in `crate::api`, with the limits that the handler checks, and a line
///    for each limit in `tests/openapi.rs`.
fn routes() -> Routes {
    let version_1 = Routes::default()
        .route("/v1/items", get(items::list).post(items::create))
        .route(
            "/v1/items/{id}",
            get(items::get).put(items::put).patch(items::patch).delete(items::delete),
        )
        .route("/v1/items/{id}/stock", post(items::change_stock))
        .route("/v1/items/{id}/ledger", get(items::ledger))
        .route("/v1/items/{id}/prices", get(items::prices))
        .route("/v1/topics", get(items::topics))
        .route("/v1/orders", get(orders::list).post(orders::create))
        .route("/v1/orders/batch", post(batch::create))
        .route("/v1/orders/{id}", get(orders::get))
        .route("/v1/orders/{id}/cancel", post(orders::cancel))
        .route("/v1/reservations", get(reservations::list).post(reservations::create))
        .route("/v1/reservations/{id}", get(reservations::get).delete(reservations::release))
        .route("/v1/reservations/{id}/confirm", post(reservations::confirm))
        .route("/v1/changes", get(changes::changes))
        .route("/v1/import", post(import::import))
        .route("/v1/export", get(export::export))
        .route("/v1/backup", get(backup::backup))
        .route("/v1/cluster", get(cluster::members))
        .route("/v1/verify", get(cluster::verify))
        .route("/v1/policy", get(policy::get).put(policy::put))
        .route("/v1/cluster/maintenance", post(policy::set_maintenance));
    seed_routes(version_1)
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .route("/clusterz", get(health::clusterz))
        .route("/openapi.json", get(openapi::document))
        .route("/docs", get(openapi::docs))
        .route("/docs/{file}", get(openapi::docs_file))
}

/// The original's endpoints, each with and without the trailing slash.
fn seed_routes(routes: Routes) -> Routes {
    let mut routes = routes.route("/", get(seed::welcome));
    for slash in ["", "/"] {
        routes = routes
            .route(&format!("/search/{{topic}}{slash}"), get(seed::search))
            .route(&format!("/lookup/{{n}}{slash}"), get(seed::lookup))
            // `get` alone would sell on HEAD too.
            .route(&format!("/buy/{{n}}{slash}"), get(seed::buy).head(method_not_allowed))
            .route(&format!("/invalidate/{{n}}{slash}"), delete(seed::invalidate))
            .route(&format!("/restock{slash}"), post(seed::restock))
            .route(&format!("/heartbeat{slash}"), get(cluster::heartbeat));
    }
    routes
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

/// What is around every handler: the request's id, who answered, the client's rate limit, what it takes,
/// and the bound on requests in work.
async fn around(api: Api, router: Router, request: Request) -> Response {
    let name = api.name.clone();
    let answered = request_id::around(request, async move |request| {
        let Some(limit) = &api.settings.rate_limit else {
            return admit(&api, router, request).await;
        };
        let counted = limit.count(request.uri().path(), request.headers(), request.extensions());
        let Some(counted) = counted else { return admit(&api, router, request).await };
        let mut response = match counted.refusal() {
            Some(error) => refused(error, &request),
            None => admit(&api, router, request).await,
        };
        counted.tell(&mut response);
        response
    });
    let mut response = answered.await;
    response.headers_mut().insert(header::NODE, name);
    response
}

/// Lets a request through to its handler, if its client takes what is made here and there is room for it.
async fn admit(api: &Api, router: Router, request: Request) -> Response {
    if let Some(refused) = not_acceptable(&request) {
        return refused;
    }
    // What says how the node is must answer also when it is full.
    if HEALTH.contains(&request.uri().path()) || is_feed(&request) {
        return route(api, router, request).await;
    }
    let Ok(_permit) = api.in_flight.try_acquire() else {
        let detail = "This node has as many requests in work as it may; try again, or another one.";
        return refused(ApiError::new(Code::Overloaded, detail), &request);
    };
    route(api, router, request).await
}

/// Has a request answered. What nearly all are for goes straight to its handler: the router would come to the same,
/// after a dozen allocations for each. Whatever is not plainly one of these it decides.
fn route(api: &Api, mut router: Router, request: Request) -> BoxFuture<'static, Response> {
    let path = request.uri().path();
    let is_item = path.strip_prefix("/v1/items/").and_then(extract::number).is_some();
    match *request.method() {
        Method::GET if is_item => items::get.call(request, api.clone()),
        Method::PUT if is_item => items::put.call(request, api.clone()),
        Method::POST if path == "/v1/orders" => orders::create.call(request, api.clone()),
        // A router is always ready.
        _ => {
            let routed = router.call(request);
            routed.map(|routed| routed.unwrap_or_else(|never| match never {})).boxed()
        }
    }
}

/// Whether this is for a live feed, which has a bound of its own.
fn is_feed(request: &Request) -> bool {
    request.uri().path() == "/v1/changes" && event_stream::is_wanted(request.headers())
}

/// Everything here is JSON, but for the welcome, exports, backups and live feeds: who takes none of it is told so.
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
    let path = request.uri().path();
    if !path.starts_with("/v1/")
        || ["/v1/export", "/v1/backup"].contains(&path)
        || ranges.any(takes_json)
        || is_feed(request)
    {
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
