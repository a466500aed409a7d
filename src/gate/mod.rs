//! slotd-gate: starts and stops what `current` names, without slotd.
