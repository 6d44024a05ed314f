//! The state that entries are applied to, with what hangs off it for the one who applies.
//!
//! Readers get clones of the [`State`] alone. The index of the idempotency keys is asked by `apply`
//! only, once for each entry: in a persistent map it would cost more than the rest of a sale, so it
//! lives here, is changed in place, and is built anew whenever the state is replaced.

use std::{
    hash::{BuildHasherDefault, Hasher},
    sync::Arc,
};

use crate::{
    command::KeyHash,
    orders::KeyRecord,
    state::{Packed, State},
};

// The order of this map is never looked at, and its hasher is fixed.
#[allow(clippy::disallowed_types)]
type Index = std::collections::HashMap<KeyHash, u64, BuildHasherDefault<PassThrough>>;

/// A state that entries are applied to.
#[derive(Debug, Default)]
pub struct Working {
    pub(crate) state: State,
    /// Where a key's newest record is. Nothing else is in it.
    index: Index,
}

impl Working {
    /// Goes on from a state.
    pub fn new(state: State) -> Self {
        let mut index = Index::default();
        for (number, record) in (state.keys.base()..).zip(state.keys.from(0)) {
            index.insert(record.key, number);
        }
        Self { state, index }
    }

    /// The state.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Stores what Raft wants to find again with the state at this index.
    pub fn set_raft(&mut self, bytes: Arc<[u8]>) {
        self.state.raft = bytes;
    }

    /// See [`State::forget_packed`].
    pub fn forget_packed(&mut self, packed: Packed) {
        self.state.forget_packed(packed);
    }

    /// The record of a key.
    pub(crate) fn key(&self, key: &KeyHash) -> Option<&Arc<KeyRecord>> {
        self.state.keys.get(*self.index.get(key)?)
    }

    /// Remembers a request.
    pub(crate) fn push_key(&mut self, record: KeyRecord) {
        let key = record.key;
        let number = self.state.push_key(Arc::new(record));
        self.index.insert(key, number);
    }

    /// Forgets the oldest idempotency record.
    pub(crate) fn pop_key(&mut self) {
        let Some((number, record)) = self.state.pop_key() else { return };
        // A key that expired and was used again has a newer record, which stays.
        if self.index.get(&record.key) == Some(&number) {
            self.index.remove(&record.key);
        }
    }

    /// Whether the index finds what the records say, and nothing else.
    pub fn index_is_sound(&self) -> bool {
        self.index == Self::new(self.state.clone()).index
    }
}

/// A hasher for keys that are hashes already: takes their words as they are.
#[derive(Debug, Default, Clone, Copy)]
struct PassThrough(u64);

impl Hasher for PassThrough {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 = self.0.rotate_left(29) ^ u64::from_le_bytes(word);
        }
    }
}
