//! The program of an app's live slot: what its template runs, where its files stand, as whom, with which environment.
//!
//! Of the unit it takes `ExecStart=`, `User=`, `Group=`, `WorkingDirectory=`, `Environment=` and the tree's place, and no
//! sandbox.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use nix::unistd::{Group, User, geteuid};

use crate::config::app::{Accept, Route};
use crate::config::host::unitfile::Found as FoundUnit;
use crate::config::host::{SearchPath, UnitFile, syntax};
use crate::config::{AppSettings, load_app};
use crate::control::api::ApiError;
use crate::model::layout::Link;
use crate::model::{AppName, Code, InstanceName, Layout, SlotName, Template};

use super::super::check::daemon_settings;
use super::bench::Target;
use super::sheet::Rules;

/// What a service gets where nobody says otherwise (`DEFAULT_PATH` of systemd).
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin";

/// Puts the tree where the unit has it, in a mount namespace of its own, and becomes the user; the PID stays.
const AS_THE_UNIT: &str =
    r#"mkdir -p "$2" && mount --bind "$1" "$2" && cd "$3" && shift 3 && exec setpriv --init-groups "$@""#;

/// An app's program.
pub struct Found {
    /// What to start.
    pub target: Target,
    /// The rules of its route.
    pub rules: Rules,
}

/// A unit's template with what its specifiers stand for.
struct Unit<'a> {
    file: UnitFile,
    template: &'a Template,
    instance: String,
}

/// Finds it.
pub fn find(name: &AppName) -> Result<Found, ApiError> {
    if !geteuid().is_root() {
        let message = "an app's program runs as its own user, from files that only slotd and root can read";
        return Err(ApiError::new(Code::AuthDenied, message).next("call it as root, or name a command after --"));
    }
    let wrong = |error: Option<String>| {
        ApiError::new(Code::ConfigInvalid, error.unwrap_or_default()).next(format!("slotctl check {name}"))
    };
    let daemon = daemon_settings(Path::new("/")).map_err(|errors| wrong(errors.first().map(ToString::to_string)))?;
    let file = daemon.apps_dir.join(format!("{name}.toml"));
    if !file.exists() {
        let message = format!("{} isn't there", file.display());
        return Err(ApiError::new(Code::UnknownApp, message).next("slotctl probe --contract -- COMMAND"));
    }
    let settings = load_app(&file, &daemon.defaults);
    let settings = settings.map_err(|errors| wrong(errors.first().map(ToString::to_string)))?;
    let template = settings.routed().map(|unit| &unit.name).ok_or_else(|| wrong(None))?;
    let layout = Layout::new(&daemon.state_dir, &daemon.run_dir, name.clone());
    let instance = live(&layout)?;
    let unit = Unit { file: unit_file(template)?, template, instance: instance.encoded() };
    Ok(Found { target: target(&unit, &layout.instance(&instance))?, rules: rules(&settings)? })
}

fn rules(settings: &AppSettings) -> Result<Rules, ApiError> {
    match settings.route {
        Route::Socket { accept: Accept::Ready } => Ok(Rules::SocketReady),
        Route::Socket { accept: Accept::Signal } => Ok(Rules::SocketSignal),
        Route::Nftables { .. } | Route::Haproxy { .. } | Route::Nginx { .. } => Ok(Rules::Port),
        Route::None => {
            let message = format!("{} has no route whose rules it could keep", settings.name);
            Err(ApiError::new(Code::RequestInvalid, message).next("name one by --route"))
        }
    }
}

/// The first instance of the live slot.
fn live(layout: &Layout) -> Result<InstanceName, ApiError> {
    let link = layout.link(Link::Current);
    let target = std::fs::read_link(&link);
    let slot = target.ok().and_then(|target| target.file_name()?.to_str()?.parse::<SlotName>().ok());
    slot.map(|slot| slot.instance(1)).ok_or_else(|| {
        let message = format!("{} names no slot: nothing is live that could be tried", link.display());
        ApiError::new(Code::UnknownSlot, message).next("slotctl probe --contract -- COMMAND")
    })
}

fn unit_file(template: &Template) -> Result<UnitFile, ApiError> {
    let name = template.unit_file();
    match SearchPath::below(Path::new("/")).read(name.as_str()) {
        Ok(FoundUnit::Unit(file)) => Ok(file),
        Ok(FoundUnit::Missing) => Err(ApiError::new(Code::UnitMissing, format!("{name} doesn't exist"))),
        Ok(FoundUnit::Masked(_)) => Err(ApiError::new(Code::UnitMasked, format!("{name} is masked"))),
        Err(error) => Err(ApiError::new(Code::FsIo, error.to_string())),
    }
}

fn target(unit: &Unit<'_>, folder: &Path) -> Result<Target, ApiError> {
    let lacks = |key: &str| ApiError::new(Code::ConfigUnit, format!("{} lacks {key}", unit.template.unit_file()));
    let exec = unit.last("ExecStart").ok_or_else(|| lacks("ExecStart="))?;
    let words = syntax::words(exec.trim_start_matches(|c| "@-:+!|".contains(c)));
    let root = folder.join("root");
    let place = unit.bound_at(&root).ok_or_else(|| lacks("BindReadOnlyPaths= of the tree"))?;
    let at = unit.last("WorkingDirectory").unwrap_or_else(|| "/".to_owned());

    let named = unit.last("User").ok_or_else(|| lacks("User="))?;
    let user = User::from_name(&named).ok().flatten();
    let user = user.ok_or_else(|| ApiError::new(Code::ConfigUnit, format!("there is no user {named:?}")))?;
    let group = unit.last("Group").and_then(|name| Group::from_name(&name).ok().flatten());
    let gid = group.map_or(user.gid, |group| group.gid);

    let mut environment: Vec<(String, String)> = [
        ("PATH", PATH.to_owned()),
        ("USER", user.name.clone()),
        ("LOGNAME", user.name.clone()),
        ("HOME", user.dir.to_string_lossy().into_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    environment.extend(unit.environment());
    let file = folder.join("env");
    let text = std::fs::read_to_string(&file);
    let text = text.map_err(|error| ApiError::new(Code::FsIo, format!("{}: {error}", file.display())))?;
    environment.extend(assignments(&text));

    let (reuid, regid) = (format!("--reuid={}", user.uid), format!("--regid={gid}"));
    let before = ["unshare", "--mount", "--propagation", "private", "/bin/sh", "-c", AS_THE_UNIT, "sh"];
    let mut command: Vec<OsString> = before.map(OsString::from).into();
    command.extend([root.into_os_string(), place.into_os_string(), at.into()]);
    command.extend([reuid, regid].map(OsString::from));
    command.extend(words.iter().map(|word| OsString::from(unit.expanded(word))));
    Ok(Target { command, environment: Some(environment), user: Some((user.uid, gid)) })
}

impl Unit<'_> {
    fn last(&self, key: &str) -> Option<String> {
        self.file.last("Service", key).map(|entry| self.expanded(&entry.value))
    }

    fn expanded(&self, text: &str) -> String {
        let prefix = self.template.as_str().trim_end_matches('@');
        syntax::expand(text, prefix, &self.instance)
    }

    /// Where the tree stands for the program.
    fn bound_at(&self, root: &Path) -> Option<PathBuf> {
        let lines = self.file.list("Service", "BindReadOnlyPaths");
        let words = lines.iter().flat_map(|entry| syntax::words(&self.expanded(&entry.value)));
        let mut places = words.filter_map(|word| {
            let mut parts = word.trim_start_matches('-').split(':');
            let from = parts.next()?;
            (Path::new(from) == root).then(|| PathBuf::from(parts.next().unwrap_or(from)))
        });
        places.next()
    }

    /// `Environment=` of the unit itself.
    fn environment(&self) -> Vec<(String, String)> {
        let lines = self.file.list("Service", "Environment");
        let words = lines.iter().flat_map(|entry| syntax::words(&self.expanded(&entry.value)));
        words.filter_map(|word| word.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()))).collect()
    }
}

/// The variables of an environment file of slotd's: one quoted assignment a line.
fn assignments(text: &str) -> Vec<(String, String)> {
    let assignment = |line: &str| {
        let (name, value) = line.split_once('=')?;
        // A quoted value is one word.
        Some((name.to_owned(), syntax::words(value).into_iter().next().unwrap_or_default()))
    };
    text.lines().filter_map(assignment).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEMPLATE: &str = "[Service]\nEnvironment=A=1 \"B=two words\"\nBindReadOnlyPaths=/usr -/var/lib/slotd/apps/web/instances/%i/root:/srv/web\n";

    #[test]
    fn a_template_says_where_the_tree_stands() {
        let template = "web@".parse().expect("a template");
        let unit = Unit {
            file: UnitFile::parse("/etc/systemd/system/web@.service", TEMPLATE),
            template: &template,
            instance: "1.4.2@r2".to_owned(),
        };
        let root = Path::new("/var/lib/slotd/apps/web/instances/1.4.2@r2/root");
        assert_eq!(unit.bound_at(root), Some("/srv/web".into()));
        assert_eq!(unit.bound_at(Path::new("/other")), None);
        let variables = unit.environment().into_iter().map(|(name, value)| format!("{name}={value}"));
        assert_eq!(variables.collect::<Vec<_>>(), ["A=1", "B=two words"]);
    }

    #[test]
    fn an_environment_comes_as_slotd_wrote_it() {
        let text = "A=\"say \\\"hi\\\" \\$HOME\"\nEMPTY=\"\"\n";
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(assignments(text), [pair("A", "say \"hi\" $HOME"), pair("EMPTY", "")]);
    }
}
