//! A connection between two members after its HTTP beginning: calls and their answers, as frames.
//!
//! A call is `bytes of the body: u32 | number: u64 | body`, an answer
//! `bytes of the body: u32 | number: u64 | kind: u8 | body`, little-endian. Any number of calls are under
//! way at once, answers come in any order. Calls reach the other side's Raft core in the order in which
//! they were sent: each is begun before the next one is read.

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
use pygmy_storage::codec;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, BufWriter},
    sync::{Semaphore, mpsc, oneshot},
    task::AbortHandle,
    time::{Instant, timeout},
};

use super::{Refusal, wire::BODY_BYTES_MAX};

/// How long a connection is kept that nobody uses. The caller closes first, so that no call meets a
/// connection that is about to be closed.
const CALLER_IDLE_MAX: Duration = Duration::from_secs(30);
const SERVER_IDLE_MAX: Duration = Duration::from_secs(90);
/// Calls of one connection that are answered at once; more wait unread.
const CALLS_MAX: usize = 1024;
/// Frames that are written together.
const WRITE_MAX: usize = 64;
const BUFFER_BYTES: usize = 64 << 10;

const REPLY: u8 = 0;
const REFUSAL: u8 = 1;

/// What came back.
pub(super) enum Answer {
    Reply(Vec<u8>),
    /// A sealed [`Refusal`].
    Refusal(Vec<u8>),
}

/// The caller's end of a connection.
#[derive(Debug)]
pub(super) struct Link {
    calls: mpsc::UnboundedSender<(u64, Vec<u8>)>,
    waiting: Arc<Waiting>,
    next: AtomicU64,
    tasks: [AbortHandle; 2],
}

/// The calls that wait for their answers. `None` once the connection is closed.
#[derive(Debug)]
struct Waiting {
    calls: Mutex<Option<HashMap<u64, oneshot::Sender<Answer>>>>,
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
    fn calls(&self) -> MutexGuard<'_, Option<HashMap<u64, oneshot::Sender<Answer>>>> {
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
    /// Speaks frames on a connection.
    pub(super) fn new(stream: impl AsyncRead + AsyncWrite + Send + 'static) -> Self {
        let waiting = Arc::new(Waiting {
            calls: Mutex::new(Some(HashMap::new())),
            began: Instant::now(),
            heard_ms: AtomicU64::new(0),
        });
        let (calls, sent) = mpsc::unbounded_channel();
        let (input, output) = tokio::io::split(stream);
        let ends = waiting.clone();
        let writer = tokio::spawn(async move {
            let ended = write_calls(output, sent, &ends).await;
            ends.close();
            ended
        });
        let ends = waiting.clone();
        let reader = tokio::spawn(async move {
            let ended = read_answers(input, &ends).await;
            ends.close();
            ended
        });
        let tasks = [writer.abort_handle(), reader.abort_handle()];
        Self { calls, waiting, next: AtomicU64::new(0), tasks }
    }

    /// Whether calls can be sent.
    pub(super) fn is_open(&self) -> bool {
        self.waiting.calls().is_some()
    }

    /// Sends a call, behind all that were sent before. The answer is `None` when the connection closes
    /// before there is one.
    ///
    /// Errors: the connection is closed, nothing was sent, and here is the body again.
    pub(super) fn send(
        &self,
        body: Vec<u8>,
    ) -> Result<impl Future<Output = Option<Answer>> + Send + use<>, Vec<u8>> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        match self.waiting.calls().as_mut() {
            Some(calls) => calls.insert(number, sender),
            None => return Err(body),
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
    pub(super) fn close_if_silent_since(&self, moment: Instant) {
        let heard = self.waiting.heard_ms.load(Ordering::Relaxed);
        if heard <= self.waiting.since_began(moment) {
            self.waiting.close();
            self.tasks.iter().for_each(AbortHandle::abort);
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
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
            calls.remove(&self.number);
        }
    }
}

async fn write_calls(
    output: impl AsyncWrite + Unpin,
    mut sent: mpsc::UnboundedReceiver<(u64, Vec<u8>)>,
    waiting: &Waiting,
) -> std::io::Result<()> {
    let mut output = BufWriter::with_capacity(BUFFER_BYTES, output);
    let mut frames = Vec::new();
    loop {
        match timeout(CALLER_IDLE_MAX, sent.recv_many(&mut frames, WRITE_MAX)).await {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(_) => {
                let mut calls = waiting.calls();
                // A call is on the list before it is sent, so an empty list means that none is coming.
                if calls.as_ref().is_none_or(HashMap::is_empty) {
                    *calls = None;
                    return Ok(());
                }
                continue;
            }
        }
        for (number, body) in frames.drain(..) {
            output.write_u32_le(length(&body)?).await?;
            output.write_u64_le(number).await?;
            output.write_all(&body).await?;
        }
        output.flush().await?;
    }
}

async fn read_answers(input: impl AsyncRead + Unpin, waiting: &Waiting) -> std::io::Result<()> {
    let mut input = BufReader::with_capacity(BUFFER_BYTES, input);
    loop {
        let bytes = input.read_u32_le().await?;
        let number = input.read_u64_le().await?;
        let kind = input.read_u8().await?;
        let body = read_body(&mut input, bytes).await?;
        waiting.heard_ms.store(waiting.since_began(Instant::now()), Ordering::Relaxed);
        let caller = waiting.calls().as_mut().and_then(|calls| calls.remove(&number));
        // A caller that has given up needs no answer.
        if let Some(caller) = caller {
            let _ = caller.send(match kind {
                REPLY => Answer::Reply(body),
                _ => Answer::Refusal(body),
            });
        }
    }
}

/// Answers the calls on a connection until it ends, or until `answer` says that nobody is there.
pub(super) async fn serve(
    stream: impl AsyncRead + AsyncWrite + Send + 'static,
    answer: impl Fn(Bytes) -> Option<BoxFuture<'static, Result<Vec<u8>, Refusal>>>,
) {
    let (input, output) = tokio::io::split(stream);
    let (replies, answered) = mpsc::unbounded_channel();
    let writer = tokio::spawn(write_answers(output, answered));
    if let Err(error) = read_calls(input, &replies, answer).await {
        tracing::debug!(%error, "a peer's connection ended");
    }
    // What is still being answered is told when its writer is gone.
    writer.abort();
}

type Reply = (u64, Result<Vec<u8>, Refusal>);

async fn read_calls(
    input: impl AsyncRead + Unpin,
    replies: &mpsc::UnboundedSender<Reply>,
    answer: impl Fn(Bytes) -> Option<BoxFuture<'static, Result<Vec<u8>, Refusal>>>,
) -> std::io::Result<()> {
    let mut input = BufReader::with_capacity(BUFFER_BYTES, input);
    let room = Arc::new(Semaphore::new(CALLS_MAX));
    loop {
        let bytes = match timeout(SERVER_IDLE_MAX, input.read_u32_le()).await {
            Ok(bytes) => bytes?,
            // Somebody may still wait for a long call.
            Err(_) if room.available_permits() < CALLS_MAX => continue,
            Err(_) => return Ok(()),
        };
        let number = input.read_u64_le().await?;
        let body = read_body(&mut input, bytes).await?;
        let Ok(permit) = room.clone().acquire_owned().await else { return Ok(()) };
        let Some(mut reply) = answer(body.into()) else { return Ok(()) };
        // Begun here, in the order of arrival: an append is with the Raft core before the next one.
        match futures_util::poll!(&mut reply) {
            Poll::Ready(reply) => drop(replies.send((number, reply))),
            Poll::Pending => {
                let replies = replies.clone();
                tokio::spawn(async move {
                    // Nobody wants it any more when the connection has ended.
                    let _ = replies.send((number, reply.await));
                    drop(permit);
                });
            }
        }
    }
}

async fn write_answers(
    output: impl AsyncWrite + Unpin,
    mut answered: mpsc::UnboundedReceiver<Reply>,
) -> std::io::Result<()> {
    let mut output = BufWriter::with_capacity(BUFFER_BYTES, output);
    let mut replies = Vec::new();
    while answered.recv_many(&mut replies, WRITE_MAX).await > 0 {
        for (number, reply) in replies.drain(..) {
            let (kind, body) = match reply {
                Ok(body) => (REPLY, body),
                Err(refusal) => (REFUSAL, codec::seal(&refusal)),
            };
            output.write_u32_le(length(&body)?).await?;
            output.write_u64_le(number).await?;
            output.write_u8(kind).await?;
            output.write_all(&body).await?;
        }
        output.flush().await?;
    }
    Ok(())
}

fn length(body: &[u8]) -> std::io::Result<u32> {
    let length = u32::try_from(body.len()).ok().filter(|_| body.len() <= BODY_BYTES_MAX);
    length.ok_or_else(|| std::io::Error::other("a body is larger than peers take"))
}

async fn read_body(input: &mut (impl AsyncRead + Unpin), bytes: u32) -> std::io::Result<Vec<u8>> {
    let bytes = bytes as usize;
    if bytes > BODY_BYTES_MAX {
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

    /// A link whose other end gives every call back, the first byte as its number of milliseconds to take.
    fn echo() -> Link {
        let (near, far) = tokio::io::duplex(1 << 10);
        tokio::spawn(serve(far, |body| {
            Some(Box::pin(async move {
                let millis = body.first().copied().unwrap_or(0);
                if millis == 255 {
                    return Err(Refusal::NoCluster);
                }
                tokio::time::sleep(Duration::from_millis(millis.into())).await;
                Ok(body.to_vec())
            }))
        }));
        Link::new(near)
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
        assert!(matches!(refusal, Some(Answer::Refusal(_))), "{refusal:?}");
        assert!(link.waiting.calls().as_ref().unwrap().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn calls_begin_in_the_order_in_which_they_were_sent() {
        let (near, far) = tokio::io::duplex(1 << 20);
        let begun = Arc::new(Mutex::new(Vec::new()));
        let notes = begun.clone();
        tokio::spawn(serve(far, move |body| {
            let notes = notes.clone();
            Some(Box::pin(async move {
                notes.lock().unwrap().push(body[0]);
                tokio::task::yield_now().await;
                Ok(Vec::new())
            }))
        }));
        let link = Link::new(near);
        let calls: Vec<_> = (0..200).map(|n| link.send(vec![n]).unwrap()).collect();
        futures_util::future::join_all(calls).await;
        assert!(begun.lock().unwrap().iter().copied().eq(0..200));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_told_when_the_connection_closes_and_nothing_is_sent_after_it() {
        let (near, far) = tokio::io::duplex(1 << 10);
        let link = Link::new(near);
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
    async fn a_frame_that_is_too_large_ends_the_connection_before_it_is_read() {
        let (mut near, far) = tokio::io::duplex(1 << 10);
        let asked = Arc::new(AtomicBool::new(false));
        let seen = asked.clone();
        let serving = tokio::spawn(serve(far, move |_| {
            seen.store(true, Ordering::Relaxed);
            None
        }));
        near.write_u32_le(u32::MAX).await.unwrap();
        near.write_u64_le(1).await.unwrap();
        serving.await.unwrap();
        assert!(!asked.load(Ordering::Relaxed));
    }
}
