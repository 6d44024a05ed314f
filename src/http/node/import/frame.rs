//! From the pieces of a body to its records: lines, or in CSV lines that quotes may hold together.

use bytes::{Bytes, BytesMut};

use crate::api::IMPORT_ROW_BYTES_MAX;

/// A record without its line break.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// The line on which it begins, from 1.
    pub(super) line: u64,
    pub(super) bytes: Bytes,
    /// Whether it ends within quotes: the body ended there.
    pub(super) is_open: bool,
}

/// The record that begins on this line does not end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong {
    pub(super) line: u64,
}

/// Where the scan is within a line of CSV.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// A quote here opens a field.
    FieldStart,
    Plain,
    Quoted,
    /// Behind a quote that closes the field, unless another one follows.
    Closed,
}

/// Cuts records, and holds no more than one that is not whole yet and the piece that came last.
pub(super) struct Framer {
    quotes: bool,
    buffer: BytesMut,
    scanned: usize,
    place: Place,
    line: u64,
    breaks: u64,
    is_begun: bool,
}

impl Framer {
    /// `quotes`: line breaks within quotes belong to the record.
    pub(super) fn new(quotes: bool) -> Self {
        Self {
            quotes,
            buffer: BytesMut::new(),
            scanned: 0,
            place: Place::FieldStart,
            line: 1,
            breaks: 0,
            is_begun: false,
        }
    }

    pub(super) fn push(&mut self, piece: &[u8]) {
        self.buffer.extend_from_slice(piece);
    }

    /// The next record that is whole. Empty lines are none.
    pub(super) fn next(&mut self) -> Result<Option<Record>, TooLong> {
        if !self.is_begun && !self.skip_mark(false) {
            return Ok(None);
        }
        while let Some(&byte) = self.buffer.get(self.scanned) {
            if byte == b'\n' {
                if self.place != Place::Quoted {
                    let record = self.cut();
                    match record.bytes.len() {
                        0 => continue,
                        1..=IMPORT_ROW_BYTES_MAX => return Ok(Some(record)),
                        _ => return Err(TooLong { line: record.line }),
                    }
                }
                self.breaks += 1;
            }
            if self.quotes {
                self.place = match (self.place, byte) {
                    (Place::FieldStart | Place::Closed, b'"') => Place::Quoted,
                    (Place::Quoted, b'"') => Place::Closed,
                    (Place::Quoted, _) => Place::Quoted,
                    (_, b',') => Place::FieldStart,
                    _ => Place::Plain,
                };
            }
            self.scanned += 1;
        }
        match self.scanned > IMPORT_ROW_BYTES_MAX {
            true => Err(TooLong { line: self.line }),
            false => Ok(None),
        }
    }

    /// What is behind the last line break, when the body has ended.
    pub(super) fn last(&mut self) -> Option<Record> {
        if !self.is_begun {
            self.skip_mark(true);
        }
        let is_open = self.place == Place::Quoted;
        let bytes = without_return(self.buffer.split().freeze());
        (!bytes.is_empty()).then_some(Record { line: self.line, bytes, is_open })
    }

    /// Leaves out a byte order mark. `false`: too little is here to tell.
    fn skip_mark(&mut self, is_all: bool) -> bool {
        const MARK: &[u8] = "\u{feff}".as_bytes();
        if self.buffer.len() < MARK.len() && !is_all {
            return false;
        }
        if self.buffer.starts_with(MARK) {
            let _mark = self.buffer.split_to(MARK.len());
        }
        self.is_begun = true;
        true
    }

    fn cut(&mut self) -> Record {
        let line = self.line;
        let mut bytes = self.buffer.split_to(self.scanned + 1).freeze();
        bytes.truncate(self.scanned);
        self.line += self.breaks + 1;
        (self.scanned, self.breaks, self.place) = (0, 0, Place::FieldStart);
        Record { line, bytes: without_return(bytes), is_open: false }
    }
}

/// Of the line break CRLF the first half is left.
fn without_return(mut bytes: Bytes) -> Bytes {
    if bytes.last() == Some(&b'\r') {
        bytes.truncate(bytes.len() - 1);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines and texts of the records, with the body cut into pieces of this size.
    fn records(text: &str, quotes: bool, size: usize) -> Vec<(u64, String)> {
        let mut framer = Framer::new(quotes);
        let mut all = Vec::new();
        for piece in text.as_bytes().chunks(size) {
            framer.push(piece);
            while let Some(record) = framer.next().unwrap() {
                all.push(record);
            }
        }
        all.extend(framer.last());
        all.iter()
            .map(|record| (record.line, String::from_utf8(record.bytes.to_vec()).unwrap()))
            .collect()
    }

    #[test]
    fn however_the_body_is_cut_the_records_are_the_same() {
        let text = "\u{feff}a,b\r\n\r\n1,\"x\ny\"\"\n,z\"\n2,5\" disk\n\n\"q\"\"\",3\n4,é";
        let expected = [
            (1, "a,b"),
            (3, "1,\"x\ny\"\"\n,z\""),
            (6, "2,5\" disk"),
            (8, "\"q\"\"\",3"),
            (9, "4,é"),
        ];
        let expected = expected.map(|(line, text)| (line, text.to_owned()));
        for size in 1..=text.len() {
            assert_eq!(records(text, true, size), expected, "pieces of {size} bytes");
        }
        assert_eq!(records("{\"a\n\"b\n", false, 2).len(), 2, "quotes mean nothing in NDJSON");
        assert_eq!(records("", true, 1), []);
        assert_eq!(records("x", true, 1), [(1, "x".to_owned())]);
    }

    #[test]
    fn a_record_without_an_end_is_found_out_and_not_held() {
        let mut framer = Framer::new(true);
        framer.push(b"a,b\n\"");
        assert_eq!(framer.next().unwrap().unwrap().line, 1);
        let mut pushed = 0;
        let found = loop {
            framer.push(&[b'\n'; 1024]);
            pushed += 1024;
            if let Err(found) = framer.next() {
                break found;
            }
            assert!(pushed <= IMPORT_ROW_BYTES_MAX, "it is held");
        };
        assert_eq!(found, TooLong { line: 2 });
        let mut framer = Framer::new(true);
        framer.push(b"a,\"b\n");
        assert_eq!(framer.next(), Ok(None));
        assert!(framer.last().unwrap().is_open);
    }
}
