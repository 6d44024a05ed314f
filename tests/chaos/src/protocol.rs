//! What a single reply means, and whether it keeps the interface's rules whatever its contents.
//!
//! Every request that the load sends is well-formed and asks for things that exist, so most rows of the
//! interface's error table are violations here. Whether the *contents* fit the rest of the history is
//! not judged here but in [`crate::check`].

mod follow_ups;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt::Display};

use pygmy::api::{Item, ItemPage, Order, OrderLine, Problem, Reservation, WriteOutcome};

use crate::{
    client::{Failure, Reply},
    history::{BuyReply, Found, ItemId, Key, Level, Line, Lines, LogIndex, Series, StockOutcome},
};

/// Examples kept of each kind of complaint; the rest is only counted.
const EXAMPLES_MAX: usize = 5;

/// The kinds of operation that are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `POST /v1/orders`.
    Buy,
    /// `POST /v1/reservations`.
    Hold,
    /// `POST /v1/orders/{id}/cancel`.
    Cancel,
    /// `POST /v1/reservations/{id}/confirm`.
    Confirm,
    /// `DELETE /v1/reservations/{id}`.
    Release,
    /// `POST /v1/orders` or `/v1/reservations` with a used key and another body.
    KeyReuse,
    /// `POST /v1/items/{id}/stock`.
    StockChange,
    /// `GET /v1/items/{id}`, linearizable.
    ReadLinearizable,
    /// `GET /v1/items/{id}`, session.
    ReadSession,
    /// `GET /v1/items/{id}`, stale.
    ReadStale,
    /// `GET /v1/items`, linearizable or stale.
    List,
    /// `GET /v1/orders/{id}` of a confirmed order, linearizable.
    OrderRead,
}

impl Kind {
    /// The kind in words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Buy => "buy",
            Self::Hold => "hold",
            Self::Cancel => "cancel",
            Self::Confirm => "confirm",
            Self::Release => "release",
            Self::KeyReuse => "key reuse",
            Self::StockChange => "stock change",
            Self::ReadLinearizable => "read, linearizable",
            Self::ReadSession => "read, session",
            Self::ReadStale => "read, stale",
            Self::List => "list",
            Self::OrderRead => "order read",
        }
    }

    fn is_write(self) -> bool {
        match self {
            Self::Buy
            | Self::Hold
            | Self::Cancel
            | Self::Confirm
            | Self::Release
            | Self::KeyReuse
            | Self::StockChange => true,
            Self::ReadLinearizable
            | Self::ReadSession
            | Self::ReadStale
            | Self::List
            | Self::OrderRead => false,
        }
    }
}

impl From<Series> for Kind {
    fn from(series: Series) -> Self {
        match series {
            Series::Buy => Self::Buy,
            Series::Hold => Self::Hold,
            Series::Cancel => Self::Cancel,
            Series::Confirm => Self::Confirm,
            Series::Release => Self::Release,
        }
    }
}

/// Breaches of the interface's rules.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Complaints {
    /// Replies that were looked at.
    pub examined: u64,
    /// What was wrong, how often, and a few examples.
    pub kinds: BTreeMap<&'static str, (u64, Vec<String>)>,
}

impl Complaints {
    /// Notes a breach.
    pub fn add(&mut self, what: &'static str, example: impl FnOnce() -> String) {
        let (count, examples) = self.kinds.entry(what).or_default();
        *count += 1;
        if examples.len() < EXAMPLES_MAX {
            examples.push(example());
        }
    }
}

/// Looks at every reply: counts it, checks it against the interface, and says what it means.
#[derive(Debug, Default)]
pub struct Inspector {
    /// The breaches found.
    pub complaints: Complaints,
    /// Replies and failures by kind of operation and by what came of it.
    pub counts: BTreeMap<(Kind, &'static str), u64>,
}

/// The contents of an item reply that the checker needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ItemSeen {
    /// The item number.
    pub id: ItemId,
    /// Pieces in the store.
    pub stock: u64,
    /// Pieces of them that reservations hold.
    pub reserved: u64,
    /// Log index of the last change.
    pub version: LogIndex,
}

impl Inspector {
    /// How often an operation ended so.
    pub fn count(&self, kind: Kind, outcome: &'static str) -> u64 {
        self.counts.get(&(kind, outcome)).copied().unwrap_or(0)
    }

    /// What an answer to a buy or to a reservation means.
    pub fn buy(&mut self, asked: Result<&Reply, Failure>, key: Key, lines: Lines) -> BuyReply {
        let kind = Kind::from(key.series);
        let Some(reply) = self.arrived(kind, asked) else {
            return lost(asked.err());
        };
        match reply.status {
            201 => self.confirmed(reply, key, lines),
            409 => self.out_of_stock(reply, key),
            _ => match self.problem(kind, reply, &key) {
                Some(WriteOutcome::Applied) => BuyReply::AppliedUnseen,
                Some(WriteOutcome::NotApplied) => BuyReply::NotApplied,
                Some(WriteOutcome::Unknown) | None => BuyReply::Unknown,
            },
        }
    }

    /// Whether a used key with another request was refused as it must be.
    pub fn key_reuse(&mut self, asked: Result<&Reply, Failure>, key: Key) {
        let Some(reply) = self.arrived(Kind::KeyReuse, asked) else { return };
        if reply.status == 422 {
            let problem = reply.json::<Problem>();
            if problem.is_ok_and(|problem| problem.code == "idempotency_key_reused") {
                self.tally(Kind::KeyReuse, "refused");
                return;
            }
        }
        if reply.status < 500 {
            self.complaints.add("used key accepted for another request", || brief(&key, reply));
        } else {
            self.problem(Kind::KeyReuse, reply, &key);
        }
    }

    /// What an answer to a change of stock means.
    pub fn stock_change(
        &mut self,
        asked: Result<&Reply, Failure>,
        key: &str,
        item: ItemId,
    ) -> StockOutcome {
        let Some(reply) = self.arrived(Kind::StockChange, asked) else {
            return match asked.err() {
                Some(Failure::NotSent) => StockOutcome::NotApplied,
                Some(Failure::Unknown) | None => StockOutcome::Unknown,
            };
        };
        match reply.status {
            200 | 201 => {
                let (Some(index), Some(seen)) = (reply.index, self.item(reply, Some(item))) else {
                    self.complaints.add("unreadable stock reply", || brief(&key, reply));
                    return StockOutcome::Unknown;
                };
                if !reply.replayed && seen.version != index {
                    self.complaints.add("Pygmy-Index is not the index of the write", || {
                        format!("{key}: header {index}, item version {}", seen.version)
                    });
                }
                self.tally(Kind::StockChange, "applied");
                StockOutcome::Applied { index: seen.version, stock: seen.stock }
            }
            409 | 422 => {
                self.problem_rules(Kind::StockChange, reply, &key);
                self.tally(Kind::StockChange, "refused");
                match reply.index {
                    Some(index) => StockOutcome::Refused { index },
                    None => StockOutcome::NotApplied,
                }
            }
            _ => match self.problem(Kind::StockChange, reply, &key) {
                Some(WriteOutcome::NotApplied) => StockOutcome::NotApplied,
                // "Applied" without the index is of no use: the key brings the whole reply again.
                Some(WriteOutcome::Applied | WriteOutcome::Unknown) | None => StockOutcome::Unknown,
            },
        }
    }

    /// What an answer to a read of one item shows, and at which index.
    pub fn item_read(
        &mut self,
        kind: Kind,
        asked: Result<&Reply, Failure>,
        item: ItemId,
        level: Level,
        staleness_max_ms: Option<u64>,
    ) -> Option<(LogIndex, ItemSeen)> {
        let reply = self.arrived(kind, asked)?;
        if reply.status != 200 {
            self.problem(kind, reply, &format_args!("item {item}"));
            return None;
        }
        self.staleness(reply, level, staleness_max_ms);
        let Some(seen) = self.item(reply, Some(item)) else {
            self.complaints.add("unreadable item", || brief(&format_args!("item {item}"), reply));
            return None;
        };
        self.tally(kind, "answered");
        Some((reply.index?, seen))
    }

    /// What an answer to a list of items shows, and at which index.
    pub fn list(
        &mut self,
        asked: Result<&Reply, Failure>,
        level: Level,
    ) -> Option<(LogIndex, Vec<ItemSeen>)> {
        let reply = self.arrived(Kind::List, asked)?;
        if reply.status != 200 {
            self.problem(Kind::List, reply, &"list");
            return None;
        }
        self.staleness(reply, level, None);
        let Ok(page) = reply.json::<ItemPage>() else {
            self.complaints.add("unreadable list", || brief(&"list", reply));
            return None;
        };
        let rows: Vec<_> = page.items.iter().filter_map(|item| self.seen(item, None)).collect();
        self.tally(Kind::List, "answered");
        Some((reply.index?, rows))
    }

    /// What an answer to a linearizable read of a confirmed order shows, at which index, and whether the
    /// order was cancelled by then.
    pub fn order_read(
        &mut self,
        asked: Result<&Reply, Failure>,
        order: u64,
        key: Key,
        lines: Lines,
    ) -> Option<(LogIndex, Found, bool)> {
        let reply = self.arrived(Kind::OrderRead, asked)?;
        let mut cancelled = false;
        let found = match reply.status {
            200 => match reply.json::<Order>() {
                Ok(found) if found.id == order && same_order(&found, key, lines) => {
                    cancelled = found.status == "cancelled";
                    Found::Same
                }
                _ => Found::Different,
            },
            404 => Found::Missing,
            _ => {
                self.problem(Kind::OrderRead, reply, &format_args!("order {order}"));
                return None;
            }
        };
        self.tally(Kind::OrderRead, if found == Found::Same { "answered" } else { "wrong" });
        Some((reply.index?, found, cancelled))
    }

    /// Counts what became of a request; complains about what every reply must have.
    fn arrived<'a>(&mut self, kind: Kind, asked: Result<&'a Reply, Failure>) -> Option<&'a Reply> {
        let reply = match asked {
            Ok(reply) => reply,
            Err(failure) => {
                let outcome = match failure {
                    Failure::NotSent => "not sent",
                    Failure::Unknown => "no reply",
                };
                self.tally(kind, outcome);
                return None;
            }
        };
        self.complaints.examined += 1;
        if !reply.names_node || !reply.names_request {
            self.complaints
                .add("reply without Pygmy-Node or X-Request-Id", || brief(&kind.as_str(), reply));
        }
        // An error of the cluster reflects no index; whatever comes from the state does.
        if reply.index.is_none() && matches!(reply.status, 200..=299 | 404 | 409 | 412 | 422) {
            self.complaints.add("reply without Pygmy-Index", || brief(&kind.as_str(), reply));
        }
        Some(reply)
    }

    fn confirmed(&mut self, reply: &Reply, key: Key, lines: Lines) -> BuyReply {
        let made = match key.series {
            Series::Hold => reply.json::<Reservation>().ok().map(|made| Made::of_hold(&made)),
            _ => reply.json::<Order>().ok().map(|made| Made::of_buy(&made)),
        };
        let Some(made) = made else {
            self.complaints.add("unreadable order", || brief(&key, reply));
            return BuyReply::Unknown;
        };
        if (made.key, made.lines) != (Some(key), Some(lines)) || !made.as_new {
            self.complaints.add("something else was sold", || brief(&key, reply));
        }
        if !reply.replayed && reply.index != Some(made.index) {
            self.complaints.add("Pygmy-Index is not the index of the write", || {
                format!("{key}: header {:?}, order index {}", reply.index, made.index)
            });
        }
        let outcome = match (key.series, reply.replayed) {
            (Series::Hold, false) => "held",
            (Series::Hold, true) => "held (replayed)",
            (_, false) => "sold",
            (_, true) => "sold (replayed)",
        };
        self.tally(key.series.into(), outcome);
        BuyReply::Confirmed {
            order: made.id,
            index: made.index,
            total_cents: made.total_cents,
            replayed: reply.replayed,
        }
    }

    fn out_of_stock(&mut self, reply: &Reply, key: Key) -> BuyReply {
        self.problem_rules(key.series.into(), reply, &key);
        let problem = reply.json::<Problem>().ok().filter(|p| p.code == "out_of_stock");
        if problem.as_ref().is_some_and(|p| p.outcome != Some(WriteOutcome::NotApplied)) {
            self.complaints.add("refusal without outcome not_applied", || brief(&key, reply));
        }
        let details = problem.and_then(|p| Some((p.item?, p.requested?, p.available?)));
        let (Some((item, requested, available)), Some(index)) = (details, reply.index) else {
            self.complaints.add("refusal without its reasons", || brief(&key, reply));
            return BuyReply::Unknown;
        };
        let Ok(item) = ItemId::try_from(item) else {
            self.complaints.add("refusal for an item not asked for", || brief(&key, reply));
            return BuyReply::Unknown;
        };
        let outcome = if reply.replayed { "refused (replayed)" } else { "refused" };
        self.tally(key.series.into(), outcome);
        BuyReply::Refused { index, item, requested, available, replayed: reply.replayed }
    }

    fn staleness(&mut self, reply: &Reply, level: Level, most_ms: Option<u64>) {
        if level != Level::Stale {
            return;
        }
        match (reply.staleness_ms, most_ms) {
            (None, _) => self
                .complaints
                .add("stale reply without Pygmy-Staleness-Ms", || brief(&"stale read", reply)),
            (Some(is), Some(most)) if is > most => {
                self.complaints.add("staler than allowed", || format!("{is} ms, allowed {most}"));
            }
            _ => {}
        }
    }

    fn item(&mut self, reply: &Reply, wanted: Option<ItemId>) -> Option<ItemSeen> {
        let item = reply.json::<Item>().ok()?;
        self.seen(&item, wanted)
    }

    fn seen(&mut self, item: &Item, wanted: Option<ItemId>) -> Option<ItemSeen> {
        let id = ItemId::try_from(item.id).ok()?;
        if wanted.is_some_and(|wanted| wanted != id) {
            return None;
        }
        if item.stock.checked_sub(item.reserved) != Some(item.available) {
            self.complaints.add("available is not stock - reserved", || format!("{item:?}"));
        }
        let (stock, reserved, version) = (item.stock, item.reserved, item.version);
        Some(ItemSeen { id, stock, reserved, version })
    }

    /// An error that is neither a refusal nor an answer. Tells a write's outcome if it says one.
    fn problem(&mut self, kind: Kind, reply: &Reply, what: &dyn Display) -> Option<WriteOutcome> {
        let problem = self.problem_rules(kind, reply, what)?;
        let code = match (reply.status, problem.code.as_str()) {
            (429, "rate_limited") => "429 rate_limited",
            (503, "no_leader") => "503 no_leader",
            (503, "leadership_lost") => "503 leadership_lost",
            (503, "overloaded") => "503 overloaded",
            (503, "too_stale") => "503 too_stale",
            (503, "shutting_down") => "503 shutting_down",
            (503, "recovering") => "503 recovering",
            (504, "timeout") => "504 timeout",
            _ => {
                self.complaints.add("status or code that this request cannot have", || {
                    format!("{}: {}", kind.as_str(), brief(what, reply))
                });
                self.tally(kind, "other error");
                return problem.outcome;
            }
        };
        self.tally(kind, code);
        if matches!(reply.status, 429 | 503) && !reply.retry_after {
            self.complaints.add("429 or 503 without Retry-After", || brief(what, reply));
        }
        if !kind.is_write() {
            return None;
        }
        match problem.outcome {
            None => self.complaints.add("write error without outcome", || brief(what, reply)),
            Some(WriteOutcome::Unknown)
                if reply.status != 504 && problem.code != "leadership_lost" =>
            {
                self.complaints
                    .add("outcome unknown where it must be not_applied", || brief(what, reply));
            }
            Some(_) => {}
        }
        problem.outcome
    }

    /// What every problem document must keep.
    fn problem_rules(&mut self, kind: Kind, reply: &Reply, what: &dyn Display) -> Option<Problem> {
        match reply.json::<Problem>() {
            Ok(problem) if reply.is_problem && problem.status == reply.status => Some(problem),
            _ => {
                self.complaints.add("error that is not a problem document", || {
                    format!("{}: {}", kind.as_str(), brief(what, reply))
                });
                self.tally(kind, "other error");
                None
            }
        }
    }

    fn tally(&mut self, kind: Kind, outcome: &'static str) {
        *self.counts.entry((kind, outcome)).or_default() += 1;
    }
}

/// What a reply to a buy or to a reservation says was made.
struct Made {
    id: u64,
    key: Option<Key>,
    lines: Option<Lines>,
    index: LogIndex,
    total_cents: u64,
    /// Whether it is shown as it was when it was made: what became of it since is not in these replies.
    as_new: bool,
}

impl Made {
    fn of_buy(order: &Order) -> Self {
        Self {
            id: order.id,
            key: key_of(order.reference.as_deref()),
            lines: lines_of(&order.lines),
            index: order.index,
            total_cents: order.total_cents,
            as_new: order.status == "placed" && order.reservation.is_none(),
        }
    }

    fn of_hold(reservation: &Reservation) -> Self {
        Self {
            id: reservation.id,
            key: key_of(reservation.reference.as_deref()),
            lines: lines_of(&reservation.lines),
            index: reservation.index,
            total_cents: reservation.total_cents,
            as_new: reservation.status == "held" && reservation.ended_at.is_none(),
        }
    }
}

/// Lines by item number, as buyers send them; none if they are not a buyer's.
pub fn lines_of(sold: &[OrderLine]) -> Option<Lines> {
    let mut lines = Vec::with_capacity(sold.len());
    for line in sold {
        let item = ItemId::try_from(line.item).ok()?;
        lines.push(Line { item, quantity: u32::try_from(line.quantity).ok()? });
    }
    lines.sort_by_key(|line| line.item);
    Lines::from_slice(&lines)
}

/// The key in a reference, if it is one of ours.
pub fn key_of(reference: Option<&str>) -> Option<Key> {
    reference?.parse().ok()
}

fn same_order(order: &Order, key: Key, lines: Lines) -> bool {
    key_of(order.reference.as_deref()) == Some(key) && lines_of(&order.lines) == Some(lines)
}

fn lost(failure: Option<Failure>) -> BuyReply {
    match failure {
        Some(Failure::NotSent) => BuyReply::NotApplied,
        Some(Failure::Unknown) | None => BuyReply::Unknown,
    }
}

/// A reply in one line, for an example.
fn brief(what: &dyn Display, reply: &Reply) -> String {
    let body = String::from_utf8_lossy(&reply.body[..reply.body.len().min(300)]).into_owned();
    format!("{what}: {} index {:?} {body}", reply.status, reply.index)
}
