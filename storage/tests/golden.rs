//! The bytes of every stored type. A change here means that no existing database can be read.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use pygmy_storage::{
    catalog::{Item, LedgerRow, StockReason},
    changes::{Change, ChangeKind, ChangeWhat},
    checkpoint::ItemPage,
    chunk_index::Summary,
    codec,
    command::{
        BatchOutcome, BatchRefusal, ImportOutcome, ImportRefusal, KeyHash, Outcome, Rejection,
        WrongState,
    },
    orders::{Cancellation, KeyRecord, Order, OrderLine},
    prices::{PriceHistory, PriceSpan},
    reservations::{Reservation, ReservationStatus},
    sequence::Chunk,
};
use serde::{Serialize, de::DeserializeOwned};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn check<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T, golden: &str) {
    let bytes = codec::encode(value);
    assert_eq!(hex(&bytes), golden, "{value:?}");
    assert_eq!(codec::decode::<T>(&bytes, "golden").unwrap(), *value);
}

fn item() -> Item {
    Item {
        id: 1,
        title: "T".into(),
        topic: "X".into(),
        price_cents: 2,
        stock: 3,
        reserved: 0,
        received: 5,
        sold: 1,
        written_off: 1,
        version: 6,
        created_index: 5,
        created_ms: 7,
        updated_ms: 300,
    }
}

#[test]
fn items_ledger_rows_and_orders() {
    check(&item(), "0101540158020300050101060507fb2c01");
    check(
        &LedgerRow {
            item: 1,
            delta: -2,
            reason: StockReason::Count,
            reference: Some("r".into()),
            index: 3,
            at_ms: 4,
            order: Some(5),
        },
        "01030101017203040105",
    );
    let order = Order {
        id: 1,
        lines: vec![OrderLine { item: 2, title: "T".into(), quantity: 3, unit_price_cents: 4 }],
        total_cents: 12,
        customer: None,
        reference: Some("r".into()),
        index: 5,
        placed_ms: 6,
        reservation: Some(7),
    };
    check(&order, "010102015403040c0001017205060107");
    let chunk = Chunk { first: 1024, rows: vec![Arc::new(order)] };
    check(&chunk, "fb000401010102015403040c0001017205060107");
}

fn cancellation() -> Cancellation {
    Cancellation { order: 1, reason: Some("r".into()), index: 2, at_ms: 3 }
}

fn reservation(status: ReservationStatus, ended: Option<(u64, u64)>) -> Reservation {
    Reservation {
        id: 1,
        lines: vec![OrderLine { item: 2, title: "T".into(), quantity: 3, unit_price_cents: 4 }],
        total_cents: 12,
        status,
        customer: Some("c".into()),
        reference: None,
        index: 5,
        created_ms: 6,
        expires_ms: 7,
        ended,
    }
}

#[test]
fn pages_reservations_cancellations_and_changes() {
    let span = |price_cents, index| PriceSpan { price_cents, from_ms: 300, index };
    let prices = PriceHistory { spans: vec![span(9, 5), span(2, 6)] };
    let page = ItemPage { items: vec![Arc::new(item())], prices: vec![(1, Arc::new(prices))] };
    check(&page, "010101540158020300050101060507fb2c0101010209fb2c010502fb2c0106");
    check(&reservation(ReservationStatus::Held, None), "010102015403040c000101630005060700");
    let statuses = [
        (ReservationStatus::Confirmed(9), "0109"),
        (ReservationStatus::Released, "02"),
        (ReservationStatus::Expired, "03"),
    ];
    for (status, golden) in statuses {
        let golden = format!("010102015403040c{golden}01016300050607010809");
        check(&reservation(status, Some((8, 9))), &golden);
    }
    check(&cancellation(), "010101720203");
    let kinds = [
        (ChangeKind::Item, ChangeWhat::Created, "fb2c01000200"),
        (ChangeKind::Item, ChangeWhat::Deleted, "fb2c01000202"),
        (ChangeKind::Policy, ChangeWhat::Changed, "fb2c01030201"),
        (ChangeKind::Order, ChangeWhat::Cancelled, "fb2c01010203"),
        (ChangeKind::Reservation, ChangeWhat::Confirmed, "fb2c01020204"),
        (ChangeKind::Reservation, ChangeWhat::Released, "fb2c01020205"),
        (ChangeKind::Reservation, ChangeWhat::Expired, "fb2c01020206"),
    ];
    for (kind, what, golden) in kinds {
        check(&Change { index: 300, kind, id: 2, what }, golden);
    }
}

#[test]
fn idempotency_records_with_every_outcome() {
    let record = |outcome| KeyRecord {
        key: KeyHash([1; 16]),
        fingerprint: [2; 16],
        outcome,
        index: 3,
        at_ms: 4,
    };
    let around = |middle: &str| format!("{}{}{middle}0304", "01".repeat(16), "02".repeat(16));
    check(&record(Outcome::Ordered(9)), &around("0009"));
    check(
        &record(Outcome::Item(Arc::new(item()))),
        &around("010101540158020300050101060507fb2c01"),
    );
    check(&record(Outcome::Restocked(2)), &around("0202"));
    check(&record(Outcome::PolicySet), &around("03"));
    check(&record(Outcome::NodeId(4)), &around("0404"));
    let rejections = [
        (Rejection::UnknownItem { line: 1, item: 2 }, "000102"),
        (Rejection::OutOfStock { line: 1, item: 2, requested: 3, available: 4 }, "0101020304"),
        (
            Rejection::PriceChanged { line: 1, item: 2, expected_cents: 3, current_cents: 4 },
            "0201020304",
        ),
        (Rejection::VersionMismatch { current: Some(5) }, "030105"),
        (Rejection::StockTooLow { item: 1, stock: 2, reserved: 3, requested: 4 }, "0401020304"),
        (Rejection::Overflow, "05"),
        (Rejection::KeyReused, "06"),
        (WrongState::ItemReserved { item: 1, reserved: 2 }.into(), "07000102"),
        (WrongState::OrderCancelled { order: 1 }.into(), "070101"),
        (
            WrongState::ReservationEnded { reservation: 1, status: ReservationStatus::Expired }
                .into(),
            "07020103",
        ),
        (Rejection::UnknownOrder { order: 1 }, "0801"),
        (Rejection::UnknownReservation { reservation: 1 }, "0901"),
        (Rejection::TtlTooLong { ttl_ms: 2, max_ms: 1 }, "0a0201"),
        (Rejection::TooManyReservations { limit: 1 }, "0b01"),
        (Rejection::Maintenance, "0c"),
    ];
    for (rejection, golden) in rejections {
        check(&record(Outcome::Rejected(rejection)), &around(&format!("05{golden}")));
    }
    let refusal = BatchRefusal { position: 2, why: Rejection::Overflow, replayed: true };
    let batch = BatchOutcome { count: 4, first: 7, replayed: vec![(1, 5)], refused: vec![refusal] };
    check(&record(Outcome::Batch(Arc::new(batch))), &around("06040701010501020501"));
    check(&record(Outcome::Deleted { item: 1, version: 2 }), &around("070102"));
    let refusals = vec![ImportRefusal { position: 5, why: Rejection::Overflow }];
    let import = ImportOutcome { created: 1, replaced: 2, unchanged: 3, refused: 4, refusals };
    check(&record(Outcome::Imported(Arc::new(import))), &around("0801020304010505"));
    check(&record(Outcome::Cancelled(Arc::new(cancellation()))), &around("09010101720203"));
    let held = reservation(ReservationStatus::Held, None);
    check(
        &record(Outcome::Reservation(Arc::new(held))),
        &around("0a010102015403040c000101630005060700"),
    );
    check(&record(Outcome::MaintenanceSet(true)), &around("0b01"));
    check(&record(Outcome::Ticked), &around("0c"));
}

#[test]
fn summaries_of_chunks() {
    let row = LedgerRow {
        item: 1,
        delta: 1,
        reason: StockReason::Count,
        reference: None,
        index: 3,
        at_ms: 4,
        order: None,
    };
    let ledger = Chunk { first: 1024, rows: vec![Arc::new(row)] };
    let golden = "fb00040404201000000000000010020000001000000000200000000080000000040080000000";
    check(&Summary::of(&ledger), golden);
    let line = OrderLine { item: 1, title: "T".into(), quantity: 3, unit_price_cents: 4 };
    let order = Order {
        id: 1,
        lines: vec![line],
        total_cents: 12,
        customer: Some("ada".into()),
        reference: None,
        index: 5,
        placed_ms: 300,
        reservation: None,
    };
    let orders = Chunk { first: 0, rows: vec![Arc::new(order)] };
    let golden = "00fb2c01fb2c01209000000000001010060000001000002000200000000080010000040182000000";
    check(&Summary::of(&orders), golden);
}
