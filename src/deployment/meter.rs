//! What the steps of a deployment say about its times. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::model::measured::{Connections, millis};
use crate::model::{Measured, State, UnitName};

use super::effect::Effect;
use super::facts::{Facts, Side};
use super::machine::{Event, Observed};

/// Adds up steps as they pass. Of what an interruption cut in two only the second part is measured, and what it leaves
/// unknown isn't.
#[derive(Debug)]
pub(super) struct Meter {
    /// Since the start of a batch's instances.
    batch: Option<Duration>,
    /// Since the route was last told where to send users.
    route: Option<Duration>,
    /// What is up, where that is known.
    up: Option<BTreeSet<UnitName>>,
    /// The templates without an instance that is up, and for how long.
    down: BTreeMap<String, Duration>,
}

impl Meter {
    /// A meter for a deployment that begins, or goes on after an interruption.
    pub(super) fn new(facts: &Facts, begins: bool) -> Meter {
        let up = begins.then(|| facts.from.iter().flat_map(Side::unit_names).collect());
        Meter { batch: None, route: None, up, down: BTreeMap::new() }
    }

    /// A step in `state` took so long, and this came of it.
    pub(super) fn pass(
        &mut self,
        measured: &mut Measured,
        state: State,
        effect: &Effect,
        took: Duration,
        event: &Event,
    ) {
        for running in self.batch.iter_mut().chain(&mut self.route).chain(self.down.values_mut()) {
            *running += took;
        }
        let Event::Done(observed) = event else { return };
        self.follow(measured, effect, took);
        match effect {
            Effect::Start(_) => self.batch = Some(took),
            Effect::Route(_) if state == State::Switching => self.route = Some(took),
            Effect::Prove(..) => measured.ready_ms = measured.ready_ms.max(self.batch.take().map(millis)),
            Effect::Switch => measured.switch_ms = self.route.take().map(millis),
            Effect::Stop(_) | Effect::StopOthers(_) | Effect::Drain(_) if state != State::Reverting => {
                measured.drain_ms = Some(measured.drain_ms.unwrap_or_default() + millis(took));
            }
            _ => {}
        }
        if let (Observed::Live(live), Some(up)) = (observed, &mut self.up)
            && !live.up
        {
            up.clear();
        }
        if let Observed::Drained(drained) = observed {
            let sum = measured.connections.get_or_insert_with(Connections::default);
            sum.drained += drained.ended;
            sum.cut += drained.open;
        }
    }

    /// Which units are up after this effect, and which templates have none.
    fn follow(&mut self, measured: &mut Measured, effect: &Effect, took: Duration) {
        let Some(up) = &mut self.up else { return };
        match effect {
            Effect::Start(units) | Effect::Restore(units) => up.extend(units.iter().cloned()),
            Effect::Stop(units) => up.retain(|unit| !units.contains(unit)),
            Effect::StopOthers(side) => {
                let keep = side.as_ref().map(Side::unit_names).unwrap_or_default();
                up.retain(|unit| keep.contains(unit));
            }
            _ => return,
        }
        let served: BTreeSet<&str> = up.iter().map(UnitName::prefix).collect();
        self.down.retain(|template, since| {
            let back = served.contains(template.as_str());
            if back {
                measured.down_ms = measured.down_ms.max(Some(millis(*since)));
            }
            !back
        });
        if let Effect::Stop(units) = effect {
            // One that stops takes nothing new from the first moment on.
            for template in units.iter().map(UnitName::prefix).filter(|template| !served.contains(template)) {
                self.down.entry(template.to_owned()).or_insert(took);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::Traffic;
    use super::super::sim::{facts, side};
    use super::*;
    use crate::routes::Drained;

    /// What is measured of a deployment from slot 1 to slot 2 that makes these steps.
    fn measured(steps: Vec<(State, Effect, u64, Observed)>) -> Measured {
        let mut measured = Measured::default();
        let mut meter = Meter::new(&facts(Some(side("1", 1)), side("2", 1)), true);
        for (state, effect, took, observed) in steps {
            let event = Event::Done(observed);
            meter.pass(&mut measured, state, &effect, Duration::from_millis(took), &event);
        }
        measured
    }

    #[test]
    fn of_the_batches_the_slowest_counts_and_of_the_route_the_last_word() {
        let drained = |ended, open| Observed::Drained(Drained { ended, open });
        let (a, b) = (side("1", 1), side("2", 1));
        let prove = || Effect::Prove(Vec::new(), Default::default());
        let route = || Effect::Route(Traffic::all(&b));
        let start = || Effect::Start(b.unit_names());
        let no = Observed::Nothing;
        let seen = measured(vec![
            (State::Starting, start(), 100, no.clone()),
            (State::Proving, Effect::Announce, 1, no.clone()),
            (State::Proving, prove(), 50, no.clone()),
            (State::Switching, route(), 7, no.clone()),
            (State::Draining, Effect::Drain(Vec::new()), 30, drained(3, 1)),
            (State::Starting, start(), 10, no.clone()),
            (State::Proving, prove(), 10, no.clone()),
            (State::Switching, route(), 9, no.clone()),
            (State::Switching, Effect::Switch, 2, no.clone()),
            (State::Draining, Effect::Drain(Vec::new()), 40, drained(2, 0)),
            (State::Draining, Effect::Stop(a.unit_names()), 20, no.clone()),
            (State::Post, Effect::StopOthers(Some(b.clone())), 5, no),
        ]);
        let connections = Some(Connections { drained: 5, cut: 1 });
        let want = Measured {
            ready_ms: Some(151),
            switch_ms: Some(11),
            drain_ms: Some(95),
            connections,
            ..Measured::default()
        };
        assert_eq!(seen, want);
    }

    #[test]
    fn a_unit_is_down_from_the_stop_of_its_last_instance_to_the_start_of_the_next() {
        let (a, b) = (side("1", 1), side("2", 1));
        let no = Observed::Nothing;
        let forth = vec![
            (State::Starting, Effect::Stop(a.unit_names()), 20, no.clone()),
            (State::Starting, Effect::Start(b.unit_names()), 100, no.clone()),
        ];
        assert_eq!(measured(forth.clone()).down_ms, Some(120));
        // And back again, which takes longer.
        let mut back = forth;
        back.extend([
            (State::Proving, Effect::Announce, 500, no.clone()),
            (State::Reverting, Effect::Stop(b.unit_names()), 30, no.clone()),
            (State::Reverting, Effect::Restore(a.unit_names()), 140, no),
        ]);
        assert_eq!(measured(back).down_ms, Some(170));
    }
}
