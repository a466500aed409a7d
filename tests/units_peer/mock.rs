//! A small systemd: one unit, web@2.service, and jobs that end as the test says.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use slotd::model::UnitName;
use slotd::units::systemd::Systemd;
use tokio::net::UnixStream;
use tokio::sync::watch;
use zbus::object_server::SignalEmitter;
use zbus::zvariant::{ObjectPath, OwnedObjectPath, Value};
use zbus::{Connection, Guid, interface};

pub const MANAGER: &str = "/org/freedesktop/systemd1";
pub const WEB: &str = "/org/freedesktop/systemd1/unit/web_402_2eservice";
pub const OTHER: &str = "/org/freedesktop/systemd1/unit/other_2eservice";

/// Long enough for any machine: no test that passes waits for it.
pub const LONG: Duration = Duration::from_secs(30);

pub fn web() -> UnitName {
    UnitName::new("web@2.service")
}

/// How the next call that makes a job is answered.
#[derive(Clone)]
pub enum Answer {
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
pub struct World {
    unit: Arc<Mutex<Unit>>,
    answers: Arc<Mutex<VecDeque<Answer>>>,
    calls: Arc<watch::Sender<Vec<String>>>,
    servers: Arc<Mutex<Vec<Connection>>>,
}

#[derive(Clone)]
pub struct Unit {
    pub load: &'static str,
    pub active: &'static str,
    pub sub: &'static str,
    pub result: &'static str,
    pub reload: &'static str,
    pub invocation: u8,
    pub job: u32,
}

impl World {
    pub fn new() -> World {
        let unit = Unit {
            load: "loaded",
            active: "inactive",
            sub: "dead",
            result: "success",
            reload: "success",
            invocation: 1,
            job: 0,
        };
        World {
            unit: Arc::new(Mutex::new(unit)),
            answers: Arc::default(),
            calls: Arc::new(watch::channel(Vec::new()).0),
            servers: Arc::default(),
        }
    }

    /// A client; each time that it connects there is a new server of the same world.
    pub async fn client(&self) -> Systemd {
        let world = self.clone();
        Systemd::with_connector(move || world.clone().connect()).await.expect("a connection")
    }

    pub async fn connect(self) -> zbus::Result<Connection> {
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

    pub fn answer(&self, answer: Answer) {
        self.answers.lock().expect("a lock").push_back(answer);
    }

    pub fn set(&self, change: impl FnOnce(&mut Unit)) {
        change(&mut self.unit.lock().expect("a lock"));
    }

    pub fn called(&self, call: &str) {
        self.calls.send_modify(|calls| calls.push(call.to_owned()));
    }

    pub fn count(&self, call: &str) -> usize {
        self.calls.borrow().iter().filter(|made| *made == call).count()
    }

    /// Waits until `call` was made so many times.
    pub async fn until_called(&self, call: &str, times: usize) {
        let mut calls = self.calls.subscribe();
        let enough = |calls: &Vec<String>| calls.iter().filter(|made| *made == call).count() >= times;
        if tokio::time::timeout(LONG, calls.wait_for(enough)).await.is_err() {
            panic!("{call} wasn't called {times} times, but: {:?}", self.calls.borrow());
        }
    }

    /// The connection made last, for signals of the server's.
    pub fn emitter(&self) -> SignalEmitter<'static> {
        let server = self.servers.lock().expect("a lock").last().expect("a server").clone();
        SignalEmitter::new(&server, MANAGER).expect("an emitter")
    }

    pub async fn job_ends(&self, id: u32, result: &str) {
        Manager::job_removed(&self.emitter(), id, job_path(id), "any.service", result).await.expect("sent");
    }

    /// Some job, of this unit.
    pub async fn job_of_ends(&self, unit: &str) {
        Manager::job_removed(&self.emitter(), 1000, job_path(1000), unit, "done").await.expect("sent");
    }

    pub async fn reloads(&self) {
        Manager::reloading(&self.emitter(), true).await.expect("sent");
        Manager::reloading(&self.emitter(), false).await.expect("sent");
    }

    pub async fn changes(&self, path: &str) {
        let server = self.servers.lock().expect("a lock").last().expect("a server").clone();
        let changed = HashMap::from([("ActiveState", Value::from("active"))]);
        let body = ("org.freedesktop.systemd1.Unit", changed, Vec::<&str>::new());
        let properties = "org.freedesktop.DBus.Properties";
        server.emit_signal(None::<&str>, path, properties, "PropertiesChanged", &body).await.expect("sent");
    }

    /// The bus goes away.
    pub async fn cuts(&self) {
        let server = self.servers.lock().expect("a lock").pop().expect("a server");
        server.close().await.expect("closed");
    }
}

pub fn job_path(id: u32) -> ObjectPath<'static> {
    ObjectPath::try_from(format!("/org/freedesktop/systemd1/job/{id}")).expect("a path")
}

pub struct Manager {
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
        assert_eq!(mode, "fail");
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

    fn kill_unit(&self, name: &str, whom: &str, signal: i32) -> Result<(), Refusal> {
        match name {
            "web@2.service" => self.world.called(&format!("KillUnit {whom} {signal}")),
            _ => return Err(Refusal { name: "org.freedesktop.systemd1.NoSuchProcess", message: "No main process" }),
        }
        Ok(())
    }

    async fn reload_or_restart_unit(
        &self,
        _name: &str,
        mode: &str,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
    ) -> Result<OwnedObjectPath, Refusal> {
        assert_eq!(mode, "replace");
        self.job("ReloadOrRestartUnit", emitter).await
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

pub struct UnitObject {
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

pub struct ServiceObject {
    world: World,
}

#[interface(name = "org.freedesktop.systemd1.Service")]
impl ServiceObject {
    #[zbus(property)]
    fn result(&self) -> String {
        self.world.unit.lock().expect("a lock").result.to_owned()
    }

    #[zbus(property)]
    fn status_text(&self) -> String {
        "quiet, 3 open".to_owned()
    }

    #[zbus(property)]
    fn reload_result(&self) -> String {
        self.world.unit.lock().expect("a lock").reload.to_owned()
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
pub struct Refusal {
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
