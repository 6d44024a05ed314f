//! Pygmy's replication: the only crate that names openraft.
//!
//! Generic over the [`types::Environment`], so that the same log store, state machine and node run
//! on tokio and under a deterministic simulation. From the bottom up: [`log_store`] and
//! [`state_machine`] adapt `pygmy-storage` to openraft, [`network`] carries calls between members,
//! [`node`] is one member.

pub mod changes;
mod gather;
pub mod identity;
pub mod log_store;
pub mod network;
pub mod node;
mod progress;
pub mod restore;
pub mod sabotage;
pub mod state_machine;
pub mod types;
