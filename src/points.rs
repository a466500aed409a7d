//! Crash points: where a test kills the daemon, before and after each step that changes the host.
//!
//! The points are the names of a room's own list of steps, made by `named!`: the effects of a deployment, the removals of
//! `prune`, the marks of operators, the record of the queue. So a step without a point doesn't compile. Under the feature
//! `crash-points` the daemon writes each point that it passes to the file `SLOTD_CRASH_LOG`, and kills itself with SIGKILL
//! at the one that the file `SLOTD_CRASH_AT` names: "before:switch 2" is the second time from now on. That file is taken
//! away first, so that the next start passes. Without the feature nothing of this is compiled.

/// Makes an enum of steps without content, the list of all of them, and their names.
macro_rules! named {
    ($(#[$about:meta])* $enum:ident { $($step:ident = $text:literal,)* }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $enum { $(#[doc = $text] $step,)* }

        impl $enum {
            /// All of them.
            pub const ALL: &'static [$enum] = &[$($enum::$step,)*];

            /// The name that its crash points have: `before:NAME`, `after:NAME`.
            pub fn as_str(self) -> &'static str {
                match self { $($enum::$step => $text,)* }
            }
        }
    };
}
pub(crate) use named;

/// Before or after a step.
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
    if let Some(log) = std::env::var_os("SLOTD_CRASH_LOG")
        && let Ok(mut file) = std::fs::OpenOptions::new().create(true).append(true).open(log)
    {
        // A point that can't be logged is a test that fails, not a daemon that does.
        let _ = writeln!(file, "{point}");
    }
    if is_due(&point) {
        let me = nix::unistd::Pid::this();
        let _ = nix::sys::signal::kill(me, nix::sys::signal::Signal::SIGKILL);
    }
}

/// Does a step between its two points.
pub fn around<T>(name: &'static str, work: impl FnOnce() -> T) -> T {
    pass(Side::Before, name);
    let done = work();
    pass(Side::After, name);
    done
}

/// Waits in a step for as long as the file `SLOTD_HOLD_AT` says "STATE STEP".
#[cfg(not(feature = "crash-points"))]
#[inline]
pub async fn hold(_state: &'static str, _name: &'static str) {}

/// Waits in a step for as long as the file `SLOTD_HOLD_AT` says "STATE STEP", so that a test finds a deployment there.
#[cfg(feature = "crash-points")]
pub async fn hold(state: &'static str, name: &'static str) {
    let Some(file) = std::env::var_os("SLOTD_HOLD_AT") else { return };
    let point = format!("{state} {name}");
    while std::fs::read_to_string(&file).is_ok_and(|text| text.trim() == point) {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

/// Whether this is the time to die: the file names this point, and it counts no further passing.
#[cfg(feature = "crash-points")]
fn is_due(point: &str) -> bool {
    let Some(file) = std::env::var_os("SLOTD_CRASH_AT") else { return false };
    let Ok(text) = std::fs::read_to_string(&file) else { return false };
    let count = match text.trim().split_once(' ') {
        Some((wanted, count)) if wanted == point => count.parse().unwrap_or(1),
        _ => return false,
    };
    match count {
        0 | 1 => std::fs::remove_file(&file).is_ok(),
        further => std::fs::write(&file, format!("{point} {}", further - 1)).is_err(),
    }
}
