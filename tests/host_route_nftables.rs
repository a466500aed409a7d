//! The route `nftables` on a real kernel and a real systemd: who gets which users, and what brings the route back.

mod route_support;
mod running_support;
mod support;

use route_support::*;
use running_support::wanted_at_boot;
use support::host::{shown, text};
use support::wait_until;
use support::world::{PATIENCE, World};

const ROUTE: &str = "--port 8080 --route nftables";

fn on_both(hint: &str, story: impl Fn(&World)) {
    route_support::on_both(hint, ROUTE, |_, _| {}, story);
}

#[test]
fn users_go_to_the_live_slot_and_after_a_boot_without_slotd_too() {
    on_both("nft-boot", |world| {
        let checked = world.slotctl("check web");
        assert_eq!(checked.status.code(), Some(0), "{}", shown(&checked));
        assert_eq!(ask_here(world, "127.0.0.1", 8080), REFUSED, "nothing is deployed");

        world.live("web", 8080, "1.0.0");
        expect_everywhere(world, "1.0.0");
        let first = port_of(world, "1.0.0");
        world.live("web", 8080, "2.0.0");
        expect_everywhere(world, "2.0.0");
        let second = port_of(world, "2.0.0");
        assert_ne!(first, second);
        // Probes get there, others don't.
        assert_eq!(ask_here(world, "127.0.0.1", second), "2.0.0");
        assert_eq!(ask_from_others(world, HOST_4, second), DROPPED);
        assert_eq!(ask_from_others(world, HOST_6, second), DROPPED);

        let broken = world.deploy("web", &world.artifact("web", "3.0.0", "health-500"));
        assert_eq!(broken.status.code(), Some(10), "{}", shown(&broken));
        expect_everywhere(world, "2.0.0");

        mask_slotd(world);
        wanted_at_boot(world, "web.service");
        world.host.reboot();
        add_others(world);
        assert_eq!(text(&world.host.sh("ls /run/slotd/route")), "");
        expect_everywhere(world, "2.0.0");
        assert_eq!(ask_from_others(world, HOST_4, port_of(world, "2.0.0")), DROPPED);
        assert_eq!(world.host.ok("systemctl --failed --plain --no-legend"), "");
    });
}

/// The host's own filter: what comes in is dropped but for `rule`.
fn filter(world: &World, rule: &str) {
    let text = format!(
        "flush ruleset\ntable inet filter {{\n chain input {{\n  type filter hook input priority filter; policy drop;\n  \
         ct state established,related accept\n  iif lo accept\n  meta l4proto ipv6-icmp accept\n  {rule}\n }}\n}}\n"
    );
    world.host.write("/etc/nftables.conf", text);
}

#[test]
fn a_firewall_that_is_loaded_anew_is_followed() {
    on_both("nft-flush", |world| {
        world.live("web", 8080, "1.0.0");
        mask_slotd(world);
        filter(world, "tcp dport 8080 accept");
        world.host.ok("systemctl enable --now nftables.service 2>&1 && systemctl restart slotd-route@web.service");
        // It sees the translated port: nobody elsewhere gets through.
        assert_eq!(ask_from_others(world, HOST_4, 8080), DROPPED);
        assert_eq!(ask_here(world, HOST_4, 8080), "1.0.0");
        let warned = world.slotctl("check web");
        assert!(text(&warned).contains("/etc/nftables.conf:4: warning: "), "{}", shown(&warned));

        filter(world, "ct status dnat accept");
        world.host.ok("systemctl reload nftables.service");
        expect_everywhere(world, "1.0.0");
        assert_eq!(ask_from_others(world, HOST_4, port_of(world, "1.0.0")), DROPPED);
        let checked = world.slotctl("check web");
        assert_eq!(checked.status.code(), Some(0), "{}", shown(&checked));
        for how in ["restart", "reload", "reload-or-restart", "restart"] {
            world.host.ok(&format!("systemctl {how} nftables.service"));
            expect_everywhere(world, "1.0.0");
        }
        world.host.ok("systemctl stop nftables.service");
        let state = text(&world.host.sh("systemctl is-active slotd-route@web.service"));
        assert_eq!(state, "inactive", "the rules are flushed, and systemctl says so");
        world.host.ok("systemctl start nftables.service");
        expect_everywhere(world, "1.0.0");
        wanted_at_boot(world, "web.service");
        world.host.reboot();
        add_others(world);
        expect_everywhere(world, "1.0.0");
    });
}

/// 2.0.0 is live, 1.0.0 runs beside it, and slotd is gone: users go where a set says that was written by hand.
#[track_caller]
fn two_that_run(world: &World) {
    world.live("web", 8080, "1.0.0");
    world.live("web", 8080, "2.0.0");
    mask_slotd(world);
    world.host.ok("systemctl start web@1.0.0.service");
}

#[test]
fn a_switch_refuses_nobody_and_leaves_open_connections_where_they_are() {
    on_both("nft-load", |world| {
        two_that_run(world);
        let answered = under_load(world, || {
            for turn in 0..10 {
                switch(world, &[(if turn % 2 == 0 { "1.0.0" } else { "2.0.0" }, 1)]);
            }
            switch(world, &[("1.0.0", 3), ("2.0.0", 1)]);
        });
        assert!(answered.contains_key("1.0.0") && answered.contains_key("2.0.0"), "{answered:?}");

        // Shares are exact: turns, not chance.
        let ask = "for _ in $(seq 40); do curl -s http://127.0.0.1:8080/; done | grep -c 'version 1.0.0 '";
        assert_eq!(world.host.ok(ask), "30");

        switch(world, &[("1.0.0", 1)]);
        world.host.ok("mkfifo /root/line && (ip netns exec others python3 /root/hold.py 192.0.2.1 <> /root/line \
                       >/root/said 2>&1 &)");
        let said = |lines: usize| {
            world.host.ok("echo >/root/line");
            wait_until("an answer on the held connection", PATIENCE, || {
                let said = world.host.ok("cat /root/said");
                if said.lines().count() >= lines { Ok(said) } else { Err(said) }
            })
        };
        assert_eq!(said(1), "1.0.0");
        switch(world, &[("2.0.0", 1)]);
        expect_everywhere(world, "2.0.0");
        assert_eq!(said(2), "1.0.0\n1.0.0", "it stays with its slot");

        // The gate brings up what is live; what was wanted before is past.
        switch(world, &[("1.0.0", 1)]);
        expect_everywhere(world, "1.0.0");
        world.host.ok("systemctl restart web.service");
        expect_everywhere(world, "2.0.0");
        switch(world, &[]);
        assert_eq!(ask_from_others(world, HOST_4, 8080), REFUSED, "nobody is a set too");
    });
}

/// Clients that connect now, here and elsewhere; each waits for longer than a lost first packet takes to be sent again.
const KNOCK: &str = "rm -f /root/knocked.*; for from in '' 'ip netns exec others'; do \
                     (exec >/root/knocked.${#from} 2>&1; $from curl -s -g --max-time 20 http://192.0.2.1:8080/; \
                     echo \" curl $?\") & done";

/// Sees that both were answered by this version.
#[track_caller]
fn expect_let_in(world: &World, version: &str) {
    wait_until("answers for who knocked", PATIENCE, || {
        let said = text(&world.host.sh("cat /root/knocked.*"));
        match said.matches(&format!("version {version} ")).count() == 2 && said.matches(" curl 0").count() == 2 {
            true => Ok(()),
            false => Err(format!("{said}\n{}", text(&world.host.sh("nft list ruleset")))),
        }
    });
}

/// Sees that both wait for an answer to their first packet.
#[track_caller]
fn expect_knocking(world: &World) {
    let knocking = "(ss -Htn state syn-sent; ip netns exec others ss -Htn state syn-sent) | grep -c :8080";
    wait_until("two clients that knock", PATIENCE, || match text(&world.host.sh(knocking)).as_str() {
        "2" => Ok(()),
        said => Err(format!("{said}: {}", text(&world.host.sh("cat /root/knocked.*")))),
    });
}

#[test]
fn who_comes_to_one_that_has_left_is_let_in_by_the_next_and_not_refused() {
    on_both("nft-knock", |world| {
        two_that_run(world);

        // Their first packets are lost; when they send them again users go elsewhere, and the kernel still sends theirs here.
        switch(world, &[("1.0.0", 1)]);
        let (first, second) = (port_of(world, "1.0.0"), port_of(world, "2.0.0"));
        let lossy = "table inet lossy { chain input { type filter hook input priority 100; tcp dport $PORT drop; }; }";
        world.host.ok(&format!("PORT={first}; nft \"{lossy}\""));
        world.host.ok(KNOCK);
        expect_knocking(world);
        switch(world, &[("2.0.0", 1)]);
        world.host.ok("systemctl stop web@1.0.0.service && nft delete table inet lossy");
        expect_let_in(world, "2.0.0");

        // One that is watched ends: who comes then waits until users are sent to the one that stands by.
        world.host.ok("systemctl start web@1.0.0.service");
        let backend = |slot: &str, port| format!(r#"{{"instance":"{slot}","port":{port},"weight":1}}"#);
        let watched = format!(
            r#"{{"format":1,"backends":[{}],"standby":[{}]}}"#,
            backend("1.0.0", first),
            backend("2.0.0", second)
        );
        write_file(world, &watched);
        assert!(apply(world).status.success(), "{}", told(world));
        assert!(told(world).contains("; 2.0.0 on port"), "{}", told(world));
        expect_everywhere(world, "1.0.0");
        world.host.ok("systemctl stop web@1.0.0.service");
        world.host.ok(KNOCK);
        expect_knocking(world);
        switch(world, &[("2.0.0", 1)]);
        expect_let_in(world, "2.0.0");

        // Without one that stands by nobody is left waiting.
        switch(world, &[("1.0.0", 1)]);
        assert_eq!(ask_here(world, "127.0.0.1", 8080), REFUSED);
        assert_eq!(ask_from_others(world, HOST_6, 8080), REFUSED);
    });
}

/// A client that asks from a port of its own, says how the connection ended, and for each line asks once more from there.
const RETURNS: &str = r#"
import socket, sys
def ask():
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("", 31000))
    # Less than the kernel remembers a closed connection for, by itself.
    s.settimeout(8)
    s.connect(("192.0.2.1", 8080))
    s.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    print("sent", flush=True)
    return s.recv(4096).split(b"version ")[1].split(b" ")[0].decode()
while True:
    try: print(ask(), flush=True)
    except OSError as error: print(type(error).__name__, flush=True)
    if not sys.stdin.readline(): break
"#;

#[test]
fn who_was_reset_comes_back_from_the_same_port_and_meets_the_live_slot() {
    on_both("nft-reset", |world| {
        two_that_run(world);
        world.host.write("/root/returns.py", RETURNS);
        let said = |both: &str| {
            wait_until(&format!("{both:?} of both clients"), PATIENCE, || {
                let said = text(&world.host.sh("tail -qn 1 /root/returned.*"));
                if said == both { Ok(()) } else { Err(said) }
            });
        };
        // It takes connections, reads nothing, and dies: those who wait in its queue are reset.
        switch(world, &[("1.0.0", 1)]);
        world.host.ok("systemctl kill -s STOP web@1.0.0.service && mkfifo /root/again.here /root/again.there");
        let returns = "python3 /root/returns.py";
        world.host.ok(&format!(
            "({returns} <>/root/again.here >/root/returned.here 2>&1 &); \
             (ip netns exec others {returns} <>/root/again.there >/root/returned.there 2>&1 &)"
        ));
        said("sent\nsent");
        world.host.ok("systemctl kill -s KILL web@1.0.0.service && systemctl stop web@1.0.0.service");
        said("ConnectionResetError\nConnectionResetError");
        // What the host says of open ones holds here too.
        world.host.ok("echo 4321 >/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_established");
        switch(world, &[("2.0.0", 1)]);
        let rules = world.host.ok("nft list table inet slotd_web");
        assert!(rules.contains("established : 4321") || rules.contains("established : 1h12m1s"), "{rules}");
        world.host.ok("echo >/root/again.here && echo >/root/again.there");
        said("2.0.0\n2.0.0");
    });
}

#[test]
fn deployments_beside_the_live_slot_refuse_nobody() {
    on_both("nft-deploy", |world| {
        deploy_under_load(world);
    });
}

#[test]
fn what_the_helper_does_not_believe_leaves_the_route_as_it_was_and_is_told() {
    on_both("nft-broken", |world| {
        world.live("web", 8080, "1.0.0");
        for (set, words) in [
            (
                r#"{"format":1,"backends":[{"instance":"1.0.0","port":22,"weight":1}]}"#,
                "port 22, outside of 20000-20099",
            ),
            (r#"{"format":1,"backends":[{"instance":"1.0.0","port":20100,"weight":1}]}"#, "port 20100, outside"),
            (r#"{"format":1,"backends":[{"instance":"1.0.0""#, "is no set of backends"),
            (r#"{"format":1,"backends":[{"instance":"1.0.0","port":20001,"weight":0}]}"#, "the weight 0"),
        ] {
            write_file(world, set);
            let applied = apply(world);
            assert!(!applied.status.success(), "{set} was applied");
            assert!(told(world).contains(words), "{words}\n{}", told(world));
            expect_everywhere(world, "1.0.0");
        }
        let status = world.expect_status("web", "the helper's trouble", |status| status["state"] == "degraded");
        assert!(status.to_string().contains("route.helper"), "{status}");
        // A firewall that is reloaded meanwhile takes the route away; the next good set brings it back.
        world.host.ok("nft flush ruleset && systemctl restart slotd-route@web.service || true");
        assert_eq!(ask_here(world, "127.0.0.1", 8080), REFUSED);
        assert_eq!(text(&world.host.sh("systemctl is-failed slotd-route@web.service")), "failed");
        world.live("web", 8080, "2.0.0");
        expect_everywhere(world, "2.0.0");
        let status = world.expect_idle("web");
        assert_eq!(status["state"], "online", "{status}");

        // A helper that can't be had is refused before anything is touched.
        world.host.ok(
            "systemctl stop slotd-route@web.service && cd /etc/systemd/system && mv slotd-route@web.service /root/",
        );
        world.host.ok("ln -s /dev/null /etc/systemd/system/slotd-route@web.service && systemctl daemon-reload");
        let refused = world.deploy("web", &world.artifact("web", "3.0.0", ""));
        assert_eq!(refused.status.code(), Some(11), "{}", shown(&refused));
        assert!(shown(&refused).contains("slotd-route@web.service is masked"), "{}", shown(&refused));
    });
}
