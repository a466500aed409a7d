//! What users see of a deployment: the address that they call is asked all the while, by a task beside the effects.
//!
//! A shared socket under which nothing runs isn't asked: systemd would start for that client what somebody has just
//! stopped. That time counts as waited all the same, as users wait in it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::config::app::{Outside, Route};
use crate::model::UnitName;
use crate::model::measured::SeenOutside;
use crate::probes::{Target, is_answered};
use crate::units::UnitControl;

use super::super::effect::Kind;
use super::super::facts::{Side, Way};
use super::super::stage::Stage;
use super::super::world::Context;
use super::Host;

/// The longest that one question waits for its answer: a user would have given up.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// The watch of one deployment.
#[derive(Debug, Default)]
pub(super) struct Watch {
    seen: Arc<Mutex<Option<SeenOutside>>>,
    task: Mutex<Option<(Outside, JoinHandle<()>)>>,
}

impl Watch {
    /// What was seen so far.
    pub(super) fn seen(&self) -> Option<SeenOutside> {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self) {
        if let Some((_, task)) = self.task.lock().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end();
    }
}

impl<U: UnitControl> Host<U> {
    /// Begins the watch with the first effect that users may notice, and ends it with the last. Before an app's first
    /// slot is live it has no users.
    pub(super) fn watch_outside(&self, kind: Kind, context: &Context<'_>) {
        if kind == Kind::Close {
            return self.outside.end();
        }
        let Some(stage) = context.stage.filter(|stage| **stage != Stage::Preparing) else { return };
        // Where they come by both, they call the old address until they are told of the new one.
        let settings = match context.facts.way_in(stage) {
            Way::Old | Way::Both => self.settings_before(),
            Way::New => &self.settings,
        };
        let (Some(outside), Some(from)) = (&settings.outside, &context.facts.from) else { return };
        let mut task = self.outside.task.lock().unwrap_or_else(PoisonError::into_inner);
        match task.take() {
            Some((asked, running)) if asked == *outside => {
                *task = Some((asked, running));
                return;
            }
            // They come by both while they move, so the other one is there already.
            Some((_, running)) => running.abort(),
            None => {}
        }
        let Some((unit, instance)) = context.facts.to.instances().into_iter().next() else { return };
        let app = self.settings.name.clone();
        let target = Target { app, instance, unit, port: None, health_path: None };
        let starts_for_clients = matches!(settings.route, Route::Socket { .. });
        let serving = starts_for_clients.then(|| routed(from).into_iter().chain(routed(&context.facts.to)).collect());
        let seen = Arc::clone(&self.outside.seen);
        let watched = watch(self.units.clone(), outside.clone(), target, serving, seen);
        *task = Some((outside.clone(), tokio::spawn(watched)));
    }
}

/// The units that users are sent to.
fn routed(side: &Side) -> Vec<UnitName> {
    let first = side.units.first().map(|unit| unit.name.as_str().to_owned());
    side.unit_names().into_iter().filter(|unit| first.as_deref() == Some(unit.prefix())).collect()
}

/// Asks for ever. `serving`: asks only while one of these is up.
async fn watch<U: UnitControl>(
    units: U,
    outside: Outside,
    target: Target,
    serving: Option<Vec<UnitName>>,
    seen: Arc<Mutex<Option<SeenOutside>>>,
) {
    let mut waiting_since = None;
    loop {
        let asked = Instant::now();
        let answer = match &serving {
            Some(serving) if !any_up(&units, serving).await => None,
            _ => Some(is_answered(&outside.probe, &target, ANSWER_LIMIT).await),
        };
        let since = *waiting_since.get_or_insert(asked);
        note(&mut seen.lock().unwrap_or_else(PoisonError::into_inner), since.elapsed(), answer);
        if answer == Some(true) {
            waiting_since = None;
        }
        tokio::time::sleep_until(asked + outside.interval).await;
    }
}

fn note(seen: &mut Option<SeenOutside>, waited: Duration, answer: Option<bool>) {
    let seen = seen.get_or_insert_default();
    seen.gap = seen.gap.max(waited);
    seen.asked.asked += u64::from(answer.is_some());
    seen.asked.failed += u64::from(answer == Some(false));
}

async fn any_up<U: UnitControl>(units: &U, of: &[UnitName]) -> bool {
    for unit in of {
        if units.status(unit).await.is_ok_and(|status| status.is_up()) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::app::Probe;
    use crate::units::fake::FakeUnits;

    #[tokio::test(start_paused = true)]
    async fn under_a_shared_socket_that_nobody_serves_nobody_is_asked_and_users_wait() {
        let slot: crate::model::SlotName = "1".parse().expect("slot");
        let unit = UnitName::new("web@1.service");
        let target = Target {
            app: "web".parse().expect("name"),
            instance: slot.instance(1),
            unit: unit.clone(),
            port: None,
            health_path: None,
        };
        // Whoever asked here would wait for ever.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let probe = Probe::Http {
            address: crate::config::app::Address::Tcp(address),
            path: "/".into(),
            status: vec![200],
            headers: Default::default(),
            body: None,
        };
        let outside = Outside { probe, interval: Duration::from_millis(250) };
        let seen = Arc::new(Mutex::new(None));
        let units = FakeUnits::new();
        units.unit(unit.as_str());
        let watched = watch(units, outside, target, Some(vec![unit]), Arc::clone(&seen));
        assert!(tokio::time::timeout(Duration::from_secs(5), watched).await.is_err(), "it watches for ever");
        let seen = seen.lock().expect("not poisoned").expect("something was seen");
        assert_eq!(seen.asked, Default::default(), "nobody was asked");
        assert!(seen.gap > Duration::from_secs(4), "{seen:?}");
    }
}
