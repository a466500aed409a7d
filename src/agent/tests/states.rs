//! The one word of an app's state, by what its task and systemd say.

use super::*;
use crate::agent::registry::Registry;
use crate::control::service::Service as _;
use crate::model::AppState;

impl Lively<'_> {
    /// The word, as whoever asks the daemon is told it.
    async fn word(&self) -> String {
        let registry = Registry::new(ground(self.site).shared, WatchHub::default(), LONG);
        let name = self.site.settings.name.clone();
        registry.put(name.clone(), self.handle.clone());
        let state = registry.app(&name).await.expect("known").state;
        match state {
            AppState::Degraded { fault } => format!("degraded: {fault}"),
            state => state.word().to_owned(),
        }
    }

    async fn until_called(&self, call: &str) {
        let called = |_: &View| self.site.units.calls().contains(&call.to_owned());
        self.until(call, called).await;
    }
}

#[tokio::test]
async fn between_two_slots_it_is_deploying_and_not_degraded() {
    let site = Site::serving(&["1", "2"]);
    let lively = Lively::of(&site);
    assert_eq!(lively.word().await, "online");
    site.units.unit("web@2").start_hangs();
    lively.activate("2").await.expect("accepted");
    lively.until_called("start web@2").await;
    assert_eq!(lively.word().await, "deploying");
    lively.ask(|answer| Ask::Say(crate::model::deployment::Say::Cancel, None, ann(), answer)).await.expect("cancelled");
    lively.until("over", |view| view.deployment.is_none()).await;
    assert_eq!(lively.word().await, "online");

    // Without a deployment the same is told as what it is.
    site.units.unit("web@1").dies("exited with status 3");
    assert!(lively.word().await.starts_with("degraded: web@1.service is"), "{}", lively.word().await);
    site.units.unit("web@1").is_stopped_by_hand();
    site.units.unit("web").is_stopped_by_hand();
    assert_eq!(lively.word().await, "stopped");
}

#[tokio::test]
async fn systemds_silence_is_told_in_mid_deployment_too() {
    let site = Site::serving(&["1", "2"]);
    let lively = Lively::of(&site);
    site.units.unit("web@2").start_hangs();
    lively.activate("2").await.expect("accepted");
    lively.until_called("start web@2").await;
    site.units.lose_bus();
    assert!(lively.word().await.contains("unit.control"), "{}", lively.word().await);
}

#[tokio::test]
async fn a_unit_more_is_staged_though_its_number_is_not_said() {
    let site = Site::serving(&["1"]);
    let used = crate::config::keys::entries(&site.settings).into_iter().map(|entry| (entry.key, entry.value));
    let used = crate::model::setting::Used { settings: used.collect(), ..Default::default() };
    site.store.write_used(&slot("1"), &used).expect("written");
    assert_eq!(still(&site).staged().expect("looked"), []);
    let site = site.set("[[unit]]\nname = \"worker@\"");
    let staged = still(&site).staged().expect("looked");
    assert!(staged.iter().any(|staged| staged.what.is_setting("unit.worker@.instances")), "{staged:?}");
}
