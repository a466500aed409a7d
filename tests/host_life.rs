//! The life of a release on a real systemd, by the rows of `tests/README.md`: what each is for, and what it refuses.

mod life;
mod support;
