//! What the integration tests share. Each test binary takes it in by `mod support;` and uses its part.
#![allow(dead_code, reason = "each test binary uses its part")]

pub mod host;
#[cfg(feature = "host-tests")]
pub mod leftovers;
#[cfg(feature = "host-tests")]
pub mod workshop;
#[cfg(feature = "host-tests")]
pub mod world;
#[cfg(feature = "host-tests")]
pub mod wrk;

use std::time::{Duration, Instant};

/// Between two looks of [`wait_until`]: short against anything a test waits for.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Looks until there is something to see, and returns it. `look` says what it saw instead.
///
/// # Panics
///
/// When the deadline is over, with the last state that was seen.
#[track_caller]
pub fn wait_until<T>(what: &str, deadline: Duration, mut look: impl FnMut() -> Result<T, String>) -> T {
    let began = Instant::now();
    loop {
        match look() {
            Ok(seen) => return seen,
            Err(state) if began.elapsed() >= deadline => {
                panic!("waited {deadline:?} for {what}; last seen: {state}")
            }
            Err(_) => pause(),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place where a test sleeps: between two looks")]
fn pause() {
    std::thread::sleep(LOOK_EVERY);
}
