//! Finding items by words, and listing them in any order.
//!
//! The [`Index`] is derived from the state, and lies beside it: it is built behind the applies, in
//! immutable segments that are merged as they grow, and how far it has come is nobody's outcome. The
//! state only notes which items changed what they are found or sorted by (`Relisted`). A [`Listing`]
//! takes what the index covers from there and looks at the rest itself, so that an answer is exactly
//! right for its view, with an old index and with none.

mod bits;
mod dictionary;
mod fold;
mod index;
mod listing;
mod lookup;
mod order;
mod page;
mod relisted;
mod segment;
#[cfg(test)]
mod tests;
mod walk;

pub use fold::fold;
pub use index::Index;
pub use listing::{
    Listing, ListingPage, Position, QUERY_BYTES_MAX, QueryError, Sort, SortBy, SortKey, Words,
};
pub(crate) use relisted::Relisted;
