//! Before and after the load: items are put in; what the replicas hold at the end is read out.
//!
//! All of it through the HTTP interface, and each step with a deadline of its own.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures_util::future::join_all;
use pygmy::api::{Item, ItemPage, Order, OrderPage, Verification};
use rand::{SeedableRng, seq::index};
use rand_chacha::ChaCha8Rng;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep};

use crate::{
    client::Client,
    cluster::Cluster,
    history::{
        Attempt, FinalItem, FinalOrder, InitialItem, ItemId, Key, LogIndex, Moment, NodeIndex,
        Replica, Span, StockChange,
    },
    load::{Shared, buy_body, repeat_until_known},
    protocol::lines_of,
};

/// For one request that should simply work.
const CALM_TIMEOUT: Duration = Duration::from_secs(10);
/// For a replica's full check of itself.
const VERIFY_TIMEOUT: Duration = Duration::from_secs(60);
/// For all replicas to reach the same index.
const LEVEL_TIMEOUT: Duration = Duration::from_secs(30);
/// Older buys are not repeated: in a long run the store may have forgotten their keys, as it may by its
/// limit on their number.
const KEYS_KEPT_NS: u64 = 120_000_000_000;
/// Buys that are repeated at the same time.
const REPEATERS: usize = 8;
/// Sendings of one change of stock whose outcome is unknown.
const SENDINGS_MAX: usize = 200;

/// Loads items 1 to `count`, each with this stock, and gives what was loaded.
pub async fn load_items(cluster: &Cluster, count: u32, stock: u64) -> Result<Vec<InitialItem>> {
    let mut client = cluster.client(CALM_TIMEOUT);
    let mut items = Vec::new();
    for id in 1..=count {
        items.push(put_item(&mut client, id as usize % cluster.len(), id, stock).await?);
    }
    Ok(items)
}

/// Puts one item through one node.
pub async fn put_item(
    client: &mut Client,
    node: usize,
    id: ItemId,
    stock: u64,
) -> Result<InitialItem> {
    let price_cents = 100 + u64::from(id);
    let body = format!(
        "{{\"title\":\"Item {id}\",\"topic\":\"Misc\",\"price_cents\":{price_cents},\"stock\":{stock}}}"
    );
    let path = format!("/v1/items/{id}");
    let reply = client.put(node, &path, &format!("i{id}"), body).await;
    let reply = reply.map_err(|failure| anyhow::anyhow!("item {id} not loaded: {failure:?}"))?;
    let item: Item = match reply.status {
        200 | 201 => reply.json().context("the reply to PUT of an item is not the item")?,
        status => bail!("item {id} not loaded: {status} {}", String::from_utf8_lossy(&reply.body)),
    };
    Ok(InitialItem { id, stock, price_cents, index: item.version })
}

/// Finds out what became of changes of stock of which nobody knows.
pub async fn settle(cluster: &Cluster, changes: &mut [StockChange], shared: &Shared) {
    let mut client = cluster.client(CALM_TIMEOUT);
    for change in changes {
        repeat_until_known(change, SENDINGS_MAX, &mut client, &shared.inspector, shared.clock)
            .await;
    }
}

/// Sends some of the buys again, from the whole run, with their own keys: what was answered before must be
/// answered the same way now, after all restarts and snapshots; what was unknown becomes known.
pub async fn repeat_some(
    cluster: &Cluster,
    attempts: &mut Vec<Attempt>,
    most: usize,
    seed: u64,
    shared: &Shared,
) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let oldest = Moment(shared.clock.now().0.saturating_sub(KEYS_KEPT_NS));
    let recent: Vec<Attempt> =
        attempts.iter().filter(|attempt| attempt.span.start >= oldest).copied().collect();
    let count = most.min(recent.len() / 10);
    let chosen = index::sample(&mut rng, recent.len(), count).into_vec();
    let chosen: Vec<Attempt> = chosen.into_iter().map(|place| recent[place]).collect();
    let repeated = chosen.chunks(count.div_ceil(REPEATERS).max(1)).enumerate().map(
        async |(repeater, attempts)| {
            let mut client = cluster.client(CALM_TIMEOUT);
            let mut repeated = Vec::with_capacity(attempts.len());
            for (turn, attempt) in attempts.iter().enumerate() {
                let node = (repeater + turn) % cluster.len();
                repeated.push(repeat(*attempt, node, &mut client, shared).await);
            }
            repeated
        },
    );
    attempts.extend(join_all(repeated).await.into_iter().flatten());
}

async fn repeat(attempt: Attempt, node: usize, client: &mut Client, shared: &Shared) -> Attempt {
    let Attempt { key, lines, .. } = attempt;
    let start = shared.clock.now();
    let body = buy_body(key, lines);
    let reply = client.post(node, "/v1/orders", &key.to_string(), body).await;
    let span = Span { start, end: shared.clock.now() };
    let asked = reply.as_ref().map_err(|failure| *failure);
    let reply = shared.inspector.borrow_mut().buy(asked, key, lines);
    Attempt { key, lines, node: NodeIndex::new(node), span, reply }
}

/// Waits until all replicas show the same index, and gives it.
pub async fn await_level(cluster: &Cluster) -> Result<LogIndex> {
    let mut client = cluster.client(CALM_TIMEOUT);
    let deadline = Instant::now() + LEVEL_TIMEOUT;
    let mut before: Option<LogIndex> = None;
    loop {
        let mut indexes = Vec::with_capacity(cluster.len());
        for node in 0..cluster.len() {
            let reply = client.get(node, "/v1/items?limit=1&consistency=stale").await;
            indexes.push(reply.ok().filter(|reply| reply.status == 200).and_then(|r| r.index));
        }
        let level = indexes[0].filter(|_| indexes.iter().all(|index| *index == indexes[0]));
        // Twice the same, so that nothing is still on its way.
        if let Some(level) = level
            && before == Some(level)
        {
            return Ok(level);
        }
        before = level;
        if Instant::now() >= deadline {
            bail!(
                "replicas are not level {} s after the load: {indexes:?}",
                LEVEL_TIMEOUT.as_secs()
            );
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// Reads everything from every replica: from the first one linearizably, from the others as they have it.
/// What could not be read is told beside.
pub async fn replicas(cluster: &Cluster) -> (Vec<Replica>, Vec<String>) {
    let mut replicas = Vec::with_capacity(cluster.len());
    let mut problems = Vec::new();
    for node in 0..cluster.len() {
        let consistency = if node == 0 { "linearizable" } else { "stale" };
        let mut replica = Replica {
            name: cluster.name(node).to_owned(),
            orders: Vec::new(),
            items: Vec::new(),
            verification: verify(cluster, node).await.map_err(|error| format!("{error:#}")),
        };
        if let Err(error) = read_replica(cluster, node, consistency, &mut replica).await {
            problems.push(format!("{}: {error:#}", replica.name));
        }
        replicas.push(replica);
    }
    (replicas, problems)
}

async fn read_replica(
    cluster: &Cluster,
    node: usize,
    consistency: &str,
    replica: &mut Replica,
) -> Result<()> {
    let mut client = cluster.client(CALM_TIMEOUT);
    let mut cursor: Option<String> = None;
    loop {
        let path = page("orders", consistency, cursor.as_deref());
        let page: OrderPage = get(&mut client, node, &path).await?;
        replica.orders.extend(page.orders.iter().map(final_order));
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    loop {
        let path = page("items", consistency, cursor.as_deref());
        let page: ItemPage = get(&mut client, node, &path).await?;
        let items = page.items.iter().map(|item| FinalItem {
            // A number that is none of ours is as wrong as a missing item.
            id: ItemId::try_from(item.id).unwrap_or(ItemId::MAX),
            stock: item.stock,
            reserved: item.reserved,
        });
        replica.items.extend(items);
        cursor = page.next_cursor;
        if cursor.is_none() {
            return Ok(());
        }
    }
}

fn page(of: &str, consistency: &str, cursor: Option<&str>) -> String {
    let cursor = cursor.map(|cursor| format!("&cursor={}", escape(cursor))).unwrap_or_default();
    format!("/v1/{of}?limit=1000&consistency={consistency}{cursor}")
}

/// A cursor is opaque: it may hold characters that a query must not.
fn escape(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

fn final_order(order: &Order) -> FinalOrder {
    FinalOrder {
        id: order.id,
        index: order.index,
        key: order.reference.as_deref().and_then(|text| text.parse::<Key>().ok()),
        lines: lines_of(order).unwrap_or_default(),
        total_cents: order.total_cents,
    }
}

async fn verify(cluster: &Cluster, node: usize) -> Result<Verification> {
    let mut client = cluster.client(VERIFY_TIMEOUT);
    get(&mut client, node, "/v1/verify").await
}

async fn get<T: DeserializeOwned>(client: &mut Client, node: usize, path: &str) -> Result<T> {
    // The cluster is healed, but a leader may still be changing: a few tries.
    let mut last = String::new();
    for _ in 0..5 {
        match client.get(node, path).await {
            Ok(reply) if reply.status == 200 => {
                return reply.json().with_context(|| format!("GET {path}: unreadable"));
            }
            Ok(reply) => {
                last = format!("{} {}", reply.status, String::from_utf8_lossy(&reply.body));
            }
            Err(failure) => last = format!("{failure:?}"),
        }
        sleep(Duration::from_millis(300)).await;
    }
    bail!("GET {path}: {last}")
}
