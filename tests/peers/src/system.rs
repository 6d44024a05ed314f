//! The systems that are measured, and what they have in common.

use std::{path::PathBuf, time::Duration};

use anyhow::{Result, bail};
use clap::ValueEnum;
use pygmy::bench::{Fault, Items, Outcome, Plan, Target, prepare, run};

#[cfg(feature = "peers")]
use crate::{etcd::Etcd, postgres::Postgres};
use crate::{hello::Hello, phase::Route, pygmy_cluster::PygmyCluster};

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum SystemName {
    /// Pygmy, three nodes
    Pygmy,
    /// etcd, three members with default settings
    Etcd,
    /// PostgreSQL, a primary and two standbys, one of which must have each commit on its disk
    Postgres,
    /// A bare HTTP server on one thread
    Hello,
}

impl SystemName {
    /// Its name in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pygmy => "pygmy",
            Self::Etcd => "etcd",
            Self::Postgres => "postgres",
            Self::Hello => "hello",
        }
    }

    /// Its name in documents.
    pub fn title(self) -> &'static str {
        match self {
            Self::Pygmy => "Pygmy",
            Self::Etcd => "etcd",
            Self::Postgres => "PostgreSQL",
            Self::Hello => "bare HTTP server",
        }
    }
}

/// Where systems are started from, and where their data goes.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) program: PathBuf,
    pub(crate) directory: PathBuf,
    /// How long one operation may take.
    pub(crate) timeout: Duration,
}

/// A running system.
pub(crate) enum System {
    Pygmy(Box<PygmyCluster>),
    Hello(Hello),
    #[cfg(feature = "peers")]
    Etcd(Box<Etcd>),
    #[cfg(feature = "peers")]
    Postgres(Box<Postgres>),
}

impl System {
    pub(crate) async fn start(name: SystemName, place: &Place) -> Result<Self> {
        let Place { program, directory, timeout } = place;
        let directory = directory.join(name.name());
        std::fs::create_dir_all(&directory)?;
        match name {
            SystemName::Pygmy => {
                let cluster = PygmyCluster::start(program, &directory, *timeout).await?;
                Ok(Self::Pygmy(Box::new(cluster)))
            }
            SystemName::Hello => Ok(Self::Hello(Hello::start(*timeout)?)),
            #[cfg(feature = "peers")]
            SystemName::Etcd => Ok(Self::Etcd(Box::new(Etcd::start(&directory, *timeout).await?))),
            #[cfg(feature = "peers")]
            SystemName::Postgres => {
                Ok(Self::Postgres(Box::new(Postgres::start(&directory, *timeout).await?)))
            }
            #[cfg(not(feature = "peers"))]
            SystemName::Etcd | SystemName::Postgres => bail!(
                "this program was built without it; build it with `cargo build --release --package \
                 pygmy-peers --features peers`"
            ),
        }
    }

    /// What it says its version is.
    pub(crate) fn version(&self) -> String {
        match self {
            Self::Pygmy(_) | Self::Hello(_) => env!("CARGO_PKG_VERSION").to_owned(),
            #[cfg(feature = "peers")]
            Self::Etcd(etcd) => etcd.version.clone(),
            #[cfg(feature = "peers")]
            Self::Postgres(postgres) => postgres.version.clone(),
        }
    }

    pub(crate) async fn prepare(&self, items: Items) -> Result<()> {
        let put = match self {
            Self::Pygmy(pygmy) => prepare(&pygmy.direct, items, |_| {}).await,
            Self::Hello(_) => Ok(()),
            #[cfg(feature = "peers")]
            Self::Etcd(etcd) => prepare(&etcd.target, items, |_| {}).await,
            #[cfg(feature = "peers")]
            Self::Postgres(postgres) => prepare(&postgres.target, items, |_| {}).await,
        };
        put.map_err(|Fault { code, detail, .. }| {
            anyhow::anyhow!("the items could not be put: {detail} ({code})")
        })
    }

    pub(crate) async fn measure(&self, route: Route, plan: &Plan) -> Result<Outcome> {
        match self {
            Self::Pygmy(pygmy) => match route {
                Route::Direct => measure(&pygmy.direct, plan).await,
                Route::AnyNode => measure(&pygmy.any_node, plan).await,
                Route::Facade => measure(&pygmy.through_facade, plan).await,
            },
            Self::Hello(hello) => measure(&hello.target, plan).await,
            #[cfg(feature = "peers")]
            Self::Etcd(etcd) => measure(&etcd.target, plan).await,
            #[cfg(feature = "peers")]
            Self::Postgres(postgres) => measure(&postgres.target, plan).await,
        }
    }

    pub(crate) async fn stop(self) -> Result<()> {
        match self {
            Self::Pygmy(pygmy) => pygmy.stop().await,
            Self::Hello(_) => Ok(()),
            #[cfg(feature = "peers")]
            Self::Etcd(etcd) => etcd.stop().await,
            #[cfg(feature = "peers")]
            Self::Postgres(postgres) => postgres.stop().await,
        }
    }
}

async fn measure<T: Target>(target: &T, plan: &Plan) -> Result<Outcome> {
    if let Err((kind, Fault { code, detail, .. })) = plan.check(target).await {
        bail!("{} cannot be done: {detail} ({code})", kind.name());
    }
    Ok(run(target, plan, |_| {}, std::future::pending()).await?)
}
