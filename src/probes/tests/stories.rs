//! What becomes of a candidate, told on a paused clock: minutes here are no time.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::*;
use crate::config::app::{Address, Proof};
use crate::units::Active;
use crate::units::fake::FakeUnits;

const UNIT: &str = "web@2.0@bb1@r2";
const CHECK: &str = "web-check@2.0@bb1@r2";

fn seconds(number: u64) -> Duration {
    Duration::from_secs(number)
}

/// Every second, three good answers in a row within 30 s, then 5 s of staying up.
fn proof() -> Proof {
    Proof { interval: seconds(1), timeout: seconds(2), successes: 3, deadline: seconds(30), stable_for: seconds(5) }
}

struct World {
    fake: FakeUnits,
    probes: Vec<Probe>,
    seen: Vec<ProofProgress>,
    took: Duration,
}

impl World {
    /// A candidate that is up, with a check unit as its probe.
    fn checked() -> World {
        let world = World::notified();
        world.fake.unit(CHECK);
        World { probes: vec![Probe::Unit { name: "web-check@".into() }], ..world }
    }

    /// A candidate that is up, with systemd's word as the proof.
    fn notified() -> World {
        let fake = FakeUnits::new();
        fake.unit(UNIT).writes("listening").runs();
        World { fake, probes: Vec::new(), seen: Vec::new(), took: Duration::ZERO }
    }

    /// The check unit's answers in their order.
    fn answers(self, good: &[bool]) -> World {
        for good in good {
            match good {
                true => drop(self.fake.unit(CHECK).passes()),
                false => drop(self.fake.unit(CHECK).start_fails("exited with status 1")),
            }
        }
        self
    }

    async fn prove(&mut self) -> Result<Proved, Fault> {
        let invocation = self.fake.status_of(UNIT).invocation;
        let began = Instant::now();
        let seen = &mut self.seen;
        let result = Prober::new(self.fake.clone())
            .prove(&self.probes, &proof(), &target(), invocation.as_deref(), &mut |step| seen.push(step))
            .await;
        self.took = began.elapsed();
        result
    }

    /// Lets `happen` run at `after`, while the proof is under way.
    fn later(&self, after: Duration, happen: impl FnOnce(&FakeUnits) + Send + 'static) {
        let fake = self.fake.clone();
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            happen(&fake);
        });
    }
}

#[tokio::test(start_paused = true)]
async fn three_good_answers_and_five_quiet_seconds() {
    let mut world = World::checked().answers(&[true, true, true]);
    let proved = world.prove().await.expect("a proof");
    assert_eq!((proved.attempts, proved.took), (3, seconds(7)));
    assert_eq!(Some(proved.invocation), world.fake.status_of(UNIT).invocation);
    let answered = |n| ProofProgress::Answered { attempt: n, streak: n, of: 3 };
    let staying = ProofProgress::Staying { stable_for: seconds(5) };
    assert_eq!(world.seen, [answered(1), answered(2), answered(3), staying]);
}

#[tokio::test(start_paused = true)]
async fn without_probes_systemds_word_is_the_proof() {
    let mut world = World::notified();
    assert_eq!(world.prove().await.expect("a proof").attempts, 3);
    assert_eq!(world.fake.calls(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_bad_answer_begins_the_row_anew() {
    let mut world = World::checked().answers(&[true, true, false, true, true, false, true, true, true]);
    assert_eq!(world.prove().await.expect("a proof").attempts, 9);
    let streak = |step: &ProofProgress| match step {
        ProofProgress::Answered { streak, .. } => Some(*streak),
        _ => None,
    };
    let streaks: Vec<u32> = world.seen.iter().filter_map(streak).collect();
    assert_eq!(streaks, [1, 2, 1, 2, 1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn wrong_for_ever_is_told_at_the_deadline() {
    let mut world = World::checked().answers(&[false; 60]);
    let fault = world.prove().await.expect_err("no proof");
    assert_eq!((fault.code, world.took), (Code::ProbeFailed, seconds(30)));
    assert_eq!(
        fault.message,
        "web@2.0@bb1@r2.service wasn't ready within 30s: unit web-check@: \
         web-check@2.0@bb1@r2.service exited with status 1"
    );
    let probe = fault.evidence.probe.expect("the probe");
    assert_eq!((probe.probe.as_str(), probe.attempts), ("unit web-check@", 30));
    assert_eq!(probe.last, "web-check@2.0@bb1@r2.service exited with status 1");
    assert_eq!(probe.instance, target().instance);
    assert_eq!(fault.evidence.unit.expect("the unit").state, "active/running");
    assert_eq!(fault.evidence.journal[0].text, "listening");
}

#[tokio::test(start_paused = true)]
async fn good_and_bad_in_turn_never_pass() {
    let flapping: Vec<bool> = (0..60).map(|n| n % 3 != 2).collect();
    let mut world = World::checked().answers(&flapping);
    assert_eq!(world.prove().await.expect_err("no proof").code, Code::ProbeFailed);
    assert_eq!(world.took, seconds(30));
}

#[tokio::test(start_paused = true)]
async fn silent_for_ever_is_silent_and_its_checks_are_stopped() {
    let mut world = World::checked();
    for _ in 0..20 {
        world.fake.unit(CHECK).start_hangs();
    }
    let fault = world.prove().await.expect_err("no proof");
    assert_eq!(fault.code, Code::ProbeSilent);
    // Each takes 2 s and the pause of 1 s.
    assert_eq!((world.took, fault.evidence.probe.expect("the probe").attempts), (seconds(30), 10));
    let calls = world.fake.calls();
    let begins = [format!("start {CHECK}"), format!("stop {CHECK}"), format!("start {CHECK}")];
    assert_eq!(calls[..3], begins);
    assert_eq!(calls.len(), 20);
}

#[tokio::test(start_paused = true)]
async fn good_answers_that_come_too_late_are_no_proof() {
    // The third good one in a row is that of the 31st second.
    let mut answers = vec![false; 29];
    answers.extend([true; 9]);
    let mut world = World::checked().answers(&answers);
    let fault = world.prove().await.expect_err("no proof");
    assert_eq!((fault.code, world.took), (Code::ProbeFailed, seconds(30)));
}

#[tokio::test(start_paused = true)]
async fn an_exit_before_the_proof_ends_it_at_once() {
    let mut world = World::checked().answers(&[false; 60]);
    world.later(Duration::from_millis(1700), |fake| drop(fake.unit(UNIT).dies("exited with status 3")));
    let fault = world.prove().await.expect_err("no proof");
    assert_eq!((fault.code, world.took), (Code::UnitExited, Duration::from_millis(1700)));
    assert_eq!(fault.message, "web@2.0@bb1@r2.service exited with status 3 before it had proved itself");
    let unit = fault.evidence.unit.expect("the unit");
    assert_eq!((unit.result.as_str(), unit.exit.as_deref()), ("exit-code", Some("exited with status 3")));
    assert_eq!(fault.evidence.journal[0].text, "listening");
}

#[tokio::test(start_paused = true)]
async fn an_exit_ends_an_attempt_that_hangs() {
    let mut world = World::checked();
    world.fake.unit(CHECK).start_hangs();
    world.later(Duration::from_millis(500), |fake| drop(fake.unit(UNIT).dies("killed by SIGKILL")));
    assert_eq!(world.prove().await.expect_err("no proof").code, Code::UnitExited);
    assert_eq!(world.took, Duration::from_millis(500));
}

#[tokio::test(start_paused = true)]
async fn ready_and_then_dead_is_unstable() {
    let mut world = World::checked().answers(&[true; 3]);
    world.later(seconds(4), |fake| drop(fake.unit(UNIT).dies("killed by SIGSEGV")));
    let fault = world.prove().await.expect_err("no proof");
    assert_eq!((fault.code, world.took), (Code::ProofUnstable, seconds(4)));
    assert_eq!(fault.message, "web@2.0@bb1@r2.service was killed by SIGSEGV after it had answered well");
}

#[tokio::test(start_paused = true)]
async fn a_restart_is_an_end_though_the_unit_is_up() {
    let mut world = World::checked().answers(&[true; 3]);
    let first = world.fake.status_of(UNIT).invocation;
    world.later(seconds(3), |fake| {
        drop(fake.unit(UNIT).dies("exited with status 1").runs().change(|status| status.restarts += 1));
    });
    let fault = world.prove().await.expect_err("no proof");
    assert_eq!(fault.code, Code::ProofUnstable);
    assert_eq!(fault.evidence.unit.expect("the unit").invocation, first);
    assert_eq!(fault.evidence.journal[0].text, "listening");
}

#[tokio::test(start_paused = true)]
async fn another_run_than_our_own_is_refused_at_once() {
    let world = World::checked();
    let result = Prober::new(world.fake.clone())
        .prove(&world.probes, &proof(), &target(), Some(&"f".repeat(32)), &mut |_| {})
        .await;
    assert_eq!(result.expect_err("no proof").code, Code::UnitStoppedByOther);
    assert_eq!(world.fake.calls(), [""; 0]);

    // It crashed and was restarted before the first look.
    world.fake.unit(UNIT).change(|status| status.restarts = 1);
    let result = Prober::new(world.fake.clone())
        .prove(&world.probes, &proof(), &target(), Some(&"f".repeat(32)), &mut |_| {})
        .await;
    assert_eq!(result.expect_err("no proof").code, Code::UnitExited);
}

#[tokio::test(start_paused = true)]
async fn a_stop_by_hand_is_nobodys_fault() {
    for after in [Duration::from_millis(500), seconds(4)] {
        let mut world = World::checked().answers(&[true; 3]);
        world.later(after, |fake| drop(fake.unit(UNIT).is_stopped_by_hand()));
        assert_eq!(world.prove().await.expect_err("no proof").code, Code::UnitStoppedByOther);
        assert_eq!(world.took, after);

        let mut world = World::checked().answers(&[true; 3]);
        world.later(after, |fake| drop(fake.unit(UNIT).is_stopped_by_hand().runs()));
        assert_eq!(world.prove().await.expect_err("no proof").code, Code::UnitStoppedByOther);
    }
}

#[tokio::test(start_paused = true)]
async fn a_unit_still_on_its_way_up_is_waited_for() {
    let mut world = World::notified();
    let starting = |status: &mut crate::units::UnitStatus| {
        status.active = Active::Activating;
        status.sub = "start".into();
    };
    world.fake.unit(UNIT).change(starting);
    world.later(Duration::from_millis(2500), |fake| {
        drop(fake.unit(UNIT).change(|status| status.active = Active::Active));
    });
    assert!(world.prove().await.is_ok());
    let missed = world.seen.iter().filter(|step| matches!(step, ProofProgress::Missed { .. })).count();
    assert_eq!(missed, 3);

    let mut world = World::notified();
    world.fake.unit(UNIT).change(starting);
    assert_eq!(world.prove().await.expect_err("no proof").code, Code::ProbeSilent);
}

#[tokio::test(start_paused = true)]
async fn a_reload_in_the_middle_costs_nothing_and_hides_nothing() {
    let mut world = World::checked().answers(&[true; 3]);
    world.later(Duration::from_millis(1500), FakeUnits::reload);
    assert!(world.prove().await.is_ok());

    let mut world = World::checked().answers(&[true; 3]);
    world.later(seconds(3), FakeUnits::reload);
    world.later(seconds(4), |fake| drop(fake.unit(UNIT).dies("exited with status 3")));
    assert_eq!(world.prove().await.expect_err("no proof").code, Code::ProofUnstable);
    assert_eq!(world.took, seconds(4));
}

#[tokio::test(start_paused = true)]
async fn a_lost_bus_blames_nobody() {
    let mut world = World::notified();
    world.later(seconds(1), FakeUnits::lose_bus);
    let fault = world.prove().await.expect_err("no proof");
    assert_eq!((fault.code, world.took), (Code::UnitControl, seconds(30)));

    let mut world = World::notified();
    world.later(Duration::from_millis(500), FakeUnits::lose_bus);
    world.later(seconds(10), FakeUnits::bus_is_back);
    assert!(world.prove().await.is_ok());

    // What happened while it was lost is seen as soon as it is back.
    let mut world = World::notified();
    world.later(Duration::from_millis(500), FakeUnits::lose_bus);
    world.later(seconds(5), |fake| drop(fake.unit(UNIT).dies("exited with status 3")));
    world.later(seconds(10), FakeUnits::bus_is_back);
    assert_eq!(world.prove().await.expect_err("no proof").code, Code::UnitExited);
    assert!(world.took < seconds(11), "{:?}", world.took);
}

#[tokio::test(start_paused = true)]
async fn a_check_that_cant_run_is_not_the_candidates_fault() {
    let can_not = |script: fn(&FakeUnits)| async move {
        let world = World::checked();
        script(&world.fake);
        let prober = Prober::new(world.fake.clone());
        prober.ask_once(&world.probes, &target(), seconds(2)).await.expect_err("no answer")
    };
    let masked = can_not(|fake| drop(fake.unit(CHECK).is_masked())).await;
    assert_eq!(masked.code, Code::UnitControl);
    assert!(masked.message.ends_with("web-check@2.0@bb1@r2.service is masked"), "{}", masked.message);
    assert_eq!(can_not(|fake| drop(fake.unit(CHECK).is_missing())).await.code, Code::UnitControl);
    assert_eq!(can_not(|fake| drop(fake.unit(CHECK).start_is_denied())).await.code, Code::UnitControl);
    // RemainAfterExit=yes: started once, it would be "good" for ever.
    assert_eq!(can_not(|fake| drop(fake.unit(CHECK).runs())).await.code, Code::UnitControl);
}

#[tokio::test(start_paused = true)]
async fn one_look_shows_what_it_saw() {
    let world = World::checked().answers(&[true, false]);
    let prober = Prober::new(world.fake.clone());
    assert_eq!(prober.ask_once(&world.probes, &target(), seconds(2)).await, Ok(()));
    let fault = prober.ask_once(&world.probes, &target(), seconds(2)).await.expect_err("a fault");
    assert_eq!(fault.code, Code::ProbeFailed);
    assert_eq!(fault.evidence.probe.expect("the probe").attempts, 1);

    let world = World::notified();
    let prober = Prober::new(world.fake.clone());
    assert_eq!(prober.ask_once(&[], &target(), seconds(2)).await, Ok(()));
    world.fake.unit(UNIT).dies("exited with status 3");
    let fault = prober.ask_once(&[], &target(), seconds(2)).await.expect_err("a fault");
    assert_eq!(fault.code, Code::ProbeSilent);
    assert!(fault.message.ends_with("notify: not up: activating (auto-restart)"), "{}", fault.message);
}

#[test]
fn probes_in_words() {
    let http = |address| Probe::Http {
        address,
        path: "/health".into(),
        status: Vec::new(),
        headers: BTreeMap::new(),
        body: None,
    };
    let health = "/run/slots/web/{instance}/health.sock";
    for (probe, words) in [
        (Probe::Notify, "notify"),
        (http(Address::Tcp("127.0.0.1:8080".into())), "http http://127.0.0.1:8080/health"),
        (http(Address::Unix(health.into())), "http unix:/run/slots/web/2.0@bb1@r2/health.sock /health"),
        (Probe::Tcp { address: "127.0.0.1:5432".into() }, "tcp 127.0.0.1:5432"),
        (Probe::Unix { path: "/run/web-{version}.sock".into() }, "unix /run/web-2.0+b1.sock"),
        (Probe::Unit { name: "web-check@".into() }, "unit web-check@"),
    ] {
        assert_eq!(text::of(&probe, &target()), words);
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_has_one_name_whoever_it_asks_and_shows_how_it_was_asked() {
    let world = World::notified();
    let prober = Prober::new(world.fake.clone());
    let probes = [Probe::Unix { path: "/nowhere/{instance}.sock".into() }];
    let fault = prober.ask_once(&probes, &target(), seconds(2)).await.expect_err("a fault");
    let seen = fault.evidence.probe.expect("the probe");
    assert_eq!(seen.probe, "unix /nowhere/{instance}.sock");
    assert_eq!(seen.asked.as_deref(), Some("unix /nowhere/2.0@bb1@r2.sock"));

    let http = Probe::Http {
        address: Address::Tcp("127.0.0.1:1".into()),
        path: "/health".into(),
        status: Vec::new(),
        headers: BTreeMap::new(),
        body: None,
    };
    let own = Target { health_path: Some("/up".into()), ..target() };
    let fault = prober.prove(&[http], &proof(), &own, None, &mut |_| {}).await.expect_err("no proof");
    assert!(fault.message.contains("http://127.0.0.1:1/up"), "{}", fault.message);
    let seen = fault.evidence.probe.expect("the probe");
    assert_eq!(seen.probe, "http http://127.0.0.1:1/health");
    assert_eq!(seen.asked.as_deref(), Some("http http://127.0.0.1:1/up"));
}
