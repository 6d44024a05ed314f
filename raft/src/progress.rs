//! How far something is in the log, to wait for.
//!
//! Wakes those who wait in the order in which they came. tokio's watch channel wakes them in a random
//! order, and then a simulation would not be the same twice.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// A number that others wait for.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    value: AtomicU64,
    changed: Notify,
}

impl Progress {
    pub(crate) fn new(value: u64) -> Self {
        Self { value: AtomicU64::new(value), changed: Notify::new() }
    }

    pub(crate) fn get(&self) -> u64 {
        self.value.load(Ordering::Acquire)
    }

    /// Sets it, to less than it was too: a replaced state may be anywhere.
    pub(crate) fn set(&self, value: u64) {
        self.value.store(value, Ordering::Release);
        self.changed.notify_waiters();
    }

    /// Waits until it is greater than a number.
    pub(crate) async fn beyond(&self, number: u64) {
        loop {
            // Made before the look, so that no change between look and wait is missed.
            let changed = self.changed.notified();
            if self.get() > number {
                return;
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;

    #[tokio::test]
    async fn whoever_waits_hears_of_it_and_nobody_waits_for_what_is_there() {
        let progress = Arc::new(Progress::new(3));
        progress.beyond(2).await;
        let waiting = {
            let progress = progress.clone();
            tokio::spawn(async move { progress.beyond(5).await })
        };
        for value in 4..=6 {
            tokio::task::yield_now().await;
            progress.set(value);
        }
        tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap().unwrap();
    }
}
