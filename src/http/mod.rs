//! What every HTTP server of ours shares, and the node's own handlers.
//!
//! Nothing here knows the log or the engine: a handler talks to the node, and errors leave through
//! one table.

pub mod app;
pub mod event_stream;
pub mod frames;
pub mod node;
pub mod problem;
pub mod rate_limit;
pub mod request_id;
pub mod seed_gone;
pub mod serve;

use http::Method;

/// The beginning of the one path where GET changes something.
pub(crate) const BUY: &str = "/buy/";

/// Whether a request can change something: its errors say whether it did.
pub(crate) fn is_write(method: &Method, path: &str) -> bool {
    !method.is_safe() || path.starts_with(BUY)
}

/// Paths that say how a process is. They answer also when it is full, and are never counted: what
/// watches over a process must not be turned away by it.
pub(crate) const HEALTH: [&str; 3] = ["/livez", "/readyz", "/clusterz"];
