//! `check`: whether settings files and units are as they must be. Reads files only; needs no daemon.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::config::daemon::DEFAULT_DAEMON_FILE;
use crate::config::host::{self, Expected, Finding, PolkitRules, SearchPath, Severity};
use crate::config::{AppSettings, Apps, ConfigError, DaemonSettings, Profile, load_apps, load_daemon};
use crate::control::api::ApiError;
use crate::model::{AppName, Code, Exit};

use super::ending::{During, Ending, Failure};
use super::output::Output;

/// `slotctl check`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this app
    app: Option<AppName>,
    /// Read /etc and the units below DIR, as of an image
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
}

/// One thing that was found, in JSON; for people it is shown at its place.
#[derive(Debug, Serialize)]
struct Item {
    /// The app, unless it is about slotd's own file or a file that is no app's.
    app: Option<AppName>,
    severity: Severity,
    code: Code,
    file: PathBuf,
    /// From 1; not there where the file as a whole is meant.
    line: Option<u32>,
    message: String,
    /// What comes of it.
    why: Option<String>,
    /// What to do.
    fix: Option<String>,
    #[serde(skip)]
    shown: String,
}

/// Shows what is wrong; the status says whether anything is.
pub fn run(args: &Args, out: &Output) -> Result<Ending, Failure> {
    let step = match &args.app {
        Some(app) => format!("check {app}"),
        None => "check".to_owned(),
    };
    let items = examine(args.app.as_ref(), &args.root).during(step)?;
    out.document(&items);
    for item in &items {
        out.line(&item.shown);
    }
    match items.len() {
        0 => out.line("nothing is wrong"),
        1 => out.line("\n1 finding"),
        n => out.line(format!("\n{n} findings")),
    }
    Ok(if items.is_empty() { Exit::Ok } else { Exit::Degraded }.into())
}

/// Checks one app's files and units, as [`run`] does.
pub fn one(app: AppName, root: PathBuf, out: &Output) -> Result<Ending, Failure> {
    run(&Args { app: Some(app), root }, out)
}

/// The daemon's settings, read below `root`.
pub fn daemon_settings(root: &Path) -> Result<DaemonSettings, Vec<ConfigError>> {
    load_daemon(&below(root, Path::new(DEFAULT_DAEMON_FILE)))
}

/// Where an absolute path lies below `root`.
pub fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

fn examine(only: Option<&AppName>, root: &Path) -> Result<Vec<Item>, ApiError> {
    let settings = match daemon_settings(root) {
        Ok(settings) => settings,
        // Without it, it isn't known where the rest lies.
        Err(errors) => return Ok(errors.iter().map(|error| Item::of_settings(None, error)).collect()),
    };
    let dir = below(root, &settings.apps_dir);
    let (good, mut items) = match only {
        Some(app) => read_one(app, &dir, &settings)?,
        None => read_all(&dir, &settings),
    };
    let (units, rules) = (SearchPath::below(root), PolkitRules::below(root));
    let profile = match settings.profile {
        Profile::User => host::Profile::User,
        Profile::Root => host::Profile::Root,
    };
    for app in good {
        let found = host::check(&Expected::of(&app, &settings.state_dir, profile), &units, &rules);
        items.extend(found.into_iter().map(|finding| Item::of_unit(&app.name, finding)));
    }
    Ok(items)
}

fn read_one(app: &AppName, dir: &Path, settings: &DaemonSettings) -> Result<(Vec<AppSettings>, Vec<Item>), ApiError> {
    let file = dir.join(format!("{app}.toml"));
    if !file.exists() {
        let message = format!("{} isn't there", file.display());
        return Err(ApiError::new(Code::UnknownApp, message).next(format!("slotctl new {app} --exec COMMAND")));
    }
    // Its file may be right by itself, and wrong beside the others.
    let mut apps = load_apps(dir, &settings.defaults);
    apps.good.retain(|good| good.name == *app);
    apps.broken.retain(|broken| broken.file == file || broken.file == dir);
    Ok(items_of(apps))
}

fn read_all(dir: &Path, settings: &DaemonSettings) -> (Vec<AppSettings>, Vec<Item>) {
    items_of(load_apps(dir, &settings.defaults))
}

fn items_of(apps: Apps) -> (Vec<AppSettings>, Vec<Item>) {
    let broken = apps
        .broken
        .iter()
        .flat_map(|broken| broken.errors.iter().map(|error| Item::of_settings(broken.name.clone(), error)));
    (apps.good, broken.collect())
}

impl Item {
    fn of_settings(app: Option<AppName>, error: &ConfigError) -> Self {
        Item {
            app,
            severity: Severity::Error,
            code: error.code,
            file: error.file.clone(),
            line: u32::try_from(error.line).ok().filter(|line| *line > 0),
            message: error.message.clone(),
            why: None,
            fix: error.help.clone(),
            shown: error.to_string(),
        }
    }

    fn of_unit(app: &AppName, finding: Finding) -> Self {
        let shown = finding.to_string();
        let Finding { severity, code, file, line, message, why, fix } = finding;
        Item { app: Some(app.clone()), severity, code, file, line, message, why: Some(why), fix: Some(fix), shown }
    }
}
