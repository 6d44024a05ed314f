//! Cancellations and reservations: each way in which one can be lost, done twice, or stay is seen.

use super::{super::check, *};
use crate::history::{End, FinalReservation, FollowUp, FollowUpReply, LogTimeMs, Standing};

const CANCELLED: &str = "an order is cancelled once, and only when somebody asked for it";
const ENDED: &str = "a reservation ends once, as those who ended it were told";
const MISSING: &str = "what is said not to exist does not exist";
const SOLD: &str = "a confirmed reservation is exactly one order, no other is any";
const IN_TIME: &str = "nothing stays reserved after its time, or ends by itself before";
const TOLD: &str = "the change history tells every end of a reservation once";

fn keyed(series: Series, number: u32) -> Key {
    Key { series, client: 1, number }
}

fn sent(series: Series, number: u32, of: u64, at: u64, reply: FollowUpReply) -> FollowUp {
    let (key, node) = (keyed(series, number), NodeIndex::new(0));
    FollowUp { key, of, node, span: span(at, at + 1), reply }
}

fn done(index: u64, order: Option<u64>) -> FollowUpReply {
    FollowUpReply::Done { index, order, replayed: false }
}

fn ended(index: u64, standing: Standing) -> FollowUpReply {
    FollowUpReply::Ended { index, standing, replayed: false }
}

/// The reservation whose key has its number.
fn reservation(
    id: u32,
    index: u64,
    pieces: u32,
    standing: Standing,
    (created_ms, ended_ms): (LogTimeMs, LogTimeMs),
) -> FinalReservation {
    let key = keyed(Series::Hold, id);
    FinalReservation {
        id: u64::from(id),
        index,
        key: Some(key),
        lines: lines(2, pieces),
        total_cents: u64::from(pieces) * 200,
        standing: Some(standing),
        order: None,
        created_ms,
        expires_ms: created_ms + [1_000, 2_000, 4_000][id as usize % 3],
        ended_ms: Some(ended_ms),
    }
}

/// The good history, and then: of item 2 three pieces are held at 18 and become order 4 at 20; one is held
/// at 19 and given back at 21; two are held at 22 and run out at 24. Order 1 is cancelled at 23.
pub(super) fn good() -> History {
    let mut history = super::good();
    let confirmed = FinalReservation {
        order: Some(4),
        ..reservation(1, 18, 3, Standing::Confirmed, (0, 1_500))
    };
    let reservations = vec![
        confirmed,
        reservation(2, 19, 1, Standing::Released, (0, 1_600)),
        reservation(3, 22, 2, Standing::Expired, (1_700, 2_700)),
    ];
    for (held, at) in reservations.iter().zip([72, 74, 83]) {
        let reply = sold(held.id, held.index, held.total_cents);
        let key = held.key.unwrap();
        let attempt = Attempt { key, ..attempt(1, held.lines, 0, span(at, at + 1), reply) };
        history.attempts.push(attempt);
    }
    history.follow_ups = vec![
        sent(Series::Confirm, 1, 1, 80, done(20, Some(4))),
        sent(Series::Release, 2, 2, 82, done(21, None)),
        sent(Series::Cancel, 3, 1, 84, done(23, Some(1))),
        sent(Series::Confirm, 4, 3, 86, ended(25, Standing::Expired)),
        sent(Series::Cancel, 5, 1, 88, ended(26, Standing::Cancelled)),
        sent(Series::Cancel, 6, 99, 90, FollowUpReply::Missing { index: 26 }),
        sent(Series::Release, 7, 3, 91, FollowUpReply::NotApplied),
    ];
    let end = |reservation, index, standing| End { reservation, index, standing };
    history.ends = vec![
        end(1, 20, Standing::Confirmed),
        end(2, 21, Standing::Released),
        end(3, 24, Standing::Expired),
    ];
    let row = |item, delta, kind, index| Movement { item, delta, kind, index };
    history
        .movements
        .extend([row(2, -3, MovementKind::Sold(4), 20), row(1, 2, MovementKind::Cancelled(1), 23)]);
    history.reads.extend([
        Read { item: 2, reserved: 4, ..read(Level::Linearizable, 0, span(79, 79), 19, 8, 19) },
        read(Level::Linearizable, 0, span(95, 96), 26, 5, 23),
        Read { item: 2, ..read(Level::Linearizable, 0, span(95, 96), 26, 5, 24) },
    ]);
    history.order_reads.push(OrderRead {
        span: span(92, 93),
        index: 26,
        cancelled: true,
        ..history.order_reads[0]
    });
    for replica in &mut history.replicas {
        replica.orders[0].cancelled = true;
        replica.orders.push(FinalOrder {
            id: 4,
            index: 20,
            key: confirmed.key,
            reservation: Some(1),
            cancelled: false,
            lines: confirmed.lines,
            total_cents: 600,
        });
        replica.reservations = reservations.clone();
        replica.items[0].stock = 5;
        replica.items[1].stock = 5;
    }
    history
}

/// A history in which all replicas are spoilt in the same way.
fn spoilt(spoil: impl Fn(&mut Replica)) -> History {
    let mut history = good();
    history.replicas.iter_mut().for_each(spoil);
    history
}

#[test]
fn good_history_passes() {
    assert_eq!(failed(&good()), [""; 0]);
}

#[test]
fn lost_cancellation_is_seen() {
    // It was confirmed, and there is nothing of it: neither the mark nor the pieces nor the row.
    let mut history = spoilt(|replica| {
        replica.orders[0].cancelled = false;
        replica.items[0].stock = 3;
    });
    history.movements.pop();
    history.reads.remove(6);
    assert_eq!(failed(&history), [CANCELLED, FOUND]);
    // A reader alone sees it too.
    let mut history = good();
    history.order_reads[1].cancelled = false;
    assert_eq!(failed(&history), [FOUND]);
}

#[test]
fn cancellation_without_its_pieces_is_seen() {
    let mut history = spoilt(|replica| replica.items[0].stock = 3);
    history.movements.pop();
    expect_seen(&history, BOOKS);
    expect_seen(&history, LEDGER);
    expect_seen(&history, SHOWN);
}

#[test]
fn cancellation_whose_pieces_return_twice_is_seen() {
    let mut history = spoilt(|replica| replica.items[0].stock = 7);
    let again = Movement { index: 26, ..*history.movements.last().unwrap() };
    history.movements.push(again);
    expect_seen(&history, BOOKS);
    expect_seen(&history, LEDGER);
    // Even if no ledger tells it.
    assert_eq!(failed(&spoilt(|replica| replica.items[0].stock = 7)), [BOOKS]);
}

#[test]
fn second_cancellation_of_an_order_is_seen() {
    let mut history = good();
    history.follow_ups[4].reply = done(26, Some(1));
    assert_eq!(failed(&history), [CANCELLED]);
    // Two who are told the same index cannot both have done it.
    history.follow_ups[4].reply = done(23, Some(1));
    expect_seen(&history, CANCELLED);
}

#[test]
fn cancellation_by_nobody_is_seen() {
    let mut history = good();
    history.follow_ups.retain(|sent| sent.key.number != 3);
    assert_eq!(failed(&history), [CANCELLED]);
    // Whoever was not answered may have done it.
    history.follow_ups.push(sent(Series::Cancel, 8, 1, 84, FollowUpReply::Unknown));
    assert_eq!(failed(&history), [""; 0]);
}

#[test]
fn cancellation_with_two_answers_is_seen() {
    let mut history = good();
    history.follow_ups.push(sent(Series::Cancel, 3, 1, 97, ended(27, Standing::Cancelled)));
    assert_eq!(failed(&history), [ONE_ANSWER]);
    let replayed = FollowUpReply::Done { index: 23, order: Some(1), replayed: true };
    history.follow_ups.last_mut().unwrap().reply = replayed;
    assert_eq!(failed(&history), [""; 0]);
}

#[test]
fn reservation_that_stays_is_seen() {
    let mut history = spoilt(|replica| {
        replica.reservations[2].standing = Some(Standing::Held);
        replica.reservations[2].ended_ms = None;
        replica.items[1].reserved = 2;
    });
    history.ends.pop();
    history.follow_ups.remove(3);
    history.reads.pop();
    assert_eq!(failed(&history), [IN_TIME]);
}

#[test]
fn pieces_that_stay_reserved_without_a_reservation_are_seen() {
    assert_eq!(failed(&spoilt(|replica| replica.items[1].reserved = 2)), [BOOKS]);
    let mut history = good();
    history.reads.last_mut().unwrap().reserved = 2;
    assert_eq!(failed(&history), [SHOWN]);
}

#[test]
fn reservation_that_ends_before_or_after_its_time_is_seen() {
    let early = spoilt(|replica| replica.reservations[2].ended_ms = Some(2_699));
    assert_eq!(failed(&early), [IN_TIME]);
    // Sold when its time was up.
    let late = spoilt(|replica| replica.reservations[0].ended_ms = Some(2_000));
    assert_eq!(failed(&late), [IN_TIME]);
    let longer = spoilt(|replica| replica.reservations[0].expires_ms += 1);
    assert_eq!(failed(&longer), [IN_TIME]);
}

#[test]
fn lost_reservation_is_seen() {
    let mut history = spoilt(|replica| {
        replica.reservations.pop();
    });
    history.follow_ups.remove(3);
    history.reads.pop();
    assert_eq!(failed(&history), [EXISTS]);
}

#[test]
fn confirmation_that_sold_nothing_or_twice_is_seen() {
    let lost = spoilt(|replica| {
        replica.orders.pop();
    });
    expect_seen(&lost, SOLD);
    let twice = spoilt(|replica| {
        let again = FinalOrder { id: 5, index: 27, ..*replica.orders.last().unwrap() };
        replica.orders.push(again);
    });
    expect_seen(&twice, SOLD);
    let other = spoilt(|replica| replica.orders[3].lines = lines(2, 2));
    expect_seen(&other, SOLD);
    let of_none = spoilt(|replica| replica.orders[3].reservation = Some(77));
    expect_seen(&of_none, SOLD);
    let of_one_given_back = spoilt(|replica| replica.orders[3].reservation = Some(2));
    expect_seen(&of_one_given_back, SOLD);
}

#[test]
fn end_that_is_not_the_one_confirmed_is_seen() {
    // Told that it was sold, and it ran out.
    let expired = spoilt(|replica| replica.reservations[0].standing = Some(Standing::Expired));
    expect_seen(&expired, ENDED);
    for (place, reply) in [
        (0, done(20, Some(3))),
        (0, done(19, Some(4))),
        (1, done(22, None)),
        (3, ended(25, Standing::Released)),
        (3, ended(23, Standing::Expired)),
        // Told that it was given back, when it had run out.
        (6, done(24, None)),
        // It was given back, and nobody else can have done it.
        (1, FollowUpReply::NotApplied),
    ] {
        let mut history = good();
        history.follow_ups[place].reply = reply;
        assert_eq!(failed(&history).first(), Some(&ENDED), "{reply:?}");
    }
}

#[test]
fn existing_order_that_is_said_to_be_missing_is_seen() {
    let mut history = good();
    history.follow_ups[5].of = 4;
    assert_eq!(failed(&history), [MISSING]);
    // Before it was placed that was right.
    history.follow_ups[5].of = 4;
    history.follow_ups[5].reply = FollowUpReply::Missing { index: 19 };
    history.follow_ups[5].span = span(78, 79);
    assert_eq!(failed(&history), [""; 0]);
}

#[test]
fn end_that_the_changes_do_not_tell_or_tell_otherwise_is_seen() {
    let mut history = good();
    history.ends.pop();
    expect_seen(&history, TOLD);
    let mut history = good();
    history.ends.push(history.ends[1]);
    assert_eq!(failed(&history), [TOLD]);
    let mut history = good();
    history.ends[2].standing = Standing::Released;
    assert_eq!(failed(&history), [TOLD]);
}

#[test]
fn more_reserved_than_there_is_is_seen() {
    let mut history = good();
    history.items[1].stock = 5;
    expect_seen(&history, NEGATIVE);
}

#[test]
fn end_below_a_known_index_is_seen() {
    let mut history = good();
    history.follow_ups[1].span = span(98, 99);
    assert_eq!(failed(&history), [REAL_TIME]);
}

#[test]
fn everything_was_looked_at() {
    for name in [CANCELLED, ENDED, MISSING, SOLD, IN_TIME, TOLD] {
        let checks = check(&good());
        assert!(checks.iter().any(|check| check.name == name && check.examined > 0), "{name}");
    }
}
