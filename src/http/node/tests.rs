//! Tests of the node's router, without a socket, on a node that is alone in its cluster.

mod batch;
mod cluster;
mod disk;
mod idempotency;
mod items;
mod limits;
mod orders;
mod reads;
mod refusals;
mod seed;
mod store;
mod unavailable;
