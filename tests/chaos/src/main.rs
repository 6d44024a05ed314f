//! `pygmy-chaos`: parses the command line, runs, and turns the outcome into an exit code.
//!
//! 0: all is well. 1: a violation was found. 2: the run proves nothing. 3: it could not be run. With
//! `--expect-violation` 0 means that a violation was found, and 1 that none was.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use pygmy_chaos::{
    bench::{BenchSpec, Operation, bench},
    cluster::{ClusterSpec, Storage},
    failover::failover,
    faults::FaultKind,
    gaps::median,
    history::NodeIndex,
    load::LoadSpec,
    report,
    run::{RunSpec, run},
};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

/// Kills a Pygmy cluster under load and checks that nothing was lost, doubled or shown wrongly.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    chaos: ChaosArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Kill the leader again and again: the longest time between confirmed writes
    Failover(FailoverArgs),
    /// A closed loop straight to the nodes: operations a second and how long they take
    Bench(BenchArgs),
}

#[derive(Debug, Args)]
struct ClusterArgs {
    /// The program to test
    #[arg(long, value_name = "PATH", default_value = "target/release/pygmy")]
    bin: PathBuf,
    /// Nodes of the cluster: 3 or 5, or 1 where nothing is to fail
    #[arg(long, default_value_t = 3, value_parser = nodes)]
    nodes: usize,
    /// Make the cluster's directory in here, instead of where temporary files go
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Write the result as JSON to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl ClusterArgs {
    fn spec(&self, storage: Storage) -> ClusterSpec {
        ClusterSpec {
            program: self.bin.clone(),
            nodes: self.nodes,
            parent: self.dir.clone(),
            storage,
            environment: Vec::new(),
        }
    }
}

#[derive(Debug, Args)]
struct ChaosArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// How long the load lasts
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Repeats a run's plan; a random one if none is given
    #[arg(long)]
    seed: Option<u64>,
    /// Faults to inject, each at least once
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = FaultKind::DEFAULT)]
    faults: Vec<FaultKind>,
    /// Hot items
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1000))]
    items: u32,
    /// Pieces of each item at the start
    #[arg(long, default_value_t = 200)]
    stock: u64,
    /// Tasks that buy
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    buyers: u32,
    /// Tasks that read linearizably; readers of other kinds come in proportion
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    readers: u32,
    /// End the load after so many operations: each is kept in memory, in about 100 bytes
    #[arg(long, default_value_t = 20_000_000)]
    ops_max: u64,
    /// Start the nodes with PYGMY_SABOTAGE=NAME, which only a build with `--features sabotage` heeds
    #[arg(long, value_name = "NAME")]
    sabotage: Option<String>,
    /// Exit with 0 if a violation was found and with 1 if none was
    #[arg(long)]
    expect_violation: bool,
}

#[derive(Debug, Args)]
struct FailoverArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// How often the leader is killed
    #[arg(long, default_value_t = 10)]
    repeat: u32,
    /// Tasks that write
    #[arg(long, default_value_t = 16)]
    writers: u32,
    /// Fail if the median is longer
    #[arg(long, value_name = "MS")]
    median_max_ms: Option<f64>,
}

#[derive(Debug, Args)]
struct BenchArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// What is measured
    #[arg(long, value_enum, default_value = "buy")]
    op: Operation,
    /// Tasks, each with one request at a time
    #[arg(long, default_value_t = 64)]
    clients: u32,
    /// How long it is measured
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Items in the store
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    items: u32,
}

fn nodes(text: &str) -> Result<usize, String> {
    let nodes: usize = text.parse().map_err(|_| "not a number".to_owned())?;
    if (1..=NodeIndex::NODES_MAX).contains(&nodes) {
        Ok(nodes)
    } else {
        Err(format!("must be from 1 to {}", NodeIndex::NODES_MAX))
    }
}

const VIOLATION: u8 = 1;
const VOID: u8 = 2;
const NOT_RUN: u8 = 3;

// One thread: the load shares the machine with the cluster, and the nodes' processes are tied to the
// thread that started them.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let ended = tokio::select! {
        ended = dispatch(cli) => ended,
        // Leaving drops the cluster, which kills its processes.
        () = interrupted() => Err(anyhow::anyhow!("interrupted")),
    };
    match ended {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("pygmy-chaos: {error:#}");
            ExitCode::from(NOT_RUN)
        }
    }
}

async fn interrupted() {
    let Ok(mut terminated) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminated.recv() => {}
    }
}

async fn dispatch(cli: Cli) -> Result<u8> {
    match cli.command {
        None => chaos(cli.chaos).await,
        Some(Command::Failover(args)) => measure_failover(args).await,
        Some(Command::Bench(args)) => measure(args).await,
    }
}

async fn chaos(args: ChaosArgs) -> Result<u8> {
    let seed = args.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let mut cluster = args.cluster.spec(Storage::Small);
    if let Some(name) = &args.sabotage {
        cluster.environment.push(("PYGMY_SABOTAGE".into(), name.into()));
    }
    let spec = RunSpec {
        cluster,
        load: LoadSpec {
            buyers: args.buyers,
            readers: args.readers,
            operations_max: args.ops_max,
            seed,
        },
        items: args.items,
        stock: args.stock,
        length: Duration::from_secs(args.seconds),
        seed,
        faults: args.faults,
    };
    println!("seed {seed}");
    let outcome = run(&spec).await?;
    let repeat = repeat_command(seed);
    println!("{}", report::tables(&outcome, &repeat));
    write_json(args.cluster.json, &report::json(&outcome, &repeat))?;
    let violated = outcome.violations() > 0;
    Ok(match (args.expect_violation, violated, outcome.voids.is_empty()) {
        (true, true, _) | (false, false, true) => 0,
        (true, false, _) | (false, true, _) => VIOLATION,
        (false, false, false) => VOID,
    })
}

/// The command line as it was, with the seed.
fn repeat_command(seed: u64) -> String {
    let mut words: Vec<String> = std::env::args().collect();
    if !words.iter().any(|word| word == "--seed" || word.starts_with("--seed=")) {
        words.push(format!("--seed {seed}"));
    }
    words.join(" ")
}

async fn measure_failover(args: FailoverArgs) -> Result<u8> {
    let gaps = failover(&args.cluster.spec(Storage::Default), args.writers, args.repeat).await?;
    let (middle, longest) = (median(&gaps), gaps.iter().copied().fold(0.0, f64::max));
    println!("longest gap between confirmed writes: median {middle:.0} ms, max {longest:.0} ms");
    let figures = json!({"gaps_ms": gaps, "median_ms": middle, "max_ms": longest});
    write_json(args.cluster.json, &figures)?;
    Ok(if args.median_max_ms.is_some_and(|most| middle > most) { VIOLATION } else { 0 })
}

async fn measure(args: BenchArgs) -> Result<u8> {
    let spec = BenchSpec {
        operation: args.op,
        clients: args.clients,
        length: Duration::from_secs(args.seconds),
        items: args.items,
    };
    let figures = bench(&args.cluster.spec(Storage::Default), spec).await?;
    println!("{figures}");
    write_json(args.cluster.json, &figures.json())?;
    Ok(0)
}

fn write_json(file: Option<PathBuf>, value: &serde_json::Value) -> Result<()> {
    let Some(file) = file else { return Ok(()) };
    std::fs::write(&file, format!("{value:#}\n"))
        .with_context(|| format!("cannot write {}", file.display()))
}
