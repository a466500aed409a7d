//! Freezes: a time in which nothing moves an app forward.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::time::Timestamp;

/// `frozen` beside the links of an app, or in the state folder for all apps: nothing goes forward until it is over.
///
/// Its end is a time of the calendar, so it goes by the wall clock, whoever sets that: a clock that is set forward ends
/// it, one that is set back has it hold again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freeze {
    /// Who said so.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// Its end; until it is lifted if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// It holds for all apps.
    #[serde(default)]
    pub all: bool,
}

impl Freeze {
    /// Whether it isn't over at `now`.
    pub fn holds(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }

    /// Whether it ends later than `other`, or never.
    pub fn outlasts(&self, other: &Freeze) -> bool {
        match (self.until, other.until) {
            (None, Some(_)) => true,
            (Some(until), Some(other)) => until > other,
            (_, None) => false,
        }
    }

    /// The command that lifts it.
    pub fn lifted_by(&self, app: &str) -> String {
        if self.all { "slotctl unfreeze".to_owned() } else { format!("slotctl unfreeze {app}") }
    }
}

impl fmt::Display for Freeze {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let with = if self.all { ", with all apps," } else { "" };
        write!(f, "frozen{with} by {}", self.by)?;
        if let Some(until) = self.until {
            write!(f, " until {}", until.to_the_second())?;
        }
        self.message.as_ref().map_or(Ok(()), |message| write!(f, ": {message}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn freeze(until: Option<u64>) -> Freeze {
        let until = until.map(Timestamp::from_unix_millis);
        Freeze { by: "ann".into(), at: Timestamp::from_unix_millis(0), until, message: None, all: false }
    }

    #[test]
    fn it_holds_until_its_end_and_not_at_it() {
        let of = |now| freeze(Some(5)).holds(Timestamp::from_unix_millis(now));
        assert_eq!([of(0), of(4), of(5), of(6)], [true, true, false, false]);
        assert!(freeze(None).holds(Timestamp::from_unix_millis(u64::MAX)));
    }

    #[test]
    fn one_without_an_end_outlasts_those_with_one() {
        let outlasts = |a, b| freeze(a).outlasts(&freeze(b));
        assert!(outlasts(None, Some(5)) && outlasts(Some(6), Some(5)));
        assert!(!outlasts(Some(5), None) && !outlasts(Some(5), Some(5)) && !outlasts(None, None));
    }

    #[test]
    fn it_says_who_until_when_and_why() {
        let of_all = Freeze { all: true, message: Some("sale".into()), ..freeze(Some(1_763_700_000_123)) };
        assert_eq!(of_all.to_string(), "frozen, with all apps, by ann until 2025-11-21T04:40:00Z: sale");
        assert_eq!(freeze(None).to_string(), "frozen by ann");
    }
}
