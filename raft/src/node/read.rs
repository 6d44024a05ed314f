//! The life of a read: an index that it must have, then the state once it is that far.

use std::{
    collections::BTreeSet,
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};

use openraft::{
    ReadPolicy, async_runtime::watch::WatchReceiver, raft::linearizable_read::LinearizerOption,
    type_config::TypeConfigExt,
};
use pygmy_storage::query::View;
use tokio::sync::{mpsc, oneshot};

use super::{Node, millis};
use crate::{
    gather::gather,
    log_store::Promised,
    network::{
        Transport,
        client::call,
        wire::{NotLeader, PeerRequest, PeerResponse},
    },
    sabotage,
    types::{Environment, Member, NodeId, TypeConfig, alias::Vote},
};

/// Reads that share one round at the most.
const ROUND_READS_MAX: usize = 4096;
/// How long one round may take before it is tried again.
const ROUND_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the member that was heard from last may take to tell its vote; then a quorum is asked.
const ASK_TIMEOUT: Duration = Duration::from_millis(50);
/// How long to wait before trying a round again.
const ROUND_RETRY: Duration = Duration::from_millis(20);

/// How fresh a read must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// It reflects every write that was confirmed before it began.
    Linearizable,
    /// It reflects at least this index.
    AtIndex(u64),
    /// It reflects what the replica has, heard from a leader no longer ago than this.
    Stale(Option<Duration>),
}

/// Why a read brought no state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// No leader could be found to ask for an index.
    #[error("no leader could be found")]
    NoLeader,
    /// The replica did not get as far as the read wants in time.
    #[error("the replica did not reach index {wanted} in time; it is at {have}")]
    Behind {
        /// The index wanted.
        wanted: u64,
        /// The index that it has.
        have: u64,
    },
    /// The replica has not heard from a leader for longer than the read allows.
    #[error("the replica last heard from a leader {staleness_ms:?} ms ago")]
    TooStale {
        /// How long ago; `None` for never.
        staleness_ms: Option<u64>,
    },
    /// The node was restarted and may be behind what it has shown before.
    #[error("the replica has been restarted and has not caught up yet")]
    Recovering,
    /// Too many reads wait.
    #[error("too many reads wait")]
    Overloaded,
    /// The node is on its way out.
    #[error("the node is shutting down")]
    ShuttingDown,
}

/// A read that waits for an index.
pub(super) type Waiter = oneshot::Sender<Result<u64, NotLeader>>;

impl<E: Environment, T: Transport> Node<E, T> {
    /// Gives a state that is as fresh as asked for.
    pub async fn read(
        &self,
        freshness: Freshness,
        deadline: Duration,
    ) -> Result<Arc<View>, ReadError> {
        if !self.has_recovered() {
            // Short after a start this is about to change; a client had better wait than retry.
            let until = TypeConfig::<E>::now() + deadline;
            while !self.has_recovered() {
                if TypeConfig::<E>::now() >= until || self.is_draining() {
                    return Err(ReadError::Recovering);
                }
                TypeConfig::<E>::sleep(ROUND_RETRY).await;
            }
        }
        match freshness {
            Freshness::Stale(None) => Ok(self.view()),
            Freshness::Stale(Some(bound)) => match self.staleness() {
                Some(staleness) if staleness <= bound => Ok(self.view()),
                staleness => {
                    let staleness_ms = staleness.map(millis);
                    Err(ReadError::TooStale { staleness_ms })
                }
            },
            Freshness::AtIndex(index) => {
                if self.view().index() < index {
                    self.ask_for_what_is_committed();
                }
                self.wait_for(index, deadline).await
            }
            Freshness::Linearizable if sabotage::active(sabotage::NO_READ_INDEX) => Ok(self.view()),
            Freshness::Linearizable => self.read_linearizable(deadline).await,
        }
    }

    async fn read_linearizable(&self, deadline: Duration) -> Result<Arc<View>, ReadError> {
        let until = TypeConfig::<E>::now() + deadline;
        loop {
            let (waiter, waiting) = oneshot::channel();
            self.read_index.try_send(waiter).map_err(|_| ReadError::Overloaded)?;
            let left = until - TypeConfig::<E>::now().min(until);
            match TypeConfig::<E>::timeout(left, waiting).await {
                Ok(Ok(Ok(index))) => {
                    let left = until - TypeConfig::<E>::now().min(until);
                    return self.wait_for(index, left).await;
                }
                Ok(Ok(Err(_)) | Err(_)) if !self.is_draining() => {
                    TypeConfig::<E>::sleep(ROUND_RETRY).await;
                }
                Ok(_) => return Err(ReadError::ShuttingDown),
                Err(_) => return Err(ReadError::NoLeader),
            }
            if TypeConfig::<E>::now() >= until {
                return Err(ReadError::NoLeader);
            }
        }
    }

    /// Has the leader say what is committed, if it leads elsewhere: it does when it is asked for an index.
    /// Nobody waits for this one, and a full queue means that others ask.
    fn ask_for_what_is_committed(&self) {
        let (waiter, _) = oneshot::channel();
        drop(self.read_index.try_send(waiter));
    }

    async fn wait_for(&self, index: u64, deadline: Duration) -> Result<Arc<View>, ReadError> {
        let view = self.view();
        if view.state.applied().is_some_and(|applied| applied >= index) {
            return Ok(view);
        }
        match TypeConfig::<E>::timeout(deadline, self.published.at_index(index)).await {
            Ok(view) => Ok(view),
            Err(_) => Err(ReadError::Behind { wanted: index, have: self.view().index() }),
        }
    }

    /// How long ago this node last heard from a leader, or as leader from a quorum; `None` for never.
    pub fn staleness(&self) -> Option<Duration> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        if metrics.current_leader == Some(self.id()) {
            // A leader of a cluster of one hears from its quorum whenever it is asked.
            if metrics.membership_config.voter_ids().count() == 1 {
                return Some(Duration::ZERO);
            }
            if let Some(acked) = &metrics.last_quorum_acked {
                let now = TypeConfig::<E>::now();
                let acked = (**acked).min(now);
                // So that it is still known when this node leads no more.
                self.heard_from_leader_at(acked);
                return Some(now - acked);
            }
        }
        drop(metrics);
        let heard = self.leader_contact_ms.load(Ordering::Acquire).checked_sub(1)?;
        Some(Duration::from_millis(self.since_start_ms().saturating_sub(heard)))
    }

    /// Confirms leadership, here or by asking the leader, and gives the index that a linearizable
    /// read must have.
    async fn read_index_round(&self) -> Result<u64, NotLeader> {
        match self.leader() {
            Some((id, _)) if id == self.id() => self.read_index_as_leader().await,
            Some((id, member)) => {
                // Only now: it has not voted for another leader since the reads that wait began.
                let Some(vote) = self.vote() else { return Err(NotLeader { leader: None }) };
                let request = PeerRequest::<E>::ReadIndex(vote);
                let Self { transport, credentials, .. } = self;
                let reply =
                    call(transport, credentials, id, &member.peer, &request, ROUND_TIMEOUT).await;
                match reply {
                    Ok(PeerResponse::ReadIndex(result)) => result,
                    Ok(_) | Err(_) => Err(NotLeader { leader: None }),
                }
            }
            None => Err(NotLeader { leader: None }),
        }
    }

    /// An index confirmed by this leader and one member that it heard from just now, where two are enough.
    async fn read_index_by_asking(&self) -> Option<u64> {
        let other = self.heard_last()?;
        let request = PeerRequest::<E>::TellVote;
        let Self { transport, credentials, .. } = self;
        let peer = &other.1.peer;
        match call(transport, credentials, other.0, peer, &request, ASK_TIMEOUT).await {
            Ok(PeerResponse::TellVote(Some(vote))) => self.read_index_with(other.0, vote),
            Ok(_) | Err(_) => None,
        }
    }

    /// The voter that this leader has heard from last, if two can be a quorum.
    fn heard_last(&self) -> Option<(NodeId, Member)> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let membership = &metrics.membership_config;
        if !(2..=3).contains(&membership.voter_ids().count()) {
            return None;
        }
        let heard = metrics.heartbeat.as_ref()?;
        let others = membership.voter_ids().filter(|id| *id != self.id());
        let times = others.filter_map(|id| Some((**heard.get(&id)?.as_ref()?, id)));
        let (_, id) = times.max()?;
        membership.get_node(&id).map(|member| (id, member.clone()))
    }

    async fn read_index_as_leader(&self) -> Result<u64, NotLeader> {
        if let Some(index) = self.read_index_by_asking().await {
            return Ok(index);
        }
        let round = self.raft.get_read_linearizer(LinearizerOption::from(ReadPolicy::ReadIndex));
        match TypeConfig::<E>::timeout(ROUND_TIMEOUT, round).await {
            Ok(Ok(linearizer)) => Ok(linearizer.read_log_id().index()),
            Ok(Err(error)) => {
                tracing::debug!(%error, "a read index round failed");
                let leader = error
                    .forward_to_leader()
                    .and_then(|to| to.leader_id.zip(to.leader_node.clone()));
                Err(NotLeader { leader })
            }
            Err(_) => Err(NotLeader { leader: None }),
        }
    }

    /// The vote that this node stands by now. The Raft core is not asked, so a read costs no turn of it.
    pub(super) fn vote(&self) -> Option<Vote> {
        self.log.promised().vote
    }

    /// The index that a linearizable read must have, if this leader and a member that had this vote
    /// after the read began are enough to tell.
    fn read_index_with(&self, other: NodeId, vote: Vote) -> Option<u64> {
        let mut promised = self.log.promised();
        promised.committed = promised.committed.max(self.notices.told());
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let membership = &metrics.membership_config;
        // What the metrics say may be older than what counts.
        if promised.membership > membership.log_id().as_ref().map(|id| id.index) {
            return None;
        }
        let voters = membership.membership().get_joint_config();
        index_of_two(promised, voters, self.id(), other, vote)
    }

    /// An index for reads of another member, which had this vote after they began. Shares the rounds of
    /// this node's own reads where that vote and this node's are not enough.
    pub(super) async fn read_index_for_peer(
        &self,
        from: NodeId,
        vote: Vote,
    ) -> Result<u64, NotLeader> {
        // It must apply that far before it can answer.
        self.notices.hurry();
        if let Some(index) = self.read_index_with(from, vote) {
            return Ok(index);
        }
        if !self.is_leader() {
            return Err(NotLeader { leader: self.leader() });
        }
        let (waiter, waiting) = oneshot::channel();
        if self.read_index.try_send(waiter).is_err() {
            return Err(NotLeader { leader: None });
        }
        waiting.await.unwrap_or(Err(NotLeader { leader: None }))
    }
}

/// The index that a linearizable read must have, as far as two votes can tell.
///
/// A round asks a quorum whether it still follows this leader (Raft dissertation, 6.4). A member that
/// asks for an index, or is asked for its vote, says so with its vote: it is this leader's, and was after
/// the reads began. If it and the leader are a quorum, nobody else can have been elected by then, and no write can have been
/// confirmed that this leader did not commit. In a cluster of three that spares the round.
fn index_of_two(
    promised: Promised,
    voters: &[BTreeSet<NodeId>],
    leader: NodeId,
    other: NodeId,
    vote: Vote,
) -> Option<u64> {
    let leads = promised.vote == Some(vote) && promised.vote_is_new;
    if !leads || !vote.is_committed() || vote.leader_id().node_id != leader {
        return None;
    }
    // Before its own first entry is committed a leader does not know what was.
    let committed = promised.committed?;
    if committed.committed_leader_id() != vote.leader_id() {
        return None;
    }
    let is_quorum = voters.iter().all(|voters| {
        let both = usize::from(voters.contains(&leader)) + usize::from(voters.contains(&other));
        both > voters.len() / 2
    });
    is_quorum.then_some(committed.index)
}

/// Runs read index rounds, one after the other, each for all reads that wait when it begins. A read
/// that arrives during a round waits for the next: the one under way may have begun before a write
/// that the read must see. Ends with the node.
pub(super) async fn run_rounds<E: Environment, T: Transport>(
    node: Weak<Node<E, T>>,
    mut reads: mpsc::Receiver<Waiter>,
) {
    let mut waiting = Vec::new();
    while reads.recv_many(&mut waiting, ROUND_READS_MAX).await > 0 {
        // One round is enough for all of them.
        gather(&mut waiting, ROUND_READS_MAX, || reads.try_recv().ok()).await;
        let Some(node) = node.upgrade() else { return };
        let result = node.read_index_round().await;
        for waiter in waiting.drain(..) {
            // A read that has given up needs no answer.
            let _ = waiter.send(result.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::types::alias::{LeaderId, LogId};

    use super::*;

    const LEADER: NodeId = 1;
    const OTHER: NodeId = 2;

    fn leads() -> Promised {
        Promised {
            vote: Some(Vote::new_committed(7, LEADER)),
            vote_is_new: true,
            committed: Some(LogId::new(LeaderId { term: 7, node_id: LEADER }, 100)),
            membership: None,
        }
    }

    fn index(promised: Promised, voters: &[&[NodeId]], vote: Vote) -> Option<u64> {
        let voters: Vec<BTreeSet<_>> =
            voters.iter().map(|ids| ids.iter().copied().collect()).collect();
        index_of_two(promised, &voters, LEADER, OTHER, vote)
    }

    #[test]
    fn two_tell_the_index_where_they_are_a_quorum_of_every_configuration() {
        let vote = Vote::new_committed(7, LEADER);
        assert_eq!(index(leads(), &[&[1, 2, 3]], vote), Some(100));
        assert_eq!(index(leads(), &[&[1, 2]], vote), Some(100));
        assert_eq!(index(leads(), &[&[1, 2, 3, 4]], vote), None);
        assert_eq!(index(leads(), &[&[1, 2, 3], &[3, 4, 5]], vote), None, "joint");
        assert_eq!(index(leads(), &[&[1, 3, 4]], vote), None, "the other has no vote");
    }

    #[test]
    fn nothing_is_told_of_another_term_or_before_its_first_entry_is_committed() {
        let three: &[&[NodeId]] = &[&[1, 2, 3]];
        for vote in
            [Vote::new_committed(8, 3), Vote::new(7, LEADER), Vote::new_committed(6, LEADER)]
        {
            assert_eq!(index(leads(), three, vote), None, "{vote}");
        }
        let vote = Vote::new_committed(7, LEADER);
        let earlier = LogId::new(LeaderId { term: 6, node_id: LEADER }, 100);
        for committed in [None, Some(earlier)] {
            assert_eq!(index(Promised { committed, ..leads() }, three, vote), None);
        }
    }

    #[test]
    fn a_leader_that_was_restarted_tells_nothing() {
        let restarted = Promised { vote_is_new: false, ..leads() };
        assert_eq!(index(restarted, &[&[1, 2, 3]], Vote::new_committed(7, LEADER)), None);
    }
}
