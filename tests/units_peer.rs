//! The D-Bus client against a small systemd of our own, peer to peer over a socket pair: no bus, no privileges.
//!
//! What no real systemd does on demand is done here: a job that ends before its own reply, a bus that goes away in
//! the middle of a start, a reload that swallows the signal.

#![expect(missing_docs, reason = "the mock's D-Bus interfaces expand to undocumented items")]

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use slotd::model::UnitName;
use slotd::units::systemd::Systemd;
use slotd::units::{Active, JobResult, Load, UnitControl, UnitError, UnitWatch};
use tokio::net::UnixStream;
use tokio::sync::watch;
use zbus::object_server::SignalEmitter;
use zbus::zvariant::{ObjectPath, OwnedObjectPath, Value};
use zbus::{Connection, Guid, interface};

const MANAGER: &str = "/org/freedesktop/systemd1";
const WEB: &str = "/org/freedesktop/systemd1/unit/web_402_2eservice";
const OTHER: &str = "/org/freedesktop/systemd1/unit/other_2eservice";

/// Long enough for any machine: no test that passes waits for it.
const LONG: Duration = Duration::from_secs(30);

fn web() -> UnitName {
    UnitName::new("web@2.service")
}

/// How the next call that makes a job is answered.
#[derive(Clone)]
enum Answer {
    /// With the job; the test says when it ends.
    Job,
    /// With the job, after its end was told.
    EndedBefore(&'static str),
    /// With an error.
    Error(&'static str, &'static str),
    /// Never: the connection dies first.
    Nothing,
}

/// What the mock systemd knows, over all its connections.
#[derive(Clone)]
struct World {
    unit: Arc<Mutex<Unit>>,
    answers: Arc<Mutex<VecDeque<Answer>>>,
    calls: Arc<watch::Sender<Vec<String>>>,
    servers: Arc<Mutex<Vec<Connection>>>,
}

#[derive(Clone)]
struct Unit {
    load: &'static str,
    active: &'static str,
    sub: &'static str,
    result: &'static str,
    invocation: u8,
    job: u32,
}

impl World {
    fn new() -> World {
        let unit = Unit { load: "loaded", active: "inactive", sub: "dead", result: "success", invocation: 1, job: 0 };
        World {
            unit: Arc::new(Mutex::new(unit)),
            answers: Arc::default(),
            calls: Arc::new(watch::channel(Vec::new()).0),
            servers: Arc::default(),
        }
    }

    /// A client; each time that it connects there is a new server of the same world.
    async fn client(&self) -> Systemd {
        let world = self.clone();
        Systemd::with_connector(move || world.clone().connect()).await.expect("a connection")
    }

    async fn connect(self) -> zbus::Result<Connection> {
        let (ours, theirs) = UnixStream::pair()?;
        let server = zbus::connection::Builder::unix_stream(theirs)
            .server(Guid::generate())?
            .p2p()
            .serve_at(MANAGER, Manager { world: self.clone() })?
            .serve_at(WEB, UnitObject { world: self.clone() })?
            .serve_at(WEB, ServiceObject { world: self.clone() })?
            .build();
        let client = zbus::connection::Builder::unix_stream(ours).p2p().build();
        let (server, client) = tokio::try_join!(server, client)?;
        self.servers.lock().expect("a lock").push(server);
        Ok(client)
    }

    fn answer(&self, answer: Answer) {
        self.answers.lock().expect("a lock").push_back(answer);
    }

    fn set(&self, change: impl FnOnce(&mut Unit)) {
        change(&mut self.unit.lock().expect("a lock"));
    }

    fn called(&self, call: &str) {
        self.calls.send_modify(|calls| calls.push(call.to_owned()));
    }

    fn count(&self, call: &str) -> usize {
        self.calls.borrow().iter().filter(|made| *made == call).count()
    }

    /// Waits until `call` was made so many times.
    async fn until_called(&self, call: &str, times: usize) {
        let mut calls = self.calls.subscribe();
        let enough = |calls: &Vec<String>| calls.iter().filter(|made| *made == call).count() >= times;
        if tokio::time::timeout(LONG, calls.wait_for(enough)).await.is_err() {
            panic!("{call} wasn't called {times} times, but: {:?}", self.calls.borrow());
        }
    }

    /// The connection made last, for signals of the server's.
    fn emitter(&self) -> SignalEmitter<'static> {
        let server = self.servers.lock().expect("a lock").last().expect("a server").clone();
        SignalEmitter::new(&server, MANAGER).expect("an emitter")
    }

    async fn job_ends(&self, id: u32, result: &str) {
        Manager::job_removed(&self.emitter(), id, job_path(id), "any.service", result).await.expect("sent");
    }

    async fn reloads(&self) {
        Manager::reloading(&self.emitter(), true).await.expect("sent");
        Manager::reloading(&self.emitter(), false).await.expect("sent");
    }

    async fn changes(&self, path: &str) {
        let server = self.servers.lock().expect("a lock").last().expect("a server").clone();
        let changed = HashMap::from([("ActiveState", Value::from("active"))]);
        let body = ("org.freedesktop.systemd1.Unit", changed, Vec::<&str>::new());
        let properties = "org.freedesktop.DBus.Properties";
        server.emit_signal(None::<&str>, path, properties, "PropertiesChanged", &body).await.expect("sent");
    }

    /// The bus goes away.
    async fn cuts(&self) {
        let server = self.servers.lock().expect("a lock").pop().expect("a server");
        server.close().await.expect("closed");
    }
}

fn job_path(id: u32) -> ObjectPath<'static> {
    ObjectPath::try_from(format!("/org/freedesktop/systemd1/job/{id}")).expect("a path")
}

struct Manager {
    world: World,
}

impl Manager {
    /// Jobs are numbered by the calls that made them.
    async fn job(&self, verb: &str, emitter: SignalEmitter<'_>) -> Result<OwnedObjectPath, Refusal> {
        let answer = self.world.answers.lock().expect("a lock").pop_front();
        let answer = answer.unwrap_or_else(|| panic!("{verb} was not scripted"));
        self.world.called(verb);
        let id = u32::try_from(self.world.count(verb)).expect("few");
        match answer {
            Answer::Job => {}
            Answer::EndedBefore(result) => {
                Manager::job_removed(&emitter, id, job_path(id), "web@2.service", result).await.expect("sent");
            }
            Answer::Error(name, message) => return Err(Refusal { name, message }),
            Answer::Nothing => std::future::pending().await,
        }
        Ok(job_path(id).into())
    }
}

#[interface(name = "org.freedesktop.systemd1.Manager")]
impl Manager {
    fn subscribe(&self) {
        self.world.called("Subscribe");
    }

    fn load_unit(&self, name: &str) -> OwnedObjectPath {
        let path = if name == "web@2.service" { WEB } else { OTHER };
        path.try_into().expect("a path")
    }

    async fn start_unit(
        &self,
        _name: &str,
        mode: &str,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
    ) -> Result<OwnedObjectPath, Refusal> {
        assert_eq!(mode, "replace");
        self.job("StartUnit", emitter).await
    }

    async fn stop_unit(
        &self,
        _name: &str,
        mode: &str,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
    ) -> Result<OwnedObjectPath, Refusal> {
        assert_eq!(mode, "replace");
        self.job("StopUnit", emitter).await
    }

    fn reset_failed_unit(&self, _name: &str) -> Result<(), Refusal> {
        Err(Refusal { name: "org.freedesktop.systemd1.NoSuchUnit", message: "Unit web@2.service not loaded." })
    }

    #[expect(clippy::type_complexity, reason = "systemd's own type")]
    fn list_units_by_patterns(
        &self,
        states: Vec<String>,
        patterns: Vec<String>,
    ) -> Vec<(String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath)> {
        assert_eq!((states.len(), patterns), (0, vec!["web@*.service".to_owned()]));
        let row = |name: &str, load: &str, active: &str, sub: &str| {
            let path = || OwnedObjectPath::try_from("/").expect("a path");
            let text = |text: &str| text.to_owned();
            (text(name), text(""), text(load), text(active), text(sub), text(""), path(), 0, text(""), path())
        };
        vec![
            row("web@1.service", "loaded", "inactive", "a-sub-state-of-a-later-systemd"),
            row("web@2.service", "not-found", "active", "running"),
            row("web@3.service", "not-found", "inactive", "dead"),
        ]
    }

    #[zbus(signal)]
    async fn job_removed(
        emitter: &SignalEmitter<'_>,
        id: u32,
        job: ObjectPath<'_>,
        unit: &str,
        result: &str,
    ) -> zbus::Result<()>;

    #[zbus(signal)]
    async fn reloading(emitter: &SignalEmitter<'_>, active: bool) -> zbus::Result<()>;
}

struct UnitObject {
    world: World,
}

#[interface(name = "org.freedesktop.systemd1.Unit")]
impl UnitObject {
    #[zbus(property)]
    fn load_state(&self) -> String {
        self.world.unit.lock().expect("a lock").load.to_owned()
    }

    #[zbus(property)]
    fn active_state(&self) -> String {
        self.world.unit.lock().expect("a lock").active.to_owned()
    }

    #[zbus(property)]
    fn sub_state(&self) -> String {
        self.world.unit.lock().expect("a lock").sub.to_owned()
    }

    #[zbus(property, name = "InvocationID")]
    fn invocation_id(&self) -> Vec<u8> {
        vec![self.world.unit.lock().expect("a lock").invocation; 16]
    }

    #[zbus(property)]
    fn job(&self) -> (u32, OwnedObjectPath) {
        match self.world.unit.lock().expect("a lock").job {
            0 => (0, "/".try_into().expect("a path")),
            id => (id, job_path(id).into()),
        }
    }
}

struct ServiceObject {
    world: World,
}

#[interface(name = "org.freedesktop.systemd1.Service")]
impl ServiceObject {
    #[zbus(property)]
    fn result(&self) -> String {
        self.world.unit.lock().expect("a lock").result.to_owned()
    }

    #[zbus(property, name = "NRestarts")]
    fn n_restarts(&self) -> u32 {
        7
    }

    #[zbus(property, name = "TimeoutStopUSec")]
    fn timeout_stop_usec(&self) -> u64 {
        u64::MAX
    }
}

/// An error by any name.
#[derive(Debug)]
struct Refusal {
    name: &'static str,
    message: &'static str,
}

impl zbus::DBusError for Refusal {
    fn create_reply(&self, call: &zbus::message::Header<'_>) -> zbus::Result<zbus::Message> {
        zbus::Message::error(call, self.name)?.build(&self.message)
    }

    fn name(&self) -> zbus::names::ErrorName<'_> {
        self.name.try_into().expect("an error's name")
    }

    fn description(&self) -> Option<&str> {
        Some(self.message)
    }
}

/// Starts web@2 beside the test.
fn starting(systemd: &Systemd) -> impl Future<Output = Result<JobResult, UnitError>> {
    let systemd = systemd.clone();
    let task = tokio::spawn(async move { systemd.start(&web(), LONG).await });
    async move { task.await.expect("no panic") }
}

#[tokio::test]
async fn our_own_jobs_end_counts_and_no_others() {
    let world = World::new();
    let systemd = world.client().await;
    world.answer(Answer::Job);
    let start = starting(&systemd);
    world.until_called("StartUnit", 1).await;
    for other in 100..300 {
        world.job_ends(other, "failed").await;
    }
    world.job_ends(1, "done").await;
    assert_eq!(start.await, Ok(JobResult::Done));
}

#[tokio::test]
async fn a_job_may_end_before_its_reply() {
    let world = World::new();
    let systemd = world.client().await;
    for (word, result) in [
        ("done", JobResult::Done),
        ("failed", JobResult::Failed),
        ("timeout", JobResult::Timeout),
        ("canceled", JobResult::Canceled),
        ("dependency", JobResult::Dependency),
        ("skipped", JobResult::Skipped),
        ("assert", JobResult::Other),
    ] {
        world.answer(Answer::EndedBefore(word));
        assert_eq!(systemd.start(&web(), LONG).await, Ok(result), "{word}");
    }
    world.answer(Answer::EndedBefore("done"));
    assert_eq!(systemd.stop(&web(), LONG).await, Ok(JobResult::Done));
}

#[tokio::test]
async fn two_starts_at_once_each_get_their_own_result() {
    let world = World::new();
    let systemd = world.client().await;
    world.answer(Answer::Job);
    world.answer(Answer::Job);
    let first = starting(&systemd);
    world.until_called("StartUnit", 1).await;
    let second = starting(&systemd);
    world.until_called("StartUnit", 2).await;
    world.job_ends(2, "failed").await;
    world.job_ends(1, "done").await;
    assert_eq!((first.await, second.await), (Ok(JobResult::Done), Ok(JobResult::Failed)));
}

#[tokio::test]
async fn a_job_that_does_not_end_is_a_timeout() {
    let world = World::new();
    let systemd = world.client().await;
    world.answer(Answer::Job);
    let after = Duration::from_millis(100);
    let error = systemd.start(&web(), after).await.expect_err("a timeout");
    assert_eq!(error, UnitError::Timeout { verb: "start", unit: web(), after });
    assert_eq!(error.to_string(), "the start job of web@2.service didn't end within 100ms");
}

#[tokio::test]
async fn refusals_are_told_apart() {
    let world = World::new();
    let systemd = world.client().await;
    let denied = UnitError::Denied { verb: "start", unit: web(), message: "no".into() };
    let refused = UnitError::Refused { verb: "start", unit: web(), message: "no".into() };
    for (name, error) in [
        ("org.freedesktop.DBus.Error.InteractiveAuthorizationRequired", denied.clone()),
        ("org.freedesktop.DBus.Error.AccessDenied", denied),
        ("org.freedesktop.systemd1.NoSuchUnit", UnitError::NotFound(web())),
        ("org.freedesktop.systemd1.UnitMasked", UnitError::Masked(web())),
        ("org.freedesktop.systemd1.BadUnitSetting", refused),
    ] {
        world.answer(Answer::Error(name, "no"));
        assert_eq!(systemd.start(&web(), LONG).await, Err(error), "{name}");
    }
    world.answer(Answer::Error("org.freedesktop.systemd1.NoSuchUnit", "Unit web@2.service not loaded."));
    assert_eq!(systemd.stop(&web(), LONG).await, Ok(JobResult::Done));
    assert_eq!(systemd.reset_failed(&web()).await, Ok(()));
}

#[tokio::test]
async fn a_reload_that_swallowed_the_signal() {
    for (active, sub, result, ended) in [
        ("active", "running", "success", JobResult::Done),
        ("failed", "failed", "exit-code", JobResult::Failed),
        ("activating", "auto-restart", "exit-code", JobResult::Failed),
        // A oneshot that ran to its end.
        ("inactive", "dead", "success", JobResult::Done),
    ] {
        let world = World::new();
        let systemd = world.client().await;
        world.answer(Answer::Job);
        let start = starting(&systemd);
        world.until_called("StartUnit", 1).await;
        world.set(|unit| *unit = Unit { active, sub, result, invocation: 2, ..unit.clone() });
        world.reloads().await;
        assert_eq!(start.await, Ok(ended), "{active}/{sub}");
        assert_eq!((world.count("StartUnit"), world.count("Subscribe")), (1, 2));
    }
}

#[tokio::test]
async fn a_reload_during_which_the_job_goes_on() {
    let world = World::new();
    let systemd = world.client().await;
    world.answer(Answer::Job);
    let start = starting(&systemd);
    world.until_called("StartUnit", 1).await;
    world.set(|unit| *unit = Unit { active: "activating", sub: "start", invocation: 2, job: 1, ..unit.clone() });
    world.reloads().await;
    world.until_called("Subscribe", 2).await;
    world.set(|unit| *unit = Unit { active: "failed", sub: "failed", job: 0, ..unit.clone() });
    world.job_ends(1, "failed").await;
    assert_eq!(start.await, Ok(JobResult::Failed));
}

#[tokio::test]
async fn another_job_in_our_jobs_place() {
    let world = World::new();
    let systemd = world.client().await;
    world.answer(Answer::Job);
    let start = starting(&systemd);
    world.until_called("StartUnit", 1).await;
    world.set(|unit| *unit = Unit { active: "deactivating", sub: "stop", job: 9, ..unit.clone() });
    world.reloads().await;
    assert_eq!(start.await, Ok(JobResult::Canceled));
}

#[tokio::test]
async fn a_bus_that_goes_away_while_a_job_runs() {
    // It ended meanwhile: read from the unit, and not started a second time.
    for (active, sub, ended) in [("active", "running", JobResult::Done), ("failed", "failed", JobResult::Failed)] {
        let world = World::new();
        let systemd = world.client().await;
        world.answer(Answer::Job);
        let start = starting(&systemd);
        world.until_called("StartUnit", 1).await;
        world.set(|unit| *unit = Unit { active, sub, invocation: 2, ..unit.clone() });
        world.cuts().await;
        assert_eq!(start.await, Ok(ended));
        assert_eq!(world.count("StartUnit"), 1);
    }
    // It goes on: its end is told on the new connection.
    let world = World::new();
    let systemd = world.client().await;
    world.answer(Answer::Job);
    let start = starting(&systemd);
    world.until_called("StartUnit", 1).await;
    world.set(|unit| *unit = Unit { active: "activating", sub: "start", invocation: 2, job: 1, ..unit.clone() });
    world.cuts().await;
    world.until_called("Subscribe", 2).await;
    world.set(|unit| *unit = Unit { active: "active", sub: "running", job: 0, ..unit.clone() });
    world.job_ends(1, "done").await;
    assert_eq!(start.await, Ok(JobResult::Done));
}

#[tokio::test]
async fn a_bus_that_goes_away_before_the_reply() {
    // The call never arrived: made again.
    let world = World::new();
    let systemd = world.client().await;
    world.answer(Answer::Nothing);
    world.answer(Answer::EndedBefore("done"));
    let start = starting(&systemd);
    world.until_called("StartUnit", 1).await;
    world.cuts().await;
    assert_eq!(start.await, Ok(JobResult::Done));
    assert_eq!(world.count("StartUnit"), 2);

    // It arrived, and the run failed: not made again.
    let world = World::new();
    let systemd = world.client().await;
    world.answer(Answer::Nothing);
    let start = starting(&systemd);
    world.until_called("StartUnit", 1).await;
    world.set(|unit| *unit = Unit { active: "failed", sub: "failed", invocation: 2, ..unit.clone() });
    world.cuts().await;
    assert_eq!(start.await, Ok(JobResult::Failed));
    assert_eq!(world.count("StartUnit"), 1);
}

#[tokio::test]
async fn a_connection_that_was_given_has_no_successor() {
    let world = World::new();
    let systemd = Systemd::with_connection(world.clone().connect().await.expect("connected")).await.expect("a link");
    assert_eq!(systemd.status(&web()).await.expect("a status").restarts, 7);
    world.answer(Answer::Job);
    let start = starting(&systemd);
    world.until_called("StartUnit", 1).await;
    world.cuts().await;
    assert!(matches!(start.await, Err(UnitError::Bus(_))));
    assert!(matches!(systemd.status(&web()).await, Err(UnitError::Bus(_))));
}

#[tokio::test]
async fn a_status_is_read_from_both_interfaces() {
    let world = World::new();
    let systemd = world.client().await;
    world.set(|unit| *unit = Unit { load: "masked", invocation: 0xab, job: 4, ..unit.clone() });
    let status = systemd.status(&web()).await.expect("a status");
    assert_eq!((status.load, status.active, status.job), (Load::Masked, Active::Inactive, true));
    assert_eq!((status.invocation, status.restarts, status.stop_limit), (Some("ab".repeat(16)), 7, None));
    let listed = systemd.list(&["web@*.service".to_owned()]).await;
    assert_eq!(listed, Ok(vec![UnitName::new("web@1.service"), web()]));
}

async fn next(watch: &mut UnitWatch) -> Option<UnitName> {
    tokio::time::timeout(LONG, watch.changed()).await.expect("a hint or an end")
}

#[tokio::test]
async fn a_watch_tells_of_its_units_and_ends_when_it_might_miss_something() {
    let world = World::new();
    let systemd = world.client().await;
    let units = [web()];
    let mut watch = systemd.watch(&units).await.expect("a watch");
    world.changes(OTHER).await;
    world.changes(WEB).await;
    assert_eq!(next(&mut watch).await, Some(web()));
    world.reloads().await;
    assert_eq!(next(&mut watch).await, None, "a hint of {OTHER} would have come first");

    let mut watch = systemd.watch(&units).await.expect("a second watch");
    world.changes(WEB).await;
    assert_eq!(next(&mut watch).await, Some(web()));
    world.cuts().await;
    assert_eq!(next(&mut watch).await, None);

    let mut watch = systemd.watch(&units).await.expect("a watch on a new connection");
    world.changes(WEB).await;
    assert_eq!(next(&mut watch).await, Some(web()));
}
