//! The socket of a connection, as hyper sees it.
//!
//! Notes reads and blocked writes for the watchdog. And it puts a problem document in place of the
//! empty reply that hyper gives by itself when a header section cannot be read: the interface
//! promises one for every error, and hyper has no other place to say so.

use std::io::{IoSlice, Result};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::activity::Activity;
use crate::api::WriteOutcome;
use crate::http::problem::{ApiError, CONTENT_TYPE_PROBLEM, Code};
use crate::http::request_id::RequestId;

/// How much of what a refused client still sends is read before the socket is closed. Closing with
/// unread bytes resets the connection, and the client would lose the reply.
pub(super) const LINGER_BYTES_MAX: usize = 1024 * 1024;

pub(super) struct Socket {
    stream: TcpStream,
    activity: Arc<Activity>,
    refusal: Option<Refusal>,
}

/// A reply of our own that goes out in place of hyper's.
struct Refusal {
    bytes: Vec<u8>,
    written: usize,
    linger_left: usize,
}

impl Socket {
    pub(super) fn new(stream: TcpStream, activity: Arc<Activity>) -> Self {
        Self { stream, activity, refusal: None }
    }

    fn note_write<T>(&self, polled: Poll<T>) -> Poll<T> {
        match &polled {
            Poll::Ready(_) => self.activity.write_went_on(),
            Poll::Pending => self.activity.write_blocked(),
        }
        polled
    }

    /// Writes the refusal; reports all `replaced` bytes as written once it is out.
    fn poll_refusal(&mut self, cx: &mut Context<'_>, replaced: usize) -> Poll<Result<usize>> {
        if let Some(refusal) = &mut self.refusal {
            while refusal.written < refusal.bytes.len() {
                let rest = &refusal.bytes[refusal.written..];
                refusal.written += ready!(Pin::new(&mut self.stream).poll_write(cx, rest))?;
            }
        }
        Poll::Ready(Ok(replaced))
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.activity.bytes_read();
        }
        polled
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<Result<usize>> {
        if self.refusal.is_none()
            && self.activity.in_head()
            && let Some(code) = empty_refusal(buf)
        {
            let bytes = raw_reply(&unreadable(code), &RequestId::random());
            self.refusal = Some(Refusal { bytes, written: 0, linger_left: LINGER_BYTES_MAX });
        }
        let polled = match self.refusal {
            Some(_) => self.poll_refusal(cx, buf.len()),
            None => Pin::new(&mut self.stream).poll_write(cx, buf),
        };
        self.note_write(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        // hyper's own replies are one slice, and without a request in hand nothing else is written.
        if self.refusal.is_some() || self.activity.in_head() {
            let first = bufs.iter().find(|buf| !buf.is_empty()).map_or(&[][..], |buf| &buf[..]);
            return self.poll_write(cx, first);
        }
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.note_write(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
        let this = &mut *self;
        if let Some(refusal) = &mut this.refusal {
            // The watchdog bounds the time of this: the header section's own time goes on.
            let mut scratch = [0; 4096];
            while refusal.linger_left > 0 {
                let mut buf = ReadBuf::new(&mut scratch);
                ready!(Pin::new(&mut this.stream).poll_read(cx, &mut buf))?;
                match buf.filled().len() {
                    0 => break,
                    read => refusal.linger_left = refusal.linger_left.saturating_sub(read),
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// The code for one of hyper's own empty replies, if this is one.
fn empty_refusal(reply: &[u8]) -> Option<Code> {
    let head = std::str::from_utf8(reply).ok()?;
    let status = head.strip_prefix("HTTP/1.1 ").or_else(|| head.strip_prefix("HTTP/1.0 "))?;
    if !head.ends_with("\r\n\r\n") || !head.contains("content-length: 0\r\n") {
        return None;
    }
    match status.get(..3)? {
        "400" => Some(Code::Malformed),
        "414" | "431" => Some(Code::HeadersTooLarge),
        _ => None,
    }
}

fn unreadable(code: Code) -> ApiError {
    let detail = match code {
        Code::HeadersTooLarge => "The request's header section is too large: send fewer headers.",
        _ => "This is not an HTTP request that can be read.",
    };
    // It may have been meant as a write, and reached no handler.
    ApiError::new(code, detail).outcome(WriteOutcome::NotApplied)
}

/// An error as the bytes of an HTTP/1.1 reply, for where there is no request to reply to.
pub(super) fn raw_reply(error: &ApiError, id: &RequestId) -> Vec<u8> {
    let mut problem = error.to_problem();
    problem.instance = Some(id.as_str().to_owned());
    let body =
        serde_json::to_string(&problem).expect("a problem has string keys and plain values only");
    let status: StatusCode = error.code().status();
    let retry_after =
        error.retry_after_s().map(|s| format!("retry-after: {s}\r\n")).unwrap_or_default();
    format!(
        "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-type: {CONTENT_TYPE_PROBLEM}\r\n\
         content-length: {}\r\n{}: {}\r\n{retry_after}\r\n{body}",
        body.len(),
        crate::api::header::REQUEST_ID,
        id.as_str(),
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_replies_without_a_body_are_replaced() {
        let code = |reply: &str| empty_refusal(reply.as_bytes());
        let empty =
            |status| format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
        assert_eq!(code(&empty("431 Too Large")), Some(Code::HeadersTooLarge));
        assert_eq!(code(&empty("400 Bad Request")), Some(Code::Malformed));
        assert_eq!(code(&empty("200 OK")), None);
        assert_eq!(code("HTTP/1.1 431 Too Large\r\ncontent-length: 10\r\n\r\n"), None);
        assert_eq!(code("HTTP/1.1 431"), None);
    }
}
