//! README's chapter on the life of a release, as it stands there, on a real systemd: the settings and units that it tells
//! people to write are written, and its commands are run.

mod support;

use std::os::unix::fs::PermissionsExt as _;

use support::host::{Root, text};
use support::wait_until;
use support::world::{PATIENCE, World};

/// What the hooks of a release run.
const HOOK: &str = "#!/bin/sh\necho $SLOTD_PHASE $SLOTD_VERSION >>/var/tmp/hooks\n";

/// What its build does.
const MAKEFILE: &str = "release:\n\techo built for $(NODE_ENV) >built\n";

/// A section of the chapter.
struct Section {
    title: String,
    /// What stands in fences, with the language that is named there.
    blocks: Vec<(String, String)>,
}

/// The sections of the chapter.
fn sections() -> Vec<Section> {
    let readme = include_str!("../README.md");
    let (_, chapter) = readme.split_once("\n## The life of a release\n").expect("the chapter");
    let (chapter, _) = chapter.split_once("\n## ").expect("its end");
    let section = |text: &str| {
        let (title, text) = text.split_once('\n').expect("a title");
        // Every other part stands between fences.
        let fenced = text.split("```").skip(1).step_by(2);
        let block = |block: &str| {
            let (kind, text) = block.split_once('\n').expect("lines");
            (kind.to_owned(), text.to_owned())
        };
        Section { title: title.to_owned(), blocks: fenced.map(block).collect() }
    };
    chapter.split("\n### ").skip(1).map(section).collect()
}

/// The file that a block is of, which its first line names.
#[track_caller]
fn path(block: &str) -> &str {
    let first = block.lines().next().unwrap_or_default();
    first.strip_prefix("# ").filter(|path| path.starts_with('/')).unwrap_or_else(|| panic!("no path: {block}"))
}

/// Settings with others beside them, or in their place.
fn merge(into: &mut toml::Table, from: toml::Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(toml::Value::Table(into)), toml::Value::Table(from)) => merge(into, from),
            (_, value) => drop(into.insert(key, value)),
        }
    }
}

/// A line of a block, which has to succeed; but where its comment says how it ends, so.
fn command(line: &str) -> String {
    let (command, comment) = line.split_once(" # ").unwrap_or((line, ""));
    if let Some(code) = comment.strip_prefix("refused: ") {
        return format!(
            "if said=$({command} 2>&1); then exit 1; fi; echo \"$said\"; case $said in *'({code})'*) ;; *) exit 1 ;; esac\n"
        );
    }
    match comment.strip_prefix("ends with ").and_then(|rest| rest.split_once(':')) {
        Some((status, _)) => format!("status=0; {command} || status=$?; [ $status = {status} ]\n"),
        None => format!("{line}\n"),
    }
}

/// Does what a block says, and returns what was shown.
#[track_caller]
fn follow(world: &World, kind: &str, block: &str) -> String {
    match kind {
        "sh" => {
            let commands: String = block.lines().map(command).collect();
            let shown = world.host.ok(&format!("cd /root; set -e\n{commands}"));
            eprintln!("{block}\n{shown}\n");
            return shown;
        }
        "ini" => world.host.write(path(block), block),
        "toml" => {
            let parsed = |text: &str| text.parse::<toml::Table>().unwrap_or_else(|error| panic!("{text}: {error}"));
            let before = world.host.read(path(block));
            let mut settings = parsed(std::str::from_utf8(&before).expect("text"));
            merge(&mut settings, parsed(block));
            let app = path(block).trim_end_matches(".toml").rsplit('/').next().expect("its name");
            let settings_of = || world.ok(&format!("cat {app}"));
            let gone_by = settings_of();
            world.host.write(path(block), settings.to_string());
            wait_until("slotd to go by it", PATIENCE, || match settings_of() {
                now if now == gone_by => Err(now),
                _ => Ok(()),
            });
        }
        kind => panic!("nobody knows what to do with {kind}: {block}"),
    }
    String::new()
}

/// What the commands of a section have to show, and a line of shell that holds after them.
const OUTCOMES: [(&str, &[&str], &str); 7] = [
    (
        "Settings",
        &["port 9191 in place of nftables, port 9090", "none expected", "1.0.0@r2 is live"],
        "curl -s http://127.0.0.1:9191/ | grep '^version 1.0.0 '; ! curl -s -m 5 http://127.0.0.1:9090/",
    ),
    (
        "Builds",
        &["make: echo built for production", "it ended well"],
        "grep -r 'built for production' /var/lib/slotd/apps/web/instances/4.0.0/root/built",
    ),
    (
        "Hooks",
        &["web-migrate@3.0.0.service, deploy: once", "run the post_deploy hook web-announce@5.0.0.service"],
        "[ \"$(xargs </var/tmp/hooks)\" = 'preflight 5.0.0 deploy 5.0.0 post_deploy 5.0.0' ]; : >/var/tmp/hooks",
    ),
    (
        "Data that slots share",
        &["5.0.0     ready, fallback, barred", "slotctl activate web 5.0.0 --force", "5.0.0 is live"],
        "[ \"$(xargs </var/tmp/hooks)\" = 'preflight 6.0.0 snapshot 6.0.0 deploy 6.0.0 post_deploy 6.0.0' ]",
    ),
    ("To tell somebody", &["5.0.0@r2 is live"], ""),
    (
        "Apps that need others",
        &["needs       api online, 1.0.0 at 127.0.0.1:8081; 2.0.0 goes live first", "api online, 2.0.0 at"],
        "curl -s http://127.0.0.1:8081/ | grep '^version 2.0.0 '",
    ),
    ("Units beside an app", &["\nactive"], "[ $(journalctl -u web-metrics | grep -c 'Started web-metrics') = 1 ]"),
];

/// A mail has come, by the unit of the example.
#[track_caller]
fn expect_mail(world: &World) {
    wait_until("a mail", PATIENCE, || match text(&world.host.sh("journalctl -o cat -t sendmail")) {
        mail if mail.contains("deploy 5.0.0@r2 over 5.0.0: done\n") && mail.contains("to see the mail") => Ok(()),
        mail => Err(format!("{mail:?}; {}", text(&world.host.sh("journalctl -n 50 -u 'slotd-notify@*'")))),
    });
}

/// A release as the chapter takes it for given, in the folder where the commands are run.
#[track_caller]
fn release(world: &World, app: &str, version: &str) {
    world.fetch(&world.artifact_with(app, version, ".tar.zst", |tree| {
        if app != "web" {
            std::fs::copy(tree.join("bin/web"), tree.join("bin").join(app)).expect("copied");
            return;
        }
        std::fs::write(tree.join("Makefile"), MAKEFILE).expect("written");
        for name in ["preflight", "migrate", "announce", "snapshot", "restore"] {
            let program = tree.join("bin").join(name);
            std::fs::write(&program, HOOK).expect("written");
            std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("set");
        }
    }));
}

/// What the reader of the chapter has anyway.
#[track_caller]
fn prepare(world: &World) {
    world.host.push(concat!(env!("CARGO_MANIFEST_DIR"), "/examples"), "/root/examples");
    world.host.write("/usr/sbin/sendmail", "#!/bin/sh\nexec systemd-cat -t sendmail\n");
    world.host.write("/usr/local/bin/web-metrics", "#!/bin/sh\nexec sleep infinity\n");
    world
        .host
        .ok("chmod 0755 /usr/sbin/sendmail /usr/local/bin/web-metrics && install -m 0666 /dev/null /var/tmp/hooks");
    for (app, versions) in [("web", 1..=6), ("api", 1..=2), ("shop", 1..=1)] {
        versions.for_each(|version| release(world, app, &format!("{version}.0.0")));
    }
    for version in ["1.0.0", "2.0.0", "3.0.0"] {
        world.ok(&format!("deploy /root/web-{version}.tar.zst --app web"));
    }
}

#[test]
fn the_commands_of_the_chapter_do_what_it_says() {
    let world = World::boot("readme", Root::Own);
    prepare(&world);
    let sections = sections();
    for (title, ..) in OUTCOMES {
        assert!(sections.iter().any(|section| section.title == title), "{title} isn't there");
    }
    for Section { title, blocks } in sections {
        eprintln!("### {title}\n");
        assert!(blocks.iter().any(|(kind, _)| kind == "sh"), "{title} has no commands");
        let mut shown = String::new();
        for (kind, block) in &blocks {
            shown += &follow(&world, kind, block);
            world.expect_idle_but_staged("web");
        }
        assert_eq!(world.ok("check web"), "nothing is wrong", "{title}");
        for (_, parts, line) in OUTCOMES.iter().filter(|outcome| outcome.0 == title) {
            for part in *parts {
                assert!(shown.contains(part), "{title} doesn't show {part:?}");
            }
            world.host.ok(&format!("set -e; {line}"));
        }
        if title == "To tell somebody" {
            expect_mail(&world);
        }
        world.expect_answering(8080);
    }
}
