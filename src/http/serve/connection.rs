//! One connection: its protocol, its watchdog, its end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::{Request, Version};
use hyper::body::{Body as _, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::Limits;
use super::activity::{ActiveRequest, Activity, Verdict};
use super::body::{ActiveBody, TimedBody};
use super::io::{LINGER_BYTES_MAX, Socket, raw_reply};
use crate::api::{WriteOutcome, header};
use crate::http::app::App;
use crate::http::is_write;
use crate::http::problem::{ApiError, Code};
use crate::http::request_id::RequestId;

/// hyper cannot do with a smaller read buffer.
const READ_BUFFER_MIN: usize = 8192;

/// How long a refused connection may take to read why.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a connection that was asked to close may take before it is cut.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// What all connections of a listener share.
pub(super) struct Server {
    app: App,
    limits: Limits,
    protocol: Builder<TokioExecutor>,
    stopped: watch::Receiver<bool>,
}

impl Server {
    pub(super) fn new(app: App, limits: Limits, stopped: watch::Receiver<bool>) -> Self {
        let mut protocol = Builder::new(TokioExecutor::new());
        // Headers up to twice the limit are read and answered by us, more by hyper.
        let read_max = (2 * limits.header_bytes_max).max(READ_BUFFER_MIN);
        protocol
            .http1()
            // The watchdog keeps the time: it counts from the first byte and lets idle ones live. hyper's own
            // clock would be set anew for every request.
            .header_read_timeout(None)
            // Replies are short: to copy one behind its head costs less than to have the kernel gather it.
            .writev(false)
            .max_buf_size(read_max);
        protocol
            .http2()
            .timer(TokioTimer::new())
            .max_header_list_size(u32::try_from(read_max).unwrap_or(u32::MAX))
            .max_concurrent_streams(limits.http2_streams_max)
            .keep_alive_interval(Some(limits.idle_timeout.min(Duration::from_secs(20))))
            .keep_alive_timeout(Duration::from_secs(10));
        Self { app, limits, protocol, stopped }
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Serves one connection to its end.
    pub(super) async fn run(self: Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        // Replies are small and whole: waiting to fill a packet only adds delay.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%peer, %error, "cannot set TCP_NODELAY");
        }
        let activity = Activity::new();
        let service = {
            let (server, activity) = (Arc::clone(&self), Arc::clone(&activity));
            service_fn(move |request: Request<Incoming>| {
                let active = activity.begin(request.version() == Version::HTTP_2);
                Arc::clone(&server).answer(request, peer, active)
            })
        };
        let socket = TokioIo::new(Socket::new(stream, Arc::clone(&activity)));
        let mut connection = pin!(self.protocol.serve_connection_with_upgrades(socket, service));
        let watch = Watch::new(self.stopped.clone(), self.watch_interval());
        // A set of one: it is looked at only when it was woken, and not with every step of a request.
        let mut watches = FuturesUnordered::from_iter([watch.next()]);
        let mut close_by = None;
        loop {
            tokio::select! {
                biased;
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%peer, error = %error, "connection ended");
                    }
                    return;
                }
                Some((event, watch)) = watches.next() => {
                    watches.push(watch.next());
                    let now = match event {
                        Event::Stop => {
                            connection.as_mut().graceful_shutdown();
                            continue;
                        }
                        Event::Tick(now) => now,
                    };
                    match activity.verdict(&self.limits) {
                        Verdict::Keep => {}
                        Verdict::CloseIdle => {
                            let by = *close_by.get_or_insert_with(|| {
                                connection.as_mut().graceful_shutdown();
                                now + CLOSE_TIMEOUT
                            });
                            if now >= by {
                                return;
                            }
                        }
                        Verdict::Cut(reason) => {
                            tracing::debug!(%peer, reason, "connection cut");
                            return;
                        }
                    }
                }
            }
        }
    }

    /// Fine enough that each time limit is kept to a quarter, coarse enough to cost nothing.
    fn watch_interval(&self) -> Duration {
        let limits = &self.limits;
        let shortest = [
            limits.first_byte_timeout,
            limits.header_timeout,
            limits.idle_timeout,
            limits.write_timeout,
        ]
        .into_iter()
        .min()
        .expect("the list is not empty");
        (shortest / 4).clamp(Duration::from_millis(5), Duration::from_secs(1))
    }

    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: SocketAddr,
        active: ActiveRequest,
    ) -> Result<Response<ActiveBody>, Infallible> {
        let response = match self.check_headers(&request) {
            Ok(()) => {
                let body_timeout = self.limits.body_timeout;
                let mut request = request.map(|body| match body.is_end_stream() {
                    true => Body::empty(),
                    false => Body::new(TimedBody::new(body, body_timeout)),
                });
                if self.limits.tell_peer {
                    request.extensions_mut().insert(ConnectInfo(peer));
                }
                self.app.answer(request).await
            }
            Err(error) => {
                let id = request.headers().get(header::REQUEST_ID);
                let id = id.and_then(RequestId::from_client).unwrap_or_else(RequestId::random);
                id.answers(|| error.into_response())
            }
        };
        Ok(response.map(|body| ActiveBody::new(body, active)))
    }

    fn check_headers(&self, request: &Request<Incoming>) -> Result<(), ApiError> {
        let headers = request.headers();
        let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
        // Two bytes for the colon and the space, two for the end of the line.
        let bytes = headers
            .iter()
            .fold(target, |sum, (name, value)| sum + name.as_str().len() + value.len() + 4);
        let limits = &self.limits;
        if bytes <= limits.header_bytes_max && headers.len() <= limits.header_count_max {
            return Ok(());
        }
        let error = ApiError::new(
            Code::HeadersTooLarge,
            format!(
                "The request has {} headers and {bytes} bytes before its body; {} and {} are \
                 allowed.",
                headers.len(),
                limits.header_count_max,
                limits.header_bytes_max
            ),
        );
        Err(match is_write(request.method(), request.uri().path()) {
            true => error.outcome(WriteOutcome::NotApplied),
            false => error,
        })
    }
}

/// What happens to a connection beside its requests.
enum Event {
    /// The server stops.
    Stop,
    /// It is time to look at how the connection does.
    Tick(Instant),
}

/// Waits for the next [`Event`].
struct Watch {
    /// `None` once the stop was told.
    stopped: Option<watch::Receiver<bool>>,
    ticks: Interval,
}

impl Watch {
    fn new(stopped: watch::Receiver<bool>, interval: Duration) -> Self {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { stopped: Some(stopped), ticks }
    }

    async fn next(mut self) -> (Event, Self) {
        let Some(stopped) = &mut self.stopped else {
            return (Event::Tick(self.ticks.tick().await), self);
        };
        let event = tokio::select! {
            // A sender that is gone means that the server is gone: the same as a stop.
            _ = stopped.wait_for(|stopped| *stopped) => Event::Stop,
            now = self.ticks.tick() => Event::Tick(now),
        };
        if let Event::Stop = event {
            self.stopped = None;
        }
        (event, self)
    }
}

/// Tells a client that there are too many, and closes.
pub(super) async fn refuse(mut stream: TcpStream) {
    let error = ApiError::new(Code::Overloaded, "Too many connections: try again shortly.");
    // Whatever was sent, nobody has read it.
    let error = error.outcome(WriteOutcome::NotApplied);
    let reply = raw_reply(&error, &RequestId::random());
    let told = async {
        stream.write_all(&reply).await?;
        stream.shutdown().await?;
        // Closing with unread bytes would reset the connection and destroy the reply.
        let mut scratch = [0; 4096];
        let mut left = LINGER_BYTES_MAX;
        while left > 0 {
            match stream.read(&mut scratch).await? {
                0 => break,
                read => left = left.saturating_sub(read),
            }
        }
        std::io::Result::Ok(())
    };
    // Whether the client heard it or not makes no difference here.
    let _ = tokio::time::timeout(REFUSAL_TIMEOUT, told).await;
}
