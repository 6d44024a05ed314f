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
            if E::blocking(move || advancing.advance_index()).await
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
