//! Live feeds of changes (server-sent events): rendered once, sent to many.
//!
//! Followers that want the same kinds in the same form share a [`Channel`]. Its task reads what has
//! changed, renders it, compresses it, and wakes them; all of them send the same bytes. A follower holds nothing but its place in the
//! log: what it does not take in time is not kept for it, and it is cut off. Nothing here may hold up
//! the log: rounds grow rarer as followers grow more.
//!
//! An event has all changes of one log index, so that `id` is always a place to resume from.

mod gzip;
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

use self::{
    gzip::{Packer, Sum},
    window::{End, Piece, Round, Taken, Window},
};
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
/// 20 µs, however little that is: so that followers together take a fiftieth of a processor, however
/// many they are, and a thousand of them hear of what happens once a second.
const PAUSE_PER_FOLLOWER: Duration = Duration::from_millis(1);

/// A round ends when it is as large as this; the next one follows without a pause.
const ROUND_BYTES_MAX: usize = 256 << 10;

/// All live feeds of a node.
pub(super) struct Feeds {
    node: Arc<Node>,
    comment_interval: Duration,
    places: Arc<Semaphore>,
    draining: watch::Receiver<bool>,
    channels: Mutex<BTreeMap<Form, Arc<Channel>>>,
}

/// What followers ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Form {
    pub(super) kinds: Kinds,
    /// Whether the stream is compressed.
    pub(super) gzip: bool,
}

/// What followers of the same form share.
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
        form: Form,
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
        let (channel, news) = self.join(form);
        let comments = *news.borrow();
        let follower = Follower {
            node: Arc::clone(&self.node),
            form,
            channel,
            news,
            comments,
            at: after,
            stage: Stage::Opening,
            sum: Sum::default(),
            _place: place,
        };
        let events = stream::unfold(follower, |mut follower| async {
            let bytes = follower.next().await?;
            Some((Ok::<_, Infallible>(bytes), follower))
        });
        Ok(Body::from_stream(events))
    }

    fn channels(&self) -> MutexGuard<'_, BTreeMap<Form, Arc<Channel>>> {
        // No code panics while it holds the lock.
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn join(self: &Arc<Self>, form: Form) -> (Arc<Channel>, watch::Receiver<u64>) {
        let mut channels = self.channels();
        let channel = channels.entry(form).or_insert_with(|| {
            let at = self.node.view().index();
            let window = Mutex::new(Window::new(at));
            let channel = Arc::new(Channel { window, news: watch::Sender::new(0) });
            tokio::spawn(Arc::clone(self).run(form, Arc::clone(&channel), at));
            channel
        });
        (Arc::clone(channel), channel.news.subscribe())
    }

    /// Keeps a channel's window up to date, until nobody follows or it cannot go on.
    async fn run(self: Arc<Self>, form: Form, channel: Arc<Channel>, mut at: LogIndex) {
        let published = Arc::clone(self.node.published());
        let mut draining = self.draining.clone();
        let mut last_sent = Instant::now();
        let mut packer = form.gzip.then(Packer::new);
        loop {
            tokio::select! {
                () = published.changes.beyond(at) => {}
                () = sleep_until(last_sent + self.comment_interval) => {}
                () = channel.news.closed() => {
                    let mut channels = self.channels();
                    // Somebody may have come meanwhile.
                    if channel.news.receiver_count() == 0 {
                        channels.remove(&form);
                        return;
                    }
                }
                // A sender that is gone means the same as a stop.
                _ = draining.wait_for(|draining| *draining) => {
                    return self.end(form, &channel, End::Draining);
                }
            }
            let (round, is_full) = match self.round(form.kinds, at, packer.as_mut()).await {
                Ok(found) => found,
                Err(error) => return self.end(form, &channel, End::Failed(last_words(&error))),
            };
            at = round.upto;
            let has_events = !round.piece.bytes.is_empty();
            channel.window().push(round);
            if has_events || last_sent.elapsed() >= self.comment_interval {
                last_sent = Instant::now();
                channel.news.send_modify(|comments| *comments += u64::from(!has_events));
            }
            if is_full {
                continue;
            }
            let followers = u32::try_from(channel.news.receiver_count()).unwrap_or(u32::MAX);
            let pause = PAUSE_MIN.max(PAUSE_PER_FOLLOWER.saturating_mul(followers));
            tokio::select! {
                () = sleep(pause.min(self.comment_interval)) => {}
                _ = draining.wait_for(|draining| *draining) => {}
            }
        }
    }

    /// What has changed after an index, up to now or to what a round may have, and whether it has that.
    async fn round(
        &self,
        kinds: Kinds,
        after: LogIndex,
        packer: Option<&mut Packer>,
    ) -> Result<(Round, bool), ApiError> {
        let mut round = Round { upto: after, ..Round::default() };
        let (mut bytes, mut first) = (Vec::new(), None);
        let is_full = loop {
            let page = read(&self.node, round.upto, PAGE_LIMIT_MAX).await?;
            round.upto = page.next_after;
            first = first.or(render(&page.changes, kinds, &mut bytes));
            let is_full = bytes.len() >= ROUND_BYTES_MAX;
            if is_full || page.changes.len() < PAGE_LIMIT_MAX {
                break is_full;
            }
        };
        if let Some(first) = first {
            round.first = first;
            round.piece = match packer {
                Some(packer) => {
                    Piece { sum: Arc::new(Sum::of(&bytes)), bytes: packer.pack(&bytes) }
                }
                None => Piece { bytes: bytes.into(), sum: Arc::default() },
            };
        }
        Ok((round, is_full))
    }

    fn end(&self, form: Form, channel: &Channel, end: End) {
        self.channels().remove(&form);
        channel.window().end(end);
        channel.news.send_modify(|_| {});
    }
}

/// A comment, and an id without an event: only the place to resume from moves.
fn position(at: LogIndex) -> String {
    format!(":\nid: {at}\n\n")
}

/// The event before the end.
fn last_words(error: &ApiError) -> String {
    let problem = serde_json::to_string(&error.to_problem())
        .expect("a problem has string keys and plain values only");
    format!("event: error\ndata: {problem}\n\n")
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing is sent yet.
    Opening,
    /// It began in the past, and reads for itself until it has come to the window.
    CatchingUp,
    /// It takes what all take.
    Live,
    /// Everything is said, but that this is the end.
    Ending,
    Over,
}

/// One who follows.
struct Follower {
    node: Arc<Node>,
    form: Form,
    channel: Arc<Channel>,
    news: watch::Receiver<u64>,
    /// The comments it knows of.
    comments: u64,
    /// Everything up to here is sent.
    at: LogIndex,
    stage: Stage,
    /// Over everything that went into a compressed stream.
    sum: Sum,
    _place: OwnedSemaphorePermit,
}

impl Follower {
    /// What to send next. Only called when the connection takes more, so that nothing piles up.
    async fn next(&mut self) -> Option<Bytes> {
        match self.stage {
            Stage::Over => return None,
            Stage::Ending => return self.end(),
            // Who is cut off before the first change knows where to go on, too.
            Stage::Opening => {
                self.stage = Stage::CatchingUp;
                let begin = if self.form.gzip { gzip::begin() } else { Bytes::new() };
                let position = self.own(position(self.at).as_bytes());
                return Some([begin, position].concat().into());
            }
            Stage::CatchingUp | Stage::Live => {}
        }
        loop {
            let comments = *self.news.borrow_and_update();
            let commented = std::mem::replace(&mut self.comments, comments) != comments;
            let taken = self.channel.window().take(self.at);
            match taken {
                Taken::Piece(piece, upto) => {
                    self.stage = Stage::Live;
                    self.at = upto;
                    self.sum.add(&piece.sum);
                    return Some(piece.bytes);
                }
                // It keeps the connection open, and says up to where nothing was missed.
                Taken::Nothing(upto) if commented => {
                    self.at = self.at.max(upto);
                    return Some(self.own(position(self.at).as_bytes()));
                }
                Taken::Nothing(_) => {
                    self.stage = Stage::Live;
                    if self.news.changed().await.is_err() {
                        return self.end();
                    }
                }
                Taken::Passed if self.stage == Stage::Live => {
                    tracing::debug!(at = self.at, "a follower is too slow, its feed is cut");
                    return self.end();
                }
                Taken::Passed => {
                    if let Some(bytes) = self.read_for_itself(LogIndex::MAX).await {
                        return Some(bytes);
                    }
                    tokio::task::yield_now().await;
                }
                Taken::Part(upto) => {
                    if let Some(bytes) = self.read_for_itself(upto).await {
                        return Some(bytes);
                    }
                }
                Taken::Ended(End::Draining) => return self.end(),
                Taken::Ended(End::Failed(why)) => {
                    self.stage = Stage::Ending;
                    return Some(self.own(why.as_bytes()));
                }
            }
        }
    }

    /// A page of what comes next, up to an index; none if nothing in it is of these kinds.
    async fn read_for_itself(&mut self, upto: LogIndex) -> Option<Bytes> {
        match read(&self.node, self.at, PAGE_LIMIT_MAX).await {
            Ok(page) => {
                let end = page.changes.partition_point(|change| change.index <= upto);
                self.at = page.next_after.min(upto);
                let mut bytes = Vec::new();
                render(&page.changes[..end], self.form.kinds, &mut bytes)?;
                Some(self.own(&bytes))
            }
            Err(error) => {
                self.stage = Stage::Ending;
                Some(self.own(last_words(&error).as_bytes()))
            }
        }
    }

    /// Bytes for this stream alone.
    fn own(&mut self, bytes: &[u8]) -> Bytes {
        if !self.form.gzip {
            return Bytes::copy_from_slice(bytes);
        }
        self.sum.add(&Sum::of(bytes));
        gzip::stored(bytes)
    }

    fn end(&mut self) -> Option<Bytes> {
        self.stage = Stage::Over;
        self.form.gzip.then(|| gzip::end(&self.sum))
    }
}
