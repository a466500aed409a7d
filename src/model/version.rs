//! Versions and their two orders.
//!
//! The default order is the UAPI version format specification's (the one that systemd compares
//! versions by); the other is Semantic Versioning 2.0.0. Which release is *higher* decides what goes
//! live by itself, so both orders are total: two spellings that the specification calls equal
//! (`1.0` and `1.00`) are told apart by their bytes, last.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest version, in bytes; with `+` and `~` escaped a unit name still fits into 255.
pub const MAX_VERSION_BYTES: usize = 64;

/// Parts that, behind a `-` or `~`, make a version a pre-release.
const PRE_RELEASE_WORDS: [&str; 6] = ["alpha", "beta", "pre", "rc", "dev", "snapshot"];

/// The version of a release: `[A-Za-z0-9][A-Za-z0-9._+~-]{0,63}`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version(String);

/// Why a text is no version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    /// Nothing there.
    #[error("a version can't be empty")]
    Empty,
    /// More than [`MAX_VERSION_BYTES`].
    #[error("a version has at most {MAX_VERSION_BYTES} characters, not {0}")]
    TooLong(usize),
    /// A character out of place.
    #[error("{0:?} can't stand in a version (letters, digits and . _ + ~ - can, the first a letter or digit)")]
    Character(char),
    /// The app wants Semantic Versioning and this isn't.
    #[error("not a semantic version: {0}")]
    NotSemver(String),
}

/// Which of two versions is the higher: the app's `versions` setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VersionOrder {
    /// The UAPI version format specification.
    #[default]
    Uapi,
    /// Semantic Versioning 2.0.0; a version of another form is refused.
    Semver,
}

impl Version {
    /// A text that is a version as it is made.
    pub(super) fn of_known(text: String) -> Version {
        Version(text)
    }

    /// The text as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a part after `-` or `~` names a pre-release.
    pub fn is_pre_release(&self) -> bool {
        self.0.split(['-', '~']).skip(1).any(|part| {
            let part = part.to_ascii_lowercase();
            PRE_RELEASE_WORDS.iter().any(|word| part.starts_with(word))
        })
    }
}

impl VersionOrder {
    /// Whether this order can place `version` at all.
    pub fn admits(self, version: &Version) -> Result<(), VersionError> {
        match self {
            VersionOrder::Uapi => Ok(()),
            VersionOrder::Semver => semver::Version::parse(version.as_str())
                .map(drop)
                .map_err(|error| VersionError::NotSemver(error.to_string())),
        }
    }

    /// Compares two versions; under `Semver` what isn't one is below all that are.
    pub fn compare(self, a: &Version, b: &Version) -> Ordering {
        let by_rule = match self {
            VersionOrder::Uapi => compare_uapi(a.as_str().as_bytes(), b.as_str().as_bytes()),
            VersionOrder::Semver => {
                semver::Version::parse(a.as_str()).ok().cmp(&semver::Version::parse(b.as_str()).ok())
            }
        };
        by_rule.then_with(|| a.0.cmp(&b.0))
    }
}

/// The comparison of the UAPI version format specification, rule by rule.
fn compare_uapi(mut a: &[u8], mut b: &[u8]) -> Ordering {
    loop {
        a = skip_separators(a);
        b = skip_separators(b);
        if let Some(order) = marker(&mut a, &mut b, b'~') {
            return order;
        }
        if a.is_empty() || b.is_empty() {
            return a.len().cmp(&b.len());
        }
        for separator in *b"-^." {
            if let Some(order) = marker(&mut a, &mut b, separator) {
                return order;
            }
        }
        let order = if starts_with_digit(a) || starts_with_digit(b) {
            let (x, y) = (take(&mut a, u8::is_ascii_digit), take(&mut b, u8::is_ascii_digit));
            (!x.is_empty()).cmp(&!y.is_empty()).then_with(|| compare_numbers(x, y))
        } else {
            let (x, y) = (take(&mut a, u8::is_ascii_alphabetic), take(&mut b, u8::is_ascii_alphabetic));
            x.cmp(y)
        };
        if order != Ordering::Equal {
            return order;
        }
        if a.is_empty() && b.is_empty() {
            return Ordering::Equal;
        }
    }
}

/// A string that begins with `byte` is below one that doesn't; where both do, it is passed over.
fn marker(a: &mut &[u8], b: &mut &[u8], byte: u8) -> Option<Ordering> {
    match (a.first() == Some(&byte), b.first() == Some(&byte)) {
        (true, true) => {
            *a = &a[1..];
            *b = &b[1..];
            None
        }
        (true, false) => Some(Ordering::Less),
        (false, true) => Some(Ordering::Greater),
        (false, false) => None,
    }
}

fn skip_separators(text: &[u8]) -> &[u8] {
    let known = |byte: &u8| byte.is_ascii_alphanumeric() || b"~-^.".contains(byte);
    &text[text.iter().position(known).unwrap_or(text.len())..]
}

fn starts_with_digit(text: &[u8]) -> bool {
    text.first().is_some_and(u8::is_ascii_digit)
}

fn take<'a>(text: &mut &'a [u8], class: fn(&u8) -> bool) -> &'a [u8] {
    let (head, tail) = text.split_at(text.iter().position(|byte| !class(byte)).unwrap_or(text.len()));
    *text = tail;
    head
}

/// Compares digits without parsing them, so that no length overflows.
fn compare_numbers(a: &[u8], b: &[u8]) -> Ordering {
    let strip = |text: &'_ [u8]| text.iter().position(|byte| *byte != b'0').unwrap_or(text.len());
    let (a, b) = (&a[strip(a)..], &b[strip(b)..]);
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let first = text.chars().next().ok_or(VersionError::Empty)?;
        if text.len() > MAX_VERSION_BYTES {
            return Err(VersionError::TooLong(text.len()));
        }
        if !first.is_ascii_alphanumeric() {
            return Err(VersionError::Character(first));
        }
        match text.chars().find(|c| !(c.is_ascii_alphanumeric() || "._+~-".contains(*c))) {
            Some(bad) => Err(VersionError::Character(bad)),
            None => Ok(Version(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Version {
    type Error = VersionError;

    fn try_from(text: String) -> Result<Self, VersionError> {
        text.parse()
    }
}

impl From<Version> for String {
    fn from(version: Version) -> String {
        version.0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn v(text: &str) -> Version {
        text.parse().expect("a version")
    }

    #[test]
    fn the_order_of_the_specification() {
        // In rising order; from the examples of the UAPI version format specification.
        let rising =
            ["1.4.2~rc1", "1.4.2", "1.4.2-r2", "1.4.2.1", "1.4.2b5", "1.4.3", "1.4.10", "2.0~rc1", "2.0", "2.0.0-rc.1"];
        for pair in rising.windows(2) {
            assert_eq!(VersionOrder::Uapi.compare(&v(pair[0]), &v(pair[1])), Ordering::Less, "{pair:?}");
        }
    }

    #[test]
    fn semver_puts_a_pre_release_below() {
        let order = VersionOrder::Semver;
        assert_eq!(order.compare(&v("2.0.0-rc.1"), &v("2.0.0")), Ordering::Less);
        assert_eq!(order.compare(&v("1.10.0"), &v("1.9.0")), Ordering::Greater);
        assert!(order.admits(&v("1.2")).is_err());
    }

    #[test]
    fn pre_releases_are_known_by_their_part() {
        for yes in ["2.0~rc1", "2.0.0-rc.1", "1-BETA", "3.0-1-dev", "1.0~snapshot20260101"] {
            assert!(v(yes).is_pre_release(), "{yes}");
        }
        for no in ["2.0", "1.4.2-r2", "1.4.2+b5", "rc1", "1.4.2-hotfix"] {
            assert!(!v(no).is_pre_release(), "{no}");
        }
    }

    #[test]
    fn what_is_no_version() {
        for bad in ["", ".1", "-1", "1/2", "1 2", "1@2", "ü", &"1".repeat(65)] {
            assert!(bad.parse::<Version>().is_err(), "{bad:?}");
        }
        assert!("1".repeat(64).parse::<Version>().is_ok());
    }

    proptest! {
        #[test]
        fn both_orders_are_total(texts in prop::collection::vec("[A-Za-z0-9][A-Za-z0-9._+~-]{0,8}", 3)) {
            let [a, b, c] = [v(&texts[0]), v(&texts[1]), v(&texts[2])];
            for order in [VersionOrder::Uapi, VersionOrder::Semver] {
                prop_assert_eq!(order.compare(&a, &b), order.compare(&b, &a).reverse());
                prop_assert_eq!(order.compare(&a, &a), Ordering::Equal);
                if order.compare(&a, &b).is_le() && order.compare(&b, &c).is_le() {
                    prop_assert!(order.compare(&a, &c).is_le());
                }
            }
        }
    }
}
