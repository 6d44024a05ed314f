//! Changes, the cluster, its policy, and what a check finds.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `GET /v1/changes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChangePage {
    /// The rows, in log order.
    pub changes: Vec<Change>,
    /// What to send as `after` for the next page.
    pub next_after: u64,
}

/// Something that changed at an index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Change {
    /// Log index of the change.
    pub index: u64,
    /// `item`, `order`, `reservation` or `policy`.
    pub kind: String,
    /// The item, order or reservation number; 0 for the policy.
    pub id: u64,
    /// `created`, `changed`, `deleted`, `cancelled`, `confirmed`, `released` or `expired`.
    pub what: String,
}

/// `GET /v1/cluster`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Cluster {
    /// The cluster's id, minted at bootstrap.
    pub cluster_id: String,
    /// Name of the leader, if one is known.
    pub leader: Option<String>,
    /// The Raft term.
    pub term: u64,
    /// Whether maintenance is on, as far as the answering member has applied the log.
    #[serde(default)]
    pub maintenance: bool,
    /// Everybody who takes part.
    pub members: Vec<Member>,
}

/// A row of [`Cluster`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Member {
    /// The member's name.
    pub name: String,
    /// The Raft node id. Never used again once its disk is gone.
    pub id: u64,
    /// `catalog`, `order`: what the facade asks it for.
    pub roles: Vec<String>,
    /// `voter` or `learner`.
    pub kind: String,
    /// Address of the REST interface, `host:port`.
    pub api: String,
    /// Address of the peer listener, `host:port`.
    pub peer: String,
    /// Whether the leader has heard from it within the failure window.
    pub up: bool,
    /// Milliseconds since the leader last heard from it; null when it never did or nobody leads.
    pub last_heard_ms: Option<u64>,
    /// The newest index the leader knows it has.
    pub applied_index: Option<u64>,
    /// How far it is behind the leader's log, in entries.
    pub lag: Option<u64>,
    /// The program's version, where known.
    pub version: Option<String>,
}

/// `POST /v1/cluster/maintenance`, and its reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Maintenance {
    /// Whether writes are refused.
    pub on: bool,
}

/// `GET` and `PUT /v1/policy`: the replicated settings, the same for every member whatever its
/// configuration. A `PUT` replaces all of them. Their version is the ETag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Hours that an idempotency key is remembered, in log time.
    #[schema(minimum = 1, maximum = 8760)]
    pub key_retention_hours: u64,
    /// Idempotency keys that are remembered at most.
    #[schema(minimum = 1, maximum = 100_000_000u64)]
    pub key_limit: u64,
    /// What a sold-out item is restocked to.
    #[schema(minimum = 1, maximum = 1_000_000_000_000u64)]
    pub restock_quantity: u64,
    /// Seconds between restocks; null or left out for never.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 86_400)]
    pub restock_interval_s: Option<u64>,
    /// Changes that are kept for those who follow them.
    #[schema(minimum = 1, maximum = 100_000_000u64)]
    pub change_history: u64,
    /// Prices that are kept of an item.
    #[schema(minimum = 1, maximum = 10_000)]
    pub price_history: u64,
    /// Reservations that hold at a time.
    #[schema(minimum = 1, maximum = 10_000_000u64)]
    pub reservation_limit: u64,
    /// Ended reservations that are kept.
    #[schema(maximum = 10_000_000u64)]
    pub reservation_history: u64,
    /// Seconds that a reservation may hold, in log time.
    #[schema(minimum = 1, maximum = 31_536_000u64)]
    pub reservation_ttl_max_s: u64,
}

/// `GET /v1/verify`: what a replica found when it derived its state anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Verification {
    /// The member that checked itself.
    pub node: String,
    /// The index at which everything was checked.
    pub index: u64,
    /// Whether every check passed.
    pub ok: bool,
    /// The state hash at `index`, as hex. Equal on every replica at the same index.
    pub state_hash: String,
    /// Hashes at fixed earlier indexes, newest last: replicas at different indexes compare these.
    pub hash_ring: Vec<HashAt>,
    /// The checks, one by one.
    pub checks: Vec<Check>,
}

/// The state hash at an index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HashAt {
    /// The log index.
    pub index: u64,
    /// The state hash there, as hex.
    pub hash: String,
}

/// One check of a [`Verification`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Check {
    /// What was checked.
    pub name: String,
    /// Whether it holds.
    pub ok: bool,
    /// What was counted, or what is wrong.
    pub detail: String,
}
