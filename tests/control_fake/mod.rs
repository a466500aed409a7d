//! A daemon for tests: the real server on a real socket, over a scripted service, and `slotctl` against it.
//!
//! Longer than other files: the daemon's trait has a verb for each request, and one world plays all of them.
#![allow(dead_code, reason = "each test binary uses its part")]

mod values;

use std::collections::{BTreeMap, VecDeque};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

pub use values::*;

use slotd::control::api::*;
use slotd::control::service::{Caller, Service};
use slotd::control::{Access, Limits, serve_with};
use slotd::model::deployment::Say;
use slotd::model::slot::Pin;
use slotd::model::{AppName, Class, Code, DeploymentId, Fault, Freeze, Report, SlotName, Timestamp};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixListener;
use tokio::process::{Child, Command};
use tokio::runtime::Runtime;
use tokio::sync::{broadcast, oneshot, watch};
use tokio::task::JoinHandle;

/// Longer than any step of a test takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What the service answers. What isn't here is a panic, which the caller sees as a fault of the server.
#[derive(Default)]
pub struct Script {
    pub health: Vec<Fault>,
    pub frozen: Option<Freeze>,
    pub apps: BTreeMap<AppName, AppStatus>,
    pub slots: Vec<SlotInfo>,
    pub detail: Option<SlotDetail>,
    pub quarantine: Vec<QuarantineItem>,
    pub reports: BTreeMap<DeploymentId, Report>,
    pub pruned: Option<Pruned>,
    pub planned: Option<Planned>,
    pub units: Vec<String>,
    pub past: Vec<PastEvent>,
    pub accepted: VecDeque<Result<Accepted, ApiError>>,
    pub uploaded: VecDeque<Result<Uploaded, ApiError>>,
    pub cleared: VecDeque<Result<(), ApiError>>,
    pub upload_limit: u64,
    /// Bytes for which there is room; any number unless said.
    pub upload_room: Option<u64>,
    /// A gate that changing verbs wait behind.
    pub held: Option<Arc<tokio::sync::Semaphore>>,
    /// What was asked, in order.
    pub calls: Vec<String>,
    /// The bytes of each upload.
    pub bytes: Vec<Vec<u8>>,
    seq: u64,
}

#[derive(Clone)]
pub struct Fake {
    script: Arc<Mutex<Script>>,
    events: broadcast::Sender<Event>,
    spool: PathBuf,
}

impl Fake {
    fn new(spool: PathBuf) -> Self {
        let script = Script { upload_limit: 1 << 20, ..Script::default() };
        // Few, so that followers can be made to fall behind.
        Fake { script: Arc::new(Mutex::new(script)), events: broadcast::channel(4).0, spool }
    }

    /// Changes the script.
    pub fn set<T>(&self, change: impl FnOnce(&mut Script) -> T) -> T {
        // What wasn't scripted panics under the lock; the script stays what it is.
        change(&mut self.script.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn calls(&self) -> Vec<String> {
        self.set(|script| script.calls.clone())
    }

    /// Puts a report down and tells of it.
    pub fn tell(&self, report: Report) {
        self.put(report.clone());
        let app = report.id.app.clone();
        self.event(app, EventKind::Deployment { report: Box::new(report) });
    }

    /// Puts a report down without a word.
    pub fn put(&self, report: Report) {
        self.set(|script| script.reports.insert(report.id.clone(), report));
    }

    pub fn event(&self, app: AppName, what: EventKind) {
        let seq = self.set(|script| {
            script.seq += 1;
            script.seq
        });
        let _ = self.events.send(Event { seq, at: Timestamp::now(), app, what });
    }

    /// Files in the spool.
    pub fn spooled(&self) -> usize {
        std::fs::read_dir(&self.spool).expect("spool").count()
    }

    fn known(&self, app: &AppName) -> Result<AppStatus, ApiError> {
        self.set(|script| script.apps.get(app).cloned())
            .ok_or_else(|| ApiError::new(Code::UnknownApp, format!("there is no app {app}")))
    }

    async fn accept(&self, call: String) -> Result<Accepted, ApiError> {
        let held = self.set(|script| {
            script.calls.push(call.clone());
            script.held.clone()
        });
        if let Some(held) = held {
            held.acquire().await.expect("gate").forget();
        }
        self.set(|script| script.accepted.pop_front().unwrap_or_else(|| panic!("not scripted: {call}")))
    }
}

impl Service for Fake {
    async fn status(&self) -> DaemonStatus {
        self.set(|script| DaemonStatus {
            version: "0.1.0".into(),
            since: Timestamp::now(),
            health: script.health.clone(),
            frozen: script.frozen.clone(),
            apps: script.apps.values().cloned().collect(),
        })
    }

    async fn app(&self, app: &AppName) -> Result<AppStatus, ApiError> {
        self.known(app)
    }

    async fn slots(&self, app: &AppName) -> Result<Vec<SlotInfo>, ApiError> {
        self.known(app)?;
        Ok(self.set(|script| script.slots.clone()))
    }

    async fn slot(&self, app: &AppName, slot: &SlotName) -> Result<SlotDetail, ApiError> {
        self.known(app)?;
        let missing = || ApiError::new(Code::UnknownSlot, format!("{app} has no slot {slot}"));
        self.set(|script| script.detail.clone().filter(|detail| detail.info.slot == *slot)).ok_or_else(missing)
    }

    async fn plan(&self, app: &AppName, slot: &SlotName, query: PlanQuery) -> Result<Planned, ApiError> {
        self.known(app)?;
        self.set(|script| {
            let strategy = query.strategy.map(|name| format!(" {name}")).unwrap_or_default();
            script.calls.push(format!("plan {app} {slot}{strategy}"));
            script.planned.clone()
        })
        .ok_or_else(|| ApiError::new(Code::UnknownSlot, format!("{app} has no slot {slot}")))
    }

    async fn plan_route(&self, app: &AppName, query: PlanQuery) -> Result<Planned, ApiError> {
        let slot = "2.0.0@r2".parse().expect("slot");
        self.plan(app, &slot, query).await
    }

    async fn plan_staged(&self, app: &AppName, query: PlanQuery, _: Caller) -> Result<Planned, ApiError> {
        let slot = "3.0.0".parse().expect("slot");
        self.plan(app, &slot, query).await
    }

    async fn upload_limit(&self, app: &AppName) -> Result<u64, ApiError> {
        self.known(app)?;
        Ok(self.set(|script| script.upload_limit))
    }

    async fn upload_room(&self, _: &AppName, bytes: u64) -> Result<(), ApiError> {
        match self.set(|script| script.upload_room).is_some_and(|room| bytes > room) {
            true => Err(ApiError::new(Code::DiskFull, "little is left")),
            false => Ok(()),
        }
    }

    async fn upload_path(&self, _: &AppName) -> Result<PathBuf, ApiError> {
        Ok(self.spool.join(format!("upload-{}", self.spooled())))
    }

    async fn upload(
        &self,
        app: &AppName,
        path: PathBuf,
        query: UploadQuery,
        caller: Caller,
    ) -> Result<Uploaded, ApiError> {
        let bytes = std::fs::read(&path).expect("the bytes");
        std::fs::remove_file(&path).expect("removed");
        self.set(|script| {
            let UploadQuery { file, version, message, .. } = query;
            script.calls.push(format!("upload {app} {file} {version:?} {message:?} by {}", caller.name));
            script.bytes.push(bytes);
            script.uploaded.pop_front().expect("not scripted: upload")
        })
    }

    async fn activate(&self, app: &AppName, request: ActivateRequest, _: Caller) -> Result<Accepted, ApiError> {
        let ActivateRequest { slot, message, force, strategy, migration, at, .. } = request;
        let strategy = strategy.map(|name| format!(" {name}")).unwrap_or_default();
        let migration = migration.map(|word| format!(" {word}")).unwrap_or_default();
        let at = at.map(|at| format!(" at {}", at.to_the_second())).unwrap_or_default();
        self.accept(format!("activate {app} {slot} {message:?} {force}{strategy}{migration}{at}")).await
    }

    async fn rollback(&self, app: &AppName, request: RollbackRequest, _: Caller) -> Result<Accepted, ApiError> {
        let RollbackRequest { to, message, force } = request;
        self.accept(format!("rollback {app} {to:?} {message:?} {force}")).await
    }

    async fn scale(&self, app: &AppName, request: ScaleRequest, caller: Caller) -> Result<Accepted, ApiError> {
        self.known(app)?;
        let unit = request.unit.map(|unit| format!(" {unit}")).unwrap_or_default();
        self.accept(format!("scale {app} {}{unit} by {}", request.instances, caller.name)).await
    }

    async fn say(&self, app: &AppName, say: Say, request: SayRequest, _: Caller) -> Result<Accepted, ApiError> {
        self.accept(format!("{say} {app}{}", because(request.message))).await
    }

    async fn retry(&self, app: &AppName, request: RetryRequest, _: Caller) -> Result<Accepted, ApiError> {
        let force = if request.force { " forced" } else { "" };
        self.accept(format!("retry {app}{force}{}", because(request.message))).await
    }

    async fn prune(&self, app: &AppName, query: PruneQuery, _: Caller) -> Result<Pruned, ApiError> {
        self.set(|script| {
            script.calls.push(format!("prune {app} {}{}", query.dry_run, because(query.message)));
            Ok(script.pruned.clone().expect("not scripted: prune"))
        })
    }

    async fn settings(&self, app: &AppName, reveal: bool) -> Result<Vec<Setting>, ApiError> {
        self.known(app)?;
        self.set(|script| script.calls.push(format!("settings {app} {reveal}")));
        let key = "env.A".to_owned();
        let value = reveal.then(|| "\"1\"".to_owned());
        Ok(vec![Setting { key, value, class: Class::NewSlot, origin: Origin::Default }])
    }

    async fn set(&self, app: &AppName, request: SetRequest, caller: Caller) -> Result<SetAnswer, ApiError> {
        self.known(app)?;
        let SetRequest { key, value, message } = request;
        self.set(|script| script.calls.push(format!("set {app} {key} {value:?} {message:?} by {}", caller.name)));
        Ok(SetAnswer { key, changed: true, class: Class::AtOnce, deployment: None, staged: false })
    }

    async fn build_log(&self, app: &AppName, slot: &SlotName) -> Result<BuildLog, ApiError> {
        self.known(app)?;
        Ok(BuildLog { slot: slot.clone(), running: None, log: Some("1 make: all done\n".to_owned()) })
    }

    async fn diff(&self, app: &AppName, query: DiffQuery) -> Result<Difference, ApiError> {
        self.known(app)?;
        let DiffQuery { from, to, text, reveal } = query;
        self.set(|script| script.calls.push(format!("diff {app} {from:?} {to:?} {text} {reveal}")));
        let from = from.unwrap_or_else(|| "1.0.0".parse().expect("slot"));
        Ok(Difference { from, to, settings: Vec::new(), files: Vec::new(), releases: None, units: Vec::new() })
    }

    async fn staged(&self, app: &AppName) -> Result<Vec<Staged>, ApiError> {
        self.known(app)?;
        Ok(Vec::new())
    }

    async fn deploy_staged(
        &self,
        app: &AppName,
        request: RedeployRequest,
        _: Caller,
    ) -> Result<DeployedStaged, ApiError> {
        let RedeployRequest { message, .. } = request;
        let accepted = self.accept(format!("deploy-staged {app} {message:?}")).await?;
        Ok(DeployedStaged { staged: Vec::new(), accepted, report: None })
    }

    async fn redeploy(&self, app: &AppName, request: RedeployRequest, _: Caller) -> Result<Accepted, ApiError> {
        let RedeployRequest { message, .. } = request;
        self.accept(format!("redeploy {app} {message:?}")).await
    }

    async fn pin(&self, app: &AppName, request: PinRequest, caller: Caller) -> Result<Pinned, ApiError> {
        self.known(app)?;
        let PinRequest { slot, message } = request;
        let name = slot.as_ref().map(|slot| format!(" {slot}")).unwrap_or_default();
        self.set(|script| script.calls.push(format!("pin {app}{name} {message:?}")));
        let pin = Pin { by: caller.name, at: Timestamp::now(), message };
        Ok(Pinned { slot, pin: Some(pin), changed: true })
    }

    async fn unpin(&self, app: &AppName, request: UnpinRequest, _: Caller) -> Result<Pinned, ApiError> {
        self.known(app)?;
        let UnpinRequest { slot, message } = request;
        let name = slot.as_ref().map(|slot| format!(" {slot}")).unwrap_or_default();
        self.set(|script| script.calls.push(format!("unpin {app}{name}{}", because(message))));
        // Of the app there is none to lift.
        Ok(Pinned { changed: slot.is_some(), slot, pin: None })
    }

    async fn freeze(&self, app: Option<&AppName>, asked: FreezeRequest, caller: Caller) -> Result<Frozen, ApiError> {
        let FreezeRequest { until, message } = asked;
        self.set(|script| script.calls.push(format!("freeze {app:?} {until:?} {message:?}")));
        let freeze = Freeze { by: caller.name, at: Timestamp::now(), until, message, all: app.is_none() };
        Ok(Frozen { app: app.cloned(), freeze: Some(freeze), changed: true })
    }

    async fn unfreeze(&self, app: Option<&AppName>, _: Caller) -> Result<Frozen, ApiError> {
        self.set(|script| script.calls.push(format!("unfreeze {app:?}")));
        // All are frozen, and none by itself.
        let until = Timestamp::from_unix_millis(4_000_000_000_000);
        let all = Freeze { by: "bob".into(), at: Timestamp::now(), until: Some(until), message: None, all: true };
        Ok(Frozen { app: app.cloned(), freeze: app.map(|_| all), changed: app.is_none() })
    }

    async fn quarantined(&self, app: &AppName) -> Result<Vec<QuarantineItem>, ApiError> {
        self.known(app)?;
        Ok(self.set(|script| script.quarantine.clone()))
    }

    async fn quarantine_clear(
        &self,
        app: &AppName,
        slot: &SlotName,
        message: Option<String>,
        _: Caller,
    ) -> Result<(), ApiError> {
        self.set(|script| {
            script.calls.push(format!("clear {app} {slot}{}", because(message)));
            script.cleared.pop_front().expect("not scripted: clear")
        })
    }

    async fn history(&self, app: &AppName, limit: u32) -> Result<Vec<Report>, ApiError> {
        self.known(app)?;
        Ok(self.set(|script| script.reports.values().rev().take(limit as usize).cloned().collect()))
    }

    async fn deployment(&self, id: &DeploymentId) -> Result<Report, ApiError> {
        let missing = || ApiError::new(Code::UnknownDeployment, format!("there is no deployment {id}"));
        self.set(|script| script.reports.get(id).cloned()).ok_or_else(missing)
    }

    async fn past_events(&self, app: &AppName, limit: u32) -> Result<Vec<PastEvent>, ApiError> {
        self.known(app)?;
        Ok(self.set(|script| script.past.iter().take(limit as usize).cloned().collect()))
    }

    fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    async fn units(&self, app: &AppName, slot: Option<&SlotName>) -> Result<Vec<String>, ApiError> {
        self.known(app)?;
        self.set(|script| script.calls.push(format!("units {app} {slot:?}")));
        Ok(self.set(|script| script.units.clone()))
    }
}

/// A message, behind the call that it came with.
fn because(message: Option<String>) -> String {
    message.map(|message| format!(": {message}")).unwrap_or_default()
}

/// The server on its socket.
pub struct World {
    pub runtime: Runtime,
    pub fake: Fake,
    pub folder: TempDir,
    limits: Limits,
    server: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

/// What a command did.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl World {
    pub fn new() -> Self {
        World::with(Limits::default())
    }

    pub fn with(limits: Limits) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("folder");
        // Other users come to the socket too.
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).expect("mode");
        let spool = folder.path().join("spool");
        std::fs::create_dir(&spool).expect("spool");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let mut world =
            World { runtime: runtime.expect("runtime"), fake: Fake::new(spool), folder, limits, server: None };
        world.start();
        world
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("slotd.sock")
    }

    pub fn start(&mut self) {
        use std::os::unix::fs::PermissionsExt;
        let _entered = self.runtime.enter();
        let _ = std::fs::remove_file(self.socket());
        let listener = UnixListener::bind(self.socket()).expect("bind");
        std::fs::set_permissions(self.socket(), PermissionsExt::from_mode(0o666)).expect("mode");
        let (stop, stopped) = oneshot::channel();
        let shutdown = async { drop(stopped.await) };
        let everybody = watch::Sender::new(Access::default()).subscribe();
        let server = self.runtime.spawn(serve_with(listener, self.fake.clone(), everybody, self.limits, shutdown));
        self.server = Some((stop, server));
        // Events that nobody listens to yet would be lost. A request would take a seat that tests count.
        self.until(1, || self.fake.events.receiver_count());
    }

    /// Tells the server to end, and how long that took.
    pub fn stop(&mut self) -> Duration {
        let (stop, server) = self.server.take().expect("a server");
        let begun = Instant::now();
        stop.send(()).expect("still there");
        self.runtime.block_on(async { tokio::time::timeout(PATIENCE, server).await }).expect("ended").expect("well");
        begun.elapsed()
    }

    /// Sends bytes as they are; the answer's status (0 without an answer) and body.
    pub fn raw(&self, request: impl AsRef<[u8]>) -> (u16, String) {
        let mut stream = self.connect();
        // A server that doesn't want it all may close before it is written; what it said can still be read.
        let _ = stream.write_all(request.as_ref());
        answer(stream)
    }

    pub fn get(&self, path: &str) -> (u16, String) {
        self.raw(format!("GET {path} HTTP/1.1\r\nhost: slotd\r\n\r\n"))
    }

    pub fn post(&self, path: &str, body: &str) -> (u16, String) {
        let length = body.len();
        self.raw(format!("POST {path} HTTP/1.1\r\nhost: slotd\r\ncontent-length: {length}\r\n\r\n{body}"))
    }

    pub fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.socket()).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("timeout");
        stream
    }

    /// Runs `slotctl` to its end.
    pub fn slotctl(&self, args: &[&str]) -> Ran {
        self.slotctl_with(args, b"")
    }

    pub fn slotctl_with(&self, args: &[&str], input: &[u8]) -> Ran {
        let mut child = self.start_slotctl(args, |_| {});
        self.runtime.block_on(async {
            let mut stdin = child.stdin.take().expect("stdin");
            // A command that is refused doesn't read to the end.
            let _ = stdin.write_all(input).await;
        });
        self.finish(child)
    }

    /// Starts `slotctl`; `change` may set its environment.
    pub fn start_slotctl(&self, args: &[&str], change: impl FnOnce(&mut Command)) -> Child {
        let _entered = self.runtime.enter();
        let mut command = Command::new(env!("CARGO_BIN_EXE_slotctl"));
        command.args(args).env("SLOTD_SOCKET", self.socket()).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        change(&mut command);
        command.spawn().expect("slotctl")
    }

    pub fn finish(&self, child: Child) -> Ran {
        let output = async { tokio::time::timeout(PATIENCE, child.wait_with_output()).await };
        let output = self.runtime.block_on(output).expect("slotctl ends in time").expect("output");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        Ran { code: output.status.code().unwrap_or(-1), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// Waits until `level` is reached.
    pub fn until<T: PartialEq + std::fmt::Debug>(&self, wanted: T, mut level: impl FnMut() -> T) {
        let end = Instant::now() + PATIENCE;
        loop {
            let seen = level();
            if seen == wanted {
                return;
            }
            assert!(Instant::now() < end, "still {seen:?}, not {wanted:?}");
            std::thread::yield_now();
        }
    }
}

/// Reads an answer to its end.
pub fn answer(mut stream: UnixStream) -> (u16, String) {
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all);
    let all = String::from_utf8_lossy(&all);
    let status = all.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let body = all.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    (status, body)
}

/// The refusal in an answer.
pub fn refusal((status, body): (u16, String)) -> (u16, Code) {
    let error: ApiError = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{status} {body:?}: {error}"));
    (status, error.fault.code)
}

pub fn with_app() -> World {
    let world = World::new();
    world.fake.set(|script| script.apps.insert(app_name(), online()));
    world
}

/// The documents on standard output.
pub fn documents(ran: &Ran) -> Vec<serde_json::Value> {
    ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{ran:?}"))).collect()
}

pub fn document<T: serde::de::DeserializeOwned>(ran: &Ran) -> T {
    let one = documents(ran).pop().unwrap_or_else(|| panic!("{ran:?}"));
    serde_json::from_value(one).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

pub fn contains(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} isn't in:\n{text}");
    }
}
