//! Which boot this is, and how long the machine has been powered on in it.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// This boot's id; empty where the kernel doesn't tell, which equals no recorded one.
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}

/// CLOCK_BOOTTIME: counts suspended time too, starts at 0 with each boot.
pub fn powered_on() -> Duration {
    // The clock exists on every kernel that systemd runs on.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default()
}

/// The same in milliseconds, as hold marks and intents keep it.
pub fn powered_on_ms() -> u64 {
    u64::try_from(powered_on().as_millis()).unwrap_or(u64::MAX)
}

/// CLOCK_MONOTONIC in microseconds, as systemd wants it with RELOADING=1.
pub fn monotonic_micros() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}
