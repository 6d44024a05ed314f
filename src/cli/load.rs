//! `pygmy load`: a catalog from a CSV file into the store, once.
//!
//! The whole file is read and checked before anything is sent, so that a wrong row leaves nothing
//! half done. What exists already is left alone: loading again is harmless.

use std::collections::BTreeMap;
use std::path::Path;

use futures_util::{StreamExt, TryStreamExt, stream};
use indicatif::ProgressBar;
use serde::Deserialize;

use super::args::Load;
use super::{Answer, Exit, Stop, show};
use crate::api::{AMOUNT_MAX, PutItem};
use crate::client::{Client, ClientError, Precondition};

/// The most rows of a file. They are held in memory while they are checked.
const ROWS_MAX: usize = 1_000_000;
/// The most problems that are listed.
const PROBLEMS_MAX: usize = 20;
/// Writes under way at the same time.
const WRITES_MAX: usize = 16;

/// A row as it is written.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Row {
    item_number: u64,
    title: String,
    topic: String,
    cost: String,
    stock: u64,
}

/// What came of a load.
#[derive(Debug, Default, serde::Serialize)]
struct Counts {
    created: usize,
    already_there: usize,
}

pub(super) async fn load(args: Load) -> Result<Answer, Stop> {
    let rows = read(&args.catalog)?;
    let client = args.reading.remote.client()?;
    let total = rows.len();
    let progress = ProgressBar::new(total as u64);
    let mut counts = Counts::default();
    let mut writes = stream::iter(rows)
        .map(|(number, item)| create(&client, number, item))
        .buffer_unordered(WRITES_MAX);
    let result = loop {
        match writes.try_next().await {
            Ok(Some(true)) => counts.created += 1,
            Ok(Some(false)) => counts.already_there += 1,
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
        progress.inc(1);
    };
    progress.finish_and_clear();
    let Counts { created, already_there } = counts;
    if let Err(error) = result {
        let message = format!(
            "{} of {total} items done ({created} created, {already_there} already there), then: \
            {error}\nLoad the \
             file again to go on; what is there is left alone",
            created + already_there,
        );
        return Err(Stop { message, ..Stop::from(error) });
    }
    if args.reading.json {
        return Ok(Answer::json(&counts, Exit::Ok));
    }
    Ok(Answer::ok(format!("{created} items created, {already_there} already there")))
}

/// Creates an item; false when it exists.
async fn create(client: &Client, number: u64, item: PutItem) -> Result<bool, ClientError> {
    match client.put_item(number, &item, Precondition::Absent).await {
        Ok(_) => Ok(true),
        Err(ClientError::Refused(problem)) if problem.status == 412 => Ok(false),
        Err(error) => Err(error),
    }
}

/// Reads and checks a catalog: items by number.
fn read(path: &Path) -> Result<BTreeMap<u64, PutItem>, Stop> {
    let shown = path.display();
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_path(path)
        .map_err(|error| Stop::usage(format!("{shown}: cannot be read: {error}")))?;
    let mut rows = BTreeMap::new();
    let mut problems = Vec::new();
    for (count, row) in reader.deserialize::<Row>().enumerate() {
        if count == ROWS_MAX {
            return Err(Stop::usage(format!(
                "{shown}: has more than {ROWS_MAX} rows; load it in parts"
            )));
        }
        if problems.len() == PROBLEMS_MAX {
            problems.push(format!("{shown}: and more; mend these first"));
            break;
        }
        match row {
            Ok(row) => {
                // The header is line 1. Rows with line breaks in quotes shift what follows, so rows
                // are counted and not lines.
                let place = format!("{shown}: row {}", count + 1);
                if let Err(problem) = accept(row, &mut rows) {
                    problems.push(format!("{place}: {problem}"));
                }
            }
            Err(error) => problems.push(format!("{shown}: {}", in_words(&error))),
        }
    }
    if !problems.is_empty() {
        return Err(Stop::usage(format!("nothing was loaded:\n{}", problems.join("\n"))));
    }
    if rows.is_empty() {
        return Err(Stop::usage(format!(
            "{shown}: has no rows; the first line is ItemNumber,Title,Topic,Cost,Stock and an \
            item follows on each"
        )));
    }
    Ok(rows)
}

fn accept(row: Row, rows: &mut BTreeMap<u64, PutItem>) -> Result<(), String> {
    let Row { item_number, title, topic, cost, stock } = row;
    let price_cents = show::parse_cents(&cost).map_err(|what| format!("Cost {cost:?}: {what}"))?;
    if title.is_empty() || topic.is_empty() {
        return Err("Title and Topic must not be empty".into());
    }
    if stock > AMOUNT_MAX {
        return Err(format!("Stock {stock}: at most {AMOUNT_MAX}"));
    }
    let item = PutItem { title, topic, price_cents, stock: Some(stock) };
    match rows.insert(item_number, item) {
        None => Ok(()),
        Some(_) => Err(format!("ItemNumber {item_number} is there twice")),
    }
}

fn in_words(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::Deserialize { pos, err } => {
            let row = pos.as_ref().map_or(0, csv::Position::record);
            format!("row {row}: {err}; the columns are ItemNumber,Title,Topic,Cost,Stock")
        }
        csv::ErrorKind::UnequalLengths { pos, expected_len, len } => {
            let row = pos.as_ref().map_or(0, csv::Position::record);
            format!("row {row}: has {len} fields instead of {expected_len}")
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_catalog_has_the_originals_seven_titles() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/catalog.csv");
        let rows = read(&path).expect("is valid");
        assert_eq!(rows.keys().copied().collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(rows[&5].title, "How to finish Project 3 on time");
        for item in rows.values() {
            let topics = ["DistributedSystems", "GraduateSchool", "Misc"];
            assert!(topics.contains(&item.topic.as_str()), "{item:?}");
            assert!(item.price_cents > 0 && item.stock > Some(0), "{item:?}");
        }
    }
}
