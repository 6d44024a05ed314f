//! One member of the cluster: starts, writes, reads, tells how it is, stops.

mod backup;
mod bootstrap;
mod membership;
mod read;
mod search;
mod service;
mod start;
mod status;
mod upkeep;
mod write;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use openraft::{
    Raft, async_runtime::watch::WatchReceiver, type_config::TypeConfigExt,
    type_config::alias::InstantOf,
};
use pygmy_storage::{command::Policy, query::View, volume::Volume};
use tokio::sync::mpsc;

pub(crate) use self::start::LOG_ENGINE;
pub use self::{
    backup::Backup,
    read::{Freshness, ReadError},
    start::StartError,
    status::{ClusterStatus, NodeStatus},
    write::WriteError,
};
use crate::{
    identity::Credentials,
    log_store::{LogStats, LogStore},
    network::{Transport, notices::Notices},
    state_machine::{CheckpointPolicy, Published, StateMachine},
    types::{Environment, Member, NodeId, TypeConfig},
};

/// What a node is told when it starts.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Who it is: name, addresses, roles.
    pub member: Member,
    /// The members at bootstrap, itself among them. Not read any more once the node has an identity.
    pub bootstrap: Vec<(NodeId, Member)>,
    /// Take part in a cluster that exists, as a new member in the place of the one with this name.
    pub join: bool,
    /// Part of what peers check.
    pub cluster_name: String,
    /// Part of what peers check.
    pub secret: String,
    /// Raft's times.
    pub timing: Timing,
    /// When to write checkpoints.
    pub checkpoint: CheckpointPolicy,
    /// Build a snapshot after so many entries.
    pub snapshot_entries: u64,
    /// Entries below a snapshot that are kept for followers that are a little behind.
    pub keep_log_entries: u64,
    /// Bytes of the log's end in memory.
    pub log_cache_bytes: usize,
    /// Seeds the replicated policy when nobody has set it.
    pub policy: Policy,
    /// A member that the leader has not heard from for so long is down.
    pub failure_window: Duration,
    /// The most writes and reads that wait at once.
    pub waiting_max: usize,
    /// The program's version, told to others.
    pub version: String,
}

/// Raft's times.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Between heartbeats.
    pub heartbeat: Duration,
    /// The shortest election timeout.
    pub election_min: Duration,
    /// The longest election timeout.
    pub election_max: Duration,
}

/// One member of the cluster.
pub struct Node<E: Environment, T: Transport> {
    settings: Settings,
    credentials: Arc<Credentials>,
    volume: Arc<dyn Volume>,
    raft: Raft<TypeConfig<E>, StateMachine<E>>,
    log: LogStore<E>,
    published: Arc<Published>,
    notices: Notices,
    transport: T,
    started: InstantOf<TypeConfig<E>>,
    /// Milliseconds after `started` at which a leader was last heard from, plus one; 0 for never.
    leader_contact_ms: AtomicU64,
    /// Whether the state is as new as any that this node has shown before it was last stopped.
    recovered: AtomicBool,
    draining: AtomicBool,
    read_index: mpsc::Sender<read::Waiter>,
    submit: mpsc::Sender<write::Submitted<E>>,
    forward: mpsc::Sender<write::Forward>,
    incoming: tokio::sync::Mutex<Option<service::Incoming>>,
    restocked: Mutex<Option<InstantOf<TypeConfig<E>>>>,
    snapshot_requested: AtomicU64,
}

impl<E: Environment, T: Transport> Node<E, T> {
    /// The node id.
    pub fn id(&self) -> NodeId {
        self.credentials.node_id()
    }

    /// The member's name.
    pub fn name(&self) -> &str {
        &self.settings.member.name
    }

    /// What it was told when it started.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The newest state, however old it is. For what needs no promise; reads use
    /// [`read`](Self::read).
    pub fn view(&self) -> Arc<View> {
        self.published.view()
    }

    /// What the state machine shows.
    pub fn published(&self) -> &Arc<Published> {
        &self.published
    }

    /// What the log has done.
    pub fn log_stats(&self) -> LogStats {
        self.log.stats()
    }

    /// The leader, as far as this node knows.
    pub fn leader(&self) -> Option<(NodeId, Member)> {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let id = metrics.current_leader?;
        let member = metrics.membership_config.get_node(&id)?.clone();
        Some((id, member))
    }

    /// The leader's id, as far as this node knows.
    pub fn leader_id(&self) -> Option<NodeId> {
        self.raft.server_metrics().borrow_watched().current_leader
    }

    /// Whether this node believes that it leads.
    pub fn is_leader(&self) -> bool {
        self.leader_id() == Some(self.id())
    }

    /// Whether reads may be answered: see [`ReadError::Recovering`].
    pub fn has_recovered(&self) -> bool {
        self.recovered.load(Ordering::Acquire)
    }

    /// Whether the node is on its way out.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Waits until the Raft core has stopped, and says why. A node whose core has stopped for a
    /// fault can do nothing more: the process must end.
    pub async fn stopped(&self) -> String {
        let metrics = self.raft.metrics();
        // These change seldom, and end with the core; all of them change with every write.
        let mut seldom = self.raft.server_metrics();
        loop {
            let ended = seldom.changed().await.is_err();
            if let Err(fatal) = &metrics.borrow_watched().running_state {
                return fatal.to_string();
            }
            if ended {
                return "the Raft core has ended".to_owned();
            }
        }
    }

    /// Finishes, and makes everything durable. Reads and writes that arrive from now on are refused.
    /// A leader should [`hand_over`](Self::hand_over) first.
    pub async fn stop(&self) {
        self.draining.store(true, Ordering::Release);
        let checkpoint = self
            .raft
            .with_state_machine(|machine: &mut StateMachine<E>| {
                Box::pin(async move { machine.checkpoint_now().await })
            })
            .await;
        match checkpoint {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the last checkpoint failed"),
            Err(error) => tracing::warn!(%error, "the core had stopped before the last checkpoint"),
        }
        if let Err(error) = self.log.sync().await {
            tracing::error!(%error, "the last sync of the log failed");
        }
        if let Err(error) = self.raft.shutdown().await {
            tracing::error!(%error, "the Raft core did not end well");
        }
    }

    fn since_start_ms(&self) -> u64 {
        millis(TypeConfig::<E>::now() - self.started)
    }

    pub(crate) fn heard_from_leader(&self) {
        self.heard_from_leader_at(TypeConfig::<E>::now());
    }

    fn heard_from_leader_at(&self, at: InstantOf<TypeConfig<E>>) {
        let since_start_ms = millis(at.max(self.started) - self.started);
        self.leader_contact_ms.fetch_max(since_start_ms + 1, Ordering::AcqRel);
    }
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
