//! A connection after its HTTP beginning: calls and their answers, as frames.
//!
//! A call is `bytes of the body: u32 | number: u64 | body`, an answer
//! `bytes of the body: u32 | number: u64 | kind: u8 | body`, little-endian. Any number of calls are under
//! way at once, answers come in any order. Calls are begun in the order in which they were sent: each is
//! before the next one is read.
//!
//! A side that answers and is about to end says goodbye: the caller sends nothing more, waits for the
//! answers that are to come, and closes.

use std::{
    collections::HashMap,
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, BufWriter},
    sync::{Semaphore, mpsc, oneshot},
    task::AbortHandle,
    time::{Instant, timeout},
};

use crate::gather::gather;

/// How long a connection is kept that nobody uses. The caller closes first, so that no call meets a
/// connection that is about to be closed.
const CALLER_IDLE_MAX: Duration = Duration::from_secs(30);
const SERVER_IDLE_MAX: Duration = Duration::from_secs(90);
/// Frames that are written together.
const WRITE_MAX: usize = 64;
const BUFFER_BYTES: usize = 64 << 10;

const REPLY: u8 = 0;
const REFUSAL: u8 = 1;
const GOODBYE: u8 = 2;
/// No call has it: they are counted from 0.
const GOODBYE_NUMBER: u64 = u64::MAX;

/// What came back.
pub enum Answer {
    /// What was asked for.
    Reply(Vec<u8>),
    /// Why there is no reply, as the other side says it.
    Refusal(Vec<u8>),
}

/// How much one connection may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Calls that are answered at once; more wait unread.
    pub calls_max: usize,
    /// Bytes of a call's body. A longer one ends the connection, unread.
    pub call_bytes_max: usize,
    /// Bytes of an answer's body. A longer one ends the connection, too.
    pub answer_bytes_max: usize,
    /// When answers are written.
    pub writes: Writes,
}

/// When frames that are to be sent are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writes {
    /// At once: others wait for each of them.
    AtOnce,
    /// While other calls are under way, when everybody who can go on has done so, together with what they
    /// send: where there are many callers, so that one call of the system serves several.
    Gathered,
}

/// The caller's end of a connection.
#[derive(Debug)]
pub struct Link {
    calls: mpsc::UnboundedSender<(u64, Vec<u8>)>,
    waiting: Arc<Waiting>,
    next: AtomicU64,
    task: AbortHandle,
}

/// The calls that wait for their answers.
#[derive(Debug, Default)]
struct Calls {
    by_number: HashMap<u64, oneshot::Sender<Answer>>,
    /// Whether the other side takes no more.
    goodbye: bool,
}

#[derive(Debug)]
struct Waiting {
    /// `None` once the connection is closed.
    calls: Mutex<Option<Calls>>,
    began: Instant,
    /// When the other side was last heard, in milliseconds since the beginning.
    heard_ms: AtomicU64,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Answer")
    }
}

impl Waiting {
    fn calls(&self) -> MutexGuard<'_, Option<Calls>> {
        // No code panics while holding the lock.
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn since_began(&self, moment: Instant) -> u64 {
        let elapsed = moment.saturating_duration_since(self.began).as_millis();
        u64::try_from(elapsed).unwrap_or(u64::MAX)
    }

    /// Whoever waits is told by the loss of the sender.
    fn close(&self) {
        *self.calls() = None;
    }
}

impl Link {
    /// Speaks frames on a connection, with bodies up to this length.
    pub fn new(
        stream: impl AsyncRead + AsyncWrite + Send + 'static,
        body_bytes_max: usize,
        writes: Writes,
    ) -> Self {
        let waiting = Arc::new(Waiting {
            calls: Mutex::new(Some(Calls::default())),
            began: Instant::now(),
            heard_ms: AtomicU64::new(0),
        });
        let (calls, sent) = mpsc::unbounded_channel();
        let (input, output) = tokio::io::split(stream);
        let ends = waiting.clone();
        let task = tokio::spawn(async move {
            // In one task, so that what is begun by what was read is written in the same turn.
            let ended = tokio::select! {
                biased;
                ended = read_answers(input, &ends, body_bytes_max) => ended,
                ended = write_calls(output, sent, &ends, (body_bytes_max, writes)) => ended,
            };
            ends.close();
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection for calls ended");
            }
        });
        Self { calls, waiting, next: AtomicU64::new(0), task: task.abort_handle() }
    }

    /// Whether calls can be sent.
    pub fn is_open(&self) -> bool {
        self.waiting.calls().as_ref().is_some_and(|calls| !calls.goodbye)
    }

    /// Sends a call, behind all that were sent before. The answer is `None` when the connection closes
    /// before there is one.
    ///
    /// Errors: the connection is closed, nothing was sent, and here is the body again.
    pub fn send(
        &self,
        body: Vec<u8>,
    ) -> Result<impl Future<Output = Option<Answer>> + Send + use<>, Vec<u8>> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        match self.waiting.calls().as_mut() {
            Some(calls) if !calls.goodbye => calls.by_number.insert(number, sender),
            Some(_) | None => return Err(body),
        };
        if let Err(mpsc::error::SendError((_, body))) = self.calls.send((number, body)) {
            self.waiting.close();
            return Err(body);
        }
        let waiting = self.waiting.clone();
        Ok(async move {
            let _forget = Forget { waiting, number };
            answer.await.ok()
        })
    }

    /// Closes the connection unless something came since a moment.
    pub fn close_if_silent_since(&self, moment: Instant) {
        let heard = self.waiting.heard_ms.load(Ordering::Relaxed);
        if heard <= self.waiting.since_began(moment) {
            self.waiting.close();
            self.task.abort();
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Takes a call that nobody waits for any more off the list.
struct Forget {
    waiting: Arc<Waiting>,
    number: u64,
}

impl Drop for Forget {
    fn drop(&mut self) {
        if let Some(calls) = self.waiting.calls().as_mut() {
            calls.by_number.remove(&self.number);
        }
    }
}

async fn write_calls(
    output: impl AsyncWrite + Unpin,
    mut sent: mpsc::UnboundedReceiver<(u64, Vec<u8>)>,
    waiting: &Waiting,
    (body_bytes_max, writes): (usize, Writes),
) -> std::io::Result<()> {
    let mut output = BufWriter::with_capacity(BUFFER_BYTES, output);
    let mut frames = Vec::new();
    loop {
        match timeout(CALLER_IDLE_MAX, sent.recv_many(&mut frames, WRITE_MAX)).await {
            Ok(0) => return Ok(()),
            Ok(_) => {
                let under_way = waiting.calls().as_ref().map_or(0, |calls| calls.by_number.len());
                let others = under_way > frames.len();
                writes.gather(others, &mut sent, &mut frames).await;
            }
            Err(_) => {
                let mut calls = waiting.calls();
                // A call is on the list before it is sent, so an empty list means that none is coming.
                if calls.as_ref().is_none_or(|calls| calls.by_number.is_empty()) {
                    *calls = None;
                    return Ok(());
                }
                continue;
            }
        }
        for (number, body) in frames.drain(..) {
            output.write_u32_le(length(&body, body_bytes_max)?).await?;
            output.write_u64_le(number).await?;
            output.write_all(&body).await?;
        }
        output.flush().await?;
    }
}

impl Writes {
    /// `others` says whether other calls are under way.
    async fn gather<T>(
        self,
        others: bool,
        sent: &mut mpsc::UnboundedReceiver<T>,
        frames: &mut Vec<T>,
    ) {
        if self == Self::AtOnce || !others {
            return;
        }
        gather(frames, WRITE_MAX, || sent.try_recv().ok()).await;
    }
}

async fn read_answers(
    input: impl AsyncRead + Unpin,
    waiting: &Waiting,
    body_bytes_max: usize,
) -> std::io::Result<()> {
    let mut input = BufReader::with_capacity(BUFFER_BYTES, input);
    loop {
        let bytes = input.read_u32_le().await?;
        let number = input.read_u64_le().await?;
        let kind = input.read_u8().await?;
        let body = read_body(&mut input, bytes, body_bytes_max).await?;
        waiting.heard_ms.store(waiting.since_began(Instant::now()), Ordering::Relaxed);
        let (caller, over) = match waiting.calls().as_mut() {
            Some(calls) => {
                calls.goodbye |= kind == GOODBYE;
                let caller = calls.by_number.remove(&number);
                (caller, calls.goodbye && calls.by_number.is_empty())
            }
            None => return Ok(()),
        };
        // A caller that has given up needs no answer.
        if let Some(caller) = caller {
            let _ = caller.send(match kind {
                REPLY => Answer::Reply(body),
                _ => Answer::Refusal(body),
            });
        }
        if over {
            return Ok(());
        }
    }
}

/// An answer on its way: its call, its kind, its body.
type Reply = (u64, u8, Vec<u8>);

/// Answers the calls on a connection until it ends, or until `answer` says that nobody is there. An error of
/// `answer` is told as a refusal. Says goodbye when `ending` resolves, and goes on until the caller closes.
pub async fn serve(
    stream: impl AsyncRead + AsyncWrite + Send + 'static,
    limits: Limits,
    ending: impl Future<Output = ()> + Send,
    answer: impl Fn(Bytes) -> Option<BoxFuture<'static, Result<Vec<u8>, Vec<u8>>>>,
) {
    let (input, output) = tokio::io::split(stream);
    let (replies, answered) = mpsc::unbounded_channel();
    // A permit for each call in work.
    let room = Arc::new(Semaphore::new(limits.calls_max));
    let goodbye = async {
        ending.await;
        // Nobody hears it when the connection has ended.
        let _ = replies.send((GOODBYE_NUMBER, GOODBYE, Vec::new()));
        std::future::pending().await
    };
    // In one task, so that what is answered at once is written in the same turn. What is still being
    // answered when it ends has nobody to be told to.
    let ended = tokio::select! {
        biased;
        ended = read_calls(input, (limits, &room), &replies, answer) => ended,
        ended = write_answers(output, answered, (limits, &room)) => ended,
        ended = goodbye => ended,
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection for calls ended");
    }
}

async fn read_calls(
    input: impl AsyncRead + Unpin,
    (limits, room): (Limits, &Arc<Semaphore>),
    replies: &mpsc::UnboundedSender<Reply>,
    answer: impl Fn(Bytes) -> Option<BoxFuture<'static, Result<Vec<u8>, Vec<u8>>>>,
) -> std::io::Result<()> {
    let mut input = BufReader::with_capacity(BUFFER_BYTES, input);
    loop {
        let bytes = match timeout(SERVER_IDLE_MAX, input.read_u32_le()).await {
            Ok(bytes) => bytes?,
            // Somebody may still wait for a long call.
            Err(_) if room.available_permits() < limits.calls_max => continue,
            Err(_) => return Ok(()),
        };
        let number = input.read_u64_le().await?;
        let body = read_body(&mut input, bytes, limits.call_bytes_max).await?;
        let Ok(permit) = room.clone().acquire_owned().await else { return Ok(()) };
        let Some(mut reply) = answer(body.into()) else { return Ok(()) };
        let frame = move |reply| match reply {
            Ok(body) => (number, REPLY, body),
            Err(refusal) => (number, REFUSAL, refusal),
        };
        // Begun here, in the order of arrival: an append is with the Raft core before the next one.
        match futures_util::poll!(&mut reply) {
            Poll::Ready(reply) => drop(replies.send(frame(reply))),
            Poll::Pending => {
                let replies = replies.clone();
                tokio::spawn(async move {
                    // Nobody wants it any more when the connection has ended.
                    let _ = replies.send(frame(reply.await));
                    drop(permit);
                });
            }
        }
    }
}

async fn write_answers(
    output: impl AsyncWrite + Unpin,
    mut answered: mpsc::UnboundedReceiver<Reply>,
    (limits, room): (Limits, &Semaphore),
) -> std::io::Result<()> {
    let mut output = BufWriter::with_capacity(BUFFER_BYTES, output);
    let mut replies = Vec::new();
    while answered.recv_many(&mut replies, WRITE_MAX).await > 0 {
        let others = room.available_permits() < limits.calls_max;
        limits.writes.gather(others, &mut answered, &mut replies).await;
        for (number, kind, body) in replies.drain(..) {
            output.write_u32_le(length(&body, limits.answer_bytes_max)?).await?;
            output.write_u64_le(number).await?;
            output.write_u8(kind).await?;
            output.write_all(&body).await?;
        }
        output.flush().await?;
    }
    Ok(())
}

fn length(body: &[u8], body_bytes_max: usize) -> std::io::Result<u32> {
    let length = u32::try_from(body.len()).ok().filter(|_| body.len() <= body_bytes_max);
    length.ok_or_else(|| std::io::Error::other("a body is larger than the other side takes"))
}

async fn read_body(
    input: &mut (impl AsyncRead + Unpin),
    bytes: u32,
    body_bytes_max: usize,
) -> std::io::Result<Vec<u8>> {
    let bytes = bytes as usize;
    if bytes > body_bytes_max {
        return Err(std::io::Error::other(format!("a frame of {bytes} bytes is no frame of ours")));
    }
    let mut body = Vec::with_capacity(bytes);
    input.take(bytes as u64).read_to_end(&mut body).await?;
    if body.len() < bytes {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    const LIMITS: Limits = Limits {
        calls_max: 1024,
        call_bytes_max: 1 << 20,
        answer_bytes_max: 1 << 20,
        writes: Writes::Gathered,
    };

    /// A link whose other end gives every call back, the first byte as its number of milliseconds to take.
    fn echo() -> Link {
        echo_until(std::future::pending())
    }

    fn echo_until(ending: impl Future<Output = ()> + Send + 'static) -> Link {
        let (near, far) = tokio::io::duplex(1 << 10);
        tokio::spawn(serve(far, LIMITS, ending, |body| {
            Some(Box::pin(async move {
                let millis = body.first().copied().unwrap_or(0);
                if millis == 255 {
                    return Err(b"no".to_vec());
                }
                tokio::time::sleep(Duration::from_millis(millis.into())).await;
                Ok(body.to_vec())
            }))
        }));
        Link::new(near, LIMITS.call_bytes_max, Writes::Gathered)
    }

    async fn reply(link: &Link, body: &[u8]) -> Vec<u8> {
        match link.send(body.to_vec()).unwrap().await {
            Some(Answer::Reply(reply)) => reply,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn many_calls_are_under_way_and_each_gets_its_own_answer() {
        let link = echo();
        let calls = (0..200u8).map(|n| {
            let body = vec![n; 1 + usize::from(n) * 50];
            let answer = link.send(body.clone()).unwrap();
            async move {
                match answer.await {
                    Some(Answer::Reply(reply)) => assert_eq!(reply, body),
                    other => panic!("{other:?}"),
                }
            }
        });
        futures_util::future::join_all(calls).await;
        assert_eq!(reply(&link, b"").await, b"");
        let refusal = link.send(vec![255]).unwrap().await;
        assert!(matches!(&refusal, Some(Answer::Refusal(why)) if why == b"no"), "{refusal:?}");
        assert!(link.waiting.calls().as_ref().unwrap().by_number.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn calls_begin_in_the_order_in_which_they_were_sent() {
        let (near, far) = tokio::io::duplex(1 << 20);
        let begun = Arc::new(Mutex::new(Vec::new()));
        let notes = begun.clone();
        tokio::spawn(serve(far, LIMITS, std::future::pending(), move |body| {
            let notes = notes.clone();
            Some(Box::pin(async move {
                notes.lock().unwrap().push(body[0]);
                tokio::task::yield_now().await;
                Ok(Vec::new())
            }))
        }));
        let link = Link::new(near, LIMITS.call_bytes_max, Writes::Gathered);
        let calls: Vec<_> = (0..200).map(|n| link.send(vec![n]).unwrap()).collect();
        futures_util::future::join_all(calls).await;
        assert!(begun.lock().unwrap().iter().copied().eq(0..200));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_told_when_the_connection_closes_and_nothing_is_sent_after_it() {
        let (near, far) = tokio::io::duplex(1 << 10);
        let link = Link::new(near, LIMITS.call_bytes_max, Writes::Gathered);
        let waiting = link.send(b"call".to_vec()).unwrap();
        drop(far);
        assert!(waiting.await.is_none());
        assert!(!link.is_open() && link.send(b"call".to_vec()).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_connection_is_closed_and_one_that_only_takes_long_is_not() {
        let link = echo();
        let sent = Instant::now();
        let slow = link.send(vec![200]).unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        reply(&link, &[1]).await;
        link.close_if_silent_since(sent);
        assert!(slow.await.is_some(), "it was heard meanwhile");
        let sent = Instant::now();
        let slow = link.send(vec![200]).unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        link.close_if_silent_since(sent);
        assert!(slow.await.is_none() && !link.is_open());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_nobody_uses_is_closed_by_the_caller() {
        let link = echo();
        reply(&link, &[1]).await;
        tokio::time::sleep(CALLER_IDLE_MAX * 2).await;
        assert!(!link.is_open());
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_goodbye_nothing_is_sent_and_what_was_sent_is_answered() {
        let (end, ended) = oneshot::channel::<()>();
        let link = echo_until(async { drop(ended.await) });
        let slow = link.send(vec![200]).unwrap();
        drop(end);
        while link.is_open() {
            tokio::task::yield_now().await;
        }
        assert!(link.send(b"call".to_vec()).is_err());
        assert!(matches!(slow.await, Some(Answer::Reply(_))));
        while link.waiting.calls().is_some() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_that_is_too_large_ends_the_connection_before_it_is_read() {
        let (mut near, far) = tokio::io::duplex(1 << 10);
        let asked = Arc::new(AtomicBool::new(false));
        let seen = asked.clone();
        let serving = tokio::spawn(serve(far, LIMITS, std::future::pending(), move |_| {
            seen.store(true, Ordering::Relaxed);
            None
        }));
        near.write_u32_le(u32::MAX).await.unwrap();
        near.write_u64_le(1).await.unwrap();
        serving.await.unwrap();
        assert!(!asked.load(Ordering::Relaxed));
    }
}
