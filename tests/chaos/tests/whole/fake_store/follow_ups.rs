//! Reservations and cancellations, and where they are told of.

use std::collections::HashMap;

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode},
    response::Response,
    routing::{get, post},
};
use jiff::{SignedDuration, Timestamp};
use pygmy::api::{
    Change, ChangePage, LedgerPage, NewReservation, Order, OrderLine, Problem, Reservation,
    ReservationPage,
};

use super::{Inner, Mistake, Node, problem, reply_with, total_cents};

pub(super) fn router() -> Router<Node> {
    Router::new()
        .route("/v1/orders/{id}/cancel", post(cancel))
        .route("/v1/items/{id}/ledger", get(ledger))
        .route("/v1/reservations", get(reservations).post(reserve))
        .route("/v1/reservations/{id}", axum::routing::delete(release))
        .route("/v1/reservations/{id}/confirm", post(confirm))
        .route("/v1/changes", get(changes))
}

impl Inner {
    /// Ends what is over, each at an index of its own.
    pub(super) fn expire(&mut self, mistake: Mistake) {
        let now = Timestamp::now();
        for place in 0..self.reservations.len() {
            let one = &self.reservations[place];
            if one.status != "held" || one.expires_at.parse::<Timestamp>().unwrap() > now {
                continue;
            }
            self.index += 1;
            let lines = one.lines.clone();
            if mistake != Mistake::KeepsPieces {
                self.hold(&lines, -1);
            }
            self.end(place, "expired", now);
            self.remember(mistake);
        }
    }

    /// Reserves pieces, or gives them back when `sign` is negative.
    fn hold(&mut self, lines: &[OrderLine], sign: i64) {
        for line in lines {
            let pieces = sign * line.quantity as i64;
            *self.counts.reserved.entry(line.item).or_default() += pieces;
            self.counts.versions.insert(line.item, self.index);
        }
    }

    fn end(&mut self, place: usize, status: &str, now: Timestamp) {
        self.reservations[place].status = status.into();
        self.reservations[place].ended_at = Some(now.to_string());
        self.tell(place as u64 + 1, status);
    }

    fn tell(&mut self, id: u64, what: &str) {
        let (index, kind) = (self.index, "reservation".to_owned());
        self.changes.push(Change { index, kind, id, what: what.into() });
    }

    fn reserve(&mut self, node: &Node, wanted: NewReservation) -> (StatusCode, String) {
        if let Err(refusal) = self.shortage(node.mistake, &wanted.lines) {
            return refusal;
        }
        let now = Timestamp::now();
        let lines = self.lines(&wanted.lines);
        let id = self.reservations.len() as u64 + 1;
        self.hold(&lines, 1);
        let reservation = Reservation {
            id,
            total_cents: total_cents(&lines),
            lines,
            status: "held".into(),
            order: None,
            customer: None,
            reference: wanted.reference,
            created_at: now.to_string(),
            expires_at: (now + SignedDuration::from_secs(wanted.ttl_seconds as i64)).to_string(),
            ended_at: None,
            index: self.index,
        };
        self.tell(id, "created");
        let body = serde_json::to_string(&reservation).unwrap();
        self.reservations.push(reservation);
        (StatusCode::CREATED, body)
    }

    /// The place of a reservation that holds, or why it cannot be ended.
    fn held(&self, id: u64) -> Result<usize, (StatusCode, String)> {
        let place = place_of(id);
        match self.reservations.get(place) {
            None => Err(missing()),
            Some(one) if one.status != "held" => Err(wrong_state(&one.status)),
            Some(_) => Ok(place),
        }
    }

    fn confirm(&mut self, id: u64) -> (StatusCode, String) {
        let place = match self.held(id) {
            Ok(place) => place,
            Err(refusal) => return refusal,
        };
        let (lines, reference) =
            (self.reservations[place].lines.clone(), self.reservations[place].reference.clone());
        self.hold(&lines, -1);
        let order = Order { reservation: Some(id), ..self.order(lines, reference) };
        self.reservations[place].order = Some(order.id);
        let body = serde_json::to_string(&order).unwrap();
        self.book(order);
        self.end(place, "confirmed", Timestamp::now());
        (StatusCode::CREATED, body)
    }

    fn release(&mut self, id: u64) -> (StatusCode, String) {
        let place = match self.held(id) {
            Ok(place) => place,
            Err(refusal) => return refusal,
        };
        let lines = self.reservations[place].lines.clone();
        self.hold(&lines, -1);
        self.end(place, "released", Timestamp::now());
        (StatusCode::OK, serde_json::to_string(&self.reservations[place]).unwrap())
    }

    fn cancel(&mut self, mistake: Mistake, id: u64) -> (StatusCode, String) {
        let Some(order) = self.orders.get(place_of(id)) else {
            return missing();
        };
        if order.status == "cancelled" {
            return wrong_state("cancelled");
        }
        self.cancellations += 1;
        let cancelled = Order {
            status: "cancelled".into(),
            cancelled_at: Some(Timestamp::now().to_string()),
            ..order.clone()
        };
        let body = serde_json::to_string(&cancelled).unwrap();
        if mistake == Mistake::LosesCancellations && self.cancellations.is_multiple_of(5) {
            return (StatusCode::OK, body);
        }
        let times = if mistake == Mistake::ReturnsTwice { 2 } else { 1 };
        for line in cancelled.lines.iter().cycle().take(cancelled.lines.len() * times) {
            self.change(line.item, line.quantity as i64, "cancelled", Some(id));
        }
        self.orders[place_of(id)] = cancelled;
        (StatusCode::OK, body)
    }
}

/// Where the thing with a number is, if it is there.
fn place_of(id: u64) -> usize {
    usize::try_from(id).unwrap().wrapping_sub(1)
}

fn missing() -> (StatusCode, String) {
    (StatusCode::NOT_FOUND, serde_json::to_string(&problem(404, "not_found")).unwrap())
}

fn wrong_state(state: &str) -> (StatusCode, String) {
    let refusal = Problem { state: Some(state.into()), ..problem(409, "wrong_state") };
    (StatusCode::CONFLICT, serde_json::to_string(&refusal).unwrap())
}

async fn reserve(State(node): State<Node>, headers: HeaderMap, body: String) -> Response {
    let wanted: NewReservation = serde_json::from_str(&body).unwrap();
    let mut inner = node.inner.lock().unwrap();
    inner.once(&node, &headers, body, |inner| inner.reserve(&node, wanted))
}

async fn confirm(State(node): State<Node>, Path(id): Path<u64>, headers: HeaderMap) -> Response {
    let mut inner = node.inner.lock().unwrap();
    inner.once(&node, &headers, format!("confirm {id}"), |inner| inner.confirm(id))
}

async fn release(State(node): State<Node>, Path(id): Path<u64>, headers: HeaderMap) -> Response {
    let mut inner = node.inner.lock().unwrap();
    inner.once(&node, &headers, format!("release {id}"), |inner| inner.release(id))
}

async fn cancel(
    State(node): State<Node>,
    Path(id): Path<u64>,
    headers: HeaderMap,
    Json(_): Json<pygmy::api::CancelOrder>,
) -> Response {
    let mut inner = node.inner.lock().unwrap();
    let mistake = node.mistake;
    inner.once(&node, &headers, format!("cancel {id}"), |inner| inner.cancel(mistake, id))
}

async fn reservations(
    State(node): State<Node>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let mut inner = node.inner.lock().unwrap();
    inner.expire(node.mistake);
    let wanted = |one: &&Reservation| query.get("status").is_none_or(|is| *is == one.status);
    let reservations = inner.reservations.iter().filter(wanted).cloned().collect();
    let page = ReservationPage { reservations, next_cursor: None };
    reply_with(&node, StatusCode::OK, inner.index, &page)
}

async fn ledger(State(node): State<Node>, Path(id): Path<u64>) -> Response {
    let inner = node.inner.lock().unwrap();
    let rows = inner.ledger.iter().rev().filter(|(item, _)| *item == id);
    let page = LedgerPage { rows: rows.map(|(_, row)| row.clone()).collect(), next_cursor: None };
    reply_with(&node, StatusCode::OK, inner.index, &page)
}

async fn changes(
    State(node): State<Node>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let after: u64 = query["after"].parse().unwrap();
    let inner = node.inner.lock().unwrap();
    let later = inner.changes.iter().filter(|change| change.index > after);
    let page = ChangePage { changes: later.cloned().collect(), next_after: inner.index };
    reply_with(&node, StatusCode::OK, inner.index, &page)
}
