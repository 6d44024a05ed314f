//! Who takes part: taking in new members, in the place of one that lost its disk.

use std::{collections::BTreeSet, sync::Weak, time::Duration};

use openraft::type_config::TypeConfigExt;
use pygmy_storage::command::{Command, Outcome};

use super::Node;
use crate::{
    network::{
        Transport,
        client::call,
        wire::{MembershipError, NotLeader, PeerRequest, PeerResponse, Proposed},
    },
    types::{ClusterId, Environment, Member, NodeId, TypeConfig},
};

const RESERVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Entries that a new member may be behind when it begins to vote.
const PROMOTE_LAG_MAX: u64 = 1000;
const PROMOTE_EVERY: Duration = Duration::from_millis(300);

impl<E: Environment, T: Transport> Node<E, T> {
    /// As the leader: takes a member in as a learner, under an id that was never used before.
    pub(super) async fn take_in(
        &self,
        member: Member,
    ) -> Result<(ClusterId, NodeId), MembershipError> {
        let (true, Some(cluster)) = (self.is_leader(), self.credentials.cluster()) else {
            return Err(MembershipError::NotLeader(NotLeader { leader: self.leader() }));
        };
        let at_least = self.members().iter().map(|(id, ..)| *id).max().unwrap_or(0) + 1;
        let command = Command::ReserveNodeId { at_least };
        let reserved = self
            .propose(&Proposed { key: None, command }, RESERVE_TIMEOUT)
            .await
            .map_err(|e| MembershipError::Failed(e.to_string()))?;
        let Outcome::NodeId(id) = reserved.applied.outcome else {
            return Err(MembershipError::Failed("no id could be reserved".to_owned()));
        };
        tracing::info!(name = member.name, id, "taking in a new member");
        self.raft
            .add_learner(id, member, false)
            .await
            .map_err(|e| MembershipError::Failed(e.to_string()))?;
        Ok((cluster, id))
    }

    /// As the leader: makes a learner a voter, in the place of older members of the same name.
    pub(super) async fn promote(&self, id: NodeId) -> Result<(), MembershipError> {
        let Ok(status) = self.leader_status() else {
            return Err(MembershipError::NotLeader(NotLeader { leader: self.leader() }));
        };
        let Some(learner) = status.members.iter().find(|m| m.id == id) else {
            return Err(MembershipError::Failed(format!("node {id} is no member")));
        };
        let lag = status.last_index.saturating_sub(learner.matched_index.unwrap_or(0));
        if lag > PROMOTE_LAG_MAX {
            return Err(MembershipError::Failed(format!("node {id} is {lag} entries behind")));
        }
        let voters: BTreeSet<NodeId> = status
            .members
            .iter()
            .filter(|m| m.id == id || (m.voter && m.member.name != learner.member.name))
            .map(|m| m.id)
            .collect();
        tracing::info!(id, ?voters, "making a member a voter");
        self.raft
            .change_membership(voters, false)
            .await
            .map(|_| ())
            .map_err(|e| MembershipError::Failed(e.to_string()))
    }
}

/// As a new member: asks the leader for a vote once this node has caught up. Ends when it votes.
pub(super) async fn run_promotion<E: Environment, T: Transport>(node: Weak<Node<E, T>>) {
    loop {
        TypeConfig::<E>::sleep(PROMOTE_EVERY).await;
        let Some(node) = node.upgrade() else { return };
        if node.is_draining() {
            return;
        }
        let members = node.members();
        let Some((_, _, voter)) = members.iter().find(|(id, ..)| *id == node.id()) else {
            continue;
        };
        if *voter {
            tracing::info!("this node votes now");
            return;
        }
        let Some((leader, member)) = node.leader() else { continue };
        let request = PeerRequest::<E>::Promote;
        let Node { transport, credentials, .. } = &*node;
        let reply =
            call(transport, credentials, leader, &member.peer, &request, RESERVE_TIMEOUT).await;
        match reply {
            Ok(PeerResponse::Promote(Ok(()))) => {}
            Ok(PeerResponse::Promote(Err(error))) => tracing::info!(%error, "not a voter yet"),
            Ok(_) => tracing::warn!("the leader answered something else than it was asked"),
            Err(error) => tracing::info!(%error, "not a voter yet"),
        }
    }
}
