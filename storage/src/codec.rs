//! How records become bytes, on disk and between peers: a format version, a checksum, then bincode.
//! The only file that names bincode.
//!
//! A sealed record is `version: u8 | checksum: u64 LE (XXH3 of version and body) | body`. Decoding
//! refuses unknown versions, wrong checksums, trailing bytes, and anything that claims to be larger
//! than [`RECORD_BYTES_MAX`]; it never panics and never allocates more than the input justifies.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed, xxh3_128_with_seed};

use crate::error::{Error, Result};

/// The newest format this build writes, and the only one it reads so far.
pub const FORMAT_VERSION: u8 = 1;
/// The most a decoder accepts, in bytes. Larger things are split before they are encoded.
///
/// The largest record is a chunk of orders that each have the most lines with the longest titles.
pub const RECORD_BYTES_MAX: usize = 256 << 20;
/// Bytes before the body of a sealed record.
pub const HEADER_BYTES: usize = 9;

type Config = bincode::config::Configuration<
    bincode::config::LittleEndian,
    bincode::config::Varint,
    bincode::config::Limit<RECORD_BYTES_MAX>,
>;

fn config() -> Config {
    bincode::config::standard().with_limit::<RECORD_BYTES_MAX>()
}

/// Encodes a value without header: for hashing, and for bodies whose frame carries its own checks.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(128);
    encode_into(value, &mut bytes);
    bytes
}

/// Appends the encoding of a value to a buffer.
pub fn encode_into<T: Serialize + ?Sized>(value: &T, bytes: &mut Vec<u8>) {
    // Writing to a Vec cannot fail, the limit of the configuration is for decoding only, and our
    // types have no serializer that refuses (no unsized sequences, no untagged enums).
    bincode::serde::encode_into_std_write(value, bytes, config())
        .expect("encoding one of our own types into memory cannot fail");
}

/// Decodes what [`encode`] made; it may borrow from there. `what` names it in the error.
pub fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8], what: &str) -> Result<T> {
    if bytes.len() > RECORD_BYTES_MAX {
        return Err(Error::TooLarge {
            what: what.to_owned(),
            bytes: bytes.len(),
            limit: RECORD_BYTES_MAX,
        });
    }
    let (value, read) = bincode::serde::borrow_decode_from_slice(bytes, config())
        .map_err(|e| Error::corrupt(what, e.to_string()))?;
    if read != bytes.len() {
        return Err(Error::corrupt(what, format!("{} bytes too many", bytes.len() - read)));
    }
    Ok(value)
}

/// How hard records of the history are compressed: the fastest of zstd's regular levels.
const PACK_LEVEL: i32 = 1;

/// Encodes and compresses a value: for what is written once, kept long, and much alike (RFC 8878).
pub fn pack<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>> {
    let bytes = encode(value);
    zstd::bulk::compress(&bytes, PACK_LEVEL).map_err(|e| Error::io("compressing a record", e))
}

/// Decodes what [`pack`] made.
pub fn unpack<T: DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T> {
    // A frame that claims more than this is refused before anything is allocated for it.
    let bytes = zstd::bulk::decompress(bytes, RECORD_BYTES_MAX)
        .map_err(|e| Error::corrupt(what, e.to_string()))?;
    decode(&bytes, what)
}

/// Encodes a value with version and checksum in front.
pub fn seal<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256);
    bytes.resize(HEADER_BYTES, 0);
    encode_into(value, &mut bytes);
    write_header(&mut bytes);
    bytes
}

/// Puts version and checksum in front of a body that is encoded already.
pub fn seal_body(body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
    bytes.resize(HEADER_BYTES, 0);
    bytes.extend_from_slice(body);
    write_header(&mut bytes);
    bytes
}

fn write_header(bytes: &mut [u8]) {
    bytes[0] = FORMAT_VERSION;
    let sum = checksum(FORMAT_VERSION, &bytes[HEADER_BYTES..]);
    bytes[1..HEADER_BYTES].copy_from_slice(&sum.to_le_bytes());
}

/// Checks version and checksum and gives the body.
pub fn unseal_body<'a>(bytes: &'a [u8], what: &str) -> Result<&'a [u8]> {
    let Some((header, body)) = bytes.split_at_checked(HEADER_BYTES) else {
        return Err(Error::corrupt(what, format!("only {} bytes long", bytes.len())));
    };
    let sum = u64::from_le_bytes(header[1..].try_into().expect("nine bytes less one is eight"));
    if checksum(header[0], body) != sum {
        return Err(Error::corrupt(what, "its checksum does not match"));
    }
    if header[0] != FORMAT_VERSION {
        return Err(Error::UnknownFormat { what: what.to_owned(), version: header[0] });
    }
    Ok(body)
}

/// Decodes what [`seal`] made.
pub fn unseal<T: DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T> {
    decode(unseal_body(bytes, what)?, what)
}

fn checksum(version: u8, body: &[u8]) -> u64 {
    xxh3_64(body) ^ u64::from(version).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Hashes the encoding of a value: several times for each entry, so without asking for memory where
/// the value is small, as most are.
pub fn hash_of<T: Serialize + ?Sized>(tag: u8, value: &T) -> u128 {
    let mut small = [0; 256];
    match bincode::serde::encode_into_slice(value, &mut small, config()) {
        Ok(length) => hash128(tag, &small[..length]),
        // It did not fit.
        Err(_) => hash128(tag, &encode(value)),
    }
}

/// A 128-bit hash of a tagged value, for the state hash. Stable across builds and machines.
pub fn hash128(tag: u8, bytes: &[u8]) -> u128 {
    xxh3_128_with_seed(bytes, u64::from(tag))
}

/// A 64-bit hash of a tagged value, for the filters of the history. Stable across builds and machines.
pub fn hash64(tag: u8, bytes: &[u8]) -> u64 {
    xxh3_64_with_seed(bytes, u64::from(tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_stable_and_the_same_whatever_the_length() {
        assert_eq!(hash128(1, b"pygmy"), 0x78a3_28ee_c156_375a_acc6_d013_ff0a_a8c7);
        assert_ne!(hash128(1, b"pygmy"), hash128(2, b"pygmy"));
        for length in [0, 1, 200, 250, 253, 254, 255, 256, 257, 300, 1000] {
            let text = "t".repeat(length);
            let value = (7u64, text.as_str(), "after it");
            assert_eq!(hash_of(3, &value), hash128(3, &encode(&value)), "{length}");
        }
    }

    #[test]
    fn a_sealed_record_has_stable_bytes() {
        let sealed = seal(&(7u64, "books".to_owned()));
        assert_eq!(sealed[0], FORMAT_VERSION);
        assert_eq!(&sealed[HEADER_BYTES..], &[7, 5, b'b', b'o', b'o', b'k', b's']);
        assert_eq!(unseal::<(u64, String)>(&sealed, "test").unwrap(), (7, "books".to_owned()));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let sealed = seal(&(1u64, vec![1u32, 2, 3], "title".to_owned()));
        for bit in 0..sealed.len() * 8 {
            let mut damaged = sealed.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(unseal::<(u64, Vec<u32>, String)>(&damaged, "test").is_err(), "bit {bit}");
        }
        for end in 0..sealed.len() {
            assert!(unseal::<(u64, Vec<u32>, String)>(&sealed[..end], "test").is_err());
        }
    }

    #[test]
    fn trailing_bytes_and_other_versions_are_refused() {
        let mut body = encode(&5u64);
        body.push(0);
        let error = unseal::<u64>(&seal_body(&body), "test").unwrap_err();
        assert!(error.to_string().contains("too many"), "{error}");

        let mut newer = seal(&5u64);
        newer[0] = 9;
        let sum = checksum(9, &newer[HEADER_BYTES..]);
        newer[1..HEADER_BYTES].copy_from_slice(&sum.to_le_bytes());
        let error = unseal::<u64>(&newer, "test").unwrap_err();
        assert!(matches!(error, Error::UnknownFormat { version: 9, .. }), "{error}");
    }

    #[test]
    fn what_is_packed_is_smaller_and_damage_is_an_error() {
        let value: Vec<String> = (0..1000).map(|n| format!("Distributed systems {n}")).collect();
        let packed = pack(&value).unwrap();
        assert!(packed.len() * 4 < encode(&value).len(), "{} bytes", packed.len());
        assert_eq!(unpack::<Vec<String>>(&packed, "it").unwrap(), value);
        assert!(unpack::<Vec<String>>(&packed[..packed.len() - 1], "it").unwrap_err().is_damage());
        assert!(unpack::<Vec<String>>(b"no frame", "it").unwrap_err().is_damage());
    }

    #[test]
    fn a_frame_that_claims_to_be_huge_is_refused_unread() {
        // A frame header (RFC 8878, section 3.1.1) with a content size of 2^63, and no content.
        let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0xe0];
        frame.extend_from_slice(&(1u64 << 63).to_le_bytes());
        assert!(unpack::<Vec<u8>>(&frame, "it").unwrap_err().is_damage());
    }

    #[test]
    fn a_length_that_lies_does_not_allocate() {
        // A vector that claims 2^60 elements, with none behind it.
        let mut body = vec![253];
        body.extend_from_slice(&(1u64 << 60).to_le_bytes());
        assert!(decode::<Vec<u64>>(&body, "test").is_err());
        assert!(decode::<String>(&body, "test").is_err());
    }
}
