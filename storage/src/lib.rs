//! What Pygmy keeps, and what a command does to it.
//!
//! Pure and synchronous: no async runtime, no Raft, no HTTP, no clock, no randomness, no
//! environment. From the bottom up:
//!
//! - [`engine`], [`volume`]: bytes on disk, real or simulated. [`codec`], [`key`], [`blob`]: records.

pub mod blob;
pub mod codec;
pub mod engine;
pub mod error;
pub mod key;
pub mod volume;

pub use error::{Error, Result};

pub mod apply;
pub mod catalog;
pub mod changes;
pub mod checkpoint;
pub mod chunk_index;
pub mod command;
pub mod filter;
pub mod history;
pub mod ledger;
pub mod orders;
pub mod prices;
pub mod query;
pub mod reservations;
pub mod search;
pub mod sequence;
pub mod snapshot;
pub mod state;
pub mod store;
pub mod verify;
pub mod walk;
pub mod working;
