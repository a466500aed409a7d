//! What `slotctl new` proposes: an app's files, filled from the templates in `systemd/templates`, and what is to be
//! called after they are written.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::config::app::Accept;
use crate::model::AppName;
use crate::model::layout::DEFAULT_STATE_DIR;

/// Where packages put the gate.
pub const GATE_PROGRAM: &str = "/usr/lib/slotd/slotd-gate";

/// What the administrator said of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scaffold {
    /// Its name.
    pub app: AppName,
    /// The command line of a slot, as `ExecStart=` takes it. The slot's files stand at `/srv/APP`, which is also the
    /// working directory.
    pub exec: String,
    /// The port of a shared socket; `None`: no route, no socket.
    pub port: Option<u16>,
    /// Who runs it; made if absent. `None`: a user named after the app.
    pub user: Option<String>,
    /// How systemd learns that a slot is up.
    pub service_type: ServiceType,
    /// The path of an HTTP probe: on the port, or on the slot's own socket where it accepts by signal.
    pub health: Option<String>,
    /// The units that probes of its settings run, where there are settings already: templates with their `@`, others
    /// with `.service`.
    pub probe_units: Vec<String>,
    /// From when on a slot takes connections from the shared socket.
    pub accept: Accept,
    /// The state folder.
    pub state: PathBuf,
}

/// `Type=` of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ServiceType {
    /// It says `READY=1`.
    #[default]
    Notify,
    /// It is up once its program runs.
    Exec,
    /// It is up once it was forked.
    Simple,
}

/// A file to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedFile {
    /// Where: an absolute path.
    pub path: PathBuf,
    /// Permission bits.
    pub mode: u32,
    /// The bytes.
    pub contents: String,
}

/// Files, and what comes after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScaffoldPlan {
    /// In the order of writing.
    pub files: Vec<PlannedFile>,
    /// Then, in this order, as the administrator: program and arguments.
    pub commands: Vec<Vec<String>>,
    /// The one line to try it with.
    pub try_it: String,
}

/// Why nothing is proposed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScaffoldError {
    /// More than a line, or not an absolute path first.
    #[error("{0:?} is no command line for ExecStart= (one line, the program by its absolute path)")]
    Exec(String),
    /// Not a user that can be made, or root.
    #[error("{0:?} can't run an app (a-z, 0-9, - and _, at most 31, and not root: a release decides what runs)")]
    User(String),
    /// The app's name is too long to name a user.
    #[error("{0:?} is too long to name a user (31 characters): give one with --user")]
    UserFromApp(String),
    /// A health path without a port to ask.
    #[error("a health path is asked on the port: give --port too, or write a [[probe]] into the app's file")]
    HealthWithoutPort,
    /// Signals without a socket to accept from, or without a service type that can answer them.
    #[error(
        "a slot that accepts by signal needs a shared socket, and says what it does: give --port, and --type notify"
    )]
    Signal,
    /// Not a path.
    #[error("{0:?} is no path for an HTTP request (it begins with / and has neither spaces nor quotes)")]
    Health(String),
    /// Port 0.
    #[error("port 0 names no port")]
    Port,
    /// Not a service type.
    #[error("{0:?} is none of notify, exec, simple")]
    ServiceType(String),
}

impl Scaffold {
    /// An app with everything but its command line left to the defaults.
    pub fn new(app: AppName, exec: impl Into<String>) -> Self {
        Scaffold {
            app,
            exec: exec.into(),
            port: None,
            user: None,
            service_type: ServiceType::default(),
            health: None,
            probe_units: Vec::new(),
            accept: Accept::Ready,
            state: DEFAULT_STATE_DIR.into(),
        }
    }

    /// Where each file goes below `/`, and what follows.
    pub fn plan(&self) -> Result<ScaffoldPlan, ScaffoldError> {
        self.validate()?;
        let app = &self.app;
        let units = Path::new("/etc/systemd/system");
        let file = |path: PathBuf, template: &str| PlannedFile { path, mode: 0o644, contents: self.fill(template) };
        let mut files = vec![
            file(format!("/etc/sysusers.d/slotd-{app}.conf").into(), SYSUSERS),
            file(format!("/etc/tmpfiles.d/slotd-{app}.conf").into(), TMPFILES),
            file(polkit_file(app), POLKIT),
        ];
        if self.port.is_some() {
            files.push(file(units.join(format!("{app}.socket")), SOCKET));
        }
        files.push(file(units.join(format!("{app}.service")), GATE));
        files.push(file(units.join(format!("{app}@.service")), TEMPLATE));
        // Last, since it is what makes slotd look.
        files.push(file(format!("/etc/slotd/apps/{app}.toml").into(), APP));
        let try_it = format!("cp {app}-1.0.0.tar.zst {}/inbox/{app}/", self.state.display());
        Ok(ScaffoldPlan { files, commands: self.commands(), try_it })
    }

    fn commands(&self) -> Vec<Vec<String>> {
        let app = &self.app;
        let mut lines = vec![
            format!("systemd-sysusers slotd-{app}.conf"),
            format!("systemd-tmpfiles --create slotd-{app}.conf"),
            "systemctl daemon-reload".to_owned(),
            // Not started: there is nothing to start before the first deployment, which starts it.
            format!("systemctl enable {app}.service"),
        ];
        if self.port.is_some() {
            lines.push(format!("systemctl enable --now {app}.socket"));
        }
        // A running slotd is in the app's new group only after a restart.
        lines.push("systemctl try-restart slotd.service".to_owned());
        lines.push(format!("slotctl check {app}"));
        lines.iter().map(|line| line.split(' ').map(str::to_owned).collect()).collect()
    }

    fn user(&self) -> &str {
        self.user.as_deref().unwrap_or(self.app.as_str())
    }

    fn validate(&self) -> Result<(), ScaffoldError> {
        let one_line = !self.exec.chars().any(char::is_control) && !self.exec.ends_with('\\');
        if !one_line || !self.exec.starts_with('/') {
            return Err(ScaffoldError::Exec(self.exec.clone()));
        }
        if !is_user(self.user()) {
            return Err(match &self.user {
                Some(user) => ScaffoldError::User(user.clone()),
                None => ScaffoldError::UserFromApp(self.app.to_string()),
            });
        }
        if self.port == Some(0) {
            return Err(ScaffoldError::Port);
        }
        if self.accept == Accept::Signal && (self.port.is_none() || self.service_type != ServiceType::Notify) {
            return Err(ScaffoldError::Signal);
        }
        match &self.health {
            Some(_) if self.port.is_none() => Err(ScaffoldError::HealthWithoutPort),
            Some(path) if !is_request_path(path) => Err(ScaffoldError::Health(path.clone())),
            _ => Ok(()),
        }
    }

    /// Fills a template: `@WORD@` by its value, lines that begin with `@IF_…@` kept or dropped.
    fn fill(&self, template: &str) -> String {
        let conditions = [
            ("@IF_SOCKET@", self.port.is_some()),
            ("@IF_HEALTH@", self.health.is_some()),
            ("@IF_PROBE_UNITS@", !self.probe_units.is_empty()),
            ("@IF_STATE@", self.state != Path::new(DEFAULT_STATE_DIR)),
        ];
        let app = self.app.as_str();
        let port = self.port.map(|port| port.to_string()).unwrap_or_default();
        let state = self.state.display().to_string();
        let service_type = self.service_type.to_string();
        let probe_units = self.probe_units.iter().map(|name| pattern(name)).collect::<Vec<_>>().join("|");
        let accept = self.accept.to_string();
        let probed = match self.accept {
            Accept::Ready => format!("127.0.0.1:{port}"),
            Accept::Signal => format!("/run/slots/{app}/{{instance}}/health.sock"),
        };
        let stop = if self.port.is_some() { format!("{app}.socket") } else { format!("{app}.service") };
        let words = [
            ("@APP@", app),
            ("@PORT@", port.as_str()),
            ("@STATE@", state.as_str()),
            ("@GATE@", GATE_PROGRAM),
            ("@TYPE@", service_type.as_str()),
            ("@USER@", self.user()),
            ("@STOP@", stop.as_str()),
            ("@ROUTE@", if self.port.is_some() { "socket" } else { "none" }),
            ("@PROBE_UNITS@", probe_units.as_str()),
            ("@ACCEPT@", accept.as_str()),
            ("@PROBED@", probed.as_str()),
            ("@HEALTH@", self.health.as_deref().unwrap_or_default()),
            // Last, so that nothing is replaced inside of it.
            ("@EXEC@", self.exec.as_str()),
        ];
        let mut filled = String::new();
        for line in template.lines() {
            let condition = conditions.iter().find_map(|(mark, holds)| Some((line.strip_prefix(mark)?, *holds)));
            let (line, kept) = condition.unwrap_or((line, true));
            if kept {
                let line = words.iter().fold(line.to_owned(), |line, (word, value)| line.replace(word, value));
                filled.push_str(&line);
                filled.push('\n');
            }
        }
        filled
    }
}

impl FromStr for ServiceType {
    type Err = ScaffoldError;

    fn from_str(text: &str) -> Result<Self, ScaffoldError> {
        match text {
            "notify" => Ok(ServiceType::Notify),
            "exec" => Ok(ServiceType::Exec),
            "simple" => Ok(ServiceType::Simple),
            other => Err(ScaffoldError::ServiceType(other.to_owned())),
        }
    }
}

impl fmt::Display for ServiceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ServiceType::Notify => "notify",
            ServiceType::Exec => "exec",
            ServiceType::Simple => "simple",
        })
    }
}

/// Where polkit's rule of an app is proposed.
pub fn polkit_file(app: &AppName) -> PathBuf {
    format!("/etc/polkit-1/rules.d/50-slotd-{app}.rules").into()
}

/// A regular expression for the unit of a probe, without ".service"; of a template for its instances.
fn pattern(name: &str) -> String {
    let escaped = name.strip_suffix(".service").unwrap_or(name).replace('.', "\\.");
    if name.ends_with('@') { escaped + "[A-Za-z0-9][A-Za-z0-9@._-]*" } else { escaped }
}

/// What systemd-sysusers makes without complaint, and not root.
fn is_user(name: &str) -> bool {
    let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    name != "root"
        && name.len() <= 31
        && name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(known)
}

fn is_request_path(path: &str) -> bool {
    path.starts_with('/') && path.chars().all(|c| c.is_ascii_graphic() && !"\"'\\".contains(c))
}

const SYSUSERS: &str = include_str!("../../../systemd/templates/sysusers.conf.in");
const TMPFILES: &str = include_str!("../../../systemd/templates/tmpfiles.conf.in");
const POLKIT: &str = include_str!("../../../systemd/templates/polkit.rules.in");
const SOCKET: &str = include_str!("../../../systemd/templates/app.socket.in");
const GATE: &str = include_str!("../../../systemd/templates/app.service.in");
const TEMPLATE: &str = include_str!("../../../systemd/templates/app@.service.in");
const APP: &str = include_str!("../../../systemd/templates/app.toml.in");

#[cfg(test)]
mod tests {
    use super::*;

    fn web() -> Scaffold {
        Scaffold::new("web".parse().expect("app"), "/srv/web/bin/web --verbose")
    }

    fn file<'a>(plan: &'a ScaffoldPlan, path: &str) -> &'a str {
        &plan.files.iter().find(|file| file.path == Path::new(path)).expect(path).contents
    }

    #[test]
    fn with_a_port_there_is_a_socket() {
        let plan = Scaffold { port: Some(8080), health: Some("/health".into()), ..web() }.plan().expect("a plan");
        assert!(file(&plan, "/etc/systemd/system/web.socket").contains("\nListenStream=8080\n"));
        let template = file(&plan, "/etc/systemd/system/web@.service");
        for line in [
            "StopPropagatedFrom=web.service",
            "OnFailure=slotd-settle@web:%N.service",
            "Sockets=web.socket",
            "ExecStart=/srv/web/bin/web --verbose",
            "User=web",
        ] {
            assert!(template.lines().any(|it| it == line), "{line}\n{template}");
        }
        let gate = file(&plan, "/etc/systemd/system/web.service");
        assert!(gate.contains("\nExecStart=/usr/lib/slotd/slotd-gate start web web@\n"), "{gate}");
        let app = file(&plan, "/etc/slotd/apps/web.toml");
        assert!(app.contains("kind = \"socket\"") && app.contains("path = \"/health\""), "{app}");
        assert!(plan.commands.iter().any(|line| line.join(" ") == "systemctl enable --now web.socket"));
        assert_eq!(plan.try_it, "cp web-1.0.0.tar.zst /var/lib/slotd/inbox/web/");
    }

    #[test]
    fn the_rule_covers_the_units_of_probes() {
        let path = "/etc/polkit-1/rules.d/50-slotd-web.rules";
        let without = web().plan().expect("a plan");
        assert_eq!(file(&without, path).matches("Result.YES").count(), 2, "{}", file(&without, path));
        let probe_units = vec!["web-check@".to_owned(), "web.daily.service".to_owned()];
        let with = Scaffold { probe_units, ..web() }.plan().expect("a plan");
        let pattern = r"/^(web-check@[A-Za-z0-9][A-Za-z0-9@._-]*|web\.daily)\.service$/";
        assert!(file(&with, path).contains(pattern), "{}", file(&with, path));
    }

    #[test]
    fn a_slot_that_accepts_by_signal_is_asked_on_its_own_socket() {
        let signal = Scaffold { accept: Accept::Signal, port: Some(80), health: Some("/health".into()), ..web() };
        let plan = signal.plan().expect("a plan");
        let app = file(&plan, "/etc/slotd/apps/web.toml");
        assert!(app.contains("accept = \"signal\"\n"), "{app}");
        assert!(app.contains("address = \"/run/slots/web/{instance}/health.sock\"\n"), "{app}");
        let portless = Scaffold { port: None, health: None, ..signal.clone() };
        assert_eq!(portless.plan(), Err(ScaffoldError::Signal));
        assert_eq!(Scaffold { service_type: ServiceType::Exec, ..signal }.plan(), Err(ScaffoldError::Signal));
    }

    #[test]
    fn without_a_port_nothing_speaks_of_a_socket() {
        let plan = web().plan().expect("a plan");
        assert!(!plan.files.iter().any(|file| file.path.extension().is_some_and(|end| end == "socket")));
        for path in ["web.service", "web@.service"] {
            assert!(!file(&plan, &format!("/etc/systemd/system/{path}")).contains(".socket"));
        }
        let app = file(&plan, "/etc/slotd/apps/web.toml");
        assert!(app.contains("kind = \"none\"") && !app.contains("probe"), "{app}");
    }

    #[test]
    fn no_placeholder_is_left_and_the_command_line_is_kept_as_it_is() {
        let exec = "/usr/bin/env X=@USER@ %i sh -c 'a b'";
        let plan = Scaffold { port: Some(1), exec: exec.into(), ..web() }.plan().expect("a plan");
        for file in &plan.files {
            let left = file.contents.replace(exec, "");
            for word in [
                "@APP@", "@PROBE", "@ACCEPT@", "@PORT@", "@STATE@", "@IF_", "@GATE@", "@EXEC@", "@USER@", "@TYPE@",
                "@STOP@",
            ] {
                assert!(!left.contains(word), "{word} in {}", file.path.display());
            }
        }
        assert!(file(&plan, "/etc/systemd/system/web@.service").contains(&format!("ExecStart={exec}\n")));
    }

    #[test]
    fn what_is_refused() {
        let table = [
            (Scaffold { exec: "bin/web".into(), ..web() }, "absolute path"),
            (Scaffold { exec: "/bin/web\nUser=root".into(), ..web() }, "one line"),
            (Scaffold { user: Some("root".into()), ..web() }, "not root"),
            (Scaffold { user: Some("We b".into()), ..web() }, "can't run an app"),
            (Scaffold { app: "a".repeat(32).parse().expect("app"), ..web() }, "--user"),
            (Scaffold { health: Some("/x".into()), ..web() }, "--port"),
            (Scaffold { port: Some(0), ..web() }, "port 0"),
            (Scaffold { port: Some(1), health: Some("x".into()), ..web() }, "no path"),
            (Scaffold { port: Some(1), health: Some("/\"".into()), ..web() }, "no path"),
        ];
        for (scaffold, words) in table {
            let error = scaffold.plan().expect_err(words).to_string();
            assert!(error.contains(words), "{error}");
        }
        assert!("forking".parse::<ServiceType>().is_err());
    }
}
