//! How a cluster comes to be, once, and how a node comes to belong to it.
//!
//! The member with the lowest id in the configuration forms the cluster: it waits until every other
//! member answers and belongs to none, mints the cluster's id, has each of them write it down, and
//! only then initializes Raft. From then on a node with an empty directory can never pass for a
//! member: it has no cluster id, so it is neither asked for votes nor sent entries.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use futures_util::future::BoxFuture;
use openraft::type_config::TypeConfigExt;

use super::{Node, Settings, start::StartError};
use crate::{
    identity::{Credentials, Identity},
    network::{
        CallError, Refusal, Transport,
        client::call,
        wire::{HelloReply, MembershipError, PeerRequest, PeerResponse},
    },
    types::{ClusterId, Environment, Member, NodeId, TypeConfig},
};

const ASK_TIMEOUT: Duration = Duration::from_secs(2);
const ASK_EVERY: Duration = Duration::from_millis(100);
/// How often it is told what a node waits for.
const TELL_EVERY: Duration = Duration::from_secs(5);

impl<E: Environment, T: Transport> Node<E, T> {
    /// Belongs to a cluster from now on, if to none so far; says to which.
    pub(super) async fn adopt(&self, cluster: ClusterId) -> Result<ClusterId, Refusal> {
        if let Some(own) = self.credentials.cluster() {
            return Ok(own);
        }
        let identity = Identity { name: self.name().to_owned(), node_id: self.id(), cluster };
        let volume = self.volume.clone();
        let store = move || identity.store(&*volume);
        E::blocking(store).await.map_err(|e| Refusal::Stopped(e.to_string()))?;
        self.credentials.set_cluster(cluster);
        tracing::info!(%cluster, "this node belongs to a cluster now");
        Ok(cluster)
    }

    async fn ask(&self, id: NodeId, member: &Member) -> Result<HelloReply, CallError> {
        // Without an identity of its own to show, so that a member of any cluster answers.
        let stranger = Credentials::new(self.id(), None, self.credentials.proof());
        let request = PeerRequest::<E>::Hello;
        let reply =
            call(&self.transport, &stranger, id, &member.peer, &request, ASK_TIMEOUT).await?;
        match reply {
            PeerResponse::Hello(hello) => Ok(hello),
            _ => Err(crate::network::client::unexpected(&member.peer)),
        }
    }

    async fn ask_to_adopt(&self, id: NodeId, member: &Member, cluster: ClusterId) -> bool {
        let request = PeerRequest::<E>::Adopt(cluster);
        let Self { transport, credentials, .. } = self;
        match call(transport, credentials, id, &member.peer, &request, ASK_TIMEOUT).await {
            Ok(PeerResponse::Adopt(adopted)) => adopted == cluster,
            Ok(_) => false,
            Err(error) => {
                tracing::warn!(%error, "a member could not be told of its cluster; trying again");
                false
            }
        }
    }
}

/// Forms the cluster, or waits to be told of it. Ends when Raft is initialized, or when it is clear
/// that this node must not take part; then the reason is returned.
pub(super) async fn run<E: Environment, T: Transport>(
    node: Weak<Node<E, T>>,
) -> Result<(), StartError> {
    let mut told: Option<openraft::type_config::alias::InstantOf<TypeConfig<E>>> = None;
    loop {
        let Some(node) = node.upgrade() else { return Ok(()) };
        if !node.log.is_pristine() || node.is_draining() {
            return Ok(());
        }
        let missing = form(&node).await?;
        if missing.is_empty() {
            return Ok(());
        }
        let now = TypeConfig::<E>::now();
        if told.is_none_or(|at| now - at >= TELL_EVERY) {
            tracing::info!("waiting to form the cluster: {}", missing.join("; "));
            told = Some(now);
        }
        drop(node);
        TypeConfig::<E>::sleep(ASK_EVERY).await;
    }
}

/// One attempt. Gives what is still missing.
async fn form<E: Environment, T: Transport>(
    node: &Arc<Node<E, T>>,
) -> Result<Vec<String>, StartError> {
    let members = node.settings.bootstrap.clone();
    let others: Vec<(NodeId, Member)> =
        members.iter().filter(|(id, _)| *id != node.id()).cloned().collect();
    let mut asked: Vec<BoxFuture<'_, _>> = Vec::with_capacity(others.len());
    for (id, member) in &others {
        asked.push(Box::pin(node.ask(*id, member)));
    }
    let replies = futures_util::future::join_all(asked).await;

    let own = node.credentials.cluster();
    let mut missing = Vec::new();
    for ((_, member), reply) in others.iter().zip(replies) {
        match reply {
            Ok(hello) if hello.formed && own.is_none() => {
                return Err(StartError::DataGone {
                    name: node.name().to_owned(),
                    cluster: hello.cluster.map_or_else(String::new, |id| id.to_string()),
                });
            }
            Ok(hello) if hello.cluster.is_some() && hello.cluster != own && own.is_some() => {
                return Err(StartError::OtherCluster { name: member.name.clone() });
            }
            Ok(_) => {}
            Err(error) => missing.push(format!("{} at {}: {error}", member.name, member.peer)),
        }
    }
    let lowest = members.iter().map(|(id, _)| *id).min();
    if lowest != Some(node.id()) {
        missing.push("the member with the lowest id forms the cluster".to_owned());
        return Ok(missing);
    }
    if !missing.is_empty() {
        return Ok(missing);
    }
    let cluster = match own {
        Some(cluster) => cluster, // Minted by an earlier attempt that was cut off.
        None => {
            let minted = ClusterId(E::random_bytes());
            node.adopt(minted).await.map_err(|e| StartError::Refused(e.to_string()))?
        }
    };
    for (id, member) in &others {
        if !node.ask_to_adopt(*id, member, cluster).await {
            return Ok(vec![format!("{} does not belong to the cluster yet", member.name)]);
        }
    }
    let count = members.len();
    let nodes: std::collections::BTreeMap<NodeId, Member> = members.into_iter().collect();
    // Boxed with its own handle: the compiler cannot prove the nested future `Send` otherwise.
    let raft = node.raft.clone();
    let initialize: BoxFuture<'static, _> = Box::pin(async move { raft.initialize(nodes).await });
    match initialize.await {
        Ok(()) => tracing::info!(%cluster, members = count, "formed the cluster"),
        // Somebody was faster, or an earlier attempt got that far.
        Err(error) => tracing::info!(%error, "the cluster is formed already"),
    }
    Ok(Vec::new())
}

/// Asks an existing cluster for a place, before Raft is started. Tries until it gets one.
pub(super) async fn join<E: Environment, T: Transport>(
    settings: Settings,
    transport: T,
) -> Result<(ClusterId, NodeId), StartError> {
    let proof = crate::network::SecretProof::new(&settings.cluster_name, &settings.secret);
    let stranger = Credentials::new(0, None, proof);
    let known = settings.bootstrap.iter().map(|(_, member)| member.peer.clone());
    let mut addresses: Vec<String> = known.filter(|peer| *peer != settings.member.peer).collect();
    let mut told: Option<openraft::type_config::alias::InstantOf<TypeConfig<E>>> = None;
    loop {
        let mut reasons = Vec::new();
        let mut leader = None;
        for address in &addresses {
            let request = PeerRequest::<E>::Join(settings.member.clone());
            match call(&transport, &stranger, 0, address, &request, ASK_TIMEOUT * 5).await {
                Ok(PeerResponse::Join(Ok(place))) => return Ok(place),
                Ok(PeerResponse::Join(Err(MembershipError::NotLeader(hint)))) => {
                    leader = hint.leader.map(|(_, member)| member.peer);
                }
                Ok(PeerResponse::Join(Err(error @ MembershipError::Failed(_)))) => {
                    reasons.push(format!("{address}: {error}"));
                }
                Ok(_) => reasons.push(format!("{address} answered something else")),
                Err(error @ CallError::Refused { refusal: Refusal::WrongSecret, .. }) => {
                    return Err(StartError::Refused(error.to_string()));
                }
                Err(error) => reasons.push(error.to_string()),
            }
        }
        if let Some(leader) = leader
            && addresses.first() != Some(&leader)
        {
            addresses.retain(|address| *address != leader);
            addresses.insert(0, leader);
            continue;
        }
        let now = TypeConfig::<E>::now();
        if told.is_none_or(|at| now - at >= TELL_EVERY) {
            tracing::info!("waiting to be taken in: {}", reasons.join("; "));
            told = Some(now);
        }
        TypeConfig::<E>::sleep(ASK_EVERY * 5).await;
    }
}
