//! Who may use whom. The table below is the rule, and ARCHITECTURE.md shows it to people.
//!
//! It reads the text of every file under src, tests in it included, and looks at the first words of paths: `crate::ROOM`
//! for the rooms, `LIBRARY::` for the libraries. Comments don't count.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Each room with the rooms that it may use beside itself.
const ROOMS: [(&str, &[&str]); 16] = [
    ("model", &[]),
    ("durable", &["model"]),
    ("gate", &["model"]),
    ("history", &["model"]),
    ("artifact", &["model"]),
    ("units", &["model"]),
    ("config", &["model"]),
    // Of the rooms below it only its types: what the verbs do is asked through its own trait.
    ("control", &["model"]),
    ("inbox", &["model", "config"]),
    ("slots", &["model", "durable", "artifact"]),
    ("probes", &["model", "config", "units"]),
    ("routes", &["model", "config", "durable", "units"]),
    ("deployment", &["model", "config", "durable", "history", "slots", "units", "probes", "routes"]),
    (
        "agent",
        &[
            "model",
            "config",
            "durable",
            "history",
            "slots",
            "units",
            "probes",
            "routes",
            "deployment",
            "inbox",
            "artifact",
            "control",
        ],
    ),
    ("cli", &["model", "config", "artifact", "control"]),
    (
        "daemon",
        &[
            "model",
            "config",
            "durable",
            "history",
            "slots",
            "units",
            "probes",
            "routes",
            "deployment",
            "inbox",
            "artifact",
            "control",
            "agent",
        ],
    ),
];

/// Where a narrower door than a whole room is meant: the room, the one it uses, and the beginnings of what it may name.
const DOORS: [(&str, &str, &[&str]); 4] = [
    ("slots", "artifact", &["Manifest", "manifest::"]),
    ("inbox", "config", &["AppSettings", "Pattern", "pattern::", "app::"]),
    ("agent", "control", &["api::", "service::"]),
    ("cli", "control", &["api::"]),
];

/// Files beside the rooms: named points at which tests kill the daemon. They use nothing, and every room may pass one.
const BESIDE: [&str; 1] = ["points"];

/// Libraries that belong to some rooms or files.
const LIBRARIES: [(&str, &[&str]); 21] = [
    ("zbus", &["units/systemd"]),
    ("systemd_zbus", &["units/systemd"]),
    ("rusqlite", &["history"]),
    ("axum", &["control"]),
    ("hyper", &["control", "cli", "probes"]),
    ("hyper_util", &["control", "cli", "probes"]),
    ("http_body_util", &["control", "cli", "probes"]),
    // inboxes, and the folder of app files
    ("notify", &["inbox", "daemon/reload.rs"]),
    ("tar", &["artifact"]),
    ("zstd", &["artifact"]),
    ("flate2", &["artifact"]),
    ("liblzma", &["artifact"]),
    ("ignore", &["artifact"]),
    ("unicode_normalization", &["artifact"]),
    ("sha2", &["artifact", "slots", "model"]),
    ("toml", &["config", "artifact/release.rs"]),
    ("clap", &["cli", "daemon"]),
    ("clap_complete", &["cli"]),
    ("sd_notify", &["daemon"]),
    ("listenfd", &["daemon"]),
    ("tracing_journald", &["daemon/log.rs"]),
];

/// Files for tests alone that make real slots without an artifact, and so reach for what packing takes.
const TEST_SITES: [&str; 1] = ["deployment/site.rs"];

/// Calls that give or move names, and who may make them.
const CALLS: [(&str, &[&str]); 8] = [
    ("fs::rename(", &["durable"]),
    // The gate is built without `durable`, and a proxy's file has to be whole at every instant.
    ("renameat", &["durable", "gate/route/file.rs"]),
    ("symlink_atomic(", &["durable", "slots"]),
    // What an archive holds is made by the unpack worker, in a folder that has no name yet.
    ("symlinkat(", &["durable", "artifact/tree.rs"]),
    ("linkat(", &["durable", "artifact/tree.rs"]),
    ("fs::symlink(", &["durable"]),
    ("fs::hard_link(", &[]),
    ("process::exit(", &[]),
];

#[test]
fn rooms_use_only_those_below_them() {
    let wrong: Vec<String> = sources().iter().flat_map(Source::wrong_arrows).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_wrong_arrow_is_seen_however_it_is_written() {
    for (name, text, seen) in [
        ("gate/stop.rs", "use crate::durable::remove_file;", true),
        ("gate/stop.rs", "// use crate::durable::remove_file;", false),
        ("gate/mod.rs", "    let x = super::durable::remove_file(y);", true),
        ("units/systemd/job.rs", "use super::super::super::control::api::Event;", true),
        ("units/systemd/job.rs", "use super::super::journal;", false),
        ("slots/store.rs", "fn f(x: &crate::artifact::unpack::Job) {}", true),
        ("slots/store.rs", "use crate::artifact::Manifest;", false),
        ("agent/app.rs", "use crate::control::table::router;", true),
        ("nowhere/mod.rs", "", true),
    ] {
        assert_eq!(!Source::new(name, text).wrong_arrows().is_empty(), seen, "{name}: {text}");
    }
}

#[test]
fn libraries_stay_in_their_rooms() {
    let mut wrong = Vec::new();
    for file in sources() {
        for (line, first) in file.first_words() {
            let rule = LIBRARIES.iter().find(|(library, _)| *library == first);
            if rule.is_some_and(|(_, places)| !places.iter().any(|place| file.name.starts_with(place))) {
                wrong.push(format!("src/{}:{line}: {first} is not for this place", file.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn names_move_in_one_place() {
    let mut wrong = Vec::new();
    for file in sources() {
        for (number, line) in file.shipped_lines() {
            for (call, places) in CALLS {
                let made = line.match_indices(call).any(|(at, _)| starts_word(line, at));
                if made && !places.iter().any(|place| file.name.starts_with(place)) {
                    wrong.push(format!("src/{}:{number}: {call} is not for this place", file.name));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What boots a host must not depend on what serves a person.
#[test]
fn gate_and_model_use_no_library_of_the_daemon() {
    let manifest = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).expect("Cargo.toml");
    let dependencies = manifest.split("\n[dependencies]").nth(1).expect("dependencies");
    let dependencies = dependencies.split("\n[").next().unwrap_or_default();
    let optional: BTreeSet<String> = dependencies
        .lines()
        .filter(|line| line.contains("optional = true"))
        .filter_map(|line| Some(line.split_once(" =")?.0.replace('-', "_")))
        .collect();
    assert!(optional.contains("tokio") && optional.contains("zbus"), "{optional:?}");
    let mut wrong = Vec::new();
    for file in sources().iter().filter(|file| matches!(file.room(), Some("gate" | "model"))) {
        for (line, first) in file.first_words() {
            if optional.contains(first.as_str()) {
                wrong.push(format!("src/{}:{line}: {first}", file.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_table_is_the_one_that_people_read() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/ARCHITECTURE.md")).expect("readable");
    let table = text.split("| room | uses |").nth(1).expect("the table");
    let rows: Vec<(BTreeSet<&str>, BTreeSet<&str>)> = table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|row| {
            let mut cells = row.trim_matches('|').split('|').map(|cell| cell.split('`').skip(1).step_by(2).collect());
            (cells.next().unwrap_or_default(), cells.next().unwrap_or_default())
        })
        .collect();
    for (room, allowed) in ROOMS {
        let (_, told) =
            rows.iter().find(|(rooms, _)| rooms.contains(room)).unwrap_or_else(|| panic!("{room} has no row"));
        // "those" and "all but" are for people; the rows that spell the rooms out are held to them.
        if !matches!(room, "agent" | "daemon") {
            assert_eq!(*told, allowed.iter().copied().collect(), "{room}");
        }
    }
}

/// A file under src, without its comments.
struct Source {
    /// Below src: "agent/app.rs".
    name: String,
    /// With each line's number, from 1.
    lines: Vec<(usize, String)>,
    /// The line at which `mod tests {` begins, if one does.
    tests: usize,
}

impl Source {
    fn new(name: &str, text: &str) -> Source {
        let code = text.lines().map(|line| line.split("//").next().unwrap_or_default().to_owned());
        let lines: Vec<(usize, String)> = code.enumerate().map(|(index, line)| (index + 1, line)).collect();
        let tests = lines.iter().find(|(_, line)| line.ends_with("mod tests {")).map(|(number, _)| *number);
        Source { name: name.to_owned(), lines, tests: tests.unwrap_or(usize::MAX) }
    }

    /// The room: its folder.
    fn room(&self) -> Option<&str> {
        self.name.split_once('/').map(|(room, _)| room).filter(|room| *room != "bin")
    }

    fn shipped_lines(&self) -> impl Iterator<Item = &(usize, String)> {
        let stem = self.name.rsplit('/').next().unwrap_or_default();
        let for_tests = stem.ends_with("tests.rs") || self.name.contains("/tests/") || self.name.contains("/fake");
        self.lines.iter().filter(move |(number, _)| !for_tests && *number < self.tests)
    }

    /// The arrows that the table doesn't allow.
    fn wrong_arrows(&self) -> Vec<String> {
        let Some(room) = self.room() else { return Vec::new() };
        let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| *name == room) else {
            return vec![format!("{}: the room {room} has no line in the table", self.name)];
        };
        let is_allowed = |path: &str| {
            let (used, rest) = path.split_once("::").unwrap_or((path, ""));
            let door = DOORS.iter().find(|(from, to, _)| *from == room && *to == used);
            let through = door.is_none_or(|(_, _, names)| names.iter().any(|name| starts_with_word(rest, name)));
            used == room || allowed.contains(&used) && through || BESIDE.contains(&used)
        };
        let wrong = self.paths_in_crate().into_iter().filter(|(_, path)| !is_allowed(path));
        wrong.map(|(line, path)| format!("src/{}:{line}: {room} must not use crate::{path}", self.name)).collect()
    }

    /// All paths from the crate's root on, by `crate::` or by enough `super::`, without that beginning.
    fn paths_in_crate(&self) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        for (number, line) in &self.lines {
            for (at, _) in line.match_indices("crate::").filter(|(at, _)| starts_word(line, *at)) {
                let path = path_at(&line[at + "crate::".len()..]);
                assert!(!path.is_empty(), "src/{}:{number}: write a line for each room of crate::{{…}}", self.name);
                found.push((*number, path));
            }
            let supers = line.match_indices("super::").filter(|(at, _)| starts_word(line, *at));
            for (at, _) in supers.filter(|(at, _)| !line[..*at].ends_with("super::")) {
                let rest = line[at..].trim_start_matches("super::");
                let steps = (line.len() - at - rest.len()) / "super::".len();
                if steps >= self.depth(*number) {
                    found.push((*number, path_at(rest)));
                }
            }
        }
        found
    }

    /// How many steps up lead to the crate's root from this line.
    fn depth(&self, line: usize) -> usize {
        let is_root = |stem: &&str| matches!(*stem, "mod.rs" | "lib.rs");
        let parts = self.name.split('/').filter(|part| !is_root(part)).count();
        // machine_tests.rs is the module machine::tests.
        parts + usize::from(line > self.tests || self.name.ends_with("_tests.rs"))
    }

    /// The first words of all paths: "crate", "tokio", "Self".
    fn first_words(&self) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        for (number, line) in &self.lines {
            for (at, _) in line.match_indices("::") {
                let before = &line[..at];
                let word = before.trim_end_matches(|c: char| c.is_alphanumeric() || c == '_');
                let first = &before[word.len()..];
                if !first.is_empty() && !word.ends_with("::") {
                    found.push((*number, first.to_owned()));
                }
            }
        }
        found
    }
}

/// Whether a word begins here, and not the rest of one, nor of a path.
fn starts_word(line: &str, at: usize) -> bool {
    !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_')
}

fn starts_with_word(path: &str, name: &str) -> bool {
    // A `use` of the module itself, or of several names in it.
    let module = name.trim_end_matches("::");
    path.starts_with(name) || path == module || path.starts_with('{')
}

/// The path at the beginning of a text: `model::{Code, Fault}` is `model::{Code, Fault}`, `a::b(c)` is `a::b`.
fn path_at(text: &str) -> String {
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':' || c == '{')).unwrap_or(text.len());
    let path = &text[..end];
    if path.starts_with('{') { String::new() } else { path.to_owned() }
}

fn sources() -> Vec<Source> {
    let top = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src"));
    let mut folders: Vec<PathBuf> = vec![top.to_owned()];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("folder") {
            let path = entry.expect("entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let text = std::fs::read_to_string(&path).expect("readable");
                let name = path.strip_prefix(top).expect("below").to_string_lossy().into_owned();
                if !TEST_SITES.contains(&&*name) {
                    sources.push(Source::new(&name, &text));
                }
            }
        }
    }
    assert!(sources.len() > 100, "the sources weren't found");
    sources.sort_by(|a, b| a.name.cmp(&b.name));
    sources
}
