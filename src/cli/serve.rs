//! The subcommands that run a server.

use std::num::NonZero;

use super::args::{Facade, Own, Serve};
use super::{Answer, Exit, Stop};
use crate::config::{FacadeConfig, LogSection, NodeConfig, Sources};
use crate::{
    logging,
    server::{self, Threads},
};

pub(super) async fn node(args: Serve) -> Result<Answer, Stop> {
    let mut sources = sources(&args.overrides.set);
    if let Some(listen) = &args.overrides.listen {
        sources = sources.with_flag("--listen", "api.listen", listen);
    }
    if args.join {
        sources = sources.with_flag("--join", "cluster.join", "true");
    }
    let config = node_config(args.own, sources)?;
    if args.overrides.check {
        return Ok(Answer::ok(format!("the configuration of node {} is fine", config.node.name)));
    }
    log_to(&config.log)?;
    let threads = Threads {
        count: config.threads(processors()),
        batch_scheduling: config.node.batch_scheduling,
    };
    ended(server::on_threads(threads, server::serve_node(config)).await)
}

/// The configuration of the node that is meant.
pub(super) fn node_config(own: Own, mut sources: Sources) -> Result<NodeConfig, Stop> {
    sources.file = own.config;
    if let Some(data) = &own.data {
        let Some(data) = data.to_str() else {
            return Err(Stop::usage("flag --data: the directory's name must be UTF-8"));
        };
        sources = sources.with_flag("--data", "node.data_dir", data);
    }
    Ok(if own.single { NodeConfig::load_single(&sources)? } else { NodeConfig::load(&sources)? })
}

pub(super) async fn facade(args: Facade) -> Result<Answer, Stop> {
    let mut sources = sources(&args.overrides.set);
    if let Some(listen) = &args.overrides.listen {
        sources = sources.with_flag("--listen", "facade.listen", listen);
    }
    sources.file = Some(args.config);
    let config = FacadeConfig::load(&sources)?;
    if args.overrides.check {
        return Ok(Answer::ok(format!(
            "the configuration of facade {} is fine",
            config.facade.name
        )));
    }
    log_to(&config.log)?;
    let threads = Threads { count: processors(), batch_scheduling: config.facade.batch_scheduling };
    ended(server::on_threads(threads, server::serve_facade(config)).await)
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

/// The environment, and what overrides it.
pub(super) fn sources(set: &[(String, String)]) -> Sources {
    let mut sources = Sources::default().with_process_env();
    for (key, value) in set {
        sources = sources.with_flag(&format!("--set {key}"), key, value);
    }
    sources
}

fn log_to(config: &LogSection) -> Result<(), Stop> {
    logging::init(config).map_err(|message| Stop { message, exit: Exit::No })
}

fn ended(result: anyhow::Result<()>) -> Result<Answer, Stop> {
    match result {
        Ok(()) => Ok(Answer::ok("")),
        // With its causes on the same line: one line is what ends up in front of somebody.
        Err(error) => Err(Stop { message: format!("{error:#}"), exit: Exit::No }),
    }
}
