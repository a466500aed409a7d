//! Each rule's fault, on the scaffold's own files; which have none themselves.

use std::path::Path;

use super::*;
use crate::config::host::Scaffold;

/// A folder in which the scaffold's files lie.
struct World {
    root: tempfile::TempDir,
    expected: Expected,
}

impl World {
    fn new(port: Option<u16>) -> World {
        let scaffold = Scaffold { port, ..Scaffold::new("web".parse().expect("app"), "/srv/web/bin/web") };
        let root = tempfile::tempdir().expect("a folder");
        for file in scaffold.plan().expect("a plan").files {
            let path = root.path().join(file.path.strip_prefix("/").expect("absolute"));
            std::fs::create_dir_all(path.parent().expect("parent")).expect("folder");
            std::fs::write(path, file.contents).expect("write");
        }
        let expected = Expected {
            app: "web".parse().expect("app"),
            templates: vec!["web@".parse().expect("template")],
            socket: port.is_some(),
            health_socket: false,
            probed: false,
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
        check(&self.expected, &SearchPath::below(self.root.path()))
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
}

/// Unit, what is replaced, by what, the line that is pointed at, severity, words.
type Row = (&'static str, &'static str, &'static str, &'static str, Severity, &'static str);

const E: Severity = Severity::Error;
const W: Severity = Severity::Warning;

const TEMPLATE: &str = "web@.service";
const GATE: &str = "web.service";
const SOCKET: &str = "web.socket";

const FAULTS: &[Row] = &[
    (TEMPLATE, "StopPropagatedFrom=web.service\n", "", "[Unit]", E, "StopPropagatedFrom=web.service is missing"),
    (TEMPLATE, "PropagatedFrom=web.", "PropagatedFrom=api.", "[Unit]", E, "StopPropagatedFrom=web.service is missing"),
    (TEMPLATE, "StartLimitIntervalSec=0\n", "", "[Unit]", E, "StartLimitIntervalSec=0 is missing"),
    (TEMPLATE, "IntervalSec=0", "IntervalSec=10s", "StartLimit", E, "should be StartLimitIntervalSec=0"),
    (
        TEMPLATE,
        "AssertPathExists=",
        "#",
        "[Unit]",
        E,
        "AssertPathExists=/var/lib/slotd/apps/web/instances/%i is missing",
    ),
    (TEMPLATE, "instances/%i\n", "instances/%p\n", "AssertPath", E, "should be AssertPathExists="),
    (TEMPLATE, "OnFailure=", "#", "[Unit]", E, "OnFailure=slotd-settle@web:%N.service is missing"),
    (TEMPLATE, "OnSuccess=", "#", "[Unit]", E, "OnSuccess=slotd-settle@web:%N.service is missing"),
    (
        TEMPLATE,
        "OnFailure=slotd-settle@web:%N",
        "OnFailure=slotd-settle@web",
        "OnFailure",
        E,
        "should be OnFailure=slotd-settle@web:%N",
    ),
    (TEMPLATE, "User=web\n", "", "[Service]", E, "User=web is missing"),
    (TEMPLATE, "User=web\n", "User=root\n", "User", E, "User=root should be"),
    (TEMPLATE, "User=web\n", "User=0\n", "User", E, "User=0 should be"),
    (TEMPLATE, "User=web\n", "DynamicUser=yes\n", "DynamicUser", W, "DynamicUser=yes"),
    (TEMPLATE, "ExecStart=", "ExecStart=+", "ExecStart", E, "runs a file of the slot as root"),
    (TEMPLATE, "ExecStart=", "ExecStartPre=!/bin/sh /srv/web/x\nExecStart=", "ExecStartPre", E, "as root"),
    (
        TEMPLATE,
        "UMask=0007",
        "UMask=0007\n[Install]\nWantedBy=multi-user.target\n[Service]",
        "WantedBy",
        E,
        "[Install]",
    ),
    (
        TEMPLATE,
        "After=network.target",
        "After=network.target web.service",
        "After=network",
        E,
        "After=web.service must not",
    ),
    (TEMPLATE, "After=network.target", "BindsTo=web.service", "BindsTo", E, "BindsTo=web.service must not"),
    (TEMPLATE, "After=network.target", "PartOf=%p.service", "PartOf", E, "PartOf=%p.service must not"),
    (TEMPLATE, "After=network.target", "Upholds=web.service", "Upholds", E, "Upholds=web.service must not"),
    (
        TEMPLATE,
        "After=network.target",
        "PropagatesStopTo=web.socket",
        "Propagates",
        E,
        "PropagatesStopTo=web.socket must not",
    ),
    (TEMPLATE, "slot %i", "slot %I", "Description", E, "%I in Description="),
    (TEMPLATE, "Sockets=web.socket\n", "", "[Service]", E, "Sockets=web.socket is missing"),
    (TEMPLATE, "Sockets=web.", "Sockets=api.", "Sockets", E, "should be Sockets=web.socket"),
    (TEMPLATE, "Requires=web.socket\n", "", "[Unit]", E, "Requires=web.socket is missing"),
    (TEMPLATE, "After=web.socket\n", "", "[Unit]", E, "After=web.socket is missing"),
    (
        TEMPLATE,
        "EnvironmentFile=",
        "#",
        "[Service]",
        E,
        "EnvironmentFile=/var/lib/slotd/apps/web/instances/%i/env is missing",
    ),
    (TEMPLATE, "%i/env", "1/env", "EnvironmentFile", E, "should be EnvironmentFile="),
    (
        TEMPLATE,
        "BindReadOnlyPaths=",
        "#",
        "[Service]",
        E,
        "BindReadOnlyPaths=/var/lib/slotd/apps/web/instances/%i/root:/srv/web is missing",
    ),
    (TEMPLATE, "%i/root", "%i/tree", "BindReadOnly", E, "should be BindReadOnlyPaths="),
    (TEMPLATE, "ExecStart=", "#", "[Service]", E, "ExecStart=… is missing"),
    (TEMPLATE, "RestartSec=1s", "RestartSec=1s\nRemainAfterExit=yes", "RemainAfterExit", E, "must be off"),
    (TEMPLATE, "Restart=always", "Restart=on-failure", "Restart=", W, "should be Restart=always"),
    (TEMPLATE, "Restart=always\n", "", "[Service]", W, "Restart=always is missing"),
    (TEMPLATE, "RestartSec=1s", "RestartSec=100ms", "RestartSec", W, "should be RestartSec=1s"),
    (TEMPLATE, "RestartSec=1s\n", "", "[Service]", W, "RestartSec=1s is missing"),
    (
        TEMPLATE,
        "TimeoutStartSec=90s",
        "TimeoutStartSec=infinity",
        "TimeoutStart",
        E,
        "TimeoutStartSec=infinity is no limit",
    ),
    (TEMPLATE, "TimeoutStopSec=30s", "TimeoutStopSec=0", "TimeoutStop", E, "TimeoutStopSec=0 is no limit"),
    (TEMPLATE, "TimeoutStopSec=30s", "TimeoutStopSec=soon", "TimeoutStop", E, "TimeoutStopSec=soon is no limit"),
    (TEMPLATE, "Type=notify", "Type=oneshot", "Type", E, "Type=oneshot"),
    (TEMPLATE, "Type=notify", "Type=exec", "Type", W, "Type=exec and no probe"),
    (TEMPLATE, "Type=notify\n", "", "[Service]", W, "Type=simple and no probe"),
    (TEMPLATE, "KillMode=mixed", "KillMode=none", "KillMode", E, "KillMode=none"),
    (TEMPLATE, "KillMode=mixed", "KillMode=process", "KillMode", W, "KillMode=process"),
    (TEMPLATE, "RestartSec=1s", "RestartSec=1s\nUser root", "User root", E, "neither [section]"),
    (GATE, "Type=oneshot", "Type=simple", "Type", E, "should be Type=oneshot"),
    (GATE, "RemainAfterExit=yes\n", "", "[Service]", E, "RemainAfterExit=yes is missing"),
    (GATE, "ExecStart=", "#", "[Service]", E, "ExecStart=/usr/lib/slotd/slotd-gate start web web@ is missing"),
    (GATE, "start web web@", "start web", "ExecStart", E, "ExecStart= should be"),
    (GATE, "start web web@", "start api web@", "ExecStart", E, "ExecStart= should be"),
    (GATE, "ExecStart=", "ExecStart=-", "ExecStart", E, "ExecStart= should be"),
    (GATE, "ExecStart=", "ExecStart=/bin/true\nExecStart=", "ExecStart=/usr", E, "more than once"),
    (
        GATE,
        "ExecStart=/usr/lib/slotd/slotd-gate",
        "ExecStart=/usr/lib/slotd/slotd-gate --state-dir /srv/s",
        "ExecStart",
        E,
        "reads the state in /srv/s",
    ),
    (GATE, "ExecStop=", "#", "[Service]", E, "ExecStop=/usr/lib/slotd/slotd-gate stop web web@ is missing"),
    (GATE, "stop web web@", "stop web worker@", "ExecStop", E, "ExecStop= should be"),
    (GATE, "reload web web@", "reload web x@", "ExecReload", E, "ExecReload= should be"),
    (GATE, "StartLimitIntervalSec=0\n", "", "[Unit]", E, "StartLimitIntervalSec=0 is missing"),
    (GATE, "TimeoutStopSec=45s", "TimeoutStopSec=20s", "TimeoutStopSec", E, "shorter than that of its template, 30s"),
    (
        GATE,
        "TimeoutStopSec=45s",
        "TimeoutStopSec=45s\nTimeoutStartSec=60",
        "TimeoutStart",
        E,
        "TimeoutStartSec=60 is too short",
    ),
    (GATE, "WantedBy=multi-user.target", "", "[Install]", W, "WantedBy=multi-user.target is missing"),
    (GATE, "Requires=web.socket\n", "", "[Unit]", E, "Requires=web.socket is missing"),
    (GATE, "After=web.socket\n", "", "[Unit]", E, "After=web.socket is missing"),
    (
        GATE,
        "After=network",
        "PropagatesStopTo=web.socket\nAfter=network",
        "Propagates",
        E,
        "PropagatesStopTo=web.socket must not",
    ),
    (GATE, "Type=oneshot", "User=web\nType=oneshot", "User", E, "User=web must not stand here"),
    (GATE, "ConditionPathExists=", "#", "[Unit]", W, "ConditionPathExists=!/var/lib/slotd/apps/web/paused is missing"),
    (SOCKET, "ListenStream=8080\n", "", "[Socket]", E, "ListenStream= is missing"),
    (SOCKET, "Service=web.service", "Service=web@1.service", "Service", E, "should be Service=web.service"),
    (SOCKET, "TriggerLimitIntervalSec=0\n", "", "[Socket]", E, "TriggerLimitIntervalSec=0 is missing"),
    (
        SOCKET,
        "TriggerLimitIntervalSec=0",
        "TriggerLimitIntervalSec=2s",
        "TriggerLimit",
        E,
        "should be TriggerLimitIntervalSec=0",
    ),
    (SOCKET, "StartLimitIntervalSec=0\n", "", "[Unit]", W, "StartLimitIntervalSec=0 is missing"),
    (SOCKET, "Backlog=4096", "Accept=yes", "Accept", E, "must be off"),
    (SOCKET, "Backlog=4096", "FlushPending=yes", "FlushPending", E, "must be off"),
    (SOCKET, "Backlog=4096", "Backlog=16", "Backlog", W, "Backlog=16 is small"),
    (SOCKET, "[Socket]", "StopPropagatedFrom=web.service\n[Socket]", "StopProp", E, "must not"),
    (
        SOCKET,
        "ConditionPathExists=",
        "#",
        "[Unit]",
        W,
        "ConditionPathExists=!/var/lib/slotd/apps/web/paused is missing",
    ),
    (SOCKET, "WantedBy=sockets.target", "", "[Install]", W, "WantedBy=sockets.target is missing"),
];

#[test]
fn each_fault_is_found_at_its_line() {
    for (unit, from, to, at, severity, words) in FAULTS {
        let world = World::new(Some(8080));
        world.edit(unit, from, to);
        let found = world.check();
        let [finding] = found.as_slice() else {
            panic!("{unit}: {from:?} by {to:?} should be one finding, not {found:#?}");
        };
        assert!(finding.message.contains(words), "{words:?}: {finding}");
        let place = (finding.severity, finding.code, finding.file.clone(), finding.line);
        let wanted = (*severity, Code::ConfigUnit, world.unit(unit), Some(world.line_of(unit, at)));
        assert_eq!(place, wanted, "{finding}");
        assert!(!finding.why.is_empty() && !finding.fix.is_empty());
    }
}

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
