//! `pygmy restore`: the data directory of one node from a backup.

use std::io::Read;
use std::sync::Arc;

use pygmy_raft::restore::{Phase, RestoreError, Restored};
use pygmy_raft::types::Tokio;
use pygmy_storage::Error;
use pygmy_storage::volume::{DirVolume, Volume};
use serde::Serialize;

use super::args::Restore;
use super::{Answer, Exit, Stop, backup, serve};
use crate::config::NodeConfig;
use crate::server;

/// About what is done between two words of progress while the state is made.
const STEP_BYTES: u64 = 1 << 20;

/// What came of it, for programs.
#[derive(Debug, Serialize)]
struct Report {
    node: String,
    data_dir: String,
    cluster_id: String,
    index: u64,
    orders: u64,
    items: u64,
}

pub(super) async fn restore(args: Restore) -> Result<Answer, Stop> {
    let serve_with = match &args.own.config {
        Some(file) => format!("pygmy serve --config {}", file.display()),
        None => "pygmy serve --single".to_owned(),
    };
    let is_single = args.own.single;
    let config = serve::node_config(args.own, serve::sources(&args.set))?;
    let (node, data_dir) = (config.node.name.clone(), config.node.data_dir.display().to_string());
    // Before anything else, so that a wrong name is that and nothing more.
    backup::open(&args.file).map_err(|error| {
        Stop::usage(format!("{}: cannot be read: {error}", args.file.display()))
    })?;
    let (json, work) = (args.json, move || fill(&config, &args.file));
    let restored = tokio::task::spawn_blocking(work).await;
    let Restored { cluster, index, orders, items } = restored
        .map_err(|error| no(format!("the restore was cut off: {error}; run it again")))?
        .map_err(|error| no(error.to_string()))?;
    let cluster_id = cluster.to_string();
    if json {
        let report = Report { node, data_dir, cluster_id, index, orders, items };
        return Ok(Answer::json(&report, Exit::Ok));
    }
    let mut text = format!(
        "{data_dir} is that of {node} now, the only member of the new cluster {cluster_id}: index {index}, \
         {orders} orders, {items} items\nNext: {serve_with}"
    );
    if !is_single {
        text +=
            "\nThen each other member, with an empty directory: pygmy serve --config FILE --join";
    }
    Ok(Answer::ok(text))
}

fn no(message: String) -> Stop {
    Stop { message, exit: Exit::No }
}

fn fill(config: &NodeConfig, file: &std::path::Path) -> Result<Restored, RestoreError> {
    let root = &config.node.data_dir;
    if let Some(found) = DirVolume::stranger_in(root)? {
        return Err(RestoreError::NotEmpty { location: root.display().to_string(), found });
    }
    let volume: Arc<dyn Volume> = Arc::new(DirVolume::open(root, config.storage.cache_mb << 20)?);
    let reading = |error| Error::io(format!("reading {}", file.display()), error);
    let (_, bytes) = backup::open(file).map_err(reading)?;
    let bar = backup::bar(bytes);
    let mut open = || {
        bar.set_position(0);
        let (opened, _) = backup::open(file).map_err(reading)?;
        Ok(Box::new(backup::shown(opened, &bar)) as Box<dyn Read>)
    };
    let mut at = None;
    let mut progress = |phase| {
        if at.replace(phase) != Some(phase) {
            bar.set_message(match phase {
                Phase::Checking => "checking",
                Phase::Copying => "copying",
                Phase::Loading => "loading",
            });
            bar.set_position(0);
        } else if phase == Phase::Loading {
            // What is written is not what is read; the end is what counts.
            bar.set_position((bar.position() + STEP_BYTES).min(bytes));
        }
    };
    let row = config.member();
    let restored = pygmy_raft::restore::restore::<Tokio>(
        &volume,
        (row.id, server::member(row)),
        &mut open,
        &mut progress,
    );
    bar.finish_and_clear();
    restored
}
