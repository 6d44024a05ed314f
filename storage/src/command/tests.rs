//! The log format, byte for byte.

use super::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Changing one of these means that no existing log can be read any more.
#[test]
fn the_log_format_has_golden_bytes() {
    let order = Command::PlaceOrder(PlaceOrder {
        lines: vec![PlaceOrderLine { item: 5, quantity: 2, expected_price_cents: Some(700) }],
        customer: Some("ada".to_owned()),
        reference: None,
    });
    let key = KeyClaim { key: KeyHash([1; 16]), fingerprint: [2; 16] };
    let put = Command::PutItem(PutItem {
        id: 7,
        title: "T".to_owned(),
        topic: "X".to_owned(),
        price_cents: 9,
        stock: Some(3),
        precondition: Precondition::Absent,
    });
    let change = Command::ChangeStock(ChangeStock {
        item: 7,
        change: StockChange::Delta(-2),
        reason: StockReason::Damaged,
        reference: None,
        precondition: Precondition::Version(4),
    });
    let settings = Policy {
        key_retention_ms: 1,
        key_limit: 2,
        restock_quantity: 3,
        restock_interval_ms: Some(4),
        change_history: 5,
        price_history: 6,
        reservation_limit: 7,
        reservation_history: 8,
        reservation_ttl_max_ms: 9,
    };
    let policy = Command::SetPolicy(settings.clone());
    let policy_if = Command::SetPolicyIf { version: 4, policy: settings };
    let plain = PlaceOrder {
        lines: vec![PlaceOrderLine { item: 5, quantity: 2, expected_price_cents: None }],
        customer: None,
        reference: Some("r".to_owned()),
    };
    let batch = Command::PlaceOrders(PlaceOrders {
        orders: vec![
            BatchOrder { key: Some(key), order: plain.clone() },
            BatchOrder { key: None, order: plain.clone() },
        ],
    });
    let of = Command::PlaceOrderOf(PlaceOrderOf { batch: key, order: plain });
    let create = Command::CreateItem(CreateItem {
        title: "T".to_owned(),
        topic: "X".to_owned(),
        price_cents: 9,
        stock: 3,
    });
    let patch = Command::PatchItem(PatchItem {
        id: 7,
        title: Some("T".to_owned()),
        topic: None,
        price_cents: Some(9),
        precondition: Precondition::Exists,
    });
    let delete = Command::DeleteItem(DeleteItem { id: 7, precondition: Precondition::None });
    let row = PutItemsRow {
        id: 7,
        title: "T".to_owned(),
        topic: "X".to_owned(),
        price_cents: 9,
        stock: Some(3),
    };
    let only_new = PutItems { rows: vec![row], stock: ImportStock::OnlyNew };
    let set = PutItems { rows: Vec::new(), stock: ImportStock::Set };
    let cancel = Command::CancelOrder(CancelOrder {
        order: 3,
        lines: vec![(5, 2)],
        placed_index: 6,
        reason: Some("r".to_owned()),
    });
    let reserve = Command::Reserve(Reserve {
        lines: vec![PlaceOrderLine { item: 5, quantity: 2, expected_price_cents: None }],
        ttl_ms: 9,
        customer: Some("ada".to_owned()),
        reference: None,
    });
    let proposal = |key, command| Proposal { stamp_ms: 1000, key, command };
    let cases = [
        (
            proposal(Some(key), order),
            "01fbe8030101010101010101010101010101010101020202020202020202020202020202020001050201fbbc02010361646100",
        ),
        (proposal(None, put), "01fbe8030001070154015809010303"),
        (proposal(None, change), "01fbe803000207000302000104"),
        (proposal(None, Command::Restock), "01fbe8030003"),
        (proposal(None, policy), "01fbe803000401020301040506070809"),
        (proposal(None, Command::ReserveNodeId { at_least: 4 }), "01fbe803000504"),
        (
            proposal(None, batch),
            "01fbe8030006020101010101010101010101010101010101020202020202020202020202020202020105020000010172000105020000010172",
        ),
        (
            proposal(Some(key), of),
            "01fbe8030101010101010101010101010101010101020202020202020202020202020202020701010101010101010101010101010101020202020202020202020202020202020105020000010172",
        ),
        (proposal(None, create), "01fbe8030008015401580903"),
        (proposal(None, patch), "01fbe80300090701015400010902"),
        (proposal(None, delete), "01fbe803000a0700"),
        (proposal(None, Command::PutItems(only_new)), "01fbe803000b01070154015809010300"),
        (proposal(None, Command::PutItems(set)), "01fbe803000b0001"),
        (proposal(None, cancel), "01fbe803000c0301050206010172"),
        (proposal(None, reserve), "01fbe803000d0105020009010361646100"),
        (proposal(None, Command::ConfirmReservation { id: 4 }), "01fbe803000e04"),
        (proposal(None, Command::ReleaseReservation { id: 4 }), "01fbe803000f04"),
        (proposal(None, Command::SetMaintenance(true)), "01fbe803001001"),
        (proposal(None, Command::Tick), "01fbe8030011"),
        (proposal(None, policy_if), "01fbe80300120401020301040506070809"),
    ];
    for (proposal, golden) in cases {
        let bytes = proposal.encode();
        assert_eq!(hex(&bytes), golden, "{proposal:?}");
        assert_eq!(Proposal::decode(&bytes).unwrap(), proposal);
    }
}

#[test]
fn the_key_table_has_golden_hashes() {
    let claim = KeyClaim::new("order-1", &Command::Restock);
    assert_eq!(hex(&claim.key.0).len(), 32);
    assert_eq!(claim, KeyClaim::new("order-1", &Command::Restock));
    assert_ne!(claim.key, KeyClaim::new("order-2", &Command::Restock).key);
    let other = KeyClaim::new("order-1", &Command::ReserveNodeId { at_least: 1 });
    assert_eq!(claim.key, other.key);
    assert_ne!(claim.fingerprint, other.fingerprint);
}

#[test]
fn a_claim_of_a_cancellation_is_of_what_the_client_asked_for() {
    let cancel = |order, reason: &str, lines, placed_index| {
        let reason = Some(reason.to_owned());
        Command::CancelOrder(CancelOrder { order, lines, placed_index, reason })
    };
    let claim = |command| KeyClaim::new("k", &command);
    let first = claim(cancel(1, "r", vec![(5, 2)], 7));
    assert_eq!(first, claim(cancel(1, "r", Vec::new(), 0)));
    assert_ne!(first, claim(cancel(2, "r", vec![(5, 2)], 7)));
    assert_ne!(first, claim(cancel(1, "s", vec![(5, 2)], 7)));
}

#[test]
fn orders_of_a_batch_derive_their_keys_from_its_key_and_their_position() {
    let order = |item| BatchOrder {
        key: None,
        order: PlaceOrder {
            lines: vec![PlaceOrderLine { item, quantity: 1, expected_price_cents: None }],
            customer: None,
            reference: None,
        },
    };
    let claims = |items: &[u64], key: &str| -> Vec<KeyClaim> {
        let batch = PlaceOrders { orders: items.iter().map(|item| order(*item)).collect() };
        batch.separately(Some(key)).into_iter().filter_map(|(claim, _)| claim).collect()
    };
    let first = claims(&[1, 1, 2], "k");
    assert_eq!(first, claims(&[1, 1, 2], "k"), "a retry has the same keys");
    assert_eq!(first[0].key, KeyClaim::new("k", &Command::Restock).key);
    assert_ne!(first[1].key, first[2].key);
    let golden = "28fee09d9b650c3f38ffe99540365663";
    assert_eq!(hex(&first[1].key.0), golden, "a retry may come to another build");
    let other = claims(&[1, 1, 3], "k");
    for (one, other) in first.iter().zip(&other) {
        assert_eq!(one.key, other.key);
        assert_ne!(one.fingerprint, other.fingerprint, "a claim is for the whole batch");
    }
    assert!(claims(&[1, 1, 2], "l").iter().all(|claim| !first.contains(claim)));
}

#[test]
fn a_proposal_of_a_newer_build_is_refused_by_name() {
    let error = Proposal::decode(&[9, 1, 2]).unwrap_err();
    assert!(error.to_string().contains("newer build"), "{error}");
    assert!(Proposal::decode(&[]).is_err());
}
