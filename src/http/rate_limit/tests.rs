//! Who is counted, as whom, and how much; all by a clock that stands until it is moved.

use governor::clock::FakeRelativeClock;

use super::*;

fn limit(per_second: u32, burst: u32, trusted: &[&str]) -> (RateLimit, FakeRelativeClock) {
    let clock = FakeRelativeClock::default();
    let settings = Settings {
        per_second: NonZeroU32::new(per_second).unwrap(),
        burst: NonZeroU32::new(burst).unwrap(),
        trusted_proxies: trusted.iter().map(|network| network.parse().unwrap()).collect(),
    };
    let told = clock.clone();
    (RateLimit::with_clock(settings, move || told.now().into()), clock)
}

/// What is left after a request, or that it was one too many.
fn left(limit: &RateLimit, peer: &str) -> Option<u32> {
    let mut extensions = Extensions::new();
    extensions.insert(ConnectInfo(SocketAddr::new(peer.parse().unwrap(), 4711)));
    let counted = limit.count("/v1/items", &HeaderMap::new(), &extensions).expect("is counted");
    assert_eq!(counted.refusal().is_some(), counted.wait.is_some());
    counted.wait.is_none().then_some(counted.remaining)
}

#[test]
fn a_client_has_its_burst_and_then_its_rate() {
    let (limit, clock) = limit(2, 3, &[]);
    let send = || left(&limit, "192.0.2.1");
    assert_eq!([send(), send(), send()], [Some(2), Some(1), Some(0)]);
    for _ in 0..10 {
        assert_eq!(send(), None, "and being refused costs nothing");
    }
    clock.advance(Duration::from_millis(499));
    assert_eq!(send(), None);
    clock.advance(Duration::from_millis(1));
    assert_eq!([send(), send()], [Some(0), None]);
    clock.advance(Duration::from_secs(1));
    assert_eq!([send(), send(), send()], [Some(1), Some(0), None]);
    // However long the pause: no more than the burst.
    clock.advance(Duration::from_secs(86_400));
    assert_eq!([send(), send(), send(), send()], [Some(2), Some(1), Some(0), None]);
}

#[test]
fn a_client_is_an_address_or_a_network_of_64_bits() {
    let (limit, _) = limit(1, 1, &[]);
    for (peer, free) in [
        ("192.0.2.1", true),
        ("192.0.2.1", false),
        ("192.0.2.2", true),
        // The same address on a socket of the other family.
        ("::ffff:192.0.2.2", false),
        ("2001:db8:0:1::1", true),
        ("2001:db8:0:1:ffff:ffff:ffff:ffff", false),
        ("2001:db8:0:2::1", true),
        ("2001:db8:0:0:1::1", true),
    ] {
        assert_eq!(left(&limit, peer).is_some(), free, "{peer}");
    }
}

#[test]
fn a_proxy_is_believed_if_it_is_trusted_and_no_further() {
    let (limit, _) = limit(1, 1, &["10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32"]);
    for (peer, forwarded, expected) in [
        ("203.0.113.9", &[][..], Some("203.0.113.9")),
        // Anybody can send the header.
        ("203.0.113.9", &["198.51.100.1"], Some("203.0.113.9")),
        ("192.0.2.8", &["198.51.100.1"], Some("192.0.2.8")),
        // A proxy's own request: a facade's, or a health check.
        ("10.1.2.3", &[], None),
        ("::ffff:10.1.2.3", &[], None),
        ("10.1.2.3", &["10.9.9.9, 192.0.2.7"], None),
        ("10.1.2.3", &["198.51.100.1"], Some("198.51.100.1")),
        ("192.0.2.7", &["198.51.100.1"], Some("198.51.100.1")),
        ("2001:db8::1", &["2001:dead::1"], Some("2001:dead::1")),
        // What the client itself claims stands first, and its own address after it.
        ("10.1.2.3", &["1.1.1.1, 198.51.100.1"], Some("198.51.100.1")),
        ("10.1.2.3", &["10.0.0.1, 198.51.100.1 , 10.0.0.2"], Some("198.51.100.1")),
        // Lines are one list.
        ("10.1.2.3", &["1.1.1.1", "198.51.100.1"], Some("198.51.100.1")),
        ("10.1.2.3", &["198.51.100.1:4711"], Some("198.51.100.1")),
        ("10.1.2.3", &["[2001:dead::1]:4711"], Some("2001:dead::1")),
        ("10.1.2.3", &["[2001:dead::1]"], Some("2001:dead::1")),
        // Those of whom nothing can be told share their proxy's bucket.
        ("10.1.2.3", &["unknown"], Some("10.1.2.3")),
        ("10.1.2.3", &[""], Some("10.1.2.3")),
        ("10.1.2.3", &["198.51.100.1, _hidden, 10.0.0.2"], Some("10.0.0.2")),
    ] {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append(X_FORWARDED_FOR, HeaderValue::from_static(value));
        }
        let client = limit.client(peer.parse().unwrap(), &headers);
        assert_eq!(client, expected.map(|text| text.parse().unwrap()), "{peer} {forwarded:?}");
    }
}

#[test]
fn what_watches_over_the_process_is_never_counted() {
    let (limit, _) = limit(1, 1, &[]);
    let count = |path| limit.count(path, &HeaderMap::new(), &Extensions::new());
    for path in HEALTH {
        assert!((0..5).all(|_| count(path).is_none()), "{path}");
    }
    // And nobody escapes for want of an address.
    assert!(count("/").unwrap().refusal().is_none());
    assert!(count("/livez/").unwrap().refusal().is_some());
}

#[test]
fn a_client_is_told_what_it_has_and_who_keeps_to_it_is_never_refused() {
    for (per_second, burst, policy) in
        [(10, 20, "q=20;w=2"), (10, 10, "q=10;w=1"), (10, 1, "q=1;w=1"), (3, 7, "q=7;w=3")]
    {
        let (limit, clock) = limit(per_second, burst, &[]);
        for _ in 0..10 {
            let counted = limit.count("/", &HeaderMap::new(), &Extensions::new()).unwrap();
            let mut response = Response::default();
            counted.tell(&mut response);
            let told = &response.headers()[header::RATE_LIMIT_POLICY];
            assert_eq!(told.to_str().unwrap(), format!("\"address\";{policy}"));
            let left = format!("\"address\";r={}", burst - 1);
            assert_eq!(response.headers()[header::RATE_LIMIT].to_str().unwrap(), left);
            for _ in 1..burst {
                let counted = limit.count("/", &HeaderMap::new(), &Extensions::new()).unwrap();
                assert!(counted.refusal().is_none());
            }
            clock.advance(Duration::from_secs(burst.div_ceil(per_second).into()));
        }
    }
}

#[test]
fn the_callers_that_are_remembered_are_bounded_and_a_busy_one_is_not_forgotten() {
    let quota = Quota::per_second(NonZeroU32::MIN).allow_burst(NonZeroU32::new(5).unwrap());
    let clock = FakeRelativeClock::default();
    let buckets = Buckets(Cache::new(CALLERS_MAX));
    let limiter: RateLimiter<_, _, _, StateInformationMiddleware> =
        RateLimiter::new(quota, buckets, clock);
    let busy = Caller::from(IpAddr::from([192, 0, 2, 1]));
    for _ in 0..5 {
        limiter.check_key(&busy).unwrap();
    }
    for n in 0..3 * u64::try_from(CALLERS_MAX).unwrap() {
        limiter.check_key(&Caller::V6(n)).expect("a newcomer is let in");
        if n % 100 == 0 {
            limiter.check_key(&busy).expect_err("it has used up what it had");
        }
    }
    let kept = limiter.into_state_store().0.len();
    assert!((CALLERS_MAX / 2..=CALLERS_MAX).contains(&kept), "{kept}");
}
