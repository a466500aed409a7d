//! Readiness checks, addressed to one instance.
