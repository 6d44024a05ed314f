//! How long a dead leader is felt: the leader is killed again and again under writes, and the longest time
//! between two confirmed writes, over all writers, is measured each time.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use tokio::{
    task::LocalSet,
    time::{Instant, sleep},
};

use crate::{
    client::Client,
    cluster::{Cluster, ClusterSpec},
    collect, gaps,
    history::{Clock, Key, Line, Lines, Moment, Series},
    load::buy_body,
};

/// Items that are sold; enough that writers are not in each other's way.
const ITEMS: u32 = 100;
/// Pieces of each: never sold out.
const STOCK: u64 = 1_000_000_000;
/// Quiet time before each kill, and after it before the measure is taken.
const CALM: Duration = Duration::from_secs(2);
/// For writes to be confirmed again, and for the killed node to be back.
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(30);
/// A writer gives up a node that does not answer for this long.
const WRITE_TIMEOUT: Duration = Duration::from_secs(1);

/// What is shared with the writers.
#[derive(Debug)]
struct Writes {
    clock: Clock,
    stop: Cell<bool>,
    confirmed: RefCell<Vec<Moment>>,
}

/// Kills the leader so many times and gives the gaps, in milliseconds.
pub async fn failover(spec: &ClusterSpec, writers: u32, repeat: u32) -> Result<Vec<f64>> {
    let cluster = Cluster::start(spec).await?;
    let gaps = LocalSet::new().run_until(failover_on(&cluster, writers, repeat)).await;
    if gaps.is_err() {
        cluster.keep();
    }
    cluster.stop().await?;
    gaps.with_context(|| format!("logs: {}", cluster.directory().display()))
}

async fn failover_on(cluster: &Cluster, writers: u32, repeat: u32) -> Result<Vec<f64>> {
    collect::load_items(cluster, ITEMS, STOCK).await?;
    let writes = Rc::new(Writes {
        clock: Clock::start(),
        stop: Cell::new(false),
        confirmed: RefCell::default(),
    });
    let tasks: Vec<_> = (0..writers)
        .map(|id| write(id, Rc::clone(&writes), cluster.client(WRITE_TIMEOUT)))
        .map(tokio::task::spawn_local)
        .collect();
    let mut found = Vec::new();
    for round in 1..=repeat {
        sleep(CALM).await;
        let gap = kill_leader(cluster, &writes).await?;
        println!("{round:>3}: {gap:.0} ms");
        found.push(gap);
    }
    writes.stop.set(true);
    for task in tasks {
        task.await?;
    }
    Ok(found)
}

async fn kill_leader(cluster: &Cluster, writes: &Writes) -> Result<f64> {
    let found = cluster.await_leader(RECOVERY_TIMEOUT).await;
    let (leader, _term) = found.context("no leader to kill")?;
    let from = writes.clock.now();
    cluster.node(leader).kill();
    cluster.node(leader).gone().await?;
    let deadline = Instant::now() + RECOVERY_TIMEOUT;
    loop {
        sleep(CALM).await;
        let newest = writes.confirmed.borrow().last().copied().unwrap_or_default();
        // The last confirmation must be fresh: one that came right after the kill was on its way before.
        if writes.clock.now().millis_since(newest) < 500.0 {
            break;
        }
        if Instant::now() > deadline {
            bail!("no write was confirmed for {} s after a kill", RECOVERY_TIMEOUT.as_secs());
        }
    }
    let gap = {
        // Written by one thread as they arrive, hence sorted.
        let mut confirmed = writes.confirmed.borrow_mut();
        let gap = gaps::longest_ms(&confirmed, from, writes.clock.now());
        confirmed.clear();
        gap
    };
    cluster.node(leader).start()?;
    cluster.await_ready(leader, RECOVERY_TIMEOUT).await?;
    Ok(gap)
}

async fn write(id: u32, writes: Rc<Writes>, mut client: Client) {
    let mut node = id as usize % client.node_count();
    let mut number = 0;
    while !writes.stop.get() {
        number += 1;
        let key = Key { series: Series::Buy, client: id, number };
        let item = (id * 31 + number) % ITEMS + 1;
        let lines = Lines::from_slice(&[Line { item, quantity: 1 }]).expect("one line fits");
        let body = buy_body(key, lines);
        // The same key until it is confirmed, on the next node after each failure.
        while !writes.stop.get() {
            let reply = client.post(node, "/v1/orders", &key.to_string(), body.clone()).await;
            if reply.is_ok_and(|reply| reply.status == 201) {
                writes.confirmed.borrow_mut().push(writes.clock.now());
                break;
            }
            node = (node + 1) % client.node_count();
            sleep(Duration::from_millis(10)).await;
        }
    }
}
