//! openraft's state machine as a thin adapter on `storage`: decodes entries, applies them, publishes
//! the state, and writes checkpoints and snapshots behind the apply.

use std::{
    io::{self, Read},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use futures_util::{Stream, StreamExt, stream};
use openraft::{
    EntryPayload, OptionalSend, RaftSnapshotBuilder,
    storage::{ApplyResponder, EntryResponder, RaftStateMachine},
    type_config::TypeConfigExt,
};
use pygmy_storage::{
    Error,
    apply::{self, Effects},
    checkpoint::Dirty,
    codec,
    command::{Applied, Outcome, Proposal},
    history::{History, Pin},
    orders::OrderId,
    query::View,
    search::Index,
    state::{Packed, State},
    store::{self, Origin, StateStore},
    volume::Volume,
    working::Working,
};
use tokio::sync::oneshot;

use crate::{
    changes::ChangeFeed,
    log_store::LogStore,
    progress::Progress,
    sabotage,
    types::{
        Environment, Reply, TypeConfig,
        alias::{Entry, LogId, Snapshot, SnapshotMeta, StoredMembership},
    },
};

/// Entries after which the state is published and clients are answered, within one apply.
const PUBLISH_EVERY: usize = 256;

/// How much longer each work behind the apply rests than it works, so that those who are served notice
/// little of it. Members of one machine write their checkpoints and build their snapshots at about the same
/// time; a few of them together take what one may. A checkpoint must keep up with the load, and a
/// member that installs a snapshot is missed meanwhile.
const CHECKPOINT_RESTS: u32 = 2;
pub(crate) const SNAPSHOT_RESTS: u32 = 8;
const INSTALL_RESTS: u32 = 1;

/// When to write a checkpoint.
#[derive(Debug, Clone, Copy)]
pub struct CheckpointPolicy {
    /// After so many entries.
    pub entries: u64,
    /// After so much time, if there were any.
    pub interval: Duration,
}

/// What the state machine shares with readers.
#[derive(Debug)]
pub struct Published {
    /// The newest one; the feed answers from it too.
    view: Arc<ArcSwap<View>>,
    /// The number of applied entries, which is the index of the next one.
    applied: Progress,
    checkpointed: Progress,
    /// Finds items by words; behind the state, and absent at first.
    index: ArcSwapOption<Index>,
    /// Whether somebody asked for it since the last look.
    index_asked: AtomicBool,
    /// The live feed of what changed.
    pub changes: ChangeFeed,
}

impl Published {
    fn new(view: View) -> Self {
        let (next, index) = (next_index(&view.state), view.index());
        let view = Arc::new(ArcSwap::from_pointee(view));
        Self {
            changes: ChangeFeed::new(view.clone(), index),
            view,
            applied: Progress::new(next),
            checkpointed: Progress::new(next),
            index: ArcSwapOption::empty(),
            index_asked: AtomicBool::new(false),
        }
    }

    /// The newest state.
    pub fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// The search index, for views that are taken after it.
    pub fn index(&self) -> Option<Arc<Index>> {
        self.index_asked.store(true, Ordering::Relaxed);
        self.index.load_full()
    }

    /// Whether somebody asked for the search index since the last call.
    pub(crate) fn was_index_asked(&self) -> bool {
        self.index_asked.swap(false, Ordering::Relaxed)
    }

    /// Lets the search index catch up with the state, and says whether it had to. By one caller at a
    /// time, and not on a thread that serves others: the first one of a large catalog takes seconds.
    pub(crate) fn advance_index(&self) -> bool {
        let before = self.index.load_full();
        let advanced = Index::advance(before.as_deref(), &self.view().state);
        let is_new = advanced.is_some();
        if let Some(index) = advanced {
            self.index.store(Some(Arc::new(index)));
        }
        is_new
    }

    /// The index of the first entry that is in no checkpoint.
    pub fn checkpointed(&self) -> u64 {
        self.checkpointed.get()
    }

    /// Waits until the entry at an index is applied, and gives a state that has it.
    pub async fn at_index(&self, index: u64) -> Arc<View> {
        self.applied.beyond(index).await;
        self.view()
    }

    fn publish(&self, view: View) {
        let (next, index) = (next_index(&view.state), view.index());
        self.view.store(Arc::new(view));
        self.changes.set(index);
        self.applied.set(next);
    }

    fn replace(&self, view: View) {
        let next = next_index(&view.state);
        self.publish(view);
        self.checkpointed.set(next);
    }
}

fn next_index(state: &State) -> u64 {
    state.applied().map_or(0, |index| index + 1)
}

/// The state machine of one node.
pub struct StateMachine<E: Environment> {
    volume: Arc<dyn Volume>,
    store: Arc<Mutex<StateStore>>,
    published: Arc<Published>,
    /// The state that entries are applied to; ahead of the published one within a round only.
    working: Working,
    history: Arc<History>,
    membership: StoredMembership,
    last_applied: Option<LogId>,
    /// What changed since the last checkpoint began.
    dirty: Dirty,
    /// The checkpoint that is being written: the index it covers, and its end.
    running: Option<(u64, oneshot::Receiver<io::Result<Packed>>)>,
    /// Where the last checkpoint began, and when.
    last: (u64, openraft::type_config::alias::InstantOf<TypeConfig<E>>),
    policy: CheckpointPolicy,
    /// The log whose entries are applied, where there is one.
    log: Option<LogStore<E>>,
}

impl<E: Environment> StateMachine<E> {
    /// Opens what the volume holds. The origin says what was found.
    pub fn open(
        volume: Arc<dyn Volume>,
        policy: CheckpointPolicy,
    ) -> pygmy_storage::Result<(Self, Origin)> {
        let (store, view, origin) = StateStore::open(volume.clone())?;
        let (last_applied, membership) = decode_raft(view.state.raft())?;
        let published = Arc::new(Published::new(view.clone()));
        let machine = Self {
            volume,
            store: Arc::new(Mutex::new(store)),
            published,
            last: (next_index(&view.state), TypeConfig::<E>::now()),
            working: Working::new(view.state),
            history: view.history,
            membership,
            last_applied,
            dirty: Dirty::default(),
            running: None,
            policy,
            log: None,
        };
        Ok((machine, origin))
    }

    /// Never lets a checkpoint get ahead of what is durable of this log.
    pub fn follow(&mut self, log: LogStore<E>) {
        self.log = Some(log);
    }

    /// What readers see.
    pub fn published(&self) -> Arc<Published> {
        self.published.clone()
    }

    /// The newest applied entry.
    pub fn last_applied(&self) -> Option<LogId> {
        self.last_applied
    }

    fn view(&self) -> View {
        View { state: self.working.state().clone(), history: self.history.clone() }
    }

    fn apply_entry(&mut self, entry: &Entry, effects: &mut Effects) -> io::Result<Option<Reply>> {
        let index = entry.log_id.index;
        let reply = match &entry.payload {
            EntryPayload::Normal(data) => {
                let mut proposal = Proposal::decode(&data.0)?;
                if sabotage::active(sabotage::IGNORE_KEYS) {
                    proposal.key = None;
                }
                let applied = apply::apply(&mut self.working, index, &proposal, effects);
                Some(self.reply(applied)?)
            }
            EntryPayload::Blank => {
                apply::apply_blank(&mut self.working, index);
                None
            }
            EntryPayload::Membership(membership) => {
                self.membership = StoredMembership::new(Some(entry.log_id), membership.clone());
                apply::apply_blank(&mut self.working, index);
                None
            }
        };
        self.last_applied = Some(entry.log_id);
        Ok(reply)
    }

    /// Adds to an outcome what a reply needs besides. Not part of the outcome: reads only.
    fn reply(&self, applied: Applied) -> io::Result<Reply> {
        let find = |id| self.working.state().find_order(id).or_history(&self.history);
        let orders = match &applied.outcome {
            Outcome::Ordered(id) => find(*id)?.into_iter().collect(),
            Outcome::Batch(batch) => {
                let found = batch.orders().filter_map(|id| find(id).transpose());
                found.collect::<Result<_, _>>()?
            }
            Outcome::Item(_)
            | Outcome::Restocked(_)
            | Outcome::PolicySet
            | Outcome::NodeId(_)
            | Outcome::Rejected(_)
            | Outcome::Deleted { .. }
            | Outcome::Imported(_)
            | Outcome::Cancelled(_)
            | Outcome::Reservation(_)
            | Outcome::MaintenanceSet(_)
            | Outcome::Ticked => Vec::new(),
        };
        Ok(Reply { applied, orders })
    }

    /// Ends a round: publishes the state, then answers those who wait for it.
    fn publish(
        &mut self,
        effects: &mut Effects,
        replies: &mut Vec<(ApplyResponder<TypeConfig<E>>, Option<Reply>)>,
    ) {
        self.working.set_raft(encode_raft(self.last_applied, &self.membership));
        self.dirty.take(effects);
        self.published.publish(self.view());
        for (responder, reply) in replies.drain(..) {
            responder.send(reply);
        }
    }

    /// Starts a checkpoint if one is due, and takes in the end of the one that ran. Also called
    /// from time to time without an apply, so that an idle node gets level.
    ///
    /// Errors: a checkpoint that failed. The node must stop.
    pub fn drive_checkpoint(&mut self) -> io::Result<()> {
        if let Some((covers, ended)) = &mut self.running {
            let covers = *covers;
            match ended.try_recv() {
                Err(oneshot::error::TryRecvError::Empty) => return Ok(()),
                Err(oneshot::error::TryRecvError::Closed) => {
                    return Err(io::Error::other("the task that wrote a checkpoint was lost"));
                }
                Ok(result) => {
                    self.working.forget_packed(result?);
                    self.published.checkpointed.set(covers);
                    self.running = None;
                }
            }
        }
        let next = next_index(self.working.state());
        let entries = next.saturating_sub(self.last.0);
        let due = entries >= self.policy.entries
            || (entries > 0 && TypeConfig::<E>::now() - self.last.1 >= self.policy.interval);
        if due {
            self.start_checkpoint(next);
        }
        Ok(())
    }

    fn start_checkpoint(&mut self, next: u64) {
        let (done, ended) = oneshot::channel();
        let store = self.store.clone();
        let state = self.published.view().state.clone();
        let dirty = std::mem::take(&mut self.dirty);
        self.last = (next, TypeConfig::<E>::now());
        self.running = Some((next, ended));
        let log = self.log.clone();
        let task = async move {
            // Others commit an entry, and this node applies it, while its own disk is still at it. A
            // state that a power cut left ahead of its log would have a hole between the two.
            let synced = match &log {
                Some(log) => log.sync().await,
                None => Ok(()),
            };
            let write = move || {
                let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
                let mut rest = E::rests(CHECKPOINT_RESTS);
                store.checkpoint(&state, &dirty, &mut rest).map_err(io::Error::from)
            };
            let result = match synced {
                Ok(()) => E::blocking(write).await,
                Err(error) => Err(error),
            };
            if let Err(error) = &result {
                tracing::error!(%error, "writing a checkpoint failed; this node must stop");
            }
            // Nobody waits any more when the state machine is gone.
            let _ = done.send(result);
        };
        drop(TypeConfig::<E>::spawn(task));
    }

    /// Writes a checkpoint of all that is applied and waits for it: before a clean stop.
    pub async fn checkpoint_now(&mut self) -> io::Result<()> {
        if let Some((_, ended)) = self.running.take() {
            ended.await.map_err(io::Error::other)??;
        }
        self.start_checkpoint(next_index(self.working.state()));
        if let Some((covers, ended)) = self.running.take() {
            ended.await.map_err(io::Error::other)??;
            self.published.checkpointed.set(covers);
        }
        Ok(())
    }
}

/// What is stored with a state: the last entry in it, and who takes part.
pub(crate) fn encode_raft(last_applied: Option<LogId>, membership: &StoredMembership) -> Arc<[u8]> {
    codec::encode(&(last_applied, membership)).into()
}

fn decode_raft(bytes: &[u8]) -> pygmy_storage::Result<(Option<LogId>, StoredMembership)> {
    match bytes.is_empty() {
        true => Ok((None, StoredMembership::default())),
        false => codec::decode(bytes, "last applied and membership"),
    }
}

impl<E: Environment> RaftStateMachine<TypeConfig<E>> for StateMachine<E> {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = SnapshotBuilder<E>;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.last_applied, self.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig<E>>>> + Unpin + OptionalSend,
    {
        let mut effects = Effects::default();
        let mut replies = Vec::new();
        let mut unpublished = 0;
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            let reply = self.apply_entry(&entry, &mut effects)?;
            if let Some(responder) = responder {
                replies.push((responder, reply));
            }
            unpublished += 1;
            if unpublished >= PUBLISH_EVERY {
                self.publish(&mut effects, &mut replies);
                unpublished = 0;
            }
        }
        self.publish(&mut effects, &mut replies);
        self.drive_checkpoint()
    }

    async fn get_snapshot_builder(&mut self) -> Self::SnapshotBuilder {
        let view = self.published.view();
        SnapshotBuilder {
            volume: self.volume.clone(),
            // The newest view has all of its history, so this is never refused; if it were, the
            // export would say so.
            _pin: view.pin().ok(),
            view,
            _environment: std::marker::PhantomData,
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotFile,
    ) -> io::Result<()> {
        // A checkpoint of the state that is about to go must not come after it.
        if let Some((_, ended)) = self.running.take() {
            ended.await.map_err(io::Error::other)??;
        }
        let (store, volume) = (self.store.clone(), self.volume.clone());
        let install = move || {
            let file = snapshot.into_volume(&volume)?;
            let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
            store.install(&file, &mut E::rests(INSTALL_RESTS))
        };
        let view = E::blocking(install).await?;
        let (last_applied, membership) = decode_raft(view.state.raft())?;
        if last_applied != meta.last_log_id {
            let detail = format!("it holds {last_applied:?}, not {:?}", meta.last_log_id);
            return Err(Error::corrupt("the snapshot", detail).into());
        }
        tracing::info!(
            index = view.index(),
            items = view.state.item_count(),
            orders = view.state.order_count(),
            "installed a snapshot"
        );
        (self.last_applied, self.membership) = (last_applied, membership);
        self.working = Working::new(view.state.clone());
        self.history = view.history.clone();
        self.dirty.clear();
        self.last = (next_index(self.working.state()), TypeConfig::<E>::now());
        self.published.replace(view);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        let volume = self.volume.clone();
        let newest = {
            let volume = volume.clone();
            E::blocking(move || store::newest_snapshot(&*volume)).await?
        };
        let Some((name, header, bytes)) = newest else { return Ok(None) };
        let meta = snapshot_meta(&header.raft)?;
        Ok(Some(Snapshot { meta, snapshot: SnapshotFile { volume, name, bytes } }))
    }
}

/// The meta data of a snapshot from what its first frame holds.
pub(crate) fn snapshot_meta(raft: &[u8]) -> pygmy_storage::Result<SnapshotMeta> {
    let (last_log_id, last_membership) = decode_raft(raft)?;
    Ok(SnapshotMeta { last_log_id, last_membership })
}

/// A snapshot in a node's volume, by name: as large as it likes, never in memory as a whole.
#[derive(Clone, Debug)]
pub struct SnapshotFile {
    volume: Arc<dyn Volume>,
    name: String,
    bytes: u64,
}

impl SnapshotFile {
    /// A committed file of a volume.
    pub fn new(volume: Arc<dyn Volume>, name: String, bytes: u64) -> Self {
        Self { volume, name, bytes }
    }

    /// The name of the file in a volume; it is copied there when it is in another.
    fn into_volume(self, volume: &Arc<dyn Volume>) -> pygmy_storage::Result<String> {
        if Arc::ptr_eq(volume, &self.volume) {
            return Ok(self.name);
        }
        let name = format!("incoming-{}", self.name);
        let mut file = volume.create_file(&name)?;
        io::copy(&mut self.open()?, &mut file)
            .map_err(|e| Error::io(format!("copying the snapshot {}", self.name), e))?;
        file.commit()?;
        Ok(name)
    }

    /// Its length in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Opens it from its beginning.
    pub fn open(&self) -> pygmy_storage::Result<Box<dyn Read + Send>> {
        Ok(self.volume.open_file(&self.name)?.0)
    }
}

/// Builds a snapshot of the state it was made with; the state machine goes on meanwhile.
pub struct SnapshotBuilder<E> {
    volume: Arc<dyn Volume>,
    view: Arc<View>,
    /// Checkpoints go on meanwhile, and delete nothing that the view still tells of.
    _pin: Option<Pin>,
    _environment: std::marker::PhantomData<fn() -> E>,
}

impl<E: Environment> RaftSnapshotBuilder<TypeConfig<E>> for SnapshotBuilder<E> {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let (volume, view) = (self.volume.clone(), self.view.clone());
        let meta = snapshot_meta(view.state.raft())?;
        tracing::info!(index = ?meta.last_log_id.map(|id| id.index), "building a snapshot");
        let built = {
            let volume = volume.clone();
            let build =
                move || store::build_snapshot(&*volume, &view, &mut E::rests(SNAPSHOT_RESTS));
            E::blocking(build).await
        };
        let (name, bytes) = built?;
        tracing::info!(index = ?meta.last_log_id.map(|id| id.index), bytes, "built a snapshot");
        Ok(Snapshot { meta, snapshot: SnapshotFile { volume, name, bytes } })
    }
}

/// The newest order's number, for those who only count.
pub fn order_count(view: &View) -> OrderId {
    view.state.order_count()
}

/// A stream over ready entries, for tests that apply without a Raft core.
pub fn entries_stream<E: Environment>(
    entries: Vec<Entry>,
) -> impl Stream<Item = io::Result<EntryResponder<TypeConfig<E>>>> + Unpin + Send {
    stream::iter(entries.into_iter().map(|entry| Ok((entry, None))))
}
