//! Replies made by hand: what they mean, and which breaches are noticed.

mod follow_ups;

use serde_json::{Value, json};

use super::*;

const KEY: Key = Key { series: Series::Buy, client: 1, number: 2 };

fn lines() -> Lines {
    Lines::from_slice(&[Line { item: 3, quantity: 2 }]).unwrap()
}

fn reply(status: u16, body: &Value) -> Reply {
    Reply {
        status,
        index: Some(10),
        names_node: true,
        names_request: true,
        retry_after: status == 503,
        is_problem: status >= 400,
        staleness_ms: Some(5),
        body: body.to_string().into(),
        ..Reply::default()
    }
}

fn order() -> Value {
    json!({
        "id": 4, "total_cents": 206, "status": "placed", "reference": "b1-2", "index": 10,
        "placed_at": "2019-04-01T00:00:00Z",
        "lines": [{"item": 3, "title": "t", "quantity": 2, "unit_price_cents": 103}],
    })
}

fn item(stock: u64) -> Value {
    json!({
        "id": 3, "title": "t", "topic": "Misc", "price_cents": 103, "stock": stock, "reserved": 0,
        "available": stock, "version": 10, "created_at": "", "updated_at": "",
    })
}

fn problem(status: u16, code: &str, outcome: Option<&str>) -> Value {
    let mut problem = json!({
        "type": format!("about:blank#{code}"), "title": code, "status": status, "detail": "",
        "code": code, "retryable": true,
    });
    if let Some(outcome) = outcome {
        problem["outcome"] = outcome.into();
    }
    problem
}

fn refusal() -> Value {
    let mut refusal = problem(409, "out_of_stock", Some("not_applied"));
    refusal["item"] = 3.into();
    refusal["requested"] = 2.into();
    refusal["available"] = 1.into();
    refusal
}

/// What a buy's reply means, and the breaches in it.
fn buy(reply: &Reply) -> (BuyReply, Vec<&'static str>) {
    let mut inspector = Inspector::default();
    let meaning = inspector.buy(Ok(reply), KEY, lines());
    (meaning, inspector.complaints.kinds.into_keys().collect())
}

#[test]
fn good_replies_to_a_buy_have_their_meaning_and_no_breach() {
    let sold = BuyReply::Confirmed { order: 4, index: 10, total_cents: 206, replayed: false };
    assert_eq!(buy(&reply(201, &order())), (sold, vec![]));
    let refused =
        BuyReply::Refused { index: 10, item: 3, requested: 2, available: 1, replayed: false };
    assert_eq!(buy(&reply(409, &refusal())), (refused, vec![]));
    for (status, code, outcome, meaning) in [
        (503, "no_leader", "not_applied", BuyReply::NotApplied),
        (503, "leadership_lost", "unknown", BuyReply::Unknown),
        (503, "leadership_lost", "not_applied", BuyReply::NotApplied),
        (503, "recovering", "not_applied", BuyReply::NotApplied),
        (504, "timeout", "unknown", BuyReply::Unknown),
        (504, "timeout", "applied", BuyReply::AppliedUnseen),
    ] {
        let mut reply = reply(status, &problem(status, code, Some(outcome)));
        reply.index = None;
        assert_eq!(buy(&reply), (meaning, vec![]), "{code} {outcome}");
    }
}

#[test]
fn missing_reply_is_unknown_unless_it_was_never_sent() {
    let mut inspector = Inspector::default();
    let meaning = |inspector: &mut Inspector, failure| inspector.buy(Err(failure), KEY, lines());
    assert_eq!(meaning(&mut inspector, Failure::Unknown), BuyReply::Unknown);
    assert_eq!(meaning(&mut inspector, Failure::NotSent), BuyReply::NotApplied);
    assert_eq!(inspector.count(Kind::Buy, "no reply"), 1);
    assert_eq!(inspector.count(Kind::Buy, "not sent"), 1);
}

#[test]
fn breaches_of_a_sale_are_noticed() {
    for (spoil, complaint) in [
        (json!({"index": 11}), "Pygmy-Index is not the index of the write"),
        (json!({"reference": "b1-3"}), "something else was sold"),
        (json!({"lines": []}), "something else was sold"),
        (json!({"status": "cancelled"}), "something else was sold"),
        (json!({"id": "4"}), "unreadable order"),
    ] {
        let mut order = order();
        for (field, value) in spoil.as_object().unwrap() {
            order[field] = value.clone();
        }
        assert_eq!(buy(&reply(201, &order)).1, [complaint]);
    }
    let mut bare = reply(201, &order());
    bare.index = None;
    assert!(buy(&bare).1.contains(&"reply without Pygmy-Index"));
    let mut bare = reply(201, &order());
    bare.names_node = false;
    assert_eq!(buy(&bare).1, ["reply without Pygmy-Node or X-Request-Id"]);
}

#[test]
fn replay_may_carry_a_later_index_in_its_header() {
    let mut replay = reply(201, &order());
    replay.replayed = true;
    replay.index = Some(12);
    let sold = BuyReply::Confirmed { order: 4, index: 10, total_cents: 206, replayed: true };
    assert_eq!(buy(&replay), (sold, vec![]));
}

#[test]
fn breaches_of_an_error_are_noticed() {
    let impossible = "status or code that this request cannot have";
    for (status, code, outcome, complaint) in [
        (500, "internal", Some("unknown"), impossible),
        (400, "malformed", Some("not_applied"), impossible),
        (404, "not_found", Some("not_applied"), impossible),
        (503, "broken", Some("not_applied"), impossible),
        (503, "no_leader", None, "write error without outcome"),
        (503, "overloaded", Some("unknown"), "outcome unknown where it must be not_applied"),
    ] {
        let reply = reply(status, &problem(status, code, outcome));
        assert_eq!(buy(&reply).1, [complaint], "{status} {code}");
    }
    let mut hasty = reply(503, &problem(503, "no_leader", Some("not_applied")));
    hasty.retry_after = false;
    assert_eq!(buy(&hasty).1, ["429 or 503 without Retry-After"]);
    let mut plain = reply(503, &problem(503, "no_leader", Some("not_applied")));
    plain.is_problem = false;
    assert_eq!(buy(&plain).1, ["error that is not a problem document"]);
    assert_eq!(buy(&reply(503, &json!("down"))).1, ["error that is not a problem document"]);
}

#[test]
fn refusal_must_give_its_reasons() {
    let mut bare = refusal();
    bare["available"] = Value::Null;
    assert_eq!(buy(&reply(409, &bare)), (BuyReply::Unknown, vec!["refusal without its reasons"]));
    let mut other = refusal();
    other["code"] = "wrong_state".into();
    assert_eq!(buy(&reply(409, &other)).1, ["refusal without its reasons"]);
    let mut silent = refusal();
    silent["outcome"] = Value::Null;
    assert_eq!(buy(&reply(409, &silent)).1, ["refusal without outcome not_applied"]);
}

#[test]
fn used_key_must_be_refused_for_another_request() {
    let complaints = |reply: &Reply| {
        let mut inspector = Inspector::default();
        inspector.key_reuse(Ok(reply), KEY);
        inspector.complaints.kinds.into_keys().collect::<Vec<_>>()
    };
    let refused = problem(422, "idempotency_key_reused", Some("not_applied"));
    assert_eq!(complaints(&reply(422, &refused)), [""; 0]);
    let accepted = "used key accepted for another request";
    assert_eq!(complaints(&reply(201, &order())), [accepted]);
    assert_eq!(complaints(&reply(422, &problem(422, "invalid", None))), [accepted]);
    let away = problem(503, "no_leader", Some("not_applied"));
    assert_eq!(complaints(&reply(503, &away)), [""; 0]);
}

#[test]
fn stock_change_replies_have_their_meaning() {
    let meaning = |reply: &Reply| {
        let mut inspector = Inspector::default();
        let meaning = inspector.stock_change(Ok(reply), "s1", 3);
        (meaning, inspector.complaints.kinds.into_keys().collect::<Vec<_>>())
    };
    let applied = StockOutcome::Applied { index: 10, stock: 7 };
    assert_eq!(meaning(&reply(200, &item(7))), (applied, vec![]));
    assert_eq!(meaning(&reply(409, &refusal())), (StockOutcome::Refused { index: 10 }, vec![]));
    let lost = problem(503, "leadership_lost", Some("unknown"));
    assert_eq!(meaning(&reply(503, &lost)), (StockOutcome::Unknown, vec![]));
    let mut shifted = reply(200, &item(7));
    shifted.index = Some(9);
    assert_eq!(meaning(&shifted).1, ["Pygmy-Index is not the index of the write"]);
}

#[test]
fn reads_show_what_they_show_and_their_breaches_are_noticed() {
    let read = |reply: &Reply, level, most_ms| {
        let mut inspector = Inspector::default();
        let shown = inspector.item_read(Kind::ReadStale, Ok(reply), 3, level, most_ms);
        (shown, inspector.complaints.kinds.into_keys().collect::<Vec<_>>())
    };
    let seen = ItemSeen { id: 3, stock: 7, reserved: 0, version: 10 };
    let good = reply(200, &item(7));
    assert_eq!(read(&good, Level::Stale, Some(5)), (Some((10, seen)), vec![]));
    assert_eq!(read(&good, Level::Stale, Some(4)).1, ["staler than allowed"]);
    let mut silent = good.clone();
    silent.staleness_ms = None;
    assert_eq!(read(&silent, Level::Linearizable, None).1, [""; 0]);
    assert_eq!(read(&silent, Level::Stale, None).1, ["stale reply without Pygmy-Staleness-Ms"]);
    let mut torn = item(7);
    torn["available"] = 6.into();
    assert_eq!(
        read(&reply(200, &torn), Level::Stale, None).1,
        ["available is not stock - reserved"]
    );
    let mut negative = item(7);
    negative["stock"] = (-1).into();
    assert_eq!(read(&reply(200, &negative), Level::Stale, None), (None, vec!["unreadable item"]));
    let gone = reply(404, &problem(404, "not_found", None));
    assert_eq!(
        read(&gone, Level::Stale, None),
        (None, vec!["status or code that this request cannot have"])
    );
    // A read has no outcome to tell.
    let away = reply(503, &problem(503, "no_leader", None));
    assert_eq!(read(&away, Level::Linearizable, None), (None, vec![]));
}

#[test]
fn order_reads_tell_same_different_and_missing_apart() {
    let found = |reply: &Reply| {
        Inspector::default().order_read(Ok(reply), 4, KEY, lines()).map(|(_, found, _)| found)
    };
    assert_eq!(found(&reply(200, &order())), Some(Found::Same));
    let mut other = order();
    other["reference"] = "b9-9".into();
    assert_eq!(found(&reply(200, &other)), Some(Found::Different));
    assert_eq!(found(&reply(404, &problem(404, "not_found", None))), Some(Found::Missing));
    assert_eq!(found(&reply(503, &problem(503, "no_leader", None))), None);
}
