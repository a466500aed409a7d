//! One task an app: intake, queue, deployments, the crash-loop watch. The control server holds a handle, never the
//! state.

mod again;
pub mod ahead;
mod alarm;
mod answers;
pub mod app;
pub mod ask;
pub mod choose;
pub mod crash;
mod dependencies;
pub mod deploy;
pub mod directory;
mod events;
mod foresee;
mod freeze;
pub mod intake;
mod intake_queue;
mod naming;
pub mod notices;
pub mod orphan;
mod over;
mod pin;
mod plan;
mod prune;
mod queue;
pub mod registry;
pub mod retry;
mod scale;
mod schedule;
mod service;
mod set;
mod settings;
pub mod shared;
mod staged;
mod status;
pub mod strays;
mod teller;
#[cfg(test)]
mod tests;
pub mod turn;
pub mod verbs;
mod view;
pub mod watch;
