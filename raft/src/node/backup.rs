//! A whole state, given away as one file while the node goes on.
//!
//! It is made as a snapshot is, with rests, into a file without a name, and given away from there. So neither
//! has to wait for the other: what is being made keeps the view's history for as long as the making takes, and
//! whoever takes it slowly keeps nothing but that file.

use std::{
    io::{self, Read, Write},
    sync::Arc,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use openraft::type_config::TypeConfigExt;
use pygmy_storage::{Error, Result, history::Pin, query::View, store, volume::Volume};
use tokio::sync::watch;

use super::Node;
use crate::{
    network::Transport,
    state_machine::SNAPSHOT_RESTS,
    types::{Environment, TypeConfig},
};

/// The most bytes that are given away at once.
const PIECE_BYTES: u64 = 256 << 10;

/// A whole state as a file of the format of [`pygmy_storage::snapshot`], piece by piece. Dropping it ends the
/// making of it as well.
pub struct Backup<E> {
    stage: Stage,
    _environment: std::marker::PhantomData<fn() -> E>,
}

enum Stage {
    /// Nobody has asked for a piece yet.
    Waiting { volume: Arc<dyn Volume>, view: Arc<View>, pin: Pin },
    /// It is being made, or is made.
    Made { read: Reading, made: watch::Receiver<Made>, given: u64 },
}

/// How far a backup is.
#[derive(Debug, Default, Clone)]
struct Made {
    bytes: u64,
    /// How it ended, if it has.
    end: Option<Result<(), Arc<str>>>,
}

impl<E: Environment, T: Transport> Node<E, T> {
    /// A backup of a state. The making of it begins with the first piece that is asked for.
    ///
    /// Errors: [`Error::Gone`] for a view that is too old.
    pub fn backup(&self, view: &Arc<View>) -> Result<Backup<E>> {
        let (volume, view, pin) = (self.volume.clone(), view.clone(), view.pin()?);
        let stage = Stage::Waiting { volume, view, pin };
        Ok(Backup { stage, _environment: std::marker::PhantomData })
    }
}

impl<E: Environment> Backup<E> {
    /// The next piece, and what comes after it; `None` when that was all. Waits for the disk, and for what
    /// is still to be made.
    ///
    /// Errors: making or reading it failed, and what was given is not whole.
    pub fn next(self) -> BoxFuture<'static, Result<Option<(Bytes, Self)>>> {
        // Boxed and owned: the compiler cannot prove the nested futures `Send` otherwise.
        Box::pin(async move {
            let (read, mut made, given) = match self.stage {
                Stage::Waiting { volume, view, pin } => {
                    let (written, read) = E::blocking(move || volume.scratch()).await?;
                    (read, begin::<E>(written, view, pin), 0)
                }
                Stage::Made { read, made, given } => (read, made, given),
            };
            let Some(bytes) = await_more(&mut made, given).await? else { return Ok(None) };
            let (piece, read) = E::blocking(move || read_piece(read, bytes)).await?;
            let stage = Stage::Made { read, made, given: given + bytes };
            Ok(Some((piece, Self { stage, ..self })))
        })
    }
}

/// Waits for more than what was given, and says how much of it comes next.
async fn await_more(made: &mut watch::Receiver<Made>, given: u64) -> Result<Option<u64>> {
    loop {
        let Made { bytes, end } = made.borrow_and_update().clone();
        match end {
            _ if bytes > given => return Ok(Some((bytes - given).min(PIECE_BYTES))),
            Some(Ok(())) => return Ok(None),
            Some(Err(detail)) => return Err(broken_off(&detail)),
            None if made.changed().await.is_err() => return Err(broken_off("it was cut off")),
            None => {}
        }
    }
}

type Reading = Box<dyn Read + Send>;

fn read_piece(mut read: Reading, bytes: u64) -> Result<(Bytes, Reading)> {
    let mut piece = vec![0; usize::try_from(bytes).unwrap_or(usize::MAX)];
    read.read_exact(&mut piece).map_err(|e| Error::io("reading a backup", e))?;
    Ok((piece.into(), read))
}

fn broken_off(detail: &str) -> Error {
    Error::io("making a backup", io::Error::other(detail.to_owned()))
}

/// Begins to make a backup, apart from everything.
fn begin<E: Environment>(
    out: Box<dyn Write + Send>,
    view: Arc<View>,
    pin: Pin,
) -> watch::Receiver<Made> {
    let (progress, made) = watch::channel(Made::default());
    let progress = Arc::new(progress);
    let index = view.index();
    let mut out = Told { out, progress: progress.clone() };
    let make = move || {
        let made = store::export_unhurried(&view, &mut out, &mut E::rests(SNAPSHOT_RESTS));
        drop(pin);
        made
    };
    let task = async move {
        tracing::info!(index, "making a backup");
        let end = match E::blocking(make).await {
            Ok(bytes) => {
                tracing::info!(index, bytes, "made a backup");
                Ok(())
            }
            Err(error) if progress.is_closed() => {
                tracing::info!(index, %error, "nobody takes the backup any more");
                Ok(())
            }
            Err(error) => {
                tracing::error!(index, %error, "making a backup failed");
                Err(error.to_string().into())
            }
        };
        progress.send_modify(|made| made.end = Some(end));
    };
    drop(TypeConfig::<E>::spawn(task));
    made
}

/// A file whose reader is told how long it is.
struct Told {
    out: Box<dyn Write + Send>,
    progress: Arc<watch::Sender<Made>>,
}

impl Write for Told {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.progress.is_closed() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let written = self.out.write(bytes)?;
        self.progress.send_modify(|made| made.bytes += written as u64);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_more_is_made_when_nobody_takes_it() {
        let (progress, made) = watch::channel(Made::default());
        let mut told = Told { out: Box::new(Vec::new()), progress: Arc::new(progress) };
        told.write_all(b"taken").unwrap();
        assert_eq!(made.borrow().bytes, 5);
        drop(made);
        let error = told.write_all(b"not taken").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    #[tokio::test]
    async fn one_that_breaks_off_ends_with_an_error() {
        let (progress, mut made) = watch::channel(Made { bytes: 7, end: None });
        assert_eq!(await_more(&mut made, 0).await.unwrap(), Some(7));
        progress.send_modify(|made| made.end = Some(Err("the disk is full".into())));
        assert_eq!(await_more(&mut made, 3).await.unwrap(), Some(4), "what there is comes first");
        let error = await_more(&mut made, 7).await.unwrap_err();
        assert!(error.to_string().contains("the disk is full"), "{error}");
        // As when the thread that made it is lost.
        let (progress, mut made) = watch::channel(Made::default());
        drop(progress);
        assert!(await_more(&mut made, 0).await.is_err());
        let (progress, mut made) = watch::channel(Made { bytes: 7, end: Some(Ok(())) });
        assert_eq!(await_more(&mut made, 7).await.unwrap(), None);
        drop(progress);
    }
}
