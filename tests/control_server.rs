//! The control server over a real socket: what it refuses, what it bounds, what it passes on.

mod control_fake;

use std::io::{BufRead, BufReader, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use control_fake::*;
use slotd::control::Limits;
use slotd::control::api::*;
use slotd::model::{Code, Fault, Outcome, Report, State};
use tokio::sync::Semaphore;

/// Deadlines that a test can wait for.
fn short() -> Limits {
    let short = Duration::from_millis(200);
    Limits { head: short, body: short, upload_pause: short, write: short, linger: short, ..Limits::default() }
}

const ENDPOINTS: [(&str, &str); 18] = [
    ("GET", "/v1/status"),
    ("GET", "/v1/apps/web"),
    ("GET", "/v1/apps/web/slots"),
    ("GET", "/v1/apps/web/slots/1.0.0"),
    ("GET", "/v1/apps/web/units"),
    ("POST", "/v1/apps/web/artifacts"),
    ("POST", "/v1/apps/web/activate"),
    ("POST", "/v1/apps/web/rollback"),
    ("POST", "/v1/apps/web/cancel"),
    ("POST", "/v1/apps/web/prune"),
    ("POST", "/v1/apps/web/pin"),
    ("POST", "/v1/apps/web/unpin"),
    ("GET", "/v1/apps/web/quarantine"),
    ("DELETE", "/v1/apps/web/quarantine/1.0.0"),
    ("GET", "/v1/apps/web/deployments"),
    ("GET", "/v1/deployments/web-1"),
    ("GET", "/v1/deployments/web-1/events"),
    ("GET", "/v1/events"),
];

#[test]
fn an_unknown_query_key_is_refused_everywhere() {
    let world = World::new();
    for (method, path) in ENDPOINTS {
        let answer = world.raw(format!("{method} {path}?bogus=1 HTTP/1.1\r\nhost: slotd\r\n\r\n"));
        assert_eq!(refusal(answer), (400, Code::RequestInvalid), "{method} {path}");
    }
    assert!(world.fake.calls().is_empty());
}

#[test]
fn what_is_no_endpoint_says_so_in_json() {
    let world = World::new();
    assert_eq!(refusal(world.get("/v1/nothing")), (404, Code::RequestInvalid));
    assert_eq!(refusal(world.get("/v1/apps/web/activate")), (405, Code::RequestInvalid));
}

#[test]
fn names_are_checked_before_anything_is_asked() {
    let world = World::new();
    for app in ["Web", "we%2Fb", "..%2F..", "%2e%2e", "web%00", "-", "%ff"] {
        for (method, path) in ENDPOINTS.iter().filter(|(_, path)| path.contains("/web")) {
            let (path, query) = (path.replace("/apps/web", &format!("/apps/{app}")), "?file=web-1.tar");
            let query = if path.ends_with("artifacts") { query } else { "" };
            if path.contains("/deployments/web") {
                continue;
            }
            let answer = world.raw(format!("{method} {path}{query} HTTP/1.1\r\nhost: slotd\r\n\r\n"));
            assert_eq!(refusal(answer), (400, Code::RequestInvalid), "{method} {path}");
        }
    }
    for path in [
        "/v1/apps/web/slots/..%2F1",
        "/v1/apps/web/slots/1@x",
        "/v1/apps/web/slots/1@2",
        "/v1/deployments/web",
        "/v1/deployments/web-x/events",
        "/v1/deployments/..%2Fweb-1",
        "/v1/apps/web/units?slot=%2Fetc",
    ] {
        assert_eq!(refusal(world.get(path)), (400, Code::RequestInvalid), "{path}");
    }
    for file in ["..", ".web-1.tar", "a%2Fb", "%2Fetc%2Fpasswd", "", "a%0Ab"] {
        let answer = world.post(&format!("/v1/apps/web/artifacts?file={file}"), "bytes");
        assert_eq!(refusal(answer), (400, Code::RequestInvalid), "{file}");
    }
    assert!(world.fake.calls().is_empty());
    assert_eq!(world.fake.spooled(), 0);
}

#[test]
fn a_body_is_exactly_what_was_asked_for() {
    let world = World::new();
    for (verb, body) in [
        ("activate", r#"{"slot":"1.0.0","bogus":1}"#),
        ("activate", r#"{"slot":"1.0.0","slot":"2.0.0"}"#),
        ("activate", r#"{"slot":"../1"}"#),
        ("activate", r#"{"slot":"1.0.0"} more"#),
        ("activate", "{}"),
        ("activate", ""),
        ("activate", "slot=1.0.0"),
        ("rollback", r#"{"target":"1.0.0"}"#),
        ("cancel", r#"{"reason":"slow"}"#),
        ("prune", "{}"),
    ] {
        let answer = world.post(&format!("/v1/apps/web/{verb}"), body);
        assert_eq!(refusal(answer), (400, Code::RequestInvalid), "{verb} {body}");
    }
    let message = "m".repeat(4097);
    let answer = world.post("/v1/apps/web/activate", &format!(r#"{{"slot":"1","message":"{message}"}}"#));
    assert_eq!(refusal(answer), (400, Code::RequestInvalid));
    assert!(world.fake.calls().is_empty());
    world.fake.set(|script| script.accepted.push_back(Ok(Accepted::Unchanged { current: slot("1.0.0") })));
    assert_eq!(world.post("/v1/apps/web/rollback", "").0, 200);
    assert_eq!(world.fake.calls(), ["rollback web None None false"]);
}

#[test]
fn bodies_and_heads_have_a_size() {
    let world = World::new();
    let limit = slotd::control::limits::MAX_BODY_BYTES;
    let too_large = world.post("/v1/apps/web/activate", &" ".repeat(limit + 1));
    assert_eq!(refusal(too_large), (400, Code::RequestInvalid));
    // At the edge it is read, and found to be no JSON.
    let answer = world.post("/v1/apps/web/activate", &" ".repeat(limit));
    assert!(answer.1.contains("EOF"), "{answer:?}");
    let head = format!("GET /v1/status HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(70 * 1024));
    assert_eq!(world.raw(head).0, 431);
    let many: String = (0..100).map(|n| format!("x{n}: y\r\n")).collect();
    assert_eq!(world.raw(format!("GET /v1/status HTTP/1.1\r\n{many}\r\n")).0, 431);
    assert_eq!(world.raw("nonsense\r\n\r\n").0, 400);
}

#[test]
fn a_slow_head_or_body_is_given_up() {
    let world = World::with(short());
    let begun = Instant::now();
    let answer = world.raw("GET /v1/status HTTP/1.1\r\nhost:");
    assert!(matches!(answer.0, 0 | 408), "{answer:?}");
    assert!(begun.elapsed() >= Duration::from_millis(200));
    let slow = world.raw("POST /v1/apps/web/activate HTTP/1.1\r\nhost: x\r\ncontent-length: 20\r\n\r\n{");
    assert_eq!(refusal(slow), (400, Code::RequestInvalid));
    let path = "POST /v1/apps/web/artifacts?file=web-1.tar";
    world.fake.set(|script| script.apps.insert(app_name(), online()));
    let slow = world.raw(format!("{path} HTTP/1.1\r\nhost: x\r\ncontent-length: 20\r\n\r\nbegin"));
    assert!(slow.1.contains("nothing of the artifact came for 200ms"), "{slow:?}");
    assert_eq!(world.fake.spooled(), 0);
}

#[test]
fn one_user_has_so_many_connections_and_gets_them_back() {
    let world = World::with(Limits { connections_by_uid: 2, ..Limits::default() });
    let idle = [world.connect(), world.connect()];
    world.until((409, Code::RequestBusy), || refusal_or_ok(world.get("/v1/status")));
    drop(idle);
    world.until((200, Code::Internal), || refusal_or_ok(world.get("/v1/status")));
}

#[test]
fn connections_are_capped_in_all() {
    let few = Limits { connections: 1, connections_for_root: 0, refusals: 1, ..Limits::default() };
    let world = World::with(few);
    let idle = world.connect();
    world.until((409, Code::RequestBusy), || refusal_or_ok(world.get("/v1/status")));
    drop(idle);
    world.until((200, Code::Internal), || refusal_or_ok(world.get("/v1/status")));
}

/// The refusal's code; `Internal` stands for none.
fn refusal_or_ok(answer: (u16, String)) -> (u16, Code) {
    if matches!(answer.0, 0 | 200) { (answer.0, Code::Internal) } else { refusal(answer) }
}

#[test]
fn a_refusal_of_the_service_comes_through_whole() {
    let world = World::new();
    let busy = ApiError::new(Code::RequestBusy, "web-17 is under way").next("slotctl cancel web");
    world.fake.set(|script| script.accepted.push_back(Err(busy.clone())));
    let (status, body) = world.post("/v1/apps/web/activate", r#"{"slot":"1.0.0","message":"m","force":true}"#);
    assert_eq!(status, 409);
    assert_eq!(serde_json::from_str::<ApiError>(&body).expect("refusal"), busy);
    assert_eq!(world.fake.calls(), [r#"activate web 1.0.0 Some("m") true"#]);
    assert_eq!(refusal(world.get("/v1/apps/api")), (404, Code::UnknownApp));
    assert_eq!(refusal(world.get("/v1/deployments/web-9/events")), (404, Code::UnknownDeployment));
    // What isn't scripted panics in the service: the server tells and lives on.
    assert_eq!(refusal(world.post("/v1/apps/web/cancel", "")), (500, Code::Internal));
    assert_eq!(world.get("/v1/status").0, 200);
}

#[test]
fn an_upload_is_written_to_the_spool_as_it_comes() {
    let world = World::new();
    let uploaded = Uploaded { slot: slot("1.0.0"), known: false, deployment: Some(id(1)), not_live: None, next: None };
    world.fake.set(|script| {
        script.apps.insert(app_name(), online());
        script.uploaded.push_back(Ok(uploaded.clone()));
    });
    let mut stream = world.connect();
    let head = "POST /v1/apps/web/artifacts?file=web-1.0.0.tar&message=a%20b HTTP/1.1\r\nhost: x\r\n";
    stream.write_all(format!("{head}transfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n").as_bytes()).expect("sent");
    world.until(1, || world.fake.spooled());
    stream.write_all(b"6\r\nsecond\r\n0\r\n\r\n").expect("sent");
    let (status, body) = answer(stream);
    assert_eq!((status, serde_json::from_str(&body).ok()), (200, Some(uploaded)));
    assert_eq!(world.fake.set(|script| script.bytes.clone()), [b"firstsecond"]);
    assert!(world.fake.calls()[0].starts_with(r#"upload web web-1.0.0.tar None Some("a b") by "#));
}

#[test]
fn an_upload_that_breaks_off_or_is_too_large_leaves_nothing() {
    let world = World::with(short());
    world.fake.set(|script| {
        script.apps.insert(app_name(), online());
        script.upload_limit = 8;
    });
    let head = "POST /v1/apps/web/artifacts?file=web-1.tar HTTP/1.1\r\nhost: x\r\n";
    let mut stream = world.connect();
    stream.write_all(format!("{head}content-length: 8\r\n\r\nhalf").as_bytes()).expect("sent");
    world.until(1, || world.fake.spooled());
    drop(stream);
    world.until(0, || world.fake.spooled());
    // Announced, and found out on the way.
    let announced = world.raw(format!("{head}content-length: 9\r\n\r\n123456789"));
    assert_eq!(refusal(announced), (422, Code::ArchiveLimit));
    let found = world.raw(format!("{head}transfer-encoding: chunked\r\n\r\n9\r\n123456789\r\n0\r\n\r\n"));
    assert_eq!(refusal(found), (422, Code::ArchiveLimit));
    world.until(0, || world.fake.spooled());
    // No room for what is announced: nothing of it is written.
    world.fake.set(|script| script.upload_room = Some(4));
    let full = world.raw(format!("{head}content-length: 8\r\n\r\n12345678"));
    assert_eq!(refusal(full), (507, Code::DiskFull));
    assert_eq!(world.fake.spooled(), 0);
    let unknown = world.post("/v1/apps/api/artifacts?file=api-1.tar", "bytes");
    assert_eq!(refusal(unknown), (404, Code::UnknownApp));
    assert!(world.fake.calls().is_empty());
}

#[test]
fn what_was_begun_goes_on_without_the_caller() {
    let world = World::with(Limits { connections_by_uid: 1, ..short() });
    let gate = Arc::new(Semaphore::new(0));
    world.fake.set(|script| {
        script.held = Some(Arc::clone(&gate));
        script.accepted.push_back(Ok(deployment(1)));
    });
    let mut stream = world.connect();
    let body = r#"{"slot":"3.0.0"}"#;
    let head = format!("POST /v1/apps/web/activate HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes()).expect("sent");
    world.until(1, || world.fake.calls().len());
    drop(stream);
    // Its seat is free, so the server has done with the connection.
    world.until(200, || world.get("/v1/status").0);
    assert_eq!(world.fake.set(|script| script.accepted.len()), 1);
    gate.add_permits(1);
    world.until(0, || world.fake.set(|script| script.accepted.len()));
}

#[test]
fn a_follower_sees_every_end_even_when_it_fell_behind() {
    let world = World::new();
    world.fake.put(queued(1));
    let mut stream = world.connect();
    stream.write_all(b"GET /v1/deployments/web-1/events HTTP/1.0\r\n\r\n").expect("sent");
    let mut lines =
        BufReader::new(stream).lines().map(|line| line.expect("line")).skip_while(|line| !line.is_empty()).skip(1);
    let mut next = move || lines.next().map(|line| report_in(&line));
    assert_eq!(next().expect("the report as it stands").state, State::Queued);
    let starting = step(queued(1), State::Starting, "start web@3.0.0.service");
    world.fake.tell(starting.clone());
    assert_eq!(next().expect("a step").steps.len(), 1);
    // Far more than the channel holds: the event of the end itself is among the lost.
    world.fake.put(ended(starting, Outcome::Done, None, None));
    for number in 2..100 {
        world.fake.tell(queued(number));
    }
    let last = std::iter::from_fn(&mut next).last().expect("the end");
    assert_eq!(last.ended.map(|ended| ended.outcome), Some(Outcome::Done));
}

fn report_in(line: &str) -> Report {
    match serde_json::from_str::<Event>(line).expect("an event").what {
        EventKind::Deployment { report } => *report,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_deployment_that_is_over_is_one_line() {
    let world = World::new();
    world.fake.put(ended(queued(1), Outcome::Superseded, None, None));
    let (status, body) = world.raw("GET /v1/deployments/web-1/events HTTP/1.0\r\n\r\n");
    assert_eq!((status, body.lines().count()), (200, 1));
    // Waiting for it is no wait either.
    let (status, body) = world.get("/v1/deployments/web-1?wait=1h");
    assert_eq!(status, 200);
    assert!(serde_json::from_str::<Report>(&body).expect("report").ended.is_some());
}

#[test]
fn a_wait_ends_with_the_deployment_or_with_its_time() {
    let world = World::new();
    world.fake.put(queued(1));
    let (_, body) = world.get("/v1/deployments/web-1?wait=10ms");
    assert_eq!(serde_json::from_str::<Report>(&body).expect("report").state, State::Queued);
    let mut waiting = world.connect();
    waiting.write_all(b"GET /v1/deployments/web-1?wait=1h HTTP/1.1\r\nhost: x\r\n\r\n").expect("sent");
    world.until(200, || world.get("/v1/status").0);
    world.fake.tell(ended(queued(1), Outcome::Done, None, None));
    let (_, body) = answer(waiting);
    assert!(serde_json::from_str::<Report>(&body).expect("report").ended.is_some());
    assert_eq!(refusal(world.get("/v1/deployments/web-1?wait=soon")), (400, Code::RequestInvalid));
}

#[test]
fn events_can_be_taken_up_again_by_number() {
    let world = World::new();
    for version in ["1.0.0", "2.0.0", "3.0.0"] {
        world.fake.event(app_name(), EventKind::Ready { slot: slot(version) });
    }
    let refused = Box::new(Fault::new(Code::ArchiveDamaged, "cut short"));
    world.fake.event(
        app_name(),
        EventKind::Refused { file: "web-4.tar".into(), phase: slotd::model::slot::Phase::Processing, fault: refused },
    );
    let mut stream = world.connect();
    stream.write_all(b"GET /v1/events?after=2 HTTP/1.0\r\n\r\n").expect("sent");
    let lines =
        BufReader::new(stream).lines().map(|line| line.expect("line")).skip_while(|line| !line.is_empty()).skip(1);
    let events: Vec<Event> = lines.take(2).map(|line| serde_json::from_str(&line).expect("event")).collect();
    assert_eq!(events.iter().map(|event| event.seq).collect::<Vec<_>>(), [3, 4]);
    assert_eq!(events[0].what, EventKind::Ready { slot: slot("3.0.0") });
}

#[test]
fn whoever_does_not_read_is_let_go() {
    let world = World::with(Limits { connections_by_uid: 1, ..short() });
    let mut deaf = world.connect();
    deaf.write_all(b"GET /v1/events HTTP/1.1\r\nhost: x\r\n\r\n").expect("sent");
    deaf.read_exact(&mut [0; 12]).expect("it began");
    assert_eq!(refusal(world.get("/v1/status")), (409, Code::RequestBusy));
    // Its socket fills, no write gets on, and its seat is free again.
    let mut long = queued(1);
    long.message = Some("m".repeat(100_000));
    world.until(200, || {
        world.fake.tell(long.clone());
        world.get("/v1/status").0
    });
    drop(deaf);
}

#[test]
fn the_end_comes_at_once_even_with_followers() {
    let mut world = World::new();
    world.fake.put(queued(1));
    let mut followers = [world.connect(), world.connect()];
    followers[0].write_all(b"GET /v1/events HTTP/1.1\r\nhost: x\r\n\r\n").expect("sent");
    followers[1].write_all(b"GET /v1/deployments/web-1/events HTTP/1.1\r\nhost: x\r\n\r\n").expect("sent");
    for follower in &mut followers {
        follower.read_exact(&mut [0; 12]).expect("it began");
    }
    let _silent = world.connect();
    assert!(world.stop() < Duration::from_secs(2), "slotd goes within 2 s");
}
