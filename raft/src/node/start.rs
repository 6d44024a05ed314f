//! Starting a node: what is on the disk, what is wrong with it, and what to do about it.

use std::sync::{
    Arc, Mutex, Weak,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use futures_util::future::BoxFuture;
use openraft::{Config, Raft, SnapshotPolicy, metrics::WaitError, type_config::TypeConfigExt};
use pygmy_storage::{
    snapshot,
    store::{self, Origin},
    volume::Volume,
};
use tokio::sync::mpsc;

use super::{Node, Settings, bootstrap, membership, read, service, upkeep, write};
use crate::{
    identity::{Credentials, Identity},
    log_store::LogStore,
    network::{PeerNetworkFactory, SecretProof, Transport, notices::Notices},
    restore, sabotage,
    state_machine::StateMachine,
    types::{Environment, NodeId, TypeConfig},
};

/// The engine of the log.
pub(crate) const LOG_ENGINE: &str = "log";
/// How long a call that carries passed-on writes may take.
const FORWARD_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);

/// Why a node cannot start, or must not take part.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The log is damaged.
    #[error(
        "the log of this node is damaged ({location}/db/log): {source}.\n\
         It may have forgotten what it promised, so it must not take part any more. Move the \
         directory away and start it again with `--join`: it then comes back as a new member and \
         gets everything from the others"
    )]
    LogDamaged {
        /// The data directory.
        location: String,
        /// What is wrong.
        #[source]
        source: pygmy_storage::Error,
    },
    /// The log has been purged beyond what state and snapshot hold.
    #[error(
        "the state and every snapshot in {location} are lost ({damage}), and the log begins only \
         after index {purged}. Move the directory away and start this node again with `--join`: it \
         then comes back as a new member and gets everything from the others"
    )]
    StateLost {
        /// The data directory.
        location: String,
        /// What was wrong with state and snapshots.
        damage: String,
        /// The newest purged index.
        purged: u64,
    },
    /// The directory is empty, but the cluster exists.
    #[error(
        "the data of {name} is gone: its directory is empty, but cluster {cluster} exists and may \
         count on what it had. Start it again with `--join`: it then comes back as a new member and \
         gets everything from the others"
    )]
    DataGone {
        /// The member's name.
        name: String,
        /// The cluster.
        cluster: String,
    },
    /// The directory belongs to another member.
    #[error(
        "the data directory {location} belongs to {found}, not to {wanted}; check [node] name and \
         data_dir"
    )]
    OtherNode {
        /// The data directory.
        location: String,
        /// Whose it is.
        found: String,
        /// Whose it should be.
        wanted: String,
    },
    /// A restore into the directory was cut off.
    #[error(
        "{location} is half of what `pygmy restore` makes: it was cut off there. Run it again, with \
         the same file or another one: it begins from the start. Or move the directory away"
    )]
    HalfRestored {
        /// The data directory.
        location: String,
    },
    /// A member belongs to another cluster.
    #[error(
        "{name} belongs to another cluster; check the addresses, or reset the one that is wrong"
    )]
    OtherCluster {
        /// Which member.
        name: String,
    },
    /// The configuration does not list this member.
    #[error("{name} is not among the [[cluster.members]] of its own configuration")]
    NotListed {
        /// The member's name.
        name: String,
    },
    /// Others refuse this node.
    #[error("{0}")]
    Refused(String),
    /// Reading or writing failed.
    #[error(transparent)]
    Storage(#[from] pygmy_storage::Error),
    /// openraft refuses the configuration or what the disk holds.
    #[error("Raft cannot start: {0}")]
    Raft(String),
}

impl<E: Environment, T: Transport> Node<E, T> {
    /// Starts a node on a volume. It answers peers from now on, and forms or joins its cluster in
    /// the background: see [`established`](Self::establish).
    pub async fn start(
        volume: Arc<dyn Volume>,
        settings: Settings,
        transport: T,
    ) -> Result<Arc<Self>, StartError> {
        if restore::is_unfinished(&*volume)? {
            return Err(StartError::HalfRestored { location: volume.location() });
        }
        service::remove_incoming(&*volume)?;
        let identity =
            identify::<E, T>(volume.clone(), settings.clone(), transport.clone()).await?;
        let location = volume.location();
        let log = {
            let engine = volume.open_journal(LOG_ENGINE);
            let opened = engine.and_then(|e| LogStore::<E>::open(e, settings.log_cache_bytes));
            opened.map_err(|source| match source.is_damage() {
                true => StartError::LogDamaged { location: location.clone(), source },
                false => StartError::Storage(source),
            })?
        };
        let (mut machine, origin) = StateMachine::<E>::open(volume.clone(), settings.checkpoint)?;
        machine.follow(log.clone());
        log.check_vote(machine.last_applied().is_some())
            .map_err(|source| StartError::LogDamaged { location: location.clone(), source })?;
        check_origin(&*volume, &origin, log.purged_index(), machine.last_applied())?;

        let proof = SecretProof::new(&settings.cluster_name, &settings.secret);
        let credentials = Credentials::new(identity.node_id, identity.cluster, proof);
        let published = machine.published();
        let notices = Notices::default();
        let network =
            PeerNetworkFactory::new(transport.clone(), credentials.clone(), notices.clone());
        let config = raft_config(&settings).map_err(|e| StartError::Raft(e.to_string()))?;
        // Boxed for the same reason as in `identify`.
        let raft: BoxFuture<'static, _> =
            Box::pin(Raft::new(identity.node_id, Arc::new(config), network, log.clone(), machine));
        let raft = raft.await.map_err(|e| StartError::Raft(e.to_string()))?;

        let (read_index, reads) = mpsc::channel(settings.waiting_max);
        let (submit, submitted) = mpsc::channel(settings.waiting_max);
        let (forward, forwards) = mpsc::channel(settings.waiting_max);
        let node = Arc::new(Self {
            credentials,
            volume,
            raft,
            log,
            published,
            notices,
            transport,
            started: TypeConfig::<E>::now(),
            leader_contact_ms: AtomicU64::new(0),
            recovered: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            read_index,
            submit,
            forward,
            incoming: tokio::sync::Mutex::new(None),
            restocked: Mutex::new(None),
            snapshot_requested: AtomicU64::new(0),
            settings,
        });
        let weak = Arc::downgrade(&node);
        drop(TypeConfig::<E>::spawn(read::run_rounds(weak.clone(), reads)));
        drop(TypeConfig::<E>::spawn(write::run_submitter(node.raft.clone(), submitted)));
        drop(TypeConfig::<E>::spawn(write::run_forwarder(weak.clone(), forwards, FORWARD_TIMEOUT)));
        drop(TypeConfig::<E>::spawn(upkeep::run(weak.clone())));
        drop(TypeConfig::<E>::spawn(await_recovery(weak.clone())));
        if node.settings.join {
            drop(TypeConfig::<E>::spawn(membership::run_promotion(weak)));
        }
        Ok(node)
    }

    /// Forms the cluster or waits to be told of it, where the node belongs to none yet. The peer
    /// listener must be up: the others ask this node as well.
    ///
    /// Errors: this node must not take part, and why.
    pub fn establish(self: &Arc<Self>) -> BoxFuture<'static, Result<(), StartError>> {
        Box::pin(bootstrap::run(Arc::downgrade(self)))
    }
}

/// What is known of a node before it starts.
struct Known {
    node_id: NodeId,
    cluster: Option<crate::types::ClusterId>,
}

fn identify<E: Environment, T: Transport>(
    volume: Arc<dyn Volume>,
    settings: Settings,
    transport: T,
) -> BoxFuture<'static, Result<Known, StartError>> {
    // Boxed and owned: the compiler cannot prove the nested futures `Send` otherwise.
    Box::pin(async move {
        let name = settings.member.name.clone();
        if let Some(identity) = Identity::load(&*volume)? {
            if identity.name != name {
                let location = volume.location();
                return Err(StartError::OtherNode { location, found: identity.name, wanted: name });
            }
            return Ok(Known { node_id: identity.node_id, cluster: Some(identity.cluster) });
        }
        if settings.join {
            let (cluster, node_id) = bootstrap::join::<E, T>(settings, transport).await?;
            Identity { name, node_id, cluster }.store(&*volume)?;
            tracing::info!(%cluster, node_id, "taken in as a new member");
            return Ok(Known { node_id, cluster: Some(cluster) });
        }
        match settings.bootstrap.iter().find(|(_, member)| member.name == name) {
            Some((node_id, _)) => Ok(Known { node_id: *node_id, cluster: None }),
            None => Err(StartError::NotListed { name }),
        }
    })
}

/// Checks that nothing is missing between state and log.
fn check_origin(
    volume: &dyn Volume,
    origin: &Origin,
    purged: Option<u64>,
    applied: Option<crate::types::alias::LogId>,
) -> Result<(), StartError> {
    let damage = match origin {
        Origin::Empty | Origin::Checkpoint => String::new(),
        Origin::Snapshot { damage } => {
            tracing::warn!(?damage, "the state was rebuilt from the newest snapshot");
            damage.join("; ")
        }
        Origin::Lost { damage } => {
            tracing::warn!(?damage, "the state is lost; the log rebuilds it if it can");
            damage.join("; ")
        }
    };
    let Some(purged) = purged else { return Ok(()) };
    let reaches = |index: Option<u64>| index.is_some_and(|index| index >= purged);
    // A state that is behind what was purged is brought forward by openraft, from the snapshot.
    if reaches(applied.map(|id| id.index)) || reaches(newest_whole_snapshot(volume)?) {
        return Ok(());
    }
    Err(StartError::StateLost { location: volume.location(), damage, purged })
}

/// The newest index in the newest snapshot, if that is whole.
fn newest_whole_snapshot(volume: &dyn Volume) -> Result<Option<u64>, StartError> {
    let Some((name, header, _)) = store::newest_snapshot(volume)? else { return Ok(None) };
    let (mut input, _) = volume.open_file(&name)?;
    match snapshot::verify(&mut input) {
        Ok(_) => Ok(header.applied),
        Err(error) if error.is_damage() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn raft_config(settings: &Settings) -> Result<Config, openraft::ConfigError> {
    let timing = settings.timing;
    let election_max = super::millis(timing.election_max);
    Config {
        cluster_name: settings.cluster_name.clone(),
        heartbeat_interval: super::millis(timing.heartbeat),
        election_timeout_min: super::millis(timing.election_min),
        election_timeout_max: election_max,
        // Entries in one AppendEntries call; bytes are bounded by the log's reader.
        max_payload_entries: 1024,
        // A follower gets a snapshot only when the log no longer has what it needs.
        replication_lag_threshold: u64::MAX / 2,
        // This node triggers snapshots and purges by itself; see `upkeep`. Without the second line
        // openraft would purge right after each snapshot, checkpoint or not.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        enable_pre_vote: Some(true),
        // Off by default (openraft#2080): a leader cut off from its quorum stops holding voters back.
        quorum_loss_probe_interval: Some(election_max * 4),
        broadcast_submitted_on_append: Some(true),
        // On by default in this version, and wrong together with the line above: a leader that
        // crashed with entries sent but not synced would lead on in the same term and give their log
        // ids to others.
        enable_leader_restore: Some(sabotage::active(sabotage::LEADER_RESTORE)),
        allow_log_reversion: Some(false),
        backoff: "50ms 100ms ..500ms".to_owned(),
        ..Config::default()
    }
    .validate()
}

/// Allows reads once the state is as new as any that this node can have shown before it was stopped.
/// What it had applied may be ahead of the `committed` that it had synced.
async fn await_recovery<E: Environment, T: Transport>(node: Weak<Node<E, T>>) {
    loop {
        let raft = match node.upgrade() {
            Some(node) => node.raft.clone(),
            None => return,
        };
        match raft.wait_for_recovery(Some(std::time::Duration::from_secs(5))).await {
            Ok(_) => {
                if let Some(node) = node.upgrade() {
                    // What was committed to this node came from a leader.
                    node.heard_from_leader();
                    node.recovered.store(true, Ordering::Release);
                    tracing::info!(index = node.view().index(), "caught up; reads are served");
                }
                return;
            }
            // The core has stopped, in order or not: it will not catch up any more.
            Err(WaitError::ShuttingDown) => return,
            Err(error @ WaitError::Timeout(..)) => tracing::info!(%error, "not caught up yet"),
        }
    }
}
