//! Slots on disk: publish, verify, links, keep-set, prune.
