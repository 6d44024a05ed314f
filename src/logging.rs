//! Where log lines go and what they look like.
//!
//! Servers log to standard error, for people or as JSON; the other subcommands do not log, they
//! print what they have to say. Called once, before anything is logged.

use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, LogSection};

/// Sets the process's log up. A second call changes nothing and is refused.
pub fn init(config: &LogSection) -> Result<(), String> {
    let filter = EnvFilter::try_new(&config.filter)
        .map_err(|error| format!("log.filter: {:?} is not a log filter: {error}", config.filter))?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match config.format {
        LogFormat::Text => {
            lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init()
        }
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(true).try_init(),
    }
    .map_err(|error| format!("the log is set up already: {error}"))
}
