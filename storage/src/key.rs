//! The layout of keys in the state database and in the log: order-preserving, one enum.
//!
//! A key is a tag byte, a number in big-endian (so that keys sort as numbers do), and the number of
//! the part, because a value that is too large for one record is split (see [`crate::blob`]).

use std::ops::RangeInclusive;

/// A record of the state database, or (names with `Log`) of the log database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// Everything that is not listed below: counters, policy, last applied, membership, hashes.
    Meta,
    /// The items whose ids lie on this page.
    ItemPage(u64),
    /// The orders of this chunk.
    Orders(u64),
    /// The ledger rows of this chunk.
    Ledger(u64),
    /// The idempotency records of this chunk.
    Keys(u64),
    /// What this chunk of orders is about.
    OrderSummary(u64),
    /// What this chunk of the ledger is about.
    LedgerSummary(u64),
    /// The reservations whose ids lie on this page.
    ReservationPage(u64),
    /// The cancellations of this chunk.
    Cancellations(u64),
    /// The changes of this chunk.
    Changes(u64),
    /// The log entries from this index on, as many as the record holds.
    LogEntries(u64),
    /// The vote.
    LogVote,
    /// The committed log id.
    LogCommitted,
    /// The purged log id.
    LogPurged,
}

/// Bytes of an encoded key.
pub const KEY_BYTES: usize = 11;

impl Key {
    fn parts(self) -> (u8, u64) {
        match self {
            Self::Meta => (b'm', 0),
            Self::ItemPage(page) => (b'i', page),
            Self::Orders(chunk) => (b'o', chunk),
            Self::Ledger(chunk) => (b'l', chunk),
            Self::Keys(chunk) => (b'k', chunk),
            Self::OrderSummary(chunk) => (b'O', chunk),
            Self::LedgerSummary(chunk) => (b'L', chunk),
            Self::ReservationPage(page) => (b'r', page),
            Self::Cancellations(chunk) => (b'x', chunk),
            Self::Changes(chunk) => (b'h', chunk),
            Self::LogEntries(first) => (b'e', first),
            Self::LogVote => (b'v', 0),
            Self::LogCommitted => (b'c', 0),
            Self::LogPurged => (b'p', 0),
        }
    }

    /// The number of its page or chunk.
    pub fn number(self) -> u64 {
        self.parts().1
    }

    /// The key of one part of this record's value.
    pub fn encode(self, part: u16) -> [u8; KEY_BYTES] {
        let (tag, number) = self.parts();
        let mut bytes = [0; KEY_BYTES];
        bytes[0] = tag;
        bytes[1..9].copy_from_slice(&number.to_be_bytes());
        bytes[9..].copy_from_slice(&part.to_be_bytes());
        bytes
    }

    /// Reads a key back. `None` when it is none of ours.
    pub fn decode(bytes: &[u8]) -> Option<(Self, u16)> {
        let bytes: &[u8; KEY_BYTES] = bytes.try_into().ok()?;
        let number = u64::from_be_bytes(bytes[1..9].try_into().ok()?);
        let part = u16::from_be_bytes([bytes[9], bytes[10]]);
        let key = match bytes[0] {
            b'm' if number == 0 => Self::Meta,
            b'i' => Self::ItemPage(number),
            b'o' => Self::Orders(number),
            b'l' => Self::Ledger(number),
            b'k' => Self::Keys(number),
            b'O' => Self::OrderSummary(number),
            b'L' => Self::LedgerSummary(number),
            b'r' => Self::ReservationPage(number),
            b'x' => Self::Cancellations(number),
            b'h' => Self::Changes(number),
            b'e' => Self::LogEntries(number),
            b'v' if number == 0 => Self::LogVote,
            b'c' if number == 0 => Self::LogCommitted,
            b'p' if number == 0 => Self::LogPurged,
            _ => return None,
        };
        Some((key, part))
    }

    /// All keys with this key's tag.
    pub fn family(self) -> RangeInclusive<[u8; KEY_BYTES]> {
        let (tag, _) = self.parts();
        let mut first = [0; KEY_BYTES];
        let mut last = [0xff; KEY_BYTES];
        first[0] = tag;
        last[0] = tag;
        first..=last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_as_their_numbers_do_and_read_back() {
        let keys = [
            Key::LedgerSummary(3),
            Key::OrderSummary(2),
            Key::OrderSummary(300),
            Key::LogCommitted,
            Key::LogEntries(7),
            Key::LogEntries(1 << 40),
            Key::Changes(8),
            Key::ItemPage(0),
            Key::ItemPage(1),
            Key::ItemPage(255),
            Key::ItemPage(256),
            Key::ItemPage(u64::MAX),
            Key::Keys(3),
            Key::Ledger(9),
            Key::Meta,
            Key::Orders(2),
            Key::LogPurged,
            Key::ReservationPage(5),
            Key::LogVote,
            Key::Cancellations(4),
        ];
        for pair in keys.windows(2) {
            assert!(pair[0].encode(u16::MAX) < pair[1].encode(0), "{pair:?}");
        }
        for key in keys {
            assert_eq!(Key::decode(&key.encode(7)), Some((key, 7)));
            assert!(key.family().contains(&key.encode(1)));
        }
        assert_eq!(Key::decode(b"y0000000000"), None);
        assert_eq!(Key::decode(b"short"), None);
    }
}
