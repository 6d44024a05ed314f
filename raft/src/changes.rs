//! What changed, for caches and feeds: asked of the published state, and awaited.
//!
//! The changes are part of the state, so a restart or a snapshot leaves no gap in them. They are
//! bounded: who asks for more than is kept is told so, and starts over.

use std::sync::Arc;

use arc_swap::ArcSwap;
use pygmy_storage::{command::LogIndex, query::View};

pub use pygmy_storage::changes::{Change, ChangeKind, ChangePage, ChangeWhat, Changes};

use crate::progress::Progress;

/// The changes up to the newest published state.
#[derive(Debug)]
pub struct ChangeFeed {
    view: Arc<ArcSwap<View>>,
    /// The index up to which they are told.
    upto: Progress,
}

impl ChangeFeed {
    pub(crate) fn new(view: Arc<ArcSwap<View>>, index: LogIndex) -> Self {
        Self { view, upto: Progress::new(index) }
    }

    /// A view of this index is published.
    pub(crate) fn set(&self, index: LogIndex) {
        self.upto.set(index);
    }

    /// The changes after an index, about `limit` of them: those of one index are never split. Reads
    /// the disk for what left memory, which [`ChangeFeed::is_recent`] tells beforehand.
    ///
    /// Errors: node faults.
    pub fn page(&self, after: LogIndex, limit: usize) -> pygmy_storage::Result<Changes> {
        self.view.load().changes(after, limit)
    }

    /// Whether all changes after an index are in memory, or none of them are there.
    pub fn is_recent(&self, after: LogIndex) -> bool {
        self.view.load().state.changes_are_recent(after)
    }

    /// The oldest index after which all changes are kept.
    pub fn oldest(&self) -> LogIndex {
        self.view.load().state.changes_complete_after()
    }

    /// Waits until the log has gone beyond an index.
    pub async fn beyond(&self, index: LogIndex) {
        self.upto.beyond(index).await;
    }
}
