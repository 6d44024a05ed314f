//! Pieces that are compressed once and belong to many gzip streams (RFC 1951, RFC 1952).
//!
//! Each piece is whole blocks that refer to nothing before them, and none is the last: they can follow
//! each other in any stream. What is the stream's own are its beginning and its end.

use bytes::Bytes;
use flate2::{Compress, Compression, Crc, FlushCompress, Status};

/// Deflate, no flags, no time, no system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// A last block with nothing in it.
const LAST_BLOCK: [u8; 5] = [1, 0, 0, 0xff, 0xff];

/// The sum over what went into a piece, or over what went into a stream so far.
#[derive(Debug, Default)]
pub(super) struct Sum(Crc);

impl Sum {
    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut crc = Crc::new();
        crc.update(bytes);
        Self(crc)
    }

    /// The same as if what went into `next` had come after what went into this.
    pub(super) fn add(&mut self, next: &Self) {
        self.0.combine(&next.0);
    }
}

/// How a stream begins.
pub(super) fn begin() -> Bytes {
    Bytes::from_static(&HEADER)
}

/// How a stream ends.
pub(super) fn end(sum: &Sum) -> Bytes {
    let (check, length) = (sum.0.sum().to_le_bytes(), sum.0.amount().to_le_bytes());
    [&LAST_BLOCK[..], &check, &length].concat().into()
}

/// A piece that is not compressed: for what goes to one stream alone.
pub(super) fn stored(bytes: &[u8]) -> Bytes {
    let mut piece = Vec::with_capacity(bytes.len() + 5);
    for block in bytes.chunks(usize::from(u16::MAX)) {
        let length = u16::try_from(block.len()).unwrap_or(u16::MAX);
        piece.push(0);
        piece.extend_from_slice(&length.to_le_bytes());
        piece.extend_from_slice(&(!length).to_le_bytes());
        piece.extend_from_slice(block);
    }
    piece.into()
}

/// Makes pieces.
pub(super) struct Packer(Compress);

impl Packer {
    pub(super) fn new() -> Self {
        Self(Compress::new(Compression::fast(), false))
    }

    pub(super) fn pack(&mut self, bytes: &[u8]) -> Bytes {
        self.0.reset();
        let mut piece = Vec::with_capacity(bytes.len() / 4 + 64);
        loop {
            let read = usize::try_from(self.0.total_in()).unwrap_or(usize::MAX);
            let rest = bytes.get(read..).unwrap_or_default();
            let status = self.0.compress_vec(rest, &mut piece, FlushCompress::Sync);
            let read = usize::try_from(self.0.total_in()).unwrap_or(usize::MAX);
            // With room left, all is out.
            match status {
                Ok(Status::Ok) if read < bytes.len() || piece.len() == piece.capacity() => {
                    piece.reserve(piece.capacity().max(64));
                }
                Ok(Status::Ok | Status::BufError) => return piece.into(),
                // Not for any input; and there is a form that needs no compressor.
                Ok(Status::StreamEnd) | Err(_) => return stored(bytes),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn pieces_make_a_stream_in_any_order() {
        let mut packer = Packer::new();
        let random: Vec<u8> = (0..200_000).map(|_| rand::random()).collect();
        let repeated = b"id: 1\ndata: []\n\n".repeat(50_000);
        let texts = [&b""[..], b"a", &random, &repeated];
        for first in texts {
            for second in texts {
                let mut sum = Sum::default();
                let mut stream = begin().to_vec();
                stream.extend_from_slice(&stored(b"begin"));
                sum.add(&Sum::of(b"begin"));
                for text in [first, second, first] {
                    stream.extend_from_slice(&packer.pack(text));
                    sum.add(&Sum::of(text));
                }
                stream.extend_from_slice(&stored(second));
                sum.add(&Sum::of(second));
                stream.extend_from_slice(&end(&sum));
                let mut read = Vec::new();
                flate2::read::GzDecoder::new(&stream[..]).read_to_end(&mut read).unwrap();
                assert_eq!(read, [b"begin", first, second, first, second].concat());
            }
        }
        assert!(packer.pack(&repeated).len() < repeated.len() / 50);
    }
}
