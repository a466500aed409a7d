//! What was seen of a unit that failed, and what the log says of a deployment.

use crate::model::evidence::MAX_JOURNAL_LINES;
use crate::model::{Fault, Report, UnitName};
use crate::units::UnitControl;

use super::Host;

impl<U: UnitControl> Host<U> {
    /// `fault` with how the unit stands and the last lines of its run's journal, where they aren't there yet.
    pub(super) async fn with_unit(&self, mut fault: Fault, unit: &UnitName) -> Fault {
        let Ok(status) = self.units.status(unit).await else { return fault };
        let seen = fault.evidence.unit.get_or_insert_with(|| status.seen(unit));
        let invocation = seen.invocation.clone();
        if fault.evidence.journal.is_empty()
            && let Some(invocation) = invocation
        {
            fault.evidence.journal = self.units.journal(&invocation, MAX_JOURNAL_LINES).await;
        }
        fault
    }

    /// One line a step that has ended, with the fields that the journal is searched by.
    pub(super) fn log(&self, report: &Report) {
        let Some(step) = report.steps.iter().rev().find(|step| step.took_ms.is_some()) else { return };
        let (deployment, app, slot, state) =
            (report.id.to_string(), report.id.app.as_str(), report.to.to_string(), step.state.as_str());
        match &step.fault {
            None => tracing::info!(
                SLOTD_DEPLOYMENT = deployment,
                SLOTD_APP = app,
                SLOTD_SLOT = slot,
                SLOTD_STATE = state,
                "{deployment} {state}: {}",
                step.what
            ),
            Some(fault) => tracing::error!(
                SLOTD_DEPLOYMENT = deployment,
                SLOTD_APP = app,
                SLOTD_SLOT = slot,
                SLOTD_STATE = state,
                "{deployment} {state}: failed to {}: {fault}",
                step.what
            ),
        }
    }
}
