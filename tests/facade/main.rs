//! The facade against members that misbehave on purpose: mock nodes on real sockets.

mod caching;
mod mock;
mod reads;
mod writes;
