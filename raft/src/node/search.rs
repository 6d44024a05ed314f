//! The search index, kept up with the state behind the applies.

use std::{
    future::Future,
    sync::{Arc, Weak},
    time::Duration,
};

use openraft::{async_runtime::watch::WatchReceiver, type_config::TypeConfigExt};

use super::Node;
use crate::{
    network::Transport,
    types::{Environment, TypeConfig},
};

/// Between two looks at what changed. What a search finds does not depend on it, but it looks at
/// what the index lacks item by item.
const EVERY: Duration = Duration::from_millis(200);

/// Looks after which an index that nobody asked for counts as unasked: ten seconds.
const ASKED_LOOKS: u32 = 50;

/// An unasked index catches up at each of so many looks, every five seconds: of what changed many times
/// by then only the last counts, and the next search has no more than that to look at.
const UNASKED_EVERY: u32 = 25;

/// When the index catches up.
#[derive(Debug, Default)]
struct Pace {
    /// Looks since it was last asked for.
    unasked: u32,
}

impl Pace {
    /// Whether it is time, as seen at a look.
    fn is_due(&mut self, asked: bool) -> bool {
        self.unasked = if asked { 0 } else { self.unasked.saturating_add(1) };
        self.unasked < ASKED_LOOKS || self.unasked.is_multiple_of(UNASKED_EVERY)
    }
}

impl<E: Environment, T: Transport> Node<E, T> {
    /// Keeps the search index until the node is gone or its core has stopped. For who answers
    /// searches: a node that is asked for none does without, and saves the memory.
    ///
    /// It waits for nothing and nothing waits for it: until the first index is there, a search looks
    /// at every item.
    pub fn keep_index(self: &Arc<Self>) -> impl Future<Output = ()> + Send + use<E, T> {
        keep(Arc::downgrade(self))
    }
}

async fn keep<E: Environment, T: Transport>(node: Weak<Node<E, T>>) {
    let mut is_first = true;
    let mut pace = Pace::default();
    loop {
        {
            let Some(node) = node.upgrade() else { return };
            if node.is_draining() || node.raft.metrics().borrow_watched().running_state.is_err() {
                return;
            }
            let published = node.published.clone();
            drop(node);
            let begun = TypeConfig::<E>::now();
            let advancing = published.clone();
            if pace.is_due(published.was_index_asked())
                && E::blocking(move || advancing.advance_index()).await
                && let Some(index) = published.index().filter(|_| is_first)
            {
                is_first = false;
                let took = TypeConfig::<E>::now() - begun;
                tracing::info!(bytes = index.bytes(), ?took, "the search index is built");
            }
        }
        TypeConfig::<E>::sleep(EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_that_nobody_asks_for_seldom_catches_up() {
        let mut pace = Pace::default();
        let due = |pace: &mut Pace, looks: u32| (0..looks).filter(|_| pace.is_due(false)).count();
        assert!(pace.is_due(true));
        assert_eq!(due(&mut pace, ASKED_LOOKS - 1), 49, "asked a moment ago");
        assert_eq!(due(&mut pace, 100), 4, "unasked");
        assert!(pace.is_due(true), "at once");
        assert_eq!(due(&mut pace, 10), 10);
    }
}
