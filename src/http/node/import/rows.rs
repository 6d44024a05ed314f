//! From records to rows of items: the CSV header, fields, JSON lines, and every check of a row.

use csv_core::ReadRecordResult;
use pygmy_storage::command::PutItemsRow;

use super::frame::Record;
use crate::{
    amount::parse_cents,
    api::{IMPORT_ROW_BYTES_MAX, ItemRow, RowProblem},
    http::{
        node::{extract::parse_json, items::ranges_of_item},
        problem::{ApiError, Code},
    },
};

/// The most columns that are looked at. There are five.
const COLUMNS_MAX: usize = 64;

/// What the body is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Csv,
    Ndjson,
}

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Id,
    Title,
    Topic,
    /// In cents.
    Price,
    /// As an amount.
    Cost,
    Stock,
}

impl Column {
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "id" | "ItemNumber" => Self::Id,
            "title" | "Title" => Self::Title,
            "topic" | "Topic" => Self::Topic,
            "price_cents" => Self::Price,
            "Cost" => Self::Cost,
            "stock" | "Stock" => Self::Stock,
            _ => return None,
        })
    }

    /// The field of the interface that it fills.
    fn pointer(self) -> &'static str {
        match self {
            Self::Id => "/id",
            Self::Title => "/title",
            Self::Topic => "/topic",
            Self::Price | Self::Cost => "/price_cents",
            Self::Stock => "/stock",
        }
    }
}

/// The header of a CSV file.
struct Header {
    columns: Vec<(Column, String)>,
}

impl Header {
    fn read(fields: &[&str]) -> Result<Self, ApiError> {
        let refuse = |detail: String| Err(ApiError::new(Code::Malformed, detail));
        if let [only] = fields
            && let Some(separator) = only.chars().find(|c| matches!(c, ';' | '\t' | '|'))
        {
            return refuse(format!(
                "The columns are separated by {separator:?}; separate them by commas."
            ));
        }
        let mut columns: Vec<(Column, String)> = Vec::new();
        for name in fields.iter().map(|name| name.trim()) {
            let Some(column) = Column::parse(name) else {
                return refuse(format!(
                    "The column {name:?} is unknown; the columns are id,title,topic,price_cents,stock."
                ));
            };
            let same = |(other, _): &&(Column, String)| other.pointer() == column.pointer();
            if let Some((_, other)) = columns.iter().find(same) {
                return refuse(format!("The columns {other:?} and {name:?} say the same."));
            }
            columns.push((column, name.to_owned()));
        }
        for (pointer, name) in [
            ("/id", "id"),
            ("/title", "title"),
            ("/topic", "topic"),
            ("/price_cents", "price_cents"),
        ] {
            if !columns.iter().any(|(column, _)| column.pointer() == pointer) {
                return refuse(format!(
                    "The column {name:?} is missing; the first line names the columns, as in \
                     id,title,topic,price_cents,stock."
                ));
            }
        }
        Ok(Self { columns })
    }

    /// The name that a field of the interface has in this file.
    fn name<'a>(&'a self, pointer: &'a str) -> &'a str {
        let column = self.columns.iter().find(|(column, _)| column.pointer() == pointer);
        column.map_or(pointer, |(_, name)| name)
    }

    fn row(&self, fields: &[&str]) -> Result<ItemRow, (String, String)> {
        if fields.len() != self.columns.len() {
            let (count, expected) = (fields.len(), self.columns.len());
            return Err((String::new(), format!("has {count} fields instead of {expected}")));
        }
        let mut row = ItemRow {
            id: 0,
            title: String::new(),
            topic: String::new(),
            price_cents: 0,
            stock: None,
        };
        for ((column, name), field) in self.columns.iter().zip(fields) {
            let number = || {
                let digits = field.trim();
                let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
                let number = digits.parse().ok().filter(|_| plain);
                number.ok_or_else(|| (name.clone(), format!("{digits:?} is no whole number")))
            };
            match column {
                Column::Id => row.id = number()?,
                Column::Title => row.title = (*field).to_owned(),
                Column::Topic => row.topic = (*field).to_owned(),
                Column::Price => row.price_cents = number()?,
                Column::Cost => {
                    row.price_cents = parse_cents(field.trim())
                        .map_err(|what| (name.clone(), format!("{field:?}: {what}")))?;
                }
                Column::Stock if field.trim().is_empty() => {}
                Column::Stock => row.stock = Some(number()?),
            }
        }
        Ok(row)
    }
}

/// Reads records one after the other.
pub(super) struct Rows {
    format: Format,
    header: Option<Header>,
    fields: Fields,
}

/// Takes records of CSV apart.
struct Fields {
    csv: csv_core::Reader,
    text: Vec<u8>,
    ends: Vec<usize>,
}

impl Rows {
    pub(super) fn new(format: Format) -> Self {
        Self {
            format,
            header: None,
            fields: Fields {
                csv: csv_core::Reader::new(),
                text: vec![0; IMPORT_ROW_BYTES_MAX + 1],
                ends: vec![0; COLUMNS_MAX],
            },
        }
    }

    /// The row in a record, or what is wrong with it; neither for the header.
    ///
    /// Errors: the header is wrong, so that nothing can be read.
    pub(super) fn read(
        &mut self,
        record: &Record,
    ) -> Result<Option<Result<PutItemsRow, RowProblem>>, ApiError> {
        let line = record.line;
        let problem = |(pointer, detail)| Ok(Some(Err(RowProblem { line, pointer, detail })));
        let row = match self.format {
            Format::Ndjson => match parse_json::<ItemRow>(&record.bytes) {
                Ok(row) => row,
                Err(error) => {
                    let said = error.to_problem();
                    let first = said.errors.into_iter().next();
                    return problem(match first {
                        Some(first) => (first.pointer, first.detail),
                        None => (String::new(), said.detail),
                    });
                }
            },
            Format::Csv => {
                if record.is_open {
                    return problem((String::new(), "a quote is open at the end".to_owned()));
                }
                let fields = match self.fields.read(record) {
                    Ok(fields) => fields,
                    Err(detail) if self.header.is_none() => {
                        let detail = format!("The header line cannot be read: it {detail}.");
                        return Err(ApiError::new(Code::Malformed, detail));
                    }
                    Err(detail) => return problem((String::new(), detail.to_owned())),
                };
                let Some(header) = &self.header else {
                    self.header = Some(Header::read(&fields)?);
                    return Ok(None);
                };
                match header.row(&fields) {
                    Ok(row) => row,
                    Err(wrong) => return problem(wrong),
                }
            }
        };
        if let Some(wrong) =
            ranges_of_item(Some(&row.title), Some(&row.topic), Some(row.price_cents), row.stock)
                .first()
        {
            let pointer = match &self.header {
                Some(header) => header.name(&wrong.pointer).to_owned(),
                None => wrong.pointer,
            };
            return problem((pointer, wrong.detail));
        }
        let ItemRow { id, title, topic, price_cents, stock } = row;
        Ok(Some(Ok(PutItemsRow { id, title, topic, price_cents, stock })))
    }

    /// Errors: there was no header, which CSV must have.
    pub(super) fn finish(&self) -> Result<(), ApiError> {
        if self.format == Format::Csv && self.header.is_none() {
            let detail = "The body is empty; the first line names the columns, as in \
                          id,title,topic,price_cents,stock.";
            return Err(ApiError::new(Code::Malformed, detail));
        }
        Ok(())
    }
}

impl Fields {
    fn read(&mut self, record: &Record) -> Result<Vec<&str>, &'static str> {
        // The pieces of the file were cut at line breaks, so that each begins anew.
        self.csv.reset();
        let (mut input, mut written, mut count) = (&record.bytes[..], 0, 0);
        loop {
            let (result, read, filled, ended) =
                self.csv.read_record(input, &mut self.text[written..], &mut self.ends[count..]);
            (input, written, count) = (&input[read..], written + filled, count + ended);
            match result {
                // The end is told by reading nothing.
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::Record | ReadRecordResult::End => break,
                ReadRecordResult::OutputFull => return Err("is too long"),
                ReadRecordResult::OutputEndsFull => return Err("has too many fields"),
            }
        }
        let text = std::str::from_utf8(&self.text[..written]).map_err(|_| "is not UTF-8")?;
        let mut fields = Vec::with_capacity(count);
        let mut start = 0;
        for &end in &self.ends[..count] {
            // Quotes and commas are ASCII, but UTF-8 that is wrong in a field may be right in all.
            fields.push(text.get(start..end).ok_or("is not UTF-8")?);
            start = end;
        }
        Ok(fields)
    }
}
