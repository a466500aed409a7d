//! The effects on users: whom the route sends them to, what is open while it ends, and the address that they call.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::model::deployment::Blame;
use crate::model::route::MAX_WEIGHT;
use crate::model::{Code, Fault, InstanceName, UnitName};
use crate::routes::{Backend, Route as _};
use crate::units::UnitControl;

use super::super::facts::{Facts, Traffic, Way};
use super::super::machine::{Failure, Observed};
use super::super::stage::Runs;
use super::{Host, environment};

impl<U: UnitControl> Host<U> {
    /// Brings the route to these instances. One of a whole side that isn't there any more has ended by itself or by
    /// somebody's hand. Where who runs also serves, nothing less than a whole side is anything to confirm.
    pub(super) async fn route_to(&self, facts: &Facts, traffic: &Traffic) -> Result<Observed, Failure> {
        let route = self.route_by(traffic.way);
        if !traffic.whole && !route.has_sets() {
            return Ok(Observed::Nothing);
        }
        let traffic = &self.those_up(traffic).await?;
        let set = backends(facts, traffic, &|instance| self.store.port(instance));
        match route.switch(&set, &self.with_ports(&traffic.standby)).await {
            Ok(()) => Ok(Observed::Nothing),
            // It takes users from those who have them by now: no reason to go back to it.
            Err(fault) if fault.code == Code::RouteNotQuiet => self.end_loud(fault).await,
            Err(fault) => Err(self.side_failure(&traffic.to, fault).await),
        }
    }

    /// Sends users back to those of these that still run. Where none does, whoever has them keeps them until one is up.
    pub(super) async fn return_to(&self, facts: &Facts, to: &[(UnitName, InstanceName)]) -> Result<Observed, Failure> {
        let up = self.those_up(&Traffic::of(to.to_vec())).await?;
        // All that are up are all there is, by now.
        let up = Traffic { whole: true, way: if facts.reroute.is_some() { Way::Old } else { Way::New }, ..up };
        if up.to.is_empty() { Ok(Observed::Nothing) } else { self.route_to(facts, &up).await }
    }

    /// Stops an instance that goes on taking users though it was told not to.
    async fn end_loud(&self, fault: Fault) -> Result<Observed, Failure> {
        let Some(seen) = &fault.evidence.unit else { return Err(environment(fault)) };
        tracing::warn!(SLOTD_APP = self.settings.name.as_str(), "{fault}; it is stopped, and is no warm way back");
        self.stop_units(std::slice::from_ref(&seen.unit)).await
    }

    /// Sees that a candidate has no users yet, where it decides that itself.
    pub(super) async fn see_quiet(&self, facts: &Facts, of: &[(UnitName, InstanceName)]) -> Result<(), Failure> {
        let live = self.store.links().ok().is_some_and(|links| links.current.slot() == Some(&facts.to.slot));
        if live {
            return Ok(());
        }
        let set = of.iter().map(|(unit, instance)| Backend::new(unit.clone(), instance.clone())).collect();
        match self.route.confirm_candidate(&set).await {
            Ok(()) => Ok(()),
            Err(fault) => Err(self.side_failure(of, fault).await),
        }
    }

    /// Of a mixed set those that are up: on the way back one of them may be the reason for it.
    async fn those_up(&self, traffic: &Traffic) -> Result<Traffic, Failure> {
        let mut up = Traffic { to: Vec::new(), ..traffic.clone() };
        for (unit, instance) in &traffic.to {
            if traffic.whole || self.status(unit).await?.is_up() {
                up.to.push((unit.clone(), instance.clone()));
            }
        }
        Ok(up)
    }

    /// Waits until nobody uses these instances any more, or for as long as the settings give them.
    pub(super) async fn drain(&self, leaving: &[(UnitName, InstanceName)]) -> Result<Observed, Failure> {
        if self.settings.route.ports().is_none() {
            // Nobody counts connections on a socket that slots share: an app ends them itself when it stops.
            return Ok(Observed::Nothing);
        }
        let mut running = Vec::new();
        for (unit, instance) in leaving {
            // One that has stopped has no connection left, and is waited for while nobody serves; what systemd doesn't tell runs.
            if !self.status(unit).await.is_ok_and(|status| status.is_down()) {
                running.push((unit.clone(), instance.clone()));
            }
        }
        let drained = self.route.drain(&self.with_ports(&running), self.drain_limit()).await.map_err(environment)?;
        Ok(Observed::Drained(drained))
    }

    /// Instances with the ports that they have, each with the same share.
    fn with_ports(&self, of: &[(UnitName, InstanceName)]) -> BTreeSet<Backend> {
        let backend = |(unit, instance): &(UnitName, InstanceName)| Backend {
            port: self.store.port(instance),
            ..Backend::new(unit.clone(), instance.clone())
        };
        of.iter().map(backend).collect()
    }

    /// How long open connections of what is taken out may go on.
    pub(super) fn drain_limit(&self) -> Duration {
        self.settings.route.ports().map_or(Duration::ZERO, |ports| ports.drain)
    }

    /// Asks the address that users call, if there is somebody to answer: as a client of a socket under which nothing runs
    /// it would have systemd start what somebody has just stopped.
    pub(super) async fn ask_outside(&self, facts: &Facts, runs: &Runs) -> Result<Observed, Failure> {
        match self.asked_outside(facts).await {
            Ok(observed) => Ok(observed),
            // That the instance has ended meanwhile is why nobody answers.
            Err(failure) => self.confirm(runs).await.and(Err(failure)),
        }
    }

    async fn asked_outside(&self, facts: &Facts) -> Result<Observed, Failure> {
        for unit in facts.to.unit_names() {
            if !self.status(&unit).await?.is_up() {
                let ended = Fault::new(Code::UnitExited, format!("{unit} ended before its address was asked"));
                return Err(self.side_failure(&facts.to.instances(), ended).await);
            }
        }
        match self.route.verify(self.settings.proof.deadline).await {
            Ok(()) => self.ask_users_address(facts).await,
            // A unit as evidence is the route's own, a socket that doesn't listen: nothing that a release can do.
            Err(fault) if fault.evidence.unit.is_some() => {
                let failure = self.side_failure(&facts.to.instances(), fault).await;
                Err(Failure {
                    blame: if failure.blame == Blame::Release { Blame::Environment } else { failure.blame },
                    ..failure
                })
            }
            Err(fault) => Err(self.side_failure(&facts.to.instances(), fault).await),
        }
    }

    /// Asks there as users do, until the new slot answers as it should.
    async fn ask_users_address(&self, facts: &Facts) -> Result<Observed, Failure> {
        let instances = facts.to.instances();
        let (Some(outside), Some((unit, instance))) = (&self.settings.outside, instances.first()) else {
            return Ok(Observed::Nothing);
        };
        let (target, probe) = (self.target(unit.clone(), instance.clone()), std::slice::from_ref(&outside.probe));
        match self.ask_these_until(probe, &target, self.settings.proof.deadline).await {
            Ok(()) => Ok(Observed::Nothing),
            Err(fault) => {
                let code = if fault.code == Code::UnitControl { fault.code } else { Code::RouteOutside };
                Err(self.side_failure(&instances, Fault { code, ..fault }).await)
            }
        }
    }
}

/// Whom the route is to have, each with its port and its share.
fn backends(facts: &Facts, traffic: &Traffic, port: &dyn Fn(&InstanceName) -> Option<u16>) -> BTreeSet<Backend> {
    let is_new = |instance: &InstanceName| instance.slot == facts.to.slot;
    let new = u32::try_from(traffic.to.iter().filter(|(_, instance)| is_new(instance)).count()).unwrap_or(u32::MAX);
    let old = u32::try_from(traffic.to.len()).unwrap_or(u32::MAX).saturating_sub(new);
    let weight = |instance: &InstanceName| match traffic.weight {
        Some(weight) if new > 0 && old > 0 => {
            let (a, b) = ((100 - weight.min(99)) * new, weight * old);
            let divisor = gcd(a, b).max(a.max(b).div_ceil(MAX_WEIGHT));
            (if is_new(instance) { b / divisor } else { a / divisor }).max(1)
        }
        _ => 1,
    };
    let backend = |(unit, instance): &(UnitName, InstanceName)| Backend {
        port: port(instance),
        weight: weight(instance),
        ..Backend::new(unit.clone(), instance.clone())
    };
    traffic.to.iter().map(backend).collect()
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a.max(1) } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use crate::config::app::{Ports, Route};
    use crate::deployment::site::{Site, slot};
    use crate::model::route::PortRange;

    use super::super::super::sim::{facts, side};
    use super::*;
    use crate::model::Outcome;

    /// The weights of A's and B's instances.
    fn weights(old: u32, new: u32, weight: Option<u32>) -> (Vec<u32>, Vec<u32>) {
        let (a, b) = (side("1", old.max(1)), side("2", new.max(1)));
        let facts = facts(Some(a.clone()), b.clone());
        let mut to = a.instances();
        to.truncate(old as usize);
        to.extend(b.instances().into_iter().take(new as usize));
        let set = backends(&facts, &Traffic { weight, ..Traffic::of(to) }, &|_| None);
        let of = |slot| set.iter().filter(|it| it.instance.slot == slot).map(|it| it.weight).collect();
        (of(a.slot), of(b.slot))
    }

    #[test]
    fn a_canary_gets_its_share_whatever_the_numbers() {
        assert_eq!(weights(2, 1, None), (vec![1, 1], vec![1]));
        assert_eq!(weights(3, 1, Some(10)), (vec![3, 3, 3], vec![1]));
        assert_eq!(weights(1, 1, Some(10)), (vec![9], vec![1]));
        assert_eq!(weights(2, 2, Some(50)), (vec![1, 1], vec![1, 1]));
        assert_eq!(weights(0, 2, Some(10)), (vec![], vec![1, 1]));
        for (old, new, weight) in [(4, 4, 33), (99, 1, 1), (1, 99, 99), (7, 5, 13)] {
            let (a, b) = weights(old, new, Some(weight));
            let (a, b) = (f64::from(a.iter().sum::<u32>()), f64::from(b.iter().sum::<u32>()));
            let share = 100.0 * b / (a + b);
            assert!((share - f64::from(weight)).abs() < 1.0, "{old} and {new} at {weight}: {share}");
        }
    }

    /// The instance is why nobody answers where users call, and not the address.
    #[tokio::test(start_paused = true)]
    async fn one_that_ends_while_users_address_is_asked_has_ended() {
        // It takes connections, and answers nobody.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let outside = format!("[outside]\naddress = \"{address}\"\npath = \"/\"\n");
        let ended = async |site: Site| {
            let ruling = site.deploy("2").await.ruling;
            (ruling.outcome, ruling.fault.map(|fault| fault.code))
        };
        let silent = Site::serving(&["1", "2"]).set(&outside);
        assert_eq!(ended(silent).await, (Outcome::RolledBack, Some(Code::RouteOutside)));

        let dies = Site::serving(&["1", "2"]).set(&outside);
        dies.units.unit("web@2").dies_after(Duration::from_secs(4), "exited with status 3");
        assert_eq!(ended(dies).await, (Outcome::RolledBack, Some(Code::UnitExited)));
    }

    #[tokio::test]
    async fn what_has_stopped_is_not_drained() {
        let mut site = Site::serving(&["1"]);
        let range = PortRange::between(20_000, 20_099);
        let mut settings = (*site.settings).clone();
        settings.route = Route::Nftables { port: 8099, ports: Ports { range, drain: Duration::from_secs(5) } };
        site.settings = settings.into();
        let instance = slot("1").instance(1);
        site.store.publish_instance_with_port(&instance, range, true).expect("an instance");
        let leaving = site.side("1").instances();
        let took = async || {
            let began = Instant::now();
            site.host().drain(&leaving).await.unwrap_or_else(|failure| panic!("{}", failure.fault));
            began.elapsed()
        };
        assert!(took().await >= Duration::from_secs(1), "a client may come a second after its first try was lost");
        site.units.unit("web@1").is_stopped_by_hand();
        assert!(took().await < Duration::from_secs(1), "nobody is there who could be waited for");
    }
}
