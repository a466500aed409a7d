//! Bad input on a real systemd: files, units, settings, daemons and requests that can't be right. Each is told with its
//! code and what to do, and costs nothing: the live version serves on, and the file stays or is accounted for.

mod support;

use std::process::Output;

use serde_json::Value;
use support::host::{Root, shown};
use support::wait_until;
use support::world::{PATIENCE, World};

const INBOX: &str = "/var/lib/slotd/inbox/web";

/// What was said on both outputs.
fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[track_caller]
fn expect_refusal(output: &Output, exit: i32, parts: &[&str]) {
    assert_eq!(output.status.code(), Some(exit), "{}", shown(output));
    let said = said(output);
    for part in parts {
        assert!(said.contains(part), "{part:?} is missing: {said}");
    }
}

/// Waits until the inbox says of `file` that it was refused with this code: in `status`, and in the file beside it.
/// The file itself is still there.
#[track_caller]
fn expect_refused(world: &World, file: &str, code: &str, words: &str) {
    let of_file = |status: &Value| {
        let refused = status["refused"].as_array().cloned().unwrap_or_default();
        refused.into_iter().find(|item| item["file"] == file).map(|item| item["fault"].clone())
    };
    let is_so = |status: &Value| of_file(status).is_some_and(|fault| fault["code"] == code);
    let status = world.expect_status("web", &format!("{file} refused with {code}"), is_so);
    let message = of_file(&status).map(|fault| fault["message"].to_string()).unwrap_or_default();
    assert!(message.contains(words), "{file}: {words:?} is missing: {message}");
    world.host.ok(&format!("test -e '{INBOX}/{file}'"));
    let fate: Value = serde_json::from_slice(&world.host.read(&format!("{INBOX}/{file}.slotd.json"))).expect("a fate");
    assert_eq!((&fate["state"], &fate["fault"]["code"]), (&"refused".into(), &code.into()), "{fate}");
    let shown = world.slotctl("status web");
    assert!(said(&shown).contains(&format!("({code})")), "{}", said(&shown));
}

/// Waits until the app waits for `what`, with these words of a reason.
#[track_caller]
fn expect_waiting(world: &World, what: &str, words: &str) {
    world.expect_status("web", &format!("{what} waits: {words}"), |status| {
        let items = status["waiting"].as_array().cloned().unwrap_or_default();
        items.iter().any(|item| item["what"] == what && item["reason"].as_str().is_some_and(|it| it.contains(words)))
    });
}

/// Appends a table to the app's settings, as [`World::settings`] does, and waits until slotd goes by it.
fn limit_packed_bytes(world: &World, limit: &str) {
    world.settings("web", &format!("[limits]\npacked_bytes = \"{limit}\"\n"));
}

#[test]
fn a_file_that_is_no_good_is_told_and_stays() {
    let world = World::boot("input-files", Root::Own);
    world.live("web", 8080, "1.0.0");

    // Misnamed.
    world.host.ok(&format!("echo x >{INBOX}/api-2.0.0.tar.zst; echo x >'{INBOX}/web-2 0.tar.zst'"));
    expect_refused(&world, "api-2.0.0.tar.zst", "ingest.misnamed", "doesn't match the pattern");
    expect_refused(&world, "web-2 0.tar.zst", "release.version", "2 0");

    // Truncated: refused, and taken when the whole one comes over it.
    let two = world.artifact("web", "2.0.0", "");
    world.fetch(&two);
    world.host.ok(&format!("head -c 100000 /root/{0} >{INBOX}/{0}", two.file));
    expect_refused(&world, &two.file, "archive.damaged", "");
    assert_eq!(world.slots("web"), ["2.0.0 failed", "1.0.0 active"]);
    world.expect_serving(8080, "1.0.0");
    world.host.ok(&format!("cp /root/{0} {INBOX}/{0}", two.file));
    world.expect_serving(8080, "2.0.0");
    world.expect_idle("web");

    // Hostile: by drop and by hand.
    world
        .host
        .ok("mkdir -p /root/evil/bin && cd /root/evil && echo x >bin/web && echo x >up && chmod 4755 bin/web && \
         tar -cf /root/web-3.0.0.tar bin && tar -cPf /root/web-3.1.0.tar --transform=s,^up,../up, up");
    for (file, code, entry) in
        [("web-3.0.0.tar", "archive.mode", "bin/web"), ("web-3.1.0.tar", "archive.path_escape", "../up")]
    {
        let deployed = world.slotctl(&format!("deploy /root/{file} --app web"));
        expect_refusal(&deployed, 21, &[&format!("({code})"), entry, &format!("next: slotctl lint /root/{file}")]);
        world.host.ok(&format!("cp /root/{file} {INBOX}/"));
        expect_refused(&world, file, code, "");
    }
    world.host.ok("test ! -e /var/lib/slotd/apps/web/up && test ! -e /var/lib/slotd/apps/web/staging/up");

    // Unreadable: another user's, mode 000. The advice that is given helps.
    let four = world.artifact("web", "4.0.0", "");
    world.fetch(&four);
    world.host.ok(&format!(
        "install -o nobody -g slotd-deploy -m 000 /root/{0} {INBOX}/.{0} && mv {INBOX}/.{0} {INBOX}/{0}",
        four.file
    ));
    expect_refused(&world, &four.file, "ingest.unreadable", "chmod -R g+rX");
    world.expect_serving(8080, "2.0.0");
    world.host.ok(&format!("chmod -R g+rX {INBOX}/{0} && chgrp slotd {INBOX}/{0}", four.file));
    world.expect_serving(8080, "4.0.0");
    world.expect_idle("web");

    // Larger than the app allows.
    limit_packed_bytes(&world, "100KiB");
    let five = world.artifact("web", "5.0.0", "");
    world.cp("web", &five);
    expect_refused(&world, &five.file, "archive.limit", "at most 102400");
    expect_refusal(&world.deploy("web", &five), 21, &["(archive.limit)", "102400 bytes", "next: slotctl lint"]);
    limit_packed_bytes(&world, "1GiB");

    // A version that is there, with other bytes.
    let other = world.artifact("web", "2.0.0", "slow-start 1");
    expect_refusal(&world.deploy("web", &other), 21, &["(release.conflict)", "other bytes", "next: slotctl list web"]);
    world.cp("web", &other);
    expect_refused(&world, &other.file, "release.conflict", "give the release another version");
    // The same bytes are no conflict, and no reason to go back to them.
    let again = world.slotctl(&format!("deploy /root/{} --app web", four.file));
    assert_eq!(again.status.code(), Some(0), "{}", shown(&again));

    world.expect_serving(8080, "4.0.0");
    let slots = world.slots("web");
    for good in ["4.0.0 active", "2.0.0 ready", "1.0.0 ready"] {
        assert!(slots.contains(&good.to_owned()), "{slots:?}");
    }
    for folder in ["spool", "staging"] {
        assert_eq!(
            world.host.ok(&format!("ls -A /var/lib/slotd/apps/web/{folder}")),
            "",
            "nothing is left in {folder}"
        );
    }
}

#[test]
fn a_file_that_grows_is_left_alone_until_it_is_whole() {
    let world = World::boot("input-grows", Root::Own);
    world.live("web", 8080, "1.0.0");
    let two = world.artifact("web", "2.0.0", "");
    world.fetch(&two);
    // Whoever copies it stops in the middle until told to go on.
    world.host.ok(&format!(
        "mkfifo /root/go && systemd-run -q --unit=copy sh -c \
         '(head -c 200000 /root/{0}; cat /root/go >/dev/null; tail -c +200001 /root/{0}) >{INBOX}/{0}'",
        two.file
    ));
    expect_waiting(&world, &two.file, "it is being written");
    world.expect_serving(8080, "1.0.0");
    assert_eq!(world.slots("web"), ["1.0.0 active"]);

    // After a restart nothing is known of who writes; an open file that doesn't change looks whole, and is refused as
    // damaged without harm. What follows makes it another file.
    world.host.ok("systemctl restart slotd.service");
    expect_refused(&world, &two.file, "archive.damaged", "");
    world.host.ok("echo >/root/go");
    world.expect_serving(8080, "2.0.0");
    world.expect_idle("web");
    assert_eq!(world.slots("web"), ["2.0.0 active", "1.0.0 ready"]);
    world.host.ok(&format!("test ! -e {INBOX}/{}", two.file));
}

#[test]
fn a_unit_that_is_masked_missing_or_lacks_a_line_is_named() {
    let world = World::boot("input-units", Root::Own);
    world.live("web", 8080, "1.0.0");
    let two = world.artifact("web", "2.0.0", "");
    let unit = "/etc/systemd/system/web@.service";

    // Masked.
    world.host.ok(&format!("mv {unit} /root/kept && ln -s /dev/null {unit} && systemctl daemon-reload"));
    expect_refusal(
        &world.deploy("web", &two),
        11,
        &["(unit.masked)", "web@2.0.0.service is masked", "next: slotctl why web-"],
    );
    world.expect_serving(8080, "1.0.0");
    expect_refusal(
        &world.slotctl("check web"),
        3,
        &["web@.service is masked (unit.masked)", "fix: systemctl unmask web@.service"],
    );
    // Not the release's fault: it isn't quarantined, and is tried again.
    assert_eq!(world.slots("web"), ["2.0.0 ready", "1.0.0 active"]);
    expect_waiting(&world, "2.0.0", "is tried again in");

    let tried = world.json("history web").as_array().map(Vec::len);
    assert!(tried.is_some_and(|tried| tried < 5), "in its own time, not at once and for ever: {tried:?}");

    // Missing.
    world.host.ok(&format!("rm {unit} && systemctl daemon-reload"));
    expect_refusal(&world.slotctl("activate web 2.0.0"), 11, &["(unit.missing)", "web@2.0.0.service"]);
    world.expect_serving(8080, "1.0.0");
    expect_refusal(
        &world.slotctl("check web"),
        3,
        &["web@.service doesn't exist (unit.missing)", "fix: slotctl new web"],
    );

    // Without a line that it needs.
    world.host.ok(&format!("grep -v ^StopPropagatedFrom= /root/kept >{unit} && systemctl daemon-reload"));
    let line = world.host.ok(&format!("grep -n '^.Unit.$' {unit} | cut -d: -f1"));
    let place = format!("{unit}:{line}: error: StopPropagatedFrom=web.service is missing from [Unit] (config.unit)");
    expect_refusal(&world.slotctl("check web"), 3, &[&place, "fix: [Unit] StopPropagatedFrom=web.service"]);

    world.host.ok(&format!("cp /root/kept {unit} && systemctl daemon-reload"));
    assert_eq!(world.slotctl("check web").status.code(), Some(0));
    world.ok("activate web 2.0.0");
    world.expect_serving(8080, "2.0.0");
}

#[test]
fn a_broken_settings_file_leaves_the_last_good_one_in_force() {
    let world = World::boot("input-settings", Root::Own);
    world.live("web", 8080, "1.0.0");
    let file = "/etc/slotd/apps/web.toml";
    let lines: usize =
        world.host.ok(&format!("cp {file} /root/good.toml; wc -l <{file}")).trim().parse().expect("a number");

    // Seen by itself.
    world.host.ok(&format!("echo 'keeep = 5' >>{file}"));
    let place = format!("{file}:{}:", lines + 1);
    let status = wait_until("the broken file in status", PATIENCE, || {
        let status = world.slotctl("status");
        if said(&status).contains(&place) { Ok(status) } else { Err(said(&status)) }
    });
    expect_refusal(&status, 3, &[&place, "keeep", "(config.invalid)"]);
    expect_refusal(
        &world.slotctl("status web"),
        0,
        &["its settings are those from before", &place, "slotctl check web"],
    );
    expect_refusal(&world.slotctl("check"), 3, &[&place, "keeep"]);
    // All goes on by what was in force.
    world.live("web", 8080, "2.0.0");

    // Seen at a reload, which doesn't end the daemon.
    let pid = world.host.ok("systemctl show -P MainPID slotd.service");
    world.host.ok(&format!("{{ echo 'deploy = '; cat /root/good.toml; }} >{file}; systemctl reload slotd.service"));
    wait_until("line 1 in status", PATIENCE, || {
        let status = said(&world.slotctl("status"));
        if status.contains(&format!("{file}:1:")) { Ok(()) } else { Err(status) }
    });
    assert_eq!(world.host.ok("systemctl show -P MainPID slotd.service"), pid);
    world.expect_serving(8080, "2.0.0");

    // Repaired, it is in force; without it the app is left alone, and serves.
    world.host.ok(&format!("sed 's/^deploy = .*/deploy = \"manual\"/' /root/good.toml >{file}"));
    world.expect_status("web", "the repaired file in force", |status| status["deploy"] == "manual");
    wait_until("a status without complaints", PATIENCE, || {
        let status = world.slotctl("status");
        if status.status.success() { Ok(()) } else { Err(said(&status)) }
    });
    world.host.ok(&format!("rm {file}"));
    world.expect_status("web", "orphaned", |status| status["state"] == "orphaned");
    world.expect_serving(8080, "2.0.0");
    // And so it is after a restart; what to do is said wherever one looks.
    world.host.ok("systemctl restart slotd.service");
    let next = "restore /etc/slotd/apps/web.toml; slotctl check web";
    let status = world.expect_status("web", "orphaned still", |status| status["state"] == "orphaned");
    assert_eq!((&status["current"], &status["fallback"]), (&"2.0.0".into(), &"1.0.0".into()), "{status}");
    expect_refusal(&world.slotctl("status web"), 0, &["web: orphaned on 2.0.0", "its settings file is gone", next]);
    expect_refusal(&world.slotctl("status"), 0, &["web  orphaned", next]);
    expect_refusal(&world.slotctl("activate web 1.0.0"), 4, &["the settings file of web is gone (unknown.app)", next]);
    assert_eq!(world.slots("web"), ["2.0.0 active", "1.0.0 ready"]);
    world.expect_serving(8080, "2.0.0");

    // After a restart with a broken file the app isn't known, and serves all the same.
    world.host.ok(&format!("echo x >{file}; systemctl restart slotd.service"));
    expect_refusal(&world.slotctl("status"), 3, &[&format!("{file}:1:"), "(config.invalid)"]);
    expect_refusal(&world.slotctl("status web"), 4, &["(unknown.app)", "slotctl check web"]);
    world.expect_serving(8080, "2.0.0");
    world.host.ok(&format!("cp /root/good.toml {file}"));
    world.expect_status("web", "known again", |status| status["current"] == "2.0.0");
}

#[test]
fn one_deployment_at_a_time_and_who_is_in_the_way_is_named() {
    let world = World::boot("input-requests", Root::Own);
    world.live("web", 8080, "1.0.0");
    world.live("web", 8080, "2.0.0");

    // An app that isn't there.
    let two = world.artifact("web", "3.0.0", "slow-start 5000");
    world.fetch(&two);
    let next = "next: slotctl status";
    expect_refusal(&world.slotctl("status nope"), 4, &["there is no app nope (unknown.app)", next]);
    expect_refusal(&world.slotctl("rollback nope"), 4, &["there is no app nope (unknown.app)", next]);
    let deployed = world.slotctl(&format!("deploy /root/{} --app nope --version 3.0.0", two.file));
    expect_refusal(&deployed, 4, &["there is no app nope (unknown.app)", next]);

    // Two at once: the second names the first, and what to do about it.
    let begun = world.slotctl(&format!("deploy /root/{} --app web --no-wait", two.file));
    assert!(begun.status.success(), "{}", shown(&begun));
    let running = world.expect_status("web", "a deployment under way", |status| {
        ["starting", "proving"].iter().any(|state| status["deployment"]["state"] == *state)
    });
    let id = running["deployment"]["id"].as_str().expect("an id");
    // The old slot is stopped, and that is nothing to worry about.
    world.expect_status("web", "deploying", |status| status["state"] == "deploying");
    expect_refusal(&world.slotctl("status web"), 0, &["web: deploying, 2.0.0 was live", id]);
    expect_refusal(&world.slotctl("status"), 0, &["web  deploying"]);
    for words in ["activate web 1.0.0", "rollback web"] {
        let refused = world.slotctl(words);
        let parts =
            [&format!("deployment {id} is in the way (request.busy)"), "next: slotctl status web; slotctl cancel web"];
        expect_refusal(&refused, 6, &parts);
    }
    expect_refusal(&world.slotctl("prune web"), 6, &[id, "(request.busy)"]);
    world.expect_serving(8080, "3.0.0");
    world.expect_idle("web");
    assert_eq!(world.slots("web"), ["3.0.0 active", "2.0.0 ready", "1.0.0 ready"]);

    // A second daemon, in the same user's name: it touches nothing.
    let pid = world.host.ok("systemctl show -P MainPID slotd.service");
    let second = world.host.run_unit(&["-p", "User=slotd"], &["/usr/bin/slotd"]);
    let parts = ["(daemon.already_running)", "another slotd works on /var/lib/slotd", "systemctl status slotd"];
    expect_refusal(&second, 5, &parts);
    assert_eq!(world.host.ok("systemctl show -P MainPID slotd.service"), pid);
    assert_eq!(world.expect_idle("web")["current"], "3.0.0");
}
