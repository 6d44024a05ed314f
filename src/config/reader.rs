//! Typed reading of one section: types, ranges, and at the end the keys that nobody asked for.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;

use super::document::{Document, Entry, Origin, Table, Value};

/// The longest name of a node, a cluster or a facade, in bytes: names appear in headers and paths.
const NAME_BYTES_MAX: usize = 64;

/// A value that was read, with its origin for later cross-checks.
#[derive(Debug, Clone)]
pub(super) struct Setting<T> {
    pub(super) value: T,
    pub(super) origin: Origin,
}

impl<T> Setting<T> {
    /// The origin to blame when this value and `other` do not go together: whichever a user wrote.
    pub(super) fn blame<'a, U>(&'a self, other: &'a Setting<U>) -> &'a Origin {
        if other.origin.layer() > self.origin.layer() { &other.origin } else { &self.origin }
    }
}

/// Reads the keys of one section.
pub(super) struct Reader<'a> {
    section: String,
    table: Table,
    /// Where the section itself stands.
    header: Origin,
    problems: &'a mut Vec<(Origin, String)>,
    asked: Vec<&'static str>,
}

impl Document {
    /// Takes a section out for reading.
    pub(super) fn section(&mut self, name: &str) -> Reader<'_> {
        Reader {
            section: name.into(),
            table: self.sections.remove(name).unwrap_or_default(),
            header: self.headers.get(name).unwrap_or(&self.base).clone(),
            problems: &mut self.problems,
            asked: Vec::new(),
        }
    }
}

impl Reader<'_> {
    /// The section's name.
    pub(super) fn section(&self) -> &str {
        &self.section
    }

    /// Where the section stands.
    pub(super) fn header(&self) -> Origin {
        self.header.clone()
    }

    /// How many problems there are so far, to see whether a reading added one.
    pub(super) fn problem_count(&self) -> usize {
        self.problems.len()
    }

    /// Reports a problem with a key of this section.
    pub(super) fn refuse(&mut self, origin: &Origin, key: &str, what: impl AsRef<str>) {
        self.problems.push((origin.clone(), format!("{}.{key}: {}", self.section, what.as_ref())));
    }

    /// Reports a problem with a key of another section that only shows here.
    pub(super) fn refuse_elsewhere(&mut self, origin: &Origin, key: &str, what: impl AsRef<str>) {
        self.problems.push((origin.clone(), format!("{key}: {}", what.as_ref())));
    }

    /// Takes a key's entry, if a layer has it.
    pub(super) fn take(&mut self, key: &'static str) -> Option<Entry> {
        self.asked.push(key);
        self.table.remove(key)
    }

    fn missing<T>(&mut self, key: &'static str, placeholder: T) -> Setting<T> {
        let origin = self.header();
        self.refuse(&origin, key, "is missing");
        Setting { value: placeholder, origin }
    }

    /// A number within `range`; outside it, the message says the range and the default.
    pub(super) fn number(
        &mut self,
        key: &'static str,
        default: u64,
        range: RangeInclusive<u64>,
    ) -> Setting<u64> {
        let Some(entry) = self.take(key) else {
            return Setting { value: default, origin: Origin::BuiltIn };
        };
        let (low, high) = (*range.start(), *range.end());
        let wanted = format!("must be a whole number from {low} to {high} (default {default})");
        match whole_number(&entry.value) {
            Ok(number) => {
                match u64::try_from(number).ok().filter(|number| range.contains(number)) {
                    Some(value) => return Setting { value, origin: entry.origin },
                    None => self.refuse(&entry.origin, key, format!("{number} {wanted}")),
                }
            }
            Err(found) => self.refuse(&entry.origin, key, format!("{wanted}, not {found}")),
        }
        Setting { value: default, origin: entry.origin }
    }

    /// As [`Reader::number`], but without a default: 0 stands in for what is refused.
    pub(super) fn number_required(
        &mut self,
        key: &'static str,
        range: RangeInclusive<u64>,
    ) -> Setting<u64> {
        let Some(entry) = self.take(key) else { return self.missing(key, 0) };
        let wanted = format!("must be a whole number from {} to {}", range.start(), range.end());
        match whole_number(&entry.value) {
            Ok(number) => {
                match u64::try_from(number).ok().filter(|number| range.contains(number)) {
                    Some(value) => return Setting { value, origin: entry.origin },
                    None => self.refuse(&entry.origin, key, format!("{number} {wanted}")),
                }
            }
            Err(found) => self.refuse(&entry.origin, key, format!("{wanted}, not {found}")),
        }
        Setting { value: 0, origin: entry.origin }
    }

    /// `true` or `false`.
    pub(super) fn switch(&mut self, key: &'static str, default: bool) -> Setting<bool> {
        let Some(entry) = self.take(key) else {
            return Setting { value: default, origin: Origin::BuiltIn };
        };
        let value = match &entry.value {
            Value::Bool(value) => Some(*value),
            Value::Raw(text) => text.parse().ok(),
            _ => None,
        };
        if value.is_none() {
            let found = described(&entry.value);
            self.refuse(
                &entry.origin,
                key,
                format!("must be true or false (default {default}), not {found}"),
            );
        }
        Setting { value: value.unwrap_or(default), origin: entry.origin }
    }

    /// A text that is not empty. Without a default it is required.
    pub(super) fn text(&mut self, key: &'static str, default: Option<&str>) -> Setting<String> {
        let Some(entry) = self.take(key) else {
            return match default {
                Some(default) => Setting { value: default.into(), origin: Origin::BuiltIn },
                None => self.missing(key, String::new()),
            };
        };
        match entry.value {
            Value::Text(value) | Value::Raw(value) if !value.is_empty() => {
                Setting { value, origin: entry.origin }
            }
            Value::Text(_) | Value::Raw(_) => {
                self.refuse(&entry.origin, key, "must not be empty");
                Setting { value: default.unwrap_or_default().into(), origin: entry.origin }
            }
            other => {
                self.refuse(
                    &entry.origin,
                    key,
                    format!("must be a text in quotes, not {}", other.type_name()),
                );
                Setting { value: default.unwrap_or_default().into(), origin: entry.origin }
            }
        }
    }

    /// A name: short and plain, because it appears in headers, paths and tables.
    pub(super) fn name(&mut self, key: &'static str, default: Option<&str>) -> Setting<String> {
        let name = self.text(key, default);
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if name.value.len() > NAME_BYTES_MAX || !name.value.bytes().all(plain) {
            let what = format!(
                "{:?} must be 1 to {NAME_BYTES_MAX} of the characters a-z, A-Z, 0-9, '-', '_' and \
                '.'",
                name.value
            );
            self.refuse(&name.origin, key, what);
        }
        name
    }

    /// An address to listen on. `insecure` says whether it may be one that others can reach.
    pub(super) fn listen(
        &mut self,
        key: &'static str,
        default: Option<&str>,
        insecure: bool,
    ) -> Setting<SocketAddr> {
        let problems_before = self.problems.len();
        let text = self.text(key, default);
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        if self.problems.len() > problems_before {
            return Setting { value: nowhere, origin: text.origin };
        }
        let Ok(value) = text.value.parse::<SocketAddr>() else {
            self.refuse(
                &text.origin,
                key,
                format!("{:?} is not an address and port such as \"127.0.0.1:8080\"", text.value),
            );
            return Setting { value: nowhere, origin: text.origin };
        };
        if !value.ip().is_loopback() && !insecure {
            let what = format!(
                "{value} can be reached from other machines, and this listener has neither TLS \
                nor tokens; \
                 listen on 127.0.0.1 or set {}.insecure = true",
                self.section
            );
            self.refuse(&text.origin, key, what);
        }
        Setting { value, origin: text.origin }
    }

    /// The address of somebody else: `host:port`, the host a name or a number.
    pub(super) fn address(&mut self, key: &'static str) -> Setting<String> {
        let text = self.text(key, None);
        if !text.value.is_empty() {
            self.check_address(&text.origin, key, &text.value);
        }
        text
    }

    fn check_address(&mut self, origin: &Origin, key: &str, text: &str) {
        if !is_address(text) {
            self.refuse(
                origin,
                key,
                format!("{text:?} is not a host and port such as \"127.0.0.1:8101\""),
            );
        }
    }

    /// A list of texts; from the environment or a flag, separated by commas.
    pub(super) fn texts(&mut self, key: &'static str) -> Setting<Vec<Setting<String>>> {
        match self.texts_if_given(key) {
            Some(texts) => texts,
            None => self.missing(key, Vec::new()),
        }
    }

    /// As [`Reader::texts`], where the key may be left out.
    pub(super) fn texts_if_given(
        &mut self,
        key: &'static str,
    ) -> Option<Setting<Vec<Setting<String>>>> {
        let entry = self.take(key)?;
        let mut texts = Vec::new();
        match entry.value {
            Value::Raw(text) => {
                for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
                    texts.push(Setting { value: part.to_owned(), origin: entry.origin.clone() });
                }
            }
            Value::List(entries) => {
                for element in entries {
                    match element.value {
                        Value::Text(value) => texts.push(Setting { value, origin: element.origin }),
                        other => self.refuse(
                            &element.origin,
                            key,
                            format!(
                                "must be a list of texts in quotes, but one of them is {}",
                                other.type_name()
                            ),
                        ),
                    }
                }
            }
            other => {
                self.refuse(
                    &entry.origin,
                    key,
                    format!("must be a list of texts, not {}", other.type_name()),
                );
            }
        }
        Some(Setting { value: texts, origin: entry.origin })
    }

    /// A list of addresses, at least one.
    pub(super) fn addresses(&mut self, key: &'static str, count_max: usize) -> Vec<String> {
        let problems_before = self.problems.len();
        let texts = self.texts(key);
        for text in &texts.value {
            self.check_address(&text.origin, key, &text.value);
        }
        let count = texts.value.len();
        if self.problems.len() == problems_before && (count == 0 || count > count_max) {
            self.refuse(
                &texts.origin,
                key,
                format!("must name 1 to {count_max} addresses, not {count}"),
            );
        }
        texts.value.into_iter().map(|text| text.value).collect()
    }

    /// A list of tables (`[[section.key]]`), each read by `read`. Its keys are shown with their
    /// place in the list, from 0.
    pub(super) fn tables<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(&mut Reader<'_>) -> T,
    ) -> Setting<Vec<T>> {
        let Some(entry) = self.take(key) else { return self.missing(key, Vec::new()) };
        let Value::List(entries) = entry.value else {
            let what = format!("must be a list of tables, each written [[{}.{key}]]", self.section);
            self.refuse(&entry.origin, key, what);
            return Setting { value: Vec::new(), origin: entry.origin };
        };
        let mut rows = Vec::new();
        for (place, element) in entries.into_iter().enumerate() {
            let Value::Table(table) = element.value else {
                let what =
                    format!("must be a list of tables, each written [[{}.{key}]]", self.section);
                self.refuse(&element.origin, key, what);
                continue;
            };
            let mut reader = Reader {
                section: format!("{}.{key}[{place}]", self.section),
                table,
                header: element.origin,
                problems: &mut *self.problems,
                asked: Vec::new(),
            };
            rows.push(read(&mut reader));
            reader.finish();
        }
        Setting { value: rows, origin: entry.origin }
    }

    /// Refuses the keys that nobody asked for.
    pub(super) fn finish(self) {
        let Self { section, table, problems, asked, .. } = self;
        let unknown: BTreeMap<_, _> = table.into_iter().collect();
        for (key, entry) in unknown {
            problems.push((
                entry.origin,
                format!(
                    "{section}.{key}: unknown key; the keys of {section} are {}",
                    asked.join(", ")
                ),
            ));
        }
    }
}

fn whole_number(value: &Value) -> Result<i64, String> {
    match value {
        Value::Integer(number) => Ok(*number),
        Value::Raw(text) => text.trim().parse().map_err(|_| format!("{text:?}")),
        other => Err(other.type_name().into()),
    }
}

/// A value in a message: what the user typed where that is short, its type otherwise.
fn described(value: &Value) -> String {
    match value {
        Value::Raw(text) => format!("{text:?}"),
        other => other.type_name().into(),
    }
}

/// Whether `text` is `host:port` with a port that can be connected to.
fn is_address(text: &str) -> bool {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return address.port() != 0;
    }
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    !host.is_empty()
        && host.len() <= 253
        && host.bytes().all(plain)
        && port.parse::<u16>().is_ok_and(|port| port != 0)
}
