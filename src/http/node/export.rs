//! `GET /v1/export`: all items or all orders of one index, streamed.
//!
//! Owns nothing but a view while a client reads: each piece is made when the one before has gone.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::stream;
use http::{
    HeaderMap, HeaderValue,
    header::{CONTENT_DISPOSITION, CONTENT_TYPE},
};
use pygmy_storage::query::{OrderFilter, View};
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;

use super::{Api, extract::Params, openapi, render, respond::read_history};
use crate::{
    api::{Consistency, ItemRow, PAGE_LIMIT_MAX},
    http::problem::{ApiError, Code},
};

/// Exports at once; one more is refused. Each keeps a view alive for as long as its client reads.
pub(super) const EXPORTS_MAX: usize = 4;

/// What is exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Items,
    Orders,
}

/// How it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Csv,
    Ndjson,
}

/// `GET /v1/export`
#[utoipa::path(
    get,
    path = "/v1/export",
    operation_id = "export",
    tag = "files",
    summary = "All items or all orders, as of one index",
    description = "Streamed. CSV has a header line; of orders it has a line for each line of an order. \
        A reply that breaks off is not whole. Items as they are exported can be imported.",
    params(openapi::Export, openapi::Read),
    responses(
        (status = 200, description = "All of them", content(
            (String = "text/csv"), (String = "application/x-ndjson"),
        )),
        openapi::ReadErrors,
    ),
)]
pub(super) async fn export(
    State(api): State<Api>,
    headers: HeaderMap,
    mut params: Params,
) -> Result<Response, ApiError> {
    let freshness = params.freshness(&headers, Consistency::Linearizable);
    let format = match params.word("format", &["csv", "ndjson"]) {
        "ndjson" => Format::Ndjson,
        _ => Format::Csv,
    };
    let what = match params.word("what", &["items", "orders"]) {
        "orders" => What::Orders,
        _ => What::Items,
    };
    params.finish()?;
    let Ok(permit) = Arc::clone(&api.exports).try_acquire_owned() else {
        let detail = "As many exports as this node gives are under way; try again later.";
        return Err(ApiError::new(Code::Overloaded, detail));
    };
    let answer = api.read(freshness).await?;
    let view = Arc::clone(&answer.view);
    let export = Export { view, what, format, after: None, is_begun: false, _permit: permit };
    let pieces = stream::try_unfold(Some(export), async |export| {
        let Some(export) = export else { return Ok(None) };
        let piece = read_history(move || export.piece()).await;
        // The client sees that the reply breaks off; what the fault is stands in the log.
        piece.map(Some).map_err(|error| std::io::Error::other(error.to_problem().detail))
    });
    let mut response = answer.with_headers(Body::from_stream(pieces).into_response());
    let (kind, name) = match (format, what) {
        (Format::Csv, What::Items) => ("text/csv; charset=utf-8", "items.csv"),
        (Format::Csv, What::Orders) => ("text/csv; charset=utf-8", "orders.csv"),
        (Format::Ndjson, What::Items) => ("application/x-ndjson", "items.ndjson"),
        (Format::Ndjson, What::Orders) => ("application/x-ndjson", "orders.ndjson"),
    };
    let disposition = format!("attachment; filename=\"{name}\"");
    let disposition = HeaderValue::from_str(&disposition).expect("an ASCII name");
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(CONTENT_DISPOSITION, disposition);
    Ok(response)
}

/// A line of an order, as CSV has it.
#[derive(Serialize)]
struct OrderRow<'a> {
    order: u64,
    status: &'a str,
    placed_at: &'a str,
    customer: Option<&'a str>,
    reference: Option<&'a str>,
    line: usize,
    item: u64,
    title: &'a str,
    quantity: u64,
    unit_price_cents: u64,
    total_cents: u64,
    index: u64,
}

const ITEM_COLUMNS: [&str; 5] = ["id", "title", "topic", "price_cents", "stock"];
const ORDER_COLUMNS: [&str; 12] = [
    "order",
    "status",
    "placed_at",
    "customer",
    "reference",
    "line",
    "item",
    "title",
    "quantity",
    "unit_price_cents",
    "total_cents",
    "index",
];

/// What is still to come.
struct Export {
    view: Arc<View>,
    what: What,
    format: Format,
    after: Option<u64>,
    is_begun: bool,
    _permit: OwnedSemaphorePermit,
}

impl Export {
    /// The next piece, and what comes after it. May wait for the disk.
    fn piece(mut self) -> pygmy_storage::Result<(Bytes, Option<Self>)> {
        let mut out = Piece::new(self.format);
        if !self.is_begun && self.format == Format::Csv {
            match self.what {
                What::Items => out.header(&ITEM_COLUMNS),
                What::Orders => out.header(&ORDER_COLUMNS),
            }
        }
        self.is_begun = true;
        let next = match self.what {
            What::Items => self.items(&mut out),
            What::Orders => self.orders(&mut out)?,
        };
        let rest = next.map(|after| Self { after: Some(after), ..self });
        Ok((out.finish(), rest))
    }

    fn items(&self, out: &mut Piece) -> Option<u64> {
        let page = self.view.items(None, self.after, PAGE_LIMIT_MAX);
        for item in &page.rows {
            out.row(&ItemRow {
                id: item.id,
                title: item.title.to_string(),
                topic: item.topic.to_string(),
                price_cents: item.price_cents,
                stock: Some(item.stock),
            });
        }
        page.next_after
    }

    fn orders(&self, out: &mut Piece) -> pygmy_storage::Result<Option<u64>> {
        let page = self.view.orders(&OrderFilter::default(), self.after, PAGE_LIMIT_MAX)?;
        let cancelled = self.view.cancellations_of(&page.rows)?;
        for (order, cancelled) in page.rows.iter().zip(cancelled) {
            let order = render::order(order, cancelled.as_deref());
            if self.format == Format::Ndjson {
                out.row(&order);
                continue;
            }
            for (line, sold) in (1..).zip(&order.lines) {
                out.row(&OrderRow {
                    order: order.id,
                    status: &order.status,
                    placed_at: &order.placed_at,
                    customer: order.customer.as_deref(),
                    reference: order.reference.as_deref(),
                    line,
                    item: sold.item,
                    title: &sold.title,
                    quantity: sold.quantity,
                    unit_price_cents: sold.unit_price_cents,
                    total_cents: order.total_cents,
                    index: order.index,
                });
            }
        }
        Ok(page.next_after)
    }
}

/// A piece in the making.
enum Piece {
    Csv(Box<csv::Writer<Vec<u8>>>),
    Ndjson(Vec<u8>),
}

impl Piece {
    fn new(format: Format) -> Self {
        match format {
            // The header is written once, not with every piece.
            Format::Csv => {
                let writer = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
                Self::Csv(Box::new(writer))
            }
            Format::Ndjson => Self::Ndjson(Vec::new()),
        }
    }

    fn header(&mut self, names: &[&str]) {
        if let Self::Csv(writer) = self {
            writer.write_record(names).expect("memory takes all, and the row is the first");
        }
    }

    fn row(&mut self, row: &impl Serialize) {
        match self {
            Self::Csv(writer) => {
                writer.serialize(row).expect("memory takes all, and rows have as many fields");
            }
            Self::Ndjson(bytes) => {
                serde_json::to_writer(&mut *bytes, row).expect("the rows are JSON objects");
                bytes.push(b'\n');
            }
        }
    }

    fn finish(self) -> Bytes {
        match self {
            Self::Csv(writer) => writer.into_inner().expect("memory takes all").into(),
            Self::Ndjson(bytes) => bytes.into(),
        }
    }
}
