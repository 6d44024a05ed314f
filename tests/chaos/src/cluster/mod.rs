//! A cluster of real processes on free loopback ports, in a directory of its own.
//!
//! It knows the nodes as an operator does: by process and by their HTTP interface.

mod config;
mod process;

use std::{
    cell::RefCell,
    ffi::OsString,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use pygmy::api;
use tempfile::TempDir;
use tokio::time::Instant;

pub use self::{
    config::{Address, Storage, free_ports},
    process::{Condition, NodeProcess},
};
use crate::client::Client;

/// Between two looks at a condition that is waited for.
const POLL: Duration = Duration::from_millis(50);
/// For a request that only asks how things are.
const STATUS_TIMEOUT: Duration = Duration::from_secs(1);
/// For a cluster to serve after its processes were started.
const SERVING_TIMEOUT: Duration = Duration::from_secs(30);

/// What cluster to start.
#[derive(Debug, Clone)]
pub struct ClusterSpec {
    /// The `pygmy` program.
    pub program: PathBuf,
    /// How many nodes.
    pub nodes: usize,
    /// Where its directory is made; the system's place for temporary files if none is given.
    pub parent: Option<PathBuf>,
    /// The nodes' storage limits.
    pub storage: Storage,
    /// Added to the nodes' environment.
    pub environment: Vec<(OsString, OsString)>,
}

/// A running cluster. Dropping it kills its processes and removes its directory.
#[derive(Debug)]
pub struct Cluster {
    addresses: Vec<Address>,
    apis: Arc<[SocketAddr]>,
    nodes: Vec<NodeProcess>,
    path: PathBuf,
    /// Removes the directory when dropped; none once it is to be kept.
    directory: RefCell<Option<TempDir>>,
}

impl Cluster {
    /// Starts a cluster and waits until every node serves.
    pub async fn start(spec: &ClusterSpec) -> Result<Self> {
        let cluster = Self::prepare(spec)?;
        for node in &cluster.nodes {
            node.start()?;
        }
        if let Err(error) = cluster.await_serving(SERVING_TIMEOUT).await {
            let logs = cluster.logs();
            cluster.keep();
            bail!("{error:#}\n{logs}\nlogs and data: {}", cluster.directory().display());
        }
        Ok(cluster)
    }

    /// Makes the directories and configurations, and starts nothing.
    fn prepare(spec: &ClusterSpec) -> Result<Self> {
        let program = spec.program.canonicalize().with_context(|| {
            format!("no program at {}: build it, or name it with --bin", spec.program.display())
        })?;
        let mut directory = tempfile::Builder::new();
        directory.prefix("pygmy-chaos-");
        let directory = match &spec.parent {
            Some(parent) => directory.tempdir_in(parent),
            None => directory.tempdir(),
        }
        .context("cannot make a directory for the cluster")?;
        let addresses = config::addresses(spec.nodes)?;
        let mut nodes = Vec::with_capacity(spec.nodes);
        for member in &addresses {
            let home = directory.path().join(&member.name);
            std::fs::create_dir_all(home.join("data")).context("cannot make a node's directory")?;
            nodes.push(NodeProcess::new(process::Launch {
                program: program.clone(),
                config: config::write(&home, member, &addresses, spec.storage)?,
                log: home.join("log"),
                environment: spec.environment.clone(),
            }));
        }
        let apis = addresses.iter().map(|address| address.api).collect();
        let path = directory.path().to_owned();
        Ok(Self { addresses, apis, nodes, path, directory: RefCell::new(Some(directory)) })
    }

    /// The number of nodes.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are no nodes, which cannot be.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// A node's process.
    pub fn node(&self, index: usize) -> &NodeProcess {
        &self.nodes[index]
    }

    /// All processes.
    pub fn nodes(&self) -> &[NodeProcess] {
        &self.nodes
    }

    /// A node's name.
    pub fn name(&self, index: usize) -> &str {
        &self.addresses[index].name
    }

    /// Where a node's REST interface is.
    pub fn api(&self, index: usize) -> SocketAddr {
        self.addresses[index].api
    }

    /// Where everything is.
    pub fn directory(&self) -> &Path {
        &self.path
    }

    /// A new client of all nodes.
    pub fn client(&self, timeout: Duration) -> Client {
        Client::new(Arc::clone(&self.apis), timeout)
    }

    /// Leader and term, by the answer with the highest term among the nodes that run.
    pub async fn leader(&self) -> Option<(usize, u64)> {
        let mut client = self.client(STATUS_TIMEOUT);
        let mut newest: Option<api::Cluster> = None;
        for (index, node) in self.nodes.iter().enumerate() {
            if node.condition() != Condition::Up {
                continue;
            }
            let Ok(reply) = client.get(index, "/v1/cluster").await else { continue };
            let Ok(told) = reply.json::<api::Cluster>() else { continue };
            if told.leader.is_some() && newest.as_ref().is_none_or(|newest| newest.term < told.term)
            {
                newest = Some(told);
            }
        }
        let newest = newest?;
        let leader = newest.leader?;
        let index = self.addresses.iter().position(|address| address.name == leader)?;
        Some((index, newest.term))
    }

    /// Waits for a known leader whose process runs.
    pub async fn await_leader(&self, timeout: Duration) -> Option<(usize, u64)> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some((leader, term)) = self.leader().await
                && self.nodes[leader].condition() == Condition::Up
            {
                return Some((leader, term));
            }
            if Instant::now() >= deadline {
                return None;
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until a node says that it can work.
    pub async fn await_ready(&self, index: usize, timeout: Duration) -> Result<()> {
        self.await_ok(index, "/readyz", Instant::now() + timeout).await
    }

    /// Waits until every node is ready and answers linearizable reads.
    pub async fn await_serving(&self, timeout: Duration) -> Result<()> {
        let deadline = Instant::now() + timeout;
        for index in 0..self.len() {
            self.await_ok(index, "/readyz", deadline).await?;
            self.await_ok(index, "/clusterz", deadline).await?;
        }
        Ok(())
    }

    async fn await_ok(&self, index: usize, path: &str, deadline: Instant) -> Result<()> {
        let mut client = self.client(STATUS_TIMEOUT);
        loop {
            let last = match client.get(index, path).await {
                Ok(reply) if reply.status == 200 => return Ok(()),
                Ok(reply) => format!("{} {}", reply.status, String::from_utf8_lossy(&reply.body)),
                Err(failure) => format!("no reply ({failure:?})"),
            };
            if let Some(status) = self.nodes[index].unexpected_exit() {
                bail!("{} ended by itself: {status}", self.name(index));
            }
            if Instant::now() >= deadline {
                bail!("{} did not become ready: {path}: {last}", self.name(index));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Resumes what is paused and starts what is down.
    pub fn heal(&self) -> Result<()> {
        for node in &self.nodes {
            match node.condition() {
                Condition::Up => {}
                Condition::Paused => node.resume(),
                Condition::Down => node.start()?,
            }
        }
        Ok(())
    }

    /// The ends of all logs, for a failure's message.
    pub fn logs(&self) -> String {
        let of = |index| format!("--- {} ---\n{}", self.name(index), self.nodes[index].log_tail());
        (0..self.len()).map(of).collect::<Vec<_>>().join("\n")
    }

    /// Kills the processes, waits until they are gone, and removes the directory unless it is kept.
    pub async fn stop(&self) -> Result<()> {
        self.nodes.iter().for_each(NodeProcess::kill);
        for node in &self.nodes {
            node.gone().await?;
        }
        match self.directory.take() {
            Some(directory) => directory.close().context("cannot remove the cluster's directory"),
            None => Ok(()),
        }
    }

    /// Has data and logs stay where they are when all is over, to be looked at.
    pub fn keep(&self) {
        if let Some(directory) = self.directory.take() {
            let _path = directory.keep();
        }
    }
}
