//! Before and after the load: items are put in; at the end what is unknown is asked for again, what is held
//! runs out, and what the replicas hold is read out.
//!
//! All of it through the HTTP interface, and each step with a deadline of its own.

mod read_out;

use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures_util::future::join_all;
use pygmy::api::{Item, ReservationPage};
use rand::{SeedableRng, seq::index};
use rand_chacha::ChaCha8Rng;
use tokio::time::{Instant, sleep};

use crate::{
    client::Client,
    cluster::Cluster,
    history::{
        Attempt, FollowUp, InitialItem, ItemId, LogIndex, Moment, NodeIndex, Span, StockChange,
    },
    load::{Shared, buy_body, buy_path, repeat_until_known, send_follow_up},
};

pub use self::read_out::read_out;

/// For one request that should simply work.
const CALM_TIMEOUT: Duration = Duration::from_secs(10);
/// For the last reservation to run out: far more than any holds.
const UNHELD_TIMEOUT: Duration = Duration::from_secs(30);
/// For all replicas to reach the same index.
const LEVEL_TIMEOUT: Duration = Duration::from_secs(30);
/// Older writes are not repeated: in a long run the store may have forgotten their keys, as it may by its
/// limit on their number.
const KEYS_KEPT_NS: u64 = 120_000_000_000;
/// Writes that are repeated at the same time.
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

/// Sends some of the buys and follow-ups again, from the whole run, with their own keys: what was answered
/// before must be answered the same way now, after all restarts and snapshots; what was unknown becomes
/// known.
pub async fn repeat_some(
    cluster: &Cluster,
    attempts: &mut Vec<Attempt>,
    follow_ups: &mut Vec<FollowUp>,
    most: usize,
    seed: u64,
    shared: &Shared,
) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let oldest = Moment(shared.clock.now().0.saturating_sub(KEYS_KEPT_NS));
    let recent = attempts.iter().filter(|attempt| attempt.span.start >= oldest).copied();
    let chosen = choose(recent.collect(), most, &mut rng);
    let again =
        async |attempt, node, client: &mut Client| repeat(attempt, node, client, shared).await;
    attempts.extend(repeat_each(cluster, &chosen, again).await);
    let recent = follow_ups.iter().filter(|sent| sent.span.start >= oldest).copied();
    let chosen = choose(recent.collect(), most, &mut rng);
    let again = async |sent: FollowUp, node, client: &mut Client| {
        send_follow_up(sent.key, sent.of, node, client, &shared.inspector, shared.clock).await
    };
    follow_ups.extend(repeat_each(cluster, &chosen, again).await);
}

/// Some of them, never more than a tenth.
fn choose<T: Copy>(of: Vec<T>, most: usize, rng: &mut ChaCha8Rng) -> Vec<T> {
    let chosen = index::sample(rng, of.len(), most.min(of.len() / 10));
    chosen.into_iter().map(|place| of[place]).collect()
}

/// Repeats them, a few at a time, on one node after the other.
async fn repeat_each<T: Copy>(
    cluster: &Cluster,
    chosen: &[T],
    again: impl AsyncFn(T, usize, &mut Client) -> T,
) -> Vec<T> {
    let again = &again;
    let size = chosen.len().div_ceil(REPEATERS).max(1);
    let repeated = chosen.chunks(size).enumerate().map(async |(repeater, sent)| {
        let mut client = cluster.client(CALM_TIMEOUT);
        let mut repeated = Vec::with_capacity(sent.len());
        for (turn, sent) in sent.iter().enumerate() {
            let node = (repeater + turn) % cluster.len();
            repeated.push(again(*sent, node, &mut client).await);
        }
        repeated
    });
    join_all(repeated).await.into_iter().flatten().collect()
}

async fn repeat(attempt: Attempt, node: usize, client: &mut Client, shared: &Shared) -> Attempt {
    let Attempt { key, lines, .. } = attempt;
    let start = shared.clock.now();
    let body = buy_body(key, lines);
    let reply = client.post(node, buy_path(key), &key.to_string(), body).await;
    let span = Span { start, end: shared.clock.now() };
    let asked = reply.as_ref().map_err(|failure| *failure);
    let reply = shared.inspector.borrow_mut().buy(asked, key, lines);
    Attempt { key, lines, node: NodeIndex::new(node), span, reply }
}

/// Waits until the time of every reservation is up, by what the first node says.
pub async fn await_unheld(cluster: &Cluster) -> Result<()> {
    let mut client = cluster.client(CALM_TIMEOUT);
    let deadline = Instant::now() + UNHELD_TIMEOUT;
    loop {
        let path = "/v1/reservations?status=held&limit=1";
        let reply = client.get(0, path).await.ok().filter(|reply| reply.status == 200);
        let held = reply.and_then(|reply| reply.json::<ReservationPage>().ok());
        if held.as_ref().is_some_and(|page| page.reservations.is_empty()) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let seconds = UNHELD_TIMEOUT.as_secs();
            bail!("something is still reserved {seconds} s after the load: {held:?}");
        }
        sleep(Duration::from_millis(50)).await;
    }
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
