//! The words of the domain. No I/O, no clock but [`Timestamp::now`].

pub mod app;
pub mod code;
pub mod deployment;
pub mod digest;
pub mod evidence;
pub mod generated;
pub mod hold;
pub mod hook;
pub mod layout;
pub mod measured;
pub mod names;
pub mod phases;
pub mod release;
pub mod retention;
pub mod route;
pub mod setting;
pub mod slot;
pub mod strategy;
pub mod time;
pub mod version;

pub use app::AppState;
pub use code::{Code, Exit};
pub use deployment::{Blame, DeploymentId, Kind, Outcome, Report, State};
pub use digest::Digest;
pub use evidence::{Evidence, Fault};
pub use hook::{HookPoint, Hooks};
pub use layout::{Layout, Link};
pub use measured::Measured;
pub use names::{AppName, InstanceName, SlotName, Template, UnitName};
pub use release::Migration;
pub use retention::Retention;
pub use setting::Class;
pub use slot::{SlotRecord, SlotState};
pub use strategy::{Numbers, StrategyName};
pub use time::Timestamp;
pub use version::{Version, VersionOrder};
