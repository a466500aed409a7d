//! The report: one JSON object. Times are in milliseconds; those of `versions` since the load began.
//!
//! | key | what it says |
//! |---|---|
//! | `requests`, `failed`, `retried`, `reopened`, `stale` | over all workers; what the words mean says `main` |
//! | `slowest_ms` | the longest that a request took, failed ones included |
//! | `gap_ms` | the longest time in which no worker got a good answer, from the first to the end |
//! | `new`, `keep_alive` | the same by kind, `failed` by what went wrong |
//! | `waits_ms` | how long good answers took, to one eighth |
//! | `versions` | who answered, how often, from when to when |
//! | `marks`, `changes` | recorded switches; the most changes of version that one worker with new connections saw |
//! | `intervals` | how many different versions answered in each stretch of `every_ms` |

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::tally::{Counts, Tally};

impl Tally {
    /// What was counted until now.
    pub fn report(&self) -> Value {
        let ended = Instant::now();
        let gap = self.last_good.map_or(Duration::ZERO, |last| self.longest_gap.max(ended - last));
        let versions: Vec<Value> = self
            .seen
            .iter()
            .map(|seen| {
                json!({
                    "version": seen.server.version,
                    "slot": seen.server.slot,
                    "answers": seen.answers,
                    "first_ms": ms(seen.first),
                    "last_ms": ms(seen.last),
                })
            })
            .collect();
        json!({
            "time_ms": ms(ended - self.began),
            "requests": self.new.requests + self.keep_alive.requests,
            "failed": self.new.all_failed() + self.keep_alive.all_failed(),
            "retried": self.retried,
            "reopened": self.reopened,
            "stale": self.stale,
            "slowest_ms": ms(self.new.slowest.max(self.keep_alive.slowest)),
            "gap_ms": ms(gap),
            "marks": self.marks,
            "changes": self.most_changes(),
            "new": self.new.report(),
            "keep_alive": self.keep_alive.report(),
            "waits_ms": {
                "median": thousandths(self.waits.quantile(0.5)),
                "99%": thousandths(self.waits.quantile(0.99)),
                "99.9%": thousandths(self.waits.quantile(0.999)),
            },
            "versions": versions,
            "intervals": { "every_ms": ms(self.intervals.length()), "distinct": self.intervals.distinct() },
        })
    }
}

impl Counts {
    fn all_failed(&self) -> u64 {
        self.failed.values().sum::<u64>() + self.open
    }

    fn report(&self) -> Value {
        let mut failed = json!(self.failed);
        if self.open > 0 {
            failed["unanswered"] = json!(self.open);
        }
        json!({
            "requests": self.requests,
            "answered": self.answered,
            "failed": failed,
            "slowest_ms": ms(self.slowest),
        })
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn thousandths(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
