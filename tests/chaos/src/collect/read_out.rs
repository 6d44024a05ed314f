//! Reads out what every replica holds when all is over, page by page.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use pygmy::api::{
    ChangePage, Item, ItemPage, LedgerPage, LedgerRow, Order, OrderPage, Reservation,
    ReservationPage, Verification,
};
use serde::de::DeserializeOwned;
use tokio::time::sleep;

use super::CALM_TIMEOUT;
use crate::{
    client::Client,
    cluster::Cluster,
    history::{
        End, FinalItem, FinalOrder, FinalReservation, History, ItemId, LogTimeMs, Movement,
        MovementKind, Replica, Standing,
    },
    protocol::{key_of, lines_of},
};

/// For a replica's full check of itself.
const VERIFY_TIMEOUT: Duration = Duration::from_secs(60);

/// Reads everything from every replica: from the first one linearizably, from the others as they have it.
/// What moved and what ended is read from the first one only: they hold the same, by their hashes. Gives
/// what could not be read.
pub async fn read_out(cluster: &Cluster, history: &mut History) -> Vec<String> {
    let mut problems = Vec::new();
    for node in 0..cluster.len() {
        let consistency = if node == 0 { "linearizable" } else { "stale" };
        let mut replica = Replica {
            name: cluster.name(node).to_owned(),
            orders: Vec::new(),
            items: Vec::new(),
            reservations: Vec::new(),
            verification: verify(cluster, node).await.map_err(|error| format!("{error:#}")),
        };
        if let Err(error) = read_replica(cluster, node, consistency, &mut replica).await {
            problems.push(format!("{}: {error:#}", replica.name));
        }
        history.replicas.push(replica);
    }
    if let Err(error) = read_movements(cluster, history).await {
        problems.push(format!("ledgers: {error:#}"));
    }
    if let Err(error) = read_ends(cluster, history).await {
        problems.push(format!("changes: {error:#}"));
    }
    problems
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
        let path = page("reservations", consistency, cursor.as_deref());
        let page: ReservationPage = get(&mut client, node, &path).await?;
        for reservation in &page.reservations {
            replica.reservations.push(final_reservation(reservation)?);
        }
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    loop {
        let path = page("items", consistency, cursor.as_deref());
        let page: ItemPage = get(&mut client, node, &path).await?;
        replica.items.extend(page.items.iter().map(final_item));
        cursor = page.next_cursor;
        if cursor.is_none() {
            return Ok(());
        }
    }
}

async fn read_movements(cluster: &Cluster, history: &mut History) -> Result<()> {
    let mut client = cluster.client(CALM_TIMEOUT);
    for item in &history.items {
        let mut cursor: Option<String> = None;
        loop {
            let ledger = format!("items/{}/ledger", item.id);
            let path = page(&ledger, "linearizable", cursor.as_deref());
            let page: LedgerPage = get(&mut client, 0, &path).await?;
            let rows = page.rows.iter().map(|row| movement(item.id, row));
            history.movements.extend(rows);
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
    }
    Ok(())
}

/// Reads all changes until there are no more.
async fn read_ends(cluster: &Cluster, history: &mut History) -> Result<()> {
    let mut client = cluster.client(CALM_TIMEOUT);
    let mut after = 0;
    loop {
        let path = format!("/v1/changes?kinds=reservation&limit=1000&after={after}");
        let page: ChangePage = get(&mut client, 0, &path).await?;
        for change in &page.changes {
            // "created" is no end, and what else there may be is none that the checker knows.
            if let Some(standing) = Standing::parse(&change.what) {
                history.ends.push(End { reservation: change.id, index: change.index, standing });
            }
        }
        if page.next_after <= after {
            return Ok(());
        }
        after = page.next_after;
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
        key: key_of(order.reference.as_deref()),
        reservation: order.reservation,
        cancelled: order.status == "cancelled",
        lines: lines_of(&order.lines).unwrap_or_default(),
        total_cents: order.total_cents,
    }
}

fn final_item(item: &Item) -> FinalItem {
    FinalItem {
        // A number that is none of ours is as wrong as a missing item.
        id: ItemId::try_from(item.id).unwrap_or(ItemId::MAX),
        stock: item.stock,
        reserved: item.reserved,
    }
}

fn final_reservation(reservation: &Reservation) -> Result<FinalReservation> {
    Ok(FinalReservation {
        id: reservation.id,
        index: reservation.index,
        key: key_of(reservation.reference.as_deref()),
        lines: lines_of(&reservation.lines).unwrap_or_default(),
        total_cents: reservation.total_cents,
        standing: Standing::parse(&reservation.status),
        order: reservation.order,
        created_ms: millis(&reservation.created_at)?,
        expires_ms: millis(&reservation.expires_at)?,
        ended_ms: reservation.ended_at.as_deref().map(millis).transpose()?,
    })
}

fn millis(time: &str) -> Result<LogTimeMs> {
    let time: jiff::Timestamp = time.parse().with_context(|| format!("{time:?} is no time"))?;
    Ok(time.as_millisecond())
}

fn movement(item: ItemId, row: &LedgerRow) -> Movement {
    let kind = match (row.reason.as_str(), row.order) {
        ("sold", Some(order)) => MovementKind::Sold(order),
        ("cancelled", Some(order)) => MovementKind::Cancelled(order),
        _ => MovementKind::Stock,
    };
    Movement { item, delta: row.delta, kind, index: row.index }
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
