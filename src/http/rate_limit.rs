//! How many requests a client may send: a token bucket for each of them.
//!
//! Limits belong to whoever the client speaks to. A facade counts its clients; a node counts those
//! that come to it directly, and neither the requests that a facade passes on nor those that it sends
//! for itself. What is trusted for that is the address of the connection, which nobody can make up, if it is
//! among the configured proxies; never a header alone. From such an address:
//!
//! - `X-Forwarded-For` says who the client is: read from its end, the first address that is no trusted
//!   proxy's. What stands before it is the client's own word and counts for nothing.
//! - Without it the request is the proxy's own, and is not counted. A facade takes the header away
//!   from what it passes on, because it has counted that already.
//!
//! So a reverse proxy that is trusted must set the header, or its clients are not limited. Members do not
//! meet here at all: they have a listener of their own, without limits of this kind.

use std::fmt;
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::ConnectInfo;
use axum::response::Response;
use governor::clock::Clock;
use governor::middleware::StateInformationMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed, StateStore};
use governor::{Quota, RateLimiter};
use http::{Extensions, HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;
use quick_cache::sync::Cache;

use super::HEALTH;
use super::problem::{ApiError, Code};
use crate::api::header;

/// The most callers whose buckets are kept. One more takes the place of one that is seldom seen, whose
/// bucket is full again when it comes back: memory is bounded, and nobody is refused for it.
const CALLERS_MAX: usize = 65_536;

/// Who is named by a proxy: the addresses on the request's way, the client's first.
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// How many requests each client may send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Requests a second, on the whole.
    pub per_second: NonZeroU32,
    /// Requests at once after a pause.
    pub burst: NonZeroU32,
    /// Where facades and reverse proxies connect from.
    pub trusted_proxies: Vec<IpNet>,
}

/// Whose bucket it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Caller {
    /// An address.
    V4(Ipv4Addr),
    /// The first 64 bits of an address: within them a client can take any address it likes.
    V6(u64),
}

impl From<IpAddr> for Caller {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments().map(u64::from);
                Self::V6(a << 48 | b << 32 | c << 16 | d)
            }
        }
    }
}

/// The buckets, for governor. Nothing has to clean up: what is not seen any more is displaced.
struct Buckets<K>(Cache<K, Arc<InMemoryState>>);

impl<K: Hash + Eq + Copy> StateStore for Buckets<K> {
    type Key = K;

    fn measure_and_replace<T, F, E>(&self, key: &K, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let made =
            self.0.get_or_insert_with(key, || Ok::<_, std::convert::Infallible>(Arc::default()));
        let Ok(bucket) = made;
        bucket.measure_and_replace(&NotKeyed::NonKey, decide)
    }
}

/// The time since some moment.
#[derive(Clone)]
struct Ticks(Arc<dyn Fn() -> Duration + Send + Sync>);

impl Clock for Ticks {
    type Instant = Duration;

    fn now(&self) -> Duration {
        (self.0)()
    }
}

/// The limit of one listener. Cheap to clone; clones count together.
#[derive(Clone)]
pub struct RateLimit(Arc<Shared>);

struct Shared {
    limiter: RateLimiter<Caller, Buckets<Caller>, Ticks, StateInformationMiddleware>,
    clock: Ticks,
    trusted_proxies: Vec<IpNet>,
    /// The value of `RateLimit-Policy`.
    policy: HeaderValue,
}

impl fmt::Debug for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RateLimit").field(&self.0.policy).finish()
    }
}

/// What came of counting a request.
#[derive(Debug)]
pub struct Counted {
    policy: HeaderValue,
    remaining: u32,
    /// How long nothing more is taken, where this request is not.
    wait: Option<Duration>,
}

impl RateLimit {
    /// A limit by the system's clock.
    pub fn new(settings: Settings) -> Self {
        let start = Instant::now();
        Self::with_clock(settings, move || start.elapsed())
    }

    /// A limit by a clock that tells the time since some moment.
    pub fn with_clock(
        settings: Settings,
        now: impl Fn() -> Duration + Send + Sync + 'static,
    ) -> Self {
        let Settings { per_second, burst, trusted_proxies } = settings;
        let clock = Ticks(Arc::new(now));
        let quota = Quota::per_second(per_second).allow_burst(burst);
        let limiter = RateLimiter::new(quota, Buckets(Cache::new(CALLERS_MAX)), clock.clone());
        // Rounded up: who keeps to what the header says is never refused.
        let window_s = burst.get().div_ceil(per_second.get());
        let policy = format!("\"address\";q={burst};w={window_s}");
        let policy = HeaderValue::from_str(&policy).expect("digits are a header value");
        Self(Arc::new(Shared { limiter, clock, trusted_proxies, policy }))
    }

    /// Counts a request. Nothing where it is not to be counted.
    pub fn count(
        &self,
        path: &str,
        headers: &HeaderMap,
        extensions: &Extensions,
    ) -> Option<Counted> {
        if HEALTH.contains(&path) {
            return None;
        }
        // Without an address, which a listener of ours always tells, all count as one.
        let peer = extensions
            .get::<ConnectInfo<SocketAddr>>()
            .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |ConnectInfo(peer)| peer.ip());
        let caller = self.client(peer, headers)?.into();
        let shared = &self.0;
        let (remaining, wait) = match shared.limiter.check_key(&caller) {
            Ok(state) => (state.remaining_burst_capacity(), None),
            Err(refused) => (0, Some(refused.wait_time_from(shared.clock.now()))),
        };
        Some(Counted { policy: shared.policy.clone(), remaining, wait })
    }

    /// Whose request it is; nobody's who is counted, if it is a trusted proxy's own.
    fn client(&self, peer: IpAddr, headers: &HeaderMap) -> Option<IpAddr> {
        if !self.trusts(peer) {
            return Some(peer);
        }
        let mut nearest = peer;
        for value in headers.get_all(X_FORWARDED_FOR).iter().rev() {
            for hop in value.as_bytes().rsplit(|byte| *byte == b',') {
                let Some(address) = hop_address(hop) else {
                    // A trusted proxy has no other word for who it was: they share its bucket.
                    return Some(nearest);
                };
                if !self.trusts(address) {
                    return Some(address);
                }
                nearest = address;
            }
        }
        None
    }

    fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.trusted_proxies.iter().any(|network| network.contains(&address))
    }
}

/// An address as proxies write it: some add the port.
fn hop_address(hop: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(hop).ok()?.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().ok();
    address.or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

impl Counted {
    /// The refusal of a request that was one too many.
    pub fn refusal(&self) -> Option<ApiError> {
        let wait = self.wait?;
        let detail = "You have sent more requests than one client may; RateLimit-Policy says how \
                      many. Wait as long as Retry-After says.";
        Some(ApiError::new(Code::RateLimited, detail).retry_after(wait))
    }

    /// Tells the client how it stands, in the headers of `draft-ietf-httpapi-ratelimit-headers-10`.
    /// A bucket has no moment at which it is reset, so the optional `t` is left out.
    pub fn tell(self, response: &mut Response) {
        let remaining = format!("\"address\";r={}", self.remaining);
        let remaining = HeaderValue::from_str(&remaining).expect("digits are a header value");
        let headers = response.headers_mut();
        headers.insert(header::RATE_LIMIT, remaining);
        headers.insert(header::RATE_LIMIT_POLICY, self.policy);
    }
}

#[cfg(test)]
mod tests;
