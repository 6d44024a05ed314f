//! Pygmy's replication: the only crate that names openraft.
//!
//! Generic over the [`types::Environment`], so that the same log store, state machine and node run
//! on tokio and under a deterministic simulation.

pub mod changes;
pub mod log_store;
pub mod sabotage;
pub mod state_machine;
pub mod types;
