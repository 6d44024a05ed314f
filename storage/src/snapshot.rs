//! A whole state as one file: export, and import that replaces.
//!
//! A snapshot is a magic number and a run of frames, each `length: u32 LE | sealed body`. The body
//! begins with a tag and a number. First comes the meta frame, then pages of items and chunks of
//! history exactly as the state database packs them, last an end frame with the counts and the
//! BLAKE3 hash of every byte before it. A file without its end frame, or with one byte changed, is
//! refused before anything of it is used.

use std::io::{Read, Write};

use serde::Serialize;

use crate::{
    blob, checkpoint,
    checkpoint::{Meta, item_page, page_of, reservation_page},
    codec,
    engine::{Batch, Engine},
    error::{Error, Result},
    key::Key,
    query::View,
    sequence::{CHUNK_ROWS, Sequence},
    state::PAGE_IDS,
};

const MAGIC: &[u8; 8] = b"PYGMYSN1";
const END: u8 = 0xff;
/// Bytes written to an engine at a time while importing.
const IMPORT_BATCH_BYTES: usize = 1 << 20;

/// What a snapshot contains, from its first frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// What Raft stored with the state: last log id and membership.
    pub raft: Vec<u8>,
    /// The newest entry in it.
    pub applied: Option<u64>,
    /// Orders ever placed.
    pub orders: u64,
    /// Items.
    pub items: u64,
}

/// Writes a view as a snapshot. Reads packed history from the view's engine, which may go on
/// changing; the rows asked of it do not. Returns the bytes written.
///
/// Errors: [`Error::Gone`] for a view that is too old; see [`View::pin`].
pub fn export(view: &View, out: &mut dyn Write) -> Result<u64> {
    let _pin = view.pin()?;
    let mut writer = FrameWriter::begin(out)?;
    let state = &view.state;
    writer.frame(Key::Meta, &codec::encode(&Meta::of(state)))?;

    let mut next = Some(0);
    while let Some((&id, _)) = next.and_then(|next| state.items.range(next..).next()) {
        let page = page_of(id);
        writer.page(Key::ItemPage(page), item_page(state, page).as_ref())?;
        next = first_id_after(page);
    }
    next = Some(0);
    while let Some((&id, _)) = next.and_then(|next| state.reservations.range(next..).next()) {
        let page = page_of(id);
        writer.page(Key::ReservationPage(page), reservation_page(state, page).as_ref())?;
        next = first_id_after(page);
    }
    export_history(view, &mut writer, &state.orders, 0, Key::Orders)?;
    export_history(view, &mut writer, &state.ledger, 0, Key::Ledger)?;
    export_history(view, &mut writer, &state.cancellations, 0, Key::Cancellations)?;
    let first_chunk = state.changes.first_chunk();
    export_history(view, &mut writer, &state.changes.rows, first_chunk, Key::Changes)?;
    for number in state.keys.chunks_from(state.keys.base()) {
        writer.frame(Key::Keys(number), &codec::pack(&state.keys.chunk(number))?)?;
    }
    writer.end()
}

/// The first id that is on no page up to this one.
fn first_id_after(page: u64) -> Option<u64> {
    page.checked_add(1)?.checked_mul(PAGE_IDS)
}

fn export_history<T: Serialize>(
    view: &View,
    writer: &mut FrameWriter<'_>,
    sequence: &Sequence<T>,
    first_chunk: u64,
    key: impl Fn(u64) -> Key,
) -> Result<()> {
    for number in first_chunk..sequence.base() / CHUNK_ROWS {
        let Some(bytes) = blob::get(&**view.history.engine(), key(number))? else {
            return Err(Error::corrupt(format!("{:?}", key(number)), "it is missing"));
        };
        writer.frame(key(number), &bytes)?;
    }
    for number in sequence.chunks_from(sequence.base()) {
        writer.frame(key(number), &codec::pack(&sequence.chunk(number))?)?;
    }
    Ok(())
}

struct FrameWriter<'a> {
    out: &'a mut dyn Write,
    hasher: blake3::Hasher,
    bytes: u64,
    frames: u64,
}

impl<'a> FrameWriter<'a> {
    fn begin(out: &'a mut dyn Write) -> Result<Self> {
        let mut writer = Self { out, hasher: blake3::Hasher::new(), bytes: 0, frames: 0 };
        writer.raw(MAGIC)?;
        Ok(writer)
    }

    fn raw(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(|e| Error::io("writing a snapshot", e))?;
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    fn frame(&mut self, key: Key, payload: &[u8]) -> Result<()> {
        let mut body = key.encode(0).to_vec();
        body.extend_from_slice(payload);
        self.sealed(&body)?;
        self.frames += 1;
        Ok(())
    }

    fn page<T: Serialize>(&mut self, key: Key, page: Option<&T>) -> Result<()> {
        match page {
            Some(page) => self.frame(key, &codec::encode(page)),
            None => Ok(()),
        }
    }

    fn sealed(&mut self, body: &[u8]) -> Result<()> {
        let sealed = codec::seal_body(body);
        let length = u32::try_from(sealed.len())
            .ok()
            .filter(|_| sealed.len() <= codec::RECORD_BYTES_MAX)
            .ok_or_else(|| Error::TooLarge {
                what: "a frame of a snapshot".to_owned(),
                bytes: sealed.len(),
                limit: codec::RECORD_BYTES_MAX,
            })?;
        self.raw(&length.to_le_bytes())?;
        self.raw(&sealed)
    }

    fn end(mut self) -> Result<u64> {
        let mut body = vec![END];
        body.extend_from_slice(&self.frames.to_le_bytes());
        body.extend_from_slice(self.hasher.finalize().as_bytes());
        self.sealed(&body)?;
        self.out.flush().map_err(|e| Error::io("writing a snapshot", e))?;
        Ok(self.bytes)
    }
}

enum Frame {
    Record(Key, Vec<u8>),
    End,
}

/// Reads frames and checks each, and at the end all of them.
struct FrameReader<'a> {
    input: &'a mut dyn Read,
    hasher: blake3::Hasher,
    frames: u64,
}

impl<'a> FrameReader<'a> {
    fn new(input: &'a mut dyn Read) -> Result<Self> {
        let mut reader = Self { input, hasher: blake3::Hasher::new(), frames: 0 };
        let mut magic = [0; MAGIC.len()];
        reader.exact(&mut magic)?;
        reader.hasher.update(&magic);
        match &magic == MAGIC {
            true => Ok(reader),
            false => Err(damaged("it does not begin as a snapshot does")),
        }
    }

    fn exact(&mut self, bytes: &mut [u8]) -> Result<()> {
        self.input.read_exact(bytes).map_err(|e| match e.kind() {
            std::io::ErrorKind::UnexpectedEof => damaged("it is cut off"),
            _ => Error::io("reading a snapshot", e),
        })
    }

    fn next(&mut self) -> Result<Frame> {
        let mut length = [0; 4];
        self.exact(&mut length)?;
        let size = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
        if size > codec::RECORD_BYTES_MAX {
            return Err(damaged("a frame claims to be larger than any is"));
        }
        // Grows with what arrives, not with what a damaged length claims.
        let mut sealed = Vec::new();
        let read = (&mut *self.input)
            .take(size as u64)
            .read_to_end(&mut sealed)
            .map_err(|e| Error::io("reading a snapshot", e))?;
        if read != size {
            return Err(damaged("it is cut off"));
        }
        let body = codec::unseal_body(&sealed, "a frame of a snapshot")?;
        if body.first() == Some(&END) {
            self.check_end(body)?;
            return Ok(Frame::End);
        }
        self.hasher.update(&length);
        self.hasher.update(&sealed);
        self.frames += 1;
        let (key, payload) = body
            .split_at_checked(crate::key::KEY_BYTES)
            .ok_or_else(|| damaged("a frame without its key"))?;
        match Key::decode(key) {
            Some((key, 0)) => Ok(Frame::Record(key, payload.to_vec())),
            _ => Err(damaged("a frame with an unknown key")),
        }
    }

    fn check_end(&mut self, body: &[u8]) -> Result<()> {
        let mut expected = vec![END];
        expected.extend_from_slice(&self.frames.to_le_bytes());
        expected.extend_from_slice(self.hasher.finalize().as_bytes());
        if body != expected {
            return Err(damaged("its contents do not add up to its checksum"));
        }
        let mut more = [0; 1];
        match self.input.read(&mut more).map_err(|e| Error::io("reading a snapshot", e))? {
            0 => Ok(()),
            _ => Err(damaged("there are bytes after its end")),
        }
    }
}

fn damaged(detail: &str) -> Error {
    Error::corrupt("the snapshot", detail)
}

fn decode_meta(bytes: &[u8]) -> Result<Meta> {
    codec::decode(bytes, "the meta frame of a snapshot")
}

impl Header {
    fn of(meta: Meta) -> Self {
        Self {
            raft: meta.raft,
            applied: meta.applied,
            orders: meta.orders_next,
            items: meta.item_count,
        }
    }
}

/// Reads the first frame only.
pub fn read_header(input: &mut dyn Read) -> Result<Header> {
    match FrameReader::new(input)?.next()? {
        Frame::Record(Key::Meta, bytes) => Ok(Header::of(decode_meta(&bytes)?)),
        Frame::Record(..) | Frame::End => Err(damaged("it does not begin with its meta frame")),
    }
}

/// Checks a whole snapshot, without keeping anything of it.
pub fn verify(input: &mut dyn Read) -> Result<Header> {
    // One pass: the header's frame is the first of those that are checked.
    let mut reader = FrameReader::new(input)?;
    let mut header = None;
    loop {
        match reader.next()? {
            Frame::Record(Key::Meta, bytes) if header.is_none() => {
                header = Some(Header::of(decode_meta(&bytes)?));
            }
            Frame::Record(..) => {}
            Frame::End => {
                return header.ok_or_else(|| damaged("it has no meta frame"));
            }
        }
    }
}

/// Copies a snapshot, with something else of Raft's in it. What is written is whole only if this returns
/// `Ok`: the copy is checked as it is read.
pub fn rewrite(input: &mut dyn Read, out: &mut dyn Write, raft: &[u8]) -> Result<u64> {
    let mut reader = FrameReader::new(input)?;
    let mut writer = FrameWriter::begin(out)?;
    loop {
        match reader.next()? {
            Frame::Record(Key::Meta, bytes) => {
                let meta = Meta { raft: raft.to_vec(), ..decode_meta(&bytes)? };
                writer.frame(Key::Meta, &codec::encode(&meta))?;
            }
            Frame::Record(key, bytes) => writer.frame(key, &bytes)?,
            Frame::End => return writer.end(),
        }
    }
}

/// Fills a new, empty engine from a snapshot. The meta record is written last, after the whole file
/// was checked, so that an engine with a meta record is whole. Rests after each batch.
pub fn import(input: &mut dyn Read, engine: &dyn Engine, rest: &mut dyn FnMut()) -> Result<()> {
    let mut reader = FrameReader::new(input)?;
    let mut meta = None;
    let mut batch = Batch::default();
    loop {
        match reader.next()? {
            Frame::Record(Key::Meta, bytes) => meta = Some(bytes),
            Frame::Record(key, bytes) => {
                blob::put(engine, &mut batch, key, &bytes)?;
                if batch.bytes() >= IMPORT_BATCH_BYTES {
                    engine.write(std::mem::take(&mut batch))?;
                    rest();
                }
            }
            Frame::End => break,
        }
    }
    engine.write(batch)?;
    engine.sync()?;
    let Some(meta) = meta else { return Err(damaged("it has no meta frame")) };
    let mut batch = Batch::default();
    blob::put(engine, &mut batch, Key::Meta, &meta)?;
    engine.write(batch)?;
    engine.sync()?;
    // What was imported must also load: everything that hangs off the state is derived by that.
    match checkpoint::load(engine)? {
        Some(_) => Ok(()),
        None => Err(damaged("what was imported is not there")),
    }
}
