//! The errors of an endpoint, as sets of codes. Statuses and words come from the table of [`Code`].

use std::collections::BTreeMap;

use utoipa::{
    IntoResponses, ToSchema,
    openapi::{
        Content, HeaderBuilder, Ref, RefOr, Response, ResponseBuilder,
        schema::{ObjectBuilder, Type},
    },
};

use crate::{
    api::Problem,
    http::problem::{CONTENT_TYPE_PROBLEM, Code},
};

/// Makes a type that stands for these codes in `responses(...)`. Two sets that are used together
/// must not share a status: the second would hide the first.
macro_rules! problems {
    ($($(#[$doc:meta])* $name:ident: $($code:ident),+;)+) => {$(
        $(#[$doc])*
        pub(in crate::http::node) enum $name {}

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                responses(&[$(Code::$code),+])
            }
        }
    )+};
}

problems! {
    /// Of every request that asks the state.
    ReadErrors: Malformed, NotAcceptable, RateLimited, HeadersTooLarge, Internal, NoLeader,
        Overloaded, TooStale, ShuttingDown, Recovering, Timeout;
    /// Of every request that changes something.
    WriteErrors: Malformed, NotAcceptable, IdempotencyKeyReused, Invalid, RateLimited,
        HeadersTooLarge, Internal, NoLeader, LeadershipLost, Overloaded, ShuttingDown, Recovering,
        Maintenance, Timeout, DiskFull;
    /// Of a request that asks neither the state nor the log.
    Busy: Malformed, RateLimited, HeadersTooLarge, Internal, Overloaded;
    /// Of every request with a body.
    BodyErrors: TooLarge, UnsupportedMediaType;
    /// Of every request that names something.
    NoSuch: NotFound;
    /// Of a write that the state refuses.
    Conflict: OutOfStock, WrongState;
    /// Of a write that is refused by what its object has become.
    WrongState: WrongState;
    /// Of a request with a precondition.
    Mismatch: VersionMismatch;
    /// Of what is not kept, or not offered, any more.
    Gone: HistoryGone, Replaced;
}

/// A response for each status that these codes have.
fn responses(codes: &[Code]) -> BTreeMap<String, RefOr<Response>> {
    let mut by_status: BTreeMap<u16, Vec<Code>> = BTreeMap::new();
    for code in codes {
        by_status.entry(code.status().as_u16()).or_default().push(*code);
    }
    by_status
        .into_iter()
        .map(|(status, codes)| (status.to_string(), RefOr::T(response(status, &codes))))
        .collect()
}

/// Of the original's `GET /buy/{n}/`: the errors of a write, but where the store cannot sell now the
/// body is the one that its clients know.
pub(in crate::http::node) enum BuyErrors {}

impl IntoResponses for BuyErrors {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let mut responses = WriteErrors::responses();
        if let Some(RefOr::T(unavailable)) = responses.get_mut("503") {
            let bought = Ref::from_schema_name(super::Bought::name());
            unavailable
                .content
                .insert("application/json".to_owned(), Content::new(Some(bought)).into());
            for (name, description) in [
                ("Pygmy-Code", "The problem's code, where the body is no problem document."),
                ("Pygmy-Outcome", "The write's outcome, where the body is no problem document."),
            ] {
                let header = HeaderBuilder::new()
                    .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
                    .description(Some(description));
                unavailable.headers.insert(name.to_owned(), header.build().into());
            }
        }
        responses
    }
}

fn response(status: u16, codes: &[Code]) -> Response {
    let words: Vec<_> =
        codes.iter().map(|code| format!("`{}`: {}", code.as_str(), code.title())).collect();
    let problem = Ref::from_schema_name(Problem::name());
    let response = ResponseBuilder::new()
        .description(words.join(". "))
        .content(CONTENT_TYPE_PROBLEM, Content::new(Some(problem)));
    match status {
        429 | 503 => {
            let seconds = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0));
            let header = HeaderBuilder::new()
                .schema(Some(seconds))
                .description(Some("Seconds after which to try again."));
            response.header("Retry-After", header.build()).build()
        }
        _ => response.build(),
    }
}
