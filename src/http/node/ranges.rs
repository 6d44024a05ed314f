//! What is out of range in a request, collected place by place.

use std::fmt::Display;

use crate::{
    api::FieldError,
    http::problem::{ApiError, Code},
};

/// Collects what is out of range.
#[derive(Default)]
pub(super) struct Ranges(Vec<FieldError>);

impl Ranges {
    /// Place and reason are only written out where it does not hold: `format_args!`.
    pub(super) fn expect(&mut self, holds: bool, pointer: impl Display, detail: impl Display) {
        if !holds {
            let (pointer, detail) = (pointer.to_string(), detail.to_string());
            self.0.push(FieldError { pointer, detail });
        }
    }

    pub(super) fn text(&mut self, text: &str, min: usize, max: usize, pointer: impl Display) {
        let fits = (min..=max).contains(&text.len()) && !text.chars().any(char::is_control);
        let detail = format_args!("must be {min} to {max} bytes without control characters");
        self.expect(fits, pointer, detail);
    }

    /// How many places are wrong so far.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// The first place that is wrong.
    pub(super) fn first(self) -> Option<FieldError> {
        self.0.into_iter().next()
    }

    pub(super) fn finish(self) -> Result<(), ApiError> {
        match self.0.first() {
            None => Ok(()),
            Some(first) => {
                let detail = format!("{} {}.", first.pointer, first.detail);
                Err(ApiError::new(Code::Invalid, detail).errors(self.0))
            }
        }
    }
}
