//! How the node is, and how the cluster is as its leader sees it.

use std::time::Duration;

use openraft::{async_runtime::watch::WatchReceiver, type_config::TypeConfigExt};

use super::{Node, millis};
use crate::{
    network::{
        Transport,
        client::call,
        wire::{HelloReply, LeaderStatus, MemberStatus, NotLeader, PeerRequest, PeerResponse},
    },
    types::{ClusterId, Environment, Member, NodeId, TypeConfig},
};

/// How long to wait for another member's word about the cluster.
const ASK_TIMEOUT: Duration = Duration::from_millis(400);

/// How this node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeStatus {
    /// Its Raft state, in openraft's words.
    pub state: String,
    /// Its term.
    pub term: u64,
    /// The newest index in its log.
    pub last_log_index: Option<u64>,
    /// The newest index it has applied.
    pub applied_index: Option<u64>,
    /// The newest index of its newest snapshot.
    pub snapshot_index: Option<u64>,
    /// The newest index purged from its log.
    pub purged_index: Option<u64>,
}

/// How the cluster is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterStatus {
    /// Which cluster.
    pub cluster: Option<ClusterId>,
    /// The leader, where one could be asked.
    pub leader: Option<NodeId>,
    /// The term.
    pub term: u64,
    /// The newest index in the leader's log.
    pub last_index: u64,
    /// Everybody, by id, with whether it is up.
    pub members: Vec<(MemberStatus, bool)>,
}

impl<E: Environment, T: Transport> Node<E, T> {
    /// How this node is.
    pub fn status(&self) -> NodeStatus {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        NodeStatus {
            state: format!("{:?}", metrics.state),
            term: metrics.current_term,
            last_log_index: metrics.last_log_index,
            applied_index: metrics.last_applied.map(|id| id.index),
            snapshot_index: metrics.snapshot.map(|id| id.index),
            purged_index: metrics.purged.map(|id| id.index),
        }
    }

    /// How the cluster is: as the leader sees it, or where nobody leads, as the members answer.
    pub async fn cluster_status(&self) -> ClusterStatus {
        let asked = match self.leader() {
            Some((id, _)) if id == self.id() => self.leader_status().ok(),
            Some((id, member)) => self.ask_leader(id, &member).await,
            None => None,
        };
        let cluster = self.credentials.cluster();
        match asked {
            Some(status) => {
                let window = millis(self.settings.failure_window);
                let up = |member: &MemberStatus| {
                    member.id == status.leader
                        || member.last_heard_ms.is_some_and(|ago| ago <= window)
                };
                let members = status.members.iter().map(|m| (m.clone(), up(m))).collect();
                let (term, last_index) = (status.term, status.last_index);
                ClusterStatus { cluster, leader: Some(status.leader), term, last_index, members }
            }
            None => self.status_without_leader(cluster).await,
        }
    }

    async fn ask_leader(&self, id: NodeId, member: &Member) -> Option<LeaderStatus> {
        let request = PeerRequest::<E>::Status;
        let Self { transport, credentials, .. } = self;
        match call(transport, credentials, id, &member.peer, &request, ASK_TIMEOUT).await {
            Ok(PeerResponse::Status(Ok(status))) => Some(status),
            Ok(_) | Err(_) => None,
        }
    }

    /// Nobody leads, so nobody's word counts: each member is asked itself.
    async fn status_without_leader(&self, cluster: Option<ClusterId>) -> ClusterStatus {
        let own = self.status();
        let asked = self.members().into_iter().map(|(id, member, voter)| async move {
            if id == self.id() {
                let matched_index = own_applied(self);
                return (status_of(id, member, voter, Some(0), matched_index), true);
            }
            let request = PeerRequest::<E>::Hello;
            let Self { transport, credentials, .. } = self;
            let reply = call(transport, credentials, id, &member.peer, &request, ASK_TIMEOUT).await;
            match reply {
                Ok(PeerResponse::Hello(hello)) => {
                    (status_of(id, member, voter, Some(0), hello.applied_index), true)
                }
                Ok(_) | Err(_) => (status_of(id, member, voter, None, None), false),
            }
        });
        let members = futures_util::future::join_all(asked).await;
        let last_index = own.last_log_index.unwrap_or(0);
        ClusterStatus { cluster, leader: None, term: own.term, last_index, members }
    }

    /// The members of the newest membership: id, member, whether it votes.
    pub fn members(&self) -> Vec<(NodeId, Member, bool)> {
        let metrics = self.raft.server_metrics();
        let membership = metrics.borrow_watched().membership_config.clone();
        let voters: Vec<NodeId> = membership.voter_ids().collect();
        membership.nodes().map(|(id, m)| (*id, m.clone(), voters.contains(id))).collect()
    }

    pub(super) fn leader_status(&self) -> Result<LeaderStatus, NotLeader> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let (Some(heard), Some(replication)) = (&metrics.heartbeat, &metrics.replication) else {
            drop(metrics);
            return Err(NotLeader { leader: self.leader() });
        };
        let now = TypeConfig::<E>::now();
        let voters: Vec<NodeId> = metrics.membership_config.voter_ids().collect();
        let members = metrics.membership_config.nodes().map(|(id, member)| {
            let (last_heard_ms, matched_index) = match *id == self.id() {
                true => (Some(0), metrics.last_applied.map(|id| id.index)),
                false => (
                    heard.get(id).and_then(|t| t.as_ref()).map(|t| millis(now - (**t).min(now))),
                    replication.get(id).and_then(|m| m.as_ref()).map(|m| m.index),
                ),
            };
            status_of(*id, member.clone(), voters.contains(id), last_heard_ms, matched_index)
        });
        Ok(LeaderStatus {
            leader: self.id(),
            term: metrics.current_term,
            last_index: metrics.last_log_index.unwrap_or(0),
            members: members.collect(),
        })
    }

    pub(super) fn hello(&self) -> HelloReply {
        HelloReply {
            name: self.name().to_owned(),
            node_id: self.id(),
            cluster: self.credentials.cluster(),
            formed: !self.log.is_pristine(),
            applied_index: own_applied(self),
            version: self.settings.version.clone(),
        }
    }
}

fn own_applied<E: Environment, T: Transport>(node: &Node<E, T>) -> Option<u64> {
    node.view().state.applied()
}

fn status_of(
    id: NodeId,
    member: Member,
    voter: bool,
    last_heard_ms: Option<u64>,
    matched_index: Option<u64>,
) -> MemberStatus {
    MemberStatus { id, member, voter, last_heard_ms, matched_index }
}
