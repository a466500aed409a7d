//! The only place that renames, links and flushes.
