//! What a request is to the facade: a read, a write, or one of the few things it answers itself.
//!
//! Decides by method and path alone. It must never look into a body, and must never take a write for
//! a read: reads are repeated freely.

use http::{Method, Uri};
pub(super) use pygmy_raft::types::Role;

/// What a cached reply depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// One item.
    Item(u64),
    /// All items: searches and lists.
    Items,
}

/// How fresh the client wants a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Freshness {
    /// One of the seed's reads, and nothing was asked for: as fresh as this facade's newest write.
    Own,
    /// `stale` without a bound: the cache may answer.
    Stale,
    /// Anything else. The node sees what was asked for.
    Asked,
}

/// A read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Read {
    /// The role that answers, if only one does.
    pub(super) role: Option<Role>,
    /// What the reply depends on, if it may be cached at all.
    pub(super) scope: Option<Scope>,
    /// Whether this is `/search` or `/lookup`, which are read at `session` level.
    pub(super) seed: bool,
    /// Whether the answer takes long by its nature: a whole backup, a check of everything.
    pub(super) long: bool,
    /// Whether these are the changes, which there are as a live feed too.
    pub(super) changes: bool,
}

/// What a write changes, as far as the path tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Touch {
    /// One item.
    Item(u64),
    /// The items in the lines of the order or reservation, or of the orders of a batch, that the
    /// reply shows.
    OrderInReply,
    /// The item that the reply shows.
    ItemInReply,
    /// No item.
    Nothing,
    /// Anything.
    All,
}

/// A write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Write {
    pub(super) touch: Touch,
    /// Whether an idempotency key makes a retry safe. Not so for membership changes and imports.
    pub(super) keyed: bool,
    /// Whether this is the seed's `GET /buy/{n}`.
    pub(super) buy: bool,
    /// Whether its body is a file, which is passed on as it comes.
    pub(super) import: bool,
}

/// What a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    /// Passed to a replica.
    Read(Read),
    /// Passed to the leader.
    Write(Write),
    /// The flags, in the seed's form.
    Heartbeat,
    /// Forgets what the cache has of an item.
    Invalidate(Option<u64>),
    /// Whether the facade's process is alive.
    Livez,
    /// Whether the facade reaches a member.
    Readyz,
    /// One of the original's server-to-server endpoints.
    Gone,
    /// `/buy/{n}` with a method that must not sell.
    BuyByGetOnly,
    /// A method that nothing takes.
    UnknownMethod,
    /// A path that could mean another one to the node than it does here.
    BadPath,
}

/// Says what a request is.
pub(super) fn classify(method: &Method, uri: &Uri) -> Route {
    let path = uri.path();
    if !is_plain(path) {
        return Route::BadPath;
    }
    let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    match (method, segments.as_slice()) {
        (_, ["update" | "update_order" | "sync", ..]) | (&Method::PUT, ["heartbeat"]) => {
            Route::Gone
        }
        (&Method::GET | &Method::HEAD, ["heartbeat"]) => Route::Heartbeat,
        (&Method::GET | &Method::HEAD, ["livez"]) => Route::Livez,
        (&Method::GET | &Method::HEAD, ["readyz"]) => Route::Readyz,
        (&Method::DELETE, ["invalidate", item]) => Route::Invalidate(item.parse().ok()),
        (&Method::GET, ["buy", item]) => {
            Route::Write(Write { touch: touch_item(item), keyed: true, buy: true, import: false })
        }
        (_, ["buy", _]) => Route::BuyByGetOnly,
        (&Method::GET | &Method::HEAD | &Method::OPTIONS, segments) => Route::Read(read(segments)),
        (&Method::POST | &Method::PUT | &Method::PATCH | &Method::DELETE, segments) => {
            Route::Write(write(method, segments))
        }
        _ => Route::UnknownMethod,
    }
}

/// Whether the path reaches the node as it is. A client library on the way would resolve dot
/// segments, so that `/search/../buy/5` would be a read here and a sale there.
fn is_plain(path: &str) -> bool {
    let is_dots = |segment: &str| {
        let segment = segment.to_ascii_lowercase().replace("%2e", ".");
        segment == "." || segment == ".."
    };
    path.starts_with('/') && !path.contains('\\') && !path.split('/').any(is_dots)
}

fn read(segments: &[&str]) -> Read {
    let role = match segments {
        ["search" | "lookup", ..] | ["v1", "items" | "topics" | "changes", ..] => {
            Some(Role::Catalog)
        }
        ["v1", "orders" | "reservations", ..] => Some(Role::Order),
        _ => None,
    };
    let scope = match segments {
        ["search", _] | ["v1", "items" | "topics"] => Some(Scope::Items),
        ["lookup", item] | ["v1", "items", item] => item.parse().ok().map(Scope::Item),
        _ => None,
    };
    Read {
        role,
        scope,
        seed: matches!(segments, ["search" | "lookup", _]),
        long: matches!(segments, ["v1", "verify" | "backup" | "export"]),
        changes: matches!(segments, ["v1", "changes"]),
    }
}

fn write(method: &Method, segments: &[&str]) -> Write {
    let touch = match segments {
        ["v1", "items"] => Touch::ItemInReply,
        ["v1", "orders"]
        | ["v1", "orders", "batch"]
        | ["v1", "orders", _, "cancel"]
        | ["v1", "reservations"]
        | ["v1", "reservations", _]
        | ["v1", "reservations", _, "confirm"] => Touch::OrderInReply,
        ["v1", "items", item] | ["v1", "items", item, "stock"] => touch_item(item),
        ["v1", "policy"] | ["v1", "cluster", "maintenance"] => Touch::Nothing,
        _ => Touch::All,
    };
    let keyed = match segments {
        ["v1", "cluster", "maintenance"] => true,
        ["v1", "cluster" | "import", ..] => false,
        _ => true,
    };
    // With another method it is for a member to refuse, as any request.
    let import = *method == Method::POST && matches!(segments, ["v1", "import"]);
    Write { touch, keyed, buy: false, import }
}

fn touch_item(item: &str) -> Touch {
    item.parse().map_or(Touch::All, Touch::Item)
}

/// The value of a query parameter, as it stands there.
pub(super) fn query_value<'a>(uri: &'a Uri, name: &str) -> Option<&'a str> {
    uri.query()?.split('&').find_map(|pair| match pair.split_once('=') {
        Some((key, value)) => (key == name).then_some(value),
        None => (pair == name).then_some(""),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(method: Method, path: &str) -> Route {
        classify(&method, &path.parse().unwrap())
    }

    fn role(path: &str) -> Option<Role> {
        match route(Method::GET, path) {
            Route::Read(read) => read.role,
            other => panic!("{path} is {other:?}"),
        }
    }

    #[test]
    fn reads_go_to_their_role() {
        for path in ["/search/Misc/", "/lookup/5", "/v1/items", "/v1/items/5", "/v1/topics"] {
            assert_eq!(role(path), Some(Role::Catalog), "{path}");
        }
        assert_eq!(role("/v1/changes?after=3"), Some(Role::Catalog));
        // The ledger also tells of sales, which no change of the item announces: it is not cached.
        let Route::Read(ledger) = route(Method::GET, "/v1/items/5/ledger?limit=3") else {
            panic!("it is a read")
        };
        assert_eq!((ledger.role, ledger.scope), (Some(Role::Catalog), None));
        // Nor are prices, of which the lowest goes up with time alone.
        let Route::Read(prices) = route(Method::GET, "/v1/items/5/prices") else {
            panic!("it is a read")
        };
        assert_eq!((prices.role, prices.scope), (Some(Role::Catalog), None));
        for path in ["/v1/orders/5", "/v1/reservations/5", "/v1/reservations?status=held"] {
            assert_eq!(role(path), Some(Role::Order), "{path}");
        }
        for path in ["/", "/openapi.json", "/v1/cluster", "/clusterz", "/v1/ordersx"] {
            assert_eq!(role(path), None, "{path}");
        }
    }

    #[test]
    fn nothing_that_sells_is_a_read() {
        for path in ["/buy/5", "/buy/5/", "/buy/5?consistency=stale", "//buy/5"] {
            let write = Write { touch: Touch::Item(5), keyed: true, buy: true, import: false };
            assert_eq!(route(Method::GET, path), Route::Write(write), "{path}");
        }
        for method in [Method::HEAD, Method::POST, Method::OPTIONS] {
            assert_eq!(route(method, "/buy/5"), Route::BuyByGetOnly);
        }
        for path in ["/search/../buy/5", "/search/%2E%2e/buy/5", "/./buy/5", "/x\\..\\buy/5"] {
            if let Ok(uri) = path.parse() {
                assert_eq!(classify(&Method::GET, &uri), Route::BadPath, "{path}");
            }
        }
        assert_eq!(route(Method::OPTIONS, "*"), Route::BadPath);
    }

    #[test]
    fn writes_say_what_they_touch_and_whether_a_key_helps() {
        let write = |method, path| match route(method, path) {
            Route::Write(write) => write,
            other => panic!("{path} is {other:?}"),
        };
        assert_eq!(write(Method::POST, "/v1/orders").touch, Touch::OrderInReply);
        let batch = write(Method::POST, "/v1/orders/batch");
        assert_eq!((batch.touch, batch.keyed), (Touch::OrderInReply, true));
        for (method, path) in [
            (Method::POST, "/v1/orders/7/cancel"),
            (Method::POST, "/v1/reservations"),
            (Method::DELETE, "/v1/reservations/7"),
            (Method::POST, "/v1/reservations/7/confirm"),
        ] {
            let write = write(method, path);
            assert_eq!((write.touch, write.keyed), (Touch::OrderInReply, true), "{path}");
        }
        assert_eq!(write(Method::PUT, "/v1/items/7").touch, Touch::Item(7));
        assert_eq!(write(Method::POST, "/v1/items/7/stock").touch, Touch::Item(7));
        assert_eq!(write(Method::PATCH, "/v1/items/7").touch, Touch::Item(7));
        assert_eq!(write(Method::DELETE, "/v1/items/7").touch, Touch::Item(7));
        assert_eq!(write(Method::POST, "/v1/items").touch, Touch::ItemInReply);
        for (method, path) in
            [(Method::PUT, "/v1/policy"), (Method::POST, "/v1/cluster/maintenance")]
        {
            let write = write(method, path);
            assert_eq!((write.touch, write.keyed), (Touch::Nothing, true), "{path}");
        }
        assert_eq!(write(Method::POST, "/restock/").touch, Touch::All);
        assert!(write(Method::POST, "/v1/orders").keyed);
        assert!(!write(Method::POST, "/v1/cluster/members").keyed);
        assert!(write(Method::POST, "/v1/import").import);
        assert!(!write(Method::PUT, "/v1/import").import);
    }

    #[test]
    fn what_the_facade_answers_itself() {
        assert_eq!(route(Method::GET, "/heartbeat/"), Route::Heartbeat);
        assert_eq!(route(Method::PUT, "/heartbeat/"), Route::Gone);
        assert_eq!(route(Method::GET, "/sync"), Route::Gone);
        assert_eq!(route(Method::DELETE, "/invalidate/5/"), Route::Invalidate(Some(5)));
        assert_eq!(route(Method::GET, "/readyz?verbose"), Route::Readyz);
        assert_eq!(route(Method::from_bytes(b"BREW").unwrap(), "/"), Route::UnknownMethod);
    }

    #[test]
    fn query_values_are_found_by_their_whole_name() {
        let uri: Uri = "/x?min_index=5&verbose&a=b=c".parse().unwrap();
        assert_eq!(query_value(&uri, "min_index"), Some("5"));
        assert_eq!(query_value(&uri, "verbose"), Some(""));
        assert_eq!(query_value(&uri, "a"), Some("b=c"));
        assert_eq!(query_value(&uri, "index"), None);
    }
}
