//! What the server grants a client, in bytes, connections and time.

use std::time::Duration;

/// The request line and all headers together; far above what any of our own requests needs.
pub const MAX_HEAD_BYTES: usize = 64 * 1024;

/// A request's body, the bytes of an artifact excepted, which have the app's own limit.
pub const MAX_BODY_BYTES: usize = 64 * 1024;

/// Header lines of a request.
pub const MAX_HEADERS: usize = 64;

/// A message that is kept with a deployment.
pub const MAX_MESSAGE_BYTES: usize = 4096;

/// Reports in one answer of the history.
pub const MAX_HISTORY: u32 = 1000;

/// Reports in an answer of the history whose request says no number.
pub const DEFAULT_HISTORY: u32 = 20;

/// Bytes of an artifact between two looks whether there is room for more: a part of what has to stay free.
pub const LOOK_FOR_ROOM_BYTES: u64 = 16 << 20;

/// Events kept for callers that come back; each may hold a whole report.
pub const EVENTS_KEPT: usize = 256;

/// The longest that `?wait=` may ask for; whoever wants more asks again.
pub const MAX_WAIT: Duration = Duration::from_secs(600);

/// How often a stream of one deployment asks for the report even if no event came, in case one was lost.
pub const ASK_AGAIN: Duration = Duration::from_secs(15);

/// Connections and deadlines. [`Limits::default`] is what the daemon uses; tests wait less long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once.
    pub connections: usize,
    /// Connections at once of one user.
    pub connections_by_uid: usize,
    /// Connections beyond [`connections`](Self::connections) that only root may take, so that no user can lock
    /// the operator out.
    pub connections_for_root: usize,
    /// Connections that are being told that the server is busy; more are closed without a word.
    pub refusals: usize,
    /// From the accept to the end of the request's head.
    pub head: Duration,
    /// For all of a small body.
    pub body: Duration,
    /// Between two pieces of an artifact.
    pub upload_pause: Duration,
    /// For all of an artifact.
    pub upload: Duration,
    /// For which an answer may find no room in the client's socket.
    pub write: Duration,
    /// For which the rest of a refused request is read and thrown away, so that its sender gets to read why.
    pub linger: Duration,
    /// For requests under way when the server is told to end.
    pub shutdown: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: 64,
            connections_by_uid: 16,
            connections_for_root: 8,
            refusals: 16,
            head: Duration::from_secs(10),
            body: Duration::from_secs(10),
            upload_pause: Duration::from_secs(30),
            upload: Duration::from_secs(3600),
            write: Duration::from_secs(30),
            linger: Duration::from_secs(2),
            shutdown: Duration::from_secs(1),
        }
    }
}
