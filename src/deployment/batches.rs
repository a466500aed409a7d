//! A strategy as a row of batches: two numbers a unit in, who stops and starts when out. Pure.
//!
//! Units that move by other numbers than (0, N) go first, their batches side by side. Units that are replaced at once
//! (queue workers, beside a unit that is moved without a gap) follow in a batch of their own, so that they rest no
//! longer than they must, and only once the others have proved themselves.

use serde::{Deserialize, Serialize};

use crate::model::{Numbers, Template};

/// A unit on its way from its old instances to its new ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mover {
    /// Which.
    pub unit: Template,
    /// How many old instances there are.
    pub old: u32,
    /// N: how many new ones there will be.
    pub new: u32,
    /// How many more and how many fewer meanwhile.
    pub numbers: Numbers,
}

/// An instance's place on its side: the n-th of a unit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Seat {
    /// The unit.
    pub unit: Template,
    /// From 1.
    pub number: u32,
}

/// One batch: stop these old instances, start and prove these new ones, move users, then stop those old ones.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// Old instances that make room first.
    pub stop_first: Vec<Seat>,
    /// New instances, started and proved together.
    pub start: Vec<Seat>,
    /// Old instances that the proved ones replace.
    pub stop_after: Vec<Seat>,
    /// Whether users move when it is proved. Those of the last batch move with `current`, and what is left of the old
    /// side goes after that.
    pub shift: bool,
}

/// The batches that take all units from old to new.
pub fn row(movers: &[Mover]) -> Vec<Batch> {
    let (at_once, by_batch): (Vec<&Mover>, Vec<&Mover>) = movers.iter().partition(|mover| mover.is_replaced_at_once());
    let mut batches = side_by_side(&by_batch);
    if !at_once.is_empty() {
        batches.extend(side_by_side(&at_once));
    }
    let last = side_by_side(&by_batch).len().max(1) - 1;
    for (n, batch) in batches.iter_mut().enumerate() {
        batch.shift = n < last;
        if !batch.shift {
            batch.stop_after.clear();
        }
    }
    batches
}

/// The batches of several units, each the n-th of all of them together.
fn side_by_side(movers: &[&Mover]) -> Vec<Batch> {
    let mut batches = Vec::new();
    for mover in movers {
        for (n, batch) in mover.batches().into_iter().enumerate() {
            if n == batches.len() {
                batches.push(Batch::default());
            }
            batches[n].stop_first.extend(batch.stop_first);
            batches[n].start.extend(batch.start);
            batches[n].stop_after.extend(batch.stop_after);
        }
    }
    batches
}

impl Mover {
    fn is_replaced_at_once(&self) -> bool {
        self.numbers.max_surge == 0 && self.numbers.max_unavailable >= self.new
    }

    /// Both numbers zero can't move anything: no batches.
    fn batches(&self) -> Vec<Batch> {
        let Numbers { max_surge, max_unavailable } = self.numbers;
        let seats = |after: u32, count: u32| {
            (after + 1..=after + count).map(|number| Seat { unit: self.unit.clone(), number }).collect::<Vec<_>>()
        };
        let mut batches = Vec::new();
        let (mut gone, mut up) = (0, 0);
        while up < self.new {
            // As many stop beforehand as may be missing; then surge and freed places are filled.
            let fewest = self.new.saturating_sub(max_unavailable);
            let stop = (self.old - gone + up).saturating_sub(fewest).min(self.old - gone);
            let running = self.old - gone - stop + up;
            let start = (self.new + max_surge).saturating_sub(running).min(self.new - up);
            if start == 0 {
                break;
            }
            // Those proved, the set is back to N: the old ones above it go.
            let over = (running + start).saturating_sub(self.new).min(self.old - gone - stop);
            batches.push(Batch {
                stop_first: seats(gone, stop),
                start: seats(up, start),
                stop_after: seats(gone + stop, over),
                shift: true,
            });
            gone += stop + over;
            up += start;
        }
        batches
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mover(unit: &str, old: u32, new: u32, max_surge: u32, max_unavailable: u32) -> Mover {
        Mover { unit: unit.parse().expect("a template"), old, new, numbers: Numbers { max_surge, max_unavailable } }
    }

    /// "-web1 +web1 -web1!" : stops first, starts, stops after; `!` where users move.
    fn words(batches: &[Batch]) -> Vec<String> {
        let names = |sign: char, seats: &[Seat]| {
            seats
                .iter()
                .map(|seat| format!("{sign}{}{} ", seat.unit.as_str().trim_end_matches('@'), seat.number))
                .collect::<String>()
        };
        let word = |batch: &Batch| {
            let all = names('-', &batch.stop_first) + &names('+', &batch.start) + &names('~', &batch.stop_after);
            format!("{all}{}", if batch.shift { "!" } else { "" }).trim_end().to_owned()
        };
        batches.iter().map(word).collect()
    }

    #[test]
    fn the_named_strategies() {
        for (movers, expected) in [
            (vec![mover("web@", 2, 2, 0, 2)], vec!["-web1 -web2 +web1 +web2"]),
            (vec![mover("web@", 2, 2, 2, 0)], vec!["+web1 +web2"]),
            (vec![mover("web@", 2, 2, 1, 0)], vec!["+web1 ~web1 !", "+web2"]),
            (vec![mover("web@", 2, 2, 0, 1)], vec!["-web1 +web1 !", "-web2 +web2"]),
            (vec![mover("web@", 0, 2, 1, 0)], vec!["+web1 +web2"]),
            (vec![mover("web@", 3, 1, 1, 0)], vec!["-web1 -web2 +web1"]),
            (vec![mover("web@", 2, 2, 1, 0), mover("job@", 1, 1, 0, 1)], vec!["+web1 ~web1 !", "+web2", "-job1 +job1"]),
            (vec![mover("web@", 1, 1, 0, 1), mover("job@", 1, 1, 0, 1)], vec!["-web1 -job1 +web1 +job1"]),
            (vec![mover("web@", 1, 1, 1, 0), mover("api@", 2, 2, 1, 0)], vec!["+web1 +api1 ~web1 ~api1 !", "+api2"]),
        ] {
            assert_eq!(words(&row(&movers)), expected, "{movers:?}");
        }
    }

    proptest! {
        #[test]
        fn every_new_one_comes_and_no_bound_is_broken(
            old in 0u32..9, new in 1u32..9, surge in 0u32..9, unavailable in 0u32..9,
        ) {
            let (surge, unavailable) = (surge.min(new), unavailable.min(new));
            prop_assume!(surge + unavailable > 0);
            let mover = mover("web@", old, new, surge, unavailable);
            // No fewer than N less what may be missing, or than there were.
            let least = (new - unavailable).min(old) as usize;
            let (mut left, mut up): (Vec<u32>, Vec<u32>) = ((1..=old).collect(), Vec::new());
            for batch in row(&[mover]) {
                let numbers = |seats: &[Seat]| seats.iter().map(|seat| seat.number).collect::<Vec<_>>();
                let (first, after) = (numbers(&batch.stop_first), numbers(&batch.stop_after));
                prop_assert!(first.iter().chain(&after).all(|k| left.contains(k)));
                left.retain(|k| !first.contains(k));
                prop_assert!(left.len() + up.len() >= least);
                prop_assert!(!batch.start.is_empty());
                up.extend(numbers(&batch.start));
                prop_assert!(left.len() + up.len() <= (new + surge).max(old) as usize);
                left.retain(|k| !after.contains(k));
                prop_assert!(left.len() + up.len() >= least);
                prop_assert!(batch.shift || after.is_empty());
            }
            prop_assert_eq!(up, (1..=new).collect::<Vec<_>>());
        }
    }
}
