//! The messages between members. Variants are only ever appended.

use bytes::Bytes;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use pygmy_storage::command::{Command, KeyClaim};
use serde::{Deserialize, Serialize};

use crate::{
    node::WriteError,
    types::{
        ClusterId, Environment, Member, NodeId, Reply, TypeConfig,
        alias::{SnapshotMeta, Vote},
    },
};

/// Bytes of a snapshot in one call.
pub const SNAPSHOT_CHUNK_BYTES: usize = 1 << 20;
/// The largest body of a peer call: a full append, or a chunk of a snapshot, with room.
pub const BODY_BYTES_MAX: usize = 16 << 20;

/// What one member asks of another.
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub enum PeerRequest<E: Environment> {
    /// Raft: append entries (Raft paper, figure 2).
    Append(AppendEntriesRequest<TypeConfig<E>>),
    /// Raft: request a vote.
    Vote(VoteRequest<TypeConfig<E>>),
    /// Raft: would you vote for me (Raft dissertation, 9.6).
    PreVote(VoteRequest<TypeConfig<E>>),
    /// Raft: take over (Raft dissertation, 3.10).
    TransferLeader(TransferLeaderRequest<TypeConfig<E>>),
    /// Raft: a piece of a snapshot.
    Snapshot(SnapshotChunk),
    /// To the leader: an index that linearizable reads must have (Raft dissertation, 6.4), with the vote that
    /// this member had after they began.
    ReadIndex(Vote),
    /// From the leader: what is your vote now.
    TellVote,
    /// To the leader: propose these.
    Propose(Vec<Proposed>),
    /// To the leader: how is the cluster.
    Status,
    /// Who are you. Answered also by a node that belongs to no cluster.
    Hello,
    /// Belong to this cluster. Accepted only by a node that belongs to none.
    Adopt(ClusterId),
    /// To the leader: take me in as a new member, in the place of the one with my name.
    Join(Member),
    /// To the leader: I have caught up; make me a voter.
    Promote,
}

/// A piece of a snapshot.
#[derive(Serialize, Deserialize)]
pub struct SnapshotChunk {
    /// The sending leader's vote.
    pub vote: Vote,
    /// What the snapshot contains.
    pub meta: SnapshotMeta,
    /// Tells one transfer from another.
    pub transfer: u64,
    /// Where in the file this piece belongs, in bytes.
    pub offset: u64,
    /// The piece.
    pub data: Bytes,
    /// Whether it is the last one: then the snapshot is installed before the reply.
    pub last: bool,
}

/// A write that is passed on to the leader, which stamps it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Proposed {
    /// The idempotency key.
    pub key: Option<KeyClaim>,
    /// What to do.
    pub command: Command,
}

/// Replies to [`PeerRequest`], variant by variant.
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub enum PeerResponse<E: Environment> {
    /// To `Append`.
    Append(AppendEntriesResponse<TypeConfig<E>>),
    /// To `Vote` and `PreVote`.
    Vote(VoteResponse<TypeConfig<E>>),
    /// To `TransferLeader`.
    TransferLeader(TransferLeaderResponse<TypeConfig<E>>),
    /// To `Snapshot`, when the piece was stored and more are wanted.
    SnapshotMore,
    /// To `Snapshot`, when the transfer is over: installed, or refused for a higher vote.
    SnapshotDone(SnapshotResponse<TypeConfig<E>>),
    /// To `Snapshot`, when the piece does not follow the one before: begin anew.
    SnapshotRestart,
    /// To `TellVote`.
    TellVote(Option<Vote>),
    /// To `ReadIndex`.
    ReadIndex(Result<u64, NotLeader>),
    /// To `Propose`, one each, in order.
    Propose(Vec<Result<Reply, WriteError>>),
    /// To `Status`.
    Status(Result<LeaderStatus, NotLeader>),
    /// To `Hello`.
    Hello(HelloReply),
    /// To `Adopt`: the cluster that the node belongs to now.
    Adopt(ClusterId),
    /// To `Join`: the cluster and the new node's id.
    Join(Result<(ClusterId, NodeId), MembershipError>),
    /// To `Promote`.
    Promote(Result<(), MembershipError>),
}

/// The receiver does not lead, and who does as far as it knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotLeader {
    /// The leader.
    pub leader: Option<(NodeId, Member)>,
}

/// Why a membership change did not happen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum MembershipError {
    /// Ask the leader.
    #[error("it does not lead; the leader is {0:?}")]
    NotLeader(NotLeader),
    /// Another change is under way, or the cluster could not agree on this one.
    #[error("the change did not happen: {0}")]
    Failed(String),
}

/// Who a node is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelloReply {
    /// Its name.
    pub name: String,
    /// Its node id; 0 while it has none.
    pub node_id: NodeId,
    /// The cluster it belongs to.
    pub cluster: Option<ClusterId>,
    /// Whether its log has ever held anything: the cluster has been formed.
    pub formed: bool,
    /// The newest index it has applied.
    pub applied_index: Option<u64>,
    /// The program's version.
    pub version: String,
}

/// How the cluster is, as the leader sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderStatus {
    /// The leader.
    pub leader: NodeId,
    /// Its term.
    pub term: u64,
    /// The newest index in its log.
    pub last_index: u64,
    /// Everybody, by id.
    pub members: Vec<MemberStatus>,
}

/// How a member is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// Its node id.
    pub id: NodeId,
    /// Who it is.
    pub member: Member,
    /// Whether it votes.
    pub voter: bool,
    /// Milliseconds since the leader last heard from it; `None` if it never did.
    pub last_heard_ms: Option<u64>,
    /// The newest index that the leader knows it has.
    pub matched_index: Option<u64>,
}
