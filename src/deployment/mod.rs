//! Deployments: how an app gets from one slot to another, and back.
//!
//! `machine` decides, by the course of stages in `course` and their scripts in `script`, over the row of `batches`, and
//! touches nothing; `driver` performs what it decides in a [`world::World`] and tells it what
//! came of it; `side` is recovery's one rule. A deployment is a row of [`stage::Stage`]s. Each is announced (written
//! to the intent file) before its first [`effect::Effect`], and every effect asks for what is, not for what was done:
//! doing it twice is doing it once. So live path, way back and recovery share all effects.

pub mod batches;
pub mod clock;
mod course;
pub mod driver;
pub mod effect;
pub mod facts;
pub mod host;
pub mod intent;
pub mod machine;
mod meter;
pub mod neighbours;
mod plan;
pub mod reach;
mod script;
pub mod side;
#[cfg(test)]
pub mod sim;
#[cfg(test)]
pub mod site;
pub mod stage;
pub mod words;
pub mod world;

pub use driver::{Said, drive};
pub use effect::Effect;
pub use facts::Facts;
pub use machine::Machine;
pub use stage::Stage;
pub use words::Refused;
