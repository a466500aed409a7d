//! The administrator's side of an app: unit files, user, polkit rule. What `new` proposes and what `check` demands.
//!
//! Text work and reading alone: slotd writes no unit file, and neither does this. Who writes, enables and reloads is
//! the command line, as the administrator who calls it.

pub mod check;
pub mod polkit;
pub mod scaffold;
pub mod syntax;
pub mod unitfile;

pub use check::{Expected, Finding, Profile, Severity, check};
pub use polkit::PolkitRules;
pub use scaffold::{
    DEFAULT_PORTS, PlannedFile, Scaffold, ScaffoldError, ScaffoldPlan, ScaffoldRoute, ServiceType, polkit_file,
};
pub use unitfile::{SearchPath, UnitFile};
