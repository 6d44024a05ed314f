//! The subcommands that change one thing.

use super::args::{
    Buy, Cancel, CreateItem, DeleteItem, PatchItem, PutItem, Reserve, Stock, WriteNumber,
};
use super::{Answer, Exit, Stop, show};
use crate::api;
use crate::client::{ClientError, Precondition};

pub(super) async fn buy(args: Buy) -> Result<Answer, Stop> {
    let client = args.writing.reading.remote.client()?;
    let order = api::NewOrder {
        lines: vec![api::NewOrderLine {
            item: args.number,
            quantity: args.quantity,
            expected_price_cents: None,
        }],
        customer: args.customer,
        reference: args.reference,
    };
    let placed =
        client.place_order_with_key(&order, &args.writing.key()).await.map_err(out_of_stock)?;
    Ok(show_order(placed, args.writing.reading.json))
}

pub(super) async fn cancel(args: Cancel) -> Result<Answer, Stop> {
    let client = args.writing.reading.remote.client()?;
    let cancel = api::CancelOrder { reason: args.reason };
    let order = client.cancel_order_with_key(args.number, &cancel, &args.writing.key()).await?;
    Ok(show_order(order, args.writing.reading.json))
}

pub(super) async fn reserve(args: Reserve) -> Result<Answer, Stop> {
    let client = args.writing.reading.remote.client()?;
    let wanted = api::NewReservation {
        lines: args.lines,
        ttl_seconds: args.ttl,
        customer: args.customer,
        reference: args.reference,
    };
    let held = client.reserve_with_key(&wanted, &args.writing.key()).await.map_err(out_of_stock)?;
    Ok(show_reservation(&held, args.writing.reading.json))
}

pub(super) async fn confirm(args: WriteNumber) -> Result<Answer, Stop> {
    let client = args.writing.reading.remote.client()?;
    let order = client.confirm_with_key(args.number, &args.writing.key()).await?;
    Ok(show_order(order, args.writing.reading.json))
}

pub(super) async fn release(args: WriteNumber) -> Result<Answer, Stop> {
    let client = args.writing.reading.remote.client()?;
    let released = client.release_with_key(args.number, &args.writing.key()).await?;
    Ok(show_reservation(&released, args.writing.reading.json))
}

fn show_order(order: api::Order, json: bool) -> Answer {
    if json { Answer::json(&order, Exit::Ok) } else { Answer::ok(show::orders(&[order])) }
}

fn show_reservation(reservation: &api::Reservation, json: bool) -> Answer {
    if json {
        Answer::json(reservation, Exit::Ok)
    } else {
        Answer::ok(show::reservations(std::slice::from_ref(reservation)))
    }
}

/// The one refusal that everybody meets, in plain words.
fn out_of_stock(error: ClientError) -> Stop {
    let words =
        error.problem().filter(|problem| problem.code == "out_of_stock").and_then(|problem| {
            let (item, available) = (problem.item?, problem.available?);
            Some(format!(
                "item {item} is out of stock: {} wanted, {available} there",
                problem.requested?
            ))
        });
    let stop = Stop::from(error);
    Stop { message: words.unwrap_or(stop.message), exit: stop.exit }
}

pub(super) async fn put_item(args: PutItem) -> Result<Answer, Stop> {
    let client = args.writing.reading.remote.client()?;
    let condition = match args.if_version {
        Some(version) => Precondition::Version(version),
        None if args.create => Precondition::Absent,
        None => Precondition::None,
    };
    let item = api::PutItem {
        title: args.title,
        topic: args.topic,
        price_cents: args.price,
        stock: args.stock,
    };
    let item = client.put_item_with_key(args.number, &item, condition, &args.writing.key()).await?;
    Ok(show_item(&item, args.writing.reading.json))
}

pub(super) async fn stock(args: Stock) -> Result<Answer, Stop> {
    let client = args.writing.reading.remote.client()?;
    let condition = args.if_version.map_or(Precondition::None, Precondition::Version);
    let change = api::ChangeStock {
        delta: args.delta,
        set: args.set,
        reason: args.reason,
        reference: args.reference,
    };
    let item =
        client.change_stock_with_key(args.number, &change, condition, &args.writing.key()).await?;
    Ok(show_item(&item, args.writing.reading.json))
}

pub(super) async fn create_item(args: CreateItem) -> Result<Answer, Stop> {
    let client = args.writing.reading.remote.client()?;
    let (title, topic, price_cents, stock) = (args.title, args.topic, args.price, args.stock);
    let item = api::NewItem { title, topic, price_cents, stock };
    let item = client.create_item_with_key(&item, &args.writing.key()).await?;
    Ok(show_item(&item, args.writing.reading.json))
}

pub(super) async fn patch_item(args: PatchItem) -> Result<Answer, Stop> {
    let client = args.writing.reading.remote.client()?;
    let condition = args.if_version.map_or(Precondition::None, Precondition::Version);
    let patch = api::PatchItem { title: args.title, topic: args.topic, price_cents: args.price };
    let key = args.writing.key();
    let item = client.patch_item_with_key(args.number, &patch, condition, &key).await?;
    Ok(show_item(&item, args.writing.reading.json))
}

pub(super) async fn delete_item(args: DeleteItem) -> Result<Answer, Stop> {
    let client = args.writing.reading.remote.client()?;
    let condition = args.if_version.map_or(Precondition::None, Precondition::Version);
    client.delete_item_with_key(args.number, condition, &args.writing.key()).await?;
    if args.writing.reading.json {
        return Ok(Answer::json(&serde_json::json!({ "deleted": args.number }), Exit::Ok));
    }
    Ok(Answer::ok(format!("Item {} is deleted.", args.number)))
}

fn show_item(item: &api::Item, json: bool) -> Answer {
    if json {
        Answer::json(item, Exit::Ok)
    } else {
        Answer::ok(show::items(std::slice::from_ref(item)))
    }
}
