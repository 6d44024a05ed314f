//! The network between the nodes: delays, loses, repeats and reorders, and can be cut link by link.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use openraft::vote::RaftLeaderId;
use openraft_rt::AsyncRuntime;
use pygmy_raft::{
    network::{
        CallError, CallHeader, Refusal, Transport,
        wire::{PeerRequest, PeerResponse},
    },
    node::Node,
    types::NodeId,
};
use pygmy_storage::codec;
use tokio::sync::oneshot;

use crate::{
    oracle::Oracle,
    runtime::{Chance, Runtime, Scope, Sim, lock},
};

/// When a connection on which nothing is acknowledged is given up.
const GIVEN_UP: Duration = Duration::from_secs(4);

/// A node of ours in the simulation.
pub(crate) type SimNode = Node<Sim, SimTransport>;

/// A node that listens, in its incarnation.
#[derive(Clone)]
pub(crate) struct Listener {
    pub(crate) node: Arc<SimNode>,
    pub(crate) scope: Arc<Scope>,
}

/// How the links are.
#[derive(Debug, Default)]
struct Weather {
    /// Links that carry nothing, from address to address.
    cut: BTreeSet<(String, String)>,
    /// Of a hundred messages, so many are lost.
    loss: u64,
    /// Of a hundred Raft messages, so many arrive twice.
    repeats: u64,
    /// The longest delay in milliseconds.
    delay_ms: u64,
}

/// All links and listeners.
pub(crate) struct Network {
    listeners: Mutex<BTreeMap<String, Listener>>,
    weather: Mutex<Weather>,
    chance: Chance,
    /// What is under way belongs to nobody: it arrives even if the sender is gone.
    world: Arc<Scope>,
    oracle: Arc<Oracle>,
}

impl Network {
    pub(crate) fn new(seed: u64, world: Arc<Scope>, oracle: Arc<Oracle>) -> Arc<Self> {
        let network = Self {
            listeners: Mutex::default(),
            weather: Mutex::default(),
            chance: Chance::new(seed, "network"),
            world,
            oracle,
        };
        network.set_fair();
        Arc::new(network)
    }

    pub(crate) fn listen(&self, address: &str, listener: Listener) {
        lock(&self.listeners).insert(address.to_owned(), listener);
    }

    pub(crate) fn stop_listening(&self, address: &str) {
        lock(&self.listeners).remove(address);
    }

    fn listener(&self, address: &str) -> Option<Listener> {
        lock(&self.listeners).get(address).cloned()
    }

    /// Cuts one direction of a link.
    pub(crate) fn cut(&self, from: &str, to: &str) {
        lock(&self.weather).cut.insert((from.to_owned(), to.to_owned()));
    }

    pub(crate) fn mend(&self, from: &str, to: &str) {
        lock(&self.weather).cut.remove(&(from.to_owned(), to.to_owned()));
    }

    pub(crate) fn set_foul(&self, loss: u64, repeats: u64, delay_ms: u64) {
        let mut weather = lock(&self.weather);
        (weather.loss, weather.repeats, weather.delay_ms) = (loss, repeats, delay_ms);
    }

    /// Short delays, nothing lost. Cut links stay cut.
    pub(crate) fn set_fair(&self) {
        self.set_foul(0, 5, 4);
    }

    /// Every link carries again.
    pub(crate) fn mend_all(&self) {
        lock(&self.weather).cut.clear();
        self.set_fair();
    }

    fn is_cut(&self, from: &str, to: &str) -> bool {
        lock(&self.weather).cut.contains(&(from.to_owned(), to.to_owned()))
    }

    fn is_lost(&self, from: &str, to: &str) -> bool {
        let loss = lock(&self.weather).loss;
        self.is_cut(from, to) || self.chance.percent(loss)
    }

    fn delay(&self) -> Duration {
        let longest = lock(&self.weather).delay_ms;
        // Most messages are quick, some are late: that is what reorders them.
        match self.chance.percent(80) {
            true => self.chance.millis(0, longest.div_ceil(4)) + Duration::from_micros(100),
            false => self.chance.millis(0, longest) + Duration::from_micros(100),
        }
    }

    /// Carries a request, and the reply back. Whoever waits hears nothing of what is lost, until the
    /// connection is given up.
    async fn carry(
        self: Arc<Self>,
        speaker: String,
        from: String,
        to: String,
        header: CallHeader,
        body: Bytes,
        reply: oneshot::Sender<Result<Vec<u8>, CallError>>,
    ) {
        let name = describe(&body);
        let broken =
            |detail: &str| CallError::Broken { address: to.clone(), detail: detail.to_owned() };
        Runtime::sleep(self.delay()).await;
        if self.is_lost(&from, &to) {
            self.world.trace.event(format!("{from} -> {to} {name} lost"));
            Runtime::sleep(GIVEN_UP).await;
            let _ = reply.send(Err(broken("it does not answer any more")));
            return;
        }
        let Some(listener) = self.listener(&to) else {
            let (address, detail) = (to.clone(), "nobody listens".to_owned());
            let _ = reply.send(Err(CallError::Unreachable { address, detail }));
            return;
        };
        self.oracle.see_request(&speaker, &body);
        self.world.trace.event(format!("{from} -> {to} {name}"));
        let Listener { node, scope } = listener;
        let (done, answered) = oneshot::channel();
        let handler = scope.spawn(async move {
            let answer = node.clone().handle_peer(header, body).await;
            let _ = done.send((answer, node));
        });
        drop(handler);
        let Ok((answer, node)) = answered.await else {
            // The receiver died with the request in its hands.
            let _ = reply.send(Err(broken("reset by the peer")));
            return;
        };
        self.oracle.see_state(&to, &node);
        drop(node);
        Runtime::sleep(self.delay()).await;
        if self.is_lost(&to, &from) {
            self.world.trace.event(format!("{from} <- {to} {name} lost"));
            Runtime::sleep(GIVEN_UP).await;
            let _ = reply.send(Err(broken("it does not answer any more")));
            return;
        }
        let answer = match answer {
            Ok(bytes) => {
                let size = bytes.len();
                self.world
                    .trace
                    .event(format!("{from} <- {to} {name} {size} {}", short_hash(&bytes)));
                if let Ok(PeerResponse::<Sim>::SnapshotDone(_)) = codec::unseal(&bytes, "a reply") {
                    self.world.trace.count("snapshots installed");
                }
                Ok(bytes)
            }
            Err(refusal) => {
                self.world.trace.event(format!("{from} <- {to} {name} refused: {refusal}"));
                if let Refusal::Malformed(_) = refusal
                    && scope.is_alive()
                {
                    self.world.trace.count("calls refused as malformed");
                }
                Err(CallError::Refused { address: to, refusal })
            }
        };
        let _ = reply.send(answer);
    }
}

/// One node's way into the network.
#[derive(Clone)]
pub(crate) struct SimTransport {
    pub(crate) from: String,
    /// The incarnation that speaks.
    pub(crate) speaker: String,
    pub(crate) network: Arc<Network>,
}

impl Transport for SimTransport {
    async fn call(
        &self,
        address: &str,
        header: CallHeader,
        body: Vec<u8>,
        timeout: Duration,
    ) -> Result<Vec<u8>, CallError> {
        let network = &self.network;
        let body = Bytes::from(body);
        let repeats = lock(&network.weather).repeats;
        if network.chance.percent(repeats) && may_arrive_twice(&body) {
            let (nobody, _) = oneshot::channel();
            let (header, body) = (header.clone(), body.clone());
            network.world.trace.count("messages repeated");
            drop(network.world.spawn(network.clone().carry(
                self.speaker.clone(),
                self.from.clone(),
                address.to_owned(),
                header,
                body,
                nobody,
            )));
        }
        let (reply, answered) = oneshot::channel();
        let (speaker, from) = (self.speaker.clone(), self.from.clone());
        let carry = network.clone().carry(speaker, from, address.to_owned(), header, body, reply);
        // Keeps the reply's sender when the message is lost, so that the caller waits.
        let _carrier = network.world.spawn(carry);
        match Runtime::timeout(timeout, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => {
                Err(CallError::Timeout { address: address.to_owned(), waited: timeout })
            }
        }
    }
}

/// Raft's own messages may, and so may writes with a key: that is what the key is for.
fn may_arrive_twice(body: &[u8]) -> bool {
    match codec::unseal::<PeerRequest<Sim>>(body, "a request") {
        Ok(
            PeerRequest::Append(_)
            | PeerRequest::Vote(_)
            | PeerRequest::PreVote(_)
            | PeerRequest::TransferLeader(_)
            | PeerRequest::Snapshot(_),
        ) => true,
        Ok(PeerRequest::Propose(all)) => all.iter().all(|one| one.key.is_some()),
        Ok(
            PeerRequest::ReadIndex(_)
            | PeerRequest::TellVote
            | PeerRequest::Status
            | PeerRequest::Hello
            | PeerRequest::Adopt(_)
            | PeerRequest::Join(_)
            | PeerRequest::Promote,
        )
        | Err(_) => false,
    }
}

/// The votes under which a leader speaks, for the check that a term has one leader.
pub(crate) fn leader_in(request: &PeerRequest<Sim>) -> Option<(u64, NodeId)> {
    match request {
        PeerRequest::Append(rpc) => {
            Some((rpc.vote.leader_id.term(), *rpc.vote.leader_id.node_id()))
        }
        PeerRequest::Snapshot(chunk) => {
            Some((chunk.vote.leader_id.term(), *chunk.vote.leader_id.node_id()))
        }
        PeerRequest::Vote(_)
        | PeerRequest::PreVote(_)
        | PeerRequest::TransferLeader(_)
        | PeerRequest::ReadIndex(_)
        | PeerRequest::TellVote
        | PeerRequest::Propose(_)
        | PeerRequest::Status
        | PeerRequest::Hello
        | PeerRequest::Adopt(_)
        | PeerRequest::Join(_)
        | PeerRequest::Promote => None,
    }
}

fn describe(body: &[u8]) -> String {
    // The first byte after version and checksum is the number of the variant.
    let variant = codec::unseal_body(body, "a request").ok().and_then(|b| b.first().copied());
    format!("request {} {} {}", variant.unwrap_or(u8::MAX), body.len(), short_hash(body))
}

fn short_hash(bytes: &[u8]) -> String {
    format!("{:08x}", codec::hash128(0, bytes) >> 96)
}
