//! What can be loaded.

use std::borrow::Cow;
use std::future::Future;

use super::mix::Operation;

/// A system under load.
pub trait Target {
    /// One client of it.
    type Session: Session + 'static;

    /// A client, not yet connected to anything.
    fn session(&self, client: u32) -> Self::Session;
}

/// One client's connections. One operation runs at a time.
pub trait Session {
    /// Does an operation, to the last byte of the reply. It bounds the time itself, connects where it
    /// is not connected, and does not repeat what failed.
    fn perform(&mut self, operation: &Operation<'_>) -> impl Future<Output = Result<(), Fault>>;
}

/// Why an operation failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What failures are counted by: `409 out_of_stock`, `no connection`.
    pub code: Cow<'static, str>,
    /// What happened, for people.
    pub detail: String,
    /// Whether the target as a whole is not there or cannot work: then there is no point in asking
    /// again at once, and when nothing else comes for long, the run ends.
    pub is_outage: bool,
}

impl Fault {
    /// The target is not there or cannot work.
    pub fn outage(code: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Self {
        Self { code: code.into(), detail: detail.into(), is_outage: true }
    }

    /// The target works and says no.
    pub fn refusal(code: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Self {
        Self { code: code.into(), detail: detail.into(), is_outage: false }
    }
}
