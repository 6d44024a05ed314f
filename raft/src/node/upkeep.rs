//! What a node does by itself: checkpoints, snapshots, purges, restocking, seeding the policy,
//! moving log time on.

use std::{
    sync::{PoisonError, Weak, atomic::Ordering},
    time::Duration,
};

use openraft::{async_runtime::watch::WatchReceiver, type_config::TypeConfigExt};
use pygmy_storage::command::Command;

use super::Node;
use crate::{
    network::Transport,
    state_machine::StateMachine,
    types::{Environment, NodeId, TypeConfig},
};

/// Between two looks at what is due.
const EVERY: Duration = Duration::from_millis(200);
/// Entries purged at a time, at most: some milliseconds of the log's writer. A million took a quarter of a second.
const PURGE_ENTRIES: u64 = 20_000;
/// How long one of the node's own writes may take.
const OWN_WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a hand-over of leadership may take.
const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(3);

/// Runs until the node is gone or its core has stopped.
pub(super) async fn run<E: Environment, T: Transport>(node: Weak<Node<E, T>>) {
    loop {
        TypeConfig::<E>::sleep(EVERY).await;
        let Some(node) = node.upgrade() else { return };
        if node.is_draining() || node.raft.metrics().borrow_watched().running_state.is_err() {
            return;
        }
        node.drive_checkpoint().await;
        node.drive_snapshot().await;
        if node.is_leader() {
            node.seed_policy().await;
            node.tick().await;
            node.restock().await;
        }
    }
}

impl<E: Environment, T: Transport> Node<E, T> {
    async fn drive_checkpoint(&self) {
        let driven = self
            .raft
            .with_state_machine(|machine: &mut StateMachine<E>| {
                let driven = machine.drive_checkpoint();
                Box::pin(async move { driven })
            })
            .await;
        if let Ok(Err(error)) = driven {
            // Nothing of it is acknowledged, but a disk that cannot hold the state holds nothing.
            tracing::error!(%error, "a checkpoint failed; stopping");
            if let Err(error) = self.raft.shutdown().await {
                tracing::error!(%error, "the core did not end well");
            }
        }
    }

    /// Builds a snapshot when enough entries have come since the last, and purges the log well
    /// behind it. openraft's own policy is off: its purge can run ahead of what is applied
    /// (openraft#2116).
    async fn drive_snapshot(&self) {
        let status = self.status();
        let applied = status.applied_index.unwrap_or(0);
        let snapshot = status.snapshot_index.unwrap_or(0);
        let requested = self.snapshot_requested.load(Ordering::Relaxed).max(snapshot);
        if applied.saturating_sub(requested) >= self.settings.snapshot_entries {
            self.snapshot_requested.store(applied, Ordering::Relaxed);
            if let Err(error) = self.raft.trigger().snapshot().await {
                tracing::warn!(%error, "the core stopped before a snapshot");
            }
            return;
        }
        // Only what a synced snapshot and a synced checkpoint both cover, and not all of that.
        let covered = snapshot.min(self.published.checkpointed().saturating_sub(1));
        let upto = covered.saturating_sub(self.settings.keep_log_entries);
        let purged = status.purged_index.unwrap_or(0);
        // In strides: a purge is a record of its own. Not in long ones: the log's writer does nothing else then.
        let stride = (self.settings.snapshot_entries / 8).clamp(1, PURGE_ENTRIES);
        if upto >= purged + stride
            && let Err(error) =
                self.raft.trigger().purge_log(upto.min(purged + PURGE_ENTRIES)).await
        {
            tracing::warn!(%error, "the core stopped before a purge");
        }
    }

    async fn seed_policy(&self) {
        if self.view().state.policy_is_set() {
            return;
        }
        let policy = self.settings.policy.clone();
        let proposed =
            crate::network::wire::Proposed { key: None, command: Command::SetPolicy(policy) };
        // A failure shows in the state: the policy is still not set, and this is tried again.
        if let Err(error) = self.propose(&proposed, OWN_WRITE_TIMEOUT).await {
            tracing::debug!(%error, "seeding the policy failed; trying again");
        }
    }

    /// Moves log time on when a reservation ends by this node's clock and nobody writes.
    async fn tick(&self) {
        let view = self.view();
        let Some(expires_ms) = view.state.next_expiry_ms() else { return };
        // One that log time has passed is gone, so this one is still to come.
        if E::clock_ms() < expires_ms {
            return;
        }
        let proposed = crate::network::wire::Proposed { key: None, command: Command::Tick };
        // A failure shows in the state: the reservation still holds, and this is tried again.
        if let Err(error) = self.propose(&proposed, OWN_WRITE_TIMEOUT).await {
            tracing::debug!(%error, "moving log time on failed; trying again");
        }
    }

    async fn restock(&self) {
        let view = self.view();
        let Some(interval_ms) = view.state.policy().restock_interval_ms else { return };
        let now = TypeConfig::<E>::now();
        {
            let mut last = self.restocked.lock().unwrap_or_else(PoisonError::into_inner);
            let begun = *last.get_or_insert(now);
            if now - begun < Duration::from_millis(interval_ms) {
                return;
            }
            *last = Some(now);
        }
        if !view.state.has_sold_out() || view.state.maintenance() {
            return;
        }
        let proposed = crate::network::wire::Proposed { key: None, command: Command::Restock };
        match self.propose(&proposed, OWN_WRITE_TIMEOUT).await {
            Ok(reply) => tracing::info!(outcome = ?reply.applied.outcome, "restocked"),
            Err(error) => {
                tracing::warn!(%error, "restocking failed; trying again at the next turn")
            }
        }
    }

    /// Gives leadership to the voter that is furthest, and waits until it is gone.
    pub async fn hand_over(&self) {
        if !self.is_leader() {
            return;
        }
        let Some(target) = self.furthest_follower() else { return };
        tracing::info!(to = target, "handing leadership over");
        let until = TypeConfig::<E>::now() + HAND_OVER_TIMEOUT;
        if let Err(error) = self.raft.trigger().transfer_leader(target).await {
            tracing::warn!(%error, "the core stopped before the hand-over");
            return;
        }
        let mut metrics = self.raft.server_metrics();
        loop {
            let leader = metrics.borrow_and_update().current_leader;
            if leader.is_some_and(|id| id != self.id()) {
                tracing::info!(leader, "leadership is handed over");
                return;
            }
            let left = until - TypeConfig::<E>::now().min(until);
            let changed = TypeConfig::<E>::timeout(left, metrics.changed()).await;
            if !matches!(changed, Ok(Ok(()))) {
                tracing::warn!("nobody took leadership over in time");
                return;
            }
        }
    }

    fn furthest_follower(&self) -> Option<NodeId> {
        let status = self.leader_status().ok()?;
        let window = super::millis(self.settings.failure_window);
        status
            .members
            .into_iter()
            .filter(|m| m.voter && m.id != self.id())
            .filter(|m| m.last_heard_ms.is_some_and(|ago| ago <= window))
            .max_by_key(|m| m.matched_index)
            .map(|m| m.id)
    }
}
