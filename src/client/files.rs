//! Import, export and backup: files that may be longer than memory, sent and received as they come.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use reqwest::{StatusCode, Url};

use super::send::{Reply, Verdict, judge, read_body};
use super::{Client, ClientError, Failure, add_query, decode, is_key};
use crate::api::{Import, WriteOutcome, header};

/// The longest that a file may take, from the first byte to the last: a day.
const FILE_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

/// How a backup comes.
const BACKUP_MEDIA_TYPE: &str = "application/octet-stream";

/// How a file is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FileFormat {
    /// Comma-separated, with a header line.
    #[default]
    Csv,
    /// A JSON object on each line.
    Ndjson,
}

impl FileFormat {
    /// The name in the interface.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Ndjson => "ndjson",
        }
    }

    /// The media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv",
            Self::Ndjson => "application/x-ndjson",
        }
    }
}

/// What is exported.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Exported {
    /// The items, as they can be imported again.
    #[default]
    Items,
    /// The orders.
    Orders,
}

impl Exported {
    /// The name in the interface.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Items => "items",
            Self::Orders => "orders",
        }
    }
}

/// How a file is taken in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ImportOptions {
    /// How the file is written.
    pub format: FileFormat,
    /// Say what would happen, and change nothing.
    pub dry_run: bool,
    /// The file's stock counts for items that exist, too.
    pub set_stock: bool,
}

impl Client {
    /// Creates or replaces items from a file. One try: after an error some of it may be in, and
    /// sending the same file again goes on. With the same key that repeats what is known already.
    pub async fn import(
        &self,
        file: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
        options: ImportOptions,
        key: &str,
    ) -> Result<Import, ClientError> {
        if !is_key(key) {
            return Err(ClientError::Key);
        }
        let mut url = self.path(&["v1", "import"]);
        add_query(&mut url, "dry_run", options.dry_run.then_some(true));
        add_query(&mut url, "stock", options.set_stock.then_some("set"));
        let request = self
            .http
            .post(url.clone())
            .timeout(FILE_TIMEOUT)
            .header(ACCEPT, HeaderValue::from_static("application/json"))
            .header(CONTENT_TYPE, HeaderValue::from_static(options.format.media_type()))
            .header(header::IDEMPOTENCY_KEY, key)
            .body(reqwest::Body::wrap_stream(file));
        let unknown = |last| ClientError::OutcomeUnknown {
            url: self.url().to_owned(),
            key: key.to_owned(),
            attempts: 1,
            waited_ms: 0,
            last,
        };
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) if error.is_connect() => {
                return Err(self.unavailable(Failure::Transport(error)));
            }
            Err(error) => return Err(unknown(Failure::Transport(error))),
        };
        self.remember(response.headers());
        let status = response.status();
        let body = read_body(response).await.map_err(unknown)?;
        if status.is_success() {
            return decode(&url, &Reply { status, etag: None, body }, Some(key));
        }
        Err(match judge(status, None, None, &body, true) {
            // Wrong in the middle: what came before is in.
            Verdict::Refused(problem) if problem.outcome == Some(WriteOutcome::Unknown) => {
                unknown(Failure::Problem(problem))
            }
            verdict => self.error_of(&url, verdict, unknown),
        })
    }

    /// All items or all orders, as of one index, piece by piece. An error in the middle says that the
    /// file is not whole.
    pub async fn export(
        &self,
        what: Exported,
        format: FileFormat,
    ) -> Result<impl Stream<Item = Result<Bytes, ClientError>> + use<>, ClientError> {
        let mut url = self.path(&["v1", "export"]);
        add_query(&mut url, "what", Some(what.as_str()));
        add_query(&mut url, "format", Some(format.as_str()));
        let response = self.download(url, format.media_type()).await?;
        Ok(self.pieces(response))
    }

    /// The whole store, as of one index, piece by piece. An error in the middle says that the backup is not
    /// whole; [`pygmy_storage::snapshot::verify`] says whether it is.
    pub async fn backup(
        &self,
    ) -> Result<impl Stream<Item = Result<Bytes, ClientError>> + use<>, ClientError> {
        let response = self.download(self.path(&["v1", "backup"]), BACKUP_MEDIA_TYPE).await?;
        Ok(self.pieces(response))
    }

    async fn download(
        &self,
        url: Url,
        accept: &'static str,
    ) -> Result<reqwest::Response, ClientError> {
        let request = self
            .http
            .get(url.clone())
            .timeout(FILE_TIMEOUT)
            .header(ACCEPT, HeaderValue::from_static(accept));
        let unavailable = |error| self.unavailable(Failure::Transport(error));
        let response = request.send().await.map_err(unavailable)?;
        self.remember(response.headers());
        let status = response.status();
        if status != StatusCode::OK {
            let body = read_body(response).await.map_err(|failure| self.unavailable(failure))?;
            let verdict = judge(status, None, None, &body, false);
            return Err(self.error_of(&url, verdict, |last| self.unavailable(last)));
        }
        Ok(response)
    }

    fn pieces(
        &self,
        response: reqwest::Response,
    ) -> impl Stream<Item = Result<Bytes, ClientError>> + use<> {
        let store = self.clone();
        let broken = move |error| store.unavailable(Failure::Transport(error));
        response.bytes_stream().map_err(broken)
    }

    fn unavailable(&self, last: Failure) -> ClientError {
        ClientError::Unavailable { url: self.url().to_owned(), attempts: 1, waited_ms: 0, last }
    }

    fn error_of(
        &self,
        url: &Url,
        verdict: Verdict,
        doubtful: impl Fn(Failure) -> ClientError,
    ) -> ClientError {
        match verdict {
            Verdict::Refused(problem) => ClientError::Refused(problem),
            Verdict::Again(last, _) => self.unavailable(last),
            Verdict::AgainUnknown(last, _) | Verdict::Stop(last) => doubtful(last),
            Verdict::Foreign(last) => ClientError::Unexpected { url: url.to_string(), last },
            Verdict::Done(reply) => {
                let status = reply.status.as_u16();
                let last = Failure::Status { status, body: String::new() };
                ClientError::Unexpected { url: url.to_string(), last }
            }
        }
    }
}
