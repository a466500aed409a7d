//! A strategy as a row of batches: two numbers in, who stops and starts when out. Pure.
//!
//! `max_surge` is how many more than N may run, `max_unavailable` how many fewer than N may be ready. Stop-start is
//! (0, N): everything old stops, then everything new starts.

use serde::{Deserialize, Serialize};

/// The two numbers for a unit with N instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numbers {
    /// N.
    pub instances: u32,
    /// How many more than N may run at once.
    pub max_surge: u32,
    /// How many fewer than N may be ready.
    pub max_unavailable: u32,
}

/// One batch: stop these old instances, start these new ones and wait for them, then stop those old ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// Old instances that make room first.
    pub stop_first: Vec<u32>,
    /// New instances, started and proved together.
    pub start: Vec<u32>,
    /// Old instances that the proved ones replace.
    pub stop_after: Vec<u32>,
}

impl Numbers {
    /// Everything old stops, then everything new starts.
    pub fn stop_start(instances: u32) -> Self {
        Numbers { instances, max_surge: 0, max_unavailable: instances }
    }

    /// The batches that take all N from old to new. Both numbers zero can't move anything: no batches.
    pub fn batches(self) -> Vec<Batch> {
        let n = self.instances;
        let mut batches = Vec::new();
        let (mut old_gone, mut new_up) = (0, 0);
        while new_up < n && (self.max_surge > 0 || self.max_unavailable > 0) {
            // As many stop beforehand as may be missing; then surge and freed places are filled.
            let missing = (n - old_gone + new_up).abs_diff(n);
            let stop = self.max_unavailable.saturating_sub(missing).min(n - old_gone);
            let running = n - old_gone - stop + new_up;
            let start = (n + self.max_surge - running).min(n - new_up);
            // Those proved, the set is back to N: the old ones above it go.
            let over = (running + start).saturating_sub(n).min(n - old_gone - stop);
            batches.push(Batch {
                stop_first: (old_gone + 1..=old_gone + stop).collect(),
                start: (new_up + 1..=new_up + start).collect(),
                stop_after: (old_gone + stop + 1..=old_gone + stop + over).collect(),
            });
            old_gone += stop + over;
            new_up += start;
        }
        batches
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn stop_start_is_one_batch() {
        let all = vec![1, 2];
        assert_eq!(
            Numbers::stop_start(2).batches(),
            [Batch { stop_first: all.clone(), start: all, stop_after: Vec::new() }]
        );
    }

    proptest! {
        #[test]
        fn every_old_one_goes_and_no_bound_is_broken(n in 1u32..9, surge in 0u32..9, unavailable in 0u32..9) {
            let (surge, unavailable) = (surge.min(n), unavailable.min(n));
            prop_assume!(surge + unavailable > 0);
            let numbers = Numbers { instances: n, max_surge: surge, max_unavailable: unavailable };
            let (mut old, mut new): (Vec<u32>, Vec<u32>) = ((1..=n).collect(), Vec::new());
            for batch in numbers.batches() {
                prop_assert!(batch.stop_first.iter().chain(&batch.stop_after).all(|k| old.contains(k)));
                old.retain(|k| !batch.stop_first.contains(k));
                prop_assert!(old.len() + new.len() + unavailable as usize >= n as usize);
                prop_assert!(!batch.start.is_empty());
                new.extend(batch.start);
                prop_assert!(old.len() + new.len() <= (n + surge) as usize);
                old.retain(|k| !batch.stop_after.contains(k));
                prop_assert!(old.len() + new.len() + unavailable as usize >= n as usize);
            }
            prop_assert_eq!(new, (1..=n).collect::<Vec<_>>());
            prop_assert!(old.is_empty());
        }
    }
}
