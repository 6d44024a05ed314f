//! Values of any size in an engine that wants them small.
//!
//! sled keeps a value near or above its segment size in a side file that its sync never reaches, so
//! no record may come close to that (see `engine`). A blob is split into parts below the limit; the
//! first part says how many there are, and all are written in one atomic batch.

use crate::{
    codec,
    engine::{Batch, Engine, Pair, VALUE_BYTES_MAX},
    error::{Error, Result},
    key::Key,
};

/// Bytes of a blob in one part: below the engine's limit, with room for both headers.
const PART_BYTES: usize = VALUE_BYTES_MAX - 64;
/// The most parts a blob may have: about 4 GiB.
const PARTS_MAX: usize = u16::MAX as usize;

/// Adds the writes that make `key` hold `bytes` to a batch, whatever it held before.
pub fn put(engine: &dyn Engine, batch: &mut Batch, key: Key, bytes: &[u8]) -> Result<()> {
    let before = stored_parts(engine, key)?;
    let parts = put_parts(batch, key, bytes)?;
    for part in parts..before {
        batch.delete(key.encode(part_number(part)));
    }
    Ok(())
}

/// The same for a key that holds nothing, or nothing larger than one part: reads nothing first.
pub fn put_new(batch: &mut Batch, key: Key, bytes: &[u8]) -> Result<()> {
    put_parts(batch, key, bytes).map(|_| ())
}

fn put_parts(batch: &mut Batch, key: Key, bytes: &[u8]) -> Result<usize> {
    let parts = bytes.len().div_ceil(PART_BYTES).max(1);
    if parts > PARTS_MAX {
        return Err(Error::TooLarge {
            what: format!("{key:?}"),
            bytes: bytes.len(),
            limit: PARTS_MAX * PART_BYTES,
        });
    }
    for part in 0..parts {
        let slice = &bytes[part * PART_BYTES..bytes.len().min((part + 1) * PART_BYTES)];
        let mut body = Vec::with_capacity(slice.len() + 2);
        body.extend_from_slice(&part_number(parts).to_le_bytes());
        body.extend_from_slice(slice);
        batch.put(key.encode(part_number(part)), codec::seal_body(&body));
    }
    Ok(parts)
}

/// Adds the deletes that remove `key` to a batch.
pub fn delete(engine: &dyn Engine, batch: &mut Batch, key: Key) -> Result<()> {
    for part in 0..stored_parts(engine, key)? {
        batch.delete(key.encode(part_number(part)));
    }
    Ok(())
}

/// Reads what [`put`] wrote, checksums verified.
pub fn get(engine: &dyn Engine, key: Key) -> Result<Option<Vec<u8>>> {
    let Some(first) = engine.get(&key.encode(0))? else { return Ok(None) };
    let (parts, slice) = open_part(key, &first)?;
    let mut bytes = slice.to_vec();
    for part in 1..parts {
        let Some(next) = engine.get(&key.encode(part_number(part)))? else {
            return Err(Error::corrupt(format!("{key:?}"), format!("part {part} is missing")));
        };
        let (claimed, slice) = open_part(key, &next)?;
        if claimed != parts {
            return Err(Error::corrupt(format!("{key:?}"), "its parts are of different writes"));
        }
        bytes.extend_from_slice(slice);
    }
    Ok(Some(bytes))
}

/// All blobs whose keys lie in the family of `key`, in order.
pub fn scan(engine: &dyn Engine, key: Key) -> impl Iterator<Item = Result<(Key, Vec<u8>)>> {
    let range = key.family();
    let mut pairs = engine.scan(&range);
    std::iter::from_fn(move || pairs.next().map(|first| whole(first?, &mut pairs)))
}

/// Joins a blob's first part with the parts that follow it in a scan.
fn whole(first: Pair, pairs: &mut dyn Iterator<Item = Result<Pair>>) -> Result<(Key, Vec<u8>)> {
    let Some((key, 0)) = Key::decode(&first.0) else {
        return Err(Error::corrupt("a key of the state database", format!("{:?}", first.0)));
    };
    let (parts, slice) = open_part(key, &first.1)?;
    let mut bytes = slice.to_vec();
    for part in 1..parts {
        let next = pairs.next().transpose()?;
        let Some(next) = next.filter(|(k, _)| k[..] == key.encode(part_number(part))) else {
            return Err(Error::corrupt(format!("{key:?}"), format!("part {part} is missing")));
        };
        let (claimed, slice) = open_part(key, &next.1)?;
        if claimed != parts {
            return Err(Error::corrupt(format!("{key:?}"), "its parts are of different writes"));
        }
        bytes.extend_from_slice(slice);
    }
    Ok((key, bytes))
}

fn stored_parts(engine: &dyn Engine, key: Key) -> Result<usize> {
    match engine.get(&key.encode(0))? {
        Some(first) => Ok(open_part(key, &first)?.0),
        None => Ok(0),
    }
}

fn open_part(key: Key, sealed: &[u8]) -> Result<(usize, &[u8])> {
    let what = format!("{key:?}");
    let body = codec::unseal_body(sealed, &what)?;
    let Some((count, slice)) = body.split_at_checked(2) else {
        return Err(Error::corrupt(what, "a part without its count"));
    };
    Ok((usize::from(u16::from_le_bytes([count[0], count[1]])), slice))
}

fn part_number(part: usize) -> u16 {
    u16::try_from(part).expect("parts are bounded by PARTS_MAX, checked on write")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::MemoryEngine;

    #[test]
    fn a_blob_of_any_size_reads_back_and_shrinks_without_leftovers() {
        let engine = MemoryEngine::new();
        for size in [0, 1, PART_BYTES, PART_BYTES + 1, 5 * PART_BYTES + 17, 3] {
            let bytes: Vec<u8> = (0..=250u8).cycle().take(size).collect();
            let mut batch = Batch::default();
            put(&engine, &mut batch, Key::Orders(4), &bytes).unwrap();
            engine.write(batch).unwrap();
            assert_eq!(get(&engine, Key::Orders(4)).unwrap().unwrap(), bytes);
            let scanned: Vec<_> = scan(&engine, Key::Orders(0)).collect::<Result<_>>().unwrap();
            assert_eq!(scanned, [(Key::Orders(4), bytes)]);
        }
        assert_eq!(engine.scan(&Key::Orders(0).family()).count(), 1);
        let mut batch = Batch::default();
        delete(&engine, &mut batch, Key::Orders(4)).unwrap();
        engine.write(batch).unwrap();
        assert_eq!(get(&engine, Key::Orders(4)).unwrap(), None);
    }
}
