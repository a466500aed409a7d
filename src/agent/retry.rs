//! When a deployment that failed without its release's fault is tried again. Pure.

use std::time::Duration;

use crate::model::deployment::{Blame, Ended};
use crate::model::{Outcome, Report, Timestamp};

/// How long after the n-th try the next one comes. After the last it waits for a person, and says so.
pub const DELAYS: [Duration; 5] = [
    Duration::from_secs(10),
    Duration::from_secs(60),
    Duration::from_secs(5 * 60),
    Duration::from_secs(15 * 60),
    Duration::from_secs(15 * 60),
];

/// What becomes of the deployment that ended last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// It isn't tried again.
    Never,
    /// It is, after this time from now on.
    In(Duration),
    /// It was tried often enough.
    Exhausted,
}

/// What becomes of `last` at `now`.
pub fn plan(last: &Report, now: Timestamp) -> Retry {
    // Users come another way on an operator's word alone, each time.
    let by_itself = |ended: &&Ended| last.reroute.is_none() && is_worth_a_try(ended);
    let Some(ended) = last.ended.as_ref().filter(by_itself) else { return Retry::Never };
    let tried = usize::try_from(last.attempt.saturating_sub(1)).unwrap_or(usize::MAX);
    match DELAYS.get(tried) {
        // The clock may have been set back: never longer than the delay itself.
        Some(delay) => Retry::In(delay.saturating_sub(ended.at.until(now))),
        None => Retry::Exhausted,
    }
}

fn is_worth_a_try(ended: &Ended) -> bool {
    matches!(ended.outcome, Outcome::RolledBack | Outcome::Failed)
        && matches!(ended.blame, Some(Blame::Environment | Blame::Interruption))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Kind, State};

    fn report(attempt: u32, outcome: Outcome, blame: Blame, at: u64) -> Report {
        Report {
            id: "web-1".parse().expect("id"),
            kind: Kind::Deploy,
            from: None,
            to: "1".parse().expect("slot"),
            by: "automatic".into(),
            message: None,
            attempt,
            queued: Timestamp::from_unix_millis(0),
            scheduled: None,
            reroute: None,
            strategy: None,
            migration: None,
            dependencies: Vec::new(),
            state: State::Done,
            waiting: None,
            steps: Vec::new(),
            release: Default::default(),
            said: Vec::new(),
            measured: Default::default(),
            ended: Some(Ended {
                outcome,
                fault: None,
                phase: None,
                blame: Some(blame),
                at: Timestamp::from_unix_millis(at),
                next: None,
                warnings: Vec::new(),
            }),
        }
    }

    #[test]
    fn five_times_with_growing_pauses_then_a_person() {
        let now = Timestamp::from_unix_millis(4_000);
        let at = |attempt| plan(&report(attempt, Outcome::RolledBack, Blame::Environment, 1_000), now);
        let rest = Duration::from_secs(3);
        let planned: Vec<Retry> = (1..=6).map(at).collect();
        let mut expected: Vec<Retry> = DELAYS.iter().map(|delay| Retry::In(*delay - rest)).collect();
        expected.push(Retry::Exhausted);
        assert_eq!(planned, expected);
    }

    #[test]
    fn the_releases_own_fault_and_a_persons_word_are_final() {
        let now = Timestamp::from_unix_millis(0);
        for (outcome, blame) in [
            (Outcome::RolledBack, Blame::Release),
            (Outcome::Cancelled, Blame::Operator),
            (Outcome::Done, Blame::Operator),
            (Outcome::Stuck, Blame::Environment),
        ] {
            assert_eq!(plan(&report(1, outcome, blame, 0), now), Retry::Never);
        }
    }

    #[test]
    fn a_clock_set_back_does_not_stretch_the_pause() {
        let last = report(1, Outcome::Failed, Blame::Interruption, 900_000);
        assert_eq!(plan(&last, Timestamp::from_unix_millis(0)), Retry::In(DELAYS[0]));
    }
}
