//! What the parameters of `GET /v1/items` mean, and its cursors.

use std::fmt::Write;

use pygmy_storage::search::{Listing, Position, Sort, SortKey, Words};

use super::extract::Params;

/// Takes what says which items are asked for, and from where on.
pub(super) fn take(params: &mut Params) -> (Listing, Option<Position>) {
    let mut listing = Listing { topic: params.text("topic"), ..Listing::default() };
    if let Some(text) = params.text("q") {
        match Words::parse(&text) {
            Ok(words) => listing.words = Some(words),
            Err(error) => params.refuse("q", error.to_string()),
        }
    }
    match params.text("in_stock").as_deref() {
        None => {}
        Some("true") => listing.in_stock = Some(true),
        Some("false") => listing.in_stock = Some(false),
        Some(other) => params.refuse("in_stock", format!("{other:?} is neither true nor false")),
    }
    if let Some(name) = params.text("sort") {
        match Sort::parse(&name) {
            Some(sort) => listing.sort = sort,
            None => {
                let names = Sort::NAMES.join(", ");
                params.refuse("sort", format!("{name:?} is none of {names}, or one after a -"));
            }
        }
    }
    let after = params.text("cursor").and_then(|text| {
        let position = position(&listing, &text);
        if position.is_none() {
            params.refuse("cursor", "is none that this listing gave");
        }
        position
    });
    (listing, after)
}

/// The cursor of a place in a listing: opaque to clients, and good for no other listing. It names
/// what the last row was ordered by, not where it stood, so that it stays good while items change.
pub(super) fn cursor(listing: &Listing, position: &Position) -> String {
    let mut text = format!("i{:032x}-{:x}-", listing.fingerprint(), position.id);
    let written = match &position.key {
        SortKey::Number(number) => write!(text, "{number:x}"),
        SortKey::Text(key) => {
            text.push('t');
            key.bytes().try_for_each(|byte| write!(text, "{byte:02x}"))
        }
    };
    written.expect("a string takes what is written to it");
    text
}

/// The place that a cursor of this listing names.
fn position(listing: &Listing, text: &str) -> Option<Position> {
    let mut parts = text.rsplit('-');
    let (key, id) = (parts.next()?, parts.next()?);
    let key = match key.strip_prefix('t') {
        Some(hex) => SortKey::Text(String::from_utf8(bytes(hex)?).ok()?),
        None => SortKey::Number(u64::from_str_radix(key, 16).ok()?),
    };
    let position = Position { key, id: u64::from_str_radix(id, 16).ok()? };
    let is_ours = listing.takes(&position) && cursor(listing, &position) == text;
    is_ours.then_some(position)
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let pairs = hex.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_names_a_place_in_its_own_listing() {
        let by = |name| Listing { sort: Sort::parse(name).unwrap(), ..Listing::default() };
        for (listing, key) in [
            (by("id"), SortKey::Number(7)),
            (by("-price"), SortKey::Number(u64::MAX)),
            (by("title"), SortKey::Text("über -t".to_owned())),
            (by("-title"), SortKey::Text(String::new())),
        ] {
            let place = Position { key, id: 7 };
            let text = cursor(&listing, &place);
            assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'), "{text}");
            assert_eq!(position(&listing, &text), Some(place));
            assert_eq!(position(&by("updated"), &text), None, "of another listing");
            for other in [text.to_uppercase(), format!("{text}0x"), text.replacen('-', "-+", 1)] {
                assert_eq!(position(&listing, &other), None, "{other}");
            }
        }
        for text in ["", "i", "i1", "-", "--", "é-é-é", "i-1-té", "o1-1-1"] {
            assert_eq!(position(&by("id"), text), None, "{text:?}");
        }
    }
}
