//! What a listener serves: a request in, a reply out, as one call.
//!
//! A router can be the whole of it. What is around a router comes here and not in layers of it, because
//! each layer costs every request a few allocations.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tower::Service;

/// Answers requests.
pub trait Answer: Send + Sync + 'static {
    /// Answers one. It never fails: errors are replies.
    fn answer(&self, request: Request) -> BoxFuture<'static, Response>;
}

/// What answers requests, for all who bring some. Cheap to clone.
#[derive(Clone)]
pub struct App(Arc<dyn Answer>);

impl App {
    /// Puts it to use.
    pub fn new(answer: impl Answer) -> Self {
        Self(Arc::new(answer))
    }

    /// Answers a request.
    pub fn answer(&self, request: Request) -> BoxFuture<'static, Response> {
        self.0.answer(request)
    }
}

impl From<Router> for App {
    fn from(router: Router) -> Self {
        Self::new(router)
    }
}

impl Answer for Router {
    fn answer(&self, request: Request) -> BoxFuture<'static, Response> {
        // A router is always ready.
        let answered = self.clone().call(request);
        answered.map(|answered| answered.unwrap_or_else(|never| match never {})).boxed()
    }
}
