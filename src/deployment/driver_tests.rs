//! The driver's stories: verbs while an effect is under way, worlds that don't keep their word.

use std::sync::Mutex;

use super::super::machine::Observed;
use super::super::sim::{Sim, facts, side};
use super::*;
use crate::model::Kind as DeploymentKind;

/// A sim whose effect of one kind blocks until it is released, or for ever.
struct Slow {
    sim: Mutex<Sim>,
    slow: Kind,
    began: tokio::sync::Notify,
    release: tokio::sync::Notify,
    published: Mutex<Vec<(State, String)>>,
}

impl Slow {
    fn at(slow: Kind) -> Self {
        let sim = Sim::serving(facts(Some(side("1", 1)), side("2", 1)));
        Slow {
            sim: Mutex::new(sim),
            slow,
            began: tokio::sync::Notify::new(),
            release: tokio::sync::Notify::new(),
            published: Mutex::new(Vec::new()),
        }
    }

    fn sim(&self) -> Sim {
        self.sim.lock().expect("not poisoned").clone()
    }
}

impl World for Slow {
    async fn perform(&self, effect: &Effect, context: Context<'_>) -> Result<Observed, Failure> {
        if effect.kind() == self.slow {
            self.began.notify_one();
            self.release.notified().await;
        }
        self.sim.lock().expect("not poisoned").perform(effect, context.stage)
    }

    fn limit(&self, _effect: &Effect) -> Duration {
        Duration::from_secs(10)
    }

    fn publish(&self, report: &Report) {
        let what = report.waiting.as_ref().map(|waiting| waiting.what.clone()).unwrap_or_default();
        self.published.lock().expect("not poisoned").push((report.state, what));
    }
}

fn report() -> Report {
    Report {
        id: "web-7".parse().expect("id"),
        kind: DeploymentKind::Deploy,
        from: Some("1".parse().expect("slot")),
        to: "2".parse().expect("slot"),
        by: "ann".into(),
        message: None,
        attempt: 1,
        queued: Timestamp::from_unix_millis(0),
        scheduled: None,
        reroute: None,
        strategy: None,
        migration: None,
        dependencies: Vec::new(),
        state: State::Queued,
        waiting: None,
        steps: Vec::new(),
        release: Default::default(),
        said: Vec::new(),
        measured: Default::default(),
        ended: None,
    }
}

fn machine(world: &Slow) -> Machine {
    Machine::new(world.sim().facts)
}

fn cancel() -> (Said, oneshot::Receiver<Result<(), Refused>>) {
    let (answer, answered) = oneshot::channel();
    (Said { say: Say::Cancel, by: "ann".into(), message: None, answer }, answered)
}

/// Drives a deployment whose `slow` effect is under way when somebody cancels; `release` lets the effect end then.
async fn cancelled_at(slow: Kind, release: bool) -> (Driven, Result<(), Refused>, Sim) {
    let world = Slow::at(slow);
    let (verbs, mut heard) = mpsc::channel(4);
    let (verb, answered) = cancel();
    let drive = drive(machine(&world), report(), &world, &mut heard);
    let meddle = async {
        world.began.notified().await;
        verbs.send(verb).await.expect("heard");
        if release {
            // The verb must have been read before the effect ends.
            while verbs.capacity() < verbs.max_capacity() {
                tokio::task::yield_now().await;
            }
            world.release.notify_one();
        }
        answered.await.expect("answered")
    };
    let (driven, answer) = tokio::join!(drive, meddle);
    (driven, answer, world.sim())
}

#[tokio::test]
async fn a_good_deployment_tells_each_step_and_ends_with_a_result() {
    let world = Slow::at(Kind::Soak);
    let (_verbs, mut heard) = mpsc::channel(1);
    let driven = drive(machine(&world), report(), &world, &mut heard).await;
    let ended = driven.report.ended.expect("ended");
    assert_eq!((ended.outcome, ended.fault, driven.report.state), (Outcome::Done, None, State::Done));
    assert!(driven.report.steps.iter().all(|step| step.took_ms.is_some() && step.fault.is_none()));
    let published = world.published.lock().expect("not poisoned").clone();
    assert!(published.contains(&(State::Starting, "stop web@1.service".into())), "{published:?}");
    assert_eq!(published.last(), Some(&(State::Done, String::new())));
}

#[tokio::test]
async fn cancel_interrupts_a_wait() {
    let (driven, answer, sim) = cancelled_at(Kind::Prove, false).await;
    assert_eq!((answer, driven.ruling.outcome), (Ok(()), Outcome::Cancelled));
    assert_eq!(sim.current, Some("1".parse().expect("slot")));
    assert!(sim.is_up(&side("1", 1)) && !sim.is_up(&side("2", 1)));
}

#[tokio::test]
async fn cancel_waits_for_an_effect_that_must_not_be_torn() {
    let (driven, answer, sim) = cancelled_at(Kind::Switch, true).await;
    assert_eq!((answer, driven.ruling.outcome), (Ok(()), Outcome::Cancelled));
    assert_eq!(sim.log.iter().filter(|effect| **effect == Effect::Switch).count(), 1);
    assert_eq!(sim.current, Some("1".parse().expect("slot")));
}

#[tokio::test]
async fn cancel_comes_too_late_once_it_is_live() {
    let (driven, answer, _) = cancelled_at(Kind::Retire, true).await;
    assert_eq!((answer, driven.ruling.outcome), (Err(Refused::TooLate), Outcome::Done));
}

#[tokio::test(start_paused = true)]
async fn a_world_that_does_not_keep_its_bound_is_given_up() {
    let world = Slow::at(Kind::Start);
    let (_verbs, mut heard) = mpsc::channel(1);
    let driven = drive(machine(&world), report(), &world, &mut heard).await;
    let fault = driven.ruling.fault.expect("a cause");
    assert_eq!((driven.ruling.outcome, fault.code), (Outcome::RolledBack, Code::StepTimeout));
    assert!(driven.report.ended.and_then(|ended| ended.next).expect("a command").contains("slotctl"));
}
