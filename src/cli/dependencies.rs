//! The apps that another one depends on, as lines.

use crate::model::Dependency;
use crate::model::dependency::DependencyState;

use super::text::plain;

/// "api online, 1.0.0 at 127.0.0.1:8081; 1.1.0 goes live first".
pub fn dependency(seen: &Dependency) -> String {
    let Dependency { app, state, slot, next, deployment, address } = seen;
    let slot = slot.as_ref().map(|slot| format!(", {slot}")).unwrap_or_default();
    let address = address.as_ref().map(|address| format!(" at {}", plain(address))).unwrap_or_default();
    let by = deployment.as_ref().map(|id| format!(" by {id}")).unwrap_or_default();
    let next = next.as_ref().map(|next| format!("; {next} goes live first{by}")).unwrap_or_default();
    format!("{app} {state}{slot}{address}{next}")
}

/// The same of one that has come up first, or that was up; or didn't come up.
pub fn went_line(seen: &Dependency) -> String {
    let mark = if seen.state == DependencyState::Online { "ok" } else { "fail" };
    let by = seen.deployment.as_ref().map(|id| format!(" ({id})")).unwrap_or_default();
    format!("  {mark:<5}{:<11}{}{by}", "needs", dependency(seen))
}
