//! What waits to be deployed: releases above the mark, and settings that what is live hasn't. In manual mode an operator
//! brings it together into one deployment; in automatic mode releases go live by themselves, and so does a changed
//! environment or number of instances, as another slot of the same files.
//!
//! What waits is found anew each time; `staged.json` only remembers since when, and under which number it was shown.

use serde::{Deserialize, Serialize};

use crate::config::app::DeployMode;
use crate::config::chosen::Chosen;
use crate::config::keys;
use crate::config::origins::Origin;
use crate::control::api::{Accepted, ApiError, DeployedStaged, RedeployRequest, Staged, StagedWhat};
use crate::control::service::Caller;
use crate::durable::{read_json, write_json};
use crate::model::deployment::{Kind, Otherwise};
use crate::model::setting::{Inputs, Said};
use crate::model::slot::SlotRecord;
use crate::model::{Code, Digest, Fault, SlotName, Timestamp};
use crate::slots::Stored;
use crate::units::UnitControl;

use super::ahead::Ahead;
use super::app::App;
use super::changes::{changes_since, hidden};
use super::choose;
use super::intake::{Job, Source};
use super::verbs::Verb;

/// `staged.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Memory {
    /// How many numbers were given.
    given: u64,
    /// What waited when it was looked at last.
    items: Vec<Remembered>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Remembered {
    /// "release", or a setting's key.
    key: String,
    /// Which release, or the value.
    value: Option<String>,
    id: u64,
    by: String,
    at: Timestamp,
    message: Option<String>,
}

/// Something that waits, with what it is known by.
struct Waits {
    what: StagedWhat,
    key: String,
    value: Option<String>,
    /// Who brought or set it.
    said: Said,
}

impl<U: UnitControl> App<U> {
    /// What waits, releases first, the highest before the others.
    pub(super) fn staged(&self) -> Result<Vec<Staged>, Fault> {
        let path = self.ground.store.layout().staged();
        let memory = read_json::<Memory>(&path).unwrap_or_else(|error| {
            tracing::warn!(SLOTD_APP = self.name(), "when what is staged came isn't known: {error}");
            None
        });
        let before = memory.unwrap_or_default();
        let mut now = Memory { given: before.given, items: Vec::new() };
        let mut staged = Vec::new();
        for Waits { what, key, value, said } in self.waits()? {
            let known = before.items.iter().find(|item| item.key == key && item.value == value);
            let item = known.cloned().unwrap_or_else(|| {
                now.given += 1;
                let Said { by, at, message } = said;
                Remembered { key, value, id: now.given, by, at, message }
            });
            let Remembered { id, by, at, message, .. } = item.clone();
            staged.push(Staged { id, at, by, message, what });
            now.items.push(item);
        }
        if now != before
            && let Err(error) = write_json(&path, &now)
        {
            tracing::warn!(SLOTD_APP = self.name(), "since when something is staged isn't kept: {error}");
        }
        Ok(staged)
    }

    /// All that waits.
    fn waits(&self) -> Result<Vec<Waits>, Fault> {
        let mut waits = Vec::new();
        for slot in self.releases()? {
            let origin = self.ground.store.record(&slot).map_err(|error| error.fault())?;
            let (created, origin) = (origin.created, origin.origin);
            let said = Said { by: origin.by, at: created, message: origin.message };
            waits.push(Waits {
                key: "release".to_owned(),
                value: Some(slot.version.to_string()),
                what: StagedWhat::Release { slot },
                said,
            });
        }
        let Some(current) = self.ground.current() else { return Ok(waits) };
        let inputs = keys::inputs(&self.ground.settings);
        let mut changes = changes_since(&self.ground.settings, &self.ground.store, &current, &inputs)?;
        changes.extend(self.build_change(&current)?);
        let chosen = Chosen::read(&self.ground.store.layout().chosen()).unwrap_or_default();
        for change in changes {
            let said = match self.ground.settings.origins.get(&change.key) {
                Some(Origin::Verb) => chosen.said(&change.key).cloned(),
                _ => None,
            };
            let said = said.unwrap_or_else(|| {
                let by = format!("/etc/slotd/apps/{}.toml", self.name());
                Said { by, at: Timestamp::now(), message: None }
            });
            let (key, value) = (change.key.clone(), change.to.clone());
            waits.push(Waits { what: StagedWhat::Setting(hidden(change)), key, value, said });
        }
        Ok(waits)
    }

    /// The releases that could go live, the highest first; of each its last slot.
    pub(super) fn releases(&self) -> Result<Vec<SlotName>, Fault> {
        self.with_rules(|ready, rules| choose::eligible(ready, &rules.free()))
    }

    /// The slot that goes live by itself now, if one does: a release, or what is live with what is set otherwise since.
    pub(super) fn next_by_itself(&self) -> Result<Option<SlotName>, Fault> {
        let Some((of, message)) = self.of_itself()? else { return Ok(None) };
        let current = self.ground.current();
        let is_release = message.is_none();
        // What has to be built first is seen to by `build_what_is_set`; then it is chosen.
        let slot = self.configured(&of, None, "automatic", message)?;
        let slot = slot.and_then(|slot| self.unless_quarantined(slot));
        Ok(slot.filter(|slot| is_release || current.as_ref() != Some(slot)))
    }

    /// Of which slot what goes live by itself is made, if anything does; for a changed setting with its message.
    pub(super) fn of_itself(&self) -> Result<Option<(SlotName, Option<String>)>, Fault> {
        if let Some(release) = self.automatic()? {
            return Ok(Some((release, None)));
        }
        if self.rests() || self.ground.settings.deploy != DeployMode::Automatic || !self.inputs_are_new()? {
            return Ok(None);
        }
        Ok(self.ground.current().map(|current| (current, Some("changed settings".to_owned()))))
    }

    /// Whether nothing goes live by itself, whatever there is.
    pub(super) fn rests(&self) -> bool {
        self.pause_mark().is_some() || self.is_held() || self.orphaned
    }

    fn unless_quarantined(&self, slot: SlotName) -> Option<SlotName> {
        self.ground.store.slot(&slot).is_some_and(|entry| entry.quarantine.is_none()).then_some(slot)
    }

    /// Whether something else is set for slots than when something was deployed last.
    pub(super) fn inputs_are_new(&self) -> Result<bool, Fault> {
        let mark = self.ground.store.mark().map_err(|error| error.fault())?;
        let known = mark.and_then(|mark| mark.inputs);
        Ok(known.is_some_and(|known| known != keys::inputs(&self.ground.settings)))
    }

    /// The slot of the same release as `of` with what is set now: `of` itself, one that is there, or a new one; none yet where
    /// its tree has to be built first.
    ///
    /// `text`: of what files the build's unit is now, where that counts. By itself nothing is built anew for them: an upgrade
    /// of some package may bring a drop-in.
    pub(super) fn configured(
        &self,
        of: &SlotName,
        text: Option<&Digest>,
        by: &str,
        message: Option<String>,
    ) -> Result<Option<SlotName>, Fault> {
        match self.sought(of, text, by, message.clone())? {
            Sought::There(slot) => Ok(Some(slot)),
            Sought::Unbuilt(_) => Ok(None),
            Sought::OfTheSameTree(inputs) => {
                let made = self.ground.store.redeploy(of, inputs, by, message);
                made.map(Some).map_err(|error| error.fault())
            }
        }
    }

    /// The same, and nothing is made.
    pub(super) fn sought(
        &self,
        of: &SlotName,
        text: Option<&Digest>,
        by: &str,
        message: Option<String>,
    ) -> Result<Sought, Fault> {
        let store = &self.ground.store;
        let inputs = keys::inputs(&self.ground.settings);
        let record = store.record(of).map_err(|error| error.fault())?;
        let built_so = |record: &SlotRecord| match (&record.build, text) {
            (Some(built), Some(text)) => built.text == *text,
            _ => true,
        };
        if record.inputs() == inputs && built_so(&record) {
            return Ok(Sought::There(of.clone()));
        }
        let slots = store.slots().map_err(|error| error.fault())?;
        let same = slots.into_iter().filter(|entry| entry.name.version == of.version);
        let made = same.filter(
            |entry| matches!(&entry.stored, Stored::Slot(record) if record.inputs() == inputs && built_so(record)),
        );
        if let Some(slot) = made.map(|entry| entry.name).max_by_key(|name| name.redeployment) {
            return Ok(Sought::There(slot));
        }
        if record.inputs().build == inputs.build && built_so(&record) {
            return Ok(Sought::OfTheSameTree(inputs));
        }
        let (source, by) = (Source::Kept(of.clone()), by.to_owned());
        let (file, version) = (record.origin.file, Some(of.version.clone()));
        Ok(Sought::Unbuilt(Job { source, file, version, sha256: None, by, message }))
    }

    /// What has to be built before all that is staged can be brought together.
    pub(super) async fn unbuilt(&mut self, caller: &Caller, message: Option<String>) -> Result<Option<Job>, ApiError> {
        self.check_settings()?;
        self.look_at_build().await;
        let release = self.releases()?.into_iter().next();
        let Some(of) = release.or_else(|| self.ground.current()) else { return Ok(None) };
        match self.sought(&of, self.build_text.as_ref(), &caller.name, message)? {
            Sought::Unbuilt(job) => Ok(Some(job)),
            Sought::There(_) | Sought::OfTheSameTree(_) => Ok(None),
        }
    }

    /// That slot, which is built by now.
    fn built(&self, of: &SlotName, caller: &Caller, message: Option<String>) -> Result<SlotName, ApiError> {
        self.configured(of, self.build_text.as_ref(), &caller.name, message)?.ok_or_else(|| {
            let message = format!("what builds {of} has changed while it was built");
            ApiError::new(Code::RequestBusy, message).next(format!("slotctl staged {}", self.name()))
        })
    }

    /// Brings all that is staged together into one deployment.
    pub(super) async fn deploy_staged(
        &mut self,
        request: RedeployRequest,
        caller: &Caller,
    ) -> Result<DeployedStaged, ApiError> {
        let RedeployRequest { strategy, migration, message, without_dependencies, route } = request;
        if route {
            return Err(ApiError::new(
                Code::RequestInvalid,
                "another way for users is no part of what is brought together",
            )
            .next(format!("slotctl redeploy {} --route", self.name())));
        }
        self.check_settings()?;
        self.admit(Verb::DeployStaged)?;
        let (apart, staged): (Vec<_>, Vec<_>) = self.staged()?.into_iter().partition(|it| it.what.is_apart());
        if let (Some(way), false, true) = (self.waiting_way(), apart.is_empty(), staged.is_empty()) {
            return Err(ApiError::new(Code::RouteUnsupported, format!("nothing else is staged: {way}"))
                .next(format!("slotctl plan {} --route", self.name())));
        }
        let current = self.ground.current();
        if staged.is_empty() {
            let current = current.ok_or_else(|| self.nothing_is_live())?;
            return Ok(DeployedStaged { staged, accepted: Accepted::Unchanged { current }, report: None });
        }
        self.check_pause()?;
        self.check_freeze(None)?;
        let release = self.releases()?.into_iter().next();
        let Some(of) = release.or_else(|| current.clone()) else { return Err(self.nothing_is_live()) };
        let mut slot = self.built(&of, caller, message.clone())?;
        if current.as_ref() == Some(&slot) {
            slot = self.again(&slot, caller, message.clone())?;
        }
        self.check_target(&slot, false)?;
        let ahead = if without_dependencies { Ahead::Nothing } else { Ahead::Staged };
        let otherwise = Otherwise { strategy, migration };
        let accepted = self.accept(Kind::Deploy, slot, caller, message, otherwise, ahead).await?;
        Ok(DeployedStaged { staged, accepted, report: None })
    }

    /// The slot that `deploy-staged` would bring live; made, if it isn't there, so that it can be planned and approved.
    pub(super) fn prepare(&self, caller: &Caller) -> Result<SlotName, ApiError> {
        self.check_settings()?;
        let release = self.releases()?.into_iter().next();
        let of = release.or_else(|| self.ground.current()).ok_or_else(|| self.nothing_is_live())?;
        self.built(&of, caller, None)
    }

    /// Deploys what is live once more, as it is: another slot of the same files, environment and units.
    pub(super) async fn redeploy(&mut self, request: RedeployRequest, caller: &Caller) -> Result<Accepted, ApiError> {
        let RedeployRequest { strategy, migration, message, route, .. } = request;
        self.check_settings()?;
        let current = self.ground.current().ok_or_else(|| self.nothing_is_live())?;
        self.check_pause()?;
        self.check_freeze(None)?;
        self.admit(Verb::Redeploy)?;
        if route {
            return self.redeploy_by_the_way(current, message, Otherwise { strategy, migration }, caller).await;
        }
        self.ground.plan(Otherwise { strategy, migration }, Kind::Deploy, &current)?;
        let slot = self.again(&current, caller, message.clone())?;
        self.accept(Kind::Deploy, slot, caller, message, Otherwise { strategy, migration }, Ahead::Nothing).await
    }

    pub(super) fn again(&self, of: &SlotName, caller: &Caller, message: Option<String>) -> Result<SlotName, Fault> {
        let record = self.ground.store.record(of).map_err(|error| error.fault())?;
        let slot = self.ground.store.redeploy(of, record.inputs(), &caller.name, message);
        slot.map_err(|error| error.fault())
    }

    fn nothing_is_live(&self) -> ApiError {
        let app = self.name();
        ApiError::new(Code::NothingToGoBackTo, format!("nothing of {app} is live, and nothing is staged"))
            .next(format!("slotctl deploy {app}-VERSION.tar.zst --app {app}"))
    }
}

/// What there is of a slot with what is set.
pub(super) enum Sought {
    /// It is there.
    There(SlotName),
    /// It can be made of the tree that there is, with this.
    OfTheSameTree(Inputs),
    /// Its tree has to be built first.
    Unbuilt(Job),
}
