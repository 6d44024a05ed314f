//! The accept loop of every public listener.
//!
//! Owns the limits that a server must set against clients that are slow, silent or too many, and the
//! graceful stop. It must never wait for one client while others wait for it, and never queue
//! connections: one too many is told so and closed.

mod activity;
mod body;
mod connection;
mod io;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::io::{Error, ErrorKind, Result};
use std::sync::Arc;
use std::time::Duration;

pub(crate) use self::body::TimedBody;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinError, JoinSet};

use super::app::App;

/// The shortest and the longest pause after a failed accept.
const ACCEPT_BACKOFF_MIN: Duration = Duration::from_millis(10);
const ACCEPT_BACKOFF_MAX: Duration = Duration::from_secs(1);

/// Failed accepts in a row after which the listener counts as broken: about a minute of them.
const ACCEPT_FAILURES_MAX: u32 = 64;

/// How many refused connections are told why at the same time. More are closed without a word.
const REFUSALS_MAX: usize = 64;

/// What one client, and all of them together, may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections at the same time; one more gets a 503 and is closed.
    pub max_connections: usize,
    /// How long a new connection may stay silent.
    pub first_byte_timeout: Duration,
    /// How long a header section may take from its first byte to its last.
    pub header_timeout: Duration,
    /// How long a connection may stay open between two requests. Longer than the clients' own
    /// pools keep connections, so that it is seldom the server who closes one that is wanted.
    pub idle_timeout: Duration,
    /// How long a request's body may pause.
    pub body_timeout: Duration,
    /// How long a client may leave a reply unread.
    pub write_timeout: Duration,
    /// Bytes of request line and headers together. At least 4096 to be of use.
    pub header_bytes_max: usize,
    /// Header lines of a request, 100 at most.
    pub header_count_max: usize,
    /// Requests at the same time on one HTTP/2 connection.
    pub http2_streams_max: u32,
    /// Whether each request is told the address that it came from, as axum's `ConnectInfo`. It costs
    /// every request an allocation, and only a rate limit asks.
    pub tell_peer: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 4096,
            first_byte_timeout: Duration::from_secs(5),
            header_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(60),
            body_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(20),
            header_bytes_max: 16 * 1024,
            header_count_max: 100,
            http2_streams_max: 256,
            tell_peer: false,
        }
    }
}

/// Serves `app` on `listener` until `stop` resolves, then lets the requests that are under way finish
/// for at most `drain`, cuts what is left, and returns.
///
/// Dropping the future cuts every connection at once.
///
/// # Errors
///
/// When the listener fails to accept for about a minute on end.
pub async fn serve(
    listener: TcpListener,
    app: impl Into<App>,
    limits: Limits,
    stop: impl Future<Output = ()> + Send + 'static,
    drain: Duration,
) -> Result<()> {
    let (stopping, stopped) = watch::channel(false);
    let server = Arc::new(connection::Server::new(app.into(), limits, stopped));
    let refusals = Arc::new(Semaphore::new(REFUSALS_MAX));
    let mut connections = JoinSet::new();
    let mut failures = 0;
    tokio::pin!(stop);
    let broken = loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stop => break None,
            Some(ended) = connections.join_next() => {
                report(ended);
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                failures = 0;
                if connections.len() < server.limits().max_connections {
                    connections.spawn(Arc::clone(&server).run(stream, peer));
                } else {
                    refuse(stream, &refusals);
                }
            }
            // The client went away while it waited: nothing is wrong with the listener.
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                failures += 1;
                if failures >= ACCEPT_FAILURES_MAX {
                    break Some(error);
                }
                tracing::warn!(%error, failures, "cannot accept a connection, trying again");
                tokio::select! {
                    () = &mut stop => break None,
                    () = tokio::time::sleep(backoff(failures)) => {}
                }
            }
        }
    };
    // From here on the system refuses new connections, and clients go elsewhere at once.
    drop(listener);
    stopping.send_replace(true);
    let drained = async {
        while let Some(ended) = connections.join_next().await {
            report(ended);
        }
    };
    if tokio::time::timeout(drain, drained).await.is_err() {
        tracing::warn!(left = connections.len(), "cutting connections that did not finish in time");
        connections.shutdown().await;
    }
    broken.map_or(Ok(()), Err)
}

/// Says why and closes, or only closes when too many are being told already.
fn refuse(stream: TcpStream, refusals: &Arc<Semaphore>) {
    if let Ok(permit) = Arc::clone(refusals).try_acquire_owned() {
        tokio::spawn(async move {
            connection::refuse(stream).await;
            drop(permit);
        });
    }
}

fn report(ended: std::result::Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a handler panicked, its connection is closed");
    }
}

fn is_of_one_connection(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionRefused | ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset
    )
}

fn backoff(failures: u32) -> Duration {
    ACCEPT_BACKOFF_MAX.min(ACCEPT_BACKOFF_MIN * 2_u32.pow(failures.min(10)))
}
