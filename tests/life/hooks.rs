//! Hooks for the rows that have some: units which write down that they ran, and beside whom, and do what the release says.

use crate::support::world::{Artifact, World};

/// What the hooks of an app run. The release may have a script for each of them, in a folder `hooks`.
const PROGRAM: &str = r#"#!/bin/sh
up() {
    systemctl list-units --plain --no-legend 'web@*.service' | sed -n 's/^web@\([^ ]*\)\.service .* active .*/\1/p' | tr '\n' ' '
}
echo "$SLOTD_PHASE $SLOTD_SLOT of $(cat /srv/web/VERSION), up: $(up)" | sed 's/ *$//' >>/var/tmp/hooks.log
script=/srv/web/hooks/$SLOTD_PHASE
if [ -e "$script" ]; then . "$script"; fi
"#;

/// The unit of the hook at a point.
pub fn unit(point: &str) -> String {
    format!(
        "[Unit]\nDescription=web: {point} hook of %i\nAssertPathExists=/var/lib/slotd/apps/web/instances/%i\n\n\
         [Service]\nType=oneshot\nUser=web\nEnvironment=SLOTD_PHASE={point}\n\
         EnvironmentFile=/var/lib/slotd/apps/web/instances/%i/env\n\
         BindReadOnlyPaths=/var/lib/slotd/apps/web/instances/%i/root:/srv/web\n\
         ExecStart=/usr/local/bin/web-hook\nTimeoutStartSec=120s\nTimeoutStopSec=5s\nNoNewPrivileges=yes\n"
    )
}

/// Gives the app `web` a hook at each of these points, and slotd the leave to run them.
#[track_caller]
pub fn add(world: &World, points: &[&str]) {
    world.host.write("/usr/local/bin/web-hook", PROGRAM);
    world.host.ok("chmod 755 /usr/local/bin/web-hook && install -m 0666 /dev/null /var/tmp/hooks.log");
    for point in points {
        world.host.write(&format!("/etc/systemd/system/web-{}@.service", point.replace('_', "-")), unit(point));
    }
    world.settings("web", &format!("[hooks]\n{}", lines(points)));
    // polkit's rule follows the settings.
    let new = "new web --rule --write";
    world.ok(new);
}

/// What the settings say of them.
pub fn lines(points: &[&str]) -> String {
    points.iter().map(|point| format!("{point} = \"web-{}@\"\n", point.replace('_', "-"))).collect()
}

/// A release whose hook at a point is this script.
#[track_caller]
pub fn release(world: &World, version: &str, scripts: &[(&str, &str)]) -> Artifact {
    world.artifact_with("web", version, ".tar.zst", |tree| {
        std::fs::create_dir_all(tree.join("hooks")).expect("a folder");
        for (point, script) in scripts {
            std::fs::write(tree.join("hooks").join(point), script).expect("written");
        }
    })
}

/// A release that says what it does to the data, whose hooks keep the form of the data in a file, and which behaves so.
#[track_caller]
pub fn migrating(world: &World, version: &str, migration: &str, behaviour: &str, restore: &str) -> Artifact {
    world.host.ok("[ -d /var/tmp/data ] || { install -d -o web /var/tmp/data && runuser -u web -- sh -c 'echo 1 >/var/tmp/data/form'; }");
    world.artifact_with("web", version, ".tar.zst", |tree| {
        let write = |path: &str, text: &str| {
            let path = tree.join(path);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(path, text).expect("written");
        };
        write(".slotd/release.toml", &format!("migration = \"{migration}\"\n"));
        write("hooks/snapshot", "cp /var/tmp/data/form /var/tmp/data/saved\n");
        write("hooks/deploy", &format!("echo {version} >/var/tmp/data/form\n"));
        write("build.sh", "echo built as $SLOTD_VERSION >made\n");
        write("hooks/restore", &format!("cp /var/tmp/data/saved /var/tmp/data/form\n{restore}\n"));
        if !behaviour.is_empty() {
            write("BEHAVIOUR", behaviour);
        }
    })
}

/// The form of the data: the version that migrated it last.
#[track_caller]
pub fn form(world: &World) -> String {
    world.host.ok("cat /var/tmp/data/form")
}

/// What the hooks wrote down since it was asked last: "deploy 2.0.0 of 2.0.0, up: 1.0.0".
#[track_caller]
pub fn ran(world: &World) -> Vec<String> {
    let log = world.host.ok("cat /var/tmp/hooks.log && : >/var/tmp/hooks.log");
    log.lines().map(str::to_owned).collect()
}
