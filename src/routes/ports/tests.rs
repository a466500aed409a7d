//! Switches, drains and troubles of a route over own ports, against a scripted systemd.

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use super::super::{AnyRoute, Route};
use super::*;
use crate::config::parse_app;
use crate::model::SlotName;
use crate::units::fake::FakeUnits;

const BRIEF: Duration = Duration::from_secs(5);

struct Site {
    base: tempfile::TempDir,
    units: FakeUnits,
    route: AnyRoute<FakeUnits>,
}

impl Site {
    /// An app whose users call `port`, with the helper up.
    fn new(port: u16, range: &str) -> Site {
        Site::with(tempfile::tempdir().expect("a folder"), &format!("kind = \"nftables\"\nport = {port}"), range)
    }

    /// An app behind a HAProxy, which is asked at this socket.
    fn behind_haproxy(socket: &std::path::Path, range: &str) -> Site {
        let route = format!("kind = \"haproxy\"\nbackend = \"web\"\nsocket = \"{}\"", socket.display());
        Site::with(tempfile::tempdir().expect("a folder"), &route, range)
    }

    fn with(base: tempfile::TempDir, route: &str, range: &str) -> Site {
        let units = FakeUnits::new();
        let name = "web".parse().expect("a name");
        let text = format!(
            "[[unit]]\nname = \"web@\"\n[route]\n{route}\nports = \"{range}\"\n\
             [[probe]]\nkind = \"tcp\"\naddress = \"127.0.0.1:{{port}}\"\n"
        );
        let settings = parse_app(&name, std::path::Path::new("web.toml"), &text, &Default::default());
        let route = AnyRoute::new(&settings.expect("settings"), &Site::layout(&base), units.clone());
        std::fs::create_dir_all(base.path().join("run/route")).expect("folder");
        units.unit(HELPER).runs();
        Site { base, units, route }
    }

    fn layout(base: &tempfile::TempDir) -> Layout {
        Layout::new(base.path().join("state"), base.path().join("run"), "web".parse().expect("a name"))
    }

    /// An instance with this port in its environment, whose unit runs.
    fn runs(&self, version: &str, port: u16) -> Backend {
        let instance = SlotName::first(version.parse().expect("a version")).instance(1);
        let folder = Site::layout(&self.base).instance(&instance);
        std::fs::create_dir_all(&folder).expect("folder");
        std::fs::write(folder.join("env"), format!("PORT=\"{port}\"\n")).expect("written");
        self.units.unit(&format!("web@{version}")).runs();
        Backend::new(UnitName::new(format!("web@{version}.service")), instance)
    }

    fn file(&self) -> String {
        std::fs::read_to_string(Site::layout(&self.base).route()).unwrap_or_default()
    }
}

const HELPER: &str = "slotd-route@web.service";

const NOBODY: BTreeSet<Backend> = BTreeSet::new();

#[tokio::test]
async fn a_switch_writes_the_set_and_has_the_helper_apply_it() {
    let site = Site::new(8080, "20000-20099");
    assert_eq!(site.route.observe().await, Ok(Observed { set: RouteSet::Current, trouble: None }));
    let (one, two) = (site.runs("1", 20003), site.runs("2", 20004));
    assert_eq!(site.route.switch(&BTreeSet::from([one.clone(), two.clone()]), &NOBODY).await, Ok(()));
    let file: RouteFile = serde_json::from_str(&site.file()).expect("a set");
    assert_eq!(file.backends.iter().map(|it| it.port).collect::<Vec<_>>(), [20003, 20004]);
    let resolved = Backend { port: Some(20003), ..one.clone() };
    assert_eq!(site.route.revert(&BTreeSet::from([one])).await, Ok(()));
    let seen = site.route.observe().await.expect("a look");
    assert_eq!(seen, Observed { set: RouteSet::These(BTreeSet::from([resolved])), trouble: None });
    assert_eq!(site.route.switch(&NOBODY, &NOBODY).await, Ok(()), "nobody is a set");
    assert_eq!(site.units.calls(), vec!["reload slotd-route@web"; 3]);
    assert!(site.file().contains("\"backends\": []"));
}

#[tokio::test]
async fn who_stands_by_is_named_beside_the_set_until_a_switch_without() {
    let site = Site::new(8080, "20000-20099");
    let (old, new) = (site.runs("1", 20003), site.runs("2", 20004));
    let stands_by = || {
        let file: RouteFile = serde_json::from_str(&site.file()).expect("a set");
        file.standby.iter().map(|it| it.port).collect::<Vec<_>>()
    };
    let portless = site.runs("0", 0);
    let standby = BTreeSet::from([old.clone(), portless]);
    assert_eq!(site.route.switch(&BTreeSet::from([new.clone()]), &standby).await, Ok(()));
    assert_eq!(stands_by(), [20003], "one without a port can't");
    let resolved = Backend { port: Some(20004), ..new.clone() };
    assert_eq!(site.route.observe().await.expect("a look").set, RouteSet::These(BTreeSet::from([resolved])));
    site.units.unit("web@1").is_stopped_by_hand();
    assert_eq!(
        site.route.switch(&BTreeSet::from([new.clone()]), &standby).await,
        Ok(()),
        "only users need somebody up"
    );
    assert_eq!(site.route.switch(&BTreeSet::from([new]), &NOBODY).await, Ok(()));
    assert_eq!(stands_by(), [0u16; 0]);
    assert!(!site.file().contains("standby"), "as an earlier helper knows it: {}", site.file());
}

#[tokio::test]
async fn units_beside_the_routed_one_get_no_users() {
    let site = Site::new(8080, "20000-20099");
    let one = site.runs("1", 20003);
    site.units.unit("worker@1").runs();
    let worker = Backend { unit: UnitName::new("worker@1.service"), ..one.clone() };
    assert_eq!(site.route.switch(&BTreeSet::from([one, worker.clone()]), &NOBODY).await, Ok(()));
    assert_eq!(site.file().matches("\"port\": 20003").count(), 1, "{}", site.file());
    site.units.unit("worker@1").is_stopped_by_hand();
    let fault = site.route.switch(&BTreeSet::from([worker]), &NOBODY).await.expect_err("it is down");
    assert_eq!(fault.code, Code::UnitExited);
}

#[tokio::test]
async fn who_does_not_run_or_has_no_port_gets_no_users() {
    let site = Site::new(8080, "20000-20099");
    let one = site.runs("1", 20003);
    site.units.unit("web@1").is_stopped_by_hand();
    let fault = site.route.switch(&BTreeSet::from([one]), &NOBODY).await.expect_err("it is down");
    assert_eq!(fault.code, Code::UnitExited);
    let two = site.runs("2", 0);
    let fault = site.route.switch(&BTreeSet::from([two]), &NOBODY).await.expect_err("no port");
    assert_eq!((fault.code, fault.message.as_str()), (Code::RouteUnsupported, "instance 2 has no port of its own"));
    assert_eq!((site.file(), site.units.calls()), (String::new(), vec![]));
}

#[tokio::test]
async fn a_helper_that_fails_is_told_in_its_own_words() {
    let site = Site::new(8080, "20000-20099");
    let one = site.runs("1", 20003);
    site.units.unit(HELPER).is_stopped_by_hand().writes("slotd-gate: web: nft refuses: no").runs();
    site.units.unit(HELPER).reload_ends(JobResult::Failed);
    let fault = site.route.switch(&BTreeSet::from([one.clone()]), &NOBODY).await.expect_err("it failed");
    assert_eq!(fault.code, Code::RouteHelper);
    assert!(fault.message.contains("its last run failed: web: nft refuses: no; see: systemctl"), "{}", fault.message);
    assert_eq!(fault.evidence.journal.len(), 1);
    let seen = site.route.observe().await.expect("a look");
    assert_eq!(seen.trouble.expect("trouble").code, Code::RouteHelper, "though the unit is active");
    assert_eq!(site.route.switch(&BTreeSet::from([one]), &NOBODY).await, Ok(()));
    assert_eq!(site.route.observe().await.expect("a look").trouble, None);
    site.units.unit(HELPER).is_stopped_by_hand();
    let trouble = site.route.observe().await.expect("a look").trouble.expect("trouble");
    assert!(trouble.message.contains("and it is inactive/dead"), "{}", trouble.message);
}

#[tokio::test]
async fn prepare_refuses_what_can_not_work() {
    let site = Site::new(8080, "20000-20099");
    assert_eq!(site.route.prepare().await, Ok(()));
    let one = site.runs("1", 20200);
    site.route.switch(&BTreeSet::from([one]), &NOBODY).await.expect("the helper would refuse it");
    let fault = site.route.prepare().await.expect_err("no way back");
    assert!(fault.code == Code::RouteUnsupported && fault.message.contains("port 20200, outside"), "{fault:?}");
    site.units.unit(HELPER).is_masked();
    assert_eq!(site.route.prepare().await.expect_err("masked").code, Code::UnitMasked);
    site.units.unit(HELPER).is_missing();
    assert_eq!(site.route.prepare().await.expect_err("missing").code, Code::UnitMissing);

    let text = std::fs::read_to_string(EPHEMERAL_PORTS).expect("the kernel says");
    let used = PortRange::of_kernel(&text).expect("a range");
    let site = Site::new(80, &used.to_string());
    let fault = site.route.prepare().await.expect_err("the kernel's own");
    assert!(fault.code == Code::RouteUnsupported && fault.message.contains("ip_local_port_range"), "{fault:?}");
}

#[tokio::test]
async fn a_drain_waits_for_users_and_not_for_ever() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let site = Site::new(80, "20000-20099");
    let leaving = BTreeSet::from([site.runs("1", address.port())]);
    let began = Instant::now();
    assert_eq!(site.route.drain(&leaving, BRIEF).await, Ok(Drained::default()), "nobody is there");
    assert!(began.elapsed() >= SECOND_TRY, "somebody may have knocked and not been heard");
    assert_eq!(site.route.drain(&BTreeSet::new(), BRIEF).await, Ok(Drained::default()));
    assert!(began.elapsed() < BRIEF, "nobody knocks where there is no port");

    let mut users = Vec::new();
    for _ in 0..3 {
        users.push((TcpStream::connect(address).await.expect("connected"), listener.accept().await.expect("accepted")));
    }
    let open = Drained { ended: 0, open: 3 };
    assert_eq!(site.route.drain(&leaving, Duration::ZERO).await, Ok(open));
    users.pop();
    assert_eq!(site.route.drain(&leaving, Duration::from_millis(120)).await, Ok(Drained { ended: 0, open: 2 }));
    let (drained, ()) = tokio::join!(site.route.drain(&leaving, BRIEF * 12), async {
        tokio::task::yield_now().await;
        users.clear();
    });
    assert_eq!(drained.expect("drained").open, 0);
}

/// HAProxy keeps connections without a user, and closes them when it likes.
#[tokio::test]
async fn what_haproxy_closes_while_it_is_asked_is_no_users() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("s");
    let haproxy = tokio::net::UnixListener::bind(&socket).expect("bound");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let site = Site::behind_haproxy(&socket, "20000-20099");
    let leaving = BTreeSet::from([site.runs("1", address.port())]);
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push((TcpStream::connect(address).await.expect("connected"), listener.accept().await.expect("accepted")));
    }
    let answers = async {
        // The first question finds two at rest, and all but the user's gone by the time of its answer; then the user goes.
        for left in [1, 1, 0] {
            let (mut asked, _) = haproxy.accept().await.expect("a question");
            open.truncate(left);
            let answer = format!("# bkname/svname addr port idle_cur\nweb/s1 127.0.0.1 {} 0\n\n", address.port());
            asked.write_all(answer.as_bytes()).await.expect("answered");
        }
    };
    let (drained, ()) = tokio::join!(site.route.drain(&leaving, BRIEF), answers);
    assert_eq!(drained, Ok(Drained { ended: 1, open: 0 }));
}

#[tokio::test]
async fn verify_connects_to_the_public_port() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let site = Site::new(listener.local_addr().expect("an address").port(), "20000-20099");
    assert_eq!(site.route.verify(BRIEF).await, Ok(()));
    drop(listener);
    assert_eq!(site.route.verify(BRIEF).await.expect_err("nobody is there").code, Code::RouteOutside);
}
