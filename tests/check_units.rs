//! `slotctl check --root DIR` on sites that `slotctl new` wrote and that have one fault each: tests/broken/units.
//!
//! The first line of a case holds what is expected: `# expect: FILE:LINE: SEVERITY: WORDS | …`, one for each finding,
//! no more and no less; a finding about a file as a whole has no line. Files are named from /etc/systemd/system on. The rest says what was done to the site:
//!
//! | key | |
//! |---|---|
//! | `file` | the unit that is changed, below /etc/systemd/system |
//! | `replace`, `with` | the first such text in it by another |
//! | `text` | it is written anew with this text; empty: it is masked |
//! | `remove` | it is removed |
//! | `app` | text that is added to the app's own file, before `slotctl new` makes polkit's rule from it |
//! | `top` | the same, before its first line |
//! | `stale_rule` | that rule is as it was before |

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde::Deserialize;
use tempfile::TempDir;

/// What was done to a site.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    file: Option<PathBuf>,
    replace: Option<String>,
    with: Option<String>,
    text: Option<String>,
    #[serde(default)]
    remove: bool,
    #[serde(default)]
    app: String,
    #[serde(default)]
    top: String,
    #[serde(default)]
    stale_rule: bool,
    #[serde(default)]
    new: Vec<String>,
}

/// Below a folder of its own, what `slotctl new web --port 8080` writes.
struct Site(TempDir);

impl Site {
    fn new(words: &[String]) -> Site {
        let site = Site(tempfile::tempdir().expect("folder"));
        site.write(words);
        site
    }

    /// What it finds then is no matter here.
    fn write(&self, words: &[String]) {
        let mut all = vec!["new", "web", "--exec", "/srv/web/bin/web", "--port", "8080", "--write", "--force"];
        all.extend(words.iter().map(String::as_str));
        let made = self.slotctl(&all);
        assert!(matches!(made.status.code(), Some(0 | 3)), "{}", String::from_utf8_lossy(&made.stderr));
    }

    fn slotctl(&self, words: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_slotctl"));
        command.args(words).arg("--root").arg(self.0.path()).output().expect("slotctl runs")
    }

    fn unit(&self, name: &Path) -> PathBuf {
        self.0.path().join("etc/systemd/system").join(name)
    }

    fn spoil(&self, case: &Case) {
        let app = self.0.path().join("etc/slotd/apps/web.toml");
        let settings = fs::read_to_string(&app).expect("the app's file");
        fs::write(&app, case.top.clone() + &settings + &case.app).expect("written");
        if !case.stale_rule {
            self.write(&case.new);
        }
        let Some(name) = &case.file else { return };
        let unit = self.unit(name);
        match (&case.replace, &case.with, &case.text, case.remove) {
            (Some(replace), Some(with), None, false) => {
                let text = fs::read_to_string(&unit).expect("a unit of the site");
                assert!(text.contains(replace), "{replace:?} is not in {}:\n{text}", name.display());
                fs::write(&unit, text.replacen(replace, with, 1)).expect("written");
            }
            (None, None, Some(text), false) => {
                fs::create_dir_all(unit.parent().expect("folder")).expect("folder");
                fs::write(&unit, text).expect("written");
            }
            (None, None, None, true) => fs::remove_file(&unit).expect("removed"),
            _ => panic!("replace and with, or text, or remove: {case:?}"),
        }
    }

    /// The lines of findings as they are shown, without the root; and the exit status.
    fn check(&self) -> (Vec<String>, Option<i32>) {
        let output = self.slotctl(&["check"]);
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        let root = format!("{}/", self.0.path().display());
        let is_finding = |line: &&str| line.contains(": error: ") || line.contains(": warning: ");
        let found = text.lines().filter(is_finding).map(|line| line.replace(&root, "/"));
        (found.collect(), output.status.code())
    }
}

/// What is wrong with how `check` takes the case.
fn judge(file: &Path) -> Result<(), String> {
    let text = fs::read_to_string(file).expect("readable");
    let first = text.lines().next().and_then(|line| line.strip_prefix("# expect: "));
    let expected: Vec<&str> = first.ok_or("the first line is no `# expect: `")?.split(" | ").collect();
    let case: Case = toml::from_str(&text).map_err(|error| error.to_string())?;
    let site = Site::new(&case.new);
    site.spoil(&case);
    let (found, status) = site.check();
    let fits = |(expected, found): (&&str, &String)| {
        let (place, words) = expected.split_once(": ").expect("FILE:LINE: SEVERITY: WORDS");
        let (severity, words) = words.split_once(": ").expect("SEVERITY: WORDS");
        let place = Path::new("/etc/systemd/system").join(place);
        found.starts_with(&format!("{}: {severity}: ", place.display())) && found.contains(words)
    };
    let all = expected.len() == found.len() && expected.iter().zip(&found).all(fits);
    match all && status == Some(3) {
        true => Ok(()),
        false => Err(format!("expected {expected:#?}\nfound (exit {status:?}) {found:#?}")),
    }
}

#[test]
fn what_new_writes_has_nothing_wrong() {
    for words in ["", "--health /health", "--accept signal", "--accept signal --health /health"] {
        let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
        assert_eq!(Site::new(&words).check(), (Vec::new(), Some(0)), "{words:?}");
    }
}

/// Settings that are there are the administrator's; polkit's rule follows them.
#[test]
fn new_leaves_settings_that_are_there_and_makes_the_rule_from_them() {
    let site = Site::new(&[]);
    let settings = site.0.path().join("etc/slotd/apps/web.toml");
    let probed =
        fs::read_to_string(&settings).expect("settings") + "[[probe]]\nkind = \"unit\"\nname = \"web-check@\"\n";
    fs::write(&settings, &probed).expect("written");
    let new = |words: &[&str]| {
        let output = site.slotctl(&[&["new", "web", "--exec", "/srv/web/bin/web", "--port", "8080"], words].concat());
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    for (words, parts) in [
        (&[][..], &["(web-check@[A-Za-z0-9]", "web.toml is left as it is"][..]),
        (&["--write", "--force"], &["50-slotd-web.rules\n", "web.toml is left as it is"]),
    ] {
        let said = new(words);
        assert!(parts.iter().all(|part| said.contains(part)), "{words:?}: {said}");
    }
    assert_eq!(fs::read_to_string(&settings).expect("settings"), probed);
    let (found, _) = site.check();
    assert!(found.len() == 1 && found[0].contains("web-check@.service doesn't exist"), "{found:?}");
}

#[test]
fn each_fault_is_found_at_its_line() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broken/units");
    let entries = fs::read_dir(&folder).expect("tests/broken/units");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("entry").path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    let judged = files.iter().filter_map(|file| Some((file.file_name()?.to_string_lossy(), judge(file).err()?)));
    let wrong: Vec<String> = judged.map(|(name, why)| format!("{name}: {why}")).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn the_rule_alone_is_what_all_files_anew_would_have_and_touches_no_other() {
    for words in [&["--health", "/"][..], &["--route", "nftables"], &["--accept", "signal"]] {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let site = Site::new(&words);
        let (app, unit) = (site.0.path().join("etc/slotd/apps/web.toml"), site.unit(Path::new("web@.service")));
        let rule = site.0.path().join("etc/polkit-1/rules.d/50-slotd-web.rules");
        let read = |path: &Path| fs::read_to_string(path).expect("readable");
        let settings = "on_result = [\"stuck\"]\n".to_owned()
            + &read(&app)
            + "[hooks]\ndeploy = \"web-migrate@\"\nbuild = \"web-build@\"\n";
        fs::write(&app, settings).expect("written");
        let changed = read(&unit) + "# changed by hand\n";
        fs::write(&unit, &changed).expect("written");

        let shown = site.slotctl(&["new", "web", "--rule"]);
        assert_eq!(shown.status.code(), Some(0), "{}", String::from_utf8_lossy(&shown.stderr));
        assert!(String::from_utf8_lossy(&shown.stdout).contains("slotd-lend@web:web-build@"));
        assert!(!read(&rule).contains("web-build@"), "it is shown, and not written");
        site.slotctl(&["new", "web", "--rule", "--write"]);
        let alone = read(&rule);
        assert!(alone.contains("web-migrate@") && alone.contains("slotd-notify@web"), "{alone}");
        assert_eq!(read(&unit), changed);
        site.write(&words);
        assert_eq!(read(&rule), alone);
    }
    let site = Site::new(&[]);
    let refused = site.slotctl(&["new", "other", "--rule"]);
    assert_ne!(refused.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("other.toml"));
}
