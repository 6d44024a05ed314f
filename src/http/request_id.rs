//! The request's id: taken from the client or made, the same in the reply and in every log line.
//!
//! It names a request for people; it must never decide anything. Idempotency has keys of its own.

use axum::extract::Request;
use axum::response::Response;
use http::HeaderValue;
use tracing::Instrument;

use crate::api::header;

/// The longest id that is taken from a client, in bytes.
const BYTES_MAX: usize = 128;

tokio::task_local! {
    static CURRENT: RequestId;
}

/// A request's id: 1 to 128 visible ASCII characters. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// A new random id.
    pub fn random() -> Self {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; 32];
        for (digits, byte) in text.chunks_exact_mut(2).zip(rand::random::<[u8; 16]>()) {
            digits[0] = HEX[usize::from(byte >> 4)];
            digits[1] = HEX[usize::from(byte & 15)];
        }
        Self(HeaderValue::from_bytes(&text).expect("hex digits are a header value"))
    }

    /// The client's id, unless it is empty, too long or not visible ASCII.
    pub fn from_client(value: &HeaderValue) -> Option<Self> {
        let bytes = value.as_bytes();
        let fits = (1..=BYTES_MAX).contains(&bytes.len());
        (fits && bytes.iter().all(u8::is_ascii_graphic)).then(|| Self(value.clone()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        self.0.to_str().expect("an id is visible ASCII")
    }

    /// Makes a reply outside of [`around`], with this id in it.
    pub fn answers(self, reply: impl FnOnce() -> Response) -> Response {
        let value = self.header_value();
        let mut response = CURRENT.sync_scope(self, reply);
        response.headers_mut().insert(header::REQUEST_ID, value);
        response
    }

    /// The id as the value of `X-Request-Id`.
    pub fn header_value(&self) -> HeaderValue {
        self.0.clone()
    }
}

/// The id of the request that this task is answering, inside [`around`].
pub fn current() -> Option<RequestId> {
    CURRENT.try_with(Clone::clone).ok()
}

/// The id of the request that this task is answering, for a log line; empty outside of one.
pub fn text() -> String {
    current().map(|id| id.as_str().to_owned()).unwrap_or_default()
}

/// Answers a request under its id: see [`current`]. It is in problem documents, in the reply's header and,
/// at the log level `debug`, in a `request` span around everything that is logged.
pub async fn around<F: Future<Output = Response>>(
    request: Request,
    answer: impl FnOnce(Request) -> F,
) -> Response {
    let id = request
        .headers()
        .get(header::REQUEST_ID)
        .and_then(RequestId::from_client)
        .unwrap_or_else(RequestId::random);
    // Below the usual level: a span costs as much as a read from memory.
    let span = tracing::debug_span!(
        "request",
        id = id.as_str(),
        method = %request.method(),
        path = request.uri().path(),
    );
    let value = id.header_value();
    let answered = CURRENT.scope(id, async {
        let response = answer(request).await;
        tracing::debug!(status = response.status().as_u16(), "answered");
        response
    });
    let mut response = match span.is_disabled() {
        true => answered.await,
        false => answered.instrument(span).await,
    };
    response.headers_mut().insert(header::REQUEST_ID, value);
    response
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::{Router, routing};
    use tower::ServiceExt;

    use super::*;
    use crate::api::Problem;
    use crate::http::problem;

    fn routes() -> Router {
        Router::new().route("/id", routing::get(|| async { text() })).fallback(problem::no_route)
    }

    async fn ask(path: &str, id: Option<&[u8]>) -> (String, String) {
        let mut request = Request::builder().uri(path);
        if let Some(id) = id {
            request = request.header(header::REQUEST_ID, HeaderValue::from_bytes(id).unwrap());
        }
        let request = request.body(Body::empty()).unwrap();
        let response =
            around(request, async |request| routes().oneshot(request).await.unwrap()).await;
        let reply_id = response.headers()[header::REQUEST_ID].to_str().unwrap().to_owned();
        let body = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
        (reply_id, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_good_id_of_the_client_is_kept_everywhere() {
        let longest = vec![b'x'; BYTES_MAX];
        for id in [&b"abc-123"[..], &longest] {
            let text = String::from_utf8(id.to_vec()).unwrap();
            assert_eq!(ask("/id", Some(id)).await, (text.clone(), text));
        }
    }

    #[tokio::test]
    async fn a_bad_or_missing_id_is_replaced_by_a_new_one() {
        let too_long = vec![b'x'; BYTES_MAX + 1];
        for id in [None, Some(&b""[..]), Some(b"a b"), Some(b"\xff"), Some(&too_long)] {
            let (reply_id, seen) = ask("/id", id).await;
            assert_eq!(reply_id, seen);
            assert_eq!(reply_id.len(), 32, "{reply_id}");
        }
    }

    #[tokio::test]
    async fn a_problem_names_the_request() {
        let (_, body) = ask("/nowhere", Some(b"abc")).await;
        let problem: Problem = serde_json::from_str(&body).unwrap();
        assert_eq!(problem.instance.as_deref(), Some("abc"));
        assert_eq!(problem.code, "not_found");
    }
}
