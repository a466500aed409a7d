//! One task an app: intake, queue, deployments, the crash-loop watch.
