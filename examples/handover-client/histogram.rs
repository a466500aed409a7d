//! How long answers took, in a fixed number of buckets.

use std::time::Duration;

/// Buckets for each doubling: a value is known to one eighth.
const STEPS: u32 = 8;

/// Counts of durations, of one microsecond and longer.
#[derive(Debug)]
pub struct Histogram {
    buckets: Vec<u64>,
    count: u64,
}

impl Histogram {
    /// An empty one.
    pub fn new() -> Histogram {
        Histogram { buckets: vec![0; (u64::BITS * STEPS) as usize], count: 0 }
    }

    /// Counts one.
    pub fn add(&mut self, value: Duration) {
        let micros = u64::try_from(value.as_micros()).unwrap_or(u64::MAX).max(1);
        self.buckets[bucket(micros)] += 1;
        self.count += 1;
    }

    /// What `share` of all don't exceed (0.99), rounded up to its bucket's end; zero where there are none.
    pub fn quantile(&self, share: f64) -> Duration {
        // Precise enough below 2^52 values.
        #[expect(clippy::cast_precision_loss, reason = "a share of a count")]
        let wanted = share * self.count as f64;
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            #[expect(clippy::cast_precision_loss, reason = "a share of a count")]
            if *count > 0 && seen as f64 >= wanted {
                return Duration::from_micros(end(index));
            }
        }
        Duration::ZERO
    }
}

/// Which bucket holds a value: its highest bit, and the three below.
fn bucket(micros: u64) -> usize {
    let power = micros.ilog2();
    let below = if power >= 3 { (micros >> (power - 3)) & 7 } else { (micros << (3 - power)) & 7 };
    (power * STEPS) as usize + below as usize
}

/// Where a bucket ends.
fn end(index: usize) -> u64 {
    let (power, below) = (index / STEPS as usize, index % STEPS as usize);
    let end = (1_u128 << power) * (9 + below as u128) / 8;
    u64::try_from(end).unwrap_or(u64::MAX)
}
