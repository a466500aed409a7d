//! Crash points: where a test kills the daemon, before and after each effect.
//!
//! The points are the effects' own kinds and the removals of `prune`; under the feature `crash-points` the daemon
//! kills itself with SIGKILL at the one that `SLOTD_CRASH_AT` names ("before:switch"), once, and writes each point
//! that it passes to the file `SLOTD_CRASH_LOG`. Without the feature nothing of this is compiled.

/// Before or after an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Nothing of it has happened.
    Before,
    /// All of it has.
    After,
}

/// Passes a point.
#[cfg(not(feature = "crash-points"))]
#[inline]
pub fn pass(_side: Side, _name: &'static str) {}

/// Passes a point: dies there if the environment says so.
#[cfg(feature = "crash-points")]
pub fn pass(side: Side, name: &'static str) {
    use std::io::Write;

    let point = format!("{}:{name}", if side == Side::Before { "before" } else { "after" });
    if let Ok(log) = std::env::var("SLOTD_CRASH_LOG")
        && let Ok(mut file) = std::fs::OpenOptions::new().create(true).append(true).open(log)
    {
        // A point that can't be logged is a test that fails, not a daemon that does.
        let _ = writeln!(file, "{point}");
    }
    if std::env::var("SLOTD_CRASH_AT").is_ok_and(|at| at == point) {
        let me = nix::unistd::Pid::this();
        let _ = nix::sys::signal::kill(me, nix::sys::signal::Signal::SIGKILL);
    }
}
