//! The types that openraft is configured with, and the environment they run in.

use std::{
    cmp::Ordering,
    collections::BTreeSet,
    fmt,
    future::Future,
    marker::PhantomData,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use openraft::{AsyncRuntime, RaftTypeConfig, impls};
use pygmy_storage::{command::Applied, orders::Order};
use serde::{Deserialize, Serialize};

/// A Raft node id. Never used again once its disk is gone: a node that forgot its vote is another.
pub type NodeId = u64;
/// A Raft term.
pub type Term = u64;

/// What the replication needs of the world: a runtime, a place for blocking work, a clock.
///
/// The one way in which production and simulation differ. Everything in this crate is generic over
/// it, so that the same log store, state machine and node run under both.
pub trait Environment: fmt::Debug + Send + Sync + 'static {
    /// The runtime that openraft and our tasks run on.
    type Runtime: AsyncRuntime;

    /// Runs work that waits for a disk, off the async threads.
    fn blocking<T: Send + 'static>(
        work: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = T> + Send;

    /// Runs the log's writer, which does nothing but wait for a disk, on a thread of its own where there
    /// are threads. Every write waits for it: to hand each one to another thread and back costs more
    /// than the rest of what it does.
    fn spawn_writer(writer: impl Future<Output = ()> + Send + 'static);

    /// Like [`blocking`](Self::blocking), within [`spawn_writer`](Self::spawn_writer) only.
    fn blocking_in_writer<T: Send + 'static>(
        work: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = T> + Send;

    /// What work that nobody waits for does now and then, within [`blocking`](Self::blocking): rests for
    /// `times` as long as it has worked, so that others get the processor and the disk.
    fn rests(times: u32) -> impl FnMut() + Send + 'static;

    /// The wall clock in milliseconds since the Unix epoch, for stamping log time.
    fn clock_ms() -> u64;

    /// Random bytes, for ids.
    fn random_bytes() -> [u8; 16];
}

/// The longest rest.
const REST_MAX: Duration = Duration::from_millis(200);

/// Production: tokio, its blocking threads, the system's clock.
#[derive(Debug, Clone, Copy)]
pub struct Tokio;

impl Environment for Tokio {
    type Runtime = openraft_rt_tokio::TokioRuntime;

    async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        match tokio::task::spawn_blocking(work).await {
            Ok(value) => value,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is going down; whoever waits is about to be dropped as well.
                Err(_) => std::future::pending().await,
            },
        }
    }

    fn spawn_writer(writer: impl Future<Output = ()> + Send + 'static) {
        let runtime = tokio::runtime::Handle::current();
        // A blocking task, so that the runtime waits for it at its end.
        drop(tokio::task::spawn_blocking(move || runtime.block_on(writer)));
    }

    async fn blocking_in_writer<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        work()
    }

    fn rests(times: u32) -> impl FnMut() + Send + 'static {
        let mut since = Instant::now();
        move || {
            std::thread::sleep((since.elapsed() * times).min(REST_MAX));
            since = Instant::now();
        }
    }

    fn clock_ms() -> u64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
    }

    fn random_bytes() -> [u8; 16] {
        rand::random()
    }
}

/// openraft's type configuration in an environment.
pub struct TypeConfig<E>(PhantomData<fn() -> E>);

impl<E: Environment> RaftTypeConfig for TypeConfig<E> {
    type D = EntryData;
    type R = Option<Reply>;
    type NodeId = NodeId;
    type Node = Member;
    type Term = Term;
    type LeaderId = impls::leader_id_adv::LeaderId<Term, NodeId>;
    type Vote = impls::Vote<Self::LeaderId>;
    type Payload = openraft::EntryPayload<EntryData, NodeId, Member>;
    type Entry = openraft::Entry<Self::LeaderId, Self::Payload>;
    type AsyncRuntime = E::Runtime;
    type Responder<T>
        = impls::OneshotResponder<Self, T>
    where
        T: openraft::OptionalSend + 'static;
    type Batch<T>
        = impls::InlineBatch<T>
    where
        T: openraft::OptionalSend + 'static;
    type ErrorSource = impls::BoxedErrorSource;
}

// The derives would ask all of this of the environment, which is only a name here.
impl<E> Clone for TypeConfig<E> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<E> Copy for TypeConfig<E> {}
impl<E> Default for TypeConfig<E> {
    fn default() -> Self {
        Self(PhantomData)
    }
}
impl<E> PartialEq for TypeConfig<E> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
impl<E> Eq for TypeConfig<E> {}
impl<E> PartialOrd for TypeConfig<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<E> Ord for TypeConfig<E> {
    fn cmp(&self, _: &Self) -> Ordering {
        Ordering::Equal
    }
}
impl<E> fmt::Debug for TypeConfig<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TypeConfig")
    }
}

/// What a log entry carries: an encoded [`pygmy_storage::command::Proposal`]. Kept encoded from the
/// proposer to the apply, so that the log, the network and the cache only copy a reference to it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryData(pub Bytes);

impl fmt::Debug for EntryData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EntryData({} bytes)", self.0.len())
    }
}

impl fmt::Display for EntryData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// What came of a proposal, with what a reply to the client needs besides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// The outcome, the same on every replica.
    pub applied: Applied,
    /// The orders that the outcome names, in its order.
    pub orders: Vec<Arc<Order>>,
}

/// A member of the cluster, as the membership records it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Member {
    /// Its name, unique in the cluster.
    pub name: String,
    /// Address of its REST interface, `host:port`.
    pub api: String,
    /// Address of its peer listener, `host:port`.
    pub peer: String,
    /// What the facade asks it for.
    pub roles: BTreeSet<Role>,
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.peer)
    }
}

/// What a member serves. It replicates everything in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Role {
    /// Reads of items.
    Catalog,
    /// Reads of orders.
    Order,
}

impl Role {
    /// The name in configuration and interface.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Catalog => "catalog",
            Self::Order => "order",
        }
    }

    /// The role of a name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Catalog, Self::Order].into_iter().find(|role| role.as_str() == name)
    }
}

/// A cluster's id: minted at bootstrap, carried by every peer call.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterId(pub [u8; 16]);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl ClusterId {
    /// Reads the form that `Display` writes.
    pub fn parse(text: &str) -> Option<Self> {
        let well_formed = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let number = u128::from_str_radix(text, 16).ok().filter(|_| well_formed)?;
        Some(Self(number.to_be_bytes()))
    }
}

/// Short names for openraft's types in an environment.
pub mod alias {
    use super::{EntryData, Member, NodeId, Term};

    /// A log entry.
    pub type Entry = openraft::Entry<LeaderId, Payload>;
    /// A log id: leader and index.
    pub type LogId = openraft::LogId<LeaderId>;
    /// A leader's id: term and node.
    pub type LeaderId = openraft::impls::leader_id_adv::LeaderId<Term, NodeId>;
    /// A vote.
    pub type Vote = openraft::impls::Vote<LeaderId>;
    /// The payload of a log entry.
    pub type Payload = openraft::EntryPayload<EntryData, NodeId, Member>;
    /// A membership with the log id at which it was stored.
    pub type StoredMembership = openraft::StoredMembership<LeaderId, NodeId, Member>;
    /// What describes a snapshot.
    pub type SnapshotMeta = openraft::storage::SnapshotMeta<LeaderId, NodeId, Member>;
    /// A snapshot with its data.
    pub type Snapshot =
        openraft::storage::Snapshot<LeaderId, NodeId, Member, crate::state_machine::SnapshotFile>;
}
