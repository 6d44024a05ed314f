//! A split-block Bloom filter: says of a key that it is surely not there, or that it may be.
//!
//! As Parquet has it: a key's upper half chooses a block of 256 bits, its lower half sets one bit in
//! each of the block's eight words, so that a question costs one cache line. With 16 bits a key one
//! question in a thousand is answered "may be" wrongly.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

const BLOCK_WORDS: usize = 8;
const BLOCK_BYTES: usize = BLOCK_WORDS * 4;
/// Keys for which one block is made: 16 bits each.
const BLOCK_KEYS: usize = 16;
/// Odd numbers that make eight hashes of one. Part of the format.
const SALTS: [u32; BLOCK_WORDS] = [
    0x47b6_137b,
    0x4497_4d91,
    0x8824_ad5b,
    0xa2b7_289d,
    0x7054_95c7,
    0x2df1_424b,
    0x9efc_4947,
    0x5c6b_fb31,
];

type Block = [u32; BLOCK_WORDS];

/// A set of keys that forgets most about them. Keys are hashes already.
#[derive(Clone, PartialEq, Eq)]
pub struct Filter {
    /// At least one.
    blocks: Box<[Block]>,
}

impl Filter {
    /// The filter of these keys. The same keys give the same filter.
    pub fn of(mut keys: Vec<u64>) -> Self {
        // Equal ones take no room of their own.
        keys.sort_unstable();
        keys.dedup();
        let count = keys.len().div_ceil(BLOCK_KEYS).max(1);
        let mut filter = Self { blocks: vec![Block::default(); count].into() };
        for key in keys {
            let place = filter.place(key);
            for (word, bit) in filter.blocks[place].iter_mut().zip(bits(key)) {
                *word |= bit;
            }
        }
        filter
    }

    /// Whether a key may be in the set. `false` is certain.
    pub fn may_hold(&self, key: u64) -> bool {
        self.blocks[self.place(key)].iter().zip(bits(key)).all(|(word, bit)| word & bit != 0)
    }

    /// Bytes in memory and on disk.
    pub fn bytes(&self) -> usize {
        self.blocks.len() * BLOCK_BYTES
    }

    /// The block of a key: its upper half, scaled to the number of blocks.
    fn place(&self, key: u64) -> usize {
        let scaled = u128::from(key >> 32) * self.blocks.len() as u128;
        usize::try_from(scaled >> 32).expect("less than a length in memory")
    }
}

/// One bit for each word of a block.
fn bits(key: u64) -> impl Iterator<Item = u32> {
    let half = (key & 0xffff_ffff) as u32;
    SALTS.into_iter().map(move |salt| 1 << (half.wrapping_mul(salt) >> 27))
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Filter({} bytes)", self.bytes())
    }
}

impl Serialize for Filter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes: Vec<u8> = self.blocks.iter().flatten().flat_map(|w| w.to_le_bytes()).collect();
        serializer.serialize_bytes(&bytes)
    }
}

impl<'de> Deserialize<'de> for Filter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(BytesVisitor)
    }
}

struct BytesVisitor;

impl de::Visitor<'_> for BytesVisitor {
    type Value = Filter;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "blocks of {BLOCK_BYTES} bytes, at least one")
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Filter, E> {
        let (blocks, rest) = bytes.as_chunks::<BLOCK_BYTES>();
        if blocks.is_empty() || !rest.is_empty() {
            return Err(E::invalid_length(bytes.len(), &self));
        }
        let block = |bytes: &[u8; BLOCK_BYTES]| {
            let (words, _) = bytes.as_chunks::<4>();
            std::array::from_fn(|n| u32::from_le_bytes(words[n]))
        };
        Ok(Filter { blocks: blocks.iter().map(block).collect() })
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::codec;

    #[test]
    fn what_is_in_is_found_and_little_else_is() {
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        for count in [0, 1, 16, 17, 500, 2048, 20_000] {
            let keys: Vec<u64> = (0..count).map(|_| random.random()).collect();
            let filter = Filter::of([&keys[..], &keys[..]].concat());
            assert!(filter.bytes() <= 2 * keys.len() + BLOCK_BYTES);
            assert!(keys.iter().all(|key| filter.may_hold(*key)));
            let wrong = (0..100_000).filter(|_| filter.may_hold(random.random())).count();
            assert!(wrong < 200, "{count} keys: {wrong} of 100,000 are found wrongly");
        }
    }

    #[test]
    fn a_filter_of_a_wrong_length_is_refused() {
        let encoded = codec::encode(&Filter::of(vec![7]));
        assert_eq!(encoded.len(), 1 + BLOCK_BYTES);
        assert_eq!(codec::decode::<Filter>(&encoded, "test").unwrap(), Filter::of(vec![7]));
        for bytes in [&encoded[..BLOCK_BYTES], &[0]] {
            let mut short = bytes.to_vec();
            short[0] = u8::try_from(bytes.len() - 1).unwrap();
            assert!(codec::decode::<Filter>(&short, "test").is_err(), "{short:?}");
        }
    }
}
