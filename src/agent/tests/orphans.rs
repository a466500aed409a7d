//! An app whose settings file was gone when slotd began.

use super::*;
use crate::agent::orphan;

fn spawned(site: &Site) -> Lively<'_> {
    let Ground { settings, store, shared } = ground(site);
    let events = shared.events.listen();
    let spawned = orphan::spawn(&settings.name, store, shared, WatchHub::default());
    let (handle, _task) = spawned.expect("settings stand in");
    Lively { site, handle, events }
}

#[test]
fn whoever_has_slots_is_found() {
    let site = Site::with(&["1"]);
    let (state, run) = (site.base.path().join("state"), site.base.path().join("run"));
    for folder in ["apps/api/slots", "apps/job", "apps/Not-A-Name/slots/1"] {
        std::fs::create_dir_all(state.join(folder)).expect("made");
    }
    let found: Vec<String> = orphan::with_slots(&state, &run).iter().map(ToString::to_string).collect();
    assert_eq!(found, ["web"]);
    assert!(orphan::with_slots(&site.base.path().join("absent"), &run).is_empty());
}

#[tokio::test]
async fn it_is_shown_refuses_with_the_next_command_and_goes_on_when_its_file_is_back() {
    let site = Site::serving(&["1", "2"]);
    let facts = site.facts("2");
    site.store.link_next(&slot("2")).expect("next");
    let live = Live { up: true, failed_probe: None };
    let stage = Stage::Starting { live, batch: 0, proved: Default::default() };
    IntentFile::of(site.layout()).write(&Intent::new(facts.clone(), stage, site.report(&facts))).expect("written");

    let lively = spawned(&site);
    let view = lively.view().await;
    assert!(view.orphaned && view.deployment.is_none());
    let waits: Vec<&str> = view.waiting.iter().map(|item| item.reason.as_str()).collect();
    assert_eq!(waits, ["web-7 was left open, and is brought to an end once the settings file is back"]);
    let refused = lively.activate("2").await.expect_err("nobody knows how it would be proved");
    assert_eq!(refused.fault.code, Code::UnknownApp);
    assert!(refused.next.expect("a next command").contains("restore /etc/slotd/apps/web.toml"));
    let (refused, path) = lively.upload("web-2.tar", &artifact("2")).await;
    assert_eq!((refused.expect_err("no settings").fault.code, path.exists()), (Code::UnknownApp, false));
    assert!(site.units.calls().is_empty(), "{:?}", site.units.calls());
    assert!(site.layout().intent().exists());

    let (file, settings) = (site.settings.clone(), site.settings.clone());
    let ask = Ask::Settings { file, settings, rescan: LONG };
    lively.handle.asks.send(ask).await.unwrap_or_else(|_| panic!("gone"));
    let over = |view: &View| view.deployment.is_none() && outcome(view.last.as_ref()).is_some();
    let view = lively.until("over", over).await;
    assert!(!view.orphaned);
    assert_eq!(site.links(), ["2", "1", "-"]);
    site.assert_closed();
}
