//! The daemon.

use std::process::ExitCode;

fn main() -> ExitCode {
    slotd::daemon::main()
}
