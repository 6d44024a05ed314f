//! openraft's network interface, spoken over a [`Transport`].

use std::{future::Future, io::Read, marker::PhantomData, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{
    Stream, StreamExt,
    future::{BoxFuture, Either, select},
    stream::{self, BoxStream},
};
use openraft::{
    OptionalSend, RaftNetworkFactory, RaftNetworkV2,
    errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable},
    network::{RPCOption, RPCTypes},
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendError,
        StreamAppendResult, TransferLeaderRequest, TransferLeaderResponse, VoteRequest,
        VoteResponse,
    },
    storage::Snapshot as OpenraftSnapshot,
    type_config::TypeConfigExt,
};
use pygmy_storage::codec;

use super::{
    CallError, Transport,
    notices::{Notices, paced},
    wire::{PeerRequest, PeerResponse, SNAPSHOT_CHUNK_BYTES, SnapshotChunk},
};
use crate::{
    identity::Credentials,
    state_machine::SnapshotFile,
    types::{
        Environment, Member, NodeId, TypeConfig,
        alias::{LeaderId, Snapshot, Vote},
    },
};

/// How long an append may take. openraft allows one heartbeat interval, which a busy disk exceeds now
/// and then; giving up then means to send the same entries again.
const APPEND_TIMEOUT: Duration = Duration::from_millis(500);
/// Appends to one member that are under way at once. Beyond a few they only get smaller: what waits
/// meanwhile makes one larger batch.
const APPENDS_UNDER_WAY: usize = 2;
/// A member that lacks so many committed entries catches up with rests, and with one append at a time, so that
/// those who are served notice less of it: on one machine with the others it would take a processor to itself.
/// It rests for a half of the time that it works.
const FAR_BEHIND_ENTRIES: u64 = 20_000;
const CATCH_UP_REST: u32 = 2;
/// How long one chunk of a snapshot may take: the last one includes the install.
const SNAPSHOT_CHUNK_TIMEOUT: Duration = Duration::from_secs(20);
const SNAPSHOT_INSTALL_TIMEOUT: Duration = Duration::from_secs(300);

/// Makes the connections that openraft asks for.
pub struct PeerNetworkFactory<E, T> {
    transport: T,
    credentials: Arc<Credentials>,
    notices: Notices,
    _environment: PhantomData<fn() -> E>,
}

impl<E: Environment, T: Transport> PeerNetworkFactory<E, T> {
    /// Calls over a transport, with a node's credentials. What is held back is let go by `notices`.
    pub(crate) fn new(transport: T, credentials: Arc<Credentials>, notices: Notices) -> Self {
        Self { transport, credentials, notices, _environment: PhantomData }
    }
}

impl<E: Environment, T: Transport> RaftNetworkFactory<TypeConfig<E>> for PeerNetworkFactory<E, T> {
    type Network = PeerNetwork<E, T>;

    async fn new_client(&mut self, target: NodeId, node: &Member) -> Self::Network {
        PeerNetwork {
            transport: self.transport.clone(),
            credentials: self.credentials.clone(),
            target,
            address: node.peer.clone(),
            append_timeout_min: APPEND_TIMEOUT,
            notices: self.notices.clone(),
            turn: tokio::sync::Mutex::new(()),
            _environment: PhantomData,
        }
    }

    async fn new_heartbeat_client(&mut self, target: NodeId, node: &Member) -> Self::Network {
        // A heartbeat that takes longer than its interval says nothing any more.
        let client = self.new_client(target, node).await;
        PeerNetwork { append_timeout_min: Duration::ZERO, ..client }
    }
}

/// Calls to one member.
pub struct PeerNetwork<E, T> {
    transport: T,
    credentials: Arc<Credentials>,
    target: NodeId,
    address: String,
    /// The shortest time that an append may take, whatever openraft would give it.
    append_timeout_min: Duration,
    notices: Notices,
    /// Appends begin in turn.
    turn: tokio::sync::Mutex<()>,
    _environment: PhantomData<fn() -> E>,
}

/// Sends a request to a member and decodes the reply.
pub(crate) async fn call<E: Environment, T: Transport>(
    transport: &T,
    credentials: &Credentials,
    target: NodeId,
    address: &str,
    request: &PeerRequest<E>,
    timeout: Duration,
) -> Result<PeerResponse<E>, CallError> {
    let header = credentials.header(target);
    let body = transport.call(address, header, codec::seal(request), timeout).await?;
    codec::unseal(&body, "a peer's reply")
        .map_err(|e| CallError::Broken { address: address.to_owned(), detail: e.to_string() })
}

/// The reply was of another kind than the request.
pub(crate) fn unexpected(address: &str) -> CallError {
    let detail = "it answered something else than it was asked".to_owned();
    CallError::Broken { address: address.to_owned(), detail }
}

fn transfer_id<E: Environment>() -> u64 {
    let bytes = E::random_bytes();
    bytes.iter().take(8).fold(0, |id, byte| id << 8 | u64::from(*byte))
}

impl<E: Environment, T: Transport> PeerNetwork<E, T> {
    async fn call(
        &self,
        request: PeerRequest<E>,
        timeout: Duration,
    ) -> Result<PeerResponse<E>, CallError> {
        let Self { transport, credentials, target, address, .. } = self;
        call(transport, credentials, *target, address, &request, timeout).await
    }

    fn unexpected(&self) -> CallError {
        unexpected(&self.address)
    }

    async fn append(
        &self,
        rpc: AppendEntriesRequest<TypeConfig<E>>,
        timeout: Duration,
    ) -> Result<AppendEntriesResponse<TypeConfig<E>>, RPCError<TypeConfig<E>>> {
        let timeout = timeout.max(self.append_timeout_min);
        self.notices.tell(rpc.leader_commit);
        let result = match self.call(PeerRequest::Append(rpc), timeout).await {
            Ok(PeerResponse::Append(response)) => Ok(response),
            Ok(_) => Err(self.unexpected()),
            Err(error) => Err(error),
        };
        result.map_err(|e| self.rpc_error(RPCTypes::AppendEntries, e))
    }

    /// One of a row of appends; also says whether the next one of the row follows from it. Boxed: the
    /// compiler cannot prove it `Send` within openraft's stream otherwise.
    fn append_of_row(
        &self,
        rpc: AppendEntriesRequest<TypeConfig<E>>,
        timeout: Duration,
    ) -> BoxFuture<'_, (AppendResult<E>, bool)> {
        Box::pin(async move {
            let before = rpc.prev_log_id;
            let last = rpc.entries.last().map(|entry| entry.log_id).or(before);
            let turn = self.turn.lock().await;
            let result = if is_far_behind(&rpc) {
                let began = TypeConfig::<E>::now();
                let result = self.append(rpc, timeout).await;
                TypeConfig::<E>::sleep((TypeConfig::<E>::now() - began) / CATCH_UP_REST).await;
                drop(turn);
                result
            } else {
                drop(turn);
                self.append(rpc, timeout).await
            };
            match result {
                Ok(response) => {
                    let partly = matches!(
                        &response,
                        AppendEntriesResponse::PartialSuccess(upto) if *upto != last
                    );
                    let result = response.into_stream_result(before, last);
                    let goes_on = result.is_ok() && !partly;
                    (Ok(result), goes_on)
                }
                Err(error) => (Err(error), false),
            }
        })
    }

    /// An append got to the member before the one that it follows.
    fn overtaken(&self) -> RPCError<TypeConfig<E>> {
        let detail = "an append overtook the one before".to_owned();
        let error = CallError::Broken { address: self.address.clone(), detail };
        self.rpc_error(RPCTypes::AppendEntries, error)
    }

    /// What openraft makes of it: it backs off from an unreachable member and tries another at once.
    fn rpc_error(&self, kind: RPCTypes, error: CallError) -> RPCError<TypeConfig<E>> {
        match &error {
            CallError::Timeout { waited, .. } => RPCError::Timeout(Timeout {
                action: kind,
                id: self.credentials.node_id(),
                target: self.target,
                timeout: *waited,
            }),
            CallError::Unreachable { .. } | CallError::Refused { .. } => {
                if let CallError::Refused { .. } = &error {
                    tracing::warn!(%error, "a peer call was refused");
                }
                RPCError::Unreachable(Unreachable::new(&error))
            }
            CallError::Broken { .. } => RPCError::Network(NetworkError::new(&error)),
        }
    }

    async fn send_snapshot(
        &self,
        vote: Vote,
        snapshot: Snapshot,
    ) -> Result<SnapshotResponse<TypeConfig<E>>, CallError> {
        let broken = |detail: String| CallError::Broken { address: self.address.clone(), detail };
        let file = snapshot.snapshot;
        let (total, transfer) = (file.bytes(), transfer_id::<E>());
        tracing::info!(to = self.address, bytes = total, "sending a snapshot");
        let mut input =
            E::blocking(move || file.open()).await.map_err(|e| broken(e.to_string()))?;
        let mut offset = 0;
        loop {
            let read = move || -> std::io::Result<(Vec<u8>, Box<dyn Read + Send>)> {
                let mut data = Vec::with_capacity(SNAPSHOT_CHUNK_BYTES);
                (&mut input).take(SNAPSHOT_CHUNK_BYTES as u64).read_to_end(&mut data)?;
                Ok((data, input))
            };
            let (data, rest) = E::blocking(read).await.map_err(|e| broken(e.to_string()))?;
            input = rest;
            let next = offset + data.len() as u64;
            let last = next >= total;
            if data.is_empty() && !last {
                return Err(broken("the snapshot's file is shorter than it was".to_owned()));
            }
            let chunk = SnapshotChunk {
                vote,
                meta: snapshot.meta.clone(),
                transfer,
                offset,
                data: Bytes::from(data),
                last,
            };
            let timeout = if last { SNAPSHOT_INSTALL_TIMEOUT } else { SNAPSHOT_CHUNK_TIMEOUT };
            match self.call(PeerRequest::Snapshot(chunk), timeout).await? {
                PeerResponse::SnapshotMore if !last => offset = next,
                PeerResponse::SnapshotDone(response) => return Ok(response),
                PeerResponse::SnapshotRestart => {
                    return Err(broken("the receiver lost the beginning".to_owned()));
                }
                _ => return Err(self.unexpected()),
            }
        }
    }
}

/// Whether the member lacks many entries that others have committed even when it has these.
fn is_far_behind<E: Environment>(append: &AppendEntriesRequest<TypeConfig<E>>) -> bool {
    let Some(last) = append.entries.last() else { return false };
    let committed = append.leader_commit.map_or(0, |id| id.index);
    committed.saturating_sub(last.log_id.index) > FAR_BEHIND_ENTRIES
}

/// The results of a row of appends.
type Appended<'s, E> = BoxStream<'s, AppendResult<E>>;
type AppendResult<E> = Result<StreamAppendResult<TypeConfig<E>>, RPCError<TypeConfig<E>>>;

impl<E: Environment, T: Transport> RaftNetworkV2<TypeConfig<E>> for PeerNetwork<E, T> {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig<E>>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig<E>>, RPCError<TypeConfig<E>>> {
        self.append(rpc, option.soft_ttl()).await
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<Appended<'s, E>, RPCError<TypeConfig<E>>>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig<E>>> + OptionalSend + Unpin + 'static,
    {
        let (network, timeout): (&'s Self, _) = (self, option.soft_ttl());
        // Some are under way at once, and answered in order. openraft needs no answer for each: what one
        // confirms, it confirms of all before it.
        let sent = paced(input, self.notices.clone())
            .map(move |rpc| network.append_of_row(rpc, timeout))
            .buffered(APPENDS_UNDER_WAY);
        let row = stream::unfold(Some((Box::pin(sent), None)), move |state| async move {
            let (mut sent, confirmed) = state?;
            let (result, goes_on) = sent.next().await?;
            // A transport should deliver calls in the order in which they are sent. The member refuses
            // one that overtook another, as a conflict with a log that it is about to have: that is a
            // lost call, which openraft sends again, and no conflict, after which it would take the
            // member for one that forgot.
            let result = match result {
                Ok(Err(StreamAppendError::Conflict(at))) if Some(at) <= confirmed => {
                    Err(network.overtaken())
                }
                other => other,
            };
            let confirmed = match &result {
                Ok(Ok(matching)) => confirmed.max(*matching),
                Ok(Err(_)) | Err(_) => confirmed,
            };
            // What was sent behind one that failed is refused or the same again: nobody waits for it.
            Some((result, goes_on.then_some((sent, confirmed))))
        });
        let row: Appended<'s, E> = Box::pin(row);
        Box::pin(std::future::ready(Ok(row)))
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig<E>>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig<E>>, RPCError<TypeConfig<E>>> {
        let result = match self.call(PeerRequest::Vote(rpc), option.soft_ttl()).await {
            Ok(PeerResponse::Vote(response)) => Ok(response),
            Ok(_) => Err(self.unexpected()),
            Err(error) => Err(error),
        };
        result.map_err(|e| self.rpc_error(RPCTypes::Vote, e))
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig<E>>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig<E>>, RPCError<TypeConfig<E>>> {
        let result = match self.call(PeerRequest::PreVote(rpc), option.soft_ttl()).await {
            Ok(PeerResponse::Vote(response)) => Ok(response),
            Ok(_) => Err(self.unexpected()),
            Err(error) => Err(error),
        };
        result.map_err(|e| self.rpc_error(RPCTypes::Vote, e))
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest<TypeConfig<E>>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig<E>>, RPCError<TypeConfig<E>>> {
        let result = match self.call(PeerRequest::TransferLeader(rpc), option.soft_ttl()).await {
            Ok(PeerResponse::TransferLeader(response)) => Ok(response),
            Ok(_) => Err(self.unexpected()),
            Err(error) => Err(error),
        };
        result.map_err(|e| self.rpc_error(RPCTypes::TransferLeader, e))
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: OpenraftSnapshot<LeaderId, NodeId, Member, SnapshotFile>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig<E>>, StreamingError<TypeConfig<E>>> {
        let sending = Box::pin(self.send_snapshot(vote, snapshot));
        match select(Box::pin(cancel), sending).await {
            Either::Left((closed, _)) => Err(StreamingError::Closed(closed)),
            Either::Right((Ok(response), _)) => Ok(response),
            Either::Right((Err(error), _)) => {
                tracing::warn!(%error, "sending a snapshot failed");
                Err(match error {
                    CallError::Unreachable { .. } | CallError::Refused { .. } => {
                        StreamingError::Unreachable(Unreachable::new(&error))
                    }
                    CallError::Timeout { .. } | CallError::Broken { .. } => {
                        StreamingError::Network(NetworkError::new(&error))
                    }
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, sync::Mutex};

    use super::*;
    use crate::{
        network::{CallHeader, SecretProof, notices::tests::append},
        types::{Tokio, alias::LogId},
    };

    /// Delivers nothing, and notes what the node had noted as told by then.
    #[derive(Clone)]
    struct Ear(Notices, Arc<Mutex<Vec<Option<LogId>>>>);

    impl Transport for Ear {
        async fn call(
            &self,
            address: &str,
            _: CallHeader,
            _: Vec<u8>,
            _: Duration,
        ) -> Result<Vec<u8>, CallError> {
            self.1.lock().unwrap().push(self.0.told());
            Err(CallError::Unreachable { address: address.to_owned(), detail: "a test".to_owned() })
        }
    }

    #[tokio::test]
    async fn a_commit_is_noted_as_told_before_anybody_can_hear_of_it() {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let ear = Ear(Notices::default(), heard.clone());
        let notices = ear.0.clone();
        let credentials = Credentials::new(1, None, SecretProof::new("test", "secret"));
        let mut factory = PeerNetworkFactory::<Tokio, _>::new(ear, credentials, notices);
        let member = Member {
            name: "two".to_owned(),
            api: String::new(),
            peer: String::new(),
            roles: BTreeSet::new(),
        };
        let (mut entries, mut heartbeats) =
            (factory.new_client(2, &member).await, factory.new_heartbeat_client(2, &member).await);
        let option = || RPCOption::new(Duration::from_secs(1));
        entries.append_entries(append(8, 9, 8), option()).await.unwrap_err();
        heartbeats.append_entries(append(9, 9, 9), option()).await.unwrap_err();
        // One that was made before.
        entries.append_entries(append(7, 8, 7), option()).await.unwrap_err();
        let heard: Vec<_> = heard.lock().unwrap().iter().map(|id| id.unwrap().index).collect();
        assert_eq!(heard, [8, 9, 9]);
    }

    #[test]
    fn only_a_member_that_lacks_much_of_what_is_committed_catches_up_with_rests() {
        let far = FAR_BEHIND_ENTRIES;
        assert!(is_far_behind(&append(100, 200, 201 + far)));
        assert!(!is_far_behind(&append(100, 200, 200 + far)), "after this one it is near");
        assert!(!is_far_behind(&append(100, 200, 150)), "the usual one runs ahead of commits");
        assert!(!is_far_behind(&append(100, 100, 200 + 2 * far)), "it has nothing to write");
    }
}
