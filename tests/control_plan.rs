//! `slotctl plan` as people and programs read it.

mod control_fake;

use std::time::Duration;

use control_fake::*;
use slotd::control::api::*;
use slotd::model::{Dependency, DependencyState, HookPoint, Migration, StrategyName};

#[test]
fn a_plan_is_told_step_by_step_and_what_can_not_be_is_refused() {
    let world = with_app();
    let unit = |name: &str| slotd::model::UnitName::new(name);
    let planned = Planned {
        app: app_name(),
        from: Some(slot("2.0.0")),
        to: slot("3.0.0"),
        strategy: StrategyName::Rolling,
        units: vec![PlannedUnit {
            unit: "web@".parse().expect("template"),
            instances: 2,
            max_surge: 1,
            max_unavailable: 0,
        }],
        route: "haproxy".into(),
        contract: PlannedContract { private: true, warm: true, own_ports: true, weights: true },
        batches: vec![
            PlannedBatch {
                stop_first: vec![],
                start: vec![unit("web@3.0.0.service")],
                stop_after: vec![unit("web@2.0.0.service")],
            },
            PlannedBatch { stop_first: vec![], start: vec![unit("web@3.0.0@2.service")], stop_after: vec![] },
        ],
        pause_after: Some(1),
        weight: Some(10),
        hooks: [
            (HookPoint::Preflight, "web-look"),
            (HookPoint::Deploy, "web-migrate"),
            (HookPoint::PostDeploy, "web-tell"),
        ]
        .map(|(at, name)| PlannedHook { at, unit: unit(&format!("{name}@3.0.0.service")) })
        .to_vec(),
        migration: Migration::Compatible,
        by_hand: false,
        soak: Duration::from_secs(60),
        confirm: true,
        dependencies: vec![Dependency {
            app: "api".parse().expect("name"),
            state: DependencyState::Online,
            slot: Some(slot("1.0.0")),
            next: Some(slot("1.1.0")),
            deployment: None,
            address: Some("127.0.0.1:8081".into()),
        }],
        foreseen: Foreseen { change: true, ..Default::default() },
        reroute: None,
        refusals: vec![],
    };
    world.fake.set(|script| script.planned = Some(planned.clone()));
    let ran = world.slotctl(&["plan", "web", "3.0.0"]);
    assert_eq!(
        ran.stdout,
        "web: 3.0.0 over 2.0.0, rolling\n  \
         unit        web@ × 2: at most 1 more run, at most 0 fewer are ready\n  \
         route       haproxy: a candidate has no users before the switch, the old slot can stay warm, a share can be set\n  \
         needs       api online, 1.0.0 at 127.0.0.1:8081; 1.1.0 goes live first\n  \
         data        compatible migration: older slots go on working\n  \
         hook        web-look@3.0.0.service, preflight: before anything is touched; if it fails, nothing is\n  \
         hook        web-migrate@3.0.0.service, deploy: once, before the first new instance starts; if it fails, slotd goes back\n  \
         batch 1     start and prove web@3.0.0.service, drain and stop web@2.0.0.service\n  \
         then        waits for `slotctl promote web`, with 10 % of new users\n  \
         batch 2     start and prove web@3.0.0@2.service\n  \
         switch      current names 3.0.0\n  \
         soak        watched for 1m, and back unless `slotctl confirm web` comes\n  \
         then        what is left of the old slot drains and stops\n  \
         hook        web-tell@3.0.0.service, post_deploy: once the new slot is live for good; if it fails, it is told\n"
    );
    assert_eq!(
        (ran.code, document::<Planned>(&world.slotctl(&["plan", "web", "3.0.0", "--json"]))),
        (0, planned.clone())
    );

    let refusal = PlannedRefusal {
        code: slotd::model::Code::RouteUnsupported,
        message: "only HAProxy gives an instance a share of its own".into(),
        fix: "leave `weight` out".into(),
    };
    let refused = Planned { batches: vec![], refusals: vec![refusal], ..planned };
    world.fake.set(|script| script.planned = Some(refused));
    let ran = world.slotctl(&["plan", "web", "3.0.0", "--strategy", "blue-green"]);
    contains(&ran.stdout, &["route.unsupported: only HAProxy", "instead     leave `weight` out"]);
    assert_eq!(ran.code, 5);
    assert!(world.fake.calls().contains(&"plan web 3.0.0 blue-green".to_owned()));
}
