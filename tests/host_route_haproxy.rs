//! The route `haproxy`, on HAProxy 2.6 and 3.0: exact shares, no lost request, and what survives its reloads and a boot.

mod route_support;
mod running_support;
mod support;

use route_support::*;
use running_support::wanted_at_boot;
use support::host::shown;
use support::wait_until;
use support::world::{PATIENCE, World};

const ROUTE: &str = "--port 8080 --route haproxy";

/// The app behind a HAProxy with Debian's settings and the lines that `slotctl new` shows.
fn on_both(hint: &str, story: impl Fn(&World)) {
    route_support::on_both(hint, ROUTE, put_behind_haproxy, story);
}

/// What HAProxy has: "s1 20000 1" for each server with users.
fn servers(world: &World) -> Vec<String> {
    let ask = "import socket\ns=socket.socket(socket.AF_UNIX)\ns.connect('/run/haproxy/admin.sock')\n\
               s.sendall(b'show servers state web\\n')\nf=s.makefile()\n\
               for l in f:\n w=l.split()\n if len(w)>20 and w[0]!='#' and w[7]!='0': print(w[3],w[18],w[7])\n";
    world.host.write("/root/servers.py", ask);
    world.host.ok("python3 /root/servers.py").lines().map(str::to_owned).collect()
}

#[test]
fn deployments_lose_no_request_and_a_boot_without_slotd_brings_the_live_slot() {
    on_both("hap-boot", |world| {
        let checked = world.slotctl("check web");
        assert_eq!(checked.status.code(), Some(0), "{}", shown(&checked));
        deploy_under_load(world);
        mask_slotd(world);
        for how in ["reload", "restart"] {
            world.host.ok(&format!("systemctl {how} haproxy.service"));
            expect_everywhere(world, "2.0.0");
        }
        wanted_at_boot(world, "web.service haproxy.service");
        world.host.reboot();
        add_others(world);
        expect_everywhere(world, "2.0.0");
        assert_eq!(world.host.ok("systemctl --failed --plain --no-legend"), "");
        assert_eq!(servers(world).len(), 2);
    });
}

#[test]
fn shares_are_exact_and_reloads_at_the_same_time_change_nothing() {
    on_both("hap-shares", |world| {
        world.live("web", 8080, "1.0.0");
        world.live("web", 8080, "2.0.0");
        // slotd would stop what isn't live.
        mask_slotd(world);
        world.host.ok("systemctl start web@1.0.0.service");
        switch(world, &[("1.0.0", 9), ("2.0.0", 1)]);
        let canary = count(world, 1000, "2.0.0");
        assert!((90..=110).contains(&canary), "{canary} of 1,000");

        let (one, two) = (port_of(world, "1.0.0"), port_of(world, "2.0.0"));
        under_load(world, || {
            for turn in 0..12 {
                let (version, port) = if turn % 2 == 0 { ("1.0.0", one) } else { ("2.0.0", two) };
                world.host.ok("systemctl reload --no-block haproxy.service");
                switch(world, &[(version, 1)]);
                wait_until("the reload's end", PATIENCE, || {
                    match world
                        .host
                        .ok("systemctl show -P ActiveState haproxy.service; systemctl list-jobs --no-legend")
                        .as_str()
                    {
                        "active" => Ok(()),
                        busy => Err(busy.to_owned()),
                    }
                });
                let seen = servers(world);
                assert!(seen.len() == 1 && seen[0].ends_with(&format!(" {port} 1")), "{seen:?}\n{}", told(world));
            }
        });
    });
}

#[test]
fn who_is_taken_out_ends_what_it_has_begun() {
    on_both("hap-drain", |world| {
        world.host.ok("sed -i 's/^ports.*/&\\ndrain = \"40s\"/' /etc/slotd/apps/web.toml");
        strategy(world, "blue-green", "[soak]\ntime = \"0s\"\n");
        let two = world.artifact("web", "2.0.0", "");
        world.live("web", 8080, "1.0.0");
        // HAProxy keeps connections to the slot that no user has: nothing to wait for.
        assert_eq!(count(world, 50, "1.0.0"), 50);
        let slow = std::thread::scope(|scope| {
            let slow = scope.spawn(|| world.host.ok("curl -sS -m 60 http://127.0.0.1:8080/slow/15000"));
            wait_until("the request at work", PATIENCE, || {
                match world.host.ok("ss -Htn state established dport = :8080 | wc -l").as_str() {
                    "0" => Err("nobody".to_owned()),
                    _ => Ok(()),
                }
            });
            let deployed = world.deploy("web", &two);
            assert_eq!(deployed.status.code(), Some(0), "{}", shown(&deployed));
            slow.join().expect("an answer")
        });
        assert!(slow.starts_with("version 1.0.0 "), "{slow}");
        assert_eq!(count(world, 50, "2.0.0"), 50);
        world.live("web", 8080, "3.0.0");
        let drains = |deployment: &serde_json::Value| {
            let steps = deployment["steps"].as_array().expect("steps").clone();
            let drains = steps.iter().filter(|step| step["state"] == "draining").map(|step| step["took_ms"].as_u64());
            drains.map(|took| took.unwrap_or_default()).max().unwrap_or_else(|| panic!("{deployment}"))
        };
        let history = world.json("history web");
        let (last, before) = (drains(&history[0]), drains(&history[1]));
        assert!(before >= 2_000, "the request at work was waited for: {before} ms");
        assert!(last < 2_000, "{last} ms for connections that no user has");
        let counted = |deployment: &serde_json::Value| {
            let connections = &deployment["measured"]["connections"];
            let counts = ["drained", "cut"].map(|key| connections[key].as_u64());
            counts.map(|count| count.unwrap_or_else(|| panic!("{deployment}")))
        };
        // slotd asks the users' address itself, and such a question may be at work when the drain begins.
        let [ended, cut] = counted(&history[1]);
        assert!((1..=2).contains(&ended) && cut == 0, "{ended} drained and {cut} cut: the request at work alone");
        let [idle, cut] = counted(&history[0]);
        assert!(idle <= 1 && cut == 0, "{idle} drained and {cut} cut of connections that no user has");
    });
}

#[test]
fn a_proxy_that_is_not_set_up_or_down_is_refused_before_anything_is_touched() {
    on_both("hap-broken", |world| {
        world.live("web", 8080, "1.0.0");
        world.host.ok("systemctl stop haproxy.service");
        let refused = world.deploy("web", &world.artifact("web", "2.0.0", ""));
        assert_eq!(refused.status.code(), Some(11), "{}", shown(&refused));
        assert!(shown(&refused).contains("HAProxy doesn't say how its backend web stands"), "{}", shown(&refused));

        world.host.ok("sed -i 's/server-template s 1-8/server-template s 1-4/' /etc/haproxy/haproxy.cfg");
        let started = world.host.sh("systemctl start haproxy.service && systemctl restart slotd-route@web.service");
        assert!(!started.status.success());
        assert!(
            told(world).contains("needs `server-template s 1-8 127.0.0.1:1 weight 0`: 4 of them are there"),
            "{}",
            told(world)
        );
        world.host.ok("sed -i 's/server-template s 1-4/server-template s 1-8/' /etc/haproxy/haproxy.cfg");
        world.host.ok("systemctl restart haproxy.service && systemctl restart slotd-route@web.service");
        expect_everywhere(world, "1.0.0");
        // A server that somebody put into maintenance is the slot's all the same.
        world
            .host
            .ok("python3 -c \"import socket; s=socket.socket(socket.AF_UNIX); s.connect('/run/haproxy/admin.sock'); \
             s.sendall(b'set server web/s1 state maint\\n'); s.recv(100)\"");
        world.host.ok("systemctl reload slotd-route@web.service");
        expect_everywhere(world, "1.0.0");
        write_file(world, r#"{"format":1,"backends":[{"instance":"1.0.0","port":22,"weight":1}]}"#);
        assert!(!apply(world).status.success());
        expect_everywhere(world, "1.0.0");
    });
}
