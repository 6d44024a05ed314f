//! Pygmy: a replicated catalog and order store with an HTTP facade.

mod amount;
pub mod api;
pub mod bench;
pub mod cli;
pub mod client;
pub mod config;
pub mod facade;
pub mod http;
pub mod logging;
mod scheduling;
pub mod server;
pub mod shop;
