//! Following the changes: one feed over as many connections as it takes.

use std::collections::VecDeque;
use std::io::Write;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use flate2::write::GzDecoder;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream, Stream};
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};

use super::error::{ClientError, Failure};
use super::events::{Event, Events};
use super::send::{Verdict, judge, read_body};
use super::{Client, Ordering, add_query};
use crate::api::{Change, ChangePage, Problem};
use crate::http::event_stream::{CONTENT_TYPE_EVENTS, LAST_EVENT_ID};

/// A feed that is silent for this long is dead: a store sends a comment every 15 seconds.
const SILENCE_MAX: Duration = Duration::from_secs(35);
/// The first pause before a connection is made again; it doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Which changes [`Client::changes`] gives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChangeQuery {
    /// What happened after this log index. Without one the page is empty, and says where the log is.
    pub after: Option<u64>,
    /// Only these kinds: `item`, `order`, `reservation`, `policy`. All where none is named.
    pub kinds: Vec<String>,
    /// Rows of the page, 1 to 1000; 100 when not given. Rows of one log index come together.
    pub limit: Option<usize>,
}

/// The changes of a store, one after the other, for as long as somebody takes them. Made by
/// [`Client::follow`].
///
/// After an error there is nothing more. Where it stopped, [`Follow::position`] tells.
pub struct Follow {
    events: BoxStream<'static, Result<(u64, Vec<Change>), ClientError>>,
    ready: VecDeque<Change>,
    /// Everything up to here is given out once `ready` is empty.
    upto: Option<u64>,
    position: Option<u64>,
}

impl Follow {
    pub(super) fn new(client: Client, after: Option<u64>, kinds: &[&str]) -> Self {
        let kinds = (!kinds.is_empty()).then(|| kinds.join(","));
        let feed = Feed {
            client,
            kinds,
            position: after,
            connection: None,
            failing: None,
            was_connected: false,
            pause: PAUSE_MIN,
            over: false,
        };
        let events = stream::unfold(feed, |mut feed| async {
            let next = feed.next().await?;
            Some((next, feed))
        });
        Self { events: events.boxed(), ready: VecDeque::new(), upto: after, position: after }
    }

    /// What to give as `after` to go on from here later: every change up to this log index has been
    /// given out. Changes of one index come in a row, and it moves behind the last of them.
    pub fn position(&self) -> Option<u64> {
        self.position
    }
}

impl Stream for Follow {
    type Item = Result<Change, ClientError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(change) = self.ready.pop_front() {
                if self.ready.is_empty() {
                    self.position = self.upto;
                }
                return Poll::Ready(Some(Ok(change)));
            }
            match std::task::ready!(self.events.poll_next_unpin(cx)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok((index, changes))) => {
                    self.upto = Some(index);
                    if changes.is_empty() {
                        self.position = self.upto;
                    }
                    self.ready = changes.into();
                }
            }
        }
    }
}

impl std::fmt::Debug for Follow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follow").field("position", &self.position).finish_non_exhaustive()
    }
}

/// What a feed knows between two events.
struct Feed {
    client: Client,
    kinds: Option<String>,
    /// Everything up to here has been heard.
    position: Option<u64>,
    connection: Option<Connection>,
    /// Since when nothing has been heard, and how often it was tried.
    failing: Option<(Instant, u32)>,
    was_connected: bool,
    pause: Duration,
    over: bool,
}

struct Connection {
    response: reqwest::Response,
    /// Where the store compresses the feed.
    gzip: Option<GzDecoder<Vec<u8>>>,
    events: Events,
}

impl Feed {
    /// The next place in the log, with the changes there.
    async fn next(&mut self) -> Option<Result<(u64, Vec<Change>), ClientError>> {
        while !self.over {
            let heard = match &mut self.connection {
                Some(connection) => connection.next().await,
                None => match self.connect().await {
                    Ok(connection) => {
                        self.connection = Some(connection);
                        continue;
                    }
                    Err(error) => return Some(Err(self.end(error))),
                },
            };
            match heard {
                Ok(event) => match self.take(event) {
                    Ok(Some(next)) => return Some(Ok(next)),
                    Ok(None) => {}
                    Err(error) => return Some(Err(self.end(error))),
                },
                Err(failure) => {
                    self.connection = None;
                    if let Err(error) = self.failed(failure).await {
                        return Some(Err(self.end(error)));
                    }
                }
            }
        }
        None
    }

    fn end(&mut self, error: ClientError) -> ClientError {
        self.over = true;
        error
    }

    /// What an event says. Only a whole one moves the position.
    fn take(&mut self, event: Event) -> Result<Option<(u64, Vec<Change>)>, ClientError> {
        self.failing = None;
        self.was_connected = true;
        self.pause = PAUSE_MIN;
        let data = event.data.unwrap_or_default();
        if event.name.as_deref() == Some("error") {
            let problem: Problem =
                serde_json::from_str(&data).map_err(|_| self.unreadable(&data))?;
            return Err(ClientError::Refused(Box::new(problem)));
        }
        let Some(id) = event.id else { return Ok(None) };
        let index: u64 = id.parse().map_err(|_| self.unreadable(&id))?;
        let changes: Vec<Change> = match data.as_str() {
            "" => Vec::new(),
            data => serde_json::from_str(data).map_err(|_| self.unreadable(data))?,
        };
        self.position = Some(index);
        self.client.session.fetch_max(index, Ordering::Relaxed);
        Ok(Some((index, changes)))
    }

    fn unreadable(&self, what: &str) -> ClientError {
        let what: String = what.chars().take(200).collect();
        let last = Failure::Body(format!("an event that cannot be read: {what:?}"));
        ClientError::Unexpected { url: self.client.url().to_owned(), last }
    }

    /// Pauses before the next try, or gives up.
    async fn failed(&mut self, last: Failure) -> Result<(), ClientError> {
        let addresses = &self.client.addresses;
        addresses.move_on(addresses.place(false));
        let (since, attempts) = self.failing.unwrap_or((Instant::now(), 0));
        let attempts = attempts + 1;
        self.failing = Some((since, attempts));
        let timeouts = &self.client.timeouts;
        let nobody_there =
            !self.was_connected && matches!(&last, Failure::Transport(error) if error.is_connect());
        let patience = if nobody_there { timeouts.nobody_there } else { timeouts.total };
        let waited = since.elapsed();
        if waited >= patience {
            let url = self.client.url().to_owned();
            let waited_ms = waited.as_millis();
            return Err(ClientError::Unavailable { url, attempts, waited_ms, last });
        }
        tokio::time::sleep(self.pause.mul_f64(rand::random_range(0.5..1.0))).await;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        Ok(())
    }

    async fn connect(&mut self) -> Result<Connection, ClientError> {
        loop {
            match self.try_to_connect().await {
                Ok(response) => return Ok(Connection::new(response)),
                Err(Verdict::Refused(problem)) => return Err(ClientError::Refused(problem)),
                Err(Verdict::Again(failure, _) | Verdict::AgainUnknown(failure, _)) => {
                    self.failed(failure).await?;
                }
                Err(Verdict::Stop(last) | Verdict::Foreign(last)) => {
                    return Err(ClientError::Unexpected {
                        url: self.client.url().to_owned(),
                        last,
                    });
                }
                Err(Verdict::Done(reply)) => {
                    let last = Failure::Body(format!(
                        "status {} with a reply that is no feed",
                        reply.status.as_u16()
                    ));
                    return Err(ClientError::Unexpected {
                        url: self.client.url().to_owned(),
                        last,
                    });
                }
            }
        }
    }

    async fn try_to_connect(&self) -> Result<reqwest::Response, Verdict> {
        let client = &self.client;
        let mut url = client.path(&["v1", "changes"]);
        add_query(&mut url, "kinds", self.kinds.as_deref());
        let mut request = client
            .http
            .get(url)
            // A feed has no end: its silence is watched instead.
            .timeout(Duration::MAX)
            .header(ACCEPT, HeaderValue::from_static(CONTENT_TYPE_EVENTS))
            .header(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        if let Some(position) = self.position {
            request = request.header(LAST_EVENT_ID, position);
        }
        let late = || Failure::Body("no reply in time".to_owned());
        let response = match tokio::time::timeout(client.timeouts.attempt, request.send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) if error.is_builder() => {
                return Err(Verdict::Foreign(Failure::Transport(error)));
            }
            Ok(Err(error)) => return Err(Verdict::Again(Failure::Transport(error), None)),
            Err(_) => return Err(Verdict::Again(late(), None)),
        };
        client.remember(response.headers());
        let is_feed = response
            .headers()
            .get(CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(CONTENT_TYPE_EVENTS.as_bytes()));
        let status = response.status();
        if status.is_success() && is_feed {
            return Ok(response);
        }
        let body = tokio::time::timeout(client.timeouts.attempt, read_body(response)).await;
        match body {
            Ok(Ok(body)) if status.is_success() => {
                Err(Verdict::Done(super::send::Reply { status, etag: None, body }))
            }
            Ok(Ok(body)) => Err(judge(status, None, None, &body, false)),
            Ok(Err(failure)) => Err(Verdict::Again(failure, None)),
            Err(_) => Err(Verdict::Again(late(), None)),
        }
    }
}

impl Connection {
    fn new(response: reqwest::Response) -> Self {
        let coding = response.headers().get(CONTENT_ENCODING);
        let gzip =
            coding.is_some_and(|coding| coding == "gzip").then(|| GzDecoder::new(Vec::new()));
        Self { response, gzip, events: Events::default() }
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let Some(gzip) = &mut self.gzip else { return self.events.push(bytes) };
        let unpacked = gzip.write_all(bytes).and_then(|()| gzip.flush());
        // What came before a fault is good.
        self.events.push(&std::mem::take(gzip.get_mut()))?;
        unpacked.map_err(|error| Failure::Body(format!("the feed cannot be unpacked: {error}")))
    }

    async fn next(&mut self) -> Result<Event, Failure> {
        loop {
            if let Some(event) = self.events.next() {
                return Ok(event);
            }
            match tokio::time::timeout(SILENCE_MAX, self.response.chunk()).await {
                Ok(Ok(Some(bytes))) => self.take(&bytes)?,
                Ok(Ok(None)) => return Err(Failure::Body("the feed ended".to_owned())),
                Ok(Err(error)) => return Err(Failure::Transport(error)),
                Err(_) => return Err(Failure::Body("the feed went silent".to_owned())),
            }
        }
    }
}

impl Client {
    /// A page of what happened.
    pub async fn changes(&self, query: &ChangeQuery) -> Result<ChangePage, ClientError> {
        let mut url = self.path(&["v1", "changes"]);
        add_query(&mut url, "after", query.after);
        add_query(&mut url, "kinds", (!query.kinds.is_empty()).then(|| query.kinds.join(",")));
        add_query(&mut url, "limit", query.limit);
        self.read_seed(url).await
    }

    /// What happens after a log index, or from now on, as it happens: of these kinds, or of all where
    /// none is named. When the connection is lost, another one goes on behind the last change, so that
    /// none is missed and none comes twice; when the store cannot be reached for as long as a call may
    /// take, there is an error, and the end.
    ///
    /// ```no_run
    /// # async fn example(store: pygmy::client::Client) -> Result<(), pygmy::client::ClientError> {
    /// use futures_util::StreamExt;
    /// let mut changes = store.follow(None, &["order"]);
    /// while let Some(change) = changes.next().await {
    ///     let change = change?;
    ///     println!("order {} at index {}", change.id, change.index);
    ///     // Whoever keeps this can go on from here after a restart.
    ///     let _after = changes.position();
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn follow(&self, after: Option<u64>, kinds: &[&str]) -> Follow {
        Follow::new(self.clone(), after, kinds)
    }
}
