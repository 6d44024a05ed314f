//! Server-sent events, as far as requests and replies name them.

use http::HeaderMap;
use http::header::{ACCEPT, ACCEPT_ENCODING};

/// Their media type.
pub const CONTENT_TYPE_EVENTS: &str = "text/event-stream";

/// The request header that says which event a client has seen last.
pub const LAST_EVENT_ID: &str = "last-event-id";

/// Whether a client asks for them.
pub fn is_wanted(headers: &HeaderMap) -> bool {
    let ranges = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    ranges.flat_map(|text| text.split(',')).any(|range| {
        let range = range.split(';').next().unwrap_or_default().trim();
        range.eq_ignore_ascii_case(CONTENT_TYPE_EVENTS)
    })
}

/// Whether a client takes a reply that is compressed with gzip.
pub fn takes_gzip(headers: &HeaderMap) -> bool {
    let codings = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    codings.flat_map(|text| text.split(',')).any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let refused = weight.trim().strip_prefix("q=").and_then(|q| q.parse().ok()) == Some(0.0);
        name.trim().eq_ignore_ascii_case("gzip") && !refused
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_who_names_them_gets_them() {
        let wanted = |accept: &'static str| {
            is_wanted(&HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]))
        };
        for accept in ["text/event-stream", "application/json, Text/Event-Stream;q=0.5"] {
            assert!(wanted(accept), "{accept}");
        }
        for accept in ["", "*/*", "text/*", "application/json", "text/event-streams"] {
            assert!(!wanted(accept), "{accept}");
        }
        assert!(!is_wanted(&HeaderMap::new()));
    }

    #[test]
    fn gzip_is_taken_unless_it_is_refused() {
        let takes = |codings: &'static str| {
            let value = HeaderValue::from_static(codings);
            takes_gzip(&HeaderMap::from_iter([(ACCEPT_ENCODING, value)]))
        };
        assert!(takes("gzip") && takes("br, GZIP;q=0.5") && takes("gzip; q=1"));
        assert!(!takes("") && !takes("br") && !takes("gzip;q=0") && !takes("gzip; q=0.0"));
        assert!(!takes_gzip(&HeaderMap::new()));
    }
}
