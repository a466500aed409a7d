//! `/etc/slotd/apps/NAME.toml`: from text to [`AppSettings`], with everything that is wrong found in one go.

use crate::model::{AppName, Outcome, Template, VersionOrder};
use std::collections::BTreeMap;
use std::path::Path;

use super::app::{AppSettings, DeployMode, Inbox, OnCrashLoop, Probe, Unit};
use super::contract::{Place, Wish};
use super::daemon::Defaults;
use super::document::{Document, Section};
use super::error::ConfigError;
use super::origins::Origins;
use super::pattern::Pattern;
use super::{build, depends, hooks, outside, probe, route, sections};

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
const LATER: [(&str, &str); 3] = [
    ("require_signature", "artifacts are accepted unsigned; a `.sha256` beside one is checked"),
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
    let versions = top.choice("versions", &[("uapi", VersionOrder::Uapi), ("semver", VersionOrder::Semver)], &[]);
    let require_version = top.flag("require_version").unwrap_or(false);
    let on_crash_loop = top.choice("on_crash_loop", &[("report", OnCrashLoop::Report)], &["rollback"]);
    let results = [Outcome::RolledBack, Outcome::Failed, Outcome::Stuck, Outcome::Done].map(|it| (it.as_str(), it));
    let on_result = top.choices("on_result", &results);
    let depends_on = depends::read(top, name);
    let inbox = inbox(name, top)?;
    let units = units(top);
    let probed = top.sections("probe");
    let mut probes = BTreeMap::<Template, Vec<Probe>>::new();
    let mut routed = Vec::new();
    for section in &probed {
        let unit = probe_unit(section, &units);
        let probe = probe::read(section, &units);
        if let (Some(unit), Some(probe)) = (unit, probe) {
            if units.first().is_some_and(|first| first.name == unit) {
                routed.push(section);
            }
            probes.entry(unit).or_default().push(probe);
        }
    }
    let first = units.first().and_then(|unit| probes.get(&unit.name)).map_or(&[][..], Vec::as_slice);
    let strategy = route::strategy(top, &units);
    let soak = route::soak(top);
    let route = route::route(top);
    let outside = outside::read(top).or_else(|| outside::assumed(&route, first));
    let hooks = hooks::read(top, &units);
    let build = build::read(top, &hooks);
    let wish = Wish { route: &route, strategy: &strategy, units: &units, probes: first, soak: &soak };
    for refusal in wish.refusals() {
        let soak = top.section("soak");
        let place = match refusal.place {
            Place::Probe(n) => routed.get(n).map_or(0..0, |section| section.place_of("address")),
            Place::Confirm => soak.as_ref().map_or(0..0, |section| section.place_of("confirm")),
            Place::Key(key) => top.place_of(key),
        };
        top.error(place, format!("{} ({})", refusal.message, refusal.code), refusal.fix);
    }
    let mut settings = AppSettings {
        name: name.clone(),
        deploy: deploy.unwrap_or(DeployMode::Automatic),
        strategy,
        versions: versions.unwrap_or_default(),
        require_version,
        depends_on,
        inbox,
        units,
        route,
        outside,
        probes,
        proof: sections::proof(top, defaults.proof),
        soak,
        hooks,
        build,
        retention: sections::retention(top, defaults.retention),
        env: env(top),
        crash_loop: sections::crash_loop(top, defaults.crash_loop),
        on_crash_loop: on_crash_loop.unwrap_or(OnCrashLoop::Report),
        on_result: on_result.unwrap_or_default(),
        limits: sections::limits(top, defaults.limits),
        origins: Origins::default(),
        waits: None,
    };
    let first = settings.routed().map(|unit| unit.name.to_string()).unwrap_or_default();
    settings.origins = Origins::of(top.file(), &top.lines(&first), &settings, defaults);
    Some(settings)
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
    if let Some(message) = reserved(&name) {
        section.error(place, message, None);
        return None;
    }
    if before.iter().any(|unit| unit.name == template) {
        section.error(place, format!("{template} is a unit of this app already"), None);
        return None;
    }
    Some(Unit { name: template, instances: sections::to_u32(instances), overlap })
}

/// Why an app can't have a template of this name.
pub(super) fn reserved(name: &str) -> Option<String> {
    let prefix = RESERVED_UNITS.iter().find(|prefix| name.starts_with(**prefix))?;
    Some(format!("an app's template can't begin with {prefix:?}: such units belong to the system"))
}

/// The unit whose instances a probe asks: the first, unless it names another one.
fn probe_unit(section: &Section<'_>, units: &[Unit]) -> Option<Template> {
    let Some(name) = section.text("unit") else { return units.first().map(|unit| unit.name.clone()) };
    let found = units.iter().find(|unit| unit.name.as_str() == name.get_ref());
    if found.is_none() {
        let names: Vec<_> = units.iter().map(|unit| unit.name.as_str()).collect();
        let message = format!("{:?} is no unit of this app", name.get_ref());
        section.error(name.span(), message, format!("its units are: {}", names.join(", ")));
    }
    found.map(|unit| unit.name.clone())
}

/// The `env` of a section.
pub(super) fn env(top: &Section<'_>) -> BTreeMap<String, String> {
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
