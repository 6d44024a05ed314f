//! Commands on reservations, and their end when the time is up.

use std::sync::Arc;

use super::{Effects, items::touch, plan, push_order};
use crate::{
    catalog::Item,
    changes::{ChangeKind, ChangeWhat},
    command::{LogIndex, Outcome, Rejection, Reserve, WrongState},
    orders::{Order, OrderLine},
    reservations::{Reservation, ReservationId, ReservationStatus},
    state::State,
};

pub(super) fn reserve(
    state: &mut State,
    index: LogIndex,
    wanted: &Reserve,
    effects: &mut Effects,
) -> Result<Outcome, Rejection> {
    let (ttl_ms, max_ms) = (wanted.ttl_ms, state.policy.reservation_ttl_max_ms);
    if ttl_ms > max_ms {
        return Err(Rejection::TtlTooLong { ttl_ms, max_ms });
    }
    let limit = state.policy.reservation_limit;
    if state.held_count() >= limit {
        return Err(Rejection::TooManyReservations { limit });
    }
    // One that ended at once would hold until the next entry, whenever that is.
    let expires_ms = state.log_time_ms.checked_add(ttl_ms.max(1)).ok_or(Rejection::Overflow)?;
    let plan = plan(state, &wanted.lines, |_| 0)?;
    // From here on nothing is refused: all of it happens.
    for wanted in &plan.wanted {
        let mut item = Item::clone(&wanted.item);
        item.reserve(wanted.quantity).expect("availability was checked in the plan");
        touch(state, index, item, effects);
    }
    state.reservation_count += 1;
    let reservation = Reservation {
        id: state.reservation_count,
        total_cents: plan.total_cents,
        lines: plan.into_lines(),
        status: ReservationStatus::Held,
        customer: wanted.customer.as_deref().map(Arc::from),
        reference: wanted.reference.as_deref().map(Arc::from),
        index,
        created_ms: state.log_time_ms,
        expires_ms,
        ended: None,
    };
    let reservation = put(state, index, reservation, ChangeWhat::Created, effects);
    Ok(Outcome::Reservation(reservation))
}

/// Sells what a reservation holds, at the prices of then.
pub(super) fn confirm(
    state: &mut State,
    index: LogIndex,
    id: ReservationId,
    effects: &mut Effects,
) -> Result<Outcome, Rejection> {
    let held = held(state, id)?;
    give_back(state, index, &held.lines, effects, |item, pieces| {
        item.release(pieces).and_then(|()| item.sell(pieces))
    });
    let order = state.order_count() + 1;
    push_order(
        state,
        Order {
            id: order,
            lines: held.lines.clone(),
            total_cents: held.total_cents,
            customer: held.customer.clone(),
            reference: held.reference.clone(),
            index,
            placed_ms: state.log_time_ms,
            reservation: Some(id),
        },
    );
    end(state, index, &held, ReservationStatus::Confirmed(order), effects);
    Ok(Outcome::Ordered(order))
}

/// Gives back what a reservation holds.
pub(super) fn release(
    state: &mut State,
    index: LogIndex,
    id: ReservationId,
    effects: &mut Effects,
) -> Result<Outcome, Rejection> {
    let held = held(state, id)?;
    give_back(state, index, &held.lines, effects, Item::release);
    Ok(Outcome::Reservation(end(state, index, &held, ReservationStatus::Released, effects)))
}

/// Ends all whose time is up, however many: whoever comes after them finds their pieces there.
pub(super) fn expire(state: &mut State, index: LogIndex, effects: &mut Effects) {
    while let Some(&(expires_ms, id)) = state.expiries.get_min() {
        if expires_ms > state.log_time_ms {
            return;
        }
        let held = state.reservations.get(&id).cloned();
        let held = held.expect("what expires is derived from the reservations");
        give_back(state, index, &held.lines, effects, Item::release);
        end(state, index, &held, ReservationStatus::Expired, effects);
    }
}

/// Forgets ended ones over the limit, those that ended first.
pub(super) fn forget(state: &mut State, at_most: u64, effects: &mut Effects) {
    for _ in 0..at_most {
        if state.ended.len() as u64 <= state.policy.reservation_history {
            return;
        }
        let Some(&(_, id)) = state.ended.get_min() else { return };
        state.remove_reservation(id);
        effects.reservations.push(id);
    }
}

/// The reservation with a number, if it holds.
fn held(state: &State, id: ReservationId) -> Result<Arc<Reservation>, Rejection> {
    let found = state.reservations.get(&id).cloned();
    let found = found.ok_or(Rejection::UnknownReservation { reservation: id })?;
    match found.status {
        ReservationStatus::Held => Ok(found),
        status @ (ReservationStatus::Confirmed(_)
        | ReservationStatus::Released
        | ReservationStatus::Expired) => {
            Err(WrongState::ReservationEnded { reservation: id, status }.into())
        }
    }
}

/// Does with each item of a reservation what its end means for the pieces held.
fn give_back(
    state: &mut State,
    index: LogIndex,
    lines: &[OrderLine],
    effects: &mut Effects,
    end: impl Fn(&mut Item, u64) -> Option<()>,
) {
    for line in lines {
        let held = state.items.get(&line.item).map(|item| Item::clone(item));
        let mut item = held.expect("an item of which pieces are held is not deleted");
        end(&mut item, line.quantity).expect("as much is reserved as is held");
        touch(state, index, item, effects);
    }
}

fn end(
    state: &mut State,
    index: LogIndex,
    held: &Reservation,
    status: ReservationStatus,
    effects: &mut Effects,
) -> Arc<Reservation> {
    let what = match status {
        ReservationStatus::Held => ChangeWhat::Changed,
        ReservationStatus::Confirmed(_) => ChangeWhat::Confirmed,
        ReservationStatus::Released => ChangeWhat::Released,
        ReservationStatus::Expired => ChangeWhat::Expired,
    };
    let ended = Some((index, state.log_time_ms));
    put(state, index, Reservation { status, ended, ..held.clone() }, what, effects)
}

fn put(
    state: &mut State,
    index: LogIndex,
    reservation: Reservation,
    what: ChangeWhat,
    effects: &mut Effects,
) -> Arc<Reservation> {
    state.push_change(index, ChangeKind::Reservation, reservation.id, what);
    effects.reservations.push(reservation.id);
    let reservation = Arc::new(reservation);
    state.put_reservation(reservation.clone());
    reservation
}
