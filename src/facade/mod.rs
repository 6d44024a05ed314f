//! The front end: one address for the whole store.
//!
//! Knows the members from the cluster itself, spreads reads over the healthy replicas of the role,
//! takes writes to the leader and through elections, and keeps replies that may be served again. It has
//! no state that matters: run as many as you like, and lose any of them. It must never answer for the
//! store: what was bought, and what was not, only a member says.

mod cache;
mod exchange;
mod feed;
mod follow;
mod import;
mod link;
mod members;
mod own;
mod pass;
mod read;
mod replica;
mod route;
mod settings;
mod view;
mod watch;
mod write;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::request::Parts;
use http::{HeaderValue, Method, Uri, header::ALLOW};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use self::cache::Cache;
use self::members::Members;
use self::pass::{Pass, pass};
use self::replica::Backoff;
use self::route::{Route, classify};
pub use self::settings::Settings;
use self::view::View;
use crate::api::{WriteOutcome, header};
use crate::http::app::{Answer, App};
use crate::http::is_write;
use crate::http::node::methods_of;
use crate::http::problem::{ApiError, Code};
use crate::http::rate_limit::Counted;
use crate::http::request_id;
use crate::http::seed_gone;

/// What all requests and the watchers share.
struct Core {
    settings: Settings,
    client: exchange::HttpClient,
    stream_client: exchange::StreamClient,
    members: Members,
    cache: Cache,
    requests: Arc<Semaphore>,
    writes: Arc<Semaphore>,
    feeds: Arc<Semaphore>,
    body_budget: Arc<Semaphore>,
    /// This facade in `Via`, unlike any other: a request that has it already has come around.
    via: HeaderValue,
    stopping: tokio::sync::watch::Sender<bool>,
}

/// A running front end. Its watchers end with [`Facade::shutdown`], or when it is dropped.
pub struct Facade {
    core: Arc<Core>,
    watchers: Mutex<Vec<AbortHandle>>,
}

impl Facade {
    /// Starts the watchers. To be called within a tokio runtime.
    pub fn start(settings: Settings) -> Arc<Self> {
        let backoff = Backoff { min: settings.probe_min, max: settings.probe_max };
        let writes_max = settings.max_in_flight.saturating_mul(3).div_ceil(4);
        let semaphore =
            |permits: usize| Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS)));
        let via = format!("1.1 pygmy-facade-{:016x}", rand::random::<u64>());
        let core = Arc::new(Core {
            client: exchange::client(settings.connect_timeout, settings.max_in_flight),
            stream_client: exchange::stream_client(settings.connect_timeout),
            members: Members::new(&settings.seeds, backoff),
            cache: Cache::new(settings.cache_entries, settings.cache_bytes, settings.cache_ttl),
            requests: semaphore(settings.max_in_flight),
            writes: semaphore(writes_max),
            feeds: semaphore(settings.max_feeds),
            body_budget: semaphore(settings.body_budget / pass::BODY_UNIT),
            via: HeaderValue::from_str(&via).expect("letters and digits are a header value"),
            stopping: tokio::sync::watch::Sender::new(false),
            settings,
        });
        let watchers = vec![
            tokio::spawn(watch::run(Arc::clone(&core))).abort_handle(),
            tokio::spawn(feed::run(Arc::clone(&core))).abort_handle(),
        ];
        Arc::new(Self { core, watchers: Mutex::new(watchers) })
    }

    /// The whole API, to be given to [`crate::http::serve::serve`].
    pub fn app(self: &Arc<Self>) -> App {
        App::new(Interface(Arc::clone(self)))
    }

    /// Says in `/readyz` that the facade is about to end, ends live feeds, and goes on answering.
    pub fn begin_shutdown(&self) {
        self.core.stopping.send_replace(true);
    }

    /// Ends the watchers. To be called when no more requests are served.
    pub fn shutdown(&self) {
        self.begin_shutdown();
        let mut watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        for watcher in watchers.drain(..) {
            watcher.abort();
        }
    }
}

struct Interface(Arc<Facade>);

impl Answer for Interface {
    fn answer(&self, request: Request) -> BoxFuture<'static, Response> {
        let facade = Arc::clone(&self.0);
        request_id::around(request, |request| answer(facade, request)).boxed()
    }
}

impl Drop for Facade {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl Core {
    fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Waits until the membership changes, for this long at most.
    async fn wait_for_change(&self, at_most: Duration) {
        let mut views = self.members.watch();
        self.members.kick.notify_one();
        // Either end of the wait is a reason to look again.
        let _ = timeout(at_most, views.changed()).await;
    }

    /// The same, and not at all if it has changed since `then`.
    async fn wait_for_change_since(&self, then: &Arc<View>, at_most: Duration) {
        let mut views = self.members.watch();
        let changed = views.wait_for(|now| !Arc::ptr_eq(now, then));
        let _ = timeout(at_most, changed).await;
    }
}

async fn answer(facade: Arc<Facade>, request: Request) -> Response {
    let core = &facade.core;
    let (parts, body) = request.into_parts();
    let route = classify(&parts.method, &parts.uri);
    let counted = core
        .settings
        .rate_limit
        .as_ref()
        .and_then(|limit| limit.count(parts.uri.path(), &parts.headers, &parts.extensions));
    let mut response = match counted.as_ref().and_then(Counted::refusal) {
        Some(error) => refuse(route, &parts.method, &parts.uri, error),
        None => dispatch(core, route, parts, body).await,
    };
    if let Some(counted) = counted {
        counted.tell(&mut response);
    }
    sign(core, &mut response);
    response
}

/// An error of ours for a request of which nothing was done.
fn refuse(route: Route, method: &Method, uri: &Uri, error: ApiError) -> Response {
    let not_applied = |error: ApiError| error.outcome(WriteOutcome::NotApplied);
    match route {
        Route::Write(write) => write::refuse_write(write, not_applied(error)),
        _ if is_write(method, uri.path()) => not_applied(error).into_response(),
        _ => error.into_response(),
    }
}

async fn dispatch(core: &Arc<Core>, route: Route, parts: Parts, body: Body) -> Response {
    match route {
        Route::Read(read) => pass(core, Pass::Read(read), parts, body).await,
        Route::Write(write) => pass(core, Pass::Write(write), parts, body).await,
        Route::Heartbeat => own::heartbeat(core),
        Route::Invalidate(item) => {
            if let Some(item) = item {
                core.cache.forget(&read::item_keys(item));
            }
            own::invalidated()
        }
        Route::Livez => own::livez(),
        Route::Readyz => own::readyz(core),
        Route::Gone => gone(&parts.method, &parts.uri),
        Route::BuyByGetOnly => {
            let detail = "Only GET sells here; POST /v1/orders is better.";
            let error = ApiError::new(Code::MethodNotAllowed, detail).allow("GET");
            refuse(route, &parts.method, &parts.uri, error)
        }
        Route::UnknownMethod => unknown_method(route, &parts.method, &parts.uri),
        Route::BadPath => {
            let detail =
                "The path must begin with a slash and have no dot segments or backslashes.";
            let error = ApiError::new(Code::Malformed, detail);
            refuse(route, &parts.method, &parts.uri, error)
        }
    }
}

/// Marks a reply that no member gave as ours.
fn sign(core: &Core, response: &mut Response) {
    let headers = response.headers_mut();
    if !headers.contains_key(header::NODE)
        && let Ok(name) = HeaderValue::from_str(&core.settings.name)
    {
        headers.insert(header::NODE, name);
    }
    if !headers.contains_key(header::INDEX)
        && let Some(index) = core.members.newest_seen()
    {
        headers.insert(header::INDEX, HeaderValue::from(index));
    }
}

/// What a member would say, without asking one: it may not be safe to ask twice.
fn unknown_method(route: Route, method: &Method, uri: &Uri) -> Response {
    let path = uri.path();
    let Some(methods) = methods_of(path) else {
        let error = ApiError::new(Code::NotFound, format!("There is nothing at {path}."));
        return refuse(route, method, uri, error);
    };
    let detail = format!("{path} does not take {method}.");
    let mut response = refuse(route, method, uri, ApiError::new(Code::MethodNotAllowed, detail));
    if let Ok(methods) = HeaderValue::from_str(&methods) {
        response.headers_mut().insert(ALLOW, methods);
    }
    response
}

fn gone(method: &Method, uri: &Uri) -> Response {
    seed_gone::replaced(method, uri.path())
        .unwrap_or_else(|| ApiError::new(Code::Replaced, "This endpoint is not offered any more."))
        .into_response()
}
