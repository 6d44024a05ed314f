//! `pygmy-peers`: parses the command line, measures, writes table and pictures.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Result, bail};
use clap::Parser;
use pygmy_peers::{
    PHASES, SystemName, chart, document,
    results::Results,
    run::{RunSpec, measure},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::LocalSet,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Shorter runs say too little to be put into a document.
const DOCUMENT_ROUNDS_MIN: u32 = 3;
const DOCUMENT_SECONDS_MIN: u64 = 5;

/// Measures Pygmy, and other stores beside it on the same machine.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    /// The program to measure
    #[arg(long, value_name = "PATH", default_value = "target/release/pygmy")]
    bin: PathBuf,
    /// Who else is measured: etcd, postgres
    #[arg(long, value_enum, value_delimiter = ',')]
    peers: Vec<SystemName>,
    /// Only these phases
    #[arg(long, value_delimiter = ',', value_parser = phase)]
    phases: Vec<String>,
    /// Rounds, each with all phases
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// How long each measurement is
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Seconds of load before each
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(0..=3600))]
    warmup: u64,
    /// Items that operations are spread over
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    items: u32,
    /// Put the data in here instead of where temporary files go; it must be on a disk
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// The file of results, as JSON lines
    #[arg(long, value_name = "FILE", default_value = "target/bench.jsonl")]
    out: PathBuf,
    /// Put the table into this document, and the pictures beside it
    #[arg(long, value_name = "FILE")]
    document: Option<PathBuf>,
    /// Measure nothing: the results are in this file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["bin", "peers", "phases", "rounds", "seconds"])]
    from: Option<PathBuf>,
}

fn phase(text: &str) -> Result<String, String> {
    if PHASES.iter().any(|phase| phase.name == text) {
        return Ok(text.to_owned());
    }
    let names: Vec<_> = PHASES.iter().map(|phase| phase.name).collect();
    Err(format!("the phases are: {}", names.join(", ")))
}

// One thread: the generator shares the machine with what it measures, and the processes are tied to
// the thread that started them.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let local = LocalSet::new();
    let ended = tokio::select! {
        ended = local.run_until(act(cli)) => ended,
        // Leaving drops the systems, which ends their processes.
        () = interrupted() => Err(anyhow::anyhow!("interrupted")),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pygmy-peers: {error:#}");
            ExitCode::FAILURE
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

async fn act(cli: Cli) -> Result<()> {
    let results = match &cli.from {
        Some(file) => Results::read(file)?,
        None => measure(&spec(&cli)?).await?,
    };
    println!("\n{}", document::markdown(&results));
    if cli.from.is_none() {
        println!("The results are in {}.", cli.out.display());
    }
    let Some(file) = &cli.document else { return Ok(()) };
    let settings = &results.settings;
    if settings.rounds < DOCUMENT_ROUNDS_MIN || settings.seconds < DOCUMENT_SECONDS_MIN {
        println!(
            "{} is left as it is: that needs {DOCUMENT_ROUNDS_MIN} rounds of {DOCUMENT_SECONDS_MIN} s \
             or more.",
            file.display()
        );
        return Ok(());
    }
    let pictures = chart::write_all(file.parent().unwrap_or(file), &results)?;
    document::update(file, &results, &pictures)?;
    println!("{} has the table, and the pictures are beside it.", file.display());
    Ok(())
}

fn spec(cli: &Cli) -> Result<RunSpec> {
    if let Some(own) =
        cli.peers.iter().find(|name| matches!(name, SystemName::Pygmy | SystemName::Hello))
    {
        bail!("--peers {}: it is always measured; the others are etcd and postgres", own.name());
    }
    Ok(RunSpec {
        program: cli.bin.clone(),
        peers: cli.peers.clone(),
        phases: cli.phases.clone(),
        rounds: cli.rounds,
        length: Duration::from_secs(cli.seconds),
        warm_up: Duration::from_secs(cli.warmup),
        items: cli.items,
        parent: cli.dir.clone(),
        out: cli.out.clone(),
    })
}
