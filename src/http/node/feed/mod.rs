//! Live feeds of changes (server-sent events): rendered once, sent to many.
//!
//! Followers that want the same kinds share a [`Channel`]. Its task reads what has changed, renders
//! it, and wakes them; all of them send the same bytes. A follower holds nothing but its place in the
//! log: what it does not take in time is not kept for it, and it is cut off. Nothing here may hold up
//! the log: rounds grow rarer as followers grow more.
//!
//! An event has all changes of one log index, so that `id` is always a place to resume from.

mod window;

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use pygmy_storage::command::LogIndex;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{Instant, sleep, sleep_until},
};

use self::window::{End, Round, Taken, Window};
use super::{
    Node,
    changes::{Kinds, read, render},
};
use crate::{
    api::PAGE_LIMIT_MAX,
    http::problem::{ApiError, Code},
};

/// The shortest pause between two rounds.
const PAUSE_MIN: Duration = Duration::from_millis(5);

/// How much longer the pause is for each follower. To wake one and to send it what is new costs about
/// a tenth of this, so that followers cost a tenth of a processor, however many they are.
const PAUSE_PER_FOLLOWER: Duration = Duration::from_micros(200);

/// A round ends when it is as large as this.
const ROUND_BYTES_MAX: usize = 256 << 10;

/// All live feeds of a node.
pub(super) struct Feeds {
    node: Arc<Node>,
    comment_interval: Duration,
    places: Arc<Semaphore>,
    draining: watch::Receiver<bool>,
    channels: Mutex<BTreeMap<Kinds, Arc<Channel>>>,
}

/// What followers of the same kinds share.
struct Channel {
    window: Mutex<Window>,
    /// Wakes them. Counts the comments.
    news: watch::Sender<u64>,
}

impl Channel {
    fn window(&self) -> MutexGuard<'_, Window> {
        // No code panics while it holds the lock.
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Feeds {
    /// At most `places` followers at once. All end when `draining` says so, or its sender is gone.
    pub(super) fn new(
        node: Arc<Node>,
        places: usize,
        comment_interval: Duration,
        draining: watch::Receiver<bool>,
    ) -> Arc<Self> {
        let places = Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS)));
        let channels = Mutex::default();
        Arc::new(Self { node, comment_interval, places, draining, channels })
    }

    /// The body of a live feed that begins after an index.
    pub(super) async fn follow(
        self: &Arc<Self>,
        kinds: Kinds,
        after: LogIndex,
    ) -> Result<Body, ApiError> {
        if *self.draining.borrow() || self.draining.has_changed().is_err() {
            let detail = "This node is about to end; follow another one.";
            return Err(ApiError::new(Code::ShuttingDown, detail));
        }
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            let detail = "This node has as many followers as it takes on; try another one.";
            return Err(ApiError::new(Code::Overloaded, detail));
        };
        // Whether it can begin there is answered before the feed begins.
        read(&self.node, after, 1).await?;
        let (channel, news) = self.join(kinds);
        let comments = *news.borrow();
        let follower = Follower {
            node: Arc::clone(&self.node),
            kinds,
            channel,
            news,
            comments,
            at: after,
            stage: Stage::Opening,
            _place: place,
        };
        let events = stream::unfold(follower, |mut follower| async {
            let bytes = follower.next().await?;
            Some((Ok::<_, Infallible>(bytes), follower))
        });
        Ok(Body::from_stream(events))
    }

    fn channels(&self) -> MutexGuard<'_, BTreeMap<Kinds, Arc<Channel>>> {
        // No code panics while it holds the lock.
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn join(self: &Arc<Self>, kinds: Kinds) -> (Arc<Channel>, watch::Receiver<u64>) {
        let mut channels = self.channels();
        let channel = channels.entry(kinds).or_insert_with(|| {
            let at = self.node.view().index();
            let window = Mutex::new(Window::new(at));
            let channel = Arc::new(Channel { window, news: watch::Sender::new(0) });
            tokio::spawn(Arc::clone(self).run(kinds, Arc::clone(&channel), at));
            channel
        });
        (Arc::clone(channel), channel.news.subscribe())
    }

    /// Keeps a channel's window up to date, until nobody follows or it cannot go on.
    async fn run(self: Arc<Self>, kinds: Kinds, channel: Arc<Channel>, mut at: LogIndex) {
        let published = Arc::clone(self.node.published());
        let mut draining = self.draining.clone();
        let mut last_sent = Instant::now();
        loop {
            tokio::select! {
                () = published.changes.beyond(at) => {}
                () = sleep_until(last_sent + self.comment_interval) => {}
                () = channel.news.closed() => {
                    let mut channels = self.channels();
                    // Somebody may have come meanwhile.
                    if channel.news.receiver_count() == 0 {
                        channels.remove(&kinds);
                        return;
                    }
                }
                // A sender that is gone means the same as a stop.
                _ = draining.wait_for(|draining| *draining) => {
                    return self.end(kinds, &channel, End::Draining);
                }
            }
            let round = match self.round(kinds, at).await {
                Ok(round) => round,
                Err(error) => return self.end(kinds, &channel, End::Failed(last_words(&error))),
            };
            at = round.upto;
            let has_events = !round.bytes.is_empty();
            channel.window().push(round);
            if has_events || last_sent.elapsed() >= self.comment_interval {
                last_sent = Instant::now();
                channel.news.send_modify(|comments| *comments += u64::from(!has_events));
            }
            let followers = u32::try_from(channel.news.receiver_count()).unwrap_or(u32::MAX);
            let pause = PAUSE_MIN.max(PAUSE_PER_FOLLOWER.saturating_mul(followers));
            tokio::select! {
                () = sleep(pause.min(self.comment_interval)) => {}
                _ = draining.wait_for(|draining| *draining) => {}
            }
        }
    }

    /// What has changed after an index, up to now or to what a round may have.
    async fn round(&self, kinds: Kinds, after: LogIndex) -> Result<Round, ApiError> {
        let mut round = Round { after, upto: after, ..Round::default() };
        let mut bytes = Vec::new();
        loop {
            let page = read(&self.node, round.upto, PAGE_LIMIT_MAX).await?;
            round.upto = page.next_after;
            render(&page.changes, kinds, &mut bytes, &mut round.events);
            if page.changes.len() < PAGE_LIMIT_MAX || bytes.len() >= ROUND_BYTES_MAX {
                return Ok(Round { bytes: bytes.into(), ..round });
            }
        }
    }

    fn end(&self, kinds: Kinds, channel: &Channel, end: End) {
        self.channels().remove(&kinds);
        channel.window().end(end);
        channel.news.send_modify(|_| {});
    }
}

/// A comment, and an id without an event: only the place to resume from moves.
fn position(at: LogIndex) -> Bytes {
    format!(":\nid: {at}\n\n").into()
}

/// The event before the end.
fn last_words(error: &ApiError) -> Bytes {
    let problem = serde_json::to_string(&error.to_problem())
        .expect("a problem has string keys and plain values only");
    format!("event: error\ndata: {problem}\n\n").into()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing is sent yet.
    Opening,
    /// It began in the past, and reads for itself until it has come to the window.
    CatchingUp,
    /// It takes what all take.
    Live,
    Over,
}

/// One who follows.
struct Follower {
    node: Arc<Node>,
    kinds: Kinds,
    channel: Arc<Channel>,
    news: watch::Receiver<u64>,
    /// The comments it knows of.
    comments: u64,
    /// Everything up to here is sent.
    at: LogIndex,
    stage: Stage,
    _place: OwnedSemaphorePermit,
}

impl Follower {
    /// What to send next. Only called when the connection takes more, so that nothing piles up.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            match self.stage {
                Stage::Over => return None,
                // Who is cut off before the first change knows where to go on, too.
                Stage::Opening => {
                    self.stage = Stage::CatchingUp;
                    return Some(position(self.at));
                }
                Stage::CatchingUp | Stage::Live => {}
            }
            let comments = *self.news.borrow_and_update();
            let commented = std::mem::replace(&mut self.comments, comments) != comments;
            let taken = self.channel.window().take(self.at);
            match taken {
                Taken::Bytes(bytes, upto) => {
                    self.stage = Stage::Live;
                    self.at = upto;
                    if !bytes.is_empty() {
                        return Some(bytes);
                    }
                }
                // It keeps the connection open, and says up to where nothing was missed.
                Taken::Nothing(upto) if commented => {
                    self.at = self.at.max(upto);
                    return Some(position(self.at));
                }
                Taken::Nothing(_) => {
                    self.stage = Stage::Live;
                    self.news.changed().await.ok()?;
                }
                Taken::Passed if self.stage == Stage::Live => {
                    tracing::debug!(at = self.at, "a follower is too slow, its feed is cut");
                    return None;
                }
                Taken::Passed => match read(&self.node, self.at, PAGE_LIMIT_MAX).await {
                    Ok(page) => {
                        self.at = page.next_after;
                        let mut bytes = Vec::new();
                        render(&page.changes, self.kinds, &mut bytes, &mut Vec::new());
                        if !bytes.is_empty() {
                            return Some(bytes.into());
                        }
                        tokio::task::yield_now().await;
                    }
                    Err(error) => {
                        self.stage = Stage::Over;
                        return Some(last_words(&error));
                    }
                },
                Taken::Ended(End::Draining) => return None,
                Taken::Ended(End::Failed(bytes)) => {
                    self.stage = Stage::Over;
                    return Some(bytes);
                }
            }
        }
    }
}
