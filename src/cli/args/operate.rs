//! Processes, the cluster, and the tool itself.

use std::path::PathBuf;

use clap::{Args, Subcommand, value_parser};
use clap_complete::Shell;

use super::{Reading, Writing, seconds};
use crate::bench::Mix;

/// Which node of this machine is meant.
#[derive(Debug, Args)]
pub(in crate::cli) struct Own {
    /// The node's configuration file
    #[arg(long, value_name = "FILE", required_unless_present = "single")]
    pub(in crate::cli) config: Option<PathBuf>,
    /// One node on its own, without a file
    #[arg(long, conflicts_with = "config")]
    pub(in crate::cli) single: bool,
    /// Directory of the databases [default with --single: pygmy-data]
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) data: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Serve {
    #[command(flatten)]
    pub(in crate::cli) own: Own,
    /// With an empty directory: join the cluster that exists, in the place of the member of this name
    #[arg(long, conflicts_with = "single")]
    pub(in crate::cli) join: bool,
    #[command(flatten)]
    pub(in crate::cli) overrides: Overrides,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Facade {
    /// The facade's configuration file
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) config: PathBuf,
    #[command(flatten)]
    pub(in crate::cli) overrides: Overrides,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Overrides {
    /// Where the REST interface listens
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(in crate::cli) listen: Option<String>,
    /// Override a setting, as in --set log.format=json; may be given several times
    #[arg(long, value_name = "SECTION.KEY=VALUE", value_parser = parse_setting)]
    pub(in crate::cli) set: Vec<(String, String)>,
    /// Check the configuration and end
    #[arg(long)]
    pub(in crate::cli) check: bool,
}

fn parse_setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if key.contains('.') => Ok((key.trim().into(), value.into())),
        _ => Err("write it like section.key=value".into()),
    }
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Policy {
    #[command(subcommand)]
    pub(in crate::cli) command: PolicyCommand,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum PolicyCommand {
    /// What they are
    #[command(after_help = "Example:
  pygmy policy show --json")]
    Show(Reading),
    /// Change some of them, and leave the others
    #[command(after_help = "Examples:
  pygmy policy set price_history=50
  pygmy policy set restock_interval_s=30 restock_quantity=20
  pygmy policy set restock_interval_s=never
Exits with 1 when somebody else changes them at the same moment: nothing is changed then.")]
    Set(SetPolicy),
}

#[derive(Debug, Args)]
pub(in crate::cli) struct SetPolicy {
    /// Settings, with names as policy show has them
    #[arg(value_name = "NAME=VALUE", required = true, value_parser = parse_policy)]
    pub(in crate::cli) settings: Vec<(String, Option<u64>)>,
    #[command(flatten)]
    pub(in crate::cli) reading: Reading,
}

/// A setting of the policy: a number, or `never`.
fn parse_policy(text: &str) -> Result<(String, Option<u64>), String> {
    let (name, value) = text.split_once('=').ok_or("write it like price_history=50")?;
    let value = match value {
        "never" => None,
        number => Some(number.parse().map_err(|_| format!("{number:?} is no number"))?),
    };
    Ok((name.into(), value))
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Maintenance {
    #[command(subcommand)]
    pub(in crate::cli) command: MaintenanceCommand,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum MaintenanceCommand {
    /// From now on refuse writes
    #[command(after_help = "Example:
  pygmy maintenance on")]
    On(Writing),
    /// Take writes again
    #[command(after_help = "Example:
  pygmy maintenance off")]
    Off(Writing),
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Cluster {
    #[command(subcommand)]
    pub(in crate::cli) command: ClusterCommand,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum ClusterCommand {
    /// The members: who leads, who is up, who lags
    #[command(after_help = "Example:
  pygmy cluster status
Exits with 3 when the cluster has no leader.")]
    Status(Reading),
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Verify {
    #[command(flatten)]
    pub(in crate::cli) reading: Reading,
    /// How long one member may take to check itself, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = seconds())]
    pub(in crate::cli) member_timeout: u64,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Backup {
    /// The file to write
    pub(in crate::cli) file: PathBuf,
    /// Ask nobody: check a file that is there
    #[arg(long, conflicts_with = "force")]
    pub(in crate::cli) check: bool,
    /// Replace a file that is there
    #[arg(long)]
    pub(in crate::cli) force: bool,
    #[command(flatten)]
    pub(in crate::cli) reading: Reading,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Restore {
    /// The backup
    #[arg(value_name = "BACKUP")]
    pub(in crate::cli) file: PathBuf,
    #[command(flatten)]
    pub(in crate::cli) own: Own,
    /// Override a setting, as in --set log.format=json; may be given several times
    #[arg(long, value_name = "SECTION.KEY=VALUE", value_parser = parse_setting)]
    pub(in crate::cli) set: Vec<(String, String)>,
    /// Print one JSON document on one line
    #[arg(long)]
    pub(in crate::cli) json: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Wait {
    /// The store: a facade or a node
    #[arg(long, env = "PYGMY_URL", default_value = "http://127.0.0.1:8080")]
    pub(in crate::cli) url: String,
    /// How long to wait, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = seconds())]
    pub(in crate::cli) timeout: u64,
    /// Wait for this process alone, whether or not the cluster has a leader
    #[arg(long)]
    pub(in crate::cli) ready: bool,
    /// Say nothing while waiting
    #[arg(long)]
    pub(in crate::cli) quiet: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Completions {
    /// The shell
    pub(in crate::cli) shell: Shell,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Bench {
    /// The store: a facade or a node; with --direct any node
    #[arg(long, env = "PYGMY_URL", default_value = "http://127.0.0.1:8080")]
    pub(in crate::cli) url: String,
    /// Straight to the nodes that the store names: writes to the leader, reads to all
    #[arg(long)]
    pub(in crate::cli) direct: bool,
    /// With --direct: writes to all nodes, too, which pass them on
    #[arg(long, requires = "direct")]
    pub(in crate::cli) spread_writes: bool,
    /// What is done
    #[arg(long, value_enum, default_value = "buy")]
    pub(in crate::cli) mix: Mix,
    /// Clients, each with one operation at a time and connections of its own
    #[arg(long, default_value_t = 64, value_parser = value_parser!(u32).range(1..=10_000))]
    pub(in crate::cli) clients: u32,
    /// Operations a second of an open loop; as fast as replies come if not given
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=1_000_000))]
    pub(in crate::cli) rate: Option<u32>,
    /// How long it is measured
    #[arg(long, default_value_t = 10, value_parser = seconds())]
    pub(in crate::cli) seconds: u64,
    /// How long it runs before it is measured, in seconds
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 1,
        value_parser = value_parser!(u64).range(0..=3600)
    )]
    pub(in crate::cli) warmup: u64,
    /// Items that operations are spread over
    #[arg(long, default_value_t = 10_000, value_parser = value_parser!(u32).range(1..=1_000_000))]
    pub(in crate::cli) items: u32,
    /// Orders in a batch
    #[arg(long, default_value_t = 50, value_parser = value_parser!(u16).range(1..=1000))]
    pub(in crate::cli) batch: u16,
    /// The items are there from an earlier run: do not put them again
    #[arg(long)]
    pub(in crate::cli) no_prepare: bool,
    /// How long one operation may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = seconds())]
    pub(in crate::cli) timeout: u64,
    /// The same seed chooses the same items
    #[arg(long, default_value_t = 1)]
    pub(in crate::cli) seed: u64,
    /// Print JSON lines: one for each second, and the result
    #[arg(long)]
    pub(in crate::cli) json: bool,
}
