//! What is proposed, and what is refused.

use super::*;

fn web() -> Scaffold {
    Scaffold::new("web".parse().expect("app"), "/srv/web/bin/web --verbose")
}

fn file<'a>(plan: &'a ScaffoldPlan, path: &str) -> &'a str {
    &plan.files.iter().find(|file| file.path == Path::new(path)).expect(path).contents
}

#[test]
fn with_a_port_there_is_a_socket() {
    let plan = Scaffold { port: Some(8080), health: Some("/health".into()), ..web() }.plan().expect("a plan");
    assert!(file(&plan, "/etc/systemd/system/web.socket").contains("\nListenStream=8080\n"));
    let template = file(&plan, "/etc/systemd/system/web@.service");
    for line in [
        "StopPropagatedFrom=web.service",
        "OnFailure=slotd-settle@web:%N.service",
        "Sockets=web.socket",
        "ExecStart=/srv/web/bin/web --verbose",
        "User=web",
    ] {
        assert!(template.lines().any(|it| it == line), "{line}\n{template}");
    }
    let gate = file(&plan, "/etc/systemd/system/web.service");
    assert!(gate.contains("\nExecStart=/usr/lib/slotd/slotd-gate start web web@\n"), "{gate}");
    let app = file(&plan, "/etc/slotd/apps/web.toml");
    assert!(app.contains("kind = \"socket\"") && app.contains("path = \"/health\""), "{app}");
    assert!(plan.commands.iter().any(|line| line.join(" ") == "systemctl enable --now web.socket"));
    assert_eq!(plan.try_it, "cp web-1.0.0.tar.zst /var/lib/slotd/inbox/web/");
}

#[test]
fn the_rule_covers_the_units_of_probes() {
    let path = "/etc/polkit-1/rules.d/50-slotd-web.rules";
    let without = web().plan().expect("a plan");
    assert_eq!(file(&without, path).matches("Result.YES").count(), 1, "{}", file(&without, path));
    let probe_units = vec!["web-check@".to_owned(), "web.daily.service".to_owned()];
    let with = Scaffold { probe_units, ..web() }.plan().expect("a plan");
    let pattern = r"/^(web-check@[A-Za-z0-9][A-Za-z0-9@._-]*|web\.daily)\.service$/";
    assert!(file(&with, path).contains(pattern), "{}", file(&with, path));
    let with = Scaffold { notifies: true, ..web() }.plan().expect("a plan");
    assert!(file(&with, path).contains(r"/^slotd-notify@web-[0-9]+\.service$/"), "{}", file(&with, path));
}

#[test]
fn a_slot_that_accepts_by_signal_is_asked_on_its_own_socket() {
    let signal = Scaffold { accept: Accept::Signal, port: Some(80), health: Some("/health".into()), ..web() };
    let plan = signal.plan().expect("a plan");
    let app = file(&plan, "/etc/slotd/apps/web.toml");
    assert!(app.contains("accept = \"signal\"\n"), "{app}");
    assert!(app.contains("address = \"/run/slots/web/{instance}/health.sock\"\n"), "{app}");
    let portless = Scaffold { port: None, health: None, ..signal.clone() };
    assert_eq!(portless.plan(), Err(ScaffoldError::Signal));
    let exec = Scaffold { service_type: ServiceType::Exec, ..signal.clone() };
    assert_eq!(exec.plan(), Err(ScaffoldError::Signal));
    let own_ports = Scaffold { route: ScaffoldRoute::Nftables, ..signal };
    assert_eq!(own_ports.plan(), Err(ScaffoldError::Signal), "there is no shared socket");
}

#[test]
fn without_a_port_nothing_speaks_of_a_socket() {
    let plan = web().plan().expect("a plan");
    assert!(!plan.files.iter().any(|file| file.path.extension().is_some_and(|end| end == "socket")));
    for path in ["web.service", "web@.service"] {
        assert!(!file(&plan, &format!("/etc/systemd/system/{path}")).contains(".socket"));
    }
    let app = file(&plan, "/etc/slotd/apps/web.toml");
    assert!(app.contains("kind = \"none\"") && !app.contains("probe"), "{app}");
}

#[test]
fn with_ports_of_their_own_there_is_a_helper_and_no_socket() {
    let plan = Scaffold { port: Some(8080), route: ScaffoldRoute::Nftables, ..web() }.plan().expect("a plan");
    assert!(!plan.files.iter().any(|file| file.path.extension().is_some_and(|end| end == "socket")));
    let helper = file(&plan, "/etc/systemd/system/slotd-route@web.service");
    let call = "/usr/lib/slotd/slotd-gate route web nftables --port 8080 --ports 20000-20099 web@";
    for line in [&format!("ExecStart={call}"), &format!("ExecReload={call}"), "PartOf=nftables.service"] {
        assert!(helper.lines().any(|it| it == line), "{line}\n{helper}");
    }
    let app = file(&plan, "/etc/slotd/apps/web.toml");
    for part in [
        "kind = \"nftables\"\nport = 8080\nports = \"20000-20099\"\n",
        "kind = \"tcp\"\naddress = \"127.0.0.1:{port}\"\n",
    ] {
        assert!(app.contains(part), "{part}\n{app}");
    }
    assert!(file(&plan, "/etc/systemd/system/web.service").contains("\nWants=slotd-route@web.service\n"));
    assert!(file(&plan, "/etc/polkit-1/rules.d/50-slotd-web.rules").contains("\"slotd-route@web.service\""));
    assert!(plan.commands.iter().any(|line| line.join(" ") == "systemctl enable --now slotd-route@web.service"));
}

#[test]
fn no_placeholder_is_left_and_the_command_line_is_kept_as_it_is() {
    let exec = "/usr/bin/env X=@USER@ %i sh -c 'a b'";
    for (_, route) in ScaffoldRoute::ALL {
        let plan = Scaffold { port: Some(1), route, exec: exec.into(), ..web() }.plan().expect("a plan");
        let by_hand = plan.by_hand.iter().map(|(path, contents)| (path, contents));
        for (path, contents) in plan.files.iter().map(|file| (&file.path, &file.contents)).chain(by_hand) {
            let left = contents.replace(exec, "");
            let words = [
                "@APP@",
                "@PORT@",
                "@PORTS@",
                "@STATE@",
                "@IF_",
                "@GATE@",
                "@EXEC@",
                "@USER@",
                "@TYPE@",
                "@STOP@",
                "@CALL@",
                "@PROBE",
                "@ROUTE@",
                "@HEALTH@",
                "@ACCEPT@",
                "@SERVERS@",
            ];
            for word in words {
                assert!(!left.contains(word), "{word} in {}", path.display());
            }
        }
        assert!(file(&plan, "/etc/systemd/system/web@.service").contains(&format!("ExecStart={exec}\n")));
    }
}

#[test]
fn what_is_refused() {
    let table = [
        (Scaffold { exec: "bin/web".into(), ..web() }, "absolute path"),
        (Scaffold { exec: "/bin/web\nUser=root".into(), ..web() }, "one line"),
        (Scaffold { user: Some("root".into()), ..web() }, "not root"),
        (Scaffold { user: Some("We b".into()), ..web() }, "can't run an app"),
        (Scaffold { app: "a".repeat(32).parse().expect("app"), ..web() }, "--user"),
        (Scaffold { health: Some("/x".into()), ..web() }, "--port"),
        (Scaffold { port: Some(0), ..web() }, "port 0"),
        (Scaffold { route: ScaffoldRoute::Nftables, ..web() }, "which port do users call"),
        (Scaffold { route: ScaffoldRoute::Nftables, port: Some(20001), ..web() }, "one of the instances' own"),
        (Scaffold { port: Some(1), health: Some("x".into()), ..web() }, "no path"),
        (Scaffold { port: Some(1), health: Some("/\"".into()), ..web() }, "no path"),
    ];
    for (scaffold, words) in table {
        let error = scaffold.plan().expect_err(words).to_string();
        assert!(error.contains(words), "{error}");
    }
    assert!("forking".parse::<ServiceType>().is_err());
}

#[test]
fn what_stands_in_the_proxys_own_files_is_shown_and_not_written() {
    let with = |route| Scaffold { port: Some(80), route, ..web() }.plan().expect("a plan");
    let plan = with(ScaffoldRoute::Haproxy);
    let (path, lines) = &plan.by_hand[0];
    assert_eq!(path, Path::new("/etc/haproxy/haproxy.cfg"));
    for line in [
        "server-template s 1-8 127.0.0.1:1 weight 0",
        "server-state-file-name /run/slotd/haproxy/web",
        "option redispatch 1",
        "bind :80",
    ] {
        assert!(lines.lines().any(|it| it.trim() == line), "{line}\n{lines}");
    }
    let helper = file(&plan, "/etc/systemd/system/slotd-route@web.service");
    let call = "route web haproxy --backend web --socket /run/haproxy/admin.sock --servers 8 --ports 20000-20099 web@";
    for line in [&format!("ExecReload=/usr/lib/slotd/slotd-gate {call}"), "Before=haproxy.service"] {
        assert!(helper.lines().any(|it| it == line), "{line}\n{helper}");
    }
    let app = file(&plan, "/etc/slotd/apps/web.toml");
    assert!(app.contains("kind = \"haproxy\"\nbackend = \"web\"\nports = "), "{app}");

    let plan = with(ScaffoldRoute::Nginx);
    let (path, lines) = &plan.by_hand[0];
    assert_eq!(path, Path::new("/etc/nginx/conf.d/web.conf"));
    assert!(lines.contains("    include /etc/nginx/slotd/web.conf;\n"), "{lines}");
    let helper = file(&plan, "/etc/systemd/system/slotd-route@web.service");
    assert!(
        helper.contains("route web nginx --include /etc/nginx/slotd/web.conf --ports 20000-20099 web@\n"),
        "{helper}"
    );
    assert!(file(&plan, "/etc/tmpfiles.d/slotd-web.conf").contains("d /etc/nginx/slotd 0755 root root -\n"));
    for kind in [ScaffoldRoute::Socket, ScaffoldRoute::Nftables] {
        assert_eq!(with(kind).by_hand, []);
    }
}
