//! `pygmy order-batch`: orders from a file, all at once.
//!
//! The whole file is read before anything is sent; the store checks the rest, and refuses a batch
//! with something wrong in it as a whole.

use std::io::Read;
use std::path::Path;

use super::args::OrderBatch;
use super::{Answer, Exit, Stop, show};
use crate::api::{NewBatchOrder, NewOrderBatch, Object, OrderResult, OrderResultStatus};

/// The largest file that is read, far above what a store takes.
const FILE_BYTES_MAX: u64 = 64 << 20;

pub(super) async fn order_batch(args: OrderBatch) -> Result<Answer, Stop> {
    let shown = args.orders.display().to_string();
    let text = read(&args.orders).map_err(|what| Stop::usage(format!("{shown}: {what}")))?;
    let orders = parse(&text).map_err(|what| Stop::usage(format!("{shown}: {what}")))?;
    let client = args.writing.reading.remote.client()?;
    let batch = NewOrderBatch { atomic: args.atomic, orders };
    let answer = client.place_orders_with_key(&batch, &args.writing.key()).await?;
    let total = answer.results.len();
    let placed =
        answer.results.iter().filter(|one| one.status == OrderResultStatus::Placed).count();
    let exit = if placed == total { Exit::Ok } else { Exit::No };
    if args.writing.reading.json {
        return Ok(Answer::json(&answer, exit));
    }
    let note = (placed < total).then(|| match args.atomic {
        true => "Nothing new was placed: all orders are, or none.".to_owned(),
        false => format!("{placed} of {total} orders were placed."),
    });
    Ok(Answer { text: table(&answer.results), note, exit })
}

fn read(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let result = if path == Path::new("-") {
        std::io::stdin().lock().take(FILE_BYTES_MAX + 1).read_to_string(&mut text)
    } else {
        std::fs::File::open(path)
            .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text))
    };
    match result {
        Err(error) => Err(format!("cannot be read: {error}")),
        Ok(read) if read as u64 > FILE_BYTES_MAX => {
            Err(format!("has more than {FILE_BYTES_MAX} bytes; send it in parts"))
        }
        Ok(_) => Ok(text),
    }
}

/// An array of orders, or an order on each line.
fn parse(text: &str) -> Result<Vec<NewBatchOrder>, String> {
    let orders: Vec<Object<NewBatchOrder>> = if text.trim_start().starts_with('[') {
        serde_json::from_str(text).map_err(|error| error.to_string())?
    } else {
        let mut orders = Vec::new();
        for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
            let order = serde_json::from_str(line);
            orders.push(order.map_err(|error| format!("line {number}: {error}"))?);
        }
        orders
    };
    if orders.is_empty() {
        return Err("has no orders; write one on each line, as \
                    {\"lines\":[{\"item\":5,\"quantity\":1}]}"
            .into());
    }
    Ok(orders.into_iter().map(|Object(order)| order).collect())
}

/// A row for each order, numbered from 1 as in the file.
fn table(results: &[OrderResult]) -> String {
    let rows = (1..).zip(results).map(|(number, result): (usize, _)| {
        let status = match result.status {
            OrderResultStatus::Placed if result.replayed => "placed before".to_owned(),
            status => status.as_str().replace('_', " "),
        };
        let order = result.order.as_ref();
        vec![
            number.to_string(),
            status,
            order.map(|order| order.id.to_string()).unwrap_or_default(),
            order.map(|order| show::cents(order.total_cents)).unwrap_or_default(),
            result.problem.as_ref().map(|problem| problem.detail.clone()).unwrap_or_default(),
        ]
    });
    show::table(&["#", "status", "#order", "#total", "reason"], rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read_from_lines_or_from_an_array_and_strictly() {
        let line = r#"{"lines":[{"item":5,"quantity":1}],"idempotency_key":"k"}"#;
        let lines = parse(&format!("{line}\n\n{line}\n")).expect("two lines");
        let array = parse(&format!(" [{line},\n{line}]")).expect("an array");
        assert_eq!((lines.len(), &lines), (2, &array));
        assert_eq!(lines[0].idempotency_key.as_deref(), Some("k"));
        for (text, place) in [
            (format!("{line}\n{{}}"), "line 2"),
            (format!("{line} {line}"), "line 1"),
            (r#"{"lines":[],"color":"red"}"#.to_owned(), "color"),
            ("[[[5,1]]]".to_owned(), "an object"),
            (" \n".to_owned(), "no orders"),
            ("[]".to_owned(), "no orders"),
        ] {
            let error = parse(&text).expect_err(&text);
            assert!(error.contains(place), "{text}: {error}");
        }
    }
}
