//! Broken settings files, one fault or a few in each, say what is wrong and where; those under examples/ are right.
//!
//! The first line of a broken file holds what is expected of it: `# expect: LINE:WORDS | LINE:WORDS`, one for each
//! error, no more and no less.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use slotd::config::{self, AppSettings, ConfigError, Defaults};
use slotd::model::Code;

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("entry").path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    files
}

/// Compares what is wrong with what the file expects; both in the order of the file.
fn as_expected(file: &Path, text: &str, errors: &[ConfigError]) -> Result<(), String> {
    let expected: Vec<&str> =
        text.lines().next().and_then(|line| line.strip_prefix("# expect: ")).expect("# expect:").split(" | ").collect();
    let shown: Vec<String> = errors.iter().map(ToString::to_string).collect();
    let fits = expected.len() == errors.len()
        && expected.iter().zip(errors).zip(&shown).all(|((expected, error), shown)| {
            let (line, words) = expected.split_once(':').expect("LINE:WORDS");
            line == error.line.to_string() && shown.contains(words)
        });
    match fits {
        true => Ok(()),
        false => Err(format!("{}: expected {expected:#?}, got:\n{}", file.display(), shown.join("\n\n"))),
    }
}

fn all_as_expected(folder: &str, errors_of: impl Fn(&Path, &str) -> Vec<ConfigError>) {
    let wrong: Vec<String> = files(folder)
        .iter()
        .filter_map(|file| {
            let text = fs::read_to_string(file).expect("readable");
            as_expected(file, &text, &errors_of(file, &text)).err()
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n----\n"));
}

fn app(text: &str) -> Result<AppSettings, Vec<ConfigError>> {
    config::parse_app(&"web".parse().expect("name"), Path::new("web.toml"), text, &Defaults::default())
}

#[test]
fn each_broken_app_file_says_what_and_where() {
    all_as_expected("tests/broken/apps", |file, _| {
        config::load_app(file, &Defaults::default()).err().unwrap_or_default()
    });
}

#[test]
fn each_broken_daemon_file_says_what_and_where() {
    all_as_expected("tests/broken/daemon", |file, _| config::load_daemon(file).err().unwrap_or_default());
}

#[test]
fn every_example_is_right() {
    for file in files("examples/apps") {
        if let Err(errors) = config::load_app(&file, &Defaults::default()) {
            panic!("{}", errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
        }
    }
}

#[test]
fn what_the_example_spells_out_is_what_holds_without_it() {
    let spelt = app(include_str!("../examples/apps/web.toml")).expect("web.toml");
    let mut short = app("[[unit]]\nname = \"web@\"").expect("short");
    // The time to watch follows the strategy where the file doesn't say it.
    short.soak.time = Some(short.soak.time_under(short.strategy.name));
    let (env, outside) = (spelt.env.clone(), spelt.outside.clone());
    assert_eq!(spelt.probes.len(), 1);
    assert_eq!(AppSettings { probes: spelt.probes.clone(), env, outside, ..short }, spelt);
    // Where the file doesn't name the users' address the probe does.
    let text = include_str!("../examples/apps/web.toml").replace("[outside]", "[outsider]");
    let unnamed = text.split("[outsider]").next().expect("what stands before it");
    assert_eq!(app(unnamed).expect("web.toml up to [outside]").outside, spelt.outside);
}

#[test]
fn what_the_daemon_says_holds_where_the_app_is_silent() {
    let text = "[defaults]\nretention.keep = 9\nproof.deadline = \"90s\"\nlimits.packed_bytes = \"1MiB\"";
    let daemon = config::parse_daemon(Path::new("slotd.toml"), text).expect("settings");
    let text = "[[unit]]\nname = \"web@\"\n[proof]\ninterval = \"1s\"";
    let app = config::parse_app(&"web".parse().expect("name"), Path::new("web.toml"), text, &daemon.defaults)
        .expect("settings");
    assert_eq!((app.retention.keep, app.proof.deadline.as_secs(), app.proof.interval.as_secs()), (9, 90, 1));
    assert_eq!(app.limits.packed_bytes, 1 << 20);
}

#[test]
fn the_sockets_and_files_of_the_daemon_follow_its_folders() {
    let text = "state_dir = \"/srv/slotd\"\nrun_dir = \"/run/other\"\nprofile = \"root\"";
    let daemon = config::parse_daemon(Path::new("slotd.toml"), text).expect("settings");
    assert_eq!(daemon.history, Path::new("/srv/slotd/history.db"));
    assert_eq!(daemon.socket, Path::new("/run/other/slotd.sock"));
    let absent = config::load_daemon(Path::new("/nonexistent/slotd.toml")).expect("the defaults");
    assert_eq!(absent, config::DaemonSettings::default());
}

/// A folder of app files.
struct Folder(tempfile::TempDir);

impl Folder {
    fn with(files: &[(&str, &str)]) -> Folder {
        let folder = Folder(tempfile::tempdir().expect("folder"));
        files.iter().for_each(|(name, text)| fs::write(folder.0.path().join(name), text).expect("written"));
        folder
    }

    fn mode(self, name: &str, mode: u32) -> Folder {
        let path = self.0.path().join(name);
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("mode");
        self
    }

    /// The names of the good ones, and "FILE: first error" of the others.
    fn load(&self) -> (Vec<String>, Vec<String>) {
        let apps = config::load_apps(self.0.path(), &Defaults::default());
        let file = |file: &Path| file.file_name().expect("name").to_string_lossy().into_owned();
        let broken = apps.broken.iter().map(|app| format!("{}: {}", file(&app.file), app.errors[0].message));
        (apps.good.iter().map(|app| app.name.to_string()).collect(), broken.collect())
    }
}

const WEB: &str = "[[unit]]\nname = \"web@\"\n";

#[test]
fn a_broken_app_file_leaves_the_others_alone() {
    let api = "[[unit]]\nname = \"api@\"\n";
    let folder =
        Folder::with(&[("web.toml", WEB), ("api.toml", api), ("bad.toml", "x"), (".hid.toml", "x"), ("web.bak", "x")]);
    let (good, broken) = folder.load();
    assert_eq!(good, ["api", "web"]);
    assert_eq!(broken.len(), 1, "{broken:?}");
    assert!(broken[0].starts_with("bad.toml: "), "{broken:?}");
}

#[test]
fn the_files_name_is_the_apps() {
    let (good, broken) = Folder::with(&[("Web_1.toml", WEB)]).load();
    assert!(good.is_empty());
    assert!(broken[0].contains("\"Web_1\" is no app name"), "{broken:?}");
}

#[test]
fn two_apps_cannot_claim_one_template() {
    let (good, broken) = Folder::with(&[("web.toml", WEB), ("shop.toml", WEB)]).load();
    assert_eq!(good, ["shop"]);
    assert_eq!(broken, ["web.toml: web@ is a unit of the app shop already"]);
}

#[test]
fn what_is_depended_on_is_there_and_leads_nowhere_back() {
    let app = |name: &str, on: &str| format!("depends_on = [{on}]\n[[unit]]\nname = \"{name}@\"\n");
    let folder = Folder::with(&[
        ("api.toml", &app("api", "\"db\"")),
        ("db.toml", &app("db", "\"web\"")),
        ("web.toml", &app("web", "\"mail\", \"api\"")),
        ("shop.toml", &app("shop", "\"web\", \"bad\"")),
        ("bad.toml", "x"),
    ]);
    let (good, broken) = folder.load();
    assert_eq!(good, ["shop"], "a circle that it only leads to, or a broken file, is none of its own");
    let expected = [
        "api.toml: api depends on itself: api -> db -> web -> api",
        "db.toml: db depends on itself: db -> web -> api -> db",
        "web.toml: there is no app mail",
    ];
    assert_eq!(broken.iter().filter(|line| !line.starts_with("bad.toml")).collect::<Vec<_>>(), expected);
    let apps = config::load_apps(folder.0.path(), &Defaults::default());
    let web: Vec<String> = apps.broken.iter().flat_map(|it| &it.errors).map(ToString::to_string).collect();
    let shown = web.iter().find(|it| it.contains("web.toml:1:23")).expect("the circle");
    assert!(shown.contains("web.toml:1:23: web depends on itself: web -> api -> db -> web"), "{shown}");
    assert!(shown.contains("\n                      ^^^^^\n"), "{shown}");
}

#[test]
fn a_file_that_anybody_can_write_is_not_believed() {
    let folder = Folder::with(&[("web.toml", WEB)]).mode("web.toml", 0o646);
    let apps = config::load_apps(folder.0.path(), &Defaults::default());
    assert_eq!(apps.broken[0].errors[0].code, Code::ConfigInsecureDir);
    let (good, _) = folder.mode("web.toml", 0o664).load();
    assert_eq!(good, ["web"]);
}

#[test]
fn a_folder_that_anybody_can_write_is_not_believed() {
    let folder = Folder::with(&[("web.toml", WEB)]).mode(".", 0o777);
    let (good, broken) = folder.load();
    assert!(good.is_empty() && broken[0].contains("anybody"), "{broken:?}");
}

#[test]
fn what_is_no_file_or_too_large_or_no_text_is_refused() {
    let folder = Folder::with(&[("large.toml", &"#".repeat(300_000))]);
    fs::create_dir(folder.0.path().join("folder.toml")).expect("folder");
    nix::unistd::mkfifo(&folder.0.path().join("pipe.toml"), nix::sys::stat::Mode::S_IRWXU).expect("pipe");
    fs::write(folder.0.path().join("bytes.toml"), b"# ok\n\xff\xfe").expect("written");
    let (_, broken) = folder.load();
    let expected = [
        "bytes.toml: is not UTF-8 (line 2)",
        "folder.toml: is not a plain file",
        "large.toml: has more than 262144 bytes",
        "pipe.toml: is not a plain file",
    ];
    assert_eq!(broken, expected);
}

#[test]
fn a_folder_that_is_not_there_says_so() {
    let apps = config::load_apps(Path::new("/nonexistent"), &Defaults::default());
    assert!(apps.broken[0].errors[0].to_string().contains("No such file"), "{:?}", apps.broken);
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,200}") {
        if let Err(errors) = app(&text) {
            prop_assert!(!errors.is_empty());
            errors.iter().for_each(|error| drop(error.to_string()));
        }
    }

    #[test]
    fn no_damage_to_a_good_file_makes_the_parser_panic(at in 0usize..1600, len in 0usize..40, put in "[\\[\\]\"=.{}\\n#0-9a-zü\\\\]{0,6}") {
        let good = include_str!("../examples/apps/web.toml");
        let (from, to) = (at.min(good.len()), (at + len).min(good.len()));
        let text = format!("{}{put}{}", &good[..from], &good[to..]);
        if let Err(errors) = app(&text) {
            prop_assert!(!errors.is_empty());
            for error in &errors {
                prop_assert!(error.line >= 1 && error.line <= text.lines().count() + 1, "{error}");
            }
        }
    }
}
