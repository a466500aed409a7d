//! `set`: the settings that an operator may choose. They lie in `settings.toml`, over the app's file.

use crate::config::app::DeployMode;
use crate::config::chosen::Chosen;
use crate::config::{AppSettings, keys};
use crate::control::api::{Accepted, ApiError, RedeployRequest, SetAnswer, SetRequest};
use crate::control::service::Caller;
use crate::model::deployment::Otherwise;
use crate::model::setting::Said;
use crate::model::{Class, Fault, Layout, Timestamp};
use crate::units::UnitControl;

use super::ahead::Ahead;
use super::app::App;
use super::queue::Brought;
use super::verbs::Verb;

impl<U: UnitControl> App<U> {
    pub(super) async fn set_key(&mut self, request: SetRequest, caller: &Caller) -> Result<SetAnswer, ApiError> {
        let SetRequest { key, value, message } = request;
        self.check_settings()?;
        let path = self.ground.store.layout().chosen();
        let broken = |fault| ApiError::from(fault).next(format!("sudoedit {}", path.display()));
        let mut chosen = Chosen::read(&path).map_err(broken)?;
        let said = Said { by: caller.name.clone(), at: Timestamp::now(), message: message.clone() };
        let app = self.name().to_owned();
        let changed = chosen
            .set(&key, value.as_deref(), said)
            .map_err(|fault| ApiError::from(fault).next(format!("slotctl cat {app}")))?;
        let class = keys::class_of(&key);
        let mut answer = SetAnswer { key, changed, class, deployment: None, staged: false };
        if !changed {
            return Ok(answer);
        }
        let was_automatic = self.ground.settings.deploy == DeployMode::Automatic;
        let mut settings = (*self.file).clone();
        chosen.over(&mut settings);
        // What goes live at once has to be possible; anything else is said when it is planned.
        let text = chosen.text()?;
        self.ground.store.choose(&text).map_err(|error| error.fault())?;
        let value = value.as_deref().unwrap_or("what the app's file says");
        tracing::info!(SLOTD_APP = app, "{} sets {} to {}", caller.name, answer.key, shown(&answer.key, value));
        let why = message.iter().fold(answer.key.clone(), |key, message| format!("{key}: {message}"));
        self.noted(Verb::Set, None, caller, Some(why));
        self.go_by(&settings);

        let is_automatic = self.ground.settings.deploy == DeployMode::Automatic;
        let waits = self.staged().unwrap_or_default();
        match (was_automatic, is_automatic) {
            // Elsewhere it goes live by itself as soon as that is allowed.
            (false, true)
                if waits.iter().any(|it| !it.what.is_apart()) && self.check_idle().is_ok() && !self.rests() =>
            {
                // It is built first, and goes live by itself then.
                if self.unbuilt(caller, message.clone()).await?.is_some() {
                    self.choose();
                    return Ok(answer);
                }
                let request = RedeployRequest { message, without_dependencies: true, ..Default::default() };
                answer.deployment = id_of(self.deploy_staged(request, caller).await?.accepted);
            }
            (true, false) => self.leave_what_comes_by_itself(&format!("set to be deployed by hand by {}", caller.name)),
            (_, true) if matches!(class, Class::NewSlot | Class::NewTree) => {
                if let Some(current) = self.ground.current() {
                    self.choose_for(
                        &caller.name,
                        Some(Brought {
                            slot: &current,
                            message,
                            otherwise: Otherwise::default(),
                            ahead: Ahead::Nothing,
                        }),
                    );
                    answer.deployment = self.queued.as_ref().map(|wanted| wanted.report.id.clone());
                    self.promise_queued();
                }
            }
            (_, false) => answer.staged = waits.iter().any(|staged| staged.what.is_setting(&answer.key)),
            _ => {}
        }
        Ok(answer)
    }
}

pub(super) fn id_of(accepted: Accepted) -> Option<crate::model::DeploymentId> {
    match accepted {
        Accepted::Deployment { id, .. } => Some(id),
        _ => None,
    }
}

fn shown<'a>(key: &str, value: &'a str) -> &'a str {
    if keys::is_secret(key) { "another value" } else { value }
}

/// An app's settings with what operators chose over them, and why that isn't so, if it can't be read.
pub(super) fn with_chosen(mut settings: AppSettings, layout: &Layout) -> (AppSettings, Option<Fault>) {
    match Chosen::read(&layout.chosen()) {
        Ok(chosen) => {
            chosen.over(&mut settings);
            (settings, None)
        }
        Err(fault) => (settings, Some(fault)),
    }
}
