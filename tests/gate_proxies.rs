//! `slotd-gate route` against a scripted HAProxy and a scripted nginx: what it says to them, and what it makes of answers.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

/// `systemctl show` of a proxy that doesn't run.
const SYSTEMCTL: &str = "#!/bin/sh\necho Id=haproxy.service\necho LoadState=loaded\necho ActiveState=inactive\n";

/// Shows the configuration that stands in `nginx.conf`, or says why it can't.
const NGINX: &str = r#"#!/bin/sh
world=$(dirname "$0")
echo "$*" >>"$world/calls"
[ ! -e "$world/refuses" ] || { echo "nginx: [emerg] unknown directive" >&2; exit 1; }
cat "$world/nginx.conf"
"#;

const PORTS: &str = "--ports 20000-20099 web@";

struct World {
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> World {
        let world = World { folder: tempfile::tempdir().expect("a folder") };
        for name in ["run/route", "run/haproxy", "run/nginx", "state/apps/web/slots/1", "state/apps/web/instances/1"] {
            std::fs::create_dir_all(world.path(name)).expect("folder");
        }
        for (name, script) in [("systemctl", SYSTEMCTL), ("nginx", NGINX)] {
            world.write(name, script);
            std::fs::set_permissions(world.path(name), PermissionsExt::from_mode(0o755)).expect("mode");
        }
        world.write("nginx.conf", &format!("# configuration file {}:\n", world.path("web.conf").display()));
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("written");
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Slot 1 is live, at port 20001.
    fn deploy(&self) {
        let record = r#"{"format":1,"app":"web","slot":"1","units":[{"name":"web@","instances":1}]}"#;
        self.write("state/apps/web/slots/1/slot.json", record);
        self.write("state/apps/web/instances/1/env", "PORT=\"20001\"\n");
        symlink("slots/1", self.path("state/apps/web/current")).expect("link");
    }

    fn route(&self, words: &str) -> Output {
        let path = format!("{}:{}", self.folder.path().display(), std::env::var("PATH").expect("PATH"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_slotd-gate"));
        command.args(["route", "web"]).args(words.split(' ')).env("PATH", path);
        command.env("SLOTD_STATE_DIR", self.path("state")).env("SLOTD_RUN_DIR", self.path("run"));
        command.output().expect("runs")
    }

    fn haproxy(&self) -> Output {
        let socket = self.path("socket");
        self.route(&format!("haproxy --backend web --socket {} --servers 2 {PORTS}", socket.display()))
    }

    fn nginx(&self) -> Output {
        self.route(&format!("nginx --include {} {PORTS}", self.path("web.conf").display()))
    }

    /// A HAProxy with servers of these names, ports and weights, which does what it is told. Returns what it was asked.
    fn haproxy_runs(&self, servers: &[(&str, u16, u32)], obeys: bool) -> Arc<Mutex<Vec<String>>> {
        let listener = UnixListener::bind(self.path("socket")).expect("bound");
        let mut servers: Vec<(String, u16, u32)> =
            servers.iter().map(|(name, port, weight)| ((*name).to_owned(), *port, *weight)).collect();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&asked);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let mut client = client.expect("a client");
                let mut line = String::new();
                BufReader::new(client.try_clone().expect("cloned")).read_line(&mut line).expect("a line");
                for command in line.trim().split(';') {
                    told.lock().expect("a lock").push(command.to_owned());
                    let words: Vec<&str> = command.split(' ').collect();
                    let answer = match words.as_slice() {
                        ["show", "servers", _, "web"] if servers.is_empty() => "Can't find backend.\n".to_owned(),
                        ["show", "servers", "state", "web"] => {
                            let row = |(name, port, weight): &(String, u16, u32)| format!("{name} {port} {weight} 0\n");
                            let rows: String = servers.iter().map(row).collect();
                            format!("1\n# srv_name srv_port srv_uweight srv_admin_state\n{rows}\n")
                        }
                        ["show", "servers", "conn", "web"] => {
                            let rows: String = servers.iter().map(|(name, ..)| format!("web/{name} 0\n")).collect();
                            format!("# bkname/svname used_cur\n{rows}\n")
                        }
                        ["set", "server", server, rest @ ..] if obeys => {
                            let server = servers.iter_mut().find(|(name, ..)| server.ends_with(&format!("/{name}")));
                            match (server, rest) {
                                (Some(server), ["addr", "127.0.0.1", "port", port]) => {
                                    server.1 = port.parse().expect("port")
                                }
                                (Some(server), ["weight", weight]) => server.2 = weight.parse().expect("weight"),
                                (server, rest) => panic!("{server:?} {rest:?}"),
                            }
                            "\n".to_owned()
                        }
                        _ => "\n".to_owned(),
                    };
                    client.write_all(answer.as_bytes()).expect("answered");
                }
            }
        });
        asked
    }
}

#[track_caller]
fn says(output: &Output, code: i32, words: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(code) && text.contains(words), "{}: {text}", output.status);
}

#[test]
fn a_haproxy_that_does_not_run_finds_its_file() {
    let world = World::new();
    world.deploy();
    says(&world.haproxy(), 0, "users are sent to 1 on port 20001 (the live slot 1)");
    let states = world.read("run/haproxy/web");
    assert!(states.contains(" s1 127.0.0.1 2 0 1 0 ") && states.contains(" 20001 "), "{states}");
    assert!(states.contains(" s2 127.0.0.1 2 0 0 0 "), "{states}");
}

#[test]
fn a_haproxy_that_runs_is_told_after_its_file_is_written_and_asked_what_it_made_of_it() {
    let world = World::new();
    world.deploy();
    let asked = world.haproxy_runs(&[("s1", 20000, 1), ("s2", 1, 0)], true);
    says(&world.haproxy(), 0, "users are sent to 1 on port 20001");
    let (state, used) = ("show servers state web", "show servers conn web");
    let told = ["addr 127.0.0.1 port 20001", "weight 1"].map(|it| format!("set server web/s2 {it}"));
    let expected = [state, used, &told[0], &told[1], "set server web/s1 weight 0", state, used];
    assert_eq!(*asked.lock().expect("a lock"), expected);
    assert!(world.read("run/haproxy/web").contains(" s2 127.0.0.1 2 0 1 0 "));
    // Done is done.
    asked.lock().expect("a lock").clear();
    says(&world.haproxy(), 0, "");
    assert_eq!(*asked.lock().expect("a lock"), [state, used, state, used]);
}

#[test]
fn a_haproxy_that_does_something_else_or_lacks_its_servers_is_told() {
    let world = World::new();
    world.deploy();
    world.haproxy_runs(&[("s1", 20000, 1), ("s2", 1, 0)], false);
    says(&world.haproxy(), 1, "HAProxy was told, and shows another state: s1 is ");

    for servers in [&[][..], &[("s1", 1, 0)], &[("s1", 1, 0), ("t2", 1, 0)]] {
        let world = World::new();
        world.haproxy_runs(servers, true);
        says(&world.haproxy(), 0, "nobody is to get users yet, and then: HAProxy's backend web needs `server-template");
        world.deploy();
        says(&world.haproxy(), 1, "the route stays as it was: HAProxy's backend web needs `server-template s 1-2");
    }
}

#[test]
fn a_file_that_nginx_refuses_goes_and_the_old_one_comes_back() {
    let world = World::new();
    says(&world.nginx(), 0, "users are sent to nobody");
    let nobody = world.read("web.conf");
    assert!(nobody.contains("server 127.0.0.1:1 down;"), "{nobody}");
    world.deploy();
    world.write("refuses", "");
    says(&world.nginx(), 1, "nginx refuses its configuration: nginx: [emerg] unknown directive");
    assert_eq!(world.read("web.conf"), nobody);
    std::fs::remove_file(world.path("refuses")).expect("removed");
    says(&world.nginx(), 0, "users are sent to 1 on port 20001");
    assert!(world.read("web.conf").contains("server 127.0.0.1:20001 weight=1; # 1\n"));
}

#[test]
fn a_file_that_nginx_does_not_read_is_told_once_somebody_is_to_get_users() {
    let world = World::new();
    world.write("nginx.conf", "# configuration file /etc/nginx/nginx.conf:\n");
    says(&world.nginx(), 0, "nobody is to get users yet, and then: no upstream of nginx's configuration has `include ");
    assert!(world.read("web.conf").contains("down"), "it has to be there before it can be included");
    world.deploy();
    says(&world.nginx(), 1, "no upstream of nginx's configuration has `include ");
    std::fs::remove_file(world.path("nginx")).expect("removed");
    let output = Command::new(env!("CARGO_BIN_EXE_slotd-gate"))
        .args([
            "--state-dir",
            &world.path("state").display().to_string(),
            "--run-dir",
            &world.path("run").display().to_string(),
        ])
        .args(["route", "web", "nginx", "--include", &world.path("web.conf").display().to_string()])
        .args(PORTS.split(' '))
        .env("PATH", world.path("run"))
        .output();
    says(&output.expect("runs"), 1, "can't run nginx");
}
