//! What a connection is doing, as its socket and its requests note it, and what follows from that.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::Limits;

/// A moment that may be unset: milliseconds since the connection began, plus one.
#[derive(Debug, Default)]
struct Mark(AtomicU64);

impl Mark {
    fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }
}

/// Notes of one connection. Written by the tasks that serve it, read by its watchdog.
///
/// - `active` counts the requests between their header section and the end of their reply.
/// - `head` is set while bytes have come that are no request yet.
#[derive(Debug)]
pub(super) struct Activity {
    start: Instant,
    active: AtomicUsize,
    had_request: AtomicBool,
    http2: AtomicBool,
    head: Mark,
    idle: Mark,
    blocked: Mark,
}

/// What is to be done with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Keep,
    /// Nothing has been asked for long: close in the way that HTTP has for it.
    CloseIdle,
    /// The client does not keep to the limits: cut.
    Cut(&'static str),
}

impl Activity {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            start: Instant::now(),
            active: AtomicUsize::new(0),
            had_request: AtomicBool::new(false),
            http2: AtomicBool::new(false),
            head: Mark::default(),
            idle: Mark::default(),
            blocked: Mark::default(),
        })
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX - 1)
    }

    fn set(&self, mark: &Mark) {
        if !mark.is_set() {
            mark.0.store(self.now_ms() + 1, Ordering::Relaxed);
        }
    }

    fn longer_than(&self, mark: &Mark, limit: Duration) -> bool {
        let since = mark.0.load(Ordering::Relaxed);
        since != 0 && Duration::from_millis((self.now_ms() + 1).saturating_sub(since)) > limit
    }

    /// Bytes came from the client.
    pub(super) fn bytes_read(&self) {
        // On HTTP/2 frames come between requests too, pings for one.
        if self.active.load(Ordering::Relaxed) == 0 && !self.http2.load(Ordering::Relaxed) {
            self.set(&self.head);
        }
    }

    /// The client does not take more bytes at the moment.
    pub(super) fn write_blocked(&self) {
        self.set(&self.blocked);
    }

    /// The client took bytes.
    pub(super) fn write_went_on(&self) {
        if self.blocked.is_set() {
            self.blocked.clear();
        }
    }

    /// Whether bytes have come that are no request yet, and nothing is being answered.
    pub(super) fn in_head(&self) -> bool {
        self.head.is_set() && self.active.load(Ordering::Relaxed) == 0
    }

    /// A header section is complete. The request ends when the value is dropped.
    pub(super) fn begin(self: &Arc<Self>, http2: bool) -> ActiveRequest {
        self.active.fetch_add(1, Ordering::Relaxed);
        self.had_request.store(true, Ordering::Relaxed);
        self.http2.store(http2, Ordering::Relaxed);
        self.head.clear();
        self.idle.clear();
        ActiveRequest(Arc::clone(self))
    }

    pub(super) fn verdict(&self, limits: &Limits) -> Verdict {
        if self.longer_than(&self.blocked, limits.write_timeout) {
            return Verdict::Cut("the client does not read its reply");
        }
        if self.active.load(Ordering::Relaxed) > 0 {
            return Verdict::Keep;
        }
        if self.longer_than(&self.head, limits.header_timeout) {
            return Verdict::Cut("the header section took too long");
        }
        if !self.had_request.load(Ordering::Relaxed) && !self.head.is_set() {
            return match self.start.elapsed() > limits.first_byte_timeout {
                true => Verdict::Cut("the client stayed silent"),
                false => Verdict::Keep,
            };
        }
        match self.longer_than(&self.idle, limits.idle_timeout) {
            true => Verdict::CloseIdle,
            false => Verdict::Keep,
        }
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub(super) struct ActiveRequest(Arc<Activity>);

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        if self.0.active.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.set(&self.0.idle);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            first_byte_timeout: Duration::from_secs(1),
            header_timeout: Duration::from_secs(2),
            idle_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(5),
            ..Limits::default()
        }
    }

    async fn after(activity: &Activity, seconds: u64) -> Verdict {
        tokio::time::advance(Duration::from_millis(seconds * 1000 + 2)).await;
        activity.verdict(&limits())
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_connection_is_cut() {
        let activity = Activity::new();
        assert_eq!(activity.verdict(&limits()), Verdict::Keep);
        assert!(matches!(after(&activity, 1).await, Verdict::Cut(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_dripping_header_section_is_cut_by_its_first_byte() {
        let activity = Activity::new();
        activity.bytes_read();
        assert_eq!(after(&activity, 1).await, Verdict::Keep);
        activity.bytes_read();
        assert!(matches!(after(&activity, 1).await, Verdict::Cut(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_answer_is_not_idleness() {
        let activity = Activity::new();
        activity.bytes_read();
        let request = activity.begin(false);
        assert_eq!(after(&activity, 100).await, Verdict::Keep);
        drop(request);
        assert_eq!(after(&activity, 9).await, Verdict::Keep);
        assert_eq!(after(&activity, 1).await, Verdict::CloseIdle);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reply_that_nobody_reads_is_cut() {
        let activity = Activity::new();
        let _request = activity.begin(false);
        activity.write_blocked();
        assert_eq!(after(&activity, 4).await, Verdict::Keep);
        activity.write_went_on();
        activity.write_blocked();
        assert_eq!(after(&activity, 4).await, Verdict::Keep);
        assert!(matches!(after(&activity, 1).await, Verdict::Cut(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn http2_frames_between_requests_are_no_header_section() {
        let activity = Activity::new();
        activity.bytes_read();
        drop(activity.begin(true));
        activity.bytes_read();
        assert_eq!(after(&activity, 3).await, Verdict::Keep);
        assert_eq!(after(&activity, 7).await, Verdict::CloseIdle);
    }
}
