//! The keys of a rate limit, which a node and a facade have in common.

use std::net::IpAddr;
use std::num::NonZeroU32;

use ipnet::IpNet;

use super::reader::Reader;
use crate::http::rate_limit::Settings;

/// Requests a second that can be told from no limit.
const RATE_MAX: u64 = 1_000_000;

/// The most trusted proxies; a network is one.
const TRUSTED_PROXIES_MAX: usize = 64;

impl Reader<'_> {
    /// `rate_limit_per_second`, `rate_limit_burst` and `trusted_proxies`. None where it is off.
    pub(super) fn rate_limit(&mut self) -> Option<Settings> {
        let rate = self.number("rate_limit_per_second", 0, 0..=RATE_MAX);
        let burst = self.number("rate_limit_burst", 0, 0..=RATE_MAX);
        let trusted_proxies = self.networks("trusted_proxies");
        if rate.value == 0 && burst.value > 0 {
            let what = format!(
                "{} does nothing while {}.rate_limit_per_second is 0",
                burst.value,
                self.section()
            );
            self.refuse(burst.blame(&rate), "rate_limit_burst", what);
        }
        let number = |value: u64| NonZeroU32::new(u32::try_from(value).unwrap_or(u32::MAX));
        let per_second = number(rate.value)?;
        Some(Settings {
            per_second,
            burst: number(burst.value).unwrap_or(per_second),
            trusted_proxies,
        })
    }

    /// A list of addresses and networks, which may be left out.
    fn networks(&mut self, key: &'static str) -> Vec<IpNet> {
        let Some(texts) = self.texts_if_given(key) else { return Vec::new() };
        let mut networks = Vec::new();
        for text in &texts.value {
            let network = match text.value.parse::<IpAddr>() {
                Ok(address) => Some(IpNet::from(address)),
                Err(_) => text.value.parse::<IpNet>().ok(),
            };
            match network {
                Some(network) if network == network.trunc() => networks.push(network),
                Some(network) => {
                    let what = format!("{network} is not a network; write {}", network.trunc());
                    self.refuse(&text.origin, key, what);
                }
                None => {
                    let what = format!(
                        "{:?} is not an address or a network such as \"10.0.0.7\" or \
                         \"10.0.0.0/24\"",
                        text.value
                    );
                    self.refuse(&text.origin, key, what);
                }
            }
        }
        if texts.value.len() > TRUSTED_PROXIES_MAX {
            let what = format!("must be at most {TRUSTED_PROXIES_MAX}, not {}", texts.value.len());
            self.refuse(&texts.origin, key, what);
        }
        networks
    }
}
