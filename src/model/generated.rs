//! Versions that slotd makes for releases that name none: `0.20261128.93000-x8f14e45fceea`, of the time at which the bytes
//! came and of their digest.
//!
//! They rise with time in both orders. They begin with 0, so that a version which somebody gave is the higher one: an
//! artifact without a name never comes before a release with one, and the mark that it leaves is in nobody's way.

use super::digest::Digest;
use super::time::Timestamp;
use super::version::Version;

const DAY: u64 = 24 * 60 * 60;

/// A time beyond the year 9999 has no date.
const LAST: u64 = 253_402_300_799;

impl Version {
    /// The version of bytes that came at `now`: above every one of `before` that was generated, whatever the clock says.
    pub fn generated<'a>(digest: &Digest, now: Timestamp, before: impl IntoIterator<Item = &'a Version>) -> Version {
        let after = before.into_iter().filter_map(generated_at).max().map_or(0, |at| at + 1);
        let at = (now.unix_millis() / 1000).max(after).min(LAST);
        let text = format!("0.{}.{}-x{}", date(at), time_of_day(at), digest.short());
        Version::of_known(text)
    }

    /// Whether slotd made it.
    pub fn is_generated(&self) -> bool {
        generated_at(self).is_some()
    }
}

/// When a generated version was made, in seconds since 1970.
fn generated_at(version: &Version) -> Option<u64> {
    let rest = version.as_str().strip_prefix("0.")?;
    let (date, rest) = rest.split_once('.')?;
    let (time, digest) = rest.split_once("-x")?;
    let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    if date.len() != 8 || time.len() > 6 || digest.len() != 12 || !digest.chars().all(hex) {
        return None;
    }
    let (date, time): (u32, u32) = (date.parse().ok()?, time.parse().ok()?);
    let (year, month, day) = (date / 10_000, date / 100 % 100, date % 100);
    let (hour, minute, second) = (time / 10_000, time / 100 % 100, time % 100);
    let text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z");
    Some(Timestamp::try_from(text).ok()?.unix_millis() / 1000)
}

fn date(at: u64) -> String {
    let text = Timestamp::from_unix_millis(at * 1000).to_string();
    text.chars().take(10).filter(char::is_ascii_digit).collect()
}

/// As one number: Semantic Versioning knows no leading zeros.
fn time_of_day(at: u64) -> u64 {
    let seconds = at % DAY;
    seconds / 3600 * 10_000 + seconds / 60 % 60 * 100 + seconds % 60
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::VersionOrder;
    use proptest::prelude::*;

    fn of(seconds: u64, byte: u8, before: &[Version]) -> Version {
        Version::generated(&Digest::from_bytes([byte; 32]), Timestamp::from_unix_millis(seconds * 1000), before)
    }

    #[test]
    fn it_tells_the_time_and_the_bytes() {
        // 2026-11-28 09:30:00 and five seconds after midnight.
        assert_eq!(of(1_795_858_200, 0xab, &[]).as_str(), "0.20261128.93000-xabababababab");
        assert_eq!(of(1_795_824_005, 1, &[]).as_str(), "0.20261128.5-x010101010101");
    }

    #[test]
    fn a_clock_set_back_makes_none_that_is_lower() {
        let first = of(1_795_858_200, 1, &[]);
        let second = of(1_000_000_000, 2, std::slice::from_ref(&first));
        assert_eq!(second.as_str(), "0.20261128.93001-x020202020202");
        assert!(second.is_generated() && !"1.4.2".parse::<Version>().expect("one").is_generated());
    }

    #[test]
    fn what_only_looks_like_one_is_none() {
        for text in
            ["0.20261128.93000", "0.20261328.1-xabababababab", "0.2026.1-xabababababab", "0.20261128.1-xABABABABABAB"]
        {
            assert!(!text.parse::<Version>().expect("a version").is_generated(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn later_is_higher_in_both_orders(a in 0u64..LAST, b in 0u64..LAST, x in any::<u8>(), y in any::<u8>()) {
            prop_assume!(a < b);
            for order in [VersionOrder::Uapi, VersionOrder::Semver] {
                let (earlier, later) = (of(a, x, &[]), of(b, y, &[]));
                prop_assert!(order.admits(&earlier).is_ok());
                prop_assert!(order.compare(&earlier, &later).is_lt(), "{} {}", earlier, later);
                prop_assert!(order.compare(&later, &"0.1.0".parse().expect("one")).is_gt());
                prop_assert!(order.compare(&later, &"1.0.0".parse().expect("one")).is_lt());
                prop_assert!(!later.is_pre_release());
            }
        }
    }
}
