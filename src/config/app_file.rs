//! `/etc/slotd/apps/NAME.toml`: from text to [`AppSettings`], with everything that is wrong found in one go.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::model::{AppName, Template, VersionOrder};

use super::app::{AppSettings, DeployMode, Inbox, OnCrashLoop, Route, Strategy, Unit};
use super::daemon::Defaults;
use super::document::{Document, Section};
use super::error::ConfigError;
use super::pattern::Pattern;
use super::{probe, sections};

/// Most units of one app.
const MAX_UNITS: usize = 16;

/// Most instances of a unit that a file can ask for.
const MAX_INSTANCES: u64 = 99;

/// Unit names that belong to systemd and to slotd itself.
const RESERVED_UNITS: [&str; 2] = ["systemd-", "slotd-"];

/// Names in the environment that slotd or systemd sets.
const RESERVED_ENV: [&str; 4] = ["PORT", "HEALTH_SOCKET", "NOTIFY_SOCKET", "INVOCATION_ID"];

/// Beginnings of such names.
const RESERVED_ENV_PREFIXES: [&str; 2] = ["SLOTD_", "LISTEN_"];

/// Features that the design has and this version hasn't, and what holds instead.
const LATER: [(&str, &str); 8] = [
    ("max_surge", "\"stop-start\" is (0, N): nothing runs beside the old instances"),
    ("max_unavailable", "\"stop-start\" is (0, N): all instances are replaced at once"),
    ("pause_after", "a deployment goes on by itself"),
    ("require_signature", "artifacts are accepted unsigned; a `.sha256` beside one is checked"),
    ("build", "artifacts are taken as they are"),
    ("hook", "let the template's ExecStartPre= do it"),
    ("task", "start the unit with systemctl"),
    ("dedup", "trees are shared by slots of the same bytes only"),
];

/// Reads the text of an app's file. `file` is for the errors only.
///
/// # Errors
/// All that is wrong, in the order of the file.
pub fn parse_app(
    name: &AppName,
    file: &Path,
    text: &str,
    defaults: &Defaults,
) -> Result<AppSettings, Vec<ConfigError>> {
    Document::read(file, text, |top| app(name, top, defaults))
}

fn app(name: &AppName, top: &Section<'_>, defaults: &Defaults) -> Option<AppSettings> {
    for (key, instead) in LATER {
        top.later(key, instead);
    }
    let deploy = top.choice("deploy", &[("automatic", DeployMode::Automatic), ("manual", DeployMode::Manual)], &[]);
    let strategy = top.choice("strategy", &[("stop-start", Strategy::StopStart)], &["blue-green", "rolling"]);
    let versions = top.choice("versions", &[("uapi", VersionOrder::Uapi), ("semver", VersionOrder::Semver)], &[]);
    let on_crash_loop = top.choice("on_crash_loop", &[("report", OnCrashLoop::Report)], &["rollback"]);
    let inbox = inbox(name, top)?;
    let units = units(top);
    let probes = top.sections("probe").iter().filter_map(|section| probe::read(section, &units)).collect();
    Some(AppSettings {
        name: name.clone(),
        deploy: deploy.unwrap_or(DeployMode::Automatic),
        strategy: strategy.unwrap_or(Strategy::StopStart),
        versions: versions.unwrap_or_default(),
        inbox,
        units,
        route: route(top),
        probes,
        proof: sections::proof(top, defaults.proof),
        soak: soak(top),
        keep: sections::keep(top, defaults.keep),
        env: env(top),
        crash_loop: sections::crash_loop(top, defaults.crash_loop),
        on_crash_loop: on_crash_loop.unwrap_or(OnCrashLoop::Report),
        limits: sections::limits(top, defaults.limits),
    })
}

fn inbox(name: &AppName, top: &Section<'_>) -> Option<Inbox> {
    let default = Pattern::new(&format!("{name}-@v"))?;
    let Some(section) = top.section("inbox") else { return Some(Inbox { pattern: default, keep: false }) };
    let pattern = section.parsed("match", |text| {
        let pattern = Pattern::new(text)
            .ok_or_else(|| format!("{text:?} is no pattern: @v, for the version, stands in it once, and no / does"))?;
        // Some version would have to make it a name that the inbox looks at.
        if Pattern::ignores(&text.replace("@v", "1")) {
            return Err(format!("{text:?} can't match: the inbox passes over hidden, unfinished and companion files"));
        }
        Ok(pattern)
    });
    let keep = section.flag("keep").unwrap_or(false);
    section.finish();
    Some(Inbox { pattern: pattern.unwrap_or(default), keep })
}

fn units(top: &Section<'_>) -> Vec<Unit> {
    let mut units: Vec<Unit> = Vec::new();
    let sections = top.sections("unit");
    if sections.is_empty() && !top.has("unit") {
        let help = "add\n[[unit]]\nname = \"web@\"    # for the template web@.service";
        top.error(0..0, "there is no [[unit]]: nothing would run", help.to_owned());
    }
    if let Some(surplus) = sections.get(MAX_UNITS) {
        surplus.error(surplus.place(), format!("an app has at most {MAX_UNITS} units"), None);
    }
    for section in &sections {
        if let Some(unit) = unit(section, &units) {
            units.push(unit);
        }
    }
    units
}

fn unit(section: &Section<'_>, before: &[Unit]) -> Option<Unit> {
    let instances = section.number("instances", 1..=MAX_INSTANCES).unwrap_or(1);
    if instances > 1 {
        let message = "more than one instance is not supported by this version of slotd".to_owned();
        section.error(section.place_of("instances"), message, "supported: instances = 1".to_owned());
    }
    let overlap = section.flag("overlap").unwrap_or(true);
    let name = section.required_text("name", "name the template: name = \"web@\" for web@.service");
    section.finish();
    let (place, name) = name.map(|name| (name.span(), name.into_inner()))?;
    let template: Template = match name.parse() {
        Ok(template) => template,
        Err(error) => {
            let meant = name.strip_suffix(".service").filter(|stem| stem.ends_with('@'));
            section.error(place, format!("{error}"), meant.map(|stem| format!("write {stem:?}")));
            return None;
        }
    };
    if let Some(prefix) = RESERVED_UNITS.iter().find(|prefix| name.starts_with(**prefix)) {
        let message = format!("an app's template can't begin with {prefix:?}: such units belong to the system");
        section.error(place, message, None);
        return None;
    }
    if before.iter().any(|unit| unit.name == template) {
        section.error(place, format!("{template} is a unit of this app already"), None);
        return None;
    }
    Some(Unit { name: template, instances: sections::to_u32(instances), overlap })
}

fn route(top: &Section<'_>) -> Route {
    let Some(section) = top.section("route") else { return Route::Socket };
    let kinds = [("socket", Route::Socket), ("none", Route::None)];
    let kind = section.choice("kind", &kinds, &["nftables", "haproxy", "nginx"]).unwrap_or(Route::Socket);
    section.choice("accept", &[("ready", ())], &["signal"]);
    if kind == Route::None && section.has("accept") {
        section.error(section.place_of("accept"), "`accept` belongs to kind = \"socket\"", None);
    }
    section.finish();
    kind
}

fn soak(top: &Section<'_>) -> Duration {
    let Some(section) = top.section("soak") else { return Duration::ZERO };
    let time = section.duration("time", Duration::ZERO..=sections::MAX_WAIT).unwrap_or_default();
    section.finish();
    time
}

fn env(top: &Section<'_>) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    let Some(section) = top.section("env") else { return env };
    for (name, value) in section.texts() {
        let key = name.get_ref();
        let known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if key.is_empty() || !key.bytes().all(known) || key.starts_with(|first: char| first.is_ascii_digit()) {
            let message = format!("{key:?} can't be set in an environment: letters, digits and _, no digit first");
            section.error(name.span(), message, None);
        } else if RESERVED_ENV.contains(&key.as_str()) || RESERVED_ENV_PREFIXES.iter().any(|p| key.starts_with(p)) {
            section.error(name.span(), format!("{key} is set by slotd or systemd"), "give it another name".to_owned());
        } else if value.get_ref().contains(['\n', '\r', '\0']) {
            let message = format!("the value of {key} has a line break or a NUL, which an environment file can't hold");
            section.error(value.span(), message, None);
        } else {
            env.insert(name.into_inner(), value.into_inner());
        }
    }
    env
}
