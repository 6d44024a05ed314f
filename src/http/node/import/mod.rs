//! `POST /v1/import`: items from a file, however long, in bounded memory.
//!
//! Two halves run side by side: one reads, checks and gathers rows into bursts of entries, the other
//! writes them, one burst after the other, so that of two rows with one number the later one counts.
//! Every entry has a key made of the import's key and its position: it can be tried again.

mod frame;
mod rows;
mod write;

use axum::{
    body::{Body, BodyDataStream},
    extract::State,
    response::{IntoResponse, Response},
};
use futures_util::StreamExt;
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE, EXPECT},
};
use pygmy_raft::node::Freshness;
use pygmy_storage::command::{ImportStock, PutItemsRow};
use tokio::sync::mpsc;

use self::{
    frame::Framer,
    rows::{Format, Rows},
    write::{Progress, Writer},
};
use super::{
    Api,
    extract::{self, Params},
    openapi,
    respond::json,
};
use crate::{
    api::{self, IMPORT_PROBLEMS_MAX, IMPORT_ROW_BYTES_MAX, RowProblem, WriteOutcome, header},
    http::problem::{ApiError, Code},
};

/// The most rows of an entry.
const BATCH_ROWS_MAX: usize = 500;
/// The most bytes of texts in an entry, give or take a row.
const BATCH_BYTES_MAX: usize = 256 * 1024;
/// The most entries that are under way at once.
const BURST_BATCHES_MAX: usize = 4;
/// The longest word about a row.
const PROBLEM_CHARS_MAX: usize = 200;
/// How long the rest of a body is read of a request that was refused: who still sends would otherwise
/// lose the connection before the reply.
const REST_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(2);

/// What is asked.
struct Plan {
    format: Format,
    stock: ImportStock,
    dry_run: bool,
    bytes_max: u64,
}

/// Rows that go into one entry.
#[derive(Default)]
struct Batch {
    rows: Vec<PutItemsRow>,
    /// The line of each row.
    lines: Vec<u64>,
    bytes: usize,
}

/// Problems of rows, as many as are told, and how many there are.
#[derive(Default)]
struct Problems {
    told: Vec<RowProblem>,
    count: u64,
}

impl Problems {
    fn add(&mut self, problem: impl FnOnce() -> RowProblem) {
        self.count += 1;
        if self.told.len() < IMPORT_PROBLEMS_MAX {
            let RowProblem { line, pointer, detail } = problem();
            // What they repeat of the row may be as long as a row.
            let cut = |text: String| text.chars().take(PROBLEM_CHARS_MAX).collect();
            self.told.push(RowProblem { line, pointer: cut(pointer), detail: cut(detail) });
        }
    }
}

/// `POST /v1/import`
#[utoipa::path(
    post,
    path = "/v1/import",
    operation_id = "import_items",
    tag = "files",
    summary = "Creates or replaces items from a file",
    description = "CSV with a header line (`id,title,topic,price_cents,stock`, in any order, `stock` \
        may be left out) or NDJSON with these fields on each line. Rows that are wrong are told and \
        left out; the others are in when the reply comes, and of rows with one number the last one \
        counts. The same file again changes nothing, so that an import that was interrupted goes on \
        when it is sent again. A dry run holds each row against the store as it is at the beginning.",
    params(openapi::Import, openapi::Write),
    request_body(content((String = "text/csv"), (String = "application/x-ndjson"))),
    responses(
        (status = 200, description = "What came of the rows", body = api::Import),
        openapi::BodyErrors,
        openapi::WriteErrors,
    ),
)]
pub(super) async fn import(
    State(api): State<Api>,
    headers: HeaderMap,
    params: Params,
    body: Body,
) -> Response {
    let mut body = body.into_data_stream();
    match run(&api, &headers, params, &mut body).await {
        Ok(response) => response,
        Err(response) => {
            if !headers.contains_key(EXPECT) {
                let rest = async { while let Some(Ok(_)) = body.next().await {} };
                // Either way it is answered now.
                let _ = tokio::time::timeout(REST_TIMEOUT, rest).await;
            }
            response
        }
    }
}

async fn run(
    api: &Api,
    headers: &HeaderMap,
    params: Params,
    body: &mut BodyDataStream,
) -> Result<Response, Response> {
    let refuse = |error: ApiError| error.outcome(WriteOutcome::NotApplied).into_response();
    let plan = plan(api, headers, params).map_err(refuse)?;
    let key = extract::idempotency_key(headers).map_err(refuse)?;
    let key = key.unwrap_or_else(|| format!("{:032x}", rand::random::<u128>()));
    let patience = extract::timeout(headers, api.settings.request_timeout).map_err(refuse)?;
    let Ok(_permit) = api.imports.try_acquire() else {
        let detail = "As many imports as this node takes are under way; try again later.";
        return Err(refuse(ApiError::new(Code::Overloaded, detail)));
    };
    let answer = match plan.dry_run {
        true => Some(api.read(Freshness::Linearizable).await.map_err(refuse)?),
        false => None,
    };
    let view = answer.as_ref().map(|answer| &*answer.view);
    let (bursts, mut queue) = mpsc::channel(1);
    let mut writer = Writer { api, key: &key, stock: plan.stock, patience, view, next: 0 };
    let mut progress = Progress::default();
    let (read, written) =
        tokio::join!(read(&plan, body, bursts), writer.write_all(&mut queue, &mut progress),);
    let (rows, mut problems, read) = read;
    if let Err(error) = written.and(read) {
        return Err(stopped(error, &progress));
    }
    let refused = problems.count + progress.problems.count;
    problems.told.append(&mut progress.problems.told);
    problems.told.sort();
    problems.told.truncate(IMPORT_PROBLEMS_MAX);
    let told = problems.told.len() as u64;
    let mut response = json(
        StatusCode::OK,
        &api::Import {
            dry_run: plan.dry_run,
            rows,
            created: progress.created,
            replaced: progress.replaced,
            unchanged: progress.unchanged,
            refused,
            problems: problems.told,
            problems_left_out: refused - told,
        },
    );
    if let Some(answer) = &answer {
        return Ok(answer.with_headers(response));
    }
    let headers = response.headers_mut();
    if progress.index > 0 {
        headers.insert(header::INDEX, HeaderValue::from(progress.index));
    }
    if progress.replayed && !progress.fresh {
        headers.insert(header::IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// The reply to an import that did not come to its end.
fn stopped(error: ApiError, progress: &Progress) -> Response {
    if progress.index == 0 {
        let outcome = error.write_outcome().unwrap_or(WriteOutcome::NotApplied);
        return error.outcome(outcome).into_response();
    }
    let said = error.to_problem();
    let detail = format!(
        "{} The rows up to line {} are in; send the file again to go on.",
        said.detail, progress.line
    );
    // Not all of it, and not nothing: whoever sends it again finds out.
    let again = ApiError::new(error.code(), detail).errors(said.errors);
    let mut response = again.outcome(WriteOutcome::Unknown).into_response();
    response.headers_mut().insert(header::INDEX, HeaderValue::from(progress.index));
    response
}

fn plan(api: &Api, headers: &HeaderMap, mut params: Params) -> Result<Plan, ApiError> {
    let dry_run = params.word("dry_run", &["false", "true"]) == "true";
    let stock = match params.word("stock", &["new", "set"]) {
        "set" => ImportStock::Set,
        _ => ImportStock::OnlyNew,
    };
    params.finish()?;
    let given = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim();
    let format = match essence.to_ascii_lowercase().as_str() {
        "text/csv" => Format::Csv,
        "application/x-ndjson" => Format::Ndjson,
        _ => {
            let detail = format!(
                "The body is {given:?}; send it with Content-Type: text/csv or application/x-ndjson."
            );
            return Err(ApiError::new(Code::UnsupportedMediaType, detail));
        }
    };
    let bytes_max = api.settings.import_limit_bytes;
    let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if length.is_some_and(|length: u64| length > bytes_max) {
        return Err(too_large(bytes_max));
    }
    Ok(Plan { format, stock, dry_run, bytes_max })
}

fn too_large(bytes_max: u64) -> ApiError {
    let detail = format!("The body is larger than the {bytes_max} bytes of an import; split it.");
    ApiError::new(Code::TooLarge, detail)
}

/// Reads rows and hands them on in bursts: how many rows there were, and what was wrong with some.
async fn read(
    plan: &Plan,
    body: &mut BodyDataStream,
    bursts: mpsc::Sender<Vec<Batch>>,
) -> (u64, Problems, Result<(), ApiError>) {
    let mut gathering = Gathering {
        rows: Rows::new(plan.format),
        framer: Framer::new(plan.format == Format::Csv),
        count: 0,
        problems: Problems::default(),
        batches: vec![Batch::default()],
        bursts,
    };
    let result = gathering.read(plan.bytes_max, body).await;
    (gathering.count, gathering.problems, result)
}

struct Gathering {
    rows: Rows,
    framer: Framer,
    count: u64,
    problems: Problems,
    /// The last one takes rows.
    batches: Vec<Batch>,
    bursts: mpsc::Sender<Vec<Batch>>,
}

impl Gathering {
    async fn read(&mut self, bytes_max: u64, body: &mut BodyDataStream) -> Result<(), ApiError> {
        let mut bytes = 0;
        loop {
            let piece = tokio::select! {
                piece = body.next() => piece,
                // The other half says why.
                () = self.bursts.closed() => return Ok(()),
            };
            let Some(piece) = piece else { break };
            let piece = piece.map_err(|error| {
                ApiError::new(Code::Malformed, format!("The body broke off: {error}."))
            })?;
            bytes += piece.len() as u64;
            if bytes > bytes_max {
                return Err(too_large(bytes_max));
            }
            self.framer.push(&piece);
            while let Some(record) = self.framer.next().map_err(too_long)? {
                self.take(&record)?;
                if self.is_full() {
                    self.send().await;
                }
            }
        }
        if let Some(record) = self.framer.last() {
            if record.bytes.len() > IMPORT_ROW_BYTES_MAX {
                return Err(too_long(frame::TooLong { line: record.line }));
            }
            self.take(&record)?;
        }
        self.rows.finish()?;
        self.send().await;
        Ok(())
    }

    fn take(&mut self, record: &frame::Record) -> Result<(), ApiError> {
        let Some(read) = self.rows.read(record)? else { return Ok(()) };
        self.count += 1;
        let row = match read {
            Ok(row) => row,
            Err(problem) => {
                self.problems.add(|| problem);
                return Ok(());
            }
        };
        let bytes = row.title.len() + row.topic.len();
        let fits = |batch: &&mut Batch| {
            batch.rows.len() < BATCH_ROWS_MAX && batch.bytes + bytes <= BATCH_BYTES_MAX
        };
        if self.batches.last_mut().filter(fits).is_none() {
            self.batches.push(Batch::default());
        }
        if let Some(batch) = self.batches.last_mut() {
            batch.bytes += bytes;
            batch.rows.push(row);
            batch.lines.push(record.line);
        }
        Ok(())
    }

    /// Whether a batch more than goes into a burst was begun.
    fn is_full(&self) -> bool {
        self.batches.len() > BURST_BATCHES_MAX
    }

    /// Hands on what is gathered. Where the other half has ended, nothing is to be done any more.
    async fn send(&mut self) {
        // The one that has begun stays: where batches end must not depend on how the body came.
        let rest = if self.is_full() { self.batches.pop() } else { None };
        let burst = std::mem::replace(&mut self.batches, vec![rest.unwrap_or_default()]);
        let _ = self.bursts.send(burst).await;
    }
}

fn too_long(row: frame::TooLong) -> ApiError {
    let detail = format!(
        "The row on line {} is longer than {IMPORT_ROW_BYTES_MAX} bytes; a quote may be missing.",
        row.line
    );
    ApiError::new(Code::TooLarge, detail)
}
