//! Server-sent events, read from bytes as they come (HTML standard, section 9.2).

use super::error::Failure;

/// The largest event that is read: far more than one log index can bring.
const EVENT_BYTES_MAX: usize = 16 << 20;

/// What stands between two empty lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Event {
    /// The place to resume from.
    pub(super) id: Option<String>,
    /// Its name, if it has one.
    pub(super) name: Option<String>,
    /// Its lines; none where it only moves the place, or is a comment.
    pub(super) data: Option<String>,
}

/// Bytes that are no whole event yet.
#[derive(Debug, Default)]
pub(super) struct Events {
    buffer: Vec<u8>,
    /// Bytes of the buffer that are lines of `event` already.
    read: usize,
    event: Event,
}

impl Events {
    /// Adds what came.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.buffer.drain(..self.read);
        self.read = 0;
        self.buffer.extend_from_slice(bytes);
        let held = self.buffer.len() + self.event.data.as_ref().map_or(0, String::len);
        if held > EVENT_BYTES_MAX {
            return Err(Failure::Body(format!("an event is larger than {EVENT_BYTES_MAX} bytes")));
        }
        Ok(())
    }

    /// The next event that is here whole.
    pub(super) fn next(&mut self) -> Option<Event> {
        loop {
            let rest = &self.buffer[self.read..];
            let length = rest.iter().position(|byte| *byte == b'\n')?;
            let line = String::from_utf8_lossy(&rest[..length]).into_owned();
            self.read += length + 1;
            let line = line.strip_suffix('\r').unwrap_or(&line);
            if line.is_empty() {
                return Some(std::mem::take(&mut self.event));
            }
            self.field(line);
        }
    }

    fn field(&mut self, line: &str) {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "id" => self.event.id = Some(value.to_owned()),
            "event" => self.event.name = Some(value.to_owned()),
            "data" => match &mut self.event.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.event.data = Some(value.to_owned()),
            },
            // A comment, or a field that is not for us.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: Option<&str>, name: Option<&str>, data: Option<&str>) -> Event {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Event { id: owned(id), name: owned(name), data: owned(data) }
    }

    #[test]
    fn events_are_the_same_however_the_bytes_come() {
        let text =
            ":\nid: 7\n\nid: 8\r\ndata: [1]\r\n\r\nevent: error\ndata:a\ndata: b:\u{e4}\n\nid: 9\n";
        let expected = [
            event(Some("7"), None, None),
            event(Some("8"), None, Some("[1]")),
            event(None, Some("error"), Some("a\nb:\u{e4}")),
        ];
        for size in [1, 2, 3, 7, 1000] {
            let mut events = Events::default();
            let mut found = Vec::new();
            for bytes in text.as_bytes().chunks(size) {
                events.push(bytes).unwrap();
                found.extend(std::iter::from_fn(|| events.next()));
            }
            // What is not whole at the end is none.
            assert_eq!(found, expected, "{size} bytes at a time");
        }
    }

    #[test]
    fn an_event_without_end_is_not_kept_for_ever() {
        let mut events = Events::default();
        let line = [b"data: ".as_slice(), &vec![b'x'; 1 << 20], b"\n"].concat();
        let refused = (0..100).position(|_| {
            let pushed = events.push(&line);
            while events.next().is_some() {}
            pushed.is_err()
        });
        assert!(refused.is_some_and(|pushed| pushed <= 16), "{refused:?}");
    }
}
