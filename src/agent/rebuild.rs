//! What is set otherwise for builds makes another tree: of the bytes that are kept, by the same way as a release's.

use tokio::time::Instant;

use crate::config::app::DeployMode;
use crate::config::keys;
use crate::control::api::Change;
use crate::model::{Class, Code, Fault, HookPoint, SlotName};
use crate::slots::{Stored, unit_digest};
use crate::units::UnitControl;

use super::app::App;
use super::ask::Ask;
use super::intake::{Job, Refused, Source};
use super::intake_queue::{Bearer, Intake};
use super::retry::DELAYS;
use super::staged::Sought;

/// When a build that the host is to blame for is tried again by itself.
#[derive(Debug, Default)]
pub(super) struct Rebuild {
    pub(super) at: Option<Instant>,
    tries: usize,
    /// Why what a build has left is there still.
    left: Option<Fault>,
}

impl Rebuild {
    /// Something else is set: it is tried at once.
    pub(super) fn forget(&mut self) {
        (self.at, self.tries) = (None, 0);
    }
}

impl<U: UnitControl> App<U> {
    /// What needs the slot of all that is set: if its tree has to be built for that, it is asked again when it is.
    pub(super) async fn asked_once_built(&mut self, ask: Ask) {
        let (caller, message) = match &ask {
            Ask::Prepare(caller, _) | Ask::GoAhead(_, caller, _) => (caller.clone(), None),
            Ask::DeployStaged(request, caller, _) => (caller.clone(), request.message.clone()),
            _ => return,
        };
        match self.unbuilt(&caller, message).await {
            Ok(Some(job)) => {
                // What would be refused afterwards isn't built for.
                let refused = self.check_pause().and_then(|()| self.check_freeze(None)).err();
                return match refused.filter(|_| !matches!(ask, Ask::Prepare(..))) {
                    Some(error) => ask.refuse(error),
                    None => self.intake.push_back(Intake { job, from: Bearer::Asker(Box::new(ask)) }),
                };
            }
            Ok(None) => {}
            Err(error) => return ask.refuse(error),
        }
        match ask {
            Ask::Prepare(caller, answer) => {
                let _ = answer.send(self.prepare(&caller));
            }
            Ask::DeployStaged(request, caller, answer) => {
                let result = self.deploy_staged(request, &caller).await;
                let _ = answer.send(result);
            }
            Ask::GoAhead(before, caller, answer) => {
                let result = self.go_ahead(&before, &caller).await;
                let _ = answer.send(result);
            }
            _ => {}
        }
    }

    /// Learns of what files the unit of builds is; where systemd doesn't tell, that is no change.
    pub(super) async fn look_at_build(&mut self) {
        self.build_text = None;
        let (hooks, current) = (&self.ground.settings.hooks, self.ground.current());
        let Some((template, current)) = hooks.at(HookPoint::Build).zip(current) else { return };
        let unit = template.unit(&current.instance(1));
        if let Ok(status) = self.ground.shared.units.status(&unit).await {
            self.build_text = unit_digest(&status.files);
        }
    }

    /// That the unit which built a slot is another one now.
    pub(super) fn build_change(&self, slot: &SlotName) -> Result<Option<Change>, Fault> {
        let record = self.ground.store.record(slot).map_err(|error| error.fault())?;
        let Some((built, now)) = record.build.zip(self.build_text) else { return Ok(None) };
        // Another unit is a change by itself.
        let same = self.ground.settings.hooks.at(HookPoint::Build) == Some(&built.inputs.unit);
        let shown = |digest: crate::model::Digest| Some(format!("\"{digest}\""));
        let (from, to) = (shown(built.text), shown(now));
        let change = Change { key: keys::BUILD_UNIT.to_owned(), class: Class::NewTree, hidden: false, from, to };
        Ok((same && built.text != now).then_some(change))
    }

    /// Where releases go live by themselves, begins to build what has to be built for that.
    pub(super) fn build_what_is_set(&mut self) {
        if self.ground.settings.deploy != DeployMode::Automatic || self.rebuild.at.is_some() {
            return;
        }
        match self.unbuilt_by_itself() {
            Ok(Some(job))
                if !self.is_building(&job.source) && !matches!(self.failed_before(), Ok(Some(_)) | Err(_)) =>
            {
                self.intake.push_back(Intake { job, from: Bearer::Nobody });
            }
            Ok(_) => {}
            Err(fault) => tracing::error!(SLOTD_APP = self.name(), "what is set can't be built: {fault}"),
        }
    }

    fn unbuilt_by_itself(&self) -> Result<Option<Job>, Fault> {
        let Some((of, message)) = self.of_itself()? else { return Ok(None) };
        match self.sought(&of, None, "automatic", message)? {
            Sought::Unbuilt(job) => Ok(Some(job)),
            Sought::There(_) | Sought::OfTheSameTree(_) => Ok(None),
        }
    }

    fn is_building(&self, source: &Source) -> bool {
        let queued = self.intake.iter().any(|intake| intake.job.source == *source);
        queued || self.taking.as_ref().is_some_and(|taking| taking.source == *source)
    }

    /// The slot that couldn't be built by what is set now.
    fn failed_before(&self) -> Result<Option<(SlotName, Fault)>, Fault> {
        let inputs = keys::inputs(&self.ground.settings);
        let Some((of, _)) = self.of_itself()? else { return Ok(None) };
        let slots = self.ground.store.slots().map_err(|error| error.fault())?;
        Ok(slots.into_iter().find_map(|entry| match entry.stored {
            Stored::Refused(refused) if refused.version == of.version && refused.inputs.as_ref() == Some(&inputs) => {
                Some((entry.name, refused.fault))
            }
            _ => None,
        }))
    }

    /// What was to go live by itself isn't built: what follows from that.
    pub(super) fn not_built(&mut self, refused: &Refused) {
        if refused.fault.code == Code::Cancelled {
            // It would be begun again at once; an operator has seen it, and turned it down.
            if let Ok(Some((slot, _))) = self.of_itself() {
                self.pass_over(&slot);
            }
        } else if refused.later {
            let delay = DELAYS.get(self.rebuild.tries).or(DELAYS.last()).copied().unwrap_or_default();
            self.rebuild.tries += 1;
            self.rebuild.at = Some(Instant::now() + delay);
        }
    }

    /// Ends what a slotd before this one was building: it begins anew with its artifact.
    pub(super) async fn clear_builds(&mut self) {
        let (hands, _) = self.hands();
        if let Err(refused) = hands.clear_all(&self.place).await {
            tracing::error!(SLOTD_APP = self.name(), "what a build has left can't be cleared away: {}", refused.fault);
            self.rebuild.left = Some(refused.fault);
        }
    }

    /// It is time to try again what the host was to blame for.
    pub(super) fn rebuild(&mut self) {
        self.rebuild.at = None;
        self.choose();
    }

    /// What an operator should know: what is set isn't live since it can't be built.
    pub(super) fn build_notes(&self) -> Vec<String> {
        let left = self.rebuild.left.as_ref().map(|fault| {
            format!("what a build has left can't be cleared away: {fault}; tried again when slotd starts")
        });
        left.into_iter().chain(self.build_that_failed()).collect()
    }

    fn build_that_failed(&self) -> Option<String> {
        if !matches!(self.unbuilt_by_itself(), Ok(Some(_))) {
            return None;
        }
        let (slot, fault) = self.failed_before().ok()??;
        let app = self.name();
        Some(format!(
            "what is set for builds isn't live: {fault}; slotctl logs {app} {slot} --build, then slotctl deploy-staged {app}"
        ))
    }
}
