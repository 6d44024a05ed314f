//! Tests of the node's interface, without a socket, on a node that is alone in its cluster.

mod backup;
mod batch;
mod cancel;
mod catalog;
mod cluster;
mod disk;
mod feeds;
mod files;
mod idempotency;
mod items;
mod limits;
mod openapi;
mod orders;
mod outcomes;
mod policy;
mod rate_limit;
mod reads;
mod refusals;
mod reservations;
mod search;
mod seed;
mod store;
mod unavailable;
