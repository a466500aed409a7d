//! `start`: brings up what `current` names, template by template; and `reload`.
//!
//! The gate ends well only if every instance is up, or if a deployment holds it. After a failure it stops what it
//! started, pauses while still `activating`, and ends badly.
//!
//! An app with nothing deployed is such a failure: a gate that were active over nothing would make clients of the
//! socket hang for good, and `is-active` would lie. It waits its step like any other, so a waiting client costs one
//! look a step.

use std::path::Path;

use crate::model::{AppName, Layout, SlotName, Template, UnitName};

use super::current::{self, CurrentError};
use super::pacing::Pacing;
use super::systemctl::{Seen, Systemctl, SystemctlError};
use super::{hold, route, say, wait_for};

/// Why the app isn't up.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is no `current`.
    #[error("{0}: nothing is deployed yet; drop an artifact into its inbox, then see: slotctl status {0}")]
    Nothing(AppName),
    /// `current` or its record can't be used.
    #[error("{app}: can't tell what to start: {cause}; go to a good slot: slotctl list {app}")]
    Current {
        /// The app.
        app: AppName,
        /// Why.
        cause: CurrentError,
    },
    /// A unit didn't come up.
    #[error(transparent)]
    Unit(Box<NotUp>),
    /// A reload failed.
    #[error("{app}: reload: {cause}")]
    Reload {
        /// The app.
        app: AppName,
        /// What systemctl said.
        cause: SystemctlError,
    },
}

/// A slot whose units didn't all come up.
#[derive(Debug, thiserror::Error)]
#[error("{app}: slot {slot} didn't start: {cause}{}; see: journalctl -b -u {unit}; go back: slotctl rollback {app}",
    also(.seen))]
pub struct NotUp {
    app: AppName,
    slot: SlotName,
    /// The first unit that isn't up.
    unit: UnitName,
    /// What systemctl said.
    cause: String,
    /// Those that aren't up, in words.
    seen: Vec<String>,
}

/// Starts what `current` names. `run` is the runtime folder, where failures are counted.
pub fn start(layout: &Layout, run: &Path, templates: &[Template], systemctl: &Systemctl) -> Result<(), StartError> {
    if held(layout, systemctl) {
        return Ok(());
    }
    let pacing = Pacing::new(run, layout.app());
    let before = current::link_text(layout);
    let error = match bring_up(layout, templates, systemctl) {
        Ok(()) => {
            pacing.succeeded();
            route::follow_current(layout, systemctl);
            return Ok(());
        }
        Err(error) => error,
    };

    let what = String::from_utf8_lossy(before.as_deref().unwrap_or_default()).into_owned();
    let (pause, kept) = pacing.failed(&what);
    if let Err(cause) = kept {
        say(layout.app(), &format!("failures can't be counted, so the pause is the longest: {cause}"));
    }
    say(layout.app(), &format!("no further start for {}, after this:", humantime::format_duration(pause)));
    eprintln!("slotd-gate: {error}");
    let cut_short = wait_for(pause, || match hold::valid(layout) {
        Some(_) => Some(true),
        None => (current::link_text(layout) != before).then_some(false),
    });
    // A deployment that began meanwhile has asked systemd for an active gate: its job has joined this one, and must
    // not get the old slot's failure for an answer.
    if cut_short == Some(true) && held(layout, systemctl) { Ok(()) } else { Err(error) }
}

/// Reloads the instances of `current` that run, in the order of starting.
pub fn reload(layout: &Layout, templates: &[Template], systemctl: &Systemctl) -> Result<(), StartError> {
    let app = layout.app().clone();
    let live = match current::read(layout) {
        Ok(Some(live)) => live,
        Ok(None) => return Err(StartError::Nothing(app)),
        Err(cause) => return Err(StartError::Current { app, cause }),
    };
    let batches = live.batches(templates).map_err(|cause| StartError::Current { app: app.clone(), cause })?;
    for batch in batches {
        let failed = |cause| StartError::Reload { app: app.clone(), cause };
        let seen = systemctl.show(&batch).map_err(failed)?;
        let up: Vec<UnitName> = seen.iter().filter(|seen| seen.is_up()).map(|seen| UnitName::new(&seen.unit)).collect();
        systemctl.reload(&up).map_err(failed)?;
    }
    Ok(())
}

/// Whether a deployment holds the gate. If so, settle is asked to look when the hold ends: should slotd be killed
/// before it has started anything, no unit's end would ever call settle, and the gate would stay active over nothing.
fn held(layout: &Layout, systemctl: &Systemctl) -> bool {
    let Some(hold) = hold::valid(layout) else { return false };
    let app = layout.app();
    say(app, &format!("deployment {} holds the app: nothing is started here", hold.deployment));
    let settle = UnitName::new(format!("slotd-settle@{app}:{app}.service"));
    if let Err(error) = systemctl.queue_start(&settle) {
        say(app, &format!("should slotd end now, nobody will look after it: {error}"));
    }
    true
}

fn bring_up(layout: &Layout, templates: &[Template], systemctl: &Systemctl) -> Result<(), StartError> {
    let app = layout.app().clone();
    let live = match current::read(layout) {
        Ok(Some(live)) => live,
        Ok(None) => return Err(StartError::Nothing(app)),
        Err(cause) => return Err(StartError::Current { app, cause }),
    };
    let batches = live.batches(templates).map_err(|cause| StartError::Current { app: app.clone(), cause })?;
    let mut started: Vec<UnitName> = Vec::new();
    for (template, batch) in templates.iter().zip(&batches) {
        if batch.is_empty() {
            say(&app, &format!("slot {} has no {template}: none is started", live.slot));
            continue;
        }
        say(&app, &format!("starting {}", joined(batch)));
        started.extend(batch.iter().cloned());
        if let Err((cause, down)) = start_batch(batch, systemctl) {
            // `Restart=always` goes on by itself: what isn't stopped would start through the pause.
            if let Err(error) = systemctl.stop(&started) {
                say(&app, &format!("stopping what had been started: {error}"));
            }
            let unit = down.first().map_or_else(|| batch[0].clone(), |seen| UnitName::new(&seen.unit));
            let seen = down.iter().map(Seen::words).collect();
            return Err(StartError::Unit(Box::new(NotUp { app, slot: live.slot, unit, cause, seen })));
        }
    }
    Ok(())
}

/// Starts a batch and sees that it is up; else the cause, and those that aren't.
fn start_batch(batch: &[UnitName], systemctl: &Systemctl) -> Result<(), (String, Vec<Seen>)> {
    let done = systemctl.start(batch);
    // systemctl is content with a unit whose condition said no, and with one that died a moment later.
    let down = match systemctl.show(batch) {
        Ok(seen) => seen.into_iter().filter(|seen| !seen.is_up()).collect::<Vec<_>>(),
        Err(error) => return Err((error.to_string(), Vec::new())),
    };
    match done {
        Err(error) => Err((error.to_string(), down)),
        Ok(()) if down.is_empty() => Ok(()),
        Ok(()) => Err(("systemd started it, and it isn't up".to_owned(), down)),
    }
}

fn joined(units: &[UnitName]) -> String {
    units.iter().map(UnitName::as_str).collect::<Vec<_>>().join(" ")
}

fn also(seen: &[String]) -> String {
    if seen.is_empty() { String::new() } else { format!(": {}", seen.join(", ")) }
}
