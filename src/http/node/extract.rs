//! Reading requests: bodies, parameters, conditions, keys. Whatever is wrong is told with its place,
//! and nothing of such a request reaches the log.

use std::{collections::BTreeMap, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::{FromRequest, FromRequestParts, Path, Request},
};
use http::{
    HeaderMap,
    header::{CONTENT_TYPE, IF_MATCH, IF_NONE_MATCH},
    request::Parts,
};
use http_body_util::{BodyExt, Collected, LengthLimitError, Limited};
use pygmy_raft::node::Freshness;
use pygmy_storage::{
    command::{LogTimeMs, Precondition},
    ledger::LedgerCursor,
};
use serde::de::DeserializeOwned;

use super::Api;
use crate::{
    api::{
        Consistency, FieldError, IDEMPOTENCY_KEY_BYTES_MAX, Object, PAGE_LIMIT_DEFAULT,
        PAGE_LIMIT_MAX, WriteOutcome, header,
    },
    http::problem::{ApiError, Code},
};

/// Reads a write as far as the request alone can be read: what is wrong with it was not applied.
pub(super) fn before_the_log<T>(read: impl FnOnce() -> Result<T, ApiError>) -> Result<T, ApiError> {
    read().map_err(|error| error.outcome(WriteOutcome::NotApplied))
}

/// A JSON body, read strictly: unknown fields, wrong types and trailing bytes are refused, each with
/// a pointer to the place.
pub(super) struct Json<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Api> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, api: &Api) -> Result<Self, ApiError> {
        check_content_type(request.headers(), &["application/json"])?;
        let body = read_body(request.into_body(), api.settings.body_limit_bytes).await?;
        parse_json(&body).map(Self)
    }
}

/// A JSON merge patch, read as strictly as [`Json`]. It may call itself plain JSON.
pub(super) struct MergePatch<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Api> for MergePatch<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, api: &Api) -> Result<Self, ApiError> {
        let types = ["application/merge-patch+json", "application/json"];
        check_content_type(request.headers(), &types)?;
        let body = read_body(request.into_body(), api.settings.body_limit_bytes).await?;
        parse_json(&body).map(Self)
    }
}

/// A JSON body that may be left out; then it is what says nothing.
pub(super) struct JsonOrNothing<T>(pub(super) T);

impl<T: DeserializeOwned + Default> FromRequest<Api> for JsonOrNothing<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, api: &Api) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let body = read_body(body, api.settings.body_limit_bytes).await?;
        if body.is_empty() {
            return Ok(Self(T::default()));
        }
        check_content_type(&parts.headers, &["application/json"])?;
        parse_json(&body).map(Self)
    }
}

/// Reads a body of at most so many bytes.
async fn read_body(body: Body, bytes_max: usize) -> Result<Bytes, ApiError> {
    let read = Limited::new(body, bytes_max).collect().await;
    read.map(Collected::to_bytes).map_err(|error| match error.is::<LengthLimitError>() {
        true => ApiError::new(
            Code::TooLarge,
            format!("The body is larger than the {bytes_max} bytes that this node takes."),
        ),
        false => ApiError::new(Code::Malformed, format!("The body could not be read: {error}.")),
    })
}

/// Refuses a body that is of none of these types; the first is the one to send.
fn check_content_type(headers: &HeaderMap, types: &[&str]) -> Result<(), ApiError> {
    let given = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim();
    if types.iter().any(|kind| essence.eq_ignore_ascii_case(kind)) {
        return Ok(());
    }
    let wanted = types.first().copied().unwrap_or_default();
    let detail = format!("The body is {given:?}; send it with Content-Type: {wanted}.");
    Err(ApiError::new(Code::UnsupportedMediaType, detail))
}

/// Reads JSON as strictly as a body.
pub(super) fn parse_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    // Keeping track of the place has its price, so it is only done where something is wrong.
    if let Ok(Object(value)) = serde_json::from_slice(body) {
        return Ok(value);
    }
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let object = serde_path_to_error::deserialize(&mut deserializer);
    let Object(value) = object.map_err(|error| {
        let pointer = json_pointer(error.path());
        let detail = error.into_inner().to_string();
        ApiError::new(Code::Malformed, format!("The body is not what it should be: {detail}."))
            .error(pointer, detail)
    })?;
    deserializer.end().map_err(|error| {
        ApiError::new(Code::Malformed, format!("There is something after the body: {error}."))
            .error("", error.to_string())
    })?;
    Ok(value)
}

/// RFC 6901.
fn json_pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    path.iter()
        .map(|segment| match segment {
            Segment::Seq { index } => format!("/{index}"),
            Segment::Map { key } => format!("/{}", key.replace('~', "~0").replace('/', "~1")),
            Segment::Enum { variant } => format!("/{variant}"),
            Segment::Unknown => String::new(),
        })
        .collect()
}

/// The number that a part of a path is: digits and nothing else, not even a sign.
pub(super) fn number(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// The number in a path, which is `/v1/{kind}/{id}` or goes on from there. One that is no number names nothing: 404.
pub(super) struct Id(pub(super) u64);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        if let Some(id) = parts.uri.path().split('/').nth(3).and_then(number) {
            return Ok(Self(id));
        }
        // Some of it may be percent-encoded.
        let text = Path::<String>::from_request_parts(parts, state).await;
        let text = text.map(|Path(text)| text).unwrap_or_default();
        match number(&text) {
            Some(id) => Ok(Self(id)),
            None => {
                let error = ApiError::new(Code::NotFound, format!("{text:?} is no number."));
                Err(if parts.method.is_safe() {
                    error
                } else {
                    error.outcome(WriteOutcome::NotApplied)
                })
            }
        }
    }
}

/// The text in a path.
pub(super) struct Name(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let text = Path::<String>::from_request_parts(parts, state).await;
        text.map(|Path(text)| Self(text)).map_err(|_| {
            let error = ApiError::new(Code::Malformed, "The path is not UTF-8.");
            match super::is_write(&parts.method, parts.uri.path()) {
                true => error.outcome(WriteOutcome::NotApplied),
                false => error,
            }
        })
    }
}

/// The parameters of a query, each taken by its name. What is left over was unknown, and is refused.
pub(super) struct Params {
    left: BTreeMap<String, String>,
    errors: Vec<FieldError>,
}

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let mut params = Self { left: BTreeMap::new(), errors: Vec::new() };
        for (name, value) in form_urlencoded::parse(parts.uri.query().unwrap_or("").as_bytes()) {
            if params.left.insert(name.clone().into_owned(), value.into_owned()).is_some() {
                params.refuse(&name, "is given more than once");
            }
        }
        Ok(params)
    }
}

impl Params {
    pub(super) fn refuse(&mut self, name: &str, detail: impl Into<String>) {
        self.errors.push(FieldError { pointer: name.to_owned(), detail: detail.into() });
    }

    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        self.left.remove(name)
    }

    pub(super) fn number(
        &mut self,
        name: &str,
        range: std::ops::RangeInclusive<u64>,
    ) -> Option<u64> {
        let text = self.text(name)?;
        let number = text.parse().ok().filter(|number| range.contains(number));
        if number.is_none() {
            self.refuse(name, format!("{text:?} is not from {} to {}", range.start(), range.end()));
        }
        number
    }

    /// `limit`, from 1 to the most rows of a page.
    pub(super) fn limit(&mut self) -> usize {
        let limit = self.number("limit", 1..=PAGE_LIMIT_MAX as u64);
        limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(PAGE_LIMIT_DEFAULT)
    }

    /// `cursor`: the number after which the page begins, made by [`cursor`].
    pub(super) fn cursor(&mut self, kind: char) -> Option<u64> {
        let text = self.text("cursor")?;
        let number = text.strip_prefix(kind).and_then(|hex| u64::from_str_radix(hex, 16).ok());
        if number.is_none() {
            self.refuse("cursor", "is none that this listing gave");
        }
        number
    }

    /// `cursor` of an item's ledger, made by [`ledger_cursor`].
    pub(super) fn ledger_cursor(&mut self) -> Option<LedgerCursor> {
        let text = self.text("cursor")?;
        let read = |text: &str| {
            let (orders, ledger) = text.strip_prefix('l')?.split_once('-')?;
            let number = |hex| u64::from_str_radix(hex, 16).ok();
            Some(LedgerCursor { orders: number(orders)?, ledger: number(ledger)? })
        };
        let cursor = read(&text);
        if cursor.is_none() {
            self.refuse("cursor", "is none that this listing gave");
        }
        cursor
    }

    /// A time, as the first millisecond that is not before it.
    pub(super) fn time(&mut self, name: &str) -> Option<LogTimeMs> {
        let text = self.text(name)?;
        let Ok(time) = text.parse::<jiff::Timestamp>() else {
            // A plus sign in an address is a space.
            let detail = format!("{text:?} is no time like 2025-01-31T09:30:00Z");
            self.refuse(name, detail);
            return None;
        };
        let millis = u64::try_from(time.as_millisecond()).unwrap_or(0);
        Some(millis + u64::from(time.subsec_nanosecond() % 1_000_000 > 0))
    }

    /// How fresh the read must be, from the parameters or their header forms.
    pub(super) fn freshness(&mut self, headers: &HeaderMap, default: Consistency) -> Freshness {
        let level = |text: &str| match text {
            "linearizable" => Some(Consistency::Linearizable),
            "session" => Some(Consistency::Session),
            "stale" => Some(Consistency::Stale),
            _ => None,
        };
        let wrong = "is none of linearizable, session, stale";
        let given = self.either(headers, "consistency", header::CONSISTENCY, level, wrong);
        let min_index = self.either_number(headers, "min_index", header::MIN_INDEX);
        let bound = self.either_number(headers, "max_staleness_ms", header::MAX_STALENESS_MS);
        let consistency = given.unwrap_or(default);
        match consistency {
            Consistency::Linearizable => Freshness::Linearizable,
            // Without an index there is no session yet, and whatever the replica has will do.
            Consistency::Session => Freshness::AtIndex(min_index.unwrap_or(0)),
            Consistency::Stale => Freshness::Stale(bound.map(Duration::from_millis)),
        }
    }

    /// A parameter of the query, or else its header form. Both must be right.
    fn either<T>(
        &mut self,
        headers: &HeaderMap,
        name: &str,
        header: &str,
        read: impl Fn(&str) -> Option<T>,
        wrong: &str,
    ) -> Option<T> {
        let parameter = self.text(name);
        let form = headers.get(header).map(|value| String::from_utf8_lossy(value.as_bytes()));
        let mut read = |place: &str, text: &str| {
            let value = read(text);
            if value.is_none() {
                self.refuse(place, format!("{text:?} {wrong}"));
            }
            value
        };
        let form = form.map(|text| read(name, &text));
        let parameter = parameter.map(|text| read(name, &text));
        parameter.or(form).flatten()
    }

    fn either_number(&mut self, headers: &HeaderMap, name: &str, header: &str) -> Option<u64> {
        self.either(headers, name, header, |text| text.parse().ok(), "is no number")
    }

    /// One of these words; the first where none is given.
    pub(super) fn word(&mut self, name: &str, words: &[&'static str]) -> &'static str {
        let first = words.first().copied().unwrap_or_default();
        let Some(text) = self.text(name) else { return first };
        words.iter().copied().find(|word| *word == text).unwrap_or_else(|| {
            self.refuse(name, format!("{text:?} is none of {}", words.join(", ")));
            first
        })
    }

    /// Refuses the request if anything was wrong with its parameters.
    pub(super) fn finish(mut self) -> Result<(), ApiError> {
        for name in std::mem::take(&mut self.left).into_keys() {
            self.refuse(&name, "is no parameter of this request");
        }
        match self.errors.first() {
            None => Ok(()),
            Some(first) => {
                let detail = format!("The parameter {} {}.", first.pointer, first.detail);
                Err(ApiError::new(Code::Malformed, detail).errors(self.errors))
            }
        }
    }
}

/// The cursor of a listing: opaque to clients, and stable while rows change, because it names the
/// last row seen and not a position.
pub(super) fn cursor(kind: char, after: Option<u64>) -> Option<String> {
    after.map(|number| format!("{kind}{number:x}"))
}

/// The cursor of an item's ledger.
pub(super) fn ledger_cursor(before: LedgerCursor) -> String {
    format!("l{:x}-{:x}", before.orders, before.ledger)
}

/// The idempotency key of a request.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let mut values = headers.get_all(header::IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        // Which of them the client would repeat is not known.
        let detail = "The Idempotency-Key is given more than once.";
        return Err(ApiError::new(Code::Malformed, detail)
            .error("Idempotency-Key", "is given more than once"));
    }
    match value.to_str() {
        Ok(key) if is_idempotency_key(key) => Ok(Some(key.to_owned())),
        Ok(_) | Err(_) => Err(ApiError::new(
            Code::Malformed,
            "The Idempotency-Key must be 1 to 255 visible ASCII characters.",
        )
        .error("Idempotency-Key", "is not 1 to 255 visible ASCII characters")),
    }
}

/// Whether a text can be an idempotency key.
pub(super) fn is_idempotency_key(text: &str) -> bool {
    (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// How long a write may take: as long as its caller waits, and no longer than `most`.
pub(crate) fn timeout(headers: &HeaderMap, most: Duration) -> Result<Duration, ApiError> {
    let Some(value) = headers.get(header::TIMEOUT_MS) else { return Ok(most) };
    match value.to_str().ok().and_then(|text| text.parse().ok()) {
        Some(millis) => Ok(most.min(Duration::from_millis(millis))),
        None => {
            let detail = "is no number of milliseconds";
            Err(ApiError::new(Code::Malformed, format!("Pygmy-Timeout-Ms {detail}."))
                .error("Pygmy-Timeout-Ms", detail))
        }
    }
}

/// The precondition of a write (RFC 9110, section 13.1). `creatable` requests take `If-None-Match: *`.
pub(super) fn precondition(headers: &HeaderMap, creatable: bool) -> Result<Precondition, ApiError> {
    let text = |name| {
        headers.get(name).map(|value: &http::HeaderValue| value.to_str().unwrap_or("?").trim())
    };
    let refuse = |name: &str, detail: &str| {
        Err(ApiError::new(Code::Malformed, format!("{name} {detail}.")).error(name, detail))
    };
    match (text(IF_MATCH), text(IF_NONE_MATCH)) {
        (None, None) => Ok(Precondition::None),
        (Some(_), Some(_)) => refuse("If-Match", "cannot stand together with If-None-Match"),
        (Some("*"), None) => Ok(Precondition::Exists),
        (Some(tag), None) => match entity_tag(tag) {
            // A tag that is no version of ours matches nothing: no item ever has this version.
            Some(tag) => Ok(Precondition::Version(tag.parse().unwrap_or(u64::MAX))),
            None => refuse("If-Match", "must be * or one \"version\" in quotes"),
        },
        (None, Some("*")) if creatable => Ok(Precondition::Absent),
        (None, Some(_)) => refuse("If-None-Match", "can only be * here, on a request that creates"),
    }
}

/// Whether `If-None-Match` of a read names this version.
pub(super) fn none_match(headers: &HeaderMap, version: u64) -> bool {
    let version = version.to_string();
    headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok()).any(|text| {
        text.split(',').map(str::trim).any(|tag| {
            // Comparison for reads is weak (RFC 9110, section 13.1.2).
            let tag = tag.strip_prefix("W/").unwrap_or(tag);
            tag == "*" || entity_tag(tag) == Some(&version)
        })
    })
}

fn entity_tag(text: &str) -> Option<&str> {
    let tag = text.strip_prefix('"')?.strip_suffix('"')?;
    (!tag.is_empty() && !tag.contains('"')).then_some(tag)
}
