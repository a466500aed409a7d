//! Routes on which each instance has a port of its own. slotd says whom it wants users to be sent to, in
//! `/run/slotd/route/APP`, and has the root helper `slotd-route@APP.service` apply it; open connections are counted at the
//! instances' own ports.
//!
//! The file is written first: should anything else make the helper run again (a firewall that is reloaded), it goes by
//! what is wanted.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::app::Ports;
use crate::durable;
use crate::model::evidence::Evidence;
use crate::model::route::{
    EPHEMERAL_PORTS, MAX_BACKENDS, PortRange, ROUTE_FORMAT, RouteBackend, RouteFile, port_of_env,
};
use crate::model::{Code, Fault, Layout, Template, UnitName};
use crate::units::{JobResult, Load, UnitControl, UnitError, UnitStatus};

use super::{Backend, Drained, Observed, RouteSet, Running, connects, not_asked, sock_diag};

/// How long the helper may take: some tens of milliseconds as a rule. Its own limit is shorter.
const HELPER_LIMIT: Duration = Duration::from_secs(45);

/// Between two counts of what is still open.
const COUNT_EVERY: Duration = Duration::from_millis(50);

/// Of the helper's journal: it says what is wrong in one or two lines.
const JOURNAL_LINES: usize = 10;

/// Longest environment file of an instance that is read.
const MAX_ENV_BYTES: u64 = 4 << 20;

/// A route over own ports.
#[derive(Debug, Clone)]
pub struct OwnPorts<U> {
    layout: Layout,
    /// The unit whose instances get users.
    template: Template,
    ports: Ports,
    /// `HOST:PORT` that users call, where it is known.
    outside: Option<String>,
    running: Running<U>,
}

impl<U: UnitControl> OwnPorts<U> {
    pub(super) fn new(
        layout: Layout,
        template: Template,
        ports: Ports,
        outside: Option<String>,
        running: Running<U>,
    ) -> Self {
        OwnPorts { layout, template, ports, outside, running }
    }

    /// The helper is there, and the ports are nobody else's.
    pub(super) async fn prepare(&self) -> Result<(), Fault> {
        let (unit, status) = (self.helper(), self.status().await?);
        match &status.load {
            Load::Loaded => {}
            Load::NotFound => return Err(Fault::new(Code::UnitMissing, format!("{unit} doesn't exist"))),
            Load::Masked => return Err(Fault::new(Code::UnitMasked, format!("{unit} is masked"))),
            Load::Error(why) => return Err(Fault::new(Code::ConfigUnit, format!("{unit} can't be loaded: {why}"))),
        }
        // Where it can't be read nothing is known against the range.
        let ephemeral = std::fs::read_to_string(EPHEMERAL_PORTS).ok().and_then(|text| PortRange::of_kernel(&text));
        if let Some(why) = ephemeral.and_then(|ephemeral| self.ports.range.refused(ephemeral)) {
            return Err(Fault::new(Code::RouteUnsupported, why));
        }
        let wanted = self.wanted().await?.unwrap_or_default();
        match wanted.iter().find(|backend| !self.ports.range.contains(backend.port)) {
            Some(RouteBackend { instance, port, .. }) => {
                let message = format!(
                    "instance {instance} has users at port {port}, outside of ports = \"{}\": there would be no way back to \
                     it; let the range, of settings and helper, hold it too until it is gone",
                    self.ports.range
                );
                Err(Fault::new(Code::RouteUnsupported, message))
            }
            None => Ok(()),
        }
    }

    /// Users go to those of `to` that are the routed unit's; all of it has to run.
    pub(super) async fn switch(&self, to: &BTreeSet<Backend>) -> Result<(), Fault> {
        self.running.confirm(to).await?;
        let backends = self.routed(to).map(|backend| self.resolve(backend)).collect::<Result<Vec<_>, _>>()?;
        if backends.len() > MAX_BACKENDS {
            let message = format!("{} instances, and users can be sent to {MAX_BACKENDS} at most", backends.len());
            return Err(Fault::new(Code::RouteUnsupported, message));
        }
        let (path, file) = (self.layout.route(), RouteFile { format: ROUTE_FORMAT, backends });
        blocking(move || durable::write_json(&path, &file).map_err(|error| error.fault())).await?;
        self.apply().await
    }

    /// Waits until nobody is connected to `leaving` any more.
    pub(super) async fn drain(&self, leaving: &BTreeSet<Backend>, at_most: Duration) -> Result<Drained, Fault> {
        // One without a port never had users.
        let ports: Vec<u16> = self.routed(leaving).filter_map(|backend| self.port(backend)).collect();
        let end = Instant::now() + at_most;
        let mut most = 0;
        loop {
            let ports = ports.clone();
            let counted =
                blocking(move || sock_diag::open_connections(&ports).map_err(|error| not_counted(&error))).await;
            let open = counted?;
            most = most.max(open);
            if open == 0 || Instant::now() >= end {
                return Ok(Drained { ended: most - open, open });
            }
            tokio::time::sleep(COUNT_EVERY).await;
        }
    }

    /// The address that users call accepts.
    pub(super) async fn verify(&self, at_most: Duration) -> Result<(), Fault> {
        connects(self.outside.as_deref(), at_most).await
    }

    pub(super) async fn observe(&self) -> Result<Observed, Fault> {
        let set = match self.wanted().await? {
            Some(backends) => RouteSet::These(backends.into_iter().map(|backend| self.backend(backend)).collect()),
            None => RouteSet::Current,
        };
        let status = self.status().await?;
        let good = status.is_up() && !status.reload_failed;
        Ok(Observed { set, trouble: if good { None } else { Some(self.trouble(&status).await) } })
    }

    /// Has the helper bring the kernel, or the proxy, to the file.
    async fn apply(&self) -> Result<(), Fault> {
        match self.running.units.reload(&self.helper(), HELPER_LIMIT).await {
            Ok(JobResult::Done) => match self.status().await? {
                status if status.is_up() => Ok(()),
                status => Err(self.trouble(&status).await),
            },
            Ok(_) => Err(self.trouble(&self.status().await?).await),
            Err(error @ UnitError::Timeout { .. }) => Err(Fault::new(Code::RouteHelper, error.to_string())),
            Err(error) => Err(not_asked(&error)),
        }
    }

    fn helper(&self) -> UnitName {
        self.layout.app().route_unit()
    }

    async fn status(&self) -> Result<UnitStatus, Fault> {
        self.running.units.status(&self.helper()).await.map_err(|error| not_asked(&error))
    }

    /// The helper's own words beside it.
    async fn trouble(&self, status: &UnitStatus) -> Fault {
        let unit = self.helper();
        let seen = status.seen(&unit);
        let journal = match &status.invocation {
            Some(run) => self.running.units.journal(run, JOURNAL_LINES).await,
            None => Vec::new(),
        };
        let state = match status.is_up() {
            true => "its last run failed".to_owned(),
            false => format!("it is {}", seen.state),
        };
        let why = journal.iter().rev().find(|line| line.text.starts_with("slotd-gate: "));
        let why = why.map(|line| format!(": {}", line.text.trim_start_matches("slotd-gate: "))).unwrap_or_default();
        let message =
            format!("{unit} should send users to the live slot, and {state}{why}; see: systemctl status {unit}");
        Fault::new(Code::RouteHelper, message).with(Evidence { unit: Some(seen), journal, ..Evidence::default() })
    }

    /// What the file says now.
    async fn wanted(&self) -> Result<Option<Vec<RouteBackend>>, Fault> {
        let path = self.layout.route();
        blocking(move || match durable::read_json::<RouteFile>(&path) {
            Ok(file) => Ok(file.map(|file| file.backends)),
            // It is written anew at the next switch.
            Err(error) if error.is_damage() => Ok(None),
            Err(error) => Err(error.fault()),
        })
        .await
    }

    /// Units of one slot share its instances by number, ports included: only the routed unit listens there.
    fn routed<'a>(&self, set: &'a BTreeSet<Backend>) -> impl Iterator<Item = &'a Backend> {
        set.iter().filter(|backend| backend.unit == self.template.unit(&backend.instance))
    }

    fn backend(&self, backend: RouteBackend) -> Backend {
        let RouteBackend { instance, port, weight } = backend;
        Backend { unit: self.template.unit(&instance), instance, port: Some(port), weight }
    }

    fn resolve(&self, backend: &Backend) -> Result<RouteBackend, Fault> {
        let instance = backend.instance.clone();
        match self.port(backend) {
            Some(port) => Ok(RouteBackend { instance, port, weight: backend.weight }),
            None => Err(Fault::new(Code::RouteUnsupported, format!("instance {instance} has no port of its own"))),
        }
    }

    /// As the caller says, else as the instance's environment does.
    fn port(&self, backend: &Backend) -> Option<u16> {
        backend.port.or_else(|| {
            let path = self.layout.instance(&backend.instance).join("env");
            let bytes = durable::read_bytes(&path, MAX_ENV_BYTES).ok()??;
            port_of_env(&String::from_utf8_lossy(&bytes))
        })
    }
}

fn not_counted(error: &io::Error) -> Fault {
    Fault::new(Code::RouteHelper, format!("open connections can't be counted (sock_diag): {error}"))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Fault> + Send + 'static) -> Result<T, Fault> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(panic) => Err(Fault::new(Code::Internal, format!("work on the route was torn: {panic}"))),
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpStream};

    use super::super::{AnyRoute, Route};
    use super::*;
    use crate::config::parse_app;
    use crate::model::SlotName;
    use crate::units::fake::FakeUnits;

    const BRIEF: Duration = Duration::from_secs(5);

    struct Site {
        base: tempfile::TempDir,
        units: FakeUnits,
        route: AnyRoute<FakeUnits>,
    }

    impl Site {
        /// An app whose users call `port`, with the helper up.
        fn new(port: u16, range: &str) -> Site {
            let (base, units) = (tempfile::tempdir().expect("a folder"), FakeUnits::new());
            let name = "web".parse().expect("a name");
            let text = format!(
                "[[unit]]\nname = \"web@\"\n[route]\nkind = \"nftables\"\nport = {port}\nports = \"{range}\"\n\
                 [[probe]]\nkind = \"tcp\"\naddress = \"127.0.0.1:{{port}}\"\n"
            );
            let settings = parse_app(&name, std::path::Path::new("web.toml"), &text, &Default::default());
            let route = AnyRoute::new(&settings.expect("settings"), &Site::layout(&base), units.clone());
            std::fs::create_dir_all(base.path().join("run/route")).expect("folder");
            units.unit(HELPER).runs();
            Site { base, units, route }
        }

        fn layout(base: &tempfile::TempDir) -> Layout {
            Layout::new(base.path().join("state"), base.path().join("run"), "web".parse().expect("a name"))
        }

        /// An instance with this port in its environment, whose unit runs.
        fn runs(&self, version: &str, port: u16) -> Backend {
            let instance = SlotName::first(version.parse().expect("a version")).instance(1);
            let folder = Site::layout(&self.base).instance(&instance);
            std::fs::create_dir_all(&folder).expect("folder");
            std::fs::write(folder.join("env"), format!("PORT=\"{port}\"\n")).expect("written");
            self.units.unit(&format!("web@{version}")).runs();
            Backend::new(UnitName::new(format!("web@{version}.service")), instance)
        }

        fn file(&self) -> String {
            std::fs::read_to_string(Site::layout(&self.base).route()).unwrap_or_default()
        }
    }

    const HELPER: &str = "slotd-route@web.service";

    #[tokio::test]
    async fn a_switch_writes_the_set_and_has_the_helper_apply_it() {
        let site = Site::new(8080, "20000-20099");
        assert_eq!(site.route.observe().await, Ok(Observed { set: RouteSet::Current, trouble: None }));
        let (one, two) = (site.runs("1", 20003), site.runs("2", 20004));
        assert_eq!(site.route.switch(&BTreeSet::from([one.clone(), two.clone()])).await, Ok(()));
        let file: RouteFile = serde_json::from_str(&site.file()).expect("a set");
        assert_eq!(file.backends.iter().map(|it| it.port).collect::<Vec<_>>(), [20003, 20004]);
        let resolved = Backend { port: Some(20003), ..one.clone() };
        assert_eq!(site.route.revert(&BTreeSet::from([one])).await, Ok(()));
        let seen = site.route.observe().await.expect("a look");
        assert_eq!(seen, Observed { set: RouteSet::These(BTreeSet::from([resolved])), trouble: None });
        assert_eq!(site.route.switch(&BTreeSet::new()).await, Ok(()), "nobody is a set");
        assert_eq!(site.units.calls(), vec!["reload slotd-route@web"; 3]);
        assert!(site.file().contains("\"backends\": []"));
    }

    #[tokio::test]
    async fn units_beside_the_routed_one_get_no_users() {
        let site = Site::new(8080, "20000-20099");
        let one = site.runs("1", 20003);
        site.units.unit("worker@1").runs();
        let worker = Backend { unit: UnitName::new("worker@1.service"), ..one.clone() };
        assert_eq!(site.route.switch(&BTreeSet::from([one, worker.clone()])).await, Ok(()));
        assert_eq!(site.file().matches("\"port\": 20003").count(), 1, "{}", site.file());
        site.units.unit("worker@1").is_stopped_by_hand();
        let fault = site.route.switch(&BTreeSet::from([worker])).await.expect_err("it is down");
        assert_eq!(fault.code, Code::UnitExited);
    }

    #[tokio::test]
    async fn who_does_not_run_or_has_no_port_gets_no_users() {
        let site = Site::new(8080, "20000-20099");
        let one = site.runs("1", 20003);
        site.units.unit("web@1").is_stopped_by_hand();
        let fault = site.route.switch(&BTreeSet::from([one])).await.expect_err("it is down");
        assert_eq!(fault.code, Code::UnitExited);
        let two = site.runs("2", 0);
        let fault = site.route.switch(&BTreeSet::from([two])).await.expect_err("no port");
        assert_eq!((fault.code, fault.message.as_str()), (Code::RouteUnsupported, "instance 2 has no port of its own"));
        assert_eq!((site.file(), site.units.calls()), (String::new(), vec![]));
    }

    #[tokio::test]
    async fn a_helper_that_fails_is_told_in_its_own_words() {
        let site = Site::new(8080, "20000-20099");
        let one = site.runs("1", 20003);
        site.units.unit(HELPER).is_stopped_by_hand().writes("slotd-gate: web: nft refuses: no").runs();
        site.units.unit(HELPER).reload_ends(JobResult::Failed);
        let fault = site.route.switch(&BTreeSet::from([one.clone()])).await.expect_err("it failed");
        assert_eq!(fault.code, Code::RouteHelper);
        assert!(
            fault.message.contains("its last run failed: web: nft refuses: no; see: systemctl"),
            "{}",
            fault.message
        );
        assert_eq!(fault.evidence.journal.len(), 1);
        let seen = site.route.observe().await.expect("a look");
        assert_eq!(seen.trouble.expect("trouble").code, Code::RouteHelper, "though the unit is active");
        assert_eq!(site.route.switch(&BTreeSet::from([one])).await, Ok(()));
        assert_eq!(site.route.observe().await.expect("a look").trouble, None);
        site.units.unit(HELPER).is_stopped_by_hand();
        let trouble = site.route.observe().await.expect("a look").trouble.expect("trouble");
        assert!(trouble.message.contains("and it is inactive/dead"), "{}", trouble.message);
    }

    #[tokio::test]
    async fn prepare_refuses_what_can_not_work() {
        let site = Site::new(8080, "20000-20099");
        assert_eq!(site.route.prepare().await, Ok(()));
        let one = site.runs("1", 20200);
        site.route.switch(&BTreeSet::from([one])).await.expect("the helper would refuse it");
        let fault = site.route.prepare().await.expect_err("no way back");
        assert!(fault.code == Code::RouteUnsupported && fault.message.contains("port 20200, outside"), "{fault:?}");
        site.units.unit(HELPER).is_masked();
        assert_eq!(site.route.prepare().await.expect_err("masked").code, Code::UnitMasked);
        site.units.unit(HELPER).is_missing();
        assert_eq!(site.route.prepare().await.expect_err("missing").code, Code::UnitMissing);

        let text = std::fs::read_to_string(EPHEMERAL_PORTS).expect("the kernel says");
        let used = PortRange::of_kernel(&text).expect("a range");
        let site = Site::new(80, &used.to_string());
        let fault = site.route.prepare().await.expect_err("the kernel's own");
        assert!(fault.code == Code::RouteUnsupported && fault.message.contains("ip_local_port_range"), "{fault:?}");
    }

    #[tokio::test]
    async fn a_drain_waits_for_users_and_not_for_ever() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let site = Site::new(80, "20000-20099");
        let leaving = BTreeSet::from([site.runs("1", address.port())]);
        assert_eq!(site.route.drain(&leaving, BRIEF).await, Ok(Drained::default()), "nobody is there");

        let mut users = Vec::new();
        for _ in 0..3 {
            users.push((
                TcpStream::connect(address).await.expect("connected"),
                listener.accept().await.expect("accepted"),
            ));
        }
        let open = Drained { ended: 0, open: 3 };
        assert_eq!(site.route.drain(&leaving, Duration::ZERO).await, Ok(open));
        users.pop();
        assert_eq!(site.route.drain(&leaving, Duration::from_millis(120)).await, Ok(Drained { ended: 0, open: 2 }));
        let (drained, ()) = tokio::join!(site.route.drain(&leaving, BRIEF * 12), async {
            tokio::task::yield_now().await;
            users.clear();
        });
        assert_eq!(drained.expect("drained").open, 0);
    }

    #[tokio::test]
    async fn verify_connects_to_the_public_port() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let site = Site::new(listener.local_addr().expect("an address").port(), "20000-20099");
        assert_eq!(site.route.verify(BRIEF).await, Ok(()));
        drop(listener);
        assert_eq!(site.route.verify(BRIEF).await.expect_err("nobody is there").code, Code::RouteOutside);
    }
}
