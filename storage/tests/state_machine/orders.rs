//! Orders that are taken back.

use pygmy_storage::{
    command::{CancelOrder, Command, Outcome, Rejection, WrongState},
    orders::OrderStatus,
};

use super::{Machine, cancel, keyed, order, put};

#[test]
fn a_cancelled_order_gives_its_pieces_back_once() {
    let mut m = Machine::memory();
    m.run(put(1, 500, 10));
    m.run(put(2, 700, 10));
    m.run(order(&[(1, 3), (2, 4)]));
    let placed = m.view().order(1).unwrap().unwrap();
    let Outcome::Cancelled(done) = m.run(cancel(&m.view(), 1, Some("broken"))) else { panic!() };
    let index = m.working.state().applied().unwrap();
    assert_eq!((done.order, done.reason.as_deref(), done.index), (1, Some("broken"), index));
    for id in [1, 2] {
        let item = m.view().item(id).unwrap().clone();
        let counts = (item.stock, item.received, item.sold, item.written_off, item.version);
        assert_eq!(counts, (10, 10, 0, 0, index));
    }
    assert_eq!(m.working.state().order_status(1), Some(OrderStatus::Cancelled));
    assert_eq!(m.view().cancellation(1).unwrap(), Some(done));
    assert_eq!(m.view().order(1).unwrap().unwrap(), placed, "its record stays as it was");
    m.assert_sound();

    let again = Rejection::WrongState(WrongState::OrderCancelled { order: 1 });
    assert_eq!(m.run(cancel(&m.view(), 1, None)), Outcome::Rejected(again));
    let unknown = CancelOrder { order: 2, lines: vec![(1, 1)], placed_index: 0, reason: None };
    let refused = m.run(Command::CancelOrder(unknown));
    assert_eq!(refused, Outcome::Rejected(Rejection::UnknownOrder { order: 2 }));
    assert_eq!(m.working.state().order_status(2), None);
    assert_eq!(m.view().cancellation(2).unwrap(), None);
    m.assert_sound();
}

#[test]
fn a_cancellation_under_a_key_is_replayed_whoever_read_the_order() {
    let mut m = Machine::memory();
    m.run(put(1, 500, 10));
    m.run(order(&[(1, 3)]));
    let first = m.apply(&keyed("k", 1000, cancel(&m.view(), 1, Some("r"))));
    let other = |reason: &str| {
        let reason = Some(reason.to_owned());
        Command::CancelOrder(CancelOrder { order: 1, lines: vec![], placed_index: 9, reason })
    };
    let again = m.apply(&keyed("k", 1000, other("r")));
    assert!(again.replayed && again.outcome == first.outcome, "{again:?}");
    let reused = m.apply(&keyed("k", 1000, other("s")));
    assert_eq!(reused.outcome, Outcome::Rejected(Rejection::KeyReused));
}

#[test]
fn cancellations_that_left_memory_are_found_again() {
    let mut m = Machine::memory();
    m.run(put(1, 1, 1_000_000));
    for id in 1..=5000 {
        m.run(order(&[(1, 1)]));
        if id % 2 == 0 {
            m.run(cancel(&m.view(), id, None));
        }
    }
    m.checkpoint();
    let check = |m: &Machine| {
        m.assert_sound();
        for id in 1..=5000 {
            let found = m.view().cancellation(id).unwrap();
            assert_eq!(found.map(|found| found.order), (id % 2 == 0).then_some(id));
        }
        assert_eq!(m.view().item(1).unwrap().sold, 2500);
    };
    check(&m);
    let volume = m.volume.clone();
    drop(m);
    check(&Machine::open(volume).0);
}
