//! The apps that another one depends on, for whoever asks what a deployment of it would bring up.

use crate::control::api::Accepted;
use crate::model::AppName;
use crate::model::dependency::{Dependency, DependencyState};
use crate::units::UnitControl;

use super::registry::Registry;

impl<U: UnitControl> Registry<U> {
    /// All apps that `app` needs, in the order in which they come up: how each does, and what waits for it.
    pub(super) async fn dependencies(&self, app: &AppName) -> Vec<Dependency> {
        let mut found = Vec::new();
        for on in self.shared.directory.needs_in_order(app) {
            found.push(self.dependency(on).await);
        }
        found
    }

    /// The same in the answer to whoever asked for a deployment.
    pub(super) async fn with_dependencies(&self, app: &AppName, accepted: Accepted) -> Accepted {
        match accepted {
            Accepted::Deployment { id, kind, bound, .. } => {
                Accepted::Deployment { id, kind, bound, dependencies: self.dependencies(app).await }
            }
            other => other,
        }
    }

    async fn dependency(&self, app: AppName) -> Dependency {
        let address = self.shared.directory.neighbours.address(&app);
        let unknown = Dependency {
            app: app.clone(),
            state: DependencyState::Unknown,
            slot: None,
            next: None,
            deployment: None,
            address,
        };
        let Ok(handle) = self.get(&app) else { return unknown };
        let (Some(view), staged) = (handle.view().await, handle.goes_next().await) else { return unknown };
        let under_way = view.deployment.clone();
        let status = self.app_status(&app, view).await;
        Dependency {
            state: DependencyState::from(&status.state),
            slot: status.current,
            next: under_way.as_ref().map(|report| report.to.clone()).or(staged),
            deployment: under_way.map(|report| report.id),
            ..unknown
        }
    }
}
