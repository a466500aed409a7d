//! One task an app: intake, queue, deployments, the crash-loop watch. The control server holds a handle, never the
//! state.

pub mod choose;
pub mod crash;
pub mod retry;
