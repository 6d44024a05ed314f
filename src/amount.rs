//! Amounts of money as people write them.

use crate::api::AMOUNT_MAX;

/// Cents as an amount: 1999 is `19.99`.
pub(crate) fn cents(cents: u64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

/// An amount as cents: `20`, `19.9` or `19.99`, exactly; nothing is rounded.
pub(crate) fn parse_cents(text: &str) -> Result<u64, String> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let parsed = (digits(whole) && digits(part) && part.len() <= 2)
        .then(|| {
            let whole = whole.parse::<u64>().ok()?.checked_mul(100)?;
            let part = format!("{part:0<2}").parse::<u64>().ok()?;
            whole.checked_add(part)
        })
        .flatten();
    match parsed {
        Some(cents) if cents <= AMOUNT_MAX => Ok(cents),
        Some(_) => Err(format!("an amount is at most {}", self::cents(AMOUNT_MAX))),
        None => Err("an amount is written like 19.99".into()),
    }
}
