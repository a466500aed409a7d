//! Stories of proofs on a paused clock, and single attempts against small real servers.

mod servers;
mod stories;

use crate::model::UnitName;

use super::*;

/// The second deployment of version 2.0+b1, whose names need escapes.
fn target() -> Target {
    Target {
        app: "web".parse().expect("an app"),
        instance: "2.0@bb1@r2".parse().expect("an instance"),
        unit: UnitName::new("web@2.0@bb1@r2.service"),
        port: None,
        health_path: None,
    }
}
