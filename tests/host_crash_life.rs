//! slotd killed in the middle of a row of `tests/README.md`: what was asked for is done, or can be asked for again.

mod crash;
#[path = "crash/life/mod.rs"]
mod life;
mod support;
