//! The layers of a configuration laid over each other, each value with its origin.
//!
//! Knows TOML, the environment's naming and nothing about what a key means.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What every environment override begins with.
const ENV_PREFIX: &str = "PYGMY_";
/// The largest configuration file that is read. Far above any real one.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Where a configuration is read from, lowest layer first.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The TOML file.
    pub file: Option<PathBuf>,
    /// The environment as pairs; variables that are not `PYGMY_<SECTION>_<KEY>` are passed over,
    /// and so are empty ones.
    pub env: Vec<(String, String)>,
    /// Command line overrides: the flag as the user typed it, `section.key`, and the value.
    pub flags: Vec<(String, String, String)>,
}

impl Sources {
    /// A file and nothing on top of it.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self { file: Some(path.into()), ..Self::default() }
    }

    /// Adds this process's environment.
    #[must_use]
    pub fn with_process_env(mut self) -> Self {
        self.env = std::env::vars_os()
            .map(|(name, value)| {
                (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned())
            })
            .collect();
        self
    }

    /// Adds an override from the command line.
    #[must_use]
    pub fn with_flag(mut self, flag: &str, key: &str, value: impl Into<String>) -> Self {
        self.flags.push((flag.into(), key.into(), value.into()));
        self
    }
}

/// Why a configuration is refused: one line for each problem, each naming the place, the key and
/// what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .problems.join("\n"))]
pub struct ConfigError {
    /// The problems in the order of the file, at least one.
    pub problems: Vec<String>,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// The program's own default.
    BuiltIn,
    /// A file as a whole, for what is missing from it.
    File(Arc<str>),
    /// A line of a file.
    Line(Arc<str>, usize),
    /// An environment variable.
    Env(String),
    /// A command line flag.
    Flag(String),
}

impl Origin {
    /// Higher layers win over lower ones.
    pub(super) fn layer(&self) -> u8 {
        match self {
            Self::BuiltIn => 0,
            Self::File(_) | Self::Line(..) => 1,
            Self::Env(_) => 2,
            Self::Flag(_) => 3,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn => f.write_str("built-in default"),
            Self::File(path) => f.write_str(path),
            Self::Line(path, line) => write!(f, "{path}:{line}"),
            Self::Env(name) => write!(f, "environment variable {name}"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}

/// A value as a layer gives it, before anybody says which type it must have.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Integer(i64),
    Bool(bool),
    Text(String),
    /// From the environment or a flag: becomes what the key wants.
    Raw(String),
    List(Vec<Entry>),
    Table(Table),
    /// A TOML type that no key takes, by its name.
    Other(&'static str),
}

impl Value {
    /// The type in a reader's words.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Integer(_) => "a whole number",
            Self::Bool(_) => "true or false",
            Self::Text(_) | Self::Raw(_) => "a text",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
            Self::Other(name) => name,
        }
    }
}

/// A value and its origin.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) value: Value,
    pub(super) origin: Origin,
}

/// Keys with their values.
pub(super) type Table = BTreeMap<String, Entry>;

/// All layers laid over each other.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) sections: BTreeMap<String, Table>,
    /// Where a section's header stands, for what is missing from it.
    pub(super) headers: BTreeMap<String, Origin>,
    /// Where to send the reader when a whole section is missing.
    pub(super) base: Origin,
    /// Origin and message, in the order they were found.
    pub(super) problems: Vec<(Origin, String)>,
}

impl Document {
    /// Lays the file, the environment and the flags over each other. `known` are the section names.
    pub(super) fn load(sources: &Sources, known: &[&str]) -> Result<Self, ConfigError> {
        let mut document = match &sources.file {
            Some(path) => Self::read_file(path, known)?,
            None => Self {
                sections: BTreeMap::new(),
                headers: BTreeMap::new(),
                base: Origin::BuiltIn,
                problems: Vec::new(),
            },
        };
        for (name, value) in &sources.env {
            if let Some((section, key)) = env_key(name, known).filter(|_| !value.is_empty()) {
                document.set(section, &key, value, Origin::Env(name.clone()));
            }
        }
        for (flag, key, value) in &sources.flags {
            let origin = Origin::Flag(flag.clone());
            match key.split_once('.') {
                Some((section, key)) if known.contains(&section) => {
                    document.set(section, key, value, origin);
                }
                _ => document.problems.push((
                    origin,
                    format!(
                        "{key}: names no setting; write section.key with a section of {}",
                        known.join(", ")
                    ),
                )),
            }
        }
        Ok(document)
    }

    fn set(&mut self, section: &str, key: &str, value: &str, origin: Origin) {
        self.sections
            .entry(section.into())
            .or_default()
            .insert(key.into(), Entry { value: Value::Raw(value.into()), origin });
    }

    /// Adds a value where no layer has one yet.
    pub(super) fn set_default(&mut self, section: &str, key: &str, value: Value) {
        self.sections
            .entry(section.into())
            .or_default()
            .entry(key.into())
            .or_insert(Entry { value, origin: Origin::BuiltIn });
    }

    fn read_file(path: &Path, known: &[&str]) -> Result<Self, ConfigError> {
        let shown: Arc<str> = path.display().to_string().into();
        let refuse = |problem: String| ConfigError { problems: vec![problem] };
        let size = std::fs::metadata(path)
            .map_err(|error| refuse(format!("{shown}: cannot be read: {error}")))?
            .len();
        if size > FILE_BYTES_MAX {
            return Err(refuse(format!(
                "{shown}: has {size} bytes; a configuration has at most {FILE_BYTES_MAX}"
            )));
        }
        let text = std::fs::read_to_string(path)
            .map_err(|error| refuse(format!("{shown}: cannot be read: {error}")))?;
        Self::parse(&text, shown, known)
    }

    fn parse(text: &str, file: Arc<str>, known: &[&str]) -> Result<Self, ConfigError> {
        // The library's own display quotes the offending line, which may hold a secret: only its
        // message and the line number are passed on.
        let root = DeTable::parse(text).map_err(|error| {
            let line = error.span().map_or(1, |span| line_of(text, span.start));
            let message = error.message().trim().replace('\n', ", ");
            ConfigError { problems: vec![format!("{file}:{line}: not TOML: {message}")] }
        })?;
        let place = |start: usize| Origin::Line(file.clone(), line_of(text, start));
        let mut document = Self {
            sections: BTreeMap::new(),
            headers: BTreeMap::new(),
            base: Origin::File(file.clone()),
            problems: Vec::new(),
        };
        for (name, value) in root.into_inner() {
            let origin = place(name.span().start);
            let name = name.into_inner().into_owned();
            match value.into_inner() {
                _ if !known.contains(&name.as_str()) => document.problems.push((
                    origin,
                    format!("{name}: unknown section; the sections are {}", known.join(", ")),
                )),
                DeValue::Table(table) => {
                    document.headers.insert(name.clone(), origin);
                    document.sections.insert(name, convert_table(table, &place));
                }
                _ => document
                    .problems
                    .push((origin, format!("{name}: must be a section, written [{name}]"))),
            }
        }
        Ok(document)
    }

    /// Ends the reading: the problems, or nothing.
    pub(super) fn finish(mut self) -> Result<(), ConfigError> {
        if self.problems.is_empty() {
            return Ok(());
        }
        // By place, so that a reader goes through his file from top to bottom.
        self.problems.sort_by_key(|(origin, _)| match origin {
            Origin::BuiltIn | Origin::File(_) => (origin.layer(), 0),
            Origin::Line(_, line) => (origin.layer(), *line),
            Origin::Env(_) | Origin::Flag(_) => (origin.layer(), 0),
        });
        let problems =
            self.problems.iter().map(|(origin, text)| format!("{origin}: {text}")).collect();
        Err(ConfigError { problems })
    }
}

/// Splits `PYGMY_RAFT_HEARTBEAT_MS` into `raft` and `heartbeat_ms`.
fn env_key<'a>(name: &str, known: &[&'a str]) -> Option<(&'a str, String)> {
    let rest = name.strip_prefix(ENV_PREFIX)?.to_ascii_lowercase();
    known.iter().find_map(|section| {
        let key = rest.strip_prefix(section)?.strip_prefix('_')?;
        (!key.is_empty()).then(|| (*section, key.to_owned()))
    })
}

fn convert_table(table: DeTable<'_>, place: &impl Fn(usize) -> Origin) -> Table {
    table
        .into_iter()
        .map(|(key, value)| {
            let origin = place(key.span().start);
            (
                key.into_inner().into_owned(),
                Entry { value: convert(value.into_inner(), place), origin },
            )
        })
        .collect()
}

fn convert(value: DeValue<'_>, place: &impl Fn(usize) -> Origin) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or(Value::Other("a number beyond 64 bits"), Value::Integer),
        DeValue::Float(_) => Value::Other("a number with a fraction"),
        DeValue::Boolean(value) => Value::Bool(value),
        DeValue::Datetime(_) => Value::Other("a date"),
        DeValue::Array(values) => Value::List(
            values
                .into_iter()
                .map(|value: Spanned<DeValue<'_>>| {
                    let origin = place(value.span().start);
                    Entry { value: convert(value.into_inner(), place), origin }
                })
                .collect(),
        ),
        DeValue::Table(table) => Value::Table(convert_table(table, place)),
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count() + 1
}
