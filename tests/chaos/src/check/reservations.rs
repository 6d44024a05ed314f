//! The reservations at the end, against the order book, the change history and their own time.

use std::collections::BTreeMap;

use super::Check;
use crate::{
    history::{End, FinalOrder, FinalReservation, History, LogIndex, Standing},
    load::hold_seconds,
};

/// Where the reservations ended, by number: as the change history tells it. It must tell each once, and
/// as the reservation says itself.
pub(super) fn ended_at(
    history: &History,
    reservations: &[FinalReservation],
) -> (BTreeMap<u64, LogIndex>, Check) {
    let mut check = Check::new("the change history tells every end of a reservation once");
    let mut told: BTreeMap<u64, Vec<&End>> = BTreeMap::new();
    for end in &history.ends {
        told.entry(end.reservation).or_default().push(end);
    }
    for reservation in reservations {
        let ends = told.get(&reservation.id).map_or(&[][..], Vec::as_slice);
        let holds = match (reservation.standing, ends) {
            (Some(Standing::Held), []) => true,
            (Some(standing), [end]) => end.standing == standing && end.index > reservation.index,
            _ => false,
        };
        check.expect(holds, || format!("{reservation:?}, and the changes tell {ends:?}"));
    }
    let at = history.ends.iter().map(|end| (end.reservation, end.index)).collect();
    (at, check)
}

/// A confirmed reservation is exactly one order, with what was held; no other is any.
pub(super) fn sold(reservations: &[FinalReservation], book: &[FinalOrder]) -> Check {
    let mut check = Check::new("a confirmed reservation is exactly one order, no other is any");
    let mut orders: BTreeMap<u64, Vec<&FinalOrder>> = BTreeMap::new();
    for order in book {
        if let Some(reservation) = order.reservation {
            orders.entry(reservation).or_default().push(order);
        }
    }
    for reservation in reservations {
        let became = orders.remove(&reservation.id).unwrap_or_default();
        let confirmed = reservation.standing == Some(Standing::Confirmed);
        let holds = match became.as_slice() {
            [] => !confirmed && reservation.order.is_none(),
            [order] => {
                confirmed
                    && reservation.order == Some(order.id)
                    && (order.key, order.lines, order.total_cents)
                        == (reservation.key, reservation.lines, reservation.total_cents)
            }
            _ => false,
        };
        check.expect(holds, || format!("{reservation:?} became {became:?}"));
    }
    for (reservation, orders) in orders {
        check.violation(|| format!("there is no reservation {reservation}, and yet {orders:?}"));
    }
    check
}

/// A reservation runs out when its time is up and not before, by log time; nothing is held at the end,
/// when everybody has waited for longer than anything holds.
pub(super) fn in_time(reservations: &[FinalReservation]) -> Check {
    let mut check = Check::new("nothing stays reserved after its time, or ends by itself before");
    for reservation in reservations {
        let ended = reservation.ended_ms;
        let in_time = match reservation.standing {
            Some(Standing::Expired) => ended.is_some_and(|ended| ended >= reservation.expires_ms),
            Some(Standing::Confirmed | Standing::Released) => {
                ended.is_some_and(|ended| ended < reservation.expires_ms)
            }
            Some(Standing::Held | Standing::Cancelled) | None => false,
        };
        let as_long = reservation.key.is_none_or(|key| {
            reservation.expires_ms - reservation.created_ms == i64::from(hold_seconds(key)) * 1000
        });
        check.expect(in_time && as_long, || format!("{reservation:?}"));
    }
    check
}
