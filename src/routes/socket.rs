//! The route `socket`: a shared socket unit, on which an instance accepts from READY=1 on, or as it is told (`signal`).
//!
//! The socket is never restarted nor stopped here: with a service active that fails and leaves it dead, and it holds the
//! users that wait.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::model::evidence::Evidence;
use crate::model::{Code, Fault, UnitName};
use crate::units::{Active, JobResult, Load, UnitControl, UnitError, UnitStatus};

use super::signal::BySignal;
use super::{Backend, Observed, RouteSet, Running, connects, not_asked};

/// How long the start of a socket unit may take: it binds and listens, which takes milliseconds.
const START_LIMIT: Duration = Duration::from_secs(10);

/// A shared socket unit.
#[derive(Debug, Clone)]
pub struct Socket<U> {
    unit: UnitName,
    /// `HOST:PORT` that users call, where it is known.
    address: Option<String>,
    running: Running<U>,
    /// With `accept = "signal"`.
    by_signal: Option<BySignal<U>>,
}

impl<U: UnitControl> Socket<U> {
    pub(super) fn new(
        unit: UnitName,
        address: Option<String>,
        running: Running<U>,
        by_signal: Option<BySignal<U>>,
    ) -> Self {
        Socket { unit, address, running, by_signal }
    }

    /// Whether its instances take users when they are told to.
    pub(super) fn is_told_by_signals(&self) -> bool {
        self.by_signal.is_some()
    }

    /// The socket is there and listens, or is made to.
    pub(super) async fn prepare(&self) -> Result<(), Fault> {
        let status = self.status().await?;
        match &status.load {
            Load::Loaded => {}
            Load::NotFound => return Err(Fault::new(Code::UnitMissing, format!("{} doesn't exist", self.unit))),
            Load::Masked => return Err(Fault::new(Code::UnitMasked, format!("{} is masked", self.unit))),
            Load::Error(why) => {
                return Err(Fault::new(Code::ConfigUnit, format!("{} can't be loaded: {why}", self.unit)));
            }
        }
        if status.is_up() {
            return Ok(());
        }
        match self.running.units.start(&self.unit, START_LIMIT).await {
            Ok(JobResult::Done) => match self.status().await? {
                status if status.is_up() => Ok(()),
                status => Err(self.dead(&status)),
            },
            Ok(_) => Err(self.dead(&self.status().await?)),
            Err(error @ UnitError::Timeout { .. }) => Err(Fault::new(Code::UnitStartTimeout, error.to_string())),
            Err(error @ UnitError::Conflict { .. }) => Err(Fault::new(Code::UnitStoppedByOther, error.to_string())),
            Err(error) => Err(not_asked(&error)),
        }
    }

    pub(super) async fn switch(&self, to: &BTreeSet<Backend>) -> Result<(), Fault> {
        self.running.confirm(to).await?;
        match &self.by_signal {
            Some(by_signal) => by_signal.switch(to).await,
            None => Ok(()),
        }
    }

    pub(super) async fn confirm_candidate(&self, candidates: &BTreeSet<Backend>) -> Result<(), Fault> {
        match &self.by_signal {
            Some(by_signal) => by_signal.confirm_quiet(candidates).await,
            None => Ok(()),
        }
    }

    pub(super) async fn observe(&self) -> Result<Observed, Fault> {
        let set = match &self.by_signal {
            Some(by_signal) => RouteSet::These(by_signal.accepting().await?),
            None => RouteSet::Running,
        };
        Ok(Observed { set, trouble: self.trouble().await? })
    }

    /// The socket listens, and a connection to the users' address is accepted. That the answer comes from the new
    /// slot is what a probe with `{version}` shows.
    pub(super) async fn verify(&self, at_most: Duration) -> Result<(), Fault> {
        if let Some(trouble) = self.trouble().await? {
            return Err(Fault { code: Code::RouteOutside, ..trouble });
        }
        connects(self.address.as_deref(), at_most).await
    }

    /// A socket that doesn't listen while a slot serves is one restart away from an outage.
    async fn trouble(&self) -> Result<Option<Fault>, Fault> {
        let status = self.status().await?;
        Ok((!status.is_up()).then(|| self.dead(&status)))
    }

    async fn status(&self) -> Result<UnitStatus, Fault> {
        self.running.units.status(&self.unit).await.map_err(|error| not_asked(&error))
    }

    fn dead(&self, status: &UnitStatus) -> Fault {
        let seen = status.seen(&self.unit);
        let cause = match status.active {
            Active::Failed => format!(" ({})", status.result),
            _ => String::new(),
        };
        let message = format!(
            "{unit} doesn't listen: it is {state}{cause}; `systemctl start {unit}`, with {service} stopped",
            unit = self.unit,
            state = seen.state,
            service = self.unit.as_str().replace(".socket", ".service"),
        );
        Fault::new(Code::UnitStart, message).with(Evidence { unit: Some(seen), ..Evidence::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{AnyRoute, Observed, Route, RouteSet};
    use super::*;
    use crate::model::{Layout, SlotName};
    use crate::units::fake::FakeUnits;

    const BRIEF: Duration = Duration::from_secs(5);

    /// A route of which users call this address.
    fn route_at(fake: &FakeUnits, outside: &str) -> AnyRoute<FakeUnits> {
        let name = "web".parse().expect("a name");
        let text = format!("[[unit]]\nname = \"web@\"\n{outside}");
        let read = crate::config::parse_app(&name, std::path::Path::new("web.toml"), &text, &Default::default());
        AnyRoute::new(&read.expect("settings"), &Layout::new("/state", "/run", name), fake.clone())
    }

    fn route(fake: &FakeUnits) -> AnyRoute<FakeUnits> {
        route_at(fake, "")
    }

    fn backends(version: &str) -> BTreeSet<Backend> {
        let slot = SlotName::first(version.parse().expect("a version"));
        BTreeSet::from([Backend::new(UnitName::new(format!("web@{version}.service")), slot.instance(1))])
    }

    #[tokio::test]
    async fn prepare_starts_a_socket_that_is_down_and_leaves_one_that_is_up() {
        let fake = FakeUnits::new();
        fake.unit("web.socket");
        assert_eq!(route(&fake).prepare().await, Ok(()));
        assert_eq!(route(&fake).prepare().await, Ok(()));
        assert_eq!(fake.calls(), ["start web.socket"]);
    }

    #[tokio::test(start_paused = true)]
    async fn prepare_refuses_what_can_not_listen() {
        let code = |script: fn(&FakeUnits)| async move {
            let fake = FakeUnits::new();
            script(&fake);
            route(&fake).prepare().await.expect_err("a fault").code
        };
        assert_eq!(code(|fake| drop(fake.unit("web.socket").is_missing())).await, Code::UnitMissing);
        assert_eq!(code(|fake| drop(fake.unit("web.socket").is_masked())).await, Code::UnitMasked);
        let bad = |fake: &FakeUnits| drop(fake.unit("web.socket").change(|it| it.load = Load::Error("bad".into())));
        assert_eq!(code(bad).await, Code::ConfigUnit);
        assert_eq!(code(|fake| drop(fake.unit("web.socket").start_fails("none"))).await, Code::UnitStart);
        assert_eq!(code(|fake| drop(fake.unit("web.socket").start_hangs())).await, Code::UnitStartTimeout);
        assert_eq!(code(|fake| drop(fake.unit("web.socket").start_is_denied())).await, Code::UnitControl);
        let stopping = |fake: &FakeUnits| drop(fake.unit("web.socket").stop_begins_by_hand(BRIEF));
        assert_eq!(code(stopping).await, Code::UnitStoppedByOther);
    }

    #[tokio::test]
    async fn switch_and_revert_confirm_and_change_nothing() {
        let fake = FakeUnits::new();
        fake.unit("web@2").runs();
        fake.unit("web@1");
        let route = route(&fake);
        assert_eq!(route.switch(&backends("2"), &backends("1")).await, Ok(()));
        let fault = route.revert(&backends("1")).await.expect_err("it doesn't run");
        assert_eq!(fault.code, Code::UnitExited);
        assert_eq!(fault.message, "web@1.service should serve and is inactive/dead");
        assert_eq!(fake.calls(), [""; 0]);
    }

    #[tokio::test]
    async fn a_dead_socket_is_told_while_the_slot_serves() {
        let fake = FakeUnits::new();
        fake.unit("web@2").runs();
        fake.unit("web.socket").runs();
        let route = route(&fake);
        assert_eq!(route.observe().await, Ok(Observed { set: RouteSet::Running, trouble: None }));
        fake.unit("web.socket").change(|status| {
            status.active = Active::Failed;
            status.sub = "failed".into();
            status.result = "resources".into();
        });
        let trouble = route.observe().await.expect("a look").trouble.expect("trouble");
        assert!(trouble.message.starts_with("web.socket doesn't listen: it is failed/failed (resources)"));
        assert_eq!(route.verify(BRIEF).await.expect_err("a fault").code, Code::RouteOutside);
    }

    #[tokio::test]
    async fn verify_connects_where_users_call() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let fake = FakeUnits::new();
        fake.unit("web.socket").runs();
        let route = route_at(&fake, &format!("[outside]\naddress = \"{address}\""));
        assert_eq!(route.verify(BRIEF).await, Ok(()));
        drop(listener);
        let fault = route.verify(BRIEF).await.expect_err("nobody is there");
        assert_eq!(fault.code, Code::RouteOutside);
        assert!(fault.message.starts_with(&format!("connect to {address}, where users call: ")), "{}", fault.message);
    }
}
