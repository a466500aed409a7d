//! Wiring, shutdown, logging.
