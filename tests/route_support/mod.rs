//! What the stories of routes with own ports share: the app, clients from another network, sets written by hand, load.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::process::Output;

use crate::support::host::{Root, shown, text};
use crate::support::wait_until;
use crate::support::world::{PATIENCE, World};

/// The host's addresses in the network of the others; the public port is 8080.
pub const HOST_4: &str = "192.0.2.1";
pub const HOST_6: &str = "[2001:db8::1]";

/// A client that makes a new connection for each request, so many seconds after the one before, until its file `stop` is
/// there; then it tells how many were answered by whom, and what failed: `{"answered":{"1.0.0":12},"failed":[]}`. What
/// fails also comes at once into the file `stop.failed`.
const LOAD: &str = r#"
import json, os, socket, sys, time
host, stop, pause = sys.argv[1:]
answered, failed = {}, []
while not os.path.exists(stop):
    try:
        s = socket.create_connection((host, 8080), timeout=10)
        s.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = b""
        while True:
            part = s.recv(4096)
            if not part: break
            answer += part
        s.close()
        version = answer.split(b"version ")[1].split(b" ")[0].decode()
        answered[version] = answered.get(version, 0) + 1
    except Exception as error:
        failed.append("%.3f %r" % (time.monotonic(), error))
        with open(stop + ".failed", "a") as told: told.write(failed[-1] + "\n")
    if sum(answered.values()) == 1: open(stop + ".begun", "w").close()
    time.sleep(float(pause))
print(json.dumps({"answered": answered, "failed": failed}))
"#;

/// Opens one connection and asks on it for the version, each time a line comes in.
const HOLD: &str = r#"
import socket, sys
s = socket.create_connection((sys.argv[1], 8080), timeout=10)
for line in sys.stdin:
    s.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    print(s.recv(4096).split(b"version ")[1].split(b" ")[0].decode(), flush=True)
"#;

/// A host with slotd and the app `web`, made by `slotctl new` with these arguments, and a network of others.
pub fn boot(hint: &str, root: Root, arguments: &str) -> World {
    let world = World::installed(hint, root);
    world.host.ok("systemctl enable --now slotd.socket slotd.service");
    world.add_app_with("web", arguments);
    supply(&world);
    world
}

/// The story on both systems, of the app made with these arguments and put behind what stands in front of it.
pub fn on_both(hint: &str, arguments: &str, front: impl Fn(&World, &str), story: impl Fn(&World)) {
    for root in [Root::Own, Root::Trixie] {
        let world = boot(hint, root, arguments);
        front(&world, arguments);
        story(&world);
    }
}

/// The clients, and the network of others.
pub fn supply(world: &World) {
    world.host.write("/root/load.py", LOAD);
    world.host.write("/root/hold.py", HOLD);
    add_others(world);
}

/// A HAProxy with Debian's settings and the lines that `slotctl new` shows, for the app made with these arguments.
#[track_caller]
pub fn put_behind_haproxy(world: &World, arguments: &str) {
    let lines = by_hand(world, arguments);
    let (global, sections) = lines.split_at(lines.find("frontend").expect("a frontend"));
    let config = String::from_utf8(world.host.read("/etc/haproxy/haproxy.cfg")).expect("text");
    let (before, after) = config.split_once("\n\tstats timeout").expect("Debian's settings");
    let config = format!("{before}\n{global}\n\tstats timeout{after}\n{sections}");
    // Of both families.
    world.host.write("/etc/haproxy/haproxy.cfg", config.replace("bind :8080", "bind :::8080 v4v6"));
    world.host.ok("systemctl restart haproxy.service");
}

/// An nginx with Debian's settings and the file that `slotctl new` shows.
#[track_caller]
pub fn put_behind_nginx(world: &World, arguments: &str) {
    world.host.write("/etc/nginx/conf.d/web.conf", by_hand(world, arguments));
    world.host.ok("rm -f /etc/nginx/sites-enabled/* && systemctl restart slotd-route@web.service && systemctl restart nginx.service");
}

/// What `slotctl new` wants to be added by hand, of the app `web` made with these arguments.
#[track_caller]
pub fn by_hand(world: &World, arguments: &str) -> String {
    let plan = world.json(&format!("new web --exec /srv/web/bin/web {arguments} --health /health"));
    plan["by_hand"][0]["contents"].as_str().unwrap_or_else(|| panic!("{plan}")).to_owned()
}

/// slotd is gone, and doesn't come back.
pub fn mask_slotd(world: &World) {
    world.host.ok("systemctl mask --now slotd.service slotd.socket 2>&1");
}

/// Blue-green, a broken candidate, rolling, and back: nobody is refused, and the candidate has no users.
#[track_caller]
pub fn deploy_under_load(world: &World) {
    strategy(world, "blue-green", "[[unit]]\nname = \"web@\"\ninstances = 2\n[soak]\ntime = \"1s\"\n");
    world.live("web", 8080, "1.0.0");
    let answered = under_load(world, || {
        world.live("web", 8080, "2.0.0");
        let broken = world.deploy("web", &world.artifact("web", "3.0.0", "health-500"));
        assert_eq!(broken.status.code(), Some(10), "{}", shown(&broken));
        strategy(world, "rolling", "");
        world.live("web", 8080, "4.0.0");
        let back = world.slotctl("rollback web");
        assert_eq!(back.status.code(), Some(0), "{}", shown(&back));
    });
    for version in ["1.0.0", "2.0.0", "4.0.0"] {
        assert!(answered.contains_key(version), "{answered:?}");
    }
    assert!(!answered.contains_key("3.0.0"), "a candidate has no users: {answered:?}");
    expect_everywhere(world, "2.0.0");
    let set = String::from_utf8(world.host.read("/run/slotd/route/web")).expect("text");
    assert_eq!(set.matches("\"instance\": \"2.0.0").count(), 2, "{set}");
    assert_eq!(set.matches("\"instance\"").count(), 2, "{set}");
}

/// How many of so many requests, each by a connection of its own, this version answers.
#[track_caller]
pub fn count(world: &World, requests: u32, version: &str) -> u32 {
    let client = "import socket,sys\nn=0\nfor _ in range(int(sys.argv[1])):\n s=socket.create_connection(('127.0.0.1',8080),10)\n \
                  s.sendall(b'GET / HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n')\n a=b''\n while True:\n  d=s.recv(4096)\n  \
                  if not d: break\n  a+=d\n s.close()\n n+=(b'version '+sys.argv[2].encode()+b' ') in a\nprint(n)\n";
    world.host.write("/root/count.py", client);
    world.host.ok(&format!("python3 /root/count.py {requests} {version}")).parse().expect("a number")
}

/// Another strategy, and these tables.
#[track_caller]
pub fn strategy(world: &World, name: &str, tables: &str) {
    world.host.ok("sed -i '/^strategy/d' /etc/slotd/apps/web.toml");
    world.settings("web", &format!("strategy = \"{name}\"\n{tables}"));
}

/// A second network with clients, of both families. To be called again after a reboot.
pub fn add_others(world: &World) {
    world.host.ok(
        "ip netns add others && ip link add here type veth peer name there netns others \
         && ip addr add 192.0.2.1/24 dev here && ip addr add 2001:db8::1/64 dev here nodad && ip link set here up \
         && ip netns exec others sh -c 'ip addr add 192.0.2.2/24 dev there && ip addr add 2001:db8::2/64 dev there nodad \
         && ip link set there up && ip link set lo up'",
    );
}

/// What a client in the other network gets of `ADDRESS:PORT`: the version, or curl's status.
pub fn ask_from_others(world: &World, address: &str, port: u16) -> String {
    answered(&world.host.sh(&format!("ip netns exec others curl -s -g --max-time 2 http://{address}:{port}/")))
}

/// The same for a client on the host.
pub fn ask_here(world: &World, address: &str, port: u16) -> String {
    answered(&world.host.sh(&format!("curl -s -g --max-time 2 http://{address}:{port}/")))
}

fn answered(answer: &Output) -> String {
    match text(answer).split(' ').nth(1) {
        Some(version) if answer.status.success() => version.to_owned(),
        _ => format!("curl {}", answer.status.code().unwrap_or(-1)),
    }
}

/// What curl ends with where nobody listens, and where packets vanish.
pub const REFUSED: &str = "curl 7";
pub const DROPPED: &str = "curl 28";

/// Sees that every client gets this version: here and elsewhere, by either family.
#[track_caller]
pub fn expect_everywhere(world: &World, version: &str) {
    let look = || {
        let here = ["127.0.0.1", "[::1]", HOST_4, HOST_6].map(|address| ask_here(world, address, 8080));
        let others = [HOST_4, HOST_6].map(|address| ask_from_others(world, address, 8080));
        match here.iter().chain(&others).all(|answer| answer == version) {
            true => Ok(()),
            false => Err(format!("here {here:?}, elsewhere {others:?}\n{}", told(world))),
        }
    };
    wait_until(&format!("{version} for everybody"), PATIENCE, look);
}

/// What helper, gate and slotd said.
pub fn told(world: &World) -> String {
    text(&world.host.sh("journalctl -b --no-pager -n 400 -u 'slotd-route@*' -u web -u slotd -o short-monotonic"))
}

/// The port of an instance's own.
#[track_caller]
pub fn port_of(world: &World, instance: &str) -> u16 {
    let line = world.host.ok(&format!("grep ^PORT= /var/lib/slotd/apps/web/instances/{instance}/env"));
    line.trim_start_matches("PORT=").trim_matches('"').parse().unwrap_or_else(|_| panic!("{line}"))
}

/// Writes the set by hand, as slotd would: instances with their weights.
#[track_caller]
pub fn write_set(world: &World, set: &[(&str, u32)]) {
    let backend = |(instance, weight): &(&str, u32)| {
        format!(r#"{{"instance":"{instance}","port":{},"weight":{weight}}}"#, port_of(world, instance))
    };
    let backends: Vec<String> = set.iter().map(backend).collect();
    write_file(world, &format!(r#"{{"format":1,"backends":[{}]}}"#, backends.join(",")));
}

/// Writes any text in the set's place.
#[track_caller]
pub fn write_file(world: &World, text: &str) {
    world.host.write("/run/slotd/route/.web", text);
    world.host.ok("mv /run/slotd/route/.web /run/slotd/route/web");
}

/// Has the helper apply what was written.
pub fn apply(world: &World) -> Output {
    world.host.sh("systemctl reload-or-restart slotd-route@web.service")
}

/// The same, which has to succeed.
#[track_caller]
pub fn switch(world: &World, set: &[(&str, u32)]) {
    write_set(world, set);
    let applied = apply(world);
    assert!(applied.status.success(), "{}\n{}", shown(&applied), told(world));
}

/// Runs `work` while clients here and elsewhere ask without a pause, each by new connections. Returns who answered how
/// often; nothing may fail.
#[track_caller]
pub fn under_load(world: &World, work: impl FnOnce()) -> serde_json::Map<String, serde_json::Value> {
    under_paced_load(world, "0", work)
}

/// The same, with so many seconds between two requests of a client.
#[track_caller]
pub fn under_paced_load(world: &World, pause: &str, work: impl FnOnce()) -> serde_json::Map<String, serde_json::Value> {
    world.host.ok("rm -f /root/stop /root/stop.*");
    let clients = [("here", "::1", ""), ("others", "192.0.2.1", "ip netns exec others ")];
    let output = std::thread::scope(|scope| {
        let client = |(_, address, prefix): &(&str, &str, &str)| {
            let line = format!("{prefix}python3 /root/load.py {address} /root/stop {pause}");
            scope.spawn(move || world.host.ok(&line))
        };
        let running: Vec<_> = clients.iter().map(client).collect();
        wait_until("the load to begin", PATIENCE, || {
            match world.host.sh("test -e /root/stop.begun").status.success() {
                true => Ok(()),
                false => Err("no answer yet".to_owned()),
            }
        });
        // A failed step must not leave the clients running.
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        world.host.ok("touch /root/stop");
        let output: Vec<String> = running.into_iter().map(|it| it.join().expect("a client ends")).collect();
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        output
    });
    let mut answered = serde_json::Map::new();
    for line in output {
        let said: serde_json::Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_eq!(said["failed"], serde_json::json!([]), "{line}\n{}", told(world));
        for (version, count) in said["answered"].as_object().expect("counts") {
            let before = answered.get(version).and_then(serde_json::Value::as_u64).unwrap_or_default();
            answered.insert(version.clone(), (before + count.as_u64().expect("a count")).into());
        }
    }
    answered
}
