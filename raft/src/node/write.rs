//! The life of a write: propose here, or pass it on to the leader, one hop, in batches.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use openraft::{
    errors::{ClientWriteError, RaftError},
    type_config::TypeConfigExt,
};
use pygmy_storage::command::{Command, KeyClaim, Proposal};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use super::Node;
use crate::{
    network::{
        Transport,
        client::call,
        wire::{NotLeader, PeerRequest, PeerResponse, Proposed},
    },
    types::{EntryData, Environment, Member, NodeId, Reply, TypeConfig},
};

/// Writes in one call to the leader.
const FORWARD_BATCH_MAX: usize = 256;
/// Calls to the leader that carry writes, at once. While all are under way, batches grow.
const FORWARD_CALLS_MAX: usize = 4;
/// How long to wait before looking for the leader again.
const LEADER_RETRY: Duration = Duration::from_millis(20);

/// Why a write brought no outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum WriteError {
    /// Nobody led, as far as could be seen. Nothing happened.
    #[error("no leader could be found")]
    NoLeader,
    /// The node that was asked does not lead. Nothing happened.
    #[error("the node does not lead; the leader is {:?}", .0.leader)]
    NotLeader(NotLeader),
    /// Leadership was lost while the write was under way. It may happen yet, or have happened.
    #[error("leadership was lost while the write was under way")]
    LeadershipLost,
    /// No outcome in time. It may happen yet, or have happened.
    #[error("no outcome in time")]
    Timeout,
    /// Too many writes wait. Nothing happened.
    #[error("too many writes wait")]
    Overloaded,
    /// The node is on its way out. Nothing happened.
    #[error("the node is shutting down")]
    ShuttingDown,
}

impl WriteError {
    /// Whether the write certainly did not happen and will not.
    pub fn not_applied(&self) -> bool {
        match self {
            Self::NoLeader | Self::NotLeader(_) | Self::Overloaded | Self::ShuttingDown => true,
            Self::LeadershipLost | Self::Timeout => false,
        }
    }
}

/// A write on its way to the leader.
pub(super) struct Forward {
    proposed: Proposed,
    reply: oneshot::Sender<Result<Reply, WriteError>>,
}

impl<E: Environment, T: Transport> Node<E, T> {
    /// Writes, and waits for the outcome. Waits out an election within the deadline.
    ///
    /// Errors: see [`WriteError`]. After one that is not `not_applied` the outcome is unknown; the
    /// same command with the same key finds it out.
    pub async fn write(
        &self,
        key: Option<KeyClaim>,
        command: Command,
        deadline: Duration,
    ) -> Result<Reply, WriteError> {
        if self.is_draining() {
            return Err(WriteError::ShuttingDown);
        }
        let until = TypeConfig::<E>::now() + deadline;
        let proposed = Proposed { key, command };
        loop {
            let now = TypeConfig::<E>::now();
            if now >= until {
                return Err(WriteError::NoLeader);
            }
            let result = match self.leader_id() {
                Some(id) if id == self.id() => self.propose(proposed.clone(), until - now).await,
                Some(_) => self.forward(proposed.clone(), until - now).await,
                None => Err(WriteError::NoLeader),
            };
            match result {
                // Certainly nothing happened: look for the leader again.
                Err(WriteError::NoLeader | WriteError::NotLeader(_) | WriteError::ShuttingDown)
                    if !self.is_draining() =>
                {
                    TypeConfig::<E>::sleep(LEADER_RETRY).await;
                }
                other => return other,
            }
        }
    }

    /// Stamps and proposes on this node.
    pub(super) async fn propose(
        &self,
        proposed: Proposed,
        deadline: Duration,
    ) -> Result<Reply, WriteError> {
        if self.is_draining() {
            return Err(WriteError::ShuttingDown);
        }
        let Proposed { key, command } = proposed;
        let proposal = Proposal { stamp_ms: E::clock_ms(), key, command };
        let data = EntryData(Bytes::from(proposal.encode()));
        let written = TypeConfig::<E>::timeout(deadline, self.raft.client_write(data)).await;
        let Ok(written) = written else { return Err(WriteError::Timeout) };
        match written {
            // Every entry that carries a proposal gives a reply.
            Ok(response) => response.data.ok_or(WriteError::LeadershipLost),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(to))) => {
                let leader = to.leader_id.zip(to.leader_node);
                Err(WriteError::NotLeader(NotLeader { leader }))
            }
            Err(RaftError::APIError(
                ClientWriteError::LogEntryDiscarded(_)
                | ClientWriteError::ChangeMembershipError(_)
                | ClientWriteError::PreconditionFailed(_),
            )) => Err(WriteError::LeadershipLost),
            Err(RaftError::Fatal(error)) => {
                tracing::error!(%error, "the core stopped under a write");
                Err(WriteError::LeadershipLost)
            }
        }
    }

    async fn forward(&self, proposed: Proposed, deadline: Duration) -> Result<Reply, WriteError> {
        let (reply, waiting) = oneshot::channel();
        self.forward.try_send(Forward { proposed, reply }).map_err(|_| WriteError::Overloaded)?;
        match TypeConfig::<E>::timeout(deadline, waiting).await {
            Ok(Ok(result)) => result,
            // The forwarder was dropped with the request in its hands.
            Ok(Err(_)) => Err(WriteError::LeadershipLost),
            Err(_) => Err(WriteError::Timeout),
        }
    }
}

/// Passes writes on to the leader: takes all that wait, sends them in one call. Ends with the node.
pub(super) async fn run_forwarder<E: Environment, T: Transport>(
    node: std::sync::Weak<Node<E, T>>,
    mut forwards: mpsc::Receiver<Forward>,
    timeout: Duration,
) {
    let calls = Arc::new(tokio::sync::Semaphore::new(FORWARD_CALLS_MAX));
    let mut waiting = Vec::new();
    loop {
        // First a free call, then all that waits by then.
        let Ok(permit) = calls.clone().acquire_owned().await else { return };
        if forwards.recv_many(&mut waiting, FORWARD_BATCH_MAX).await == 0 {
            return;
        }
        let Some(node) = node.upgrade() else { return };
        let batch = std::mem::take(&mut waiting);
        let send = async move {
            send_batch(&node, batch, timeout).await;
            drop(permit);
        };
        drop(TypeConfig::<E>::spawn(send));
    }
}

async fn send_batch<E: Environment, T: Transport>(
    node: &Node<E, T>,
    batch: Vec<Forward>,
    timeout: Duration,
) {
    let (proposed, replies): (Vec<_>, Vec<_>) =
        batch.into_iter().map(|f| (f.proposed, f.reply)).unzip();
    let results = match node.leader() {
        Some((id, member)) => call_leader(node, id, &member, proposed, timeout).await,
        None => Err(WriteError::NoLeader),
    };
    match results {
        Ok(results) if results.len() == replies.len() => {
            for (reply, result) in replies.into_iter().zip(results) {
                // A client that has gone needs no reply.
                let _ = reply.send(result);
            }
        }
        Ok(_) => replies.into_iter().for_each(|r| drop(r.send(Err(WriteError::LeadershipLost)))),
        Err(error) => replies.into_iter().for_each(|r| drop(r.send(Err(error.clone())))),
    }
}

async fn call_leader<E: Environment, T: Transport>(
    node: &Node<E, T>,
    id: NodeId,
    member: &Member,
    proposed: Vec<Proposed>,
    timeout: Duration,
) -> Result<Vec<Result<Reply, WriteError>>, WriteError> {
    let request = PeerRequest::<E>::Propose(proposed);
    let Node { transport, credentials, .. } = node;
    match call(transport, credentials, id, &member.peer, &request, timeout).await {
        Ok(PeerResponse::Propose(results)) => Ok(results),
        Ok(_) => Err(WriteError::LeadershipLost),
        Err(error) => {
            tracing::debug!(%error, "passing writes on to the leader failed");
            Err(match error.not_delivered() {
                true => WriteError::NoLeader,
                false => WriteError::LeadershipLost,
            })
        }
    }
}
