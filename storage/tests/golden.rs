//! The bytes of every stored type. A change here means that no existing database can be read.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use pygmy_storage::{
    catalog::{Item, LedgerRow, StockReason},
    codec,
    command::{BatchOutcome, BatchRefusal, KeyHash, Outcome, Rejection},
    orders::{KeyRecord, Order, OrderLine, OrderStatus},
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
        },
        "0103010101720304",
    );
    let order = Order {
        id: 1,
        lines: vec![OrderLine { item: 2, title: "T".into(), quantity: 3, unit_price_cents: 4 }],
        total_cents: 12,
        status: OrderStatus::Placed,
        customer: None,
        reference: Some("r".into()),
        index: 5,
        placed_ms: 6,
    };
    check(&order, "010102015403040c00000101720506");
    let chunk = Chunk { first: 1024, rows: vec![Arc::new(order)] };
    check(&chunk, "fb000401010102015403040c00000101720506");
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
    ];
    for (rejection, golden) in rejections {
        check(&record(Outcome::Rejected(rejection)), &around(&format!("05{golden}")));
    }
    let refusal = BatchRefusal { position: 2, why: Rejection::Overflow, replayed: true };
    let batch = BatchOutcome { count: 4, first: 7, replayed: vec![(1, 5)], refused: vec![refusal] };
    check(&record(Outcome::Batch(Arc::new(batch))), &around("06040701010501020501"));
}
