//! The life of a write: propose here, or pass it on to the leader, one hop, in batches.
//!
//! Writes that are asked for together, a burst, stay together: one message to the Raft core, one
//! call to the leader, never one round after another.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::StreamExt;
use openraft::{
    Raft,
    errors::{ClientWriteError, Fatal},
    impls::OneshotResponder,
    raft::ClientWriteResult,
    type_config::{TypeConfigExt, alias::InstantOf},
};
use pygmy_storage::command::{Command, KeyClaim, Proposal};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use super::Node;
use crate::{
    gather::gather,
    network::{
        Transport,
        client::call,
        wire::{NotLeader, PeerRequest, PeerResponse, Proposed},
    },
    state_machine::StateMachine,
    types::{EntryData, Environment, Member, NodeId, Reply, TypeConfig},
};

/// Writes that are handed to the Raft core together, at most.
const SUBMITTED_MAX: usize = 1024;

/// Writes in one call to the leader; more only where a single burst has more.
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

/// A write on its way to the Raft core.
pub(super) struct Submitted<E: Environment> {
    entry: EntryData,
    responder: OneshotResponder<TypeConfig<E>, ClientWriteResult<TypeConfig<E>>>,
}

/// A burst of writes on its way to the leader.
pub(super) struct Forward {
    proposed: Vec<Proposed>,
    /// Told when it is about to be sent. It must not be when nobody hears this any more.
    leaving: oneshot::Sender<()>,
    reply: oneshot::Sender<Results>,
}

/// What came of a burst, one each, in order.
type Results = Vec<Result<Reply, WriteError>>;

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
        let proposed = Proposed { key, command };
        let until = TypeConfig::<E>::now() + deadline;
        loop {
            let (leader, left) = self.turn(until)?;
            let written = match leader {
                Some(id) if id == self.id() => self.propose(&proposed, left).await,
                // One reply for each command, or an error.
                Some(_) => whole(self.forward(vec![proposed.clone()], left).await)
                    .and_then(|mut replies| replies.pop().ok_or(WriteError::LeadershipLost)),
                None => Err(WriteError::NoLeader),
            };
            match written {
                Ok(reply) => return Ok(reply),
                Err(error) => self.again(error).await?,
            }
        }
    }

    /// Writes a burst of commands that stand each for itself, all at once, and waits for every
    /// outcome: one each, in order. Others may come between them in the log.
    ///
    /// Errors: the first for which an outcome is missing. Unless it is `not_applied`, each of the
    /// commands may have happened or not; the same commands with the same keys find it out.
    pub async fn write_many(
        &self,
        commands: Vec<(Option<KeyClaim>, Command)>,
        deadline: Duration,
    ) -> Result<Vec<Reply>, WriteError> {
        let proposed: Vec<Proposed> =
            commands.into_iter().map(|(key, command)| Proposed { key, command }).collect();
        let until = TypeConfig::<E>::now() + deadline;
        loop {
            let (leader, left) = self.turn(until)?;
            let results = match leader {
                Some(id) if id == self.id() => self.propose_many(&proposed, left).await,
                Some(_) => self.forward(proposed.clone(), left).await,
                None => vec![Err(WriteError::NoLeader)],
            };
            match whole(results) {
                Ok(replies) => return Ok(replies),
                Err(error) => self.again(error).await?,
            }
        }
    }

    /// Who leads, and how long a write may still take.
    fn turn(
        &self,
        until: InstantOf<TypeConfig<E>>,
    ) -> Result<(Option<NodeId>, Duration), WriteError> {
        if self.is_draining() {
            return Err(WriteError::ShuttingDown);
        }
        let now = TypeConfig::<E>::now();
        if now >= until {
            return Err(WriteError::NoLeader);
        }
        Ok((self.leader_id(), until - now))
    }

    /// Waits before a write looks for the leader again. Where something may have happened, that is the end.
    async fn again(&self, error: WriteError) -> Result<(), WriteError> {
        match error {
            WriteError::NoLeader | WriteError::NotLeader(_) | WriteError::ShuttingDown
                if !self.is_draining() =>
            {
                TypeConfig::<E>::sleep(LEADER_RETRY).await;
                Ok(())
            }
            decided => Err(decided),
        }
    }

    /// Stamps and proposes on this node.
    pub(super) async fn propose(
        &self,
        proposed: &Proposed,
        deadline: Duration,
    ) -> Result<Reply, WriteError> {
        if self.is_draining() {
            return Err(WriteError::ShuttingDown);
        }
        let (responder, outcome) = OneshotResponder::new_pair();
        let submitted = Submitted { entry: stamp::<E>(proposed), responder };
        if self.submit.try_send(submitted).is_err() {
            return Err(WriteError::Overloaded);
        }
        match TypeConfig::<E>::timeout(deadline, outcome).await {
            // Every entry that carries a proposal gives a reply.
            Ok(Ok(Ok(response))) => response.data.ok_or(WriteError::LeadershipLost),
            Ok(Ok(Err(error))) => Err(not_written(error)),
            // The core has stopped, and what it had in its hands may have happened or not.
            Ok(Err(_)) => Err(WriteError::LeadershipLost),
            Err(_) => Err(WriteError::Timeout),
        }
    }

    /// Stamps and proposes a burst on this node, in one message to the Raft core. A result each, in
    /// order.
    pub(super) async fn propose_many(&self, all: &[Proposed], deadline: Duration) -> Results {
        // One by itself goes together with others like it.
        if let [one] = all {
            return vec![self.propose(one, deadline).await];
        }
        let count = all.len();
        if self.is_draining() {
            return vec![Err(WriteError::ShuttingDown); count];
        }
        let data: Vec<EntryData> = all.iter().map(stamp::<E>).collect();
        let mut results = Vec::with_capacity(count);
        let ended = TypeConfig::<E>::timeout(deadline, async {
            let mut written = match self.raft.client_write_many(data).await {
                Ok(written) => written,
                Err(error) => return results.push(Err(stopped(&error))),
            };
            while let Some(one) = written.next().await {
                results.push(match one {
                    Ok(Ok(response)) => response.response.ok_or(WriteError::LeadershipLost),
                    Ok(Err(error)) => Err(not_written(error)),
                    Err(error) => Err(stopped(&error)),
                });
            }
        });
        // What has no result by then may have happened or not.
        let missing = match ended.await {
            Ok(()) => WriteError::LeadershipLost,
            Err(_) => WriteError::Timeout,
        };
        results.resize(count, Err(missing));
        results
    }

    async fn forward(&self, proposed: Vec<Proposed>, deadline: Duration) -> Results {
        let (reply, waiting) = oneshot::channel();
        let (leaving, mut left) = oneshot::channel();
        if self.forward.try_send(Forward { proposed, leaving, reply }).is_err() {
            return vec![Err(WriteError::Overloaded)];
        }
        match TypeConfig::<E>::timeout(deadline, waiting).await {
            Ok(Ok(results)) => results,
            // The forwarder was dropped with the request in its hands.
            Ok(Err(_)) => vec![Err(WriteError::LeadershipLost)],
            Err(_) => {
                left.close();
                vec![Err(match left.try_recv() {
                    Ok(()) => WriteError::Timeout,
                    // No connection to the leader in all this time, and now it is not sent.
                    Err(_) => WriteError::NoLeader,
                })]
            }
        }
    }
}

/// The entry of a write, with this node's clock.
fn stamp<E: Environment>(Proposed { key, command }: &Proposed) -> EntryData {
    EntryData(Bytes::from(Proposal::encode_parts(E::clock_ms(), key.as_ref(), command)))
}

/// The replies of a burst, if every one is there. Otherwise the error that says least: one that
/// leaves doubt before one that leaves none.
fn whole(results: Results) -> Result<Vec<Reply>, WriteError> {
    let mut replies = Vec::with_capacity(results.len());
    let mut failed: Option<WriteError> = None;
    for result in results {
        match result {
            Ok(reply) => replies.push(reply),
            Err(error) if failed.as_ref().is_none_or(WriteError::not_applied) => {
                failed = Some(error);
            }
            Err(_) => {}
        }
    }
    match failed {
        None => Ok(replies),
        // A burst goes into the log as a whole or not at all, so this does not come about; if it
        // did, "nothing happened" would be wrong.
        Some(error) if error.not_applied() && !replies.is_empty() => {
            Err(WriteError::LeadershipLost)
        }
        Some(error) => Err(error),
    }
}

/// What openraft's refusal of a write says about its outcome.
fn not_written<E: Environment>(error: ClientWriteError<TypeConfig<E>>) -> WriteError {
    match error {
        ClientWriteError::ForwardToLeader(to) => {
            let leader = to.leader_id.zip(to.leader_node);
            WriteError::NotLeader(NotLeader { leader })
        }
        ClientWriteError::LogEntryDiscarded(_)
        | ClientWriteError::ChangeMembershipError(_)
        | ClientWriteError::PreconditionFailed(_) => WriteError::LeadershipLost,
    }
}

/// The core has stopped, and what it had in its hands may have happened or not.
fn stopped<E: Environment>(error: &Fatal<TypeConfig<E>>) -> WriteError {
    tracing::error!(%error, "the core stopped under a write");
    WriteError::LeadershipLost
}

/// Hands writes to the Raft core, all that come together at once: the core makes a turn for each message that
/// it finds alone, and the first would wake it at once. Ends with the node.
pub(super) async fn run_submitter<E: Environment>(
    raft: Raft<TypeConfig<E>, StateMachine<E>>,
    mut submitted: mpsc::Receiver<Submitted<E>>,
) {
    let mut waiting = Vec::new();
    while submitted.recv_many(&mut waiting, SUBMITTED_MAX).await > 0 {
        gather(&mut waiting, SUBMITTED_MAX, || submitted.try_recv().ok()).await;
        for Submitted { entry, responder } in waiting.drain(..) {
            // The core takes those for one that it finds one behind the other.
            if let Err(error) = raft.client_write_ff(entry, Some(responder)).await {
                tracing::error!(%error, "the core stopped under a write");
            }
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
    let mut waiting = VecDeque::new();
    loop {
        // First a free call, then all that waits by then.
        let Ok(permit) = calls.clone().acquire_owned().await else { return };
        if waiting.is_empty() {
            let mut arrived = Vec::new();
            if forwards.recv_many(&mut arrived, FORWARD_BATCH_MAX).await == 0 {
                return;
            }
            waiting.extend(arrived);
        }
        let Some(node) = node.upgrade() else { return };
        let batch = take_batch(&mut waiting);
        let send = async move {
            send_batch(&node, batch, timeout).await;
            drop(permit);
        };
        drop(TypeConfig::<E>::spawn(send));
    }
}

/// Takes what goes into one call: whole bursts, and no more of them than fit.
fn take_batch(waiting: &mut VecDeque<Forward>) -> Vec<Forward> {
    let mut batch = Vec::new();
    let mut writes = 0;
    while let Some(next) = waiting.front() {
        writes += next.proposed.len();
        if writes > FORWARD_BATCH_MAX && !batch.is_empty() {
            break;
        }
        batch.extend(waiting.pop_front());
    }
    batch
}

async fn send_batch<E: Environment, T: Transport>(
    node: &Node<E, T>,
    batch: Vec<Forward>,
    timeout: Duration,
) {
    let Some((id, leader)) = reach_leader(node, timeout).await else {
        for burst in batch {
            let nowhere = vec![Err(WriteError::NoLeader); burst.proposed.len()];
            // A client that has gone needs no reply.
            let _ = burst.reply.send(nowhere);
        }
        return;
    };
    let mut proposed = Vec::new();
    let mut replies = Vec::with_capacity(batch.len());
    for Forward { proposed: burst, leaving, reply } in batch {
        if leaving.send(()).is_ok() {
            replies.push((burst.len(), reply));
            proposed.extend(burst);
        }
    }
    if proposed.is_empty() {
        return;
    }
    let count = proposed.len();
    let results = call_leader(node, id, &leader, proposed, timeout).await;
    let mut results = match results {
        Ok(results) if results.len() == count => results,
        Ok(_) => vec![Err(WriteError::LeadershipLost); count],
        Err(error) => vec![Err(error); count],
    };
    for (count, reply) in replies {
        let rest = results.split_off(count);
        let _ = reply.send(std::mem::replace(&mut results, rest));
    }
}

/// The leader, with a connection to it.
async fn reach_leader<E: Environment, T: Transport>(
    node: &Node<E, T>,
    timeout: Duration,
) -> Option<(NodeId, Member)> {
    let (id, leader) = node.leader()?;
    let header = node.credentials.header(id);
    match node.transport.reach(&leader.peer, &header, timeout).await {
        Ok(()) => Some((id, leader)),
        Err(error) => {
            tracing::debug!(%error, "writes cannot be passed on to the leader");
            None
        }
    }
}

async fn call_leader<E: Environment, T: Transport>(
    node: &Node<E, T>,
    id: NodeId,
    member: &Member,
    proposed: Vec<Proposed>,
    timeout: Duration,
) -> Result<Results, WriteError> {
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
