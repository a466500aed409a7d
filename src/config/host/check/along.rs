//! Units of others that systemd takes down with an instance: slotd starts them again after a deployment, if it may.
//!
//! Read from files, so it sees what names an instance; a bond that a generator makes it doesn't see. Nothing is said of
//! what goes by the gate, which a deployment doesn't stop, nor of templates, whose instances come and go with the slot.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::model::UnitName;

use super::super::polkit::PolkitRules;
use super::super::unitfile::{Found, SearchPath};
use super::{Expected, Findings, Place, Profile};

/// The keys by which the stop of another unit stops the unit.
const KEYS: [&str; 5] = ["Requires", "Requisite", "BindsTo", "PartOf", "StopPropagatedFrom"];

/// A bond, and where it stands.
struct Bond {
    with: String,
    file: PathBuf,
    line: Option<u32>,
}

pub(super) fn check(expected: &Expected, path: &SearchPath, rules: &PolkitRules, findings: &mut Findings) {
    if expected.profile == Profile::Root {
        return;
    }
    for (unit, bond) in taken_along(expected, path) {
        let place = Place { file: &bond.file, line: bond.line };
        let app = &expected.app;
        match rules.name(&unit) {
            Ok(true) => {}
            Ok(false) => findings.error(
                place,
                format!("{unit} goes down with {}, and no rule of polkit names it", bond.with),
                "slotd may not start it again after a deployment: what was up before stays down",
                format!(
                    "let a rule allow user slotd to start it; in 50-slotd-{app}.rules: \
                     if (unit === \"{unit}\" && verb === \"start\") return polkit.Result.YES;"
                ),
            ),
            Err(error) => findings.warning(
                place,
                format!("{unit} goes down with {}; whether slotd may start it can't be told: {error}", bond.with),
                "without a rule for it, it stays down after a deployment",
                format!("sudo slotctl check {app}"),
            ),
        }
    }
}

/// The units that go down with an instance of the app, to the end, each with the bond that has it do so.
fn taken_along(expected: &Expected, path: &SearchPath) -> Vec<(String, Bond)> {
    let is_instance = |name: &str| {
        let unit = UnitName::new(name);
        expected.templates.iter().any(|template| template.instance_of(&unit).is_some())
    };
    let is_own = |name: &str| {
        is_instance(name)
            || name == expected.app.gate_unit().as_str()
            || name == expected.app.socket_unit().as_str()
            || name.starts_with("slotd-")
            || name.contains("@.")
    };
    let mut bonds: BTreeMap<String, Vec<Bond>> = BTreeMap::new();
    for unit in path.units().into_iter().filter(|unit| !is_own(unit)) {
        let of = bonds.entry(unit.clone()).or_default();
        for (folder, with) in path.required_by_link(&unit) {
            of.push(Bond { with, file: folder, line: None });
        }
        // What can't be read is none of the app's.
        let Ok(Found::Unit(file)) = path.read(&unit) else { continue };
        for (with, entry) in KEYS.iter().flat_map(|key| file.dependencies(key)) {
            of.push(Bond { with: with.to_owned(), file: entry.file.clone(), line: Some(entry.line) });
        }
    }
    let mut found: Vec<(String, Bond)> = Vec::new();
    loop {
        let goes = |bond: &Bond| is_instance(&bond.with) || found.iter().any(|(unit, _)| *unit == bond.with);
        let next = bonds.iter().find_map(|(unit, of)| of.iter().position(goes).map(|at| (unit.clone(), at)));
        let Some((unit, at)) = next else { return found };
        if let Some(mut of) = bonds.remove(&unit) {
            found.push((unit, of.swap_remove(at)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            let path = root.path().join("etc/systemd/system").join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(path, format!("[Unit]\n{text}\n")).expect("written");
        }
        root
    }

    fn expected() -> Expected {
        Expected {
            app: "web".parse().expect("a name"),
            templates: vec!["web@".parse().expect("a template")],
            socket: true,
            by_signal: None,
            helper: None,
            health_socket: false,
            probed: false,
            probe_units: Vec::new(),
            build_network: false,
            hooks: crate::model::hook::Hooks::default(),
            notifies: false,
            state: "/var/lib/slotd".into(),
            profile: Profile::User,
        }
    }

    #[test]
    fn what_goes_down_with_an_instance_is_found_to_the_end() {
        let root = site(&[
            ("web@.service", "BindsTo=web.socket"),
            ("web.service", "Requires=web.socket"),
            ("metrics.service", "PartOf=web@1.4.2.service"),
            ("tail.service", "After=metrics.service\nBindsTo=metrics.service"),
            ("mail.service.d/ties.conf", "Requires=tail.service"),
            ("mail.service", "After=network.target"),
            ("side.service", "BindsTo=web.service"),
            ("web-log@.service", "BindsTo=web@%i.service"),
            ("other.service", "PartOf=web@.service\nWants=metrics.service"),
            ("linked.service", "After=network.target"),
            ("linked.service.requires/web@1.4.2.service", ""),
        ]);
        let (path, rules) = (SearchPath::below(root.path()), PolkitRules::below(root.path()));
        let mut found: Vec<String> =
            taken_along(&expected(), &path).iter().map(|(unit, bond)| format!("{unit} {}", bond.with)).collect();
        found.sort();
        let all = [
            "linked.service web@1.4.2.service",
            "mail.service tail.service",
            "metrics.service web@1.4.2.service",
            "tail.service metrics.service",
        ];
        assert_eq!(found, all);

        let folder = root.path().join("etc/polkit-1/rules.d");
        std::fs::create_dir_all(&folder).expect("made");
        std::fs::write(folder.join("60.rules"), "/^(tail|mail|linked)\\.service$/").expect("written");
        let mut findings = Findings(Vec::new());
        check(&expected(), &path, &rules, &mut findings);
        assert_eq!(findings.0.len(), 1, "{:?}", findings.0);
        let told = findings.0[0].to_string();
        assert!(told.contains("metrics.service:2: error: metrics.service goes down with web@1.4.2.service"), "{told}");
        assert!(told.contains("if (unit === \"metrics.service\" && verb === \"start\")"), "{told}");
    }
}
