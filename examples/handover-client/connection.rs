//! One connection: requests on it, who answered, and in which way it broke.
//!
//! hyper tells that a connection broke, and not always what came before. So the stream under it takes notes.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONNECTION, HOST};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Who gave an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    pub version: String,
    /// slotd's name for where it lies; "-" outside of slotd.
    pub slot: String,
}

/// What became of a request that has no good answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Nobody listened.
    Refused,
    /// No connection for another reason: whoever listened ended before it was open.
    Connect,
    /// The connection ended, or said what is no HTTP, before the whole answer was there.
    Read,
    /// The request couldn't be sent.
    Write,
    /// No answer in time.
    Timeout,
    /// Any status but 200.
    Status,
    /// A good status from somebody who doesn't say who he is.
    Nameless,
    /// The client itself had no port or descriptor left: its numbers are worth nothing.
    Own,
}

/// What went wrong with a request on an open connection.
#[derive(Debug, Clone, Copy)]
pub struct Broken {
    pub failure: Failure,
    /// The connection is closed, and not a byte of an answer came.
    pub unanswered: bool,
}

/// An open connection.
pub struct Connection {
    requests: SendRequest<Empty<Bytes>>,
    notes: Rc<Notes>,
    host: String,
}

/// What the stream has seen since the request under way was begun.
#[derive(Debug, Default)]
struct Notes {
    received: Cell<bool>,
    write_failed: Cell<bool>,
}

/// A stream that takes notes.
struct Noting {
    stream: TcpStream,
    notes: Rc<Notes>,
}

impl Connection {
    /// Opens one.
    pub async fn open(server: SocketAddr) -> Result<Connection, Failure> {
        let stream = TcpStream::connect(server).await.map_err(|error| connect_failure(&error))?;
        // A request is whole when it is written; without this it would only come later.
        let _ = stream.set_nodelay(true);
        let notes = Rc::new(Notes::default());
        let (requests, work) =
            handshake(TokioIo::new(Noting { stream, notes: Rc::clone(&notes) })).await.map_err(|_| Failure::Connect)?;
        // How it ended is told to the request under way.
        tokio::task::spawn_local(async move {
            let _ = work.await;
        });
        Ok(Connection { requests, notes, host: server.to_string() })
    }

    /// Whether another request can go over it, as far as is known.
    pub async fn is_open(&mut self) -> bool {
        // Waits for hyper to have read what came behind the last answer; ends at once if nothing did.
        self.requests.ready().await.is_ok()
    }

    /// Asks, and reads the whole answer. `last` tells the server that no other request will follow.
    pub async fn ask(&mut self, path: &Uri, last: bool) -> Result<Server, Broken> {
        self.notes.received.set(false);
        let mut request = Request::get(path).header(HOST, &self.host);
        if last {
            request = request.header(CONNECTION, "close");
        }
        let request = request.body(Empty::new()).map_err(|_| self.broken(Failure::Write))?;
        let answer = self.requests.send_request(request).await.map_err(|_| self.lost())?;
        let (head, body) = answer.into_parts();
        let body = body.collect().await.map_err(|_| self.lost())?.to_bytes();
        if head.status != StatusCode::OK {
            return Err(self.broken(Failure::Status));
        }
        let named = head.headers.get("x-version").and_then(|name| name.to_str().ok());
        Server::named(&String::from_utf8_lossy(&body), named).ok_or_else(|| self.broken(Failure::Nameless))
    }

    fn lost(&self) -> Broken {
        self.broken(if self.notes.write_failed.get() { Failure::Write } else { Failure::Read })
    }

    fn broken(&self, failure: Failure) -> Broken {
        let lost = matches!(failure, Failure::Read | Failure::Write);
        Broken { failure, unanswered: lost && !self.notes.received.get() }
    }
}

/// The client's own lack, told from a server's.
fn connect_failure(error: &io::Error) -> Failure {
    use nix::errno::Errno::{EADDRNOTAVAIL, EMFILE, ENFILE};
    let own = [EADDRNOTAVAIL, EMFILE, ENFILE].map(|errno| errno as i32);
    match error.raw_os_error() {
        Some(errno) if own.contains(&errno) => Failure::Own,
        _ if error.kind() == io::ErrorKind::ConnectionRefused => Failure::Refused,
        _ => Failure::Connect,
    }
}

impl Server {
    /// From `version X slot Y …`, else from the header's word.
    fn named(body: &str, header: Option<&str>) -> Option<Server> {
        let after = |word| body.split_ascii_whitespace().skip_while(move |found| *found != word).nth(1);
        let version = after("version").or(header)?;
        Some(Server { version: version.to_owned(), slot: after("slot").unwrap_or("-").to_owned() })
    }

    /// Whether slotd's `slot` is where it lies; outside of slotd the version tells.
    pub fn is(&self, slot: &str) -> bool {
        if self.slot == "-" { self.version == slot } else { self.slot == slot }
    }
}

impl AsyncRead for Noting {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        if buffer.filled().len() > before {
            self.notes.received.set(true);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Noting {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes));
        self.notes.write_failed.set(written.is_err());
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
