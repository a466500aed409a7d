//! What a deployment went by: the settings, and the files of the units. What is set, or lies there, later is held against
//! it.

use crate::config::app::DeployMode;
use crate::config::keys::{entries, inputs};
use crate::model::deployment::Kind;
use crate::model::setting::Used;
use crate::slots::unit_digest;
use crate::units::UnitControl;

use super::super::facts::Facts;
use super::super::machine::{Failure, Observed};
use super::Host;

impl<U: UnitControl> Host<U> {
    /// The candidate is no news any more, nor is what is set for its slots: where releases go live by themselves what an
    /// operator deploys in spite of it is his word on that too; elsewhere only what the candidate has.
    pub(super) async fn raise_mark(&self, facts: &Facts) -> Result<Observed, Failure> {
        let (to, order) = (facts.to.slot.clone(), self.settings.versions);
        let (set, forward) = (inputs(&self.settings), facts.kind == Kind::Deploy);
        let automatic = self.settings.deploy == DeployMode::Automatic;
        self.change(move |store| {
            let record = store.record(&to).map_err(|error| error.fault())?;
            let known = forward && (automatic || record.inputs() == set);
            let raised = store.raise_mark(&to.version, order, known.then_some(&set));
            raised.map(drop).map_err(|error| error.fault())
        })
        .await
    }

    /// What the deployment goes by.
    pub(super) async fn used(&self, facts: &Facts) -> Used {
        let settings = entries(&self.settings).into_iter().map(|entry| (entry.key, entry.value)).collect();
        let mut used = Used { settings, ..Used::default() };
        for count in &facts.to.units {
            let unit = count.name.unit(&facts.to.slot.instance(1));
            // What systemd doesn't tell can't be compared later.
            let Ok(status) = self.units.status(&unit).await else { continue };
            used.units.extend(unit_digest(&status.files).map(|digest| (count.name.clone(), digest)));
        }
        used
    }
}
