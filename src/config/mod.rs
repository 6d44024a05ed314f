//! Configuration of a node and of a facade.
//!
//! A setting comes from the highest layer that names it: built-in default, then the TOML file, then
//! the environment (`PYGMY_<SECTION>_<KEY>`), then the command line. Each value remembers where it
//! came from, so that a refusal names the key together with the file and line, the variable or the
//! flag. Everything is checked here, before a socket or a database is opened, and every problem is
//! reported at once. What loads without an error is possible; nothing downstream checks it again.
//!
//! Durations and sizes are whole numbers whose unit is the end of the key's name (`_ms`, `_s`,
//! `_hours`, `_bytes`, `_mb`). Relative paths are relative to the working directory of the process.
//!
//! This module never starts anything and never logs; a secret leaves it only through
//! [`Secret::expose`].

mod document;
mod facade;
mod node;
mod rate_limit;
mod reader;
mod secret;

pub use document::{ConfigError, Sources};
pub use facade::{FacadeConfig, FacadeSection};
pub use node::{
    ApiSection, ClusterSection, MEMBERS_MAX, MemberConfig, NodeConfig, NodeSection, PeerSection,
    PolicySection, RaftSection, StorageSection,
};
pub use pygmy_raft::types::Role;
pub use secret::Secret;

use reader::Reader;

/// What is logged unless somebody says otherwise. openraft tells each retry of each peer call.
const FILTER_DEFAULT: &str = "info,openraft=error";

/// How a process logs; `[log]` in both kinds of file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSection {
    /// Lines for people or for machines.
    pub format: LogFormat,
    /// Which events are written, in the syntax of `tracing_subscriber::EnvFilter`.
    pub filter: String,
}

impl Default for LogSection {
    fn default() -> Self {
        Self { format: LogFormat::Text, filter: FILTER_DEFAULT.into() }
    }
}

/// The shape of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl LogSection {
    fn read(mut reader: Reader<'_>) -> Self {
        let format = reader.text("format", Some("text"));
        let format_read = match format.value.as_str() {
            "text" => LogFormat::Text,
            "json" => LogFormat::Json,
            other => {
                reader.refuse(
                    &format.origin,
                    "format",
                    format!("{other:?} is neither \"text\" nor \"json\""),
                );
                LogFormat::Text
            }
        };
        let filter = reader.text("filter", Some(FILTER_DEFAULT));
        if let Err(error) = tracing_subscriber::EnvFilter::try_new(&filter.value) {
            reader.refuse(
                &filter.origin,
                "filter",
                format!(
                    "{:?} is not a log filter ({error}); try \"info\" or \"info,pygmy=debug\"",
                    filter.value
                ),
            );
        }
        reader.finish();
        Self { format: format_read, filter: filter.value }
    }
}

#[cfg(test)]
mod tests;
