//! Pygmy: a replicated catalog and order store with an HTTP facade.
pub mod api;
pub mod facade;
pub mod http;
