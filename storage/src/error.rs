//! What can go wrong below the state machine. Every variant is a *node fault*: never an outcome,
//! never answered as applied; the layers above stop the process on it or rebuild from elsewhere.

use std::io;

/// A fault of the storage layer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused to read or write.
    #[error("{context}: {source}")]
    Io {
        /// What was being done, with the file where there is one.
        context: String,
        /// The system's own error.
        #[source]
        source: io::Error,
    },
    /// Bytes were read that this program never wrote: a checksum, a length or an invariant is off.
    #[error("{what} is damaged: {detail}")]
    Corrupt {
        /// Which record or file.
        what: String,
        /// What about it is wrong.
        detail: String,
    },
    /// A record carries a format version that this build does not know; a newer build wrote it.
    #[error(
        "{what} has format version {version}, which this build does not know; run a newer build"
    )]
    UnknownFormat {
        /// Which record or file.
        what: String,
        /// The version found.
        version: u8,
    },
    /// A value is larger than the format allows. Raised before anything is written.
    #[error("{what} is {bytes} bytes, over the limit of {limit}")]
    TooLarge {
        /// Which value.
        what: String,
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// Another process has the directory open.
    #[error("{path} is in use by another process; stop that one first, or use another directory")]
    Locked {
        /// The directory.
        path: String,
    },
    /// An earlier write or sync failed; what is on disk is unknown, so nothing more is accepted.
    #[error("the storage engine failed earlier and accepts nothing more: {detail}")]
    Failed {
        /// The first failure.
        detail: String,
    },
    /// History that a view needs was given up meanwhile: it is too old. A newer one has what is kept.
    #[error("{what} is not kept any more; it was asked of a view that is too old")]
    Gone {
        /// Which history.
        what: &'static str,
    },
}

/// The result of a storage operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An [`Error::Io`] with what was being done.
    pub fn io(context: impl Into<String>, source: io::Error) -> Self {
        Self::Io { context: context.into(), source }
    }

    /// An [`Error::Corrupt`].
    pub fn corrupt(what: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::Corrupt { what: what.into(), detail: detail.into() }
    }

    /// Whether the bytes on disk are at fault, so that a copy from elsewhere would mend it.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Corrupt { .. } => true,
            Self::Io { .. }
            | Self::UnknownFormat { .. }
            | Self::TooLarge { .. }
            | Self::Locked { .. }
            | Self::Failed { .. }
            | Self::Gone { .. } => false,
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        io::Error::other(error)
    }
}
