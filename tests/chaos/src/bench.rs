//! A closed loop straight to the nodes: how many operations a second, and how long each takes.

use std::{cell::Cell, fmt, rc::Rc, time::Duration};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use hdrhistogram::Histogram;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tokio::{
    task::LocalSet,
    time::{Instant, sleep},
};

use crate::{
    client::Client,
    cluster::{Cluster, ClusterSpec},
    collect,
    history::{Key, Line, Lines, Series},
    load::buy_body,
};

/// Pieces of each item: never sold out.
const STOCK: u64 = 1_000_000_000;
/// Operations before the measuring begins.
const WARM_UP: Duration = Duration::from_secs(2);
/// A longer operation is an error.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Tasks that load the items.
const LOADERS: u32 = 64;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Operation {
    /// An order of one piece of a random item, with an idempotency key.
    Buy,
    /// A random item is put anew.
    Put,
    /// A linearizable read of a random item.
    GetLinearizable,
    /// A stale read of a random item.
    GetStale,
}

/// What to measure, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct BenchSpec {
    /// What is done.
    pub operation: Operation,
    /// Tasks, each with one request at a time, spread over the nodes.
    pub clients: u32,
    /// How long it is measured.
    pub length: Duration,
    /// Items in the store.
    pub items: u32,
}

/// What was measured.
#[derive(Debug)]
pub struct Figures {
    /// Operations a second that succeeded.
    pub rate: f64,
    /// Operations that failed.
    pub errors: u64,
    /// Durations of those that succeeded, in microseconds.
    pub micros: Histogram<u64>,
    /// Memory of the largest node in bytes: empty and idle, and after the load.
    pub memory_bytes: (u64, u64),
}

impl Figures {
    /// The figures as JSON.
    pub fn json(&self) -> Value {
        json!({
            "operations_per_second": self.rate,
            "errors": self.errors,
            "p50_us": self.micros.value_at_quantile(0.5),
            "p99_us": self.micros.value_at_quantile(0.99),
            "max_us": self.micros.max(),
            "memory_idle_bytes": self.memory_bytes.0,
            "memory_after_bytes": self.memory_bytes.1,
        })
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = |quantile| self.micros.value_at_quantile(quantile) as f64 / 1e3;
        write!(
            out,
            "{:.0} operations/s, p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms, {} errors; memory of the \
             largest node {} MB idle, {} MB after",
            self.rate,
            millis(0.5),
            millis(0.99),
            self.micros.max() as f64 / 1e3,
            self.errors,
            self.memory_bytes.0 >> 20,
            self.memory_bytes.1 >> 20,
        )
    }
}

/// Starts a cluster and measures.
pub async fn bench(cluster: &ClusterSpec, spec: BenchSpec) -> Result<Figures> {
    let cluster = Cluster::start(cluster).await?;
    let figures = LocalSet::new().run_until(bench_on(&cluster, spec)).await;
    if figures.is_err() {
        cluster.keep();
    }
    cluster.stop().await?;
    figures.with_context(|| format!("logs: {}", cluster.directory().display()))
}

async fn bench_on(cluster: &Cluster, spec: BenchSpec) -> Result<Figures> {
    let idle = memory_bytes(cluster);
    load_items(cluster, spec.items).await?;
    println!("{} items loaded, measuring", spec.items);
    let measuring = Rc::new(Cell::new(false));
    let stop = Rc::new(Cell::new(false));
    let tasks: Vec<_> = (0..spec.clients)
        .map(|id| {
            let client = cluster.client(TIMEOUT);
            work(id, spec, client, Rc::clone(&measuring), Rc::clone(&stop))
        })
        .map(tokio::task::spawn_local)
        .collect();
    sleep(WARM_UP).await;
    measuring.set(true);
    let began = Instant::now();
    sleep(spec.length).await;
    measuring.set(false);
    let seconds = began.elapsed().as_secs_f64();
    stop.set(true);
    let (mut micros, mut errors) = (histogram()?, 0);
    for task in tasks {
        let (of_one, failed) = task.await??;
        micros.add(of_one)?;
        errors += failed;
    }
    if micros.is_empty() {
        bail!("not one operation succeeded, {errors} failed");
    }
    let rate = micros.len() as f64 / seconds;
    Ok(Figures { rate, errors, micros, memory_bytes: (idle, memory_bytes(cluster)) })
}

fn histogram() -> Result<Histogram<u64>> {
    Histogram::new_with_bounds(1, 60_000_000, 3).context("no histogram")
}

fn memory_bytes(cluster: &Cluster) -> u64 {
    cluster.nodes().iter().filter_map(|node| node.memory_bytes()).max().unwrap_or(0)
}

async fn load_items(cluster: &Cluster, items: u32) -> Result<()> {
    let tasks: Vec<_> = (0..LOADERS)
        .map(|loader| {
            let mut client = cluster.client(TIMEOUT);
            tokio::task::spawn_local(async move {
                for id in (1 + loader..=items).step_by(LOADERS as usize) {
                    let node = id as usize % client.node_count();
                    collect::put_item(&mut client, node, id, STOCK).await?;
                }
                anyhow::Ok(())
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    Ok(())
}

async fn work(
    id: u32,
    spec: BenchSpec,
    mut client: Client,
    measuring: Rc<Cell<bool>>,
    stop: Rc<Cell<bool>>,
) -> Result<(Histogram<u64>, u64)> {
    let node = id as usize % client.node_count();
    let mut rng = ChaCha8Rng::seed_from_u64(u64::from(id));
    let (mut micros, mut errors, mut number) = (histogram()?, 0, 0);
    while !stop.get() {
        number += 1;
        let item = rng.random_range(1..=spec.items);
        let measured = measuring.get();
        let start = Instant::now();
        let reply = match spec.operation {
            Operation::Buy => {
                let key = Key { series: Series::Buy, client: id, number };
                let lines =
                    Lines::from_slice(&[Line { item, quantity: 1 }]).expect("one line fits");
                let body = buy_body(key, lines);
                client.post(node, "/v1/orders", &key.to_string(), body).await
            }
            Operation::Put => {
                let body = format!(
                    "{{\"title\":\"Item {item}\",\"topic\":\"Misc\",\"price_cents\":{number},\
                     \"stock\":{STOCK}}}"
                );
                let key = format!("p{id}-{number}");
                client.put(node, &format!("/v1/items/{item}"), &key, body).await
            }
            Operation::GetLinearizable => client.get(node, &format!("/v1/items/{item}")).await,
            Operation::GetStale => {
                client.get(node, &format!("/v1/items/{item}?consistency=stale")).await
            }
        };
        // What began before the end and ended after it does not count.
        if !measured || !measuring.get() {
            continue;
        }
        if reply.is_ok_and(|reply| matches!(reply.status, 200 | 201)) {
            micros.saturating_record(u64::try_from(start.elapsed().as_micros())?);
        } else {
            errors += 1;
        }
    }
    Ok((micros, errors))
}
