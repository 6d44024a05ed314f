//! The half of an import that writes: bursts of entries, each tried until its outcome is known.

use std::time::Duration;

use pygmy_raft::{node::WriteError, types::Reply};
use pygmy_storage::{
    command::{
        Command, ImportOutcome, ImportStock, KeyClaim, LogIndex, Outcome, PutItems, PutItemsRow,
    },
    query::View,
};
use tokio::{sync::mpsc, time::Instant};

use super::{Batch, Problems};
use crate::{
    api::{RowProblem, WriteOutcome},
    http::{
        node::{
            Api,
            respond::{rejection, write_error},
        },
        problem::{ApiError, Code},
        request_id,
    },
};

/// The pause before a burst is tried again.
const RETRY: Duration = Duration::from_millis(50);

/// What has come of the rows so far.
#[derive(Default)]
pub(super) struct Progress {
    pub(super) created: u64,
    pub(super) replaced: u64,
    pub(super) unchanged: u64,
    pub(super) problems: Problems,
    /// The log index of the last entry; 0 before the first.
    pub(super) index: LogIndex,
    /// The line of the last row that is in.
    pub(super) line: u64,
    /// Whether some of it repeats an earlier import with the same key.
    pub(super) replayed: bool,
    /// Whether some of it is new.
    pub(super) fresh: bool,
}

/// Writes, or for a dry run only says what would come of it.
pub(super) struct Writer<'a> {
    pub(super) api: &'a Api,
    pub(super) key: &'a str,
    pub(super) stock: ImportStock,
    /// How long a burst may take.
    pub(super) patience: Duration,
    /// A dry run is held against this.
    pub(super) view: Option<&'a View>,
    /// The position of the next entry.
    pub(super) next: u64,
}

impl Writer<'_> {
    pub(super) async fn write_all(
        &mut self,
        queue: &mut mpsc::Receiver<Vec<Batch>>,
        progress: &mut Progress,
    ) -> Result<(), ApiError> {
        while let Some(mut burst) = queue.recv().await {
            burst.retain(|batch| !batch.rows.is_empty());
            if burst.is_empty() {
                continue;
            }
            let written = match self.view {
                Some(view) => {
                    burst.iter().for_each(|batch| self.foresee(view, batch, progress));
                    Ok(())
                }
                None => self.write(burst, progress).await,
            };
            if let Err(error) = written {
                // The other half must hear of it even while the body does not come.
                queue.close();
                while queue.try_recv().is_ok() {}
                return Err(error);
            }
        }
        Ok(())
    }

    async fn write(&mut self, burst: Vec<Batch>, progress: &mut Progress) -> Result<(), ApiError> {
        let mut lines = Vec::with_capacity(burst.len());
        let mut commands = Vec::with_capacity(burst.len());
        for Batch { rows, lines: of_rows, .. } in burst {
            let command = Command::PutItems(PutItems { rows, stock: self.stock });
            // No client's key has a space.
            let claim = KeyClaim::new(&format!("{} {}", self.key, self.next), &command);
            self.next += 1;
            commands.push((Some(claim), command));
            lines.push(of_rows);
        }
        let replies = self.write_until_known(commands).await?;
        for (reply, lines) in replies.iter().zip(&lines) {
            match &reply.applied.outcome {
                Outcome::Imported(outcome) => count(outcome, lines, progress),
                Outcome::Rejected(why) => return Err(rejection(why)),
                other => {
                    tracing::error!(
                        ?other,
                        request = request_id::text(),
                        "an outcome of another kind than its command"
                    );
                    let detail = "The store answered something it should not.";
                    let error = ApiError::new(Code::Internal, detail);
                    return Err(error.outcome(WriteOutcome::Unknown));
                }
            }
            progress.index = progress.index.max(reply.applied.index);
            progress.line = lines.last().copied().unwrap_or(progress.line);
            match reply.applied.replayed {
                true => progress.replayed = true,
                false => progress.fresh = true,
            }
        }
        Ok(())
    }

    /// Tries a burst again while its outcome is unknown and there is time: the keys make it safe.
    async fn write_until_known(
        &self,
        commands: Vec<(Option<KeyClaim>, Command)>,
    ) -> Result<Vec<Reply>, ApiError> {
        let until = Instant::now() + self.patience;
        let mut may_have_happened = false;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let error = match self.api.node.write_many(commands.clone(), left).await {
                Ok(replies) => return Ok(replies),
                Err(error) => error,
            };
            may_have_happened |= !error.not_applied();
            let again = match error {
                WriteError::LeadershipLost | WriteError::Overloaded => true,
                WriteError::NoLeader
                | WriteError::NotLeader(_)
                | WriteError::Timeout
                | WriteError::ShuttingDown => false,
            };
            if !again || Instant::now() + RETRY >= until {
                let error = write_error(&error);
                return Err(match may_have_happened {
                    true => error.outcome(WriteOutcome::Unknown),
                    false => error,
                });
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    fn foresee(&self, view: &View, batch: &Batch, progress: &mut Progress) {
        for (row, &line) in batch.rows.iter().zip(&batch.lines) {
            match foreseen(view, row, self.stock) {
                Foreseen::Created => progress.created += 1,
                Foreseen::Replaced => progress.replaced += 1,
                Foreseen::Unchanged => progress.unchanged += 1,
                Foreseen::Refused(detail) => progress.problems.add(|| {
                    let pointer = "stock".to_owned();
                    RowProblem { line, pointer, detail }
                }),
            }
        }
    }
}

enum Foreseen {
    Created,
    Replaced,
    Unchanged,
    Refused(String),
}

/// What would come of a row.
fn foreseen(view: &View, row: &PutItemsRow, mode: ImportStock) -> Foreseen {
    let Some(item) = view.item(row.id) else { return Foreseen::Created };
    let stock = row.stock.filter(|stock| mode == ImportStock::Set && *stock != item.stock);
    let is_same = *row.title == *item.title
        && *row.topic == *item.topic
        && row.price_cents == item.price_cents;
    match stock {
        Some(stock) if stock < item.reserved => {
            Foreseen::Refused(format!("{} pieces are reserved", item.reserved))
        }
        None if is_same => Foreseen::Unchanged,
        Some(_) | None => Foreseen::Replaced,
    }
}

fn count(outcome: &ImportOutcome, lines: &[u64], progress: &mut Progress) {
    progress.created += u64::from(outcome.created);
    progress.replaced += u64::from(outcome.replaced);
    progress.unchanged += u64::from(outcome.unchanged);
    for refusal in &outcome.refusals {
        let line = lines.get(refusal.position as usize).copied().unwrap_or(0);
        progress.problems.add(|| RowProblem {
            line,
            pointer: String::new(),
            detail: refusal.why.to_string(),
        });
    }
    // The store tells of some only.
    progress.problems.count +=
        u64::from(outcome.refused).saturating_sub(outcome.refusals.len() as u64);
}
