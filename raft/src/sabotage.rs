//! Known bugs that a test-only build puts back, to prove that the tests notice them.
//!
//! Without the cargo feature `sabotage` every switch is constantly off and the code behind it is
//! compiled away.

/// Appends are acknowledged long before they are written.
pub const ACK_BEFORE_SYNC: &str = "ack_before_sync";
/// A linearizable read is answered from whatever the replica has.
pub const NO_READ_INDEX: &str = "no_read_index";
/// The idempotency key of a proposal is ignored.
pub const IGNORE_KEYS: &str = "ignore_keys";

/// A restarted leader leads on in its old term, and gives log ids to other entries than before.
pub const LEADER_RESTORE: &str = "leader_restore";

/// Every switch that there is.
pub const ALL: [&str; 4] = [ACK_BEFORE_SYNC, NO_READ_INDEX, IGNORE_KEYS, LEADER_RESTORE];

/// Whether a known bug is in force: named by the environment variable `PYGMY_SABOTAGE`.
#[cfg(feature = "sabotage")]
pub fn active(name: &str) -> bool {
    use std::sync::OnceLock;
    static CHOSEN: OnceLock<Option<String>> = OnceLock::new();
    let chosen = CHOSEN.get_or_init(|| {
        let chosen = std::env::var("PYGMY_SABOTAGE").ok()?;
        tracing::warn!(bug = chosen, "SABOTAGED BUILD: a known bug is in force");
        Some(chosen)
    });
    chosen.as_deref() == Some(name)
}

/// Whether a known bug is in force: never, in this build.
#[cfg(not(feature = "sabotage"))]
#[inline]
pub const fn active(_name: &str) -> bool {
    false
}
