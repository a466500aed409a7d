//! Every setting of an app by its key: its value as TOML would say it, and from when on a changed one holds. It is what
//! settings of two times are compared by, and what people are shown of them.

use std::fmt::Write as _;

use serde_json::Value;

use crate::model::setting::{BuildInputs, Inputs};
use crate::model::slot::UnitCount;
use crate::model::{Class, HookPoint};

use super::app::AppSettings;

/// One setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// "soak.time", "unit.web@.instances", "env.LOG_LEVEL".
    pub key: String,
    /// As TOML says it.
    pub value: String,
}

/// What all that is said of the environment begins with.
pub const ENV: &str = "env.";

/// What all that is said of a build's environment begins with.
const BUILD_ENV: &str = "build.env.";

/// Of what files the unit of a build is: what systemd says, and no setting.
pub const BUILD_UNIT: &str = "build.unit";

/// What builds a tree.
const BUILD_HOOK: &str = "hooks.build";

/// From when on another value of `key` holds.
pub fn class_of(key: &str) -> Class {
    const AT_ONCE: [&str; 10] = [
        "build",
        "deploy",
        "require_version",
        "on_result",
        "versions",
        "on_crash_loop",
        "inbox",
        "retention",
        "crash_loop",
        "limits",
    ];
    /// By which users come, and what they call.
    const OWN_STEP: [&str; 5] = ["route.kind", "route.port", "route.ports", "route.backend", "outside.address"];
    let section = key.split('.').next().unwrap_or_default();
    match section {
        _ if key == BUILD_HOOK || key == BUILD_UNIT || key.starts_with(BUILD_ENV.trim_end_matches('.')) => {
            Class::NewTree
        }
        "env" => Class::NewSlot,
        _ if OWN_STEP.contains(&key) => Class::OwnStep,
        "unit" if !key.ends_with(".overlap") => Class::NewSlot,
        section if AT_ONCE.contains(&section) => Class::AtOnce,
        _ => Class::NextDeployment,
    }
}

/// Whether only those who may operate are shown the value.
pub fn is_secret(key: &str) -> bool {
    key.starts_with(ENV) || key.starts_with(BUILD_ENV)
}

/// What a slot gets of them.
pub fn inputs(settings: &AppSettings) -> Inputs {
    let count = |unit: &super::app::Unit| UnitCount { name: unit.name.clone(), instances: unit.instances };
    let build = settings.hooks.at(HookPoint::Build);
    let build = build.map(|unit| BuildInputs { unit: unit.clone(), env: settings.build.env.clone() });
    Inputs { env: settings.env.clone(), units: settings.units.iter().map(count).collect(), build }
}

/// What a slot has got of them.
pub fn of_inputs(inputs: &Inputs) -> Vec<Entry> {
    let env = inputs.env.iter().map(|(name, value)| (format!("{ENV}{name}"), Value::from(value.as_str())));
    let count = |unit: &UnitCount| (format!("unit.{}.instances", unit.name), Value::from(unit.instances));
    let units = inputs.units.iter().map(count);
    let build = inputs.build.iter().flat_map(|build| {
        let hook = (BUILD_HOOK.to_owned(), Value::from(build.unit.as_str()));
        let env = build.env.iter().map(|(name, value)| (format!("{BUILD_ENV}{name}"), Value::from(value.as_str())));
        std::iter::once(hook).chain(env)
    });
    env.chain(units).chain(build).map(|(key, value)| Entry { key, value: in_line(&value) }).collect()
}

/// All settings that say something, by key.
pub fn entries(settings: &AppSettings) -> Vec<Entry> {
    let mut entries = Vec::new();
    // Settings are numbers, texts and tables of them: nothing that JSON couldn't say.
    let Ok(Value::Object(all)) = serde_json::to_value(settings) else { return entries };
    for (name, value) in &all {
        match (name.as_str(), value) {
            ("name", _) => {}
            ("strategy", Value::Object(keys)) => {
                for (key, value) in keys {
                    add(&mut entries, if key == "name" { "strategy" } else { key }, value);
                }
            }
            ("units", Value::Array(units)) => {
                for unit in units {
                    let name = unit["name"].as_str().unwrap_or_default();
                    add(&mut entries, &format!("unit.{name}.instances"), &unit["instances"]);
                    add(&mut entries, &format!("unit.{name}.overlap"), &unit["overlap"]);
                }
            }
            ("probes", Value::Object(units)) => {
                for (unit, probes) in units {
                    for (n, probe) in (1..).zip(probes.as_array().into_iter().flatten()) {
                        add(&mut entries, &format!("probe.{unit}.{n}"), probe);
                    }
                }
            }
            ("outside", Value::Object(keys)) => outside(&mut entries, keys),
            ("route", Value::Object(keys)) => {
                for (key, value) in keys {
                    match (key.as_str(), value) {
                        ("ports", Value::Object(ports)) => {
                            add(&mut entries, "route.ports", &ports["range"]);
                            add(&mut entries, "route.drain", &ports["drain"]);
                        }
                        (key, value) => add(&mut entries, &format!("route.{key}"), value),
                    }
                }
            }
            ("build", Value::Object(keys)) => {
                add(&mut entries, "build.network", &keys["network"]);
                for (key, value) in keys["env"].as_object().into_iter().flatten() {
                    add(&mut entries, &format!("{BUILD_ENV}{key}"), value);
                }
            }
            (section, Value::Object(keys)) => {
                for (key, value) in keys {
                    let key = if (section, key.as_str()) == ("inbox", "pattern") { "match" } else { key };
                    add(&mut entries, &format!("{section}.{key}"), value);
                }
            }
            (key, value) => add(&mut entries, key, value),
        }
    }
    entries.sort_by(|a, b| a.key.cmp(&b.key));
    entries
}

/// The address by itself, since another one is another matter than another question.
fn outside(entries: &mut Vec<Entry>, keys: &serde_json::Map<String, Value>) {
    for (key, value) in keys {
        let Value::Object(probe) = value else {
            add(entries, &format!("outside.{key}"), value);
            continue;
        };
        let mut probe = probe.clone();
        if let Some(address) = probe.remove("address") {
            add(entries, "outside.address", address.get("tcp").unwrap_or(&address));
        }
        add(entries, &format!("outside.{key}"), &Value::Object(probe));
    }
}

fn add(entries: &mut Vec<Entry>, key: &str, value: &Value) {
    let nothing = matches!(value, Value::Null) || value.as_array().is_some_and(Vec::is_empty);
    if !nothing {
        entries.push(Entry { key: key.to_owned(), value: in_line(value) });
    }
}

/// As it stands behind a key, in one line.
fn in_line(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(in_line).collect::<Vec<_>>().join(", ")),
        Value::Object(keys) => {
            let mut text = String::new();
            for (key, value) in keys.iter().filter(|(_, value)| !value.is_null()) {
                let comma = if text.is_empty() { "" } else { ", " };
                // A String takes all that is written to it.
                let _ = write!(text, "{comma}{key} = {}", in_line(value));
            }
            format!("{{ {text} }}")
        }
        // JSON and TOML write them alike.
        scalar => scalar.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn told(text: &str) -> Vec<String> {
        let name = "web".parse().expect("name");
        let settings =
            crate::config::parse_app(&name, Path::new("web.toml"), text, &Default::default()).expect("settings");
        entries(&settings).into_iter().map(|entry| format!("{} = {}", entry.key, entry.value)).collect()
    }

    #[test]
    fn every_setting_has_its_key_of_the_file() {
        let text = "strategy = \"rolling\"\npause_after = 1\n[[unit]]\nname = \"web@\"\ninstances = 3\n\
                    [route]\nkind = \"nftables\"\nport = 80\n\
                    [[probe]]\nkind = \"tcp\"\naddress = \"127.0.0.1:{port}\"\n[env]\nA = \"\\\"x\"\n[soak]\ntime = \"5s\"\n";
        let told = told(text);
        for line in [
            "deploy = \"automatic\"",
            "env.A = \"\\\"x\"",
            "inbox.match = \"web-@v\"",
            "outside.address = \"127.0.0.1:80\"",
            "outside.interval = \"250ms\"",
            "outside.probe = { kind = \"tcp\" }",
            "pause_after = 1",
            "probe.web@.1 = { address = \"127.0.0.1:{port}\", kind = \"tcp\" }",
            "retention.keep = 5",
            "route.drain = \"10s\"",
            "route.kind = \"nftables\"",
            "route.port = 80",
            "route.ports = \"20000-29999\"",
            "soak.time = \"5s\"",
            "strategy = \"rolling\"",
            "unit.web@.instances = 3",
            "unit.web@.overlap = true",
        ] {
            assert!(told.iter().any(|told| told == line), "{line}: {told:#?}");
        }
        assert!(!told.iter().any(|line| line.contains("max_bytes") || line.starts_with("name")), "{told:#?}");
    }

    #[test]
    fn a_key_says_from_when_on_it_holds() {
        assert_eq!(class_of("retention.keep"), Class::AtOnce);
        assert_eq!(class_of("soak.time"), Class::NextDeployment);
        assert_eq!(class_of("unit.web@.overlap"), Class::NextDeployment);
        assert_eq!(class_of("unit.web@.instances"), Class::NewSlot);
        assert_eq!(class_of("env.LOG_LEVEL"), Class::NewSlot);
        assert_eq!(class_of("hooks.deploy"), Class::NextDeployment);
        assert_eq!(class_of("hooks.build"), Class::NewTree);
        assert_eq!(class_of("build.env.TOKEN"), Class::NewTree);
        assert_eq!(class_of("build.network"), Class::AtOnce);
        assert!(is_secret("build.env.TOKEN") && !is_secret("build.network"));
        assert_eq!(class_of("route.port"), Class::OwnStep);
        assert_eq!(class_of("outside.address"), Class::OwnStep);
        assert_eq!(
            (class_of("route.drain"), class_of("outside.interval")),
            (Class::NextDeployment, Class::NextDeployment)
        );
    }
}
