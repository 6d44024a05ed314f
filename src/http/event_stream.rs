//! Server-sent events, as far as requests and replies name them.

use http::HeaderMap;
use http::header::ACCEPT;

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
}
