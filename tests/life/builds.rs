//! A build for the rows that have one: a unit that does what the release says in its `build.sh`.

use crate::support::world::World;

/// The unit, whose service section has these lines beside.
pub fn unit(more: &str) -> String {
    format!(
        "[Unit]\nDescription=web: build of %i\n\n\
         [Service]\nType=oneshot\nUser=web-build\nSlice=slotd-build.slice\nPrivateNetwork=yes\n\
         EnvironmentFile=/var/lib/slotd/apps/web/builds/%i/env\n\
         BindPaths=/var/lib/slotd/apps/web/builds/%i/tree:/srv/web\nWorkingDirectory=/srv/web\n\
         ExecStart=/bin/sh -ec \"if [ -e build.sh ]; then . ./build.sh; fi\"\nTimeoutStartSec=120s\nTimeoutStopSec=5s\n\
         NoNewPrivileges=yes\nProtectSystem=strict\nReadWritePaths=/var/tmp\nProtectHome=yes\n{more}"
    )
}

/// Gives the app `web` a build, beside these other hooks, and slotd the leave for it.
#[track_caller]
pub fn add_to(world: &World, hooks: &str) {
    world.host.ok("useradd --system --no-create-home web-build");
    world.host.write("/etc/systemd/system/web-build@.service", unit(""));
    world.settings("web", &format!("[hooks]\nbuild = \"web-build@\"\n{hooks}"));
    // polkit's rule follows the settings.
    let new = "new web --rule --write";
    world.ok(new);
}

/// The same, of an app without others.
#[track_caller]
pub fn add(world: &World) {
    add_to(world, "");
}

/// A release, packed on the host, that is built by this script.
#[track_caller]
pub fn release(world: &World, version: &str, script: &str) -> String {
    world.make_with("web", version, &[("build.sh", script)])
}

/// A file of a slot's tree.
#[track_caller]
pub fn file(world: &World, slot: &str, file: &str) -> String {
    let tree = world.json(&format!("inspect web {slot}"))["tree_path"].as_str().expect("a tree").to_owned();
    world.host.ok(&format!("cat {tree}/{file}"))
}

/// What is of a build that is over: no folder, no unit.
#[track_caller]
pub fn expect_cleared(world: &World) {
    let left = "ls /var/lib/slotd/apps/web/builds; systemctl list-units --all --plain --no-legend 'web-build@*' 'slotd-lend@*'";
    assert_eq!(world.host.ok(left), "");
}
