//! How an app stands, for whoever asks.

use tokio::time::Instant;

use crate::config::app::DeployMode;
use crate::config::keys;
use crate::control::api::WaitingItem;
use crate::deployment::reach;
use crate::model::{Class, DependencyState, Timestamp};
use crate::units::UnitControl;

use super::app::{App, Work};
use super::ask::View;
use super::changes::changes_since;
use super::intake_queue::Taking;
use super::retry::{self, Retry};
use super::{choose, orphan};

impl<U: UnitControl> App<U> {
    pub(super) fn view(&self) -> View {
        let deployment = match &self.work {
            Work::Deploying(running) => running.shown.borrow().clone(),
            Work::Nothing | Work::Pruning(..) | Work::Clearing(_) => {
                self.queued.as_ref().map(|wanted| wanted.report.clone())
            }
        };
        let (pinned, unread) = match self.ground.store.pinned(None) {
            Ok(pinned) => (pinned, None),
            Err(error) => (None, Some(format!("nothing goes live by itself: {}", error.fault()))),
        };
        View {
            settings: self.ground.settings.clone(),
            store: self.ground.store.clone(),
            orphaned: self.orphaned,
            deployment,
            queued: self.queued.as_ref().map(|wanted| wanted.report.clone()),
            last: self.last.clone(),
            crash_loop: self.live.looping.clone(),
            waiting: self.waiting(),
            taking: self.taking.as_ref().map(Taking::taken),
            refused: self.refused(),
            fault: self.fault.clone(),
            problem: self.inbox.problem().cloned(),
            pinned,
            frozen: self.ground.store.frozen(),
            scheduled: self.shown_schedule(),
            notes: self.notes().into_iter().chain(unread).collect(),
        }
    }

    fn notes(&self) -> Vec<String> {
        let unsigned = "accepts unsigned artifacts from whoever can write to its inbox".to_owned();
        let unsigned = if self.orphaned { orphan::NOTE.to_owned() } else { unsigned };
        let faults = self.unkept.iter().chain(&self.unread).map(ToString::to_string);
        let notes = self.teller.notes().into_iter().chain(self.stray_notes()).chain(self.build_notes());
        let way = self.ground.current().and_then(|current| reach::trouble(&self.ground.store, &current));
        let way = way.map(|fault| {
            format!("users come by the route that is set, since that of the live slot isn't known: {fault}")
        });
        std::iter::once(unsigned).chain(faults).chain(notes).chain(way).collect()
    }

    /// What waits, with its reason.
    fn waiting(&self) -> Vec<WaitingItem> {
        let item = |what: &str, reason: String| WaitingItem { what: what.to_owned(), reason };
        let files = self.inbox.waiting().iter().map(|(what, reason)| item(what, reason.clone()));
        let taking = self.taking.iter().map(|taking| item(&taking.file, taking.doing()));
        let turns = self.intake.iter().enumerate();
        let turns = turns.map(|(place, intake)| item(&intake.job.file, format!("queued at place {}", place + 1)));
        let queued = self.queued.iter().map(|wanted| {
            let first = wanted.report.dependencies.iter().find(|it| it.state == DependencyState::Deploying);
            let why = match (&self.work, self.pause_mark()) {
                (Work::Nothing, Some(mark)) => format!("waits: the app is paused until {} is removed", mark.display()),
                (Work::Nothing, None) if self.leading.is_some() => match first.and_then(|it| it.deployment.as_ref()) {
                    Some(id) => format!("waits for {id}, which goes first"),
                    None => "waits for the apps that it depends on".to_owned(),
                },
                _ => "waits for the one under way".to_owned(),
            };
            item(&wanted.report.to.to_string(), format!("{} {why}", wanted.report.id))
        });
        let retry = self.retry_at.zip(self.last.as_ref()).map(|(at, last)| {
            let rest = at.saturating_duration_since(Instant::now()).as_secs();
            let time = nth(last.attempt + 1);
            let reason =
                format!("is tried again in {rest} s, for the {time} time, unless `slotctl cancel {}`", self.name());
            item(&last.to.to_string(), reason)
        });
        files
            .chain(taking)
            .chain(turns)
            .chain(queued)
            .chain(self.waiting_schedule())
            .chain(self.held_back())
            .chain(self.held_settings())
            .chain(self.waiting_way().map(|why| item("route", why)))
            .chain(retry)
            .chain(self.exhausted())
            .chain(self.left_open())
            .collect()
    }

    fn held_back(&self) -> Option<WaitingItem> {
        let (slot, why) = self.held_choice()?;
        Some(WaitingItem { what: slot.to_string(), reason: why.to_string() })
    }

    /// What is set for slots and would go live as another one, if nothing kept it from that.
    fn held_settings(&self) -> Option<WaitingItem> {
        let by_hand = self.ground.settings.deploy == DeployMode::Manual;
        let is_held = by_hand || self.rests() && self.inputs_are_new().unwrap_or_default();
        let current = self.ground.current().filter(|_| is_held && !self.orphaned)?;
        let (settings, store) = (&self.ground.settings, &self.ground.store);
        let changes = changes_since(settings, store, &current, &keys::inputs(settings)).ok()?;
        let keys = changes
            .into_iter()
            .filter(|change| matches!(change.class, Class::NewSlot | Class::NewTree))
            .map(|change| change.key);
        let keys: Vec<String> = keys.collect();
        let why = self.with_rules(|_, rules| choose::held(rules)).ok()??;
        (!keys.is_empty()).then(|| WaitingItem { what: keys.join(", "), reason: why.to_string() })
    }

    /// What was tried often enough: nothing but an operator's word brings it back.
    fn exhausted(&self) -> Option<WaitingItem> {
        let last = self.last.as_ref().filter(|last| retry::plan(last, Timestamp::now()) == Retry::Exhausted)?;
        let (app, to) = (self.name(), &last.to);
        let reason = format!("was tried {} times; it waits for `slotctl activate {app} {to}`", last.attempt);
        Some(WaitingItem { what: to.to_string(), reason })
    }

    fn left_open(&self) -> Option<WaitingItem> {
        let at = self.recover_at?;
        let rest = at.saturating_duration_since(Instant::now()).as_secs();
        let reason = format!("an open deployment, or a broken link, is brought in order in {rest} s");
        Some(WaitingItem { what: self.name().to_owned(), reason })
    }
}

fn nth(number: u32) -> String {
    match number {
        2 => "2nd".into(),
        3 => "3rd".into(),
        n => format!("{n}th"),
    }
}
