//! For how long slots are kept: three bounds, of which any lets a slot go.

use std::time::Duration;

use serde::{Serialize, Serializer};

/// The longest age that can be said; what is to be kept for longer is kept for ever.
pub const MAX_DAYS: u64 = 36_500;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The bounds. `current`, `fallback` and whatever runs, waits or is pinned stays in spite of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Retention {
    /// How many slots are kept beside those, the highest versions.
    pub keep: u32,
    /// For how long after it was last live, or was published; `None`: for ever.
    #[serde(serialize_with = "say_age")]
    pub max_age: Option<Duration>,
    /// The most bytes that trees and artifacts of all slots may have together; `None`: any number.
    pub max_bytes: Option<u64>,
}

impl Default for Retention {
    fn default() -> Self {
        Retention { keep: 5, max_age: None, max_bytes: None }
    }
}

/// Why something is no age.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AgeError {
    /// Neither a number with a unit nor "forever".
    #[error("{0:?} is no age: days as a number, or \"90d\", \"1w\", \"10y\", \"forever\"")]
    Unknown(String),
    /// Longer than anybody can want.
    #[error("an age has at most {MAX_DAYS} days; \"forever\" is more")]
    TooLong,
}

/// Reads "90d", "1w", "10y" (of 365 days) or "forever"; `None` is for ever.
///
/// # Errors
///
/// [`AgeError`].
pub fn parse_age(text: &str) -> Result<Option<Duration>, AgeError> {
    if text == "forever" {
        return Ok(None);
    }
    let unknown = || AgeError::Unknown(text.to_owned());
    let unit = text.chars().last().ok_or_else(unknown)?;
    let days = match unit {
        'd' => 1,
        'w' => 7,
        'y' => 365,
        _ => return Err(unknown()),
    };
    let number = &text[..text.len() - 1];
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(unknown());
    }
    age_of_days(number.parse::<u64>().ok().and_then(|number| number.checked_mul(days)).unwrap_or(u64::MAX))
}

/// So many days; 0 is for ever.
///
/// # Errors
///
/// [`AgeError::TooLong`].
pub fn age_of_days(days: u64) -> Result<Option<Duration>, AgeError> {
    match days {
        0 => Ok(None),
        1..=MAX_DAYS => Ok(Some(DAY * u32::try_from(days).unwrap_or(u32::MAX))),
        _ => Err(AgeError::TooLong),
    }
}

/// As it is read.
fn say_age<S: Serializer>(age: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
    match age {
        Some(age) => to.collect_str(&format_args!("{}d", age.as_secs() / DAY.as_secs())),
        None => to.serialize_str("forever"),
    }
}

/// "90 days".
pub fn age_text(age: Duration) -> String {
    match age.as_secs() / DAY.as_secs() {
        1 => "1 day".to_owned(),
        days => format!("{days} days"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages() {
        let days = |days: u32| Ok(Some(DAY * days));
        for (text, age) in [
            ("1d", days(1)),
            ("90d", days(90)),
            ("1w", days(7)),
            ("10y", days(3650)),
            ("100y", days(36_500)),
            ("0d", Ok(None)),
            ("forever", Ok(None)),
            ("101y", Err(AgeError::TooLong)),
            ("99999999999999999999d", Err(AgeError::TooLong)),
        ] {
            assert_eq!(parse_age(text), age, "{text}");
        }
        for text in ["", "d", "1", "1m", "-1d", "1.5d", "1 d", "1dd", "for ever", "é"] {
            assert_eq!(parse_age(text), Err(AgeError::Unknown(text.to_owned())), "{text}");
        }
        assert_eq!((age_of_days(0), age_of_days(36_501)), (Ok(None), Err(AgeError::TooLong)));
        assert_eq!((age_text(DAY), age_text(DAY * 7)), ("1 day".to_owned(), "7 days".to_owned()));
    }
}
