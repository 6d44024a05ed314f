//! The shapes of answers that are put together by hand. Of the original's endpoints every value is a
//! string, and what is unknown is `{}`.

// They describe: nobody makes one.
#![expect(dead_code, reason = "only what utoipa derives from them is used")]

use std::collections::BTreeMap;

use serde_json::Value;
use utoipa::ToSchema;

/// `GET /search/{topic}/`: item numbers by title.
#[derive(ToSchema)]
pub(in crate::http::node) struct Found {
    items: BTreeMap<String, String>,
}

/// `GET /heartbeat/`: 1 for each member that is up, 0 for each that is not.
#[derive(ToSchema)]
pub(in crate::http::node) struct Flags(BTreeMap<String, u8>);

/// `GET /lookup/{n}/`; nothing in it if there is no such item.
#[derive(ToSchema)]
#[schema(rename_all = "PascalCase")]
pub(in crate::http::node) struct Lookup {
    item_number: Option<String>,
    title: Option<String>,
    topic: Option<String>,
    /// In whole units: `12` or `12.50`.
    cost: Option<String>,
    stock: Option<String>,
    /// An HTTP date.
    time: Option<String>,
}

/// `GET /buy/{n}/`: the item after the sale; nothing in it if there is no such item.
#[derive(ToSchema)]
#[schema(rename_all = "PascalCase")]
pub(in crate::http::node) struct Bought {
    /// `1`: sold. `0`: not, because nothing is left or the store cannot sell now.
    #[schema(pattern = "^[01]$")]
    result: Option<String>,
    item_number: Option<String>,
    title: Option<String>,
    topic: Option<String>,
    /// In whole units: `12` or `12.50`.
    cost: Option<String>,
    stock: Option<String>,
    /// An HTTP date.
    time: Option<String>,
}

/// `DELETE /invalidate/{n}/`.
#[derive(ToSchema)]
pub(in crate::http::node) struct Invalidated {
    invalidated: bool,
}

/// `POST /restock/`.
#[derive(ToSchema)]
#[schema(rename_all = "PascalCase")]
pub(in crate::http::node) struct Restocked {
    /// Whether any item was.
    restocked: bool,
}

/// `GET /livez` and the like.
#[derive(ToSchema)]
pub(in crate::http::node) struct Health {
    #[schema(pattern = "^ok$")]
    status: String,
    /// With `verbose`, check by check; of a facade always.
    checks: Option<BTreeMap<String, Value>>,
}
