//! The composition root: what a node and a facade are made of, and how they end.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use pygmy_raft::{
    network::http::{HttpTransport, router as peer_router},
    node::{Node, Settings, Timing},
    state_machine::CheckpointPolicy,
    types::{Member, NodeId, Tokio},
};
use pygmy_storage::{command::Policy, volume::DirVolume};
use tokio::{
    net::TcpListener,
    runtime::Builder,
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};

use crate::{
    config::{FacadeConfig, MemberConfig, NodeConfig},
    facade::{Facade, Settings as FacadeSettings},
    http::{
        frames::with_frames,
        node::{Settings as ApiSettings, app as api_app},
        rate_limit::RateLimit,
        serve::{self, Limits},
    },
    scheduling,
};

/// How long requests that are under way may take at a stop.
const DRAIN: Duration = Duration::from_secs(5);
/// Bytes of the log's end that are kept in memory.
const LOG_CACHE_BYTES: usize = 16 << 20;
/// Reads, and writes that are passed on, that may wait at once; the interface's own bound is lower.
const WAITING_MAX: usize = 16_384;
/// Connections of peers: a few from each member.
const PEER_CONNECTIONS_MAX: usize = 1024;

/// The threads that serve.
#[derive(Debug, Clone, Copy)]
pub struct Threads {
    /// How many.
    pub count: usize,
    /// Whether they may wait for their turns on a processor, with SCHED_BATCH (sched(7)).
    pub batch_scheduling: bool,
}

/// Runs a server on threads of its own, and ends them when it ends.
pub async fn on_threads(
    threads: Threads,
    server: impl Future<Output = anyhow::Result<()>> + Send + 'static,
) -> anyhow::Result<()> {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(threads.count).enable_all();
    if threads.batch_scheduling {
        builder.on_thread_start(scheduling::on_start).on_thread_park(scheduling::on_park);
    }
    let runtime = builder.build().context("the operating system gives no threads")?;
    let ended = runtime.spawn(server).await;
    // It waits for the log's writer, which may wait for the disk.
    tokio::task::spawn_blocking(move || drop(runtime)).await.context("ending the threads")?;
    ended.context("the server was cut off")?
}

/// Runs a node until it is told to stop, or until it must.
///
/// Errors: it could not start, or a fault stopped it; the process must end with a failure.
pub async fn serve_node(config: NodeConfig) -> anyhow::Result<()> {
    let mut signals = StopSignals::catch()?;
    let api_listener = bind(config.api.listen, "api.listen").await?;
    let peer_listener = bind(config.peer.listen, "peer.listen").await?;
    let data_dir = config.node.data_dir.clone();
    let cache_bytes = config.storage.cache_mb << 20;
    let volume = tokio::task::spawn_blocking(move || DirVolume::open(&data_dir, cache_bytes))
        .await
        .context("opening the data directory was cut off")??;

    tracing::info!(
        name = config.node.name,
        version = env!("CARGO_PKG_VERSION"),
        data = %config.node.data_dir.display(),
        api = %config.api.listen,
        peer = %config.peer.listen,
        "starting"
    );
    if cfg!(feature = "sabotage") {
        tracing::warn!("this build can put known bugs back: for tests only, never for data");
    }
    let transport = HttpTransport::new().context("setting up the peer client")?;
    let node =
        Node::<Tokio, _>::start(Arc::new(volume), node_settings(&config)?, transport).await?;
    drop(tokio::spawn(node.keep_index()));

    let (stop, stopping) = watch::channel(false);
    let stopped = |mut stopping: watch::Receiver<bool>| async move {
        // A sender that is gone means stop as well.
        let _ = stopping.wait_for(|stop| *stop).await;
    };
    let (peer_stop, peer_stopping) = watch::channel(false);
    let peers = tokio::spawn(serve::serve(
        peer_listener,
        peer_router(node.clone()),
        Limits { max_connections: PEER_CONNECTIONS_MAX, ..Limits::default() },
        stopped(peer_stopping),
        Duration::from_secs(1),
    ));
    let limits = Limits {
        max_connections: config.api.max_connections,
        header_timeout: Duration::from_millis(config.api.header_timeout_ms),
        first_byte_timeout: Duration::from_millis(config.api.header_timeout_ms),
        tell_peer: config.api.rate_limit.is_some(),
        ..Limits::default()
    };
    let (drain, draining) = watch::channel(false);
    let app = api_app(node.clone(), api_settings(&config), draining);
    let (app, frames) = with_frames(app);
    let mut api = tokio::spawn(serve::serve(api_listener, app, limits, stopped(stopping), DRAIN));

    let establishing = node.clone();
    let mut established = tokio::spawn(async move { establishing.establish().await });
    let mut forming = true;
    let fault = loop {
        tokio::select! {
            result = &mut established, if forming => match result {
                Ok(Ok(())) => forming = false,
                Ok(Err(error)) => break Some(error.to_string()),
                Err(error) => break Some(format!("forming the cluster was cut off: {error}")),
            },
            reason = node.stopped() => break Some(format!("the Raft core has stopped: {reason}")),
            ended = &mut api => break Some(format!("the API listener has ended: {ended:?}")),
            signal = signals.told_to_stop() => {
                tracing::info!(signal, "stopping");
                break None;
            }
        }
    };
    if let Some(fault) = fault {
        // Whatever is in memory may be wrong: nothing is finished, nothing is written.
        bail!("{fault}");
    }
    // Those who follow go on elsewhere before anybody else has to.
    drain.send_replace(true);
    node.hand_over().await;
    stop.send_replace(true);
    match api.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "the API listener did not end well"),
        Err(error) => tracing::warn!(%error, "the API listener did not end well"),
    }
    frames.end(DRAIN).await;
    node.stop().await;
    peer_stop.send_replace(true);
    if let Err(error) = peers.await {
        tracing::warn!(%error, "the peer listener did not end well");
    }
    tracing::info!("stopped");
    Ok(())
}

/// Runs a facade until it is told to stop.
///
/// Errors: it could not start, or its listener failed.
pub async fn serve_facade(config: FacadeConfig) -> anyhow::Result<()> {
    let mut signals = StopSignals::catch()?;
    let section = config.facade;
    let listener = bind(section.listen, "facade.listen").await?;
    tracing::info!(
        name = section.name,
        version = env!("CARGO_PKG_VERSION"),
        listen = %section.listen,
        seeds = ?section.seeds,
        "starting"
    );
    let limits = Limits {
        max_connections: section.max_connections,
        header_timeout: Duration::from_millis(section.header_timeout_ms),
        first_byte_timeout: Duration::from_millis(section.header_timeout_ms),
        tell_peer: section.rate_limit.is_some(),
        ..Limits::default()
    };
    let facade = Facade::start(FacadeSettings {
        name: section.name,
        seeds: section.seeds,
        deadline: Duration::from_millis(section.deadline_ms),
        attempt_timeout: Duration::from_millis(section.attempt_timeout_ms),
        cache_ttl: Duration::from_secs(section.cache_ttl_s),
        cache_entries: section.cache_entries,
        max_in_flight: section.max_in_flight,
        max_feeds: section.max_feeds,
        body_limit: section.body_limit_bytes,
        legacy_get_buy: section.legacy_get_buy,
        rate_limit: section.rate_limit.map(RateLimit::new),
        ..FacadeSettings::default()
    });
    let told = facade.clone();
    let stop = async move {
        let signal = signals.told_to_stop().await;
        tracing::info!(signal, "stopping");
        told.begin_shutdown();
    };
    let served = serve::serve(listener, facade.app(), limits, stop, DRAIN).await;
    facade.shutdown();
    tracing::info!("stopped");
    served.context("the listener failed")
}

async fn bind(address: SocketAddr, key: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("{key}: cannot listen on {address}; is something else using it?"))
}

/// The signals that ask a process to end. Caught from the first moment on, so that one that comes
/// during the start is not lost and does not cut the start off half-way.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    fn catch() -> anyhow::Result<Self> {
        let catch = |kind| signal(kind).context("signals cannot be received");
        Ok(Self {
            terminate: catch(SignalKind::terminate())?,
            interrupt: catch(SignalKind::interrupt())?,
        })
    }

    /// Waits for one and names it.
    async fn told_to_stop(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

fn api_settings(config: &NodeConfig) -> ApiSettings {
    ApiSettings {
        request_timeout: Duration::from_millis(config.api.request_timeout_ms),
        body_limit_bytes: config.api.body_limit_bytes,
        max_in_flight: config.api.max_in_flight,
        max_batch_orders: config.api.max_batch_orders,
        legacy_get_buy: config.api.legacy_get_buy,
        rate_limit: config.api.rate_limit.clone().map(RateLimit::new),
        max_feeds: config.api.max_feeds,
        feed_comment_interval: Duration::from_secs(config.api.feed_comment_s),
        import_limit_bytes: config.api.import_limit_bytes,
        max_imports: config.api.max_imports,
    }
}

fn node_settings(config: &NodeConfig) -> anyhow::Result<Settings> {
    let bootstrap: Vec<(NodeId, Member)> =
        config.cluster.members.iter().map(|row| (row.id, member(row))).collect();
    let policy = &config.policy;
    Ok(Settings {
        member: member(config.member()),
        bootstrap,
        join: config.cluster.join,
        cluster_name: config.cluster.name.clone(),
        secret: config.cluster.secret.expose().to_owned(),
        timing: Timing {
            heartbeat: Duration::from_millis(config.raft.heartbeat_ms),
            election_min: Duration::from_millis(config.raft.election_min_ms),
            election_max: Duration::from_millis(config.raft.election_max_ms),
        },
        checkpoint: CheckpointPolicy {
            entries: config.storage.checkpoint_entries,
            interval: Duration::from_millis(config.storage.checkpoint_interval_ms),
        },
        snapshot_entries: config.storage.snapshot_entries,
        keep_log_entries: config.storage.keep_log_entries,
        log_cache_bytes: LOG_CACHE_BYTES,
        policy: Policy {
            key_retention_ms: policy.key_retention_hours.saturating_mul(3_600_000),
            key_limit: policy.key_limit,
            restock_quantity: policy.restock_quantity,
            restock_interval_ms: policy
                .restock
                .then(|| policy.restock_interval_s.saturating_mul(1000)),
            change_history: policy.change_history,
            price_history: policy.price_history,
            reservation_limit: policy.reservation_limit,
            reservation_history: policy.reservation_history,
            reservation_ttl_max_ms: policy.reservation_ttl_max_s.saturating_mul(1000),
        },
        failure_window: Duration::from_millis(config.cluster.failure_window_ms),
        waiting_max: WAITING_MAX,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}

pub(crate) fn member(row: &MemberConfig) -> Member {
    Member {
        name: row.name.clone(),
        api: row.api.clone(),
        peer: row.peer.clone(),
        roles: row.roles.iter().copied().collect(),
    }
}
