//! The subcommands that read.

use super::args::{Items, Ledger, Orders, Page, ReadNumber, Reading, Reservations, Search};
use super::{Answer, Exit, Stop, show};
use crate::api::{Cluster, Member};
use crate::client::{ItemQuery, LedgerQuery, OrderQuery, ReservationQuery, SearchReply};

pub(super) async fn search(args: Search) -> Result<Answer, Stop> {
    let items = args.reading.remote.client()?.search(&args.topic).await?;
    let exit = if items.is_empty() { Exit::No } else { Exit::Ok };
    if args.reading.json {
        return Ok(Answer::json(&SearchReply { items }, exit));
    }
    if items.is_empty() {
        return Ok(Answer {
            text: String::new(),
            note: Some(format!(
                "There are no titles under {:?}; `pygmy items` lists all topics.",
                args.topic
            )),
            exit,
        });
    }
    let mut rows: Vec<_> = items.into_iter().map(|(title, number)| vec![number, title]).collect();
    rows.sort_by_key(|row| (row[0].len(), row[0].clone()));
    Ok(Answer::ok(show::table(&["#item", "title"], rows)))
}

pub(super) async fn lookup(args: ReadNumber) -> Result<Answer, Stop> {
    let found = args.reading.remote.client()?.lookup(args.number).await?;
    let exit = if found.is_some() { Exit::Ok } else { Exit::No };
    match found {
        // As the original: an item that is not there has no fields.
        None if args.reading.json => Ok(Answer { text: "{}".into(), note: None, exit }),
        Some(item) if args.reading.json => Ok(Answer::json(&item, exit)),
        None => Ok(Answer {
            text: String::new(),
            note: Some(format!("There is no item {}; `pygmy items` lists all.", args.number)),
            exit,
        }),
        Some(item) => Ok(Answer::ok(show::table(
            &["#item", "title", "topic", "#cost", "#stock", "time"],
            [vec![item.item_number, item.title, item.topic, item.cost, item.stock, item.time]],
        ))),
    }
}

pub(super) async fn items(args: Items) -> Result<Answer, Stop> {
    let Page { limit, cursor } = args.page;
    let query = ItemQuery {
        topic: args.topic,
        q: args.q,
        in_stock: args.in_stock.then_some(true),
        sort: Some(args.sort).filter(|sort| sort != "id"),
        limit: Some(limit.into()),
        cursor,
    };
    let page = args.reading.remote.client()?.items(&query).await?;
    if args.reading.json {
        return Ok(Answer::json(&page, Exit::Ok));
    }
    let note = more(page.next_cursor.as_deref());
    Ok(Answer { text: show::items(&page.items), note, exit: Exit::Ok })
}

pub(super) async fn item(args: ReadNumber) -> Result<Answer, Stop> {
    let item = args.reading.remote.client()?.item(args.number).await?;
    if args.reading.json {
        return Ok(Answer::json(&item, Exit::Ok));
    }
    Ok(Answer::ok(show::item(&item)))
}

pub(super) async fn topics(args: Reading) -> Result<Answer, Stop> {
    let topics = args.remote.client()?.topics().await?;
    if args.json {
        return Ok(Answer::json(&topics, Exit::Ok));
    }
    let rows = topics.topics.into_iter().map(|row| vec![row.topic, row.items.to_string()]);
    Ok(Answer::ok(show::table(&["topic", "#items"], rows)))
}

pub(super) async fn orders(args: Orders) -> Result<Answer, Stop> {
    let Page { limit, cursor } = args.page;
    let query = OrderQuery {
        item: args.item,
        customer: args.customer,
        status: args.status,
        from: args.from,
        to: args.to,
        limit: Some(limit.into()),
        cursor,
    };
    let page = args.reading.remote.client()?.orders(&query).await?;
    if args.reading.json {
        return Ok(Answer::json(&page, Exit::Ok));
    }
    let note = more(page.next_cursor.as_deref());
    Ok(Answer { text: show::orders(&page.orders), note, exit: Exit::Ok })
}

pub(super) async fn ledger(args: Ledger) -> Result<Answer, Stop> {
    let Page { limit, cursor } = args.page;
    let query = LedgerQuery { limit: Some(limit.into()), cursor };
    let page = args.reading.remote.client()?.ledger(args.number, &query).await?;
    if args.reading.json {
        return Ok(Answer::json(&page, Exit::Ok));
    }
    let note = more(page.next_cursor.as_deref());
    Ok(Answer { text: show::ledger(&page.rows), note, exit: Exit::Ok })
}

pub(super) async fn prices(args: ReadNumber) -> Result<Answer, Stop> {
    let prices = args.reading.remote.client()?.prices(args.number).await?;
    if args.reading.json {
        return Ok(Answer::json(&prices, Exit::Ok));
    }
    let lowest = prices.lowest_30_days_cents.map_or("not known".into(), show::cents);
    let rows = prices.prices.into_iter().map(|price| {
        vec![show::cents(price.price_cents), price.from, price.to.unwrap_or_default()]
    });
    let table = show::table(&["#price", "from", "to"], rows);
    Ok(Answer::ok(format!("{table}\nlowest price of the last 30 days: {lowest}")))
}

fn more(cursor: Option<&str>) -> Option<String> {
    cursor.map(|cursor| format!("There are more: go on with --cursor {cursor}"))
}

pub(super) async fn order(args: ReadNumber) -> Result<Answer, Stop> {
    let order = args.reading.remote.client()?.order(args.number).await?;
    if args.reading.json {
        return Ok(Answer::json(&order, Exit::Ok));
    }
    Ok(Answer::ok(show::orders(&[order])))
}

pub(super) async fn reservation(args: ReadNumber) -> Result<Answer, Stop> {
    let reservation = args.reading.remote.client()?.reservation(args.number).await?;
    if args.reading.json {
        return Ok(Answer::json(&reservation, Exit::Ok));
    }
    Ok(Answer::ok(show::reservations(&[reservation])))
}

pub(super) async fn reservations(args: Reservations) -> Result<Answer, Stop> {
    let Page { limit, cursor } = args.page;
    let query = ReservationQuery { status: args.status, limit: Some(limit.into()), cursor };
    let page = args.reading.remote.client()?.reservations(&query).await?;
    if args.reading.json {
        return Ok(Answer::json(&page, Exit::Ok));
    }
    let note = more(page.next_cursor.as_deref());
    Ok(Answer { text: show::reservations(&page.reservations), note, exit: Exit::Ok })
}

pub(super) async fn cluster_status(args: Reading) -> Result<Answer, Stop> {
    let cluster = args.remote.client()?.cluster().await?;
    let exit = if cluster.leader.is_some() { Exit::Ok } else { Exit::Unavailable };
    if args.json {
        return Ok(Answer::json(&cluster, exit));
    }
    let note = cluster.leader.is_none().then(|| {
        let down = cluster.members.iter().filter(|member| !member.up).count();
        format!(
            "No leader: writes and linearizable reads wait. {down} of {} members are down; a \
            majority must be up.",
            cluster.members.len()
        )
    });
    Ok(Answer { text: members(&cluster), note, exit })
}

/// The members as a table.
fn members(cluster: &Cluster) -> String {
    let shown =
        |number: Option<u64>| number.map_or_else(|| "-".into(), |number| number.to_string());
    let row = |member: &Member| {
        let leads = cluster.leader.as_deref() == Some(member.name.as_str());
        vec![
            member.name.clone(),
            if leads { "leader".into() } else { member.kind.clone() },
            if member.up { "up".into() } else { "DOWN".into() },
            member.roles.join(", "),
            member.api.clone(),
            member.peer.clone(),
            shown(member.applied_index),
            shown(member.lag),
            member.last_heard_ms.map_or_else(|| "-".into(), |age| format!("{age} ms")),
        ]
    };
    let table = show::table(
        &["member", "part", "state", "roles", "api", "peer", "#applied", "#lag", "#last heard"],
        cluster.members.iter().map(row),
    );
    format!("{table}\ncluster {}, term {}", cluster.cluster_id, cluster.term)
}
