//! The facade against members that misbehave on purpose: mock nodes on real sockets.

#![allow(clippy::unwrap_used)]

mod caching;
mod feeds;
mod frames;
mod mock;
mod rate_limits;
mod reads;
mod touching;
mod writes;
