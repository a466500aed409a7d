//! `new`: the files of a new app, shown, or written by the administrator who calls it. The daemon never does.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Serialize;

use crate::config::app::Accept;
use crate::config::daemon::DEFAULT_APPS_DIR;
use crate::config::host::{
    DEFAULT_PORTS, PlannedFile, Scaffold, ScaffoldPlan, ScaffoldRoute, ServiceType, polkit_file,
};
use crate::config::{AppSettings, ConfigError, load_app};
use crate::control::api::ApiError;
use crate::model::route::PortRange;
use crate::model::{AppName, Code, Exit};

use super::check::{self, below, daemon_settings};
use super::ending::{During, Ending, Failure, as_typed};
use super::output::Output;

/// `slotctl new`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The app: it names the files, the units and, without --user, the user
    app: AppName,
    /// The command line of a slot, whose files stand at /srv/APP
    #[arg(long, value_name = "COMMAND", required_unless_present = "rule")]
    exec: Option<String>,
    /// Only polkit's rule, as an app that is there needs it by its settings: after a change of its hooks, its probes or of
    /// on_result
    #[arg(long, conflicts_with_all = ["exec", "port", "user", "health", "force"])]
    rule: bool,
    /// The port that users call
    #[arg(long)]
    port: Option<u16>,
    /// How they get there: socket (systemd keeps the port open while slots change), or nftables, haproxy or nginx (each
    /// instance listens on a port of its own, $PORT, to which the kernel or the proxy sends them)
    #[arg(long, value_name = "KIND", default_value_t)]
    route: ScaffoldRoute,
    /// The instances' own ports, where they have some
    #[arg(long, value_name = "FIRST-LAST", default_value_t = DEFAULT_PORTS)]
    ports: PortRange,
    /// Who runs it; made if absent
    #[arg(long)]
    user: Option<String>,
    /// How systemd learns that a slot is up: notify, exec or simple
    #[arg(long = "type", value_name = "TYPE", default_value_t)]
    service_type: ServiceType,
    /// The path of an HTTP probe on the port; with --accept signal on the slot's own socket
    #[arg(long, value_name = "PATH")]
    health: Option<String>,
    /// From when on a slot takes connections from the shared socket: ready, or signal
    #[arg(long, value_name = "WHEN", default_value_t = Accept::Ready)]
    accept: Accept,
    /// Write the files, make them known to the system, and check them
    #[arg(long)]
    write: bool,
    /// Also over files that are there and differ; an app's settings are left as they are
    #[arg(long, requires = "write")]
    force: bool,
    /// Write below DIR, as into an image, and call nothing
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

/// The plan in JSON.
#[derive(Debug, Serialize)]
struct Plan<'a> {
    files: Vec<File<'a>>,
    /// What is to be added to files of others, by hand.
    by_hand: Vec<Addition<'a>>,
    /// Then, in this order, as the administrator: program and arguments.
    commands: &'a [Vec<String>],
    /// The one line to try it with.
    try_it: &'a str,
}

#[derive(Debug, Serialize)]
struct Addition<'a> {
    path: &'a Path,
    contents: &'a str,
}

#[derive(Debug, Serialize)]
struct File<'a> {
    path: &'a Path,
    /// Permission bits.
    mode: u32,
    contents: &'a str,
}

/// Shows the plan, or carries it out.
pub fn run(args: Args, out: &Output) -> Result<Ending, Failure> {
    let step = format!("new {}", args.app);
    // The rule is slotd's to say; whatever stands there is what it said before.
    let (write, force, app, root) = (args.write, args.force || args.rule, args.app.clone(), args.root.clone());
    let (plan, left) = if args.rule { rule(args) } else { plan(args) }.during(&step)?;
    out.document(&Plan {
        files: plan
            .files
            .iter()
            .map(|file| File { path: &file.path, mode: file.mode, contents: &file.contents })
            .collect(),
        by_hand: plan.by_hand.iter().map(|(path, contents)| Addition { path, contents }).collect(),
        commands: &plan.commands,
        try_it: &plan.try_it,
    });
    if !write {
        show(&plan, left.as_deref(), out);
        return Ok(Exit::Ok.into());
    }
    write_all(&plan.files, force, out).during(&step)?;
    if let Some(settings) = &left {
        out.line(format!("{} is left as it is", settings.display()));
    }
    plan.by_hand.iter().for_each(|addition| show_addition(addition, out));
    if root.is_none() {
        call_all(&plan.commands, out).during(&step)?;
    }
    let ending = check::one(app, root.unwrap_or_else(|| "/".into()), out)?;
    if ending == Exit::Ok.into() {
        out.line(format!("  next: {}", plan.try_it));
    }
    Ok(ending)
}

/// The plan, and the app's settings if there are some already: they decide then, and are left as they are.
fn plan(args: Args) -> Result<(ScaffoldPlan, Option<PathBuf>), ApiError> {
    let root = args.root.as_deref().unwrap_or(Path::new("/"));
    let settings = daemon_settings(root).map_err(|errors| match errors.first() {
        Some(error) => ApiError::from(error.fault()).next("slotctl check"),
        None => ApiError::new(Code::ConfigInvalid, "slotd.toml is wrong").next("slotctl check"),
    })?;
    let file = below(root, &settings.apps_dir.join(format!("{}.toml", args.app)));
    let there = if file.exists() { load_app(&file, &settings.defaults).ok() } else { None };
    // polkit's rule names what its probes and hooks run, and what tells of results.
    let probe_units = there.as_ref().map(AppSettings::probe_units).unwrap_or_default();
    let hooks = there.as_ref().map(|settings| settings.hooks.clone()).unwrap_or_default();
    let notifies = there.as_ref().is_some_and(|settings| !settings.on_result.is_empty());
    let Args { app, exec: Some(exec), port, route, ports, user, service_type, health, accept, .. } = args else {
        return Err(ApiError::new(Code::ConfigInvalid, "what runs a slot is said by --exec"));
    };
    let state = settings.state_dir;
    let scaffold = Scaffold {
        app,
        exec,
        port,
        route,
        ports,
        user,
        service_type,
        health,
        probe_units,
        hooks,
        notifies,
        accept,
        state,
    };
    let mut plan = scaffold.plan().map_err(|error| ApiError::new(Code::ConfigInvalid, error.to_string()))?;
    for file in &mut plan.files {
        if let Ok(name) = file.path.strip_prefix(DEFAULT_APPS_DIR) {
            file.path = settings.apps_dir.join(name);
        }
        file.path = below(root, &file.path);
    }
    // Broken ones decide nothing: those are a file that is there and differs.
    let left = there.map(|_| file);
    plan.files.retain(|planned| Some(&planned.path) != left.as_ref());
    Ok((plan, left))
}

/// The rule alone, for the app as its settings say it is.
fn rule(args: Args) -> Result<(ScaffoldPlan, Option<PathBuf>), ApiError> {
    let root = args.root.as_deref().unwrap_or(Path::new("/"));
    let wrong = |errors: Vec<ConfigError>| match errors.first() {
        Some(error) => ApiError::from(error.fault()).next(format!("slotctl check {}", args.app)),
        None => {
            ApiError::new(Code::ConfigInvalid, "the settings are wrong").next(format!("slotctl check {}", args.app))
        }
    };
    let settings = daemon_settings(root).map_err(wrong)?;
    let file = below(root, &settings.apps_dir.join(format!("{}.toml", args.app)));
    let app = load_app(&file, &settings.defaults).map_err(wrong)?;
    let plan = Scaffold::of(&app, &settings.state_dir).plan();
    let mut plan = plan.map_err(|error| ApiError::new(Code::ConfigInvalid, error.to_string()))?;
    let rule = polkit_file(&app.name);
    plan.files.retain(|file| file.path == rule);
    plan.files.iter_mut().for_each(|file| file.path = below(root, &file.path));
    plan.by_hand.clear();
    // polkit notices by itself; systemd, of the units that the rule is about, doesn't.
    let lines = ["systemctl daemon-reload".to_owned(), format!("slotctl check {}", app.name)];
    plan.commands = lines.iter().map(|line| line.split(' ').map(str::to_owned).collect()).collect();
    plan.try_it = format!("slotctl status {}", app.name);
    Ok((plan, None))
}

fn show(plan: &ScaffoldPlan, left: Option<&Path>, out: &Output) {
    for file in &plan.files {
        out.line(format!("# {}\n{}", file.path.display(), file.contents));
    }
    if let Some(settings) = left {
        out.line(format!("# {} is left as it is\n", settings.display()));
    }
    plan.by_hand.iter().for_each(|addition| show_addition(addition, out));
    out.line("# then");
    plan.commands.iter().for_each(|command| out.line(command.join(" ")));
    out.line(format!("# and to try it\n{}", plan.try_it));
    out.note(format!("  next: sudo {} --write", as_typed()));
}

/// What `new` doesn't write, since it stands in a file of somebody else.
fn show_addition((path, contents): &(PathBuf, String), out: &Output) {
    out.line(format!("# add by hand to {}, then reload its service\n{contents}", path.display()));
}

/// Writes the files; none of them if one is there and differs, unless forced.
fn write_all(files: &[PlannedFile], force: bool, out: &Output) -> Result<(), ApiError> {
    let mut missing = Vec::new();
    let mut different = Vec::new();
    for file in files {
        match std::fs::read(&file.path) {
            Ok(contents) if contents == file.contents.as_bytes() => {
                out.line(format!("{} is as it should be", file.path.display()));
            }
            Ok(_) => different.push(file),
            Err(error) if error.kind() == ErrorKind::NotFound => missing.push(file),
            Err(error) => return Err(failed("read", &file.path, &error)),
        }
    }
    if let (Some(first), false) = (different.first(), force) {
        let others = match different.len() {
            1 => String::new(),
            n => format!(", and {} more", n - 1),
        };
        let message = format!("{} is there and differs{others}; nothing was written", first.path.display());
        return Err(ApiError::new(Code::ConfigInvalid, message).next(format!("{} --force", as_typed())));
    }
    // In the plan's order: the app's file comes last.
    for file in files.iter().filter(|file| missing.contains(file) || different.contains(file)) {
        write(file).map_err(|error| failed("write", &file.path, &error))?;
        out.line(format!("wrote {}", file.path.display()));
    }
    Ok(())
}

fn write(file: &PlannedFile) -> io::Result<()> {
    if let Some(folder) = file.path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut opened = OpenOptions::new().write(true).create(true).truncate(true).mode(file.mode).open(&file.path)?;
    opened.write_all(file.contents.as_bytes())?;
    // Whatever the umask, or the file that was there before, had to say.
    opened.set_permissions(PermissionsExt::from_mode(file.mode))?;
    opened.sync_all()
}

/// Calls what makes the files known to the system; the check at the end is done here.
fn call_all(commands: &[Vec<String>], out: &Output) -> Result<(), ApiError> {
    for command in commands {
        let [program, arguments @ ..] = command.as_slice() else { continue };
        if program == "slotctl" {
            continue;
        }
        let text = command.join(" ");
        out.line(format!("calling {text}"));
        // Standard output is ours alone.
        let status = Command::new(program).args(arguments).stdin(Stdio::null()).stdout(io::stderr()).status();
        let why = match status {
            Ok(status) if status.success() => continue,
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        return Err(ApiError::new(Code::UnitControl, format!("{text}: {why}")).next(text));
    }
    Ok(())
}

fn failed(verb: &str, path: &Path, error: &io::Error) -> ApiError {
    let code = match error.kind() {
        ErrorKind::PermissionDenied => Code::AuthDenied,
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Code::DiskFull,
        _ => Code::FsIo,
    };
    ApiError::new(code, format!("can't {verb} {}: {error}", path.display()))
}
