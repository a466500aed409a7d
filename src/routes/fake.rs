//! A scripted route for tests: it does what its script says and records what it was asked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::model::Fault;

use super::{Backend, Drained, Observed, Route, RouteSet};

/// The fake. Clones share one state.
#[derive(Clone, Default)]
pub struct FakeRoute {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    calls: Vec<String>,
    /// The faults of the next calls of a verb.
    faults: BTreeMap<&'static str, Vec<Fault>>,
    set: BTreeSet<Backend>,
    trouble: Option<Fault>,
}

impl FakeRoute {
    /// A route to nobody, of which every verb succeeds.
    pub fn new() -> Self {
        Self::default()
    }

    /// The next call of `verb` ("prepare", "switch", "drain", "verify", "revert", "observe") fails.
    pub fn fails(&self, verb: &'static str, fault: Fault) {
        let verbs = ["prepare", "switch", "drain", "verify", "revert", "observe"];
        assert!(verbs.contains(&verb), "{verb:?} is no verb of a route");
        self.state().faults.entry(verb).or_default().push(fault);
    }

    /// From now on it has this trouble.
    pub fn is_in_trouble(&self, fault: Fault) {
        self.state().trouble = Some(fault);
    }

    /// What it was asked, in order: "prepare", "switch 2", "revert 1 1@2".
    pub fn calls(&self) -> Vec<String> {
        self.state().calls.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panicked in here")
    }

    async fn call(&self, verb: &'static str, set: &BTreeSet<Backend>) -> Result<(), Fault> {
        let names = set.iter().map(|backend| format!(" {}", backend.instance)).collect::<String>();
        let mut state = self.state();
        state.calls.push(format!("{verb}{names}"));
        match state.faults.get_mut(verb).filter(|faults| !faults.is_empty()) {
            Some(faults) => Err(faults.remove(0)),
            None => Ok(()),
        }
    }
}

impl Route for FakeRoute {
    async fn prepare(&self) -> Result<(), Fault> {
        self.call("prepare", &BTreeSet::new()).await
    }

    async fn switch(&self, to: &BTreeSet<Backend>) -> Result<(), Fault> {
        self.call("switch", to).await?;
        self.state().set = to.clone();
        Ok(())
    }

    async fn drain(&self, leaving: &BTreeSet<Backend>, _at_most: Duration) -> Result<Drained, Fault> {
        self.call("drain", leaving).await.map(|()| Drained::default())
    }

    async fn verify(&self, _at_most: Duration) -> Result<(), Fault> {
        self.call("verify", &BTreeSet::new()).await
    }

    async fn revert(&self, to: &BTreeSet<Backend>) -> Result<(), Fault> {
        self.call("revert", to).await?;
        self.state().set = to.clone();
        Ok(())
    }

    async fn observe(&self) -> Result<Observed, Fault> {
        self.call("observe", &BTreeSet::new()).await?;
        let state = self.state();
        Ok(Observed { set: RouteSet::These(state.set.clone()), trouble: state.trouble.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Code, SlotName, UnitName};

    #[tokio::test]
    async fn it_does_what_its_script_says() {
        let slot = SlotName::first("2".parse().expect("a version"));
        let set: BTreeSet<Backend> = slot
            .instances(2)
            .into_iter()
            .map(|instance| Backend::new(UnitName::new(format!("web@{}.service", instance.encoded())), instance))
            .collect();
        let route = FakeRoute::new();
        route.fails("switch", Fault::new(Code::RouteUnsupported, "no"));
        assert_eq!(route.switch(&set).await.expect_err("scripted").code, Code::RouteUnsupported);
        assert_eq!(route.observe().await.expect("a look").set, RouteSet::These(BTreeSet::new()));
        assert_eq!(route.switch(&set).await, Ok(()));
        route.is_in_trouble(Fault::new(Code::UnitStart, "down"));
        let seen = route.observe().await.expect("a look");
        assert_eq!(seen.set, RouteSet::These(set));
        assert_eq!(seen.trouble.expect("trouble").message, "down");
        assert_eq!(route.calls(), ["switch 2 2@2", "observe", "switch 2 2@2", "observe"]);
    }
}
