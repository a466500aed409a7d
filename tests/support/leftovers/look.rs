//! One look at the host, and what of it has no reason to be there.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use serde_json::Value;
use slotd::model::{InstanceName, SlotName, SlotRecord};

use super::super::world::World;
use super::{Kind, Left};

const STATE: &str = "/var/lib/slotd/apps/";

/// All facts in one go, a line each, in columns: an entry of the host costs.
const LOOK: &str = r#"
find /var/lib/slotd/apps -mindepth 2 -maxdepth 4 -path '*/trees/*/*' -prune -o -printf 'path\t%p\t%Y\t%l\n'
find /run/slotd/hold /run/slotd/route /run/slotd/gate -mindepth 1 -printf 'path\t%p\t%Y\t%l\n' 2>/dev/null
find /run/slots -mindepth 2 -maxdepth 2 -printf 'path\t%p\t%Y\t%l\n' 2>/dev/null
for file in /var/lib/slotd/apps/*/slots/*/slot.json /var/lib/slotd/apps/*/queued.json /run/slotd/route/* /run/slotd/gate/*; do
    [ -f "$file" ] && printf 'json\t%s\t%s\n' "$file" "$(tr '\n\t' '  ' <"$file")"
done
grep -Hs '^PORT=' /var/lib/slotd/apps/*/instances/*/env | sed 's/:PORT=/\t/; s/^/port\t/'
for file in /etc/systemd/system/*@.service; do
    [ -f "$file" ] && printf 'template\t%s\t%s\n' "${file##*/}" "$(sed -n 's/^User=//p' "$file")"
done
sed -n 's/^ExecStart=.* --ports \([0-9]*\)-\([0-9]*\).*/range\t\1\t\2/p' /etc/systemd/system/slotd-route@*.service 2>/dev/null
systemctl list-units --all --plain --no-legend --full | awk '{print "unit\t" $1 "\t" $3 "/" $4}'
systemctl list-jobs --plain --no-legend --full | awk '{print "job\t" $2 "\t" $3}'
ps -ww -eo pid=,user:64=,cgroup:512=,args= | awk '{pid = $1; user = $2; group = $3; $1 = $2 = $3 = ""
    print "process\t" pid "\t" user "\t" group "\t" substr($0, 4, 100)}'
ss -Hltnp | awk '{print "listens\t" $4 "\t" $6}'
true
"#;

/// The host as it is.
pub struct Look {
    rows: Vec<Vec<String>>,
    live: BTreeMap<String, Live>,
}

/// What `current` of an app names.
struct Live {
    record: SlotRecord,
    units: BTreeSet<String>,
}

/// An app's process.
struct Process<'a> {
    user: &'a str,
    unit: &'a str,
    command: &'a str,
}

impl Look {
    #[track_caller]
    pub fn at(world: &World) -> Look {
        let looked = world.host.ok(LOOK);
        let rows = looked.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect();
        let look = Look { rows, live: BTreeMap::new() };
        let live = look.of("path").filter_map(|[path, kind, to]| {
            let (app, "current") = path.strip_prefix(STATE)?.split_once('/')? else { return None };
            let record = look.record(app, to.trim_start_matches("slots/")).filter(|_| kind == "d")?;
            let instances = record.units.iter().flat_map(|unit| {
                record.slot.instances(unit.instances).into_iter().map(|instance| unit.name.unit(&instance).to_string())
            });
            let units = instances.collect();
            Some((app.to_owned(), Live { record, units }))
        });
        let live = live.collect();
        Look { live, ..look }
    }

    /// Everything that has no reason to be there.
    pub fn left(&self) -> Vec<Left> {
        let mut left = Vec::new();
        self.processes(&mut left);
        self.units(&mut left);
        self.ports(&mut left);
        self.files(&mut left);
        left
    }

    fn processes(&self, left: &mut Vec<Left>) {
        let users: BTreeSet<&str> = self.of("template").map(|[_, user]| user).collect();
        for (pid, Process { user, unit, command }) in self.all_processes() {
            let of_an_app = !user.is_empty() && !["root", "slotd"].contains(&user) && users.contains(user);
            if of_an_app && !self.is_live(unit) {
                add(left, Kind::Process, format!("{pid} of user {user}, in {unit:?}, no live instance's: {command}"));
            }
            if command.contains(" unpack-worker") {
                add(left, Kind::Process, format!("{pid}, an unpack worker: {command}"));
            }
        }
    }

    fn units(&self, left: &mut Vec<Left>) {
        for [unit, state] in self.of("unit") {
            let (active, ours) = (state.split('/').next().unwrap_or_default(), self.is_ours(unit));
            let helper = unit.starts_with("slotd-route@") && state == "active/exited";
            if active == "failed" || ours && active != "inactive" && !helper && !self.is_live(unit) {
                add(left, Kind::Unit, format!("{unit} is {state}"));
            }
        }
        for [unit, job] in self.of("job") {
            if self.is_ours(unit) || self.live.keys().any(|app| unit == format!("{app}.service")) {
                add(left, Kind::Unit, format!("{unit} has a job: {job}"));
            }
        }
    }

    fn ports(&self, left: &mut Vec<Left>) {
        let ranges: Vec<RangeInclusive<u16>> =
            self.of("range").map(|[first, last]| number(first)..=number(last)).collect();
        let processes: BTreeMap<&str, Process<'_>> = self.all_processes().collect();
        for [address, who] in self.of("listens") {
            let port = number(address.rsplit(':').next().unwrap_or_default());
            if !ranges.iter().any(|range| range.contains(&port)) {
                continue;
            }
            let pid = who.split("pid=").nth(1).and_then(|rest| rest.split(',').next()).unwrap_or_default();
            let unit = processes.get(pid).map_or("", |process| process.unit);
            if !self.is_live(unit) || self.port_of(unit) != Some(port) {
                add(left, Kind::Port, format!("{address}, in an app's range: {who} in {unit:?}"));
            }
        }
        for [path, text] in self.of("json") {
            let Some(app) = path.strip_prefix("/run/slotd/route/") else { continue };
            let file: Value = serde_json::from_str(text).unwrap_or_default();
            let mut told: Vec<String> = file["backends"].as_array().into_iter().flatten().map(backend).collect();
            let mut live: Vec<String> = self.live.get(app).map(|live| self.routed(app, live)).unwrap_or_default();
            told.sort();
            live.sort();
            if told != live {
                add(left, Kind::Port, format!("{path} leads to {told:?}, live is {live:?}"));
            }
            if file["standby"].as_array().is_some_and(|all| !all.is_empty()) {
                add(left, Kind::Port, format!("{path}: somebody stands by: {}", file["standby"]));
            }
        }
    }

    fn files(&self, left: &mut Vec<Left>) {
        for [path, kind, to] in self.of("path") {
            if let Some((app, rest)) = path.strip_prefix(STATE).and_then(|rest| rest.split_once('/')) {
                let parts: Vec<&str> = rest.split('/').collect();
                self.of_an_app(path, app, &parts, (kind, to), left);
            } else if let Some((app, instance)) = path.strip_prefix("/run/slots/").and_then(|at| at.split_once('/')) {
                let live = self.live.get(app).is_some_and(|live| is_instance_of(&live.record, instance));
                if !live {
                    add(left, Kind::Folder, format!("{path}, of no live instance"));
                }
            } else if path.starts_with("/run/slotd/hold/") {
                add(left, Kind::Mark, format!("{path} holds the gate"));
            } else if let Some(app) = path.strip_prefix("/run/slotd/gate/") {
                // A count of what `current` named once means nothing any more.
                let live = self.live.get(app).map(|live| format!("slots/{}", live.record.slot.encoded()));
                if live.is_some_and(|live| self.json(path)["what"] == live) {
                    add(left, Kind::Mark, format!("{path} counts failures of the live slot"));
                }
            }
        }
    }

    /// One name in the app's folder.
    fn of_an_app(&self, path: &str, app: &str, parts: &[&str], (kind, to): (&str, &str), left: &mut Vec<Left>) {
        let records = || self.records(app);
        let folder = |left: &mut Vec<Left>, why: &str| add(left, Kind::Folder, format!("{path}{why}"));
        match *parts {
            [.., name] if name.starts_with(".slotd-") => folder(left, ", half made or half removed"),
            ["spool" | "staging" | "builds", _] => folder(left, ""),
            ["intent.json"] => add(left, Kind::Intent, path.to_owned()),
            ["next"] => add(left, Kind::Mark, format!("{path} -> {to}, though nothing is under way")),
            ["current" | "fallback"] if kind != "d" => {
                add(left, Kind::Mark, format!("{path} -> {to}, which isn't there"))
            }
            ["queued.json"] if self.json(path)["report"]["ended"].is_null() => {
                add(left, Kind::Mark, format!("{path}: a deployment waits"));
            }
            ["slots", name] => {
                let known = ["slot.json", "failed.json"].iter().any(|file| self.is_there(&format!("{path}/{file}")));
                if name.parse::<SlotName>().is_err() || !known {
                    folder(left, ", which has no record");
                }
            }
            ["instances", name] => match records().find(|record| is_instance_of(record, name)) {
                None => folder(left, ", an instance of no slot"),
                Some(_) if !self.is_there(&format!("{path}/env")) => folder(left, ", which has no environment"),
                Some(_) => {}
            },
            ["instances", _, "root"] if kind != "d" => folder(left, ", which leads nowhere"),
            ["trees", name] => {
                let key = name.trim_end_matches(".json");
                if !records().any(|record| record.tree.to_string() == key) {
                    folder(left, ", which no slot names");
                }
            }
            ["artifacts", name] if !records().any(|record| record.artifact.to_string() == name) => {
                folder(left, ", which no slot names");
            }
            _ => {}
        }
    }

    /// The rows of a kind, by their columns.
    fn of<const N: usize>(&self, kind: &str) -> impl Iterator<Item = [&str; N]> {
        let rows = self.rows.iter().filter(move |row| row[0] == kind);
        rows.map(|row| std::array::from_fn(|column| row.get(column + 1).map_or("", String::as_str)))
    }

    fn all_processes(&self) -> impl Iterator<Item = (&str, Process<'_>)> {
        self.of("process").map(|[pid, user, group, command]| {
            let unit = group.split(['/', ',']).rfind(|part| part.ends_with(".service"));
            (pid, Process { user, unit: unit.unwrap_or_default(), command })
        })
    }

    fn json(&self, path: &str) -> Value {
        let text = self.of("json").find_map(|[at, text]| (at == path).then_some(text));
        text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }

    fn records(&self, app: &str) -> impl Iterator<Item = SlotRecord> {
        let folder = format!("{STATE}{app}/slots/");
        let rows = self.of("json").filter(move |[path, _]| path.starts_with(&folder));
        rows.filter_map(|[_, text]| serde_json::from_str(text).ok())
    }

    fn record(&self, app: &str, slot: &str) -> Option<SlotRecord> {
        serde_json::from_value(self.json(&format!("{STATE}{app}/slots/{slot}/slot.json"))).ok()
    }

    fn is_there(&self, path: &str) -> bool {
        self.of::<1>("path").any(|[at]| at == path)
    }

    fn is_live(&self, unit: &str) -> bool {
        self.live.values().any(|live| live.units.contains(unit))
    }

    /// Whether a unit is an instance of a template that the administrator or slotd brought.
    fn is_ours(&self, unit: &str) -> bool {
        let Some((stem, _)) = unit.split_once('@') else { return false };
        stem.starts_with("slotd-") || self.of("template").any(|[file, _]| file.split('@').next() == Some(stem))
    }

    /// Where the instance that `unit` runs has been told to listen.
    fn port_of(&self, unit: &str) -> Option<u16> {
        let instance = unit.split_once('@')?.1.strip_suffix(".service")?;
        let env = format!("/instances/{instance}/env");
        self.of("port").find_map(|[path, port]| path.ends_with(&env).then(|| number(port)))
    }

    /// Whom users of the app are to be sent to: the first unit's instances, by their ports.
    fn routed(&self, app: &str, live: &Live) -> Vec<String> {
        let first = live.record.units.first();
        let instances = first.map(|unit| live.record.slot.instances(unit.instances)).unwrap_or_default();
        let port = |name: &InstanceName| {
            let env = format!("{STATE}{app}/instances/{}/env", name.encoded());
            self.of("port").find_map(|[path, port]| (path == env).then(|| number(port))).unwrap_or_default()
        };
        instances.iter().map(|name| format!("{name} on {}", port(name))).collect()
    }
}

fn add(left: &mut Vec<Left>, kind: Kind, what: String) {
    left.push(Left { kind, what });
}

fn backend(it: &Value) -> String {
    format!("{} on {}", it["instance"].as_str().unwrap_or("?"), it["port"])
}

fn is_instance_of(record: &SlotRecord, name: &str) -> bool {
    let most = record.units.iter().map(|unit| unit.instances).max().unwrap_or_default();
    let parsed = name.parse::<InstanceName>();
    parsed.is_ok_and(|instance| instance.slot == record.slot && (1..=most).contains(&instance.number))
}

fn number(text: &str) -> u16 {
    text.trim_matches('"').parse().unwrap_or_default()
}
