//! Parameters that many endpoints share, with the limits that `extract` checks.

use serde_json::{Value, json};
use utoipa::{
    IntoParams,
    openapi::{
        Required,
        path::{Parameter, ParameterBuilder, ParameterIn},
        schema::{KnownFormat, Object, ObjectBuilder, SchemaFormat, Type},
    },
};

use pygmy_storage::{orders::OrderStatus, reservations::ReservationStatus, search};

use crate::{
    api::{Consistency, IDEMPOTENCY_KEY_BYTES_MAX, PAGE_LIMIT_DEFAULT, PAGE_LIMIT_MAX},
    http::node::changes::WAIT_MS_MAX,
};

/// Makes a type that stands for these parameters in `params(...)`.
macro_rules! parameters {
    ($($(#[$doc:meta])* $name:ident: $($parameter:expr),+;)+) => {$(
        $(#[$doc])*
        pub(in crate::http::node) enum $name {}

        impl IntoParams for $name {
            fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
                vec![$($parameter),+]
            }
        }
    )+};
}

parameters! {
    /// How fresh a read must be, where nothing said means linearizable.
    Read:
        query("consistency", LEVEL, level(Consistency::Linearizable)),
        query("min_index", MIN_INDEX, number(0, None)),
        query("max_staleness_ms", MAX_STALENESS, number(0, None)),
        header("Pygmy-Consistency", FORM, level(Consistency::Linearizable)),
        header("Pygmy-Min-Index", FORM, number(0, None)),
        header("Pygmy-Max-Staleness-Ms", FORM, number(0, None));
    /// How fresh a read must be, where nothing said means stale.
    ReadStale:
        query("consistency", LEVEL, level(Consistency::Stale)),
        query("min_index", MIN_INDEX, number(0, None)),
        query("max_staleness_ms", MAX_STALENESS, number(0, None)),
        header("Pygmy-Consistency", FORM, level(Consistency::Stale)),
        header("Pygmy-Min-Index", FORM, number(0, None)),
        header("Pygmy-Max-Staleness-Ms", FORM, number(0, None));
    /// A page of a listing.
    Page:
        limit(),
        query("cursor", "The `next_cursor` of the page before; opaque.", text().min_length(Some(1)));
    /// Which items are listed, and by what.
    Items:
        query("topic", "Only items of exactly this topic.", text()),
        query(
            "q",
            "Only items whose title or topic has words that begin with these, in any order; case \
             and accents count for nothing.",
            text().min_length(Some(1)).max_length(Some(search::QUERY_BYTES_MAX)),
        ),
        query("in_stock", "Whether something of the item is available.", flag()),
        query("sort", "What they are sorted by; with a `-` the other way round.", sort());
    /// Which orders are listed.
    Orders:
        query("item", "Only orders with a line of this item.", number(0, None)),
        query("customer", "Only orders of exactly this customer.", text()),
        query("status", "Only orders that stand so.", text().enum_values(Some(OrderStatus::NAMES))),
        query("from", "Only orders placed at this time or after.", time()),
        query("to", "Only orders placed before this time.", time());
    /// Which reservations are listed.
    Reservations:
        query("status", "Only reservations that stand so.", text().enum_values(Some(ReservationStatus::NAMES)));
    /// A page of changes.
    Changes:
        query("after", "The index after which to begin; now, if it is not given.", number(0, None)),
        query(
            "kinds",
            "Only changes of these kinds, separated by commas.",
            text().pattern(Some("^(item|order|reservation|policy)(,(item|order|reservation|policy))*$")),
        ),
        limit(),
        query(
            "wait_ms",
            "How long to wait for a change where there is none, in milliseconds.",
            number(0, Some(WAIT_MS_MAX)),
        );
    /// How a file is taken in.
    Import:
        query("dry_run", "`true`: check everything, say what would happen, and change nothing.", flag()),
        query(
            "stock",
            "`new`: the file's stock counts for items that do not exist yet; `set`: for every item.",
            text().enum_values(Some(["new", "set"])).default(Some(json!("new"))),
        );
    /// What is exported, and how.
    Export:
        query(
            "format",
            "How it is written.",
            text().enum_values(Some(["csv", "ndjson"])).default(Some(json!("csv"))),
        ),
        query(
            "what",
            "What is exported.",
            text().enum_values(Some(["items", "orders"])).default(Some(json!("items"))),
        );
    /// What every write takes.
    Write:
        header(
            "Idempotency-Key",
            "The same request under the same key is done once, and the first reply is given again.",
            text()
                .min_length(Some(1))
                .max_length(Some(IDEMPOTENCY_KEY_BYTES_MAX))
                .pattern(Some(r"^[\x21-\x7e]+$")),
        ),
        header(
            "Pygmy-Timeout-Ms",
            "How long the caller waits for the reply, in milliseconds: the node ends the request in \
             time with what it knows by then. A facade has a deadline of its own.",
            number(0, None),
        );
    /// A write only of the version that the client has seen.
    IfMatch:
        header(
            "If-Match",
            "The item's `ETag`: write only if it still has this version. `*`: only if it exists. \
             Not together with `If-None-Match`.",
            text().pattern(Some(r#"^(\*|"[\x21\x23-\x7e]+")$"#)),
        );
    /// A write only of what does not exist.
    OnlyCreate:
        header(
            "If-None-Match",
            "`*`: only create. Not together with `If-Match`.",
            text().enum_values(Some(["*"])),
        );
    /// A read only of another version than the client has.
    IfNoneMatch:
        header("If-None-Match", "An item's `ETag`s, or `*`: 304 if one holds.", text());
    /// What a probe asks.
    Probe:
        query("verbose", "Given, with or without a value: check by check.", text()),
        query("exclude", "Checks that do not count, separated by commas.", text());
}

const LEVEL: &str = "`linearizable` reflects every write that was confirmed before, `session` at \
                     least `min_index`, `stale` whatever the replica has.";
const MIN_INDEX: &str =
    "With `session`: the lowest index to answer from, the `Pygmy-Index` of an earlier reply.";
const MAX_STALENESS: &str = "With `stale`: the longest time since the replica heard from a leader, \
                             in milliseconds.";
const FORM: &str = "The same as the parameter of the query, which goes before.";

fn query(name: &str, description: &str, schema: impl Into<Object>) -> Parameter {
    parameter(ParameterIn::Query, name, description, schema.into())
}

fn header(name: &str, description: &str, schema: impl Into<Object>) -> Parameter {
    parameter(ParameterIn::Header, name, description, schema.into())
}

pub(super) fn parameter(
    place: ParameterIn,
    name: &str,
    description: &str,
    schema: Object,
) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(place)
        .required(Required::False)
        .description(Some(description))
        .schema(Some(schema))
        .build()
}

fn limit() -> Parameter {
    let rows = number(1, Some(PAGE_LIMIT_MAX as u64)).default(Some(json!(PAGE_LIMIT_DEFAULT)));
    query("limit", "The most rows of the page.", rows)
}

fn level(default: Consistency) -> ObjectBuilder {
    let levels = [Consistency::Linearizable, Consistency::Session, Consistency::Stale];
    text()
        .enum_values(Some(levels.map(Consistency::as_str)))
        .default(Some(Value::from(default.as_str())))
}

fn flag() -> ObjectBuilder {
    text().enum_values(Some(["true", "false"]))
}

fn sort() -> ObjectBuilder {
    let sorts = ["id", "-id", "title", "-title", "price", "-price", "updated", "-updated"];
    text().enum_values(Some(sorts)).default(Some(json!("id")))
}

fn time() -> ObjectBuilder {
    text().format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
}

fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

/// A whole number of 64 bits; the finishing adds the largest where none is given.
fn number(min: usize, max: Option<u64>) -> ObjectBuilder {
    let max = max.and_then(|max| usize::try_from(max).ok());
    ObjectBuilder::new()
        .schema_type(Type::Integer)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
        .minimum(Some(min))
        .maximum(max)
}
