//! Reservations: held, sold, given back, ended by time.

use pygmy_storage::{
    command::{Command, Outcome, PlaceOrderLine, Policy, Proposal, Rejection, Reserve, WrongState},
    reservations::{Reservation, ReservationStatus},
};

use super::{Machine, keyed, order, put, reserve};

fn reservation(outcome: Outcome) -> Reservation {
    match outcome {
        Outcome::Reservation(reservation) => Reservation::clone(&reservation),
        other => panic!("{other:?}"),
    }
}

fn tick(stamp_ms: u64) -> Proposal {
    Proposal { stamp_ms, key: None, command: Command::Tick }
}

fn counts(m: &Machine, id: u64) -> (u64, u64, u64) {
    let item = m.view().item(id).unwrap().clone();
    (item.stock, item.reserved, item.sold)
}

#[test]
fn what_is_held_is_for_nobody_else_and_is_sold_at_the_price_of_then() {
    let mut m = Machine::memory();
    m.run(put(1, 500, 5));
    m.run(put(2, 700, 5));
    let held = reservation(m.run(reserve(&[(1, 2), (2, 1), (1, 2)], 60_000)));
    assert_eq!((held.id, held.total_cents, held.lines.len()), (1, 4 * 500 + 700, 2));
    assert_eq!(
        (held.status, held.created_ms, held.expires_ms),
        (ReservationStatus::Held, 1000, 61_000)
    );
    assert_eq!(counts(&m, 1), (5, 4, 0));
    let short = Rejection::OutOfStock { line: 0, item: 1, requested: 2, available: 1 };
    assert_eq!(m.run(order(&[(1, 2)])), Outcome::Rejected(short.clone()));
    assert_eq!(m.run(reserve(&[(1, 2)], 1)), Outcome::Rejected(short));
    m.assert_sound();

    m.run(put(1, 999, 6));
    assert_eq!(m.run(Command::ConfirmReservation { id: 1 }), Outcome::Ordered(1));
    let order = m.view().order(1).unwrap().unwrap();
    assert_eq!((order.total_cents, order.lines[0].unit_price_cents), (2700, 500));
    assert_eq!((order.reservation, order.reference.as_deref()), (Some(1), Some("ref")));
    assert_eq!(counts(&m, 1), (2, 0, 4));
    let ended = m.view().reservation(1).unwrap().clone();
    assert_eq!(ended.status, ReservationStatus::Confirmed(1));
    assert_eq!(ended.ended, Some((order.index, 1000)));
    let twice = WrongState::ReservationEnded { reservation: 1, status: ended.status };
    let twice = Outcome::Rejected(Rejection::WrongState(twice));
    assert_eq!(m.run(Command::ConfirmReservation { id: 1 }), twice);
    assert_eq!(m.run(Command::ReleaseReservation { id: 1 }), twice);
    let unknown = Rejection::UnknownReservation { reservation: 2 };
    assert_eq!(m.run(Command::ReleaseReservation { id: 2 }), Outcome::Rejected(unknown));
    m.assert_sound();
}

#[test]
fn a_reservation_is_refused_for_what_an_order_would_be_refused_for() {
    let mut m = Machine::memory();
    m.run(put(1, 500, 5));
    let expecting = Command::Reserve(Reserve {
        lines: vec![PlaceOrderLine { item: 1, quantity: 1, expected_price_cents: Some(499) }],
        ttl_ms: 10,
        customer: None,
        reference: None,
    });
    assert!(matches!(m.run(expecting), Outcome::Rejected(Rejection::PriceChanged { .. })));
    let unknown = Rejection::UnknownItem { line: 0, item: 9 };
    assert_eq!(m.run(reserve(&[(9, 1)], 10)), Outcome::Rejected(unknown));
    assert_eq!((m.working.state().reservation_count(), counts(&m, 1)), (0, (5, 0, 0)));
}

#[test]
fn a_release_gives_back_and_a_replay_gives_the_first_reply() {
    let mut m = Machine::memory();
    m.run(put(1, 500, 5));
    let first = m.apply(&keyed("k", 1000, reserve(&[(1, 5)], 1000)));
    let released = reservation(m.run(Command::ReleaseReservation { id: 1 }));
    assert_eq!(released.status, ReservationStatus::Released);
    assert_eq!(counts(&m, 1), (5, 0, 0));
    let again = m.apply(&keyed("k", 1000, reserve(&[(1, 5)], 1000)));
    assert!(again.replayed && again.outcome == first.outcome, "{again:?}");
    assert_eq!(counts(&m, 1), (5, 0, 0), "a replay holds nothing");
    m.assert_sound();
}

#[test]
fn time_ends_a_reservation_exactly_and_before_the_command_that_brings_it() {
    let mut m = Machine::memory();
    m.run(put(1, 500, 5));
    m.run(reserve(&[(1, 3)], 500));
    m.run(reserve(&[(1, 2)], 300));
    assert_eq!(m.working.state().next_expiry_ms(), Some(1300));
    m.apply(&tick(1299));
    assert_eq!(counts(&m, 1), (5, 5, 0));
    // The stamp of the order itself makes room for it.
    let bought = m.apply(&keyed("k", 1300, order(&[(1, 2)])));
    assert_eq!(bought.outcome, Outcome::Ordered(1));
    assert_eq!(counts(&m, 1), (3, 3, 2));
    let ended = m.view().reservation(2).unwrap().clone();
    assert_eq!(
        (ended.status, ended.ended),
        (ReservationStatus::Expired, Some((bought.index, 1300)))
    );
    // One that comes too late to be confirmed has ended before it is judged.
    let late =
        Proposal { stamp_ms: 1500, key: None, command: Command::ConfirmReservation { id: 1 } };
    let status = ReservationStatus::Expired;
    let why = WrongState::ReservationEnded { reservation: 1, status };
    assert_eq!(m.apply(&late).outcome, Outcome::Rejected(Rejection::WrongState(why)));
    assert_eq!((counts(&m, 1), m.working.state().next_expiry_ms()), ((3, 0, 2), None));
    m.assert_sound();

    // Many at one moment, and a clock that jumps back brings nothing back.
    for _ in 0..3 {
        m.run(reserve(&[(1, 1)], 1));
    }
    m.apply(&tick(10_000));
    m.apply(&tick(0));
    assert_eq!((counts(&m, 1), m.working.state().held_count()), ((3, 0, 2), 0));
    m.assert_sound();
}

#[test]
fn how_many_hold_and_for_how_long_and_how_many_are_remembered_is_policy() {
    let mut m = Machine::memory();
    m.run(put(1, 500, 1000));
    m.run(Command::SetPolicy(Policy {
        reservation_limit: 3,
        reservation_history: 4,
        reservation_ttl_max_ms: 100,
        ..Policy::default()
    }));
    let long = Rejection::TtlTooLong { ttl_ms: 101, max_ms: 100 };
    assert_eq!(m.run(reserve(&[(1, 1)], 101)), Outcome::Rejected(long));
    for id in 1..=3 {
        assert_eq!(reservation(m.run(reserve(&[(1, 1)], 100))).id, id);
    }
    let many = Outcome::Rejected(Rejection::TooManyReservations { limit: 3 });
    assert_eq!(m.run(reserve(&[(1, 1)], 100)), many);
    // The one that ended first goes first, whatever its number.
    m.run(Command::ReleaseReservation { id: 3 });
    for id in 4..=7 {
        assert_eq!(reservation(m.run(reserve(&[(1, 1)], 100))).id, id, "numbers have no gaps");
        m.run(Command::ReleaseReservation { id });
    }
    let kept = |m: &Machine| (1..=7).filter(|id| m.view().reservation(*id).is_some()).collect();
    let there: Vec<u64> = kept(&m);
    assert_eq!(there, [1, 2, 4, 5, 6, 7]);
    m.assert_sound();

    // A bound that is lowered takes effect a few at a time.
    m.run(Command::SetPolicy(Policy { reservation_history: 1000, ..Policy::default() }));
    for _ in 0..100 {
        m.run(reserve(&[(1, 1)], 100));
    }
    m.apply(&tick(50_000));
    m.run(Command::SetPolicy(Policy { reservation_history: 0, ..Policy::default() }));
    let ended = |m: &Machine| {
        m.working.state().reservation_count()
            - (1..=107).filter(|id| m.view().reservation(*id).is_none()).count() as u64
    };
    let mut before = ended(&m);
    assert!(before > 80, "{before}");
    while before > 0 {
        m.run(Command::Tick);
        let now = ended(&m);
        assert_eq!(now, before.saturating_sub(8));
        before = now;
    }
    m.checkpoint();
    let volume = m.volume.clone();
    drop(m);
    let m = Machine::open(volume).0;
    assert_eq!((m.view().reservation(107), m.working.state().reservation_count()), (None, 107));
    m.assert_sound();
}
