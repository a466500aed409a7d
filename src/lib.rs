//! slotd
