//! Who hears what a program says to systemd: sd_notify(3).
//!
//! It listens all the time, as systemd does: `systemd-notify` waits until it was heard, and its caller with it.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::unix::net::UnixDatagram;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg, sockopt};

/// Most bytes of a message; systemd takes no more.
const MAX_BYTES: usize = 4096;

/// Enough for who sent it. A descriptor doesn't fit, and is closed by the kernel: that is the answer to BARRIER=1.
const ANCILLARY_BYTES: usize = rustix::cmsg_space!(ScmCredentials(1));

/// The end that listens.
#[derive(Debug)]
pub struct Ear {
    said: Receiver<Said>,
    socket: UnixDatagram,
}

/// One message to systemd.
#[derive(Debug, Clone)]
pub struct Said {
    /// Its assignments.
    pub lines: Vec<String>,
    /// Who said it.
    pub pid: i32,
}

impl Ear {
    /// On a socket that programs are told.
    pub fn on(socket: UnixDatagram) -> io::Result<Ear> {
        // Before anything is sent: the kernel adds the sender as the message is queued.
        sockopt::set_socket_passcred(&socket, true)?;
        let (sender, said) = mpsc::channel();
        let listening = socket.try_clone()?;
        std::thread::spawn(move || {
            // Ends with the socket, or with whoever wants to know.
            while let Ok(Some(said)) = receive(&listening) {
                if sender.send(said).is_err() {
                    return;
                }
            }
        });
        Ok(Ear { said, socket })
    }

    /// The next message, if one comes within `limit`.
    pub fn hear(&self, limit: Duration) -> Option<Said> {
        self.said.recv_timeout(limit).ok()
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        // The thread's receive ends by it.
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
    }
}

/// One message; `None` when the socket was shut down.
fn receive(socket: &UnixDatagram) -> io::Result<Option<Said>> {
    let mut bytes = [0; MAX_BYTES];
    let mut space = [MaybeUninit::uninit(); ANCILLARY_BYTES];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let pid = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmCredentials(sender) => Some(sender.pid.as_raw_nonzero().get()),
        _ => None,
    });
    let text = String::from_utf8_lossy(&bytes[..received.bytes]);
    // Every message has a sender; the end has none.
    Ok(pid.map(|pid| Said { lines: text.lines().map(str::to_owned).collect(), pid }))
}

impl Said {
    /// The value of an assignment.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.lines.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
    }

    /// The first word of its STATUS.
    pub fn word(&self) -> Option<&str> {
        self.value("STATUS")?.split(|c: char| !c.is_ascii_alphabetic()).next()
    }
}
