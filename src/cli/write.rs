//! The subcommands that change one thing.

use super::args::{Buy, PutItem, Stock};
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
    if args.writing.reading.json {
        return Ok(Answer::json(&placed, Exit::Ok));
    }
    Ok(Answer::ok(show::orders(&[placed])))
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

fn show_item(item: &api::Item, json: bool) -> Answer {
    if json {
        Answer::json(item, Exit::Ok)
    } else {
        Answer::ok(show::items(std::slice::from_ref(item)))
    }
}
