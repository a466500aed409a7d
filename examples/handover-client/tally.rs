//! What is counted.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::connection::{Failure, Server};
use crate::histogram::Histogram;
use crate::intervals::Intervals;

/// What a worker does with its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Opens one for each request.
    New,
    /// Keeps it.
    KeepAlive,
}

/// What came of a request.
#[derive(Debug)]
pub struct Outcome {
    /// Before its connection was opened.
    pub begun: Instant,
    /// A connection was opened for it.
    pub fresh: bool,
    pub server: Result<Server, Failure>,
}

/// Counts of one kind of worker.
#[derive(Debug, Default)]
pub struct Counts {
    pub requests: u64,
    pub answered: u64,
    /// By [`Failure::name`].
    pub failed: BTreeMap<&'static str, u64>,
    /// Requests that are under way.
    pub open: u64,
    pub slowest: Duration,
}

/// Somebody who answered.
#[derive(Debug)]
pub struct Seen {
    pub server: Server,
    pub answers: u64,
    pub first: Duration,
    pub last: Duration,
}

/// A worker: whom it met last, and how often that was another than before.
#[derive(Debug)]
struct Worker {
    kind: Kind,
    met: Option<usize>,
    changes: u64,
}

/// The switch that was recorded last.
#[derive(Debug)]
struct Mark {
    slot: String,
    at: Instant,
}

/// All counts.
#[derive(Debug)]
pub struct Tally {
    pub(super) began: Instant,
    pub(super) new: Counts,
    pub(super) keep_alive: Counts,
    pub(super) seen: Vec<Seen>,
    pub(super) waits: Histogram,
    pub(super) intervals: Intervals,
    pub(super) retried: u64,
    pub(super) reopened: u64,
    pub(super) stale: u64,
    pub(super) marks: u64,
    pub(super) longest_gap: Duration,
    pub(super) last_good: Option<Instant>,
    mark: Option<Mark>,
    expected: Option<String>,
    workers: Vec<Worker>,
}

impl Failure {
    /// Its key in the report.
    pub fn name(self) -> &'static str {
        match self {
            Failure::Refused => "refused",
            Failure::Connect => "connect",
            Failure::Read => "read",
            Failure::Write => "write",
            Failure::Timeout => "timeout",
            Failure::Status => "status",
            Failure::Nameless => "nameless",
            Failure::Own => "own",
        }
    }
}

impl Tally {
    /// Nothing is counted yet.
    pub fn new(began: Instant) -> Tally {
        Tally {
            began,
            new: Counts::default(),
            keep_alive: Counts::default(),
            seen: Vec::new(),
            waits: Histogram::new(),
            intervals: Intervals::new(),
            retried: 0,
            reopened: 0,
            stale: 0,
            marks: 0,
            longest_gap: Duration::ZERO,
            last_good: None,
            mark: None,
            expected: None,
            workers: Vec::new(),
        }
    }

    /// A further worker, by its number.
    pub fn join(&mut self, kind: Kind) -> usize {
        self.workers.push(Worker { kind, met: None, changes: 0 });
        self.workers.len() - 1
    }

    /// A worker begins a request.
    pub fn begin(&mut self, worker: usize) {
        let counts = self.counts(worker);
        counts.requests += 1;
        counts.open += 1;
    }

    /// What came of the request that the worker had begun.
    pub fn count(&mut self, worker: usize, outcome: Outcome) {
        let now = Instant::now();
        let waited = now - outcome.begun;
        let counts = self.counts(worker);
        counts.open -= 1;
        counts.slowest = counts.slowest.max(waited);
        let server = match outcome.server {
            Ok(server) => server,
            Err(failure) => {
                *counts.failed.entry(failure.name()).or_default() += 1;
                return;
            }
        };
        counts.answered += 1;
        self.waits.add(waited);
        if let Some(last) = self.last_good.replace(now) {
            self.longest_gap = self.longest_gap.max(now - last);
        }
        if outcome.fresh && !self.may_answer(&server, outcome.begun) {
            self.stale += 1;
        }
        self.met(worker, server, now - self.began);
    }

    /// A request was answered at its second try.
    pub fn retried(&mut self) {
        self.retried += 1;
    }

    /// A kept connection was found closed.
    pub fn reopened(&mut self) {
        self.reopened += 1;
    }

    /// A move to this slot begins.
    pub fn expect(&mut self, slot: String) {
        self.expected = Some(slot);
    }

    /// The switch to this slot is recorded.
    pub fn mark(&mut self, slot: String, at: Instant) {
        self.marks += 1;
        self.expected = None;
        self.mark = Some(Mark { slot, at });
    }

    /// The most changes from one server to another that a worker with new connections has seen.
    pub fn most_changes(&self) -> u64 {
        self.workers.iter().filter(|worker| worker.kind == Kind::New).map(|worker| worker.changes).max().unwrap_or(0)
    }

    fn may_answer(&self, server: &Server, begun: Instant) -> bool {
        let Some(mark) = &self.mark else { return true };
        begun <= mark.at || server.is(&mark.slot) || self.expected.as_ref().is_some_and(|slot| server.is(slot))
    }

    fn met(&mut self, worker: usize, server: Server, at: Duration) {
        let known = self.seen.iter().position(|seen| seen.server == server);
        let index = known.unwrap_or_else(|| {
            self.seen.push(Seen { server, answers: 0, first: at, last: at });
            self.seen.len() - 1
        });
        self.seen[index].answers += 1;
        self.seen[index].last = at;
        self.intervals.add(at, index);
        let worker = &mut self.workers[worker];
        if worker.met.replace(index).is_some_and(|before| before != index) {
            worker.changes += 1;
        }
    }

    fn counts(&mut self, worker: usize) -> &mut Counts {
        match self.workers[worker].kind {
            Kind::New => &mut self.new,
            Kind::KeepAlive => &mut self.keep_alive,
        }
    }
}
