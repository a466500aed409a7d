//! SQLite: deployments and events.
