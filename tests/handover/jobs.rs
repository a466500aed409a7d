//! A queue of numbered jobs for examples/job-worker: feeding it, and whether each job was done once and by one at a time.

use std::collections::BTreeMap;

/// What the worker's log says.
#[derive(Debug, Default)]
pub struct Done {
    /// How often each job was done.
    jobs: BTreeMap<u64, u32>,
    /// By each slot.
    pub by_slot: BTreeMap<String, u64>,
    /// How many workers have begun.
    pub starts: u32,
    /// What was wrong, beside the jobs.
    pub wrong: Vec<String>,
    working: Option<String>,
}

impl Done {
    /// Reads the log.
    pub fn read(log: &str) -> Done {
        let mut done = Done::default();
        for line in log.lines() {
            done.line(line);
        }
        done
    }

    /// How many different jobs were done.
    pub fn count(&self) -> u64 {
        self.jobs.len().try_into().expect("a count")
    }

    /// Everything that is wrong if these were all jobs.
    pub fn faults(&self, all: impl IntoIterator<Item = u64>) -> Vec<String> {
        let mut faults = self.wrong.clone();
        let mut left = self.jobs.clone();
        for job in all {
            match left.remove(&job) {
                None => faults.push(format!("job {job} was not done")),
                Some(1) => {}
                Some(times) => faults.push(format!("job {job} was done {times} times")),
            }
        }
        faults.extend(left.keys().map(|job| format!("job {job} was never given")));
        faults
    }

    fn line(&mut self, line: &str) {
        match *line.split(' ').collect::<Vec<_>>() {
            ["start", slot] => {
                self.starts += 1;
                if let Some(other) = self.working.replace(slot.to_owned()) {
                    self.wrong.push(format!("{slot} started before {other} had ended"));
                }
            }
            ["done", job, slot] => {
                if self.working.as_deref() != Some(slot) {
                    self.wrong.push(format!("{slot} did job {job} while {:?} worked", self.working));
                }
                *self.jobs.entry(job.parse().expect("a number")).or_default() += 1;
                *self.by_slot.entry(slot.to_owned()).or_default() += 1;
            }
            ["end", slot] => {
                if self.working.take().as_deref() != Some(slot) {
                    self.wrong.push(format!("{slot} ended without having started"));
                }
            }
            ["overlap", slot] => self.wrong.push(format!("{slot} found the lock held by another")),
            _ => self.wrong.push(format!("what is {line:?}?")),
        }
    }
}
