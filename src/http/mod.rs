//! What every HTTP server of ours shares, and the node's own handlers.
//!
//! Nothing here knows the log or the engine: a handler talks to the node, and errors leave through
//! one table.

pub mod node;
pub mod problem;
pub mod request_id;
pub mod seed_gone;
pub mod serve;
