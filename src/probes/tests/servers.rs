//! Each kind of probe against a small real server on loopback or a Unix socket.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};

use super::*;
use crate::config::app::Address;
use crate::units::Active;
use crate::units::fake::FakeUnits;

/// Long enough for a busy machine; only what is meant to be silent takes it.
const PATIENT: Duration = Duration::from_secs(20);
const BRIEF: Duration = Duration::from_millis(300);

/// What a server does with a connection once the request's head is read.
#[derive(Clone)]
enum Server {
    Says(Vec<u8>),
    /// Says it, then holds the connection open without another word.
    SaysAndHolds(Vec<u8>),
    Holds,
    HangsUp,
}

fn says(text: &str) -> Server {
    Server::Says(text.as_bytes().to_vec())
}

/// A server that runs as long as the test: where it listens, and the requests that it got.
struct Running {
    address: String,
    requests: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicU32>,
}

async fn tcp(server: Server) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let (requests, connections) = (Arc::default(), Arc::new(AtomicU32::new(0)));
    let running = Running { address, requests: Arc::clone(&requests), connections: Arc::clone(&connections) };
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            connections.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(answer(stream, server.clone(), Arc::clone(&requests)));
        }
    });
    running
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, server: Server, requests: Arc<Mutex<Vec<String>>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    requests.lock().expect("a lock").push(String::from_utf8(head).expect("text"));
    match server {
        Server::HangsUp => {}
        Server::Holds => std::future::pending().await,
        Server::Says(bytes) => stream.write_all(&bytes).await.unwrap_or_default(),
        Server::SaysAndHolds(bytes) => {
            stream.write_all(&bytes).await.unwrap_or_default();
            std::future::pending().await
        }
    }
}

struct Http(Probe);

impl Http {
    fn at(address: &str) -> Http {
        Http::to(Address::Tcp(address.to_owned()))
    }

    fn to(address: Address) -> Http {
        let (status, headers) = (Vec::new(), BTreeMap::new());
        Http(Probe::Http { address, path: "/health".into(), status, headers, body: None })
    }

    fn expect(mut self, statuses: &[u16], header: Option<(&str, &str)>, text: Option<&str>) -> Http {
        if let Probe::Http { status, headers, body, .. } = &mut self.0 {
            *status = statuses.to_vec();
            headers.extend(header.map(|(name, value)| (name.to_owned(), value.to_owned())));
            *body = text.map(str::to_owned);
        }
        self
    }

    async fn ask(&self, timeout: Duration) -> Result<(), Miss> {
        ask(&self.0, timeout).await
    }
}

async fn ask(probe: &Probe, timeout: Duration) -> Result<(), Miss> {
    prober().attempt(probe, &target(), timeout).await
}

/// Of an instance that runs.
fn prober() -> Prober<FakeUnits> {
    let fake = FakeUnits::new();
    fake.unit("web@2.0@bb1@r2").runs();
    Prober::new(fake)
}

const GOOD: &str = "HTTP/1.1 200 OK\r\nX-Version: 2.0+b1\r\nContent-Length: 10\r\n\r\nweb 2.0+b1";

#[tokio::test]
async fn a_good_answer_and_the_request_that_got_it() {
    let server = tcp(says(GOOD)).await;
    let probe = Http::at(&server.address).expect(&[], Some(("x-version", "{version}")), Some("web {version}"));
    assert_eq!(probe.ask(PATIENT).await, Ok(()));
    assert_eq!(probe.ask(PATIENT).await, Ok(()));
    let requests = server.requests.lock().expect("a lock");
    let expected = format!(
        "GET /health HTTP/1.1\r\nhost: {}\r\nuser-agent: slotd/{}\r\nconnection: close\r\n\r\n",
        server.address,
        env!("CARGO_PKG_VERSION")
    );
    // Two attempts are two connections, or the second would have found none.
    assert_eq!(*requests, [expected.clone(), expected]);
}

/// Whoever connects to a shared socket has systemd start what isn't there.
#[tokio::test]
async fn a_port_behind_which_nothing_runs_is_not_asked() {
    let server = tcp(says(GOOD)).await;
    for (active, sub) in [(Active::Inactive, "dead"), (Active::Deactivating, "stop-sigterm")] {
        let fake = FakeUnits::new();
        fake.unit("web@2.0@bb1@r2").change(|status| (status.active, status.sub) = (active, sub.to_owned()));
        for probe in [Http::at(&server.address).0, Probe::Tcp { address: server.address.clone() }] {
            let miss = Prober::new(fake.clone()).attempt(&probe, &target(), PATIENT).await.expect_err("a miss");
            assert_eq!(miss.kind, MissKind::Silent, "{}", miss.last);
            assert!(miss.last.contains(sub), "{}", miss.last);
        }
    }
    assert_eq!(*server.requests.lock().expect("a lock"), [""; 0]);
    assert_eq!(server.connections.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_body_in_chunks_and_one_without_length() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nweb \r\n6\r\n2.0+b1\r\n0\r\n\r\n";
    for answer in [chunked, "HTTP/1.0 200 OK\r\n\r\nweb 2.0+b1"] {
        let probe = Http::at(&tcp(says(answer)).await.address).expect(&[], None, Some("web {version}"));
        assert_eq!(probe.ask(PATIENT).await, Ok(()), "{answer}");
    }
}

#[tokio::test]
async fn wrong_answers_say_what_came_and_what_was_expected() {
    let old = "HTTP/1.1 200 OK\r\nX-Version: 1.9\r\nContent-Length: 7\r\n\r\nweb 1.9";
    let error = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 15\r\n\r\nno database: \"x";
    let moved = "HTTP/1.1 302 Found\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n";
    let version = Some(("x-version", "{version}"));
    for (answer, statuses, header, text, last) in [
        (error, &[][..], None, None, r#"status 500 Internal Server Error, not 200 to 299; body "no database: \"x""#),
        (moved, &[], None, None, "status 302 Found, not 200 to 299; no body"),
        (GOOD, &[204, 503], None, None, r#"status 200 OK, not 204 or 503; body "web 2.0+b1""#),
        (old, &[], None, Some("{version}"), r#"no "2.0+b1" in the answer; body "web 1.9""#),
        (old, &[], version, None, r#"header x-version is "1.9", not "2.0+b1""#),
        (error, &[500], version, None, r#"header x-version isn't there, not "2.0+b1""#),
    ] {
        let probe = Http::at(&tcp(says(answer)).await.address).expect(statuses, header, text);
        assert_eq!(probe.ask(PATIENT).await, Err(Miss::wrong(last)));
    }
}

#[tokio::test]
async fn any_of_the_expected_statuses_is_good() {
    let server = tcp(says("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")).await;
    assert_eq!(Http::at(&server.address).expect(&[200, 503], None, None).ask(PATIENT).await, Ok(()));
}

#[tokio::test]
async fn what_isnt_http_is_a_wrong_answer() {
    let server = tcp(says("220 mail.example ESMTP\r\n")).await;
    let miss = Http::at(&server.address).ask(PATIENT).await.expect_err("a miss");
    assert_eq!(miss.kind, MissKind::Wrong);
    assert!(miss.last.starts_with("the answer isn't HTTP: "), "{}", miss.last);
}

#[tokio::test]
async fn a_body_that_breaks_off_is_wrong_though_the_text_came() {
    let server = tcp(says("HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\nweb 2.0+b1")).await;
    let miss = Http::at(&server.address).expect(&[], None, Some("web")).ask(PATIENT).await.expect_err("a miss");
    assert_eq!(miss.kind, MissKind::Wrong);
    assert!(miss.last.starts_with("status 200 OK, and the body broke off: "), "{}", miss.last);
}

#[tokio::test]
async fn an_endless_body_is_read_up_to_its_limit() {
    let edge = |before: usize| {
        let mut answer = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
        answer.resize(answer.len() + before, b'.');
        answer.extend_from_slice(b"good");
        answer.resize(answer.len() + 100_000, b'.');
        Server::SaysAndHolds(answer)
    };
    let within = tcp(edge((64 << 10) - 4)).await;
    assert_eq!(Http::at(&within.address).expect(&[], None, Some("good")).ask(PATIENT).await, Ok(()));
    let beyond = tcp(edge((64 << 10) - 3)).await;
    let miss = Http::at(&beyond.address).expect(&[], None, Some("good")).ask(PATIENT).await.expect_err("a miss");
    assert_eq!(miss.kind, MissKind::Wrong);
    assert!(miss.last.len() < 400, "{}", miss.last);
}

#[tokio::test]
async fn silence_in_every_form() {
    let within = "no answer within 300ms";
    let slow = "HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\nweb";
    for (server, last) in [
        (Server::Holds, within),
        (Server::SaysAndHolds(slow.as_bytes().to_vec()), within),
        (Server::HangsUp, "connected, and the connection was closed without an answer"),
    ] {
        let probe = Http::at(&tcp(server).await.address);
        assert_eq!(probe.ask(BRIEF).await, Err(Miss::silent(last)));
    }
}

/// A port that nobody listens on any more.
async fn closed_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    listener.local_addr().expect("an address").to_string()
}

#[tokio::test]
async fn a_closed_port_is_silent() {
    let address = closed_port().await;
    let refused = Miss::silent(format!("connect to {address}: Connection refused (os error 111)"));
    assert_eq!(Http::at(&address).ask(PATIENT).await, Err(refused.clone()));
    assert_eq!(ask(&Probe::Tcp { address }, PATIENT).await, Err(refused));
}

#[tokio::test]
async fn tcp_wants_a_connection_and_no_more() {
    let server = tcp(Server::Holds).await;
    assert_eq!(ask(&Probe::Tcp { address: server.address.clone() }, PATIENT).await, Ok(()));
}

#[tokio::test]
async fn a_unix_socket_of_the_instance() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("2.0@bb1@r2.sock");
    let listener = UnixListener::bind(&socket).expect("a socket");
    let requests: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = Arc::clone(&requests);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, says(GOOD), Arc::clone(&seen)));
        }
    });
    let template = folder.path().join("{instance}.sock");
    let probe = Http::to(Address::Unix(template.clone())).expect(&[200], None, Some("{version}"));
    assert_eq!(probe.ask(PATIENT).await, Ok(()));
    assert!(requests.lock().expect("a lock")[0].contains("\r\nhost: localhost\r\n"));
    let path = template.to_string_lossy().into_owned();
    assert_eq!(ask(&Probe::Unix { path }, PATIENT).await, Ok(()));
}

#[tokio::test]
async fn a_unix_socket_that_isnt_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("none.sock").to_string_lossy().into_owned();
    let miss = Miss::silent(format!("connect to {path}: No such file or directory (os error 2)"));
    assert_eq!(ask(&Probe::Unix { path: path.clone() }, PATIENT).await, Err(miss.clone()));
    assert_eq!(Http::to(Address::Unix(path.into())).ask(PATIENT).await, Err(miss));
}

#[tokio::test]
async fn the_path_that_the_release_names_is_asked_at_the_settings_address() {
    let server = tcp(says(GOOD)).await;
    let target = Target { health_path: Some("/up?full=1".into()), ..target() };
    let asked = prober().attempt(&Http::at(&server.address).0, &target, PATIENT).await;
    assert_eq!(asked, Ok(()));
    assert!(server.requests.lock().expect("a lock")[0].starts_with("GET /up?full=1 HTTP/1.1\r\n"));
}
