//! What HAProxy says of its connections to instances, on a socket that may only look (`level user`).
//!
//! It keeps connections that no user has, for the next one. They are no reason to wait for an instance that is taken out,
//! and only HAProxy knows which they are.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::model::route::haproxy_columns;
use crate::model::{Code, Fault};

/// How long it may take to answer.
const LIMIT: Duration = Duration::from_secs(2);

/// Longest answer: some 100 bytes a server.
const MAX_BYTES: u64 = 1 << 20;

/// HAProxy, seen by slotd.
#[derive(Debug, Clone)]
pub(super) struct HaproxyView {
    /// The backend.
    pub(super) backend: String,
    /// The socket.
    pub(super) socket: PathBuf,
}

impl HaproxyView {
    /// How many connections without a user it keeps to each port.
    pub(super) async fn idle(&self) -> io::Result<BTreeMap<u16, u64>> {
        let text = tokio::time::timeout(LIMIT, self.ask()).await.map_err(|_| io::ErrorKind::TimedOut)??;
        let rows =
            haproxy_columns(&text, ["port", "idle_cur"]).ok_or_else(|| io::Error::other(text.trim().to_owned()))?;
        let mut idle = BTreeMap::new();
        for [port, count] in rows {
            if let (Ok(port), Ok(count)) = (port.parse(), count.parse::<u64>()) {
                *idle.entry(port).or_default() += count;
            }
        }
        Ok(idle)
    }

    /// That it doesn't answer.
    pub(super) fn not_asked(&self, error: &io::Error) -> Fault {
        let HaproxyView { backend, socket } = self;
        let socket = socket.display();
        let message = format!(
            "HAProxy doesn't say how its backend {backend} stands: {socket}: {error}; it has to run, with `stats socket \
             {socket} group slotd mode 660 level user` in `global`"
        );
        Fault::new(Code::RouteHelper, message)
    }

    async fn ask(&self) -> io::Result<String> {
        let mut socket = UnixStream::connect(&self.socket).await?;
        socket.write_all(format!("show servers conn {}\n", self.backend).as_bytes()).await?;
        let mut text = String::new();
        socket.take(MAX_BYTES).read_to_string(&mut text).await?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A HAProxy that gives one answer.
    async fn answers(answer: &'static str) -> io::Result<BTreeMap<u16, u64>> {
        let folder = tempfile::tempdir().expect("a folder");
        let view = HaproxyView { backend: "web".into(), socket: folder.path().join("s") };
        let listener = tokio::net::UnixListener::bind(&view.socket).expect("bound");
        let serve = async {
            let (mut client, _) = listener.accept().await.expect("a client");
            let mut asked = [0; 64];
            let length = client.read(&mut asked).await.expect("a question");
            assert_eq!(&asked[..length], b"show servers conn web\n");
            client.write_all(answer.as_bytes()).await.expect("answered");
        };
        tokio::join!(view.idle(), serve).0
    }

    #[tokio::test]
    async fn idle_connections_by_port() {
        let table = "# bkname/svname bkid/svid addr port - purge_delay used_cur used_max need_est unsafe_nb safe_nb idle_lim \
                     idle_cur idle_per_thr[2]\n\
                     web/s1 3/1 127.0.0.1 20000 - 5000 1 1 1 2 0 -1 2 1 1\n\
                     web/s2 3/2 127.0.0.1 20001 - 5000 0 1 1 1 0 -1 0 0 0\n\n";
        assert_eq!(answers(table).await.expect("a table"), BTreeMap::from([(20000, 2), (20001, 0)]));
        assert_eq!(answers("Can't find backend.\n").await.expect_err("none").to_string(), "Can't find backend.");
    }

    #[tokio::test]
    async fn one_that_is_not_there_is_told_with_what_it_needs() {
        let view = HaproxyView { backend: "web".into(), socket: "/nowhere/s".into() };
        let error = view.idle().await.expect_err("nobody");
        let fault = view.not_asked(&error);
        assert_eq!(fault.code, Code::RouteHelper);
        assert!(
            fault.message.contains("`stats socket /nowhere/s group slotd mode 660 level user`"),
            "{}",
            fault.message
        );
    }
}
