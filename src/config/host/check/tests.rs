//! What rules depend on. Each rule's fault, at its line, is a case of tests/broken/units.

use std::path::Path;

use super::*;
use crate::config::host::{Scaffold, ScaffoldRoute};

/// A folder in which the scaffold's files lie.
struct World {
    root: tempfile::TempDir,
    expected: Expected,
}

impl World {
    fn new(port: Option<u16>) -> World {
        World::of(Scaffold { port, ..Scaffold::new("web".parse().expect("app"), "/srv/web/bin/web") })
    }

    /// The kernel redirects port 8080.
    fn with_helper() -> World {
        World::routed(ScaffoldRoute::Nftables)
    }

    /// What `new` proposes, held to the app's file that it proposes beside it.
    fn routed(route: ScaffoldRoute) -> World {
        let web = Scaffold::new("web".parse().expect("app"), "/srv/web/bin/web");
        let mut world = World::of(Scaffold { port: Some(8080), route, ..web });
        let file = world.root.path().join("etc/slotd/apps/web.toml");
        let app = crate::config::load_app(&file, &Default::default()).expect("settings");
        world.expected = Expected::of(&app, Path::new("/var/lib/slotd"), Profile::User);
        world
    }

    fn of(scaffold: Scaffold) -> World {
        let root = tempfile::tempdir().expect("a folder");
        for file in scaffold.plan().expect("a plan").files {
            let path = root.path().join(file.path.strip_prefix("/").expect("absolute"));
            std::fs::create_dir_all(path.parent().expect("parent")).expect("folder");
            std::fs::write(path, file.contents).expect("write");
        }
        let expected = Expected {
            app: "web".parse().expect("app"),
            templates: vec!["web@".parse().expect("template")],
            socket: scaffold.port.is_some(),
            by_signal: None,
            helper: None,
            health_socket: false,
            probed: false,
            notifies: false,
            probe_units: Vec::new(),
            build_network: false,
            hooks: Hooks::default(),
            state: "/var/lib/slotd".into(),
            profile: Profile::User,
        };
        World { root, expected }
    }

    fn unit(&self, name: &str) -> std::path::PathBuf {
        self.root.path().join("etc/systemd/system").join(name)
    }

    fn edit(&self, name: &str, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.unit(name)).expect("readable");
        assert!(text.contains(from), "{from:?} is not in {name}:\n{text}");
        std::fs::write(self.unit(name), text.replacen(from, to, 1)).expect("write");
    }

    fn check(&self) -> Vec<Finding> {
        check(&self.expected, &SearchPath::below(self.root.path()), &PolkitRules::below(self.root.path()))
    }

    /// The line on which `text` begins, from 1.
    fn line_of(&self, name: &str, text: &str) -> u32 {
        let all = std::fs::read_to_string(self.unit(name)).expect("readable");
        let index = all.lines().position(|line| line.starts_with(text)).expect(text);
        u32::try_from(index + 1).expect("short")
    }
}

#[test]
fn the_scaffold_has_nothing_wrong() {
    for port in [Some(8080), None] {
        assert_eq!(World::new(port).check(), [], "{port:?}");
    }
    for (_, route) in ScaffoldRoute::ALL {
        assert_eq!(World::routed(route).check(), [], "{route}");
    }
}

#[test]
fn the_helper_of_a_proxy_is_held_to_the_settings() {
    const HELPER: &str = "slotd-route@web.service";
    for (route, from, to, words) in [
        (ScaffoldRoute::Haproxy, "--backend web", "--backend api", "ExecStart= should be"),
        (ScaffoldRoute::Haproxy, "--servers 8", "--servers 7", "ExecStart= should be"),
        (ScaffoldRoute::Haproxy, "Before=haproxy", "#", "Before=haproxy.service is missing"),
        (ScaffoldRoute::Haproxy, "PartOf=", "#", "PartOf=haproxy.service is missing"),
        (ScaffoldRoute::Haproxy, "ReloadPropagatedFrom=", "#", "ReloadPropagatedFrom=haproxy.service is missing"),
        (ScaffoldRoute::Nginx, "Before=nginx", "#", "Before=nginx.service is missing"),
        (ScaffoldRoute::Nginx, "web nginx --include", "api nginx --include", "ExecStart= should be"),
        (ScaffoldRoute::Nginx, "web nginx --include", "web nginx --upstream", "ExecStart= should be"),
    ] {
        let world = World::routed(route);
        world.edit(HELPER, from, to);
        let found = world.check();
        assert!(found.len() == 1 && found[0].message.contains(words), "{words}: {found:#?}");
    }
    // Where the proxy has its socket and its files is the administrator's business.
    for (route, from, to) in [
        (ScaffoldRoute::Haproxy, "/run/haproxy/admin.sock --servers 8", "/run/h.sock --servers 30"),
        (ScaffoldRoute::Nginx, "/etc/nginx/slotd/web.conf", "/etc/nginx/web.conf"),
    ] {
        let world = World::routed(route);
        for _ in 0..2 {
            world.edit(HELPER, from, to);
        }
        assert_eq!(world.check(), []);
    }
}

#[test]
fn a_helper_is_held_to_the_settings_and_to_the_host() {
    const HELPER: &str = "slotd-route@web.service";
    let call = "nftables --port 8080 --ports 20000-20099 web@";
    for (from, to, words) in [
        (
            "ExecStart=/usr/lib/slotd/slotd-gate route web nftables --port 8080",
            "ExecStart=/usr/lib/slotd/slotd-gate route web nftables --port 8081",
            "ExecStart= should be",
        ),
        ("--ports 20000-20099 web@\nTime", "--ports 20000-20050 web@\nTime", "ExecReload= should be"),
        (&format!("{call}\nTime"), "nftables --port 8080 --ports 20000-20099 worker@\nTime", "ExecReload= should be"),
        ("ExecReload=/usr/lib/slotd/slotd-gate", "ExecReload=-/usr/lib/slotd/slotd-gate", "ExecReload= should be"),
        ("ExecReload=", "#", "ExecReload=/usr/lib/slotd/slotd-gate route web nftables"),
        ("PartOf=", "#", "PartOf=nftables.service is missing"),
        ("ReloadPropagatedFrom=", "#", "ReloadPropagatedFrom=nftables.service is missing"),
        ("After=nft", "#", "After=nftables.service is missing"),
        ("RemainAfterExit=yes", "", "RemainAfterExit=yes is missing"),
        ("StartLimitIntervalSec=0", "", "StartLimitIntervalSec=0 is missing"),
        ("CAP_NET_ADMIN ", "", "CAP_NET_ADMIN is missing"),
        ("[Service]\n", "[Service]\nUser=slotd\n", "User=slotd must not"),
        ("WantedBy=multi-user.target\n", "", "WantedBy="),
    ] {
        let world = World::with_helper();
        world.edit(HELPER, from, to);
        let found = world.check();
        assert!(found.len() == 1 && found[0].message.contains(words), "{words}: {found:#?}");
    }
    let world = World::with_helper();
    world.edit(HELPER, "--port 8080 --ports 20000-20099", "--ports 20000-20099 --port 8080");
    assert_eq!(world.check(), [], "options have no order");
    std::fs::remove_file(world.unit(HELPER)).expect("removed");
    assert_eq!(world.check().iter().map(|it| it.code).collect::<Vec<_>>(), [Code::UnitMissing]);

    let world = World::with_helper();
    world.edit(GATE, "Wants=slotd-route@web.service\n", "");
    let found = world.check();
    assert!(found.len() == 1 && found[0].message.contains("Wants=slotd-route@web.service"), "{found:#?}");

    let host_file = |world: &World, path: &str, text: &str| {
        let path = world.root.path().join(path);
        std::fs::create_dir_all(path.parent().expect("parent")).expect("folder");
        std::fs::write(path, text).expect("written");
    };
    let world = World::with_helper();
    host_file(&world, "proc/sys/net/ipv4/ip_local_port_range", "20050\t60999\n");
    let found = world.check();
    assert!(found.len() == 1 && found[0].code == Code::RouteUnsupported, "{found:#?}");
    let world = World::with_helper();
    let filter = "table inet filter {\n chain input {\n type filter hook input priority 0; policy drop;\n }\n}\n";
    host_file(&world, "etc/nftables.conf", filter);
    let found = world.check();
    assert!(found.len() == 1 && found[0].fix.contains("ct status dnat accept"), "{found:#?}");
    assert_eq!((found[0].severity, found[0].line), (Severity::Warning, Some(3)));

    let world = World::routed(ScaffoldRoute::Haproxy);
    host_file(&world, "etc/haproxy/haproxy.cfg", "global\nbackend web\n server-template s 1-8 127.0.0.1:1 weight 0\n");
    let found = world.check();
    assert!(found.len() == 1 && found[0].fix.contains("option redispatch 1"), "{found:#?}");
    assert_eq!((found[0].severity, found[0].line), (Severity::Warning, Some(2)));
}

const TEMPLATE: &str = "web@.service";
const GATE: &str = "web.service";
const SOCKET: &str = "web.socket";

#[test]
fn a_line_in_the_wrong_section_is_pointed_at() {
    let world = World::new(Some(8080));
    world.edit(TEMPLATE, "StartLimitIntervalSec=0\n", "");
    world.edit(TEMPLATE, "[Service]\n", "[Service]\nStartLimitIntervalSec=0\n");
    let found = world.check();
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].message.contains("stands in [Service], where systemd ignores it"), "{}", found[0]);
    assert_eq!(found[0].line, Some(world.line_of(TEMPLATE, "StartLimitIntervalSec")));
}

#[test]
fn a_drop_in_is_named_with_its_own_line() {
    let world = World::new(Some(8080));
    let folder = world.unit("web@.service.d");
    std::fs::create_dir_all(&folder).expect("folder");
    std::fs::write(folder.join("50-debug.conf"), "# by hand\n[Service]\nUser=root\n").expect("write");
    let found = world.check();
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!((found[0].file.as_path(), found[0].line), (folder.join("50-debug.conf").as_path(), Some(3)));
}

#[test]
fn missing_and_masked_units() {
    let world = World::new(Some(8080));
    std::fs::remove_file(world.unit(TEMPLATE)).expect("remove");
    std::fs::write(world.unit(SOCKET), "").expect("mask");
    let found = world.check();
    let codes: Vec<Code> = found.iter().map(|finding| finding.code).collect();
    assert_eq!(codes, [Code::UnitMasked, Code::UnitMissing], "{found:#?}");
    assert_eq!(found[1].file, Path::new("/etc/systemd/system/web@.service"));
    // A socket comes back only by a restart, which needs the other units.
    let fix = "systemctl stop web.socket and systemctl start web.service";
    assert!(found[0].fix.ends_with(fix), "{}", found[0].fix);
    std::fs::write(world.unit(GATE), "").expect("mask");
    assert!(!world.check()[0].fix.contains("stop"));
}

#[test]
fn the_gate_lists_every_template_in_order() {
    let mut world = World::new(None);
    world.expected.templates.push("worker@".parse().expect("template"));
    let worker = std::fs::read_to_string(world.unit(TEMPLATE)).expect("readable");
    std::fs::write(world.unit("worker@.service"), worker).expect("write");
    let found = world.check();
    assert!(found.iter().any(|finding| finding.message.contains("start web web@ worker@")), "{found:#?}");
    for verb in ["start", "stop", "reload"] {
        world.edit(GATE, &format!("{verb} web web@\n"), &format!("{verb} web web@ worker@\n"));
    }
    assert_eq!(world.check(), []);
}

#[test]
fn a_worker_beside_the_first_unit_needs_no_socket() {
    let mut world = World::new(Some(8080));
    world.expected.templates.push("worker@".parse().expect("template"));
    let web = std::fs::read_to_string(world.unit(TEMPLATE)).expect("readable");
    let of_socket = ["Requires=web.socket", "After=web.socket", "Sockets=web.socket", "NonBlocking="];
    let worker = web.lines().filter(|line| !of_socket.iter().any(|start| line.starts_with(start)));
    std::fs::write(world.unit("worker@.service"), worker.collect::<Vec<_>>().join("\n")).expect("write");
    for verb in ["start", "stop", "reload"] {
        world.edit(GATE, &format!("{verb} web web@\n"), &format!("{verb} web web@ worker@\n"));
    }
    assert_eq!(world.check(), []);
    world.edit(TEMPLATE, "Sockets=web.socket\n", "");
    let found = world.check();
    assert!(found.len() == 1 && found[0].file.ends_with("web@.service"), "{found:#?}");
}

#[test]
fn what_depends_on_profile_and_probes() {
    let mut world = World::new(Some(8080));
    world.edit(TEMPLATE, "User=web\n", "User=root\n");
    world.expected.profile = Profile::Root;
    assert_eq!(world.check(), []);

    let mut world = World::new(Some(8080));
    world.edit(TEMPLATE, "Type=notify", "Type=exec");
    world.expected.probed = true;
    assert_eq!(world.check(), []);

    let mut world = World::new(Some(8080));
    world.edit(TEMPLATE, "UMask=0007", "UMask=0022");
    assert_eq!(world.check(), []);
    world.expected.health_socket = true;
    let found = world.check();
    assert!(found.len() == 1 && found[0].message.contains("UMask=0022 should be UMask=0007"), "{found:#?}");
}

#[test]
fn another_state_folder_must_be_told_to_the_gate() {
    let scaffold =
        Scaffold { state: "/srv/state".into(), ..Scaffold::new("web".parse().expect("app"), "/srv/web/bin/web") };
    let mut world = World::new(None);
    world.expected.state = "/srv/state".into();
    for file in scaffold.plan().expect("a plan").files {
        std::fs::write(world.root.path().join(file.path.strip_prefix("/").expect("absolute")), file.contents)
            .expect("write");
    }
    assert_eq!(world.check(), []);
}
