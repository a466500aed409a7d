//! How traffic reaches instances.
