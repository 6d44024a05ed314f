//! `pygmy backup`: the whole store into a file, which appears when it is whole and checked.

use std::fs::{self, File, TryLockError};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use futures_util::{Stream, StreamExt};
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use pygmy_storage::snapshot;
use serde::Serialize;

use super::args::Backup;
use super::{Answer, Exit, Stop};
use crate::client::ClientError;

/// Bytes that are read at once.
const READ_BYTES: usize = 256 * 1024;

/// What is in a backup.
#[derive(Debug, Serialize)]
struct Summary {
    file: String,
    index: u64,
    orders: u64,
    items: u64,
    bytes: u64,
}

pub(super) async fn backup(args: Backup) -> Result<Answer, Stop> {
    let summary = match args.check {
        true => check(&args.file, &args.file).await?,
        false => take(&args).await?,
    };
    if args.reading.json {
        return Ok(Answer::json(&summary, Exit::Ok));
    }
    let Summary { file, index, orders, items, bytes } = summary;
    Ok(Answer::ok(format!(
        "{file}: index {index}, {orders} orders, {items} items, {bytes} bytes ({})",
        HumanBytes(bytes)
    )))
}

/// Asks the store for a backup, and gives it its name once it is whole, checked and on the disk.
async fn take(args: &Backup) -> Result<Summary, Stop> {
    let file = &args.file;
    let is_free = || match args.force || !exists(file)? {
        true => Ok(()),
        false => Err(no(format!("{} is there: add --force to replace it", file.display()))),
    };
    is_free()?;
    let client = args.reading.remote.client()?;
    let mut partial = Partial::create(file)?;
    let pieces = client.backup().await?;
    partial.fill(pieces).await?;
    let summary = check(&partial.path, file).await?;
    is_free()?;
    tokio::task::spawn_blocking(move || partial.commit())
        .await
        .map_err(|error| no(format!("{} was not written: {error}", file.display())))??;
    Ok(summary)
}

fn exists(file: &Path) -> Result<bool, Stop> {
    file.try_exists().map_err(|error| cannot(file, "be looked at", &error))
}

fn no(message: String) -> Stop {
    Stop { message, exit: Exit::No }
}

fn cannot(file: &Path, what: &str, error: &io::Error) -> Stop {
    no(format!("{} cannot {what}: {error}", file.display()))
}

/// A file beside the one that it becomes. Removed when it does not.
struct Partial {
    out: File,
    path: PathBuf,
    file: PathBuf,
    committed: bool,
}

impl Partial {
    fn create(file: &Path) -> Result<Self, Stop> {
        let Some(name) = file.file_name() else {
            return Err(Stop::usage(format!("{} names no file", file.display())));
        };
        let mut name = name.to_owned();
        name.push(".partial");
        let path = file.with_file_name(name);
        // Not emptied before it is known to be nobody's.
        let out = File::options().write(true).create(true).truncate(false).open(&path);
        let out = out.map_err(|error| cannot(&path, "be written", &error))?;
        match out.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let path = path.display();
                return Err(no(format!("another backup is being written to {path}: wait for it")));
            }
            Err(TryLockError::Error(error)) => return Err(cannot(&path, "be locked", &error)),
        }
        out.set_len(0).map_err(|error| cannot(&path, "be written", &error))?;
        Ok(Self { out, path, file: file.to_owned(), committed: false })
    }

    async fn fill(
        &mut self,
        pieces: impl Stream<Item = Result<bytes::Bytes, ClientError>>,
    ) -> Result<(), Stop> {
        let template = "{spinner} {bytes} {bytes_per_sec}";
        let progress = ProgressBar::new_spinner().with_style(style(template));
        let mut pieces = std::pin::pin!(pieces);
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|error| {
                progress.finish_and_clear();
                let mut stop = Stop::from(error);
                stop.message += "; the backup broke off, and no file was written";
                stop
            })?;
            self.out.write_all(&piece).map_err(|error| cannot(&self.path, "be written", &error))?;
            progress.inc(piece.len() as u64);
        }
        progress.finish_and_clear();
        Ok(())
    }

    /// Makes it durable under its name.
    fn commit(mut self) -> Result<(), Stop> {
        self.out.sync_all().map_err(|error| cannot(&self.path, "be synced", &error))?;
        fs::rename(&self.path, &self.file)
            .map_err(|error| cannot(&self.file, "be written", &error))?;
        self.committed = true;
        let dir = self.file.parent().filter(|dir| !dir.as_os_str().is_empty());
        let dir = dir.unwrap_or(Path::new("."));
        let synced = File::open(dir).and_then(|dir| dir.sync_all());
        synced.map_err(|error| cannot(dir, "be synced", &error))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.committed {
            // Best effort: the next backup of this name begins with it anew.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// A bar for a file that is read, of so many bytes.
pub(super) fn bar(bytes: u64) -> ProgressBar {
    let template = "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    ProgressBar::new(bytes).with_style(style(template))
}

/// A backup from its beginning, and how long it is.
pub(super) fn open(file: &Path) -> io::Result<(File, u64)> {
    let opened = File::open(file)?;
    let told = opened.metadata()?;
    match told.is_dir() {
        true => Err(io::ErrorKind::IsADirectory.into()),
        false => Ok((opened, told.len())),
    }
}

/// A backup as it is read, with a bar that shows how far.
pub(super) fn shown(file: File, bar: &ProgressBar) -> impl Read + use<> {
    BufReader::with_capacity(READ_BYTES, bar.wrap_read(file))
}

/// Checks a whole file; `name` is what it is called or will be.
async fn check(file: &Path, name: &Path) -> Result<Summary, Stop> {
    let name = name.display().to_string();
    let (opened, bytes) = open(file)
        .map_err(|error| Stop::usage(format!("{}: cannot be read: {error}", file.display())))?;
    let bar = bar(bytes).with_message("checking");
    let verify = move || {
        let header = snapshot::verify(&mut shown(opened, &bar));
        bar.finish_and_clear();
        header
    };
    let header = tokio::task::spawn_blocking(verify)
        .await
        .map_err(|error| no(format!("{name} was not checked: {error}")))?
        .map_err(|error| no(format!("{name} is no whole backup: {error}; take another one")))?;
    let (index, orders) = (header.applied.unwrap_or(0), header.orders);
    Ok(Summary { file: name, index, orders, items: header.items, bytes })
}
