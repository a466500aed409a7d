//! The drop-in directories: events as hints, the rescan as truth.
