//! The documents say what the code says: exit statuses, codes, commands, settings, files, effects.

#![cfg(feature = "daemon")]

mod docs_support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use docs_support::slotctl_page;
use slotd::config::keys::class_of;
use slotd::config::{Defaults, parse_app, parse_daemon};
use slotd::deployment::effect::Kind;
use slotd::model::Exit;

/// A key that no section has, and that is like none.
const NOBODYS: &str = "qqqqqqqqqqqq";

fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &str) -> String {
    std::fs::read_to_string(checkout().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

#[test]
fn the_exit_statuses_of_readme_are_those_of_the_code() {
    let readme = read("README.md");
    let table = readme.split("### Exit statuses").nth(1).expect("the table");
    let found: Vec<&str> = table.lines().skip_while(|line| !line.starts_with("|---")).skip(1).collect();
    let found: Vec<&str> = found.into_iter().take_while(|line| line.starts_with('|')).collect();
    let mut rows: Vec<String> =
        Exit::ALL.iter().map(|exit| format!("| {} | {} |", *exit as u8, exit.meaning())).collect();
    rows.push(format!("| 130 | {} |", slotd::cli::INTERRUPTED));
    assert_eq!(found, rows);
}

#[test]
fn readme_lists_every_command() {
    let readme = read("README.md");
    for command in slotd::cli::command().get_subcommands() {
        let name = format!("`slotctl {}", command.get_name());
        assert!(readme.contains(&name), "README.md lacks {name}`");
    }
}

#[test]
fn the_manual_of_slotctl_is_made_from_the_program() {
    let page = slotctl_page();
    let file = checkout().join("packaging/man/slotctl.1");
    if std::env::var_os("WRITE_MANUAL").is_some() {
        std::fs::write(&file, &page).expect("written");
    }
    assert!(
        std::fs::read_to_string(&file).unwrap_or_default() == page,
        "packaging/man/slotctl.1 is not what the program says; WRITE_MANUAL=1 cargo test --test docs"
    );
}

#[test]
fn every_key_of_an_app_stands_in_the_manual_and_no_other() {
    let unit = "[[unit]]\nname = \"web@\"\n";
    let ask = |section: &str, keys: &str| {
        let text = match section {
            "" => format!("{keys}\n{unit}"),
            "[[unit]]" => format!("[[unit]]\n{keys}\n"),
            section => format!("{unit}{section}\n{keys}\n"),
        };
        let name = "web".parse().expect("name");
        match parse_app(&name, Path::new("web.toml"), &text, &Defaults::default()) {
            Ok(_) => String::new(),
            Err(errors) => errors.iter().map(|error| format!("{error}\n")).collect(),
        }
    };
    let mut known = known_keys(&ask, &["unit", "probe"]);
    // What a probe knows depends on its kind.
    let kinds = words(line_with(&ask("[[probe]]", "kind = \"qqq\""), "`kind` is"));
    assert!(kinds.len() > 4, "{kinds:?}");
    for kind in kinds.iter().filter(|kind| *kind != "qqq") {
        let keys = keys_in(&ask("[[probe]]", &format!("kind = \"{kind}\"\n{NOBODYS} = 1")));
        known.entry("[[probe]]".to_owned()).or_default().extend(keys);
    }
    let page = Page::of("packaging/man/slotd-app.5");
    assert_eq!(page.keys, known);
    for (key, text) in &page.texts {
        assert!(text.contains("efault") && text.contains("Holds"), "{key} lacks its default, or when it holds");
        let class = class_of(&path_of(key));
        assert!(text.contains(&format!(".IR \"{class}\"")), "{key} holds {class}: {text}");
    }
}

#[test]
fn every_key_of_the_daemon_stands_in_the_manual_and_no_other() {
    let ask = |section: &str, keys: &str| match parse_daemon(Path::new("slotd.toml"), &format!("{section}\n{keys}\n")) {
        Ok(_) => String::new(),
        Err(errors) => errors.iter().map(|error| format!("{error}\n")).collect(),
    };
    assert_eq!(Page::of("packaging/man/slotd.8").keys, known_keys(&ask, &[]));
}

#[test]
fn the_files_that_the_documents_name_exist() {
    let files = files();
    for document in ["README.md", "ARCHITECTURE.md", "tests/README.md"] {
        let text = read(document);
        let mut checked = 0;
        for name in text.split('`').skip(1).step_by(2).filter(|name| names_a_file(name)) {
            checked += 1;
            let there = match name.split_once('*') {
                Some((head, tail)) => files.iter().any(|file| {
                    let start = file.rfind('/').map_or(0, |at| at + 1);
                    (file.starts_with(head) || file[start..].starts_with(head)) && file.ends_with(tail)
                }),
                None => files.iter().any(|file| ends_with_path(file, name)),
            };
            assert!(there, "{document} names `{name}`, which isn't there");
        }
        assert!(checked > 0, "{document}: the test finds no names");
    }
}

#[test]
fn architecture_knows_every_effect_and_every_room() {
    let text = read("ARCHITECTURE.md");
    let words: BTreeSet<&str> = text.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    for kind in Kind::ALL {
        let name = format!("{kind:?}");
        assert!(words.contains(name.as_str()), "ARCHITECTURE.md doesn't say where {name} stands");
    }
    for folder in std::fs::read_dir(checkout().join("src")).expect("src") {
        let folder = folder.expect("entry");
        let name = folder.file_name().to_string_lossy().into_owned();
        if folder.path().is_dir() && name != "bin" {
            assert!(text.contains(&format!("\n| `{name}` |")), "ARCHITECTURE.md lacks the room {name}");
        }
    }
}

/// What each section of a settings file knows, by its heading; "" is the top. `lists` are those written `[[…]]`. Found by
/// asking for a key that nobody has: the error says which there are.
fn known_keys(ask: &dyn Fn(&str, &str) -> String, lists: &[&str]) -> BTreeMap<String, BTreeSet<String>> {
    let nobodys = format!("{NOBODYS} = 1");
    let mut known = BTreeMap::new();
    let mut plain = BTreeSet::new();
    for key in keys_in(&ask("", &nobodys)) {
        let heading = if lists.contains(&key.as_str()) { format!("[[{key}]]") } else { format!("[{key}]") };
        let errors = ask(&heading, &nobodys);
        match errors.contains("must be") && !errors.contains(&format!("unknown key `{NOBODYS}`")) {
            // Not a section, or one whose keys are the user's own.
            true if errors.contains(NOBODYS) => {
                known.insert(heading, BTreeSet::new());
            }
            true => {
                plain.insert(key);
            }
            false => {
                known.insert(heading, keys_in(&errors));
            }
        }
    }
    known.insert(String::new(), plain);
    known
}

/// The keys that an error of an unknown one lists.
fn keys_in(errors: &str) -> BTreeSet<String> {
    let list = line_with(errors, "known are ").split("known are ").nth(1).unwrap_or_default();
    list.split(", ").map(|key| key.trim().to_owned()).filter(|key| !key.is_empty()).collect()
}

fn line_with<'a>(text: &'a str, part: &str) -> &'a str {
    text.lines().find(|line| line.contains(part)).unwrap_or_default()
}

/// What stands in quotes.
fn words(text: &str) -> Vec<String> {
    text.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The settings in a page of the manual: `.SS` is a section, `.B` after `.TP` or `.TQ` a key.
struct Page {
    keys: BTreeMap<String, BTreeSet<String>>,
    texts: BTreeMap<String, String>,
}

impl Page {
    fn of(file: &str) -> Page {
        let text = read(file);
        let mut page = Page { keys: BTreeMap::new(), texts: BTreeMap::new() };
        let (mut section, mut key, mut tag) = (None::<String>, None::<String>, false);
        for line in text.lines() {
            if line.starts_with(".SH") {
                (section, key) = (None, None);
            } else if let Some(heading) = line.strip_prefix(".SS ") {
                let heading = if heading == "Top level" { "" } else { heading };
                page.keys.insert(heading.to_owned(), BTreeSet::new());
                (section, key) = (Some(heading.to_owned()), None);
            } else if let Some(section) = &section {
                match line.strip_prefix(".B ").filter(|_| tag) {
                    Some(name) => {
                        page.keys.entry(section.clone()).or_default().insert(name.to_owned());
                        key = Some(format!("{section} {name}"));
                    }
                    None => {
                        if let Some(key) = &key {
                            page.texts.entry(key.clone()).or_default().push_str(&format!("{line}\n"));
                        }
                    }
                }
            }
            tag = matches!(line, ".TP" | ".TQ");
        }
        page
    }
}

/// The key of a setting as slotctl shows it, by its section and name in the page.
fn path_of(key: &str) -> String {
    let (section, name) = key.split_once(' ').expect("a section and a name");
    match section.trim_matches(['[', ']']) {
        "" => name.to_owned(),
        "unit" => format!("unit.web@.{name}"),
        section => format!("{section}.{name}"),
    }
}

/// Whether what stands between backticks is meant as a file of this repository.
fn names_a_file(name: &str) -> bool {
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "/._-*".contains(c));
    let ours = ["src/", "tests/", "packaging/", "systemd/", "examples/", ".ci/"];
    plain && (ours.iter().any(|folder| name.starts_with(folder)) || name.ends_with(".rs") || name.ends_with(".md"))
}

/// Whether `file` is `name`, or ends in it, from the beginning of a component on.
fn ends_with_path(file: &str, name: &str) -> bool {
    file.strip_suffix(name.trim_end_matches('/')).is_some_and(|before| before.is_empty() || before.ends_with('/'))
}

/// All files and folders of the checkout, but what was built.
fn files() -> Vec<String> {
    let mut folders: Vec<PathBuf> = vec![checkout().to_owned()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("folder") {
            let path = entry.expect("entry").path();
            let name = path.strip_prefix(checkout()).expect("below").to_string_lossy().into_owned();
            if name == "target" || name.starts_with(".git") {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            }
            files.push(name);
        }
    }
    files
}

/// A row of tests/README.md has a story, a refusal and a kill, by functions of these names; and each such function has a row.
#[test]
fn each_row_of_the_life_of_a_release_has_its_three_tests() {
    let readme = read("tests/README.md");
    let row = |line: &str| line.strip_prefix("| ")?.split_once(" |")?.0.parse::<u32>().ok();
    let rows: BTreeSet<u32> = readme.lines().filter_map(row).collect();
    assert!(!rows.is_empty(), "no row is listed");
    let wanted: BTreeSet<String> =
        rows.iter().flat_map(|row| ["story", "refusal", "kill"].map(|what| format!("row{row:02}_{what}"))).collect();
    let of_rows = |file: &String| file.contains("/life/row");
    let code: String = files().iter().filter(|file| of_rows(file)).map(|file| read(file)).collect();
    let name = |line: &str| Some(line.trim_start_matches("pub ").strip_prefix("fn ")?.split_once('(')?.0.to_owned());
    let found: BTreeSet<String> = code.lines().filter_map(name).filter(|name| name.starts_with("row")).collect();
    assert_eq!(found, wanted);
}
