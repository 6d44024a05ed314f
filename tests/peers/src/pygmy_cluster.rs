//! Pygmy itself: three nodes with the configuration they have by default, and a facade.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use pygmy::{bench::Store, client::Client};
use pygmy_chaos::cluster::{Cluster, ClusterSpec, Storage, free_ports};
use rustix::process::Signal;

use crate::process::Process;

const NODES: usize = 3;
/// How long the facade may take to serve.
const FACADE_TIMEOUT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);

/// A running cluster with its facade.
#[derive(Debug)]
pub(crate) struct PygmyCluster {
    // First, so that it ends first.
    facade: Process,
    cluster: Cluster,
    pub(crate) direct: Store,
    pub(crate) any_node: Store,
    pub(crate) through_facade: Store,
}

impl PygmyCluster {
    pub(crate) async fn start(program: &Path, directory: &Path, timeout: Duration) -> Result<Self> {
        let cluster = Cluster::start(&ClusterSpec {
            program: program.to_owned(),
            nodes: NODES,
            parent: Some(directory.to_owned()),
            storage: Storage::Default,
            environment: Vec::new(),
        })
        .await?;
        let program: PathBuf = program.canonicalize().context("the program is not there")?;
        let listen = format!("127.0.0.1:{}", free_ports(1)?[0]);
        let config = directory.join("facade.toml");
        let seed = cluster.api(0);
        fs::write(&config, format!("[facade]\nlisten = \"{listen}\"\nseeds = [\"{seed}\"]\n"))
            .context("cannot write the facade's configuration")?;
        let args = ["facade", "--config"].map(str::to_owned).into_iter();
        let args: Vec<_> = args.chain([config.display().to_string()]).collect();
        let log = directory.join("facade.log");
        let mut facade = Process::start("the facade", &program, &args, None, &log)?;
        let url = format!("http://{listen}");
        let serving = async {
            let client = Client::new(&url)?;
            while !client.cluster_ready().await.is_ok_and(|answer| answer.ready) {
                facade.check()?;
                tokio::time::sleep(POLL).await;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(FACADE_TIMEOUT, serving)
            .await
            .with_context(|| format!("the facade does not serve; its log: {}", log.display()))??;
        let seed = format!("http://{seed}");
        let direct = Store::direct(&seed, timeout).await?;
        let any_node = Store::direct(&seed, timeout).await?.spread_writes();
        let through_facade = Store::at(&url, timeout).await?;
        Ok(Self { facade, cluster, direct, any_node, through_facade })
    }

    pub(crate) async fn stop(self) -> Result<()> {
        let Self { facade, cluster, .. } = self;
        facade.stop(Signal::TERM).await?;
        cluster.stop().await
    }
}
