//! Why a call of the client has no answer, sorted by what the caller can do about it.

use std::fmt;

use crate::api::Problem;

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address cannot be used; nothing was sent.
    #[error("{url:?} is not an address of a store: {reason}; write it like http://127.0.0.1:8080")]
    Address {
        /// What was given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The idempotency key cannot be sent; nothing was.
    #[error("the idempotency key must be 1 to 255 visible ASCII characters")]
    Key,
    /// The store said no, and sending the same again would not change that: out of stock, not
    /// found, a precondition that fails, a request that it does not understand. Nothing was
    /// changed.
    #[error("{}", .0.detail)]
    Refused(Box<Problem>),
    /// The store could not answer in time. A write was not applied.
    #[error("the store at {url} did not answer ({attempts} tries in {waited_ms} ms): {last}")]
    Unavailable {
        /// The store's address.
        url: String,
        /// How often it was tried.
        attempts: u32,
        /// For how long.
        waited_ms: u128,
        /// What the last try met.
        #[source]
        last: Failure,
    },
    /// A write may have been applied, or may yet be. Sending it again *with the same key* finds out
    /// and cannot apply it twice.
    #[error(
        "the store at {url} may or may not have done it ({attempts} tries in {waited_ms} ms): \
        {last}; \
         send it again with the idempotency key {key} to find out, it cannot be done twice"
    )]
    OutcomeUnknown {
        /// The store's address.
        url: String,
        /// The idempotency key that was sent.
        key: String,
        /// How often it was tried.
        attempts: u32,
        /// For how long.
        waited_ms: u128,
        /// What the last try met.
        #[source]
        last: Failure,
    },
    /// Something answered a read, but not as a store would.
    #[error("{url} does not answer like a store: {last}; check the address")]
    Unexpected {
        /// What was asked.
        url: String,
        /// What came back.
        #[source]
        last: Failure,
    },
}

impl ClientError {
    /// The store's problem document, where there is one.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Address { .. } | Self::Key => None,
            Self::Refused(problem) => Some(problem),
            Self::Unavailable { last, .. }
            | Self::OutcomeUnknown { last, .. }
            | Self::Unexpected { last, .. } => match last {
                Failure::Problem(problem) => Some(problem),
                Failure::Status { .. } | Failure::Transport(_) | Failure::Body(_) => None,
            },
        }
    }
}

/// What one try met.
#[derive(Debug)]
pub enum Failure {
    /// A problem document.
    Problem(Box<Problem>),
    /// A status without one.
    Status {
        /// The HTTP status.
        status: u16,
        /// The beginning of the body.
        body: String,
    },
    /// No whole reply: no connection, a broken one, a timeout.
    Transport(reqwest::Error),
    /// A reply that is not what was asked for.
    Body(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Problem(problem) => write!(f, "{} ({})", problem.detail, problem.code),
            Self::Status { status, body } if body.is_empty() => write!(f, "status {status}"),
            Self::Status { status, body } => write!(f, "status {status}: {body}"),
            Self::Transport(error) if error.is_timeout() => f.write_str("no reply in time"),
            Self::Transport(error) => write!(f, "{}", root_cause(error)),
            Self::Body(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Transport(error) => Some(error),
            Self::Problem(_) | Self::Status { .. } | Self::Body(_) => None,
        }
    }
}

/// The innermost error, which is the one that says something ("Connection refused").
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
