//! What a node answers to its peers.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use openraft::{
    OptionalSend,
    errors::RaftError,
    raft::{AppendEntriesResponse, SnapshotResponse},
};
use pygmy_storage::{
    codec,
    volume::{NewFile, Volume},
};

use super::Node;
use crate::{
    network::{
        CallHeader, Refusal, Transport,
        wire::{PeerRequest, PeerResponse, SnapshotChunk},
    },
    state_machine::{self, SnapshotFile},
    types::{Environment, NodeId, TypeConfig, alias::Snapshot},
};

/// The file that a snapshot is received into.
const INCOMING: &str = "incoming";
/// How long a write that was passed on may take here; the node that passed it on gives up first.
const PROPOSE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(30);

/// A snapshot that is being received.
pub(super) struct Incoming {
    transfer: u64,
    next: u64,
    file: Box<dyn NewFile>,
}

impl<E: Environment, T: Transport> Node<E, T> {
    /// Answers a call of a peer: checks the header, then decodes and serves the body.
    pub fn handle_peer(
        self: Arc<Self>,
        header: CallHeader,
        body: Bytes,
    ) -> BoxFuture<'static, Result<Vec<u8>, Refusal>> {
        // Boxed and owned: the compiler cannot prove the nested futures `Send` otherwise.
        Box::pin(async move { self.handle(header, body).await })
    }

    async fn handle(self: &Arc<Self>, header: CallHeader, body: Bytes) -> Result<Vec<u8>, Refusal> {
        self.check_header(&header)?;
        let request: PeerRequest<E> = codec::unseal(&body, "a peer's request")
            .map_err(|e| Refusal::Malformed(e.to_string()))?;
        let among_members = header.target == self.id()
            && header.cluster.is_some()
            && self.credentials.cluster().is_some();
        let response = self.answer(header.from, among_members, request).await?;
        Ok(codec::seal(&response))
    }

    /// Checks that a caller knows the cluster's secret.
    pub(crate) fn check_secret(&self, header: &CallHeader) -> Result<(), Refusal> {
        if header.proof == self.credentials.proof() {
            return Ok(());
        }
        tracing::warn!(from = header.from, "refused a peer: {}", Refusal::WrongSecret);
        Err(Refusal::WrongSecret)
    }

    fn check_header(&self, header: &CallHeader) -> Result<(), Refusal> {
        self.check_secret(header)?;
        // Target 0 asks whoever is at the address; only what needs no identity is answered to it.
        if header.target != 0 && header.target != self.id() {
            return Err(Refusal::WrongTarget { target: header.target, there: self.id() });
        }
        match (header.cluster, self.credentials.cluster()) {
            (Some(ours), Some(theirs)) if ours != theirs => {
                let refusal =
                    Refusal::WrongCluster { ours: ours.to_string(), theirs: theirs.to_string() };
                tracing::warn!(from = header.from, "refused a peer call: {refusal}");
                Err(refusal)
            }
            (Some(_) | None, Some(_) | None) => Ok(()),
        }
    }

    async fn answer(
        self: &Arc<Self>,
        from: NodeId,
        among_members: bool,
        request: PeerRequest<E>,
    ) -> Result<PeerResponse<E>, Refusal> {
        match request {
            PeerRequest::Hello => return Ok(PeerResponse::Hello(self.hello())),
            PeerRequest::Adopt(cluster) => {
                return self.adopt(cluster).await.map(PeerResponse::Adopt);
            }
            PeerRequest::Join(member) => return Ok(PeerResponse::Join(self.take_in(member).await)),
            // A node that belongs to no cluster can neither vote nor append: it may have forgotten.
            _ if !among_members => return Err(Refusal::NoCluster),
            _ => {}
        }
        Ok(match request {
            PeerRequest::Append(rpc) => {
                let response = self.raft.append_entries(rpc).await.map_err(stopped)?;
                match &response {
                    AppendEntriesResponse::Success
                    | AppendEntriesResponse::PartialSuccess(_)
                    | AppendEntriesResponse::Conflict => self.heard_from_leader(),
                    AppendEntriesResponse::HigherVote(_) => {}
                }
                PeerResponse::Append(response)
            }
            PeerRequest::Vote(rpc) => {
                PeerResponse::Vote(self.raft.vote(rpc).await.map_err(stopped)?)
            }
            PeerRequest::PreVote(rpc) => {
                PeerResponse::Vote(self.raft.pre_vote(rpc).await.map_err(stopped)?)
            }
            PeerRequest::TransferLeader(rpc) => {
                let result = self.raft.handle_transfer_leader(rpc).await;
                PeerResponse::TransferLeader(result.map_err(|e| Refusal::Stopped(e.to_string()))?)
            }
            PeerRequest::Snapshot(chunk) => self.receive_snapshot(chunk).await?,
            PeerRequest::TellVote => PeerResponse::TellVote(self.vote()),
            PeerRequest::ReadIndex(vote) => {
                PeerResponse::ReadIndex(self.read_index_for_peer(from, vote).await)
            }
            PeerRequest::Propose(all) => {
                PeerResponse::Propose(self.propose_many(&all, PROPOSE_TIMEOUT).await)
            }
            PeerRequest::Status => PeerResponse::Status(self.leader_status()),
            PeerRequest::Promote => PeerResponse::Promote(self.promote(from).await),
            PeerRequest::Hello | PeerRequest::Adopt(_) | PeerRequest::Join(_) => {
                return Err(Refusal::Malformed("answered above".to_owned()));
            }
        })
    }

    /// Takes in one piece of a snapshot; with the last one the snapshot is installed.
    async fn receive_snapshot(&self, chunk: SnapshotChunk) -> Result<PeerResponse<E>, Refusal> {
        let mut slot = self.incoming.lock().await;
        let failed = |e: pygmy_storage::Error| {
            tracing::error!(error = %e, "receiving a snapshot failed");
            Refusal::Malformed(e.to_string())
        };
        if chunk.offset == 0 {
            let bytes = chunk.data.len();
            tracing::info!(
                transfer = chunk.transfer,
                bytes,
                last = chunk.last,
                "a snapshot arrives"
            );
            let file = self.volume.create_file(INCOMING).map_err(failed)?;
            *slot = Some(Incoming { transfer: chunk.transfer, next: 0, file });
        }
        let Some(mut incoming) = slot.take_if(|incoming| {
            incoming.transfer == chunk.transfer && incoming.next == chunk.offset
        }) else {
            return Ok(PeerResponse::SnapshotRestart);
        };
        let data = chunk.data.clone();
        let write = move || {
            incoming.file.write_all(&data)?;
            incoming.next += data.len() as u64;
            Ok(incoming)
        };
        let incoming: std::io::Result<Incoming> = E::blocking(write).await;
        let incoming = incoming
            .map_err(|e| failed(pygmy_storage::Error::io("writing an incoming snapshot", e)))?;
        self.heard_from_leader();
        if !chunk.last {
            *slot = Some(incoming);
            return Ok(PeerResponse::SnapshotMore);
        }
        let bytes = incoming.next;
        E::blocking(move || incoming.file.commit()).await.map_err(failed)?;
        let response = self.install(chunk, bytes).await?;
        Ok(PeerResponse::SnapshotDone(response))
    }

    async fn install(
        &self,
        chunk: SnapshotChunk,
        bytes: u64,
    ) -> Result<SnapshotResponse<TypeConfig<E>>, Refusal> {
        let file = SnapshotFile::new(self.volume.clone(), INCOMING.to_owned(), bytes);
        // The whole file is checked before openraft hears of it: what arrives damaged is the
        // sender's or the network's fault, and no reason to stop this node.
        let verify = {
            let file = file.clone();
            move || pygmy_storage::snapshot::verify(&mut file.open()?)
        };
        let malformed = |detail: String| {
            tracing::error!(detail, "refused a snapshot");
            Refusal::Malformed(detail)
        };
        let header = E::blocking(verify).await.map_err(|e| malformed(e.to_string()))?;
        let meta =
            state_machine::snapshot_meta(&header.raft).map_err(|e| malformed(e.to_string()))?;
        if meta != chunk.meta {
            return Err(malformed("the snapshot is not the one that was announced".to_owned()));
        }
        let snapshot = Snapshot { meta, snapshot: file };
        self.raft
            .install_full_snapshot(chunk.vote, snapshot)
            .await
            .map_err(|e| Refusal::Stopped(e.to_string()))
    }
}

fn stopped<E: Environment>(error: RaftError<TypeConfig<E>>) -> Refusal
where
    TypeConfig<E>: OptionalSend,
{
    Refusal::Stopped(error.to_string())
}

/// Removes what an interrupted transfer left.
pub(super) fn remove_incoming(volume: &dyn Volume) -> pygmy_storage::Result<()> {
    volume.remove_file(INCOMING)
}
