//! What `slotctl new` proposes: an app's files, filled from the templates in `systemd/templates`, and what is to be
//! called after they are written.

mod fill;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::config::app::{Accept, AppSettings, Route};
use crate::model::layout::DEFAULT_STATE_DIR;
use crate::model::route::{PortRange, RouteCall, RouteKind};
use crate::model::{AppName, Hooks};

use fill::{APP, GATE, HAPROXY, HELPER, NGINX, POLKIT, SOCKET, SYSUSERS, TEMPLATE, TMPFILES};

/// Where packages put the gate.
pub const GATE_PROGRAM: &str = "/usr/lib/slotd/slotd-gate";

/// The instances' own ports, where there are some, unless the administrator said others. Apps may share a range.
pub const DEFAULT_PORTS: PortRange = PortRange::between(20000, 20099);

/// What the administrator said of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scaffold {
    /// Its name.
    pub app: AppName,
    /// The command line of a slot, as `ExecStart=` takes it. The slot's files stand at `/srv/APP`, which is also the
    /// working directory.
    pub exec: String,
    /// The port that users call; `None`: no route.
    pub port: Option<u16>,
    /// How users that call it get there.
    pub route: ScaffoldRoute,
    /// The instances' own ports, on a route that has some.
    pub ports: PortRange,
    /// Who runs it; made if absent. `None`: a user named after the app.
    pub user: Option<String>,
    /// How systemd learns that a slot is up.
    pub service_type: ServiceType,
    /// The path of an HTTP probe: on the port, or on the slot's own socket where it accepts by signal.
    pub health: Option<String>,
    /// The units that probes of its settings run, where there are settings already: templates with their `@`, others
    /// with `.service`.
    pub probe_units: Vec<String>,
    /// The hooks of its settings.
    pub hooks: Hooks,
    /// Whether those settings want somebody told of results.
    pub notifies: bool,
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

/// How users get to an app that has a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ScaffoldRoute {
    /// systemd listens, and hands the socket down.
    #[default]
    Socket,
    /// Each instance listens on a port of its own, and the kernel redirects.
    Nftables,
    /// The same, behind HAProxy.
    Haproxy,
    /// The same, behind nginx.
    Nginx,
}

impl ScaffoldRoute {
    /// All of them, by the word of the command line.
    pub const ALL: [(&str, ScaffoldRoute); 4] = [
        ("socket", ScaffoldRoute::Socket),
        ("nftables", ScaffoldRoute::Nftables),
        ("haproxy", ScaffoldRoute::Haproxy),
        ("nginx", ScaffoldRoute::Nginx),
    ];
}

/// Where Debian's HAProxy has its runtime socket.
pub const HAPROXY_ADMIN_SOCKET: &str = "/run/haproxy/admin.sock";

/// How many servers a backend of HAProxy needs for N instances: twice as many run in a deployment, and as many of the
/// one before may still have users.
pub fn servers_for(instances: u32) -> u16 {
    u16::try_from(instances.saturating_mul(3).max(8)).unwrap_or(u16::MAX)
}

/// The file that an upstream of nginx includes.
pub fn nginx_include(app: &AppName) -> PathBuf {
    format!("/etc/nginx/slotd/{app}.conf").into()
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
    /// What the administrator adds to files of others: which, and the lines.
    pub by_hand: Vec<(PathBuf, String)>,
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
    /// A route without the port that users call.
    #[error("which port do users call? give --port")]
    RouteWithoutPort,
    /// The public port is one of the instances'.
    #[error("port {0} is one of the instances' own, {1}: give others with --ports")]
    PublicPort(u16, PortRange),
    /// Not a kind of route.
    #[error("{0:?} is none of socket, nftables, haproxy, nginx")]
    Route(String),
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
            route: ScaffoldRoute::default(),
            ports: DEFAULT_PORTS,
            user: None,
            service_type: ServiceType::default(),
            health: None,
            probe_units: Vec::new(),
            hooks: Hooks::default(),
            notifies: false,
            accept: Accept::Ready,
            state: DEFAULT_STATE_DIR.into(),
        }
    }

    /// An app that is there, as far as polkit's rule goes by it.
    pub fn of(settings: &AppSettings, state: &Path) -> Self {
        let route = match settings.route {
            Route::None | Route::Socket { .. } => ScaffoldRoute::Socket,
            Route::Nftables { .. } => ScaffoldRoute::Nftables,
            Route::Haproxy { .. } => ScaffoldRoute::Haproxy,
            Route::Nginx { .. } => ScaffoldRoute::Nginx,
        };
        // Which one it is stands in no rule.
        let port = (!matches!(settings.route, Route::None)).then_some(1);
        Scaffold {
            port,
            route,
            // Nor who runs it.
            user: Some("app".to_owned()),
            probe_units: settings.probe_units(),
            hooks: settings.hooks.clone(),
            notifies: !settings.on_result.is_empty(),
            state: state.to_owned(),
            ..Scaffold::new(settings.name.clone(), "/usr/bin/true")
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
        if self.has_socket() {
            files.push(file(units.join(format!("{app}.socket")), SOCKET));
        }
        if self.helper().is_some() {
            files.push(file(units.join(app.route_unit().as_str()), HELPER));
        }
        files.push(file(units.join(format!("{app}.service")), GATE));
        files.push(file(units.join(format!("{app}@.service")), TEMPLATE));
        // Last, since it is what makes slotd look.
        files.push(file(format!("/etc/slotd/apps/{app}.toml").into(), APP));
        let try_it = format!("cp {app}-1.0.0.tar.zst {}/inbox/{app}/", self.state.display());
        Ok(ScaffoldPlan { files, by_hand: self.by_hand(), commands: self.commands(), try_it })
    }

    fn by_hand(&self) -> Vec<(PathBuf, String)> {
        match self.helper().map(|call| call.kind) {
            Some(RouteKind::Haproxy { .. }) => vec![("/etc/haproxy/haproxy.cfg".into(), self.fill(HAPROXY))],
            Some(RouteKind::Nginx { .. }) => {
                vec![(format!("/etc/nginx/conf.d/{}.conf", self.app).into(), self.fill(NGINX))]
            }
            Some(RouteKind::Nftables { .. }) | None => Vec::new(),
        }
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
        if self.has_socket() {
            lines.push(format!("systemctl enable --now {app}.socket"));
        }
        if self.helper().is_some() {
            lines.push(format!("systemctl enable --now {}", app.route_unit()));
        }
        // A running slotd is in the app's new group only after a restart.
        lines.push("systemctl try-restart slotd.service".to_owned());
        lines.push(format!("slotctl check {app}"));
        lines.iter().map(|line| line.split(' ').map(str::to_owned).collect()).collect()
    }

    fn has_socket(&self) -> bool {
        self.port.is_some() && self.route == ScaffoldRoute::Socket
    }

    /// What the root helper is called with.
    fn helper(&self) -> Option<RouteCall> {
        let port = self.port?;
        let kind = match self.route {
            ScaffoldRoute::Socket => return None,
            ScaffoldRoute::Nftables => RouteKind::Nftables { public: vec![port] },
            ScaffoldRoute::Haproxy => RouteKind::Haproxy {
                backend: self.app.to_string(),
                socket: HAPROXY_ADMIN_SOCKET.into(),
                servers: servers_for(1),
            },
            ScaffoldRoute::Nginx => RouteKind::Nginx { include: nginx_include(&self.app) },
        };
        let template = format!("{}@", self.app).parse().ok()?;
        Some(RouteCall { app: self.app.clone(), kind, ports: self.ports, template })
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
        if self.accept == Accept::Signal && (!self.has_socket() || self.service_type != ServiceType::Notify) {
            return Err(ScaffoldError::Signal);
        }
        match (self.route, self.port) {
            (ScaffoldRoute::Socket, _) => {}
            (_, None) => return Err(ScaffoldError::RouteWithoutPort),
            (_, Some(port)) if self.ports.contains(port) => return Err(ScaffoldError::PublicPort(port, self.ports)),
            _ => {}
        }
        match &self.health {
            Some(_) if self.port.is_none() => Err(ScaffoldError::HealthWithoutPort),
            Some(path) if !is_request_path(path) => Err(ScaffoldError::Health(path.clone())),
            _ => Ok(()),
        }
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

impl FromStr for ScaffoldRoute {
    type Err = ScaffoldError;

    fn from_str(text: &str) -> Result<Self, ScaffoldError> {
        let known = ScaffoldRoute::ALL.iter().find(|(word, _)| *word == text);
        known.map(|(_, route)| *route).ok_or_else(|| ScaffoldError::Route(text.to_owned()))
    }
}

impl fmt::Display for ScaffoldRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = ScaffoldRoute::ALL.iter().find(|(_, route)| route == self);
        f.write_str(known.map_or("socket", |(word, _)| word))
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
