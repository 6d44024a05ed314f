//! Clusters of real processes on free loopback ports, each in a directory of its own, for the tests
//! that run the program. Whatever a test starts ends with it.

// Each test target uses its part of this.
#![allow(dead_code, clippy::unwrap_used)]

pub(crate) mod cluster;
pub(crate) mod http;
pub(crate) mod load;
pub(crate) mod ports;
pub(crate) mod process;

use std::time::Duration;

/// Far longer than anything here takes on a slow machine: reaching it means that it never happens.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at a condition that is waited for.
const POLL: Duration = Duration::from_millis(25);

/// Waits until a condition holds, and gives what it found.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(POLL).await;
        }
    };
    let found = tokio::time::timeout(PATIENCE, looking).await;
    found.unwrap_or_else(|_| panic!("within {PATIENCE:?} it never came to this: {what}"))
}
