//! Orders that are taken back.

use pygmy_storage::{
    command::{CancelOrder, Command, Outcome, Rejection, WrongState},
    orders::OrderStatus,
    query::OrderFilter,
    store,
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

#[test]
fn pages_of_old_orders_show_how_each_was_taken_back_long_after() {
    const ORDERS: u64 = 3000;
    let mut m = Machine::memory();
    m.run(put(1, 1, 1_000_000));
    for _ in 1..=ORDERS {
        m.run(order(&[(1, 1)]));
    }
    // Taken back in another order than they came in, so that a page's are in many chunks.
    let cancelled: Vec<u64> = (0..ORDERS).map(|n| n * 1009 % ORDERS + 1).take(2500).collect();
    for id in &cancelled {
        m.run(cancel(&m.view(), *id, Some(&format!("reason {id}"))));
    }
    m.checkpoint();
    assert!(m.history.cancellation_chunk(1).is_ok(), "two chunks have left memory");
    let check = |m: &Machine| {
        let (view, mut after, mut seen) = (m.view(), None, 0);
        loop {
            let page = view.orders(&OrderFilter::default(), after, 700).unwrap();
            let found = view.cancellations_of(&page.rows).unwrap();
            assert_eq!(found.len(), page.rows.len());
            for (order, found) in page.rows.iter().zip(&found) {
                let told = found.as_ref().map(|it| (it.order, it.reason.clone().unwrap()));
                let is_cancelled = cancelled.contains(&order.id);
                let expected =
                    is_cancelled.then(|| (order.id, format!("reason {}", order.id).into()));
                assert_eq!(told, expected, "order {}", order.id);
                assert_eq!(*found, view.cancellation(order.id).unwrap());
                seen += 1;
            }
            after = page.next_after;
            if after.is_none() {
                assert_eq!(seen, ORDERS);
                return;
            }
        }
    };
    check(&m);
    let (file, _) = store::build_snapshot(&*m.volume, &m.view(), &mut || {}).unwrap();
    m.install(&file);
    check(&m);
    m.assert_sound();
}
