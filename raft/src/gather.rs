//! Batches without a timer: what is there once everybody who can go on has gone on.

/// Lets all other tasks of this thread that can go on do so, and then takes what `next` gives, until there are
/// `max`. Whoever wakes a task that writes or asks is mostly one of several who are about to: under load the
/// batch is several times as large for it, and without load nobody else can go on, so nothing waits.
pub(crate) async fn gather<T>(taken: &mut Vec<T>, max: usize, mut next: impl FnMut() -> Option<T>) {
    tokio::task::yield_now().await;
    while taken.len() < max
        && let Some(more) = next()
    {
        taken.push(more);
    }
}
