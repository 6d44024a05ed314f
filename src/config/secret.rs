//! A text that must not be shown.

use std::fmt;

/// The fewest bytes a secret may have: what 16 random characters give is out of reach of guessing.
pub(super) const SECRET_BYTES_MIN: usize = 16;

/// A secret that does not show itself when it is printed for debugging.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// 256 random bits as hex, from the operating system's generator.
    pub fn random() -> Self {
        use rand::TryRngCore;
        let mut bytes = [0_u8; 32];
        rand::rngs::OsRng
            .try_fill_bytes(&mut bytes)
            .expect("the operating system gives random bytes once it has started");
        Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The secret itself, for comparing and sending; never for a message.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(not shown)")
    }
}
