//! What is given out once more: after a while where the host was at fault, at once on an operator's word.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::model::Fault;

use super::memory::fate_path;
use super::settle::Evidence;
use super::{Candidate, Inbox, blocking};

impl Inbox {
    /// `candidate` couldn't be taken for a reason that isn't its own (no room on the disk): it waits with that reason,
    /// and is given out again after a while.
    pub fn again(&mut self, candidate: &Candidate, why: &Fault, after: Duration) {
        let at = Instant::now() + after;
        // It was complete, and still is unless something else is heard.
        self.settle.hear(candidate.seen.name.clone(), Evidence::MovedIn);
        self.memory.again(&candidate.seen.name, why.to_string(), at);
        // Now, so that it is seen to wait; that look says when the next one is due.
        self.look_at = Instant::now();
    }

    /// Gives out again, at once, what was refused or waits for its next try. Their names.
    pub async fn retry(&mut self) -> Vec<String> {
        let names = self.memory.forget();
        // A look under way may have read what is forgotten here.
        self.looking = None;
        for name in &names {
            // It was complete, and still is unless something else is heard.
            self.settle.hear(name.clone(), Evidence::MovedIn);
        }
        let fates: Vec<PathBuf> = names.iter().map(|name| fate_path(&self.dir.join(name), name)).collect();
        // One that stays says again what it said, and is removed by the next word.
        let _ = blocking(move || fates.iter().try_for_each(std::fs::remove_file)).await;
        self.look_at = Instant::now();
        names
    }
}
