//! When restarts become a crash loop. Pure: time comes in.
//!
//! systemd has no word for it: a unit with `Restart=always` that dies again and again is `activating` or `active`
//! each time one looks. Its NRestarts counter tells.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::config::app::CrashLoop;

/// Watches one unit's restarts.
#[derive(Debug, Clone, Default)]
pub struct CrashWatch {
    counter: Option<u32>,
    restarts: VecDeque<Instant>,
}

impl CrashWatch {
    /// Whether nothing was noted yet.
    pub fn is_new(&self) -> bool {
        self.counter.is_none()
    }

    /// Notes that the unit's NRestarts was `counter` at `now`. A counter that fell was reset by a start by hand.
    pub fn note(&mut self, counter: u32, now: Instant) {
        let new = match self.counter {
            Some(before) if counter >= before => counter - before,
            Some(_) => counter,
            None => 0,
        };
        self.counter = Some(counter);
        for _ in 0..new.min(1_000) {
            self.restarts.push_back(now);
        }
    }

    /// Restarts within `rule.within` before `now`.
    pub fn recent(&mut self, rule: &CrashLoop, now: Instant) -> u32 {
        while self.restarts.front().is_some_and(|at| now.duration_since(*at) > rule.within) {
            self.restarts.pop_front();
        }
        u32::try_from(self.restarts.len()).unwrap_or(u32::MAX)
    }

    /// Whether that is a crash loop.
    pub fn is_looping(&mut self, rule: &CrashLoop, now: Instant) -> bool {
        self.recent(rule, now) >= rule.restarts
    }

    /// When the oldest restart that still counts no longer will: the time to look again.
    pub fn next_look(&self, rule: &CrashLoop, now: Instant) -> Option<Duration> {
        let oldest = self.restarts.front()?;
        Some((*oldest + rule.within).saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: CrashLoop = CrashLoop { restarts: 3, within: Duration::from_secs(60) };

    #[test]
    fn three_restarts_within_the_time_are_one() {
        let (mut watch, start) = (CrashWatch::default(), Instant::now());
        watch.note(4, start);
        assert!(!watch.is_looping(&RULE, start), "restarts from before the watch don't count");
        for (counter, at) in [(5, 1), (6, 2)] {
            watch.note(counter, start + Duration::from_secs(at));
            assert!(!watch.is_looping(&RULE, start + Duration::from_secs(at)));
        }
        watch.note(7, start + Duration::from_secs(30));
        assert!(watch.is_looping(&RULE, start + Duration::from_secs(30)));
        assert_eq!(watch.next_look(&RULE, start + Duration::from_secs(30)), Some(Duration::from_secs(31)));
        assert!(!watch.is_looping(&RULE, start + Duration::from_secs(62)));
    }

    #[test]
    fn slow_restarts_are_none_and_a_reset_counter_counts_anew() {
        let (mut watch, start) = (CrashWatch::default(), Instant::now());
        for minute in 0..10 {
            watch.note(minute, start + Duration::from_secs(u64::from(minute) * 61));
            assert!(!watch.is_looping(&RULE, start + Duration::from_secs(u64::from(minute) * 61)));
        }
        watch.note(2, start + Duration::from_secs(700));
        assert_eq!(watch.recent(&RULE, start + Duration::from_secs(700)), 2);
    }
}
