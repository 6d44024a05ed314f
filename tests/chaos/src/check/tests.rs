//! A good history passes, and each way to spoil it is seen by the check that is there for it.

mod follow_ups;

use pygmy::api::{HashAt, Verification};

use super::check;
use crate::history::{
    Attempt, BuyReply, FinalItem, FinalOrder, Found, History, InitialItem, Key, Level, Line, Lines,
    Moment, Movement, MovementKind, NodeIndex, OrderRead, Read, Replica, Series, Span, StockChange,
    StockOutcome,
};

const EXISTS: &str = "every confirmed order exists";
const ONCE: &str = "no order exists twice, none that was refused";
const CONTENTS: &str = "every order is what was bought and confirmed";
const DENSE: &str = "order numbers are dense and follow the log";
const ONE_ANSWER: &str = "one key, one answer, however often it is sent";
const NEGATIVE: &str = "stock and what is available are never below zero, at any index";
const BOOKS: &str = "per item: received = available + reserved + sold + written off";
const LEDGER: &str = "the ledgers tell every sale, return and change of stock once";
const SAME: &str = "all replicas show the same orders, reservations and items";
const HASH: &str = "all replicas verify and have the same state hash";
const SHOWN: &str = "every state shown was the state at its index";
const REFUSALS: &str = "every refusal fits the stock at its index";
const FOUND: &str = "a confirmed order is found, as it is, on any node";
const REAL_TIME: &str = "linearizable: no reply is older than what was known before";
const MONOTONIC: &str = "no node ever shows an older state than before";
const INTERFACE: &str = "every reply keeps the interface's rules";

fn failed(history: &History) -> Vec<&'static str> {
    check(history).into_iter().filter(|check| check.violations > 0).map(|c| c.name).collect()
}

#[track_caller]
fn expect_seen(history: &History, by: &'static str) {
    let failed = failed(history);
    assert!(failed.contains(&by), "not seen by {by:?}, only by {failed:?}");
}

fn key(number: u32) -> Key {
    Key { series: Series::Buy, client: 1, number }
}

fn lines(item: u32, quantity: u32) -> Lines {
    Lines::from_slice(&[Line { item, quantity }]).unwrap()
}

/// Milliseconds, to write histories by hand.
fn span(start: u64, end: u64) -> Span {
    Span { start: Moment(start * 1_000_000), end: Moment(end * 1_000_000) }
}

fn attempt(number: u32, lines: Lines, node: usize, span: Span, reply: BuyReply) -> Attempt {
    Attempt { key: key(number), lines, node: NodeIndex::new(node), span, reply }
}

fn sold(order: u64, index: u64, total_cents: u64) -> BuyReply {
    BuyReply::Confirmed { order, index, total_cents, replayed: false }
}

fn read(level: Level, node: usize, at: Span, index: u64, stock: u64, version: u64) -> Read {
    let node = NodeIndex::new(node);
    Read { client: 9, node, level, item: 1, span: at, index, stock, reserved: 0, version }
}

fn book() -> Vec<FinalOrder> {
    let order = |id, index, number, lines, total_cents| FinalOrder {
        id,
        index,
        key: Some(key(number)),
        reservation: None,
        cancelled: false,
        lines,
        total_cents,
    };
    let two = Lines::from_slice(&[Line { item: 1, quantity: 1 }, Line { item: 2, quantity: 2 }]);
    vec![
        order(1, 10, 1, lines(1, 2), 200),
        order(2, 14, 4, lines(1, 1), 100),
        order(3, 16, 5, two.unwrap(), 500),
    ]
}

fn movements() -> Vec<Movement> {
    let row = |item, delta, kind, index| Movement { item, delta, kind, index };
    vec![
        row(1, 3, MovementKind::Stock, 3),
        row(2, 10, MovementKind::Stock, 4),
        row(1, -2, MovementKind::Sold(1), 10),
        row(1, 4, MovementKind::Stock, 12),
        row(1, -1, MovementKind::Sold(2), 14),
        row(1, -1, MovementKind::Sold(3), 16),
        row(2, -2, MovementKind::Sold(3), 16),
    ]
}

fn replica(name: &str, index: u64) -> Replica {
    let hash = |index| HashAt { index, hash: format!("hash-{index}") };
    Replica {
        name: name.to_owned(),
        orders: book(),
        items: vec![
            FinalItem { id: 1, stock: 3, reserved: 0 },
            FinalItem { id: 2, stock: 8, reserved: 0 },
        ],
        reservations: Vec::new(),
        verification: Ok(Verification {
            node: name.to_owned(),
            index,
            ok: true,
            state_hash: format!("hash-{index}"),
            hash_ring: vec![hash(10), hash(16)],
            checks: Vec::new(),
        }),
    }
}

/// Item 1: 3 pieces at 3, -2 at 10, refused at 11, +4 at 12, -1 at 14 (unknown to its buyer), -1 at 16.
fn good() -> History {
    let one = book()[0];
    let three = book()[2];
    let refusal =
        BuyReply::Refused { index: 11, item: 1, requested: 2, available: 1, replayed: false };
    History {
        items: vec![
            InitialItem { id: 1, stock: 3, price_cents: 100, index: 3 },
            InitialItem { id: 2, stock: 10, price_cents: 200, index: 4 },
        ],
        attempts: vec![
            attempt(1, one.lines, 0, span(10, 20), BuyReply::Unknown),
            attempt(1, one.lines, 1, span(21, 25), sold(1, 10, 200)),
            attempt(
                1,
                one.lines,
                2,
                span(26, 28),
                BuyReply::Confirmed { order: 1, index: 10, total_cents: 200, replayed: true },
            ),
            attempt(2, lines(1, 2), 1, span(30, 34), refusal),
            attempt(3, lines(1, 1), 1, span(40, 41), BuyReply::NotApplied),
            attempt(4, lines(1, 1), 0, span(50, 60), BuyReply::Unknown),
            attempt(5, three.lines, 2, span(61, 66), sold(3, 16, 500)),
        ],
        stock_changes: vec![StockChange {
            number: 1,
            item: 1,
            delta: 4,
            span: span(36, 44),
            outcome: StockOutcome::Applied { index: 12, stock: 5 },
        }],
        reads: vec![
            read(Level::Linearizable, 1, span(29, 30), 10, 1, 10),
            read(Level::Stale, 2, span(31, 32), 9, 3, 3),
            read(Level::Session(12), 1, span(45, 46), 13, 5, 12),
            read(Level::Stale, 2, span(47, 48), 10, 1, 10),
            read(Level::Linearizable, 0, span(67, 68), 16, 3, 16),
        ],
        order_reads: vec![OrderRead {
            order: 1,
            key: key(1),
            node: NodeIndex::new(2),
            span: span(29, 31),
            index: 10,
            found: Found::Same,
            cancelled: false,
        }],
        movements: movements(),
        replicas: vec![replica("node1", 17), replica("node2", 17), replica("node3", 18)],
        ..History::default()
    }
}

#[test]
fn good_history_passes_and_everything_in_it_was_looked_at() {
    assert_eq!(failed(&good()), [""; 0]);
    let checks = check(&follow_ups::good());
    for check in &checks {
        assert_eq!(check.violations, 0, "{check:?}");
        assert!(check.examined > 0 || check.name == INTERFACE, "{check:?}");
    }
}

#[test]
fn lost_order_is_seen() {
    let mut history = good();
    for replica in &mut history.replicas {
        replica.orders.remove(0);
    }
    expect_seen(&history, EXISTS);
    expect_seen(&history, DENSE);
    expect_seen(&history, BOOKS);
}

#[test]
fn lost_last_order_is_seen_though_numbers_stay_dense() {
    let mut history = good();
    for replica in &mut history.replicas {
        replica.orders.pop();
        replica.items[0].stock += 1;
        replica.items[1].stock += 2;
    }
    expect_seen(&history, EXISTS);
}

#[test]
fn order_that_says_it_was_applied_must_exist() {
    let mut history = good();
    history.attempts[4].reply = BuyReply::AppliedUnseen;
    expect_seen(&history, EXISTS);
}

#[test]
fn duplicate_order_is_seen() {
    let mut history = good();
    for replica in &mut history.replicas {
        let again = FinalOrder { id: 4, index: 17, ..replica.orders[0] };
        replica.orders.push(again);
        replica.items[0].stock = 1;
    }
    assert_eq!(failed(&history), [ONCE, CONTENTS, LEDGER]);
}

#[test]
fn foreign_order_is_seen() {
    let mut history = good();
    history.replicas[0].orders[1].key = None;
    expect_seen(&history, ONCE);
    let mut history = good();
    history.replicas[0].orders[1].key = Some(key(77));
    expect_seen(&history, ONCE);
}

#[test]
fn order_of_a_refused_or_unsent_buy_is_seen() {
    for refused in [2, 3] {
        let mut history = good();
        for replica in &mut history.replicas {
            replica.orders[1].key = Some(key(refused));
        }
        expect_seen(&history, ONCE);
    }
}

#[test]
fn unknown_order_may_be_missing() {
    let mut history = good();
    for replica in &mut history.replicas {
        replica.orders.remove(1);
        replica.orders[1].id = 2;
        replica.items[0].stock = 4;
    }
    history.movements.remove(4);
    history.movements[4].kind = MovementKind::Sold(2);
    history.movements[5].kind = MovementKind::Sold(2);
    history.attempts[6].reply = sold(2, 16, 500);
    history.reads.pop();
    assert_eq!(failed(&history), [""; 0]);
}

#[test]
fn changed_contents_are_seen() {
    for spoil in [
        (|order| order.total_cents += 1) as fn(&mut FinalOrder),
        |order| order.lines = lines(1, 1),
        |order| order.index = 11,
    ] {
        let mut history = good();
        history.replicas.iter_mut().for_each(|replica| spoil(&mut replica.orders[0]));
        expect_seen(&history, CONTENTS);
    }
}

#[test]
fn gap_in_order_numbers_and_shared_index_are_seen() {
    let mut history = good();
    history.replicas[0].orders[2].id = 4;
    expect_seen(&history, DENSE);
    let mut history = good();
    history.replicas[0].orders[2].index = 14;
    expect_seen(&history, DENSE);
}

#[test]
fn second_answer_for_a_key_is_seen() {
    let spoilt = [
        // Carried out twice.
        sold(1, 10, 200),
        // A replay of another order.
        BuyReply::Confirmed { order: 2, index: 14, total_cents: 200, replayed: true },
        // Sold first, refused later.
        BuyReply::Refused { index: 11, item: 1, requested: 2, available: 1, replayed: true },
    ];
    for reply in spoilt {
        let mut history = good();
        history.attempts[2].reply = reply;
        assert_eq!(failed(&history)[0], ONE_ANSWER);
    }
}

#[test]
fn answer_after_an_answer_must_be_a_replay() {
    let mut history = good();
    let BuyReply::Confirmed { replayed, .. } = &mut history.attempts[1].reply else { panic!() };
    *replayed = true;
    let BuyReply::Confirmed { replayed, .. } = &mut history.attempts[2].reply else { panic!() };
    *replayed = false;
    assert_eq!(failed(&history), [ONE_ANSWER]);
}

#[test]
fn first_answer_that_is_a_replay_is_allowed() {
    let mut history = good();
    let BuyReply::Confirmed { replayed, .. } = &mut history.attempts[1].reply else { panic!() };
    *replayed = true;
    assert_eq!(failed(&history), [""; 0]);
}

#[test]
fn oversell_is_seen() {
    let mut history = good();
    history.items[0].stock = 1;
    expect_seen(&history, NEGATIVE);
}

#[test]
fn books_that_do_not_balance_are_seen() {
    let mut history = good();
    history.replicas[2].items[1].stock = 9;
    assert_eq!(failed(&history), [BOOKS, SAME]);
    let mut history = good();
    history.replicas.iter_mut().for_each(|replica| replica.items[0].stock = 4);
    assert_eq!(failed(&history), [BOOKS]);
    let mut history = good();
    history.stock_changes[0].outcome = StockOutcome::Unknown;
    expect_seen(&history, BOOKS);
}

#[test]
fn movement_that_is_not_told_or_told_twice_is_seen() {
    for place in 0..movements().len() {
        let mut history = good();
        history.movements.remove(place);
        assert_eq!(failed(&history), [LEDGER]);
        let mut history = good();
        history.movements.push(history.movements[place]);
        assert_eq!(failed(&history), [LEDGER]);
    }
}

#[test]
fn replica_that_differs_is_seen() {
    let mut history = good();
    history.replicas[1].orders.pop();
    assert_eq!(failed(&history), [SAME]);
    let mut history = good();
    history.replicas[2].orders[1].total_cents = 1;
    assert_eq!(failed(&history), [SAME]);
}

#[test]
fn differing_hash_is_seen_at_the_same_index_and_in_the_rings() {
    let mut history = good();
    history.replicas[1].verification.as_mut().unwrap().state_hash = "other".to_owned();
    assert_eq!(failed(&history), [HASH]);
    let mut history = good();
    history.replicas[2].verification.as_mut().unwrap().hash_ring[1].hash = "other".to_owned();
    assert_eq!(failed(&history), [HASH]);
}

#[test]
fn verification_that_did_not_finish_or_compares_nothing_is_no_pass() {
    let mut history = good();
    history.replicas[1].verification = Err("timeout".to_owned());
    assert_eq!(failed(&history), [HASH]);
    let mut history = good();
    history.replicas[1].verification.as_mut().unwrap().ok = false;
    assert_eq!(failed(&history), [HASH]);
    let mut history = good();
    history.replicas[2].verification.as_mut().unwrap().hash_ring.clear();
    assert_eq!(failed(&history), [HASH]);
}

#[test]
fn state_that_never_was_is_seen() {
    let mut history = good();
    history.reads[1].stock = 2;
    assert_eq!(failed(&history), [SHOWN]);
    let mut history = good();
    history.reads[1].version = 4;
    assert_eq!(failed(&history), [SHOWN]);
    // The right state at the wrong index: the write's index is taken for the state's.
    let mut history = good();
    history.reads[0].index = 12;
    expect_seen(&history, SHOWN);
}

#[test]
fn item_shown_before_it_existed_is_seen() {
    let mut history = good();
    history.reads[1].index = 2;
    expect_seen(&history, SHOWN);
}

#[test]
fn session_read_below_its_index_is_seen() {
    let mut history = good();
    history.reads[2].level = Level::Session(14);
    assert_eq!(failed(&history), [SHOWN]);
}

#[test]
fn stock_change_that_shows_another_stock_is_seen() {
    let mut history = good();
    history.stock_changes[0].outcome = StockOutcome::Applied { index: 12, stock: 4 };
    assert_eq!(failed(&history), [SHOWN]);
}

#[test]
fn refusal_with_stock_there_is_seen() {
    for (index, available) in [(12, 5), (12, 1), (11, 0), (9, 1)] {
        let mut history = good();
        history.attempts[3].reply =
            BuyReply::Refused { index, item: 1, requested: 2, available, replayed: false };
        expect_seen(&history, REFUSALS);
    }
}

#[test]
fn refusal_of_something_else_is_seen() {
    let mut history = good();
    history.attempts[3].reply =
        BuyReply::Refused { index: 11, item: 2, requested: 2, available: 1, replayed: false };
    expect_seen(&history, REFUSALS);
}

#[test]
fn refused_write_off_with_stock_there_is_seen() {
    let refused = |delta| StockChange {
        number: 2,
        item: 1,
        delta,
        span: span(69, 70),
        outcome: StockOutcome::Refused { index: 17 },
    };
    let mut history = good();
    history.stock_changes.push(refused(-4));
    assert_eq!(failed(&history), [""; 0]);
    history.stock_changes.push(refused(-3));
    assert_eq!(failed(&history), [REFUSALS]);
}

#[test]
fn missing_or_changed_order_is_seen() {
    for found in [Found::Missing, Found::Different] {
        let mut history = good();
        history.order_reads[0].found = found;
        assert_eq!(failed(&history), [FOUND]);
    }
}

#[test]
fn stale_linearizable_read_is_seen() {
    // It shows what was true at 9; the sale at 10 had been confirmed before it began.
    let mut history = good();
    history.reads[0] = read(Level::Linearizable, 1, span(29, 30), 9, 3, 3);
    assert_eq!(failed(&history), [REAL_TIME]);
    // While the sale was still under way, the same answer is right.
    history.reads[0].span = span(24, 27);
    assert_eq!(failed(&history), [""; 0]);
}

#[test]
fn stale_order_read_is_seen() {
    let mut history = good();
    history.order_reads[0].index = 9;
    assert_eq!(failed(&history), [REAL_TIME]);
}

#[test]
fn linearizable_read_older_than_a_stale_one_before_it_is_seen() {
    let mut history = good();
    history.reads[4] = read(Level::Linearizable, 0, span(49, 50), 11, 1, 10);
    assert_eq!(failed(&history), [REAL_TIME]);
}

#[test]
fn write_below_a_known_index_is_seen() {
    let mut history = good();
    history.attempts[6].span = span(90, 95);
    let late = read(Level::Linearizable, 0, span(80, 81), 16, 3, 16);
    history.reads.push(late);
    assert_eq!(failed(&history), [REAL_TIME]);
}

#[test]
fn node_that_goes_back_in_time_is_seen() {
    let mut history = good();
    history.reads[3] = read(Level::Stale, 2, span(47, 48), 8, 3, 3);
    assert_eq!(failed(&history), [MONOTONIC]);
    // Two reads at once may come in either order.
    history.reads[3].span = span(31, 48);
    assert_eq!(failed(&history), [""; 0]);
    // Another node may be behind.
    history.reads[3] = read(Level::Stale, 0, span(47, 48), 8, 3, 3);
    assert_eq!(failed(&history), [""; 0]);
}

#[test]
fn breach_of_the_interface_is_seen() {
    let mut history = good();
    history.complaints.add("error that is not a problem document", || "500".to_owned());
    assert_eq!(failed(&history), [INTERFACE]);
}
