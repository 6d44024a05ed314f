//! `pygmy import` and `pygmy export`: files of any length, never held whole.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::mpsc;

use super::args::{Export, Import};
use super::{Answer, Exit, Stop, show};
use crate::api;
use crate::client::{ClientError, Exported, FileFormat, ImportOptions};

/// Bytes that are read at once.
const PIECE_BYTES: usize = 64 * 1024;
/// Pieces that are read before they are sent.
const PIECES_AHEAD: usize = 4;

pub(super) async fn import(args: Import) -> Result<Answer, Stop> {
    let options = ImportOptions {
        format: match &args.format {
            Some(name) => format(name),
            None => format_of(&args.file),
        },
        dry_run: args.dry_run,
        set_stock: args.stock == "set",
    };
    let client = args.writing.reading.remote.client()?;
    let (source, length) = open(&args.file).map_err(|error| {
        Stop::usage(format!("{}: cannot be read: {error}", args.file.display()))
    })?;
    let progress = match length {
        Some(length) => ProgressBar::new(length).with_style(style()),
        None => ProgressBar::new_spinner(),
    };
    let shown = progress.clone();
    let pieces = pieces(source).inspect(move |piece| {
        shown.inc(piece.as_ref().map_or(0, |piece| piece.len() as u64));
    });
    let result = client.import(pieces, options, &args.writing.key()).await;
    progress.finish_and_clear();
    let result = result?;
    let exit = if result.refused == 0 { Exit::Ok } else { Exit::No };
    if args.writing.reading.json {
        return Ok(Answer::json(&result, exit));
    }
    Ok(Answer { text: summary(&result), note: problems(&result), exit })
}

fn style() -> ProgressStyle {
    let template = "{wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn summary(result: &api::Import) -> String {
    let api::Import { rows, created, replaced, unchanged, refused, .. } = result;
    let would = if result.dry_run { "would be " } else { "" };
    format!(
        "{rows} rows: {created} {would}created, {replaced} {would}replaced, {unchanged} unchanged, \
         {refused} {would}refused"
    )
}

/// The rows that were refused, as a table.
fn problems(result: &api::Import) -> Option<String> {
    if result.problems.is_empty() {
        return None;
    }
    let rows = result.problems.iter().map(|problem| {
        vec![problem.line.to_string(), problem.pointer.clone(), problem.detail.clone()]
    });
    let mut text = show::table(&["#line", "place", "what is wrong"], rows);
    if result.problems_left_out > 0 {
        text += &format!("\nand {} more rows", result.problems_left_out);
    }
    Some(text)
}

fn format(name: &str) -> FileFormat {
    match name {
        "ndjson" => FileFormat::Ndjson,
        _ => FileFormat::Csv,
    }
}

fn format_of(path: &Path) -> FileFormat {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    match extension.to_ascii_lowercase().as_str() {
        "ndjson" | "jsonl" => FileFormat::Ndjson,
        _ => FileFormat::Csv,
    }
}

/// A file, or standard input, and how long it is where that is known.
fn open(path: &Path) -> io::Result<(Box<dyn Read + Send>, Option<u64>)> {
    if path == Path::new("-") {
        return Ok((Box::new(io::stdin()), None));
    }
    let file = File::open(path)?;
    let told = file.metadata()?;
    if told.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    Ok((Box::new(file), told.is_file().then_some(told.len())))
}

/// Reads on a thread of its own, no further ahead than a few pieces.
fn pieces(mut source: Box<dyn Read + Send>) -> impl Stream<Item = io::Result<Bytes>> + Send {
    let (sender, receiver) = mpsc::channel(PIECES_AHEAD);
    tokio::task::spawn_blocking(move || {
        let mut buffer = vec![0; PIECE_BYTES];
        loop {
            let piece = match source.read(&mut buffer) {
                Ok(0) => return,
                Ok(read) => Ok(Bytes::copy_from_slice(&buffer[..read])),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
            let is_last = piece.is_err();
            // Without a receiver the import has ended.
            if sender.blocking_send(piece).is_err() || is_last {
                return;
            }
        }
    });
    stream::unfold(receiver, async |mut receiver| Some((receiver.recv().await?, receiver)))
}

pub(super) async fn export(args: Export) -> Result<Answer, Stop> {
    let what = match args.what.as_str() {
        "orders" => Exported::Orders,
        _ => Exported::Items,
    };
    let format = match (&args.format, &args.output) {
        (Some(name), _) => format(name),
        (None, Some(path)) => format_of(path),
        (None, None) => FileFormat::Csv,
    };
    let client = args.remote.client()?;
    let pieces = client.export(what, format).await?;
    let name = args.output.as_deref().map_or("standard output".into(), Path::to_string_lossy);
    let wrong = |error: io::Error| Stop {
        message: format!("{name} cannot be written: {error}"),
        exit: Exit::No,
    };
    let mut out: Box<dyn Write + Send> = match &args.output {
        Some(path) => Box::new(File::create(path).map_err(wrong)?),
        None => Box::new(io::stdout()),
    };
    match write(pieces, &mut out).await {
        Ok(()) => Ok(Answer::ok("")),
        Err(Ended::Store(error)) => {
            let mut stop = Stop::from(error);
            stop.message += "; what was written is not whole";
            Err(stop)
        }
        // Whoever reads has enough.
        Err(Ended::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            Ok(Answer::ok(""))
        }
        Err(Ended::Output(error)) => Err(wrong(error)),
    }
}

/// Why an export did not come to its end.
enum Ended {
    Store(ClientError),
    Output(io::Error),
}

async fn write(
    pieces: impl Stream<Item = Result<Bytes, ClientError>>,
    out: &mut impl Write,
) -> Result<(), Ended> {
    let mut pieces = std::pin::pin!(pieces);
    while let Some(piece) = pieces.next().await {
        out.write_all(&piece.map_err(Ended::Store)?).map_err(Ended::Output)?;
    }
    out.flush().map_err(Ended::Output)
}
