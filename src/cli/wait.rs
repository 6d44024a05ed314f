//! `pygmy wait`: for scripts that start a store and go on when it answers.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;

use super::args::Wait;
use super::{Answer, Exit, Stop, say_aside};
use crate::client::{Client, ClientError, ItemQuery, Timeouts};

/// How long one question may take. Short, because the next one may find the store ready.
const QUESTION: Duration = Duration::from_secs(2);
/// The pause between questions.
const PAUSE: Duration = Duration::from_millis(100);

pub(super) async fn wait(args: Wait) -> Result<Answer, Stop> {
    let limit = Duration::from_secs(args.timeout);
    let question = QUESTION.min(limit);
    let timeouts = Timeouts {
        connect: question,
        attempt: question,
        total: question,
        nobody_there: Duration::ZERO,
    };
    let client = Client::with_timeouts(&args.url, timeouts)?;
    let progress = Progress::new(args.quiet);
    let begun = Instant::now();
    loop {
        let answer = if args.ready { ready(&client).await } else { linearizable(&client).await };
        let reason = match answer {
            Ok(()) => {
                progress.finish();
                let seconds = begun.elapsed().as_secs_f64();
                let what = if args.ready { "is ready" } else { "answers" };
                return Ok(Answer::ok(if args.quiet {
                    String::new()
                } else {
                    format!("{} {what} after {seconds:.1} s", client.url())
                }));
            }
            Err(reason) => reason,
        };
        let waited = begun.elapsed();
        if waited >= limit {
            progress.finish();
            return Err(Stop {
                message: format!(
                    "{} did not answer within {} s: {reason}; look at the servers' logs, or wait \
                    longer with --timeout",
                    client.url(),
                    args.timeout
                ),
                exit: Exit::Unavailable,
            });
        }
        progress.say(waited, &reason);
        tokio::time::sleep(PAUSE.min(limit.saturating_sub(waited))).await;
    }
}

/// Whether a linearizable read works, or why not.
async fn linearizable(client: &Client) -> Result<(), String> {
    match client.items(&ItemQuery { limit: Some(1), ..ItemQuery::default() }).await {
        Ok(_) => Ok(()),
        Err(error) => Err(reason(&error)),
    }
}

async fn ready(client: &Client) -> Result<(), String> {
    match client.ready().await {
        Ok(readiness) if readiness.ready => Ok(()),
        Ok(readiness) => Err(readiness.detail),
        Err(error) => Err(reason(&error)),
    }
}

fn reason(error: &ClientError) -> String {
    match error {
        ClientError::Unavailable { last, .. } | ClientError::Unexpected { last, .. } => {
            last.to_string()
        }
        ClientError::Address { .. }
        | ClientError::Key
        | ClientError::Refused(_)
        | ClientError::OutcomeUnknown { .. } => error.to_string(),
    }
}

/// A spinner on a terminal; elsewhere a line whenever the reason changes.
struct Progress {
    spinner: Option<ProgressBar>,
    quiet: bool,
    last: std::cell::RefCell<String>,
}

impl Progress {
    fn new(quiet: bool) -> Self {
        let spinner = (!quiet && std::io::stderr().is_terminal()).then(ProgressBar::new_spinner);
        Self { spinner, quiet, last: std::cell::RefCell::default() }
    }

    fn say(&self, waited: Duration, reason: &str) {
        let line = format!("waiting: {reason}");
        match &self.spinner {
            Some(spinner) => {
                spinner.set_message(format!("{:.0} s {line}", waited.as_secs_f64()));
                spinner.tick();
            }
            None if !self.quiet && *self.last.borrow() != line => {
                say_aside(&line);
                self.last.replace(line);
            }
            None => {}
        }
    }

    fn finish(&self) {
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
    }
}
