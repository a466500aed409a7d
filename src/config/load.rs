//! Settings files on disk: which there are, whether only the administrator can write them, and what they say.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::libc;

use crate::model::{AppName, Code, Template};

use super::app::AppSettings;
use super::app_file::parse_app;
use super::daemon::{DaemonSettings, Defaults};
use super::daemon_file::parse_daemon;
use super::depends::{self, Alone};
use super::error::ConfigError;

/// Largest settings file, in bytes.
const MAX_BYTES: u64 = 256 * 1024;

/// The bit of a mode that lets anybody write.
const WORLD_WRITABLE: u32 = 0o002;

/// What a folder of app files says.
#[derive(Debug, Clone, Default)]
pub struct Apps {
    /// Those that are right, by name.
    pub good: Vec<AppSettings>,
    /// Those that aren't, by path.
    pub broken: Vec<BrokenApp>,
}

/// An app file that can't be used.
#[derive(Debug, Clone)]
pub struct BrokenApp {
    /// The app, if the file's name is one.
    pub name: Option<AppName>,
    /// The file, or the folder if that can't be read.
    pub file: PathBuf,
    /// All that is wrong with it; at least one.
    pub errors: Vec<ConfigError>,
}

/// Reads the daemon's file. One that isn't there says what the defaults say.
///
/// # Errors
/// All that is wrong with it.
pub fn load_daemon(file: &Path) -> Result<DaemonSettings, Vec<ConfigError>> {
    if matches!(file.symlink_metadata(), Err(error) if error.kind() == std::io::ErrorKind::NotFound) {
        return Ok(DaemonSettings::default());
    }
    let text = read(file)?;
    parse_daemon(file, &text)
}

/// Reads one app's file; its stem is the app's name.
///
/// # Errors
/// All that is wrong with it.
pub fn load_app(file: &Path, defaults: &Defaults) -> Result<AppSettings, Vec<ConfigError>> {
    load_alone(file, defaults).map(|alone| alone.app)
}

fn load_alone(file: &Path, defaults: &Defaults) -> Result<Alone, Vec<ConfigError>> {
    let name = app_name(file)?;
    let text = read(file)?;
    let app = parse_app(&name, file, &text, defaults)?;
    Ok(Alone { file: file.to_owned(), text, app })
}

/// Reads all `*.toml` of a folder; hidden files and other endings are none of slotd's.
///
/// An app whose template is another's already is broken: the first by name has it. So is one that depends on an app
/// without a file, or, by others, on itself.
pub fn load_apps(dir: &Path, defaults: &Defaults) -> Apps {
    let mut apps = Apps::default();
    let files = match app_files(dir) {
        Ok(files) => files,
        Err(errors) => {
            apps.broken.push(BrokenApp { name: None, file: dir.to_owned(), errors });
            return apps;
        }
    };
    let known: BTreeSet<AppName> = files.iter().filter_map(|file| app_name(file).ok()).collect();
    let mut owners: BTreeMap<Template, AppName> = BTreeMap::new();
    let mut right = Vec::new();
    for file in files {
        let loaded = load_alone(&file, defaults).and_then(|alone| match conflicts(&file, &alone.app, &owners) {
            errors if errors.is_empty() => Ok(alone),
            errors => Err(errors),
        });
        match loaded {
            Ok(alone) => {
                owners.extend(templates(&alone.app).map(|template| (template.clone(), alone.app.name.clone())));
                right.push(alone);
            }
            Err(errors) => apps.broken.push(BrokenApp { name: app_name(&file).ok(), file, errors }),
        }
    }
    let wrong = depends::wrong(&right, &known);
    for (Alone { file, app, .. }, errors) in right.into_iter().zip(wrong) {
        match errors.is_empty() {
            true => apps.good.push(app),
            false => apps.broken.push(BrokenApp { name: Some(app.name), file, errors }),
        }
    }
    apps.broken.sort_by(|a, b| a.file.cmp(&b.file));
    apps
}

fn app_files(dir: &Path) -> Result<Vec<PathBuf>, Vec<ConfigError>> {
    let failed = |error: std::io::Error| {
        let help = format!("apps are described by files in {}, one each; see slotd-app(5)", dir.display());
        vec![ConfigError::of_file(Code::ConfigInvalid, dir, format!("can't be read: {error}"), Some(help))]
    };
    let metadata = dir.metadata().map_err(failed)?;
    secure(dir, &metadata)?;
    let mut files = Vec::new();
    for entry in dir.read_dir().map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|ending| ending == "toml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn app_name(file: &Path) -> Result<AppName, Vec<ConfigError>> {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    stem.parse().map_err(|error| {
        let help = "the file's name is the app's: name it like web.toml".to_owned();
        vec![ConfigError::of_file(Code::ConfigInvalid, file, format!("{error}"), Some(help))]
    })
}

fn conflicts(file: &Path, app: &AppSettings, owners: &BTreeMap<Template, AppName>) -> Vec<ConfigError> {
    let conflict = |template: &Template| {
        let owner = owners.get(template)?;
        let message = format!("{template} is a unit of the app {owner} already");
        let help = format!("each template belongs to one app: name another one, or take it out of {owner}.toml");
        Some(ConfigError::of_file(Code::ConfigInvalid, file, message, Some(help)))
    };
    templates(app).filter_map(conflict).collect()
}

/// All templates that run for an app's slots: two apps may have slots of the same name.
fn templates(app: &AppSettings) -> impl Iterator<Item = &Template> {
    app.units.iter().map(|unit| &unit.name).chain(app.hooks.all().map(|(_, template)| template))
}

/// The file's text, if it is a plain file of sane size that not everybody can write.
fn read(file: &Path) -> Result<String, Vec<ConfigError>> {
    let failed = |message: String| vec![ConfigError::of_file(Code::ConfigInvalid, file, message, None)];
    // Without blocking: a FIFO put there must not stop the daemon.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(file);
    let opened: File = opened.map_err(|error| failed(format!("can't be opened: {error}")))?;
    let metadata = opened.metadata().map_err(|error| failed(format!("can't be read: {error}")))?;
    if !metadata.is_file() {
        return Err(failed("is not a plain file".to_owned()));
    }
    secure(file, &metadata)?;
    let mut bytes = Vec::new();
    let read = opened.take(MAX_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|error| failed(format!("can't be read: {error}")))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(failed(format!("has more than {MAX_BYTES} bytes")));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
        failed(format!("is not UTF-8 (line {line})"))
    })
}

/// Who can write it decides what runs on this host.
fn secure(path: &Path, metadata: &std::fs::Metadata) -> Result<(), Vec<ConfigError>> {
    if metadata.mode() & WORLD_WRITABLE == 0 {
        return Ok(());
    }
    let help = Some(format!("chmod o-w {}", path.display()));
    Err(vec![ConfigError::of_file(Code::ConfigInsecureDir, path, "can be written by anybody", help)])
}
