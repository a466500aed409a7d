//! Starts and stops what `current` names; needs no slotd.

fn main() {}
