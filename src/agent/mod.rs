//! One task an app: intake, queue, deployments, the crash-loop watch. The control server holds a handle, never the
//! state.

mod again;
mod alarm;
mod answers;
pub mod app;
pub mod ask;
pub mod choose;
pub mod crash;
pub mod deploy;
mod events;
mod freeze;
pub mod intake;
mod intake_queue;
pub mod notices;
mod naming;
pub mod orphan;
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
mod teller;
pub mod strays;
#[cfg(test)]
mod tests;
pub mod turn;
pub mod verbs;
mod view;
pub mod watch;
