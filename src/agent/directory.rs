//! All apps of this slotd: who answers for each, and what the others may know of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::deployment::neighbours::Neighbours;
use crate::model::AppName;

use super::ask::AppHandle;

/// The apps by name. Clones are handles to the same.
#[derive(Clone)]
pub struct Directory {
    /// What a deployment may know of other apps.
    pub neighbours: Neighbours,
    apps: Arc<Mutex<BTreeMap<AppName, AppHandle>>>,
    complete: watch::Sender<bool>,
}

impl Directory {
    /// No apps yet.
    pub fn new() -> Self {
        Directory { neighbours: Neighbours::default(), apps: Arc::default(), complete: watch::Sender::new(false) }
    }

    /// The apps that have a task.
    pub(super) fn apps(&self) -> MutexGuard<'_, BTreeMap<AppName, AppHandle>> {
        // What it guards is whole between any two statements.
        self.apps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who answers for an app.
    pub(super) fn handle(&self, app: &AppName) -> Option<AppHandle> {
        self.apps().get(app).cloned()
    }

    /// All apps that there are have been read once.
    pub(super) fn is_complete(&self) {
        self.complete.send_replace(true);
    }

    /// Waits for that: before it, an app that isn't here may only not have come yet.
    pub(super) async fn completed(&self) {
        // The sender lives as long as this.
        let _ = self.complete.subscribe().wait_for(|complete| *complete).await;
    }

    /// The apps that `app` needs, and those that they need: each after all that it needs itself, `app` not among them.
    pub(super) fn needs_in_order(&self, app: &AppName) -> Vec<AppName> {
        in_order(app, &|of| self.neighbours.needs_of(of))
    }
}

impl Default for Directory {
    fn default() -> Self {
        Directory::new()
    }
}

/// Settings that are in force may make a circle while the file of one of them is broken: each app comes once all the same.
fn in_order(app: &AppName, needs: &dyn Fn(&AppName) -> Vec<AppName>) -> Vec<AppName> {
    fn visit(app: &AppName, needs: &dyn Fn(&AppName) -> Vec<AppName>, seen: &mut Vec<AppName>, out: &mut Vec<AppName>) {
        for on in needs(app) {
            if !seen.contains(&on) {
                seen.push(on.clone());
                visit(&on, needs, seen, out);
                out.push(on);
            }
        }
    }
    let (mut seen, mut out) = (vec![app.clone()], Vec::new());
    visit(app, needs, &mut seen, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(app: &str, needs: &[(&str, &[&str])]) -> String {
        let name = |text: &str| text.parse::<AppName>().expect("a name");
        let of = |app: &AppName| {
            let found = needs.iter().find(|(it, _)| *it == app.as_str());
            found.map(|(_, on)| on.iter().map(|on| name(on)).collect()).unwrap_or_default()
        };
        in_order(&name(app), &of).iter().map(AppName::as_str).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn each_comes_after_all_that_it_needs_and_once() {
        let shop: &[(&str, &[&str])] = &[("web", &["api", "mail"]), ("api", &["db", "mail"]), ("mail", &["db"])];
        assert_eq!(order("web", shop), "db mail api");
        assert_eq!(order("mail", shop), "db");
        assert_eq!(order("db", shop), "");
    }

    #[test]
    fn a_circle_in_force_ends() {
        assert_eq!(order("web", &[("web", &["api"]), ("api", &["web", "db"]), ("db", &["api"])]), "db api");
    }
}
