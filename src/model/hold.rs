//! The hold mark: while it is valid, the gate starts nothing and settle waits.
//!
//! slotd sets it before the first effect of a deployment, renews it with each step's deadline and
//! removes it after the close. It runs out by itself, so a slotd that was killed for good holds
//! nobody up for longer than one step may take.

use serde::{Deserialize, Serialize};

/// What stands in `/run/slotd/hold/APP`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// `/proc/sys/kernel/random/boot_id` of the boot it was written in.
    pub boot: String,
    /// Milliseconds on CLOCK_BOOTTIME up to which it holds.
    pub until_ms: u64,
    /// The deployment that holds.
    pub deployment: String,
}

impl Hold {
    /// Whether it holds at `now_ms` of boot `boot`.
    pub fn is_valid(&self, boot: &str, now_ms: u64) -> bool {
        self.boot == boot && now_ms < self.until_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_with_its_deadline_and_with_its_boot() {
        let hold = Hold { boot: "a".into(), until_ms: 10, deployment: "web-1".into() };
        assert!(hold.is_valid("a", 9));
        assert!(!hold.is_valid("a", 10));
        assert!(!hold.is_valid("b", 9));
    }
}
