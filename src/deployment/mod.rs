//! The deployment machine and what drives it.
