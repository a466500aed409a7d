//! Who answered in each stretch of time.

use std::collections::BTreeSet;
use std::time::Duration;

/// A stretch at first.
const FIRST: Duration = Duration::from_millis(100);

/// More stretches than these are not kept: two become one instead.
const MOST: usize = 4096;

/// Stretches of equal length, from the beginning on, with those who answered in each.
#[derive(Debug)]
pub struct Intervals {
    length: Duration,
    servers: Vec<BTreeSet<usize>>,
}

impl Intervals {
    /// None yet.
    pub fn new() -> Intervals {
        Intervals { length: FIRST, servers: Vec::new() }
    }

    /// `server` answered at that time after the beginning.
    pub fn add(&mut self, at: Duration, server: usize) {
        let mut index = self.index(at);
        while index >= MOST {
            self.length *= 2;
            self.servers = self.servers.chunks(2).map(|two| two.iter().flatten().copied().collect()).collect();
            index = self.index(at);
        }
        if self.servers.len() <= index {
            self.servers.resize_with(index + 1, BTreeSet::new);
        }
        self.servers[index].insert(server);
    }

    /// How long a stretch is.
    pub fn length(&self) -> Duration {
        self.length
    }

    /// How many answered in each.
    pub fn distinct(&self) -> Vec<usize> {
        self.servers.iter().map(BTreeSet::len).collect()
    }

    fn index(&self, at: Duration) -> usize {
        usize::try_from(at.as_millis() / self.length.as_millis()).unwrap_or(usize::MAX)
    }
}
