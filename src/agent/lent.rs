//! The tree of a build is lent to the build's user, and taken back, by a root helper of its own; then it can be removed.

use std::sync::Arc;
use std::time::Duration;

use crate::model::{AppName, Code, Fault, HookPoint, SlotName, UnitName};
use crate::points::{Side, pass};
use crate::units::{Active, JobResult, UnitControl};

use super::build::{Hands, Step, control, environment};
use super::intake::{Place, Refused, blocking};

/// The longest that the root helper may take to give files another owner.
pub(super) const LEND_LIMIT: Duration = Duration::from_secs(310);

impl<U: UnitControl> Hands<U> {
    pub(super) async fn lend(&self, place: &Place, unit: &UnitName) -> Result<(), Refused> {
        let lend = lend_unit(place.store.layout().app(), unit);
        match self.units.start(&lend, LEND_LIMIT).await {
            Ok(JobResult::Done) => Ok(()),
            Ok(result) => {
                let message = format!("the tree isn't given to the user of {unit}: {lend} ended with {result:?}");
                Err(environment(self.with_journal(Fault::new(Code::UnitStart, message), &lend).await))
            }
            Err(error) => Err(control(error)),
        }
    }

    /// All files are slotd's again; also where another slotd, or another boot, lent them.
    pub(super) async fn take_back(&self, place: &Place, unit: &UnitName) -> Result<(), Refused> {
        let lend = lend_unit(place.store.layout().app(), unit);
        pass(Side::Before, Step::TakeBack.as_str());
        let _ = self.units.stop(&lend, LEND_LIMIT).await.map_err(control)?;
        pass(Side::After, Step::TakeBack.as_str());
        let status = self.status(&lend).await?;
        if status.active != Active::Failed && status.is_down() {
            return Ok(());
        }
        let message = format!("the files of the build aren't given back: {lend} is {}", status.seen(&lend).state);
        let fault = self.with_journal(Fault::new(Code::UnitStop, message), &lend).await;
        let _ = self.units.reset_failed(&lend).await;
        Err(environment(fault))
    }

    /// Takes away what a build has left on the disk.
    pub(super) async fn clear(&self, place: &Place, slot: &SlotName, unit: &UnitName) -> Result<(), Refused> {
        if !place.store.layout().build(slot).exists() {
            return Ok(());
        }
        self.take_back(place, unit).await?;
        pass(Side::Before, Step::Clear.as_str());
        let (store, slot) = (Arc::clone(&place.store), slot.clone());
        let cleared = blocking(move || store.clear_build(&slot).map_err(|error| error.fault())).await;
        pass(Side::After, Step::Clear.as_str());
        Ok(cleared?)
    }

    /// Ends and clears away the builds that a slotd before this one was at: they begin anew with their artifacts.
    pub async fn clear_all(&self, place: &Place) -> Result<(), Refused> {
        for slot in place.store.builds().map_err(|error| error.fault())? {
            if !place.store.is_lent(&slot) {
                let store = Arc::clone(&place.store);
                blocking(move || store.clear_build(&slot).map_err(|error| error.fault())).await?;
                continue;
            }
            let app = place.store.layout().app();
            // The template may have been another one: whoever has the tree is found by the helper's units.
            let lent = self.units.list(&[format!("slotd-lend@{app}:*.service")]).await.map_err(control)?;
            let mine = |lend: &UnitName| borrower(app, lend).filter(|unit| is_of(unit, &slot));
            let unit = lent.iter().find_map(mine);
            let known = place.settings.hooks.at(HookPoint::Build);
            let Some(unit) = unit.or_else(|| known.map(|template| template.unit(&slot.instance(1)))) else {
                let message = format!("what was built for {slot} is left, and nothing says by whom");
                return Err(environment(Fault::new(Code::UnitMissing, message)));
            };
            let status = self.status(&unit).await?;
            self.end(&unit, &status).await?;
            // After a boot nobody has it lent, and the files are still the builder's: only a stop gives them back.
            if !self.status(&lend_unit(app, &unit)).await?.is_up() {
                self.lend(place, &unit).await?;
            }
            self.clear(place, &slot, &unit).await?;
        }
        Ok(())
    }
}

/// The unit that lends the tree of a build to the user of its unit.
fn lend_unit(app: &AppName, unit: &UnitName) -> UnitName {
    let unit = unit.as_str().trim_end_matches(".service");
    UnitName::new(format!("slotd-lend@{app}:{unit}.service"))
}

/// To which unit that one lends.
fn borrower(app: &AppName, lend: &UnitName) -> Option<UnitName> {
    let unit = lend.as_str().strip_prefix(&format!("slotd-lend@{app}:"))?;
    Some(UnitName::new(unit))
}

fn is_of(unit: &UnitName, slot: &SlotName) -> bool {
    unit.as_str().ends_with(&format!("@{}.service", slot.encoded()))
}
