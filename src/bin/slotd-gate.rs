//! Starts and stops what `current` names; needs no slotd.

use std::process::ExitCode;

fn main() -> ExitCode {
    slotd::gate::main()
}
