//! Replies to reservations, and to what is done with orders and reservations afterwards.

use super::{super::*, order, problem, reply};
use crate::history::{FollowUpReply, Standing};
use serde_json::{Value, json};

fn key(series: Series) -> Key {
    Key { series, client: 1, number: 2 }
}

/// What a reply means, and the breaches in it. Orders have the number 4, reservations 6.
fn follow_up(series: Series, reply: &Reply) -> (FollowUpReply, Vec<&'static str>) {
    let mut inspector = Inspector::default();
    let of = if series == Series::Cancel { 4 } else { 6 };
    let meaning = inspector.follow_up(Ok(reply), key(series), of);
    (meaning, inspector.complaints.kinds.into_keys().collect())
}

fn with(mut body: Value, fields: Value) -> Value {
    for (field, value) in fields.as_object().unwrap() {
        body[field] = value.clone();
    }
    body
}

fn cancelled() -> Value {
    with(order(), json!({"status": "cancelled", "cancelled_at": "2019-04-01T00:00:01Z"}))
}

fn held() -> Value {
    json!({
        "id": 6, "total_cents": 206, "status": "held", "reference": "h1-2", "index": 10,
        "created_at": "2019-04-01T00:00:00Z", "expires_at": "2019-04-01T00:00:04Z",
        "lines": [{"item": 3, "title": "t", "quantity": 2, "unit_price_cents": 103}],
    })
}

fn released() -> Value {
    with(held(), json!({"status": "released", "ended_at": "2019-04-01T00:00:01Z"}))
}

fn refusal(state: &str) -> Value {
    with(problem(409, "wrong_state", Some("not_applied")), json!({"state": state}))
}

#[test]
fn good_replies_have_their_meaning_and_no_breach() {
    let done = |order| FollowUpReply::Done { index: 10, order, replayed: false };
    assert_eq!(follow_up(Series::Cancel, &reply(200, &cancelled())), (done(Some(4)), vec![]));
    let sold = with(order(), json!({"reservation": 6}));
    assert_eq!(follow_up(Series::Confirm, &reply(201, &sold)), (done(Some(4)), vec![]));
    assert_eq!(follow_up(Series::Release, &reply(200, &released())), (done(None), vec![]));
    let late = FollowUpReply::Ended { index: 10, standing: Standing::Expired, replayed: false };
    assert_eq!(follow_up(Series::Confirm, &reply(409, &refusal("expired"))), (late, vec![]));
    let gone = problem(404, "not_found", Some("not_applied"));
    let missing = FollowUpReply::Missing { index: 10 };
    assert_eq!(follow_up(Series::Cancel, &reply(404, &gone)), (missing, vec![]));
    let lost = problem(503, "leadership_lost", Some("unknown"));
    assert_eq!(follow_up(Series::Release, &reply(503, &lost)), (FollowUpReply::Unknown, vec![]));
}

#[test]
fn reply_that_shows_something_else_is_noticed() {
    let other = (FollowUpReply::Unknown, vec!["something else was done"]);
    for (series, status, body) in [
        // As it was before.
        (Series::Cancel, 200, order()),
        (Series::Cancel, 200, with(cancelled(), json!({"id": 5}))),
        (Series::Cancel, 201, cancelled()),
        (Series::Confirm, 201, order()),
        (Series::Confirm, 201, with(order(), json!({"reservation": 7}))),
        (Series::Confirm, 201, with(order(), json!({"reservation": 6, "index": 11}))),
        (Series::Release, 200, held()),
        (Series::Release, 200, with(released(), json!({"id": 7}))),
    ] {
        assert_eq!(follow_up(series, &reply(status, &body)), other, "{series:?} {body}");
    }
}

#[test]
fn refusal_must_say_where_things_stand() {
    let unsaid = (FollowUpReply::Unknown, vec!["refusal without its reasons"]);
    for body in [refusal("lost"), problem(409, "out_of_stock", Some("not_applied"))] {
        assert_eq!(follow_up(Series::Confirm, &reply(409, &body)), unsaid, "{body}");
    }
}

#[test]
fn reservation_is_understood_and_must_be_held() {
    let hold = |body: &Value| {
        let mut inspector = Inspector::default();
        let lines = Lines::from_slice(&[Line { item: 3, quantity: 2 }]).unwrap();
        let meaning = inspector.buy(Ok(&reply(201, body)), key(Series::Hold), lines);
        (meaning, inspector.complaints.kinds.into_keys().collect::<Vec<_>>())
    };
    let confirmed = BuyReply::Confirmed { order: 6, index: 10, total_cents: 206, replayed: false };
    assert_eq!(hold(&held()), (confirmed, vec![]));
    assert_eq!(hold(&released()).1, ["something else was sold"]);
    assert_eq!(hold(&with(held(), json!({"reference": "b1-2"}))).1, ["something else was sold"]);
}
