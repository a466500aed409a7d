//! Points in time, as records keep them.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Wall-clock time in whole milliseconds since 1970, written in JSON as RFC 3339 in UTC.
///
/// For people and records only: what has to be waited for is measured on the monotonic clock.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Timestamp(u64);

impl Timestamp {
    /// Now, by the wall clock.
    pub fn now() -> Self {
        SystemTime::now().into()
    }

    /// From milliseconds since 1970.
    pub fn from_unix_millis(millis: u64) -> Self {
        Timestamp(millis)
    }

    /// Milliseconds since 1970.
    pub fn unix_millis(self) -> u64 {
        self.0
    }

    /// For people who need no milliseconds: "2025-11-21T04:40:00Z".
    pub fn to_the_second(self) -> String {
        let text = self.to_string();
        text.get(..19).map_or_else(|| text.clone(), |seconds| format!("{seconds}Z"))
    }

    /// How long before `later` this was; zero if the clock went back.
    pub fn until(self, later: Timestamp) -> Duration {
        Duration::from_millis(later.0.saturating_sub(self.0))
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

impl From<Timestamp> for SystemTime {
    fn from(time: Timestamp) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(time.0)
    }
}

impl TryFrom<String> for Timestamp {
    type Error = humantime::TimestampError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        humantime::parse_rfc3339(&text).map(Timestamp::from)
    }
}

impl From<Timestamp> for String {
    fn from(time: Timestamp) -> String {
        time.to_string()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Beyond the year 9999 RFC 3339 has no words; a record that says so is damaged anyway.
        let last = 253_402_300_799_999;
        let time = Timestamp(self.0.min(last)).into();
        write!(f, "{}", humantime::format_rfc3339_millis(time))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Durations in JSON as text ("1m 30s"), for `#[serde(with = …)]`.
pub mod duration_text {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    /// Writes `90s` as "1m 30s".
    pub fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&humantime::format_duration(*value))
    }

    /// Reads what [`serialize`] wrote, or any other duration text.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(from)?;
        humantime::parse_duration(&text).map_err(|error| D::Error::custom(format!("{text:?}: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_rfc_3339() {
        let time = Timestamp::from_unix_millis(1_763_700_000_123);
        let json = serde_json::to_string(&time).expect("JSON");
        assert_eq!(json, "\"2025-11-21T04:40:00.123Z\"");
        assert_eq!(serde_json::from_str::<Timestamp>(&json).expect("back"), time);
        assert!(serde_json::from_str::<Timestamp>("\"yesterday\"").is_err());
    }

    #[test]
    fn a_clock_that_went_back_gives_zero() {
        let (early, late) = (Timestamp::from_unix_millis(5), Timestamp::from_unix_millis(9));
        assert_eq!(late.until(early), Duration::ZERO);
        assert_eq!(early.until(late), Duration::from_millis(4));
    }
}
