//! Open connections at ports of this host, by sock_diag(7): exact, without a privilege and without a child.
//!
//! It counts the ends on this host whose own port is one of these and that the program there still has something to do
//! with: accepted or about to be, and not closed by it.

use std::io;
use std::os::fd::AsRawFd;

use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket};
use nix::sys::time::{TimeVal, TimeValLike};

/// `SOCK_DIAG_BY_FAMILY` of linux/sock_diag.h; `NLMSG_ERROR`, `NLMSG_DONE`, `NLM_F_REQUEST`, `NLM_F_DUMP` of
/// linux/netlink.h.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_DUMP: u16 = 0x300;

/// The header before each message, `struct nlmsghdr`.
const HEADER: usize = 16;

/// `TCP_ESTABLISHED`, `TCP_SYN_RECV` and `TCP_CLOSE_WAIT` of net/tcp_states.h, a bit each. What the program has closed
/// (FIN_WAIT1 and later) the kernel brings to its end alone.
const STATES: u32 = 1 << 1 | 1 << 3 | 1 << 8;

/// A dump is written by the kernel as it is read; one that takes longer is none.
const PATIENCE_SECONDS: i64 = 2;

/// Room for a message of a dump; the kernel writes at most 32 KiB at once.
const BUFFER: usize = 64 << 10;

/// How many connections are open at these ports, over IPv4 and IPv6.
pub fn open_connections(ports: &[u16]) -> io::Result<u64> {
    let socket =
        socket(AddressFamily::Netlink, SockType::Datagram, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkSockDiag)?;
    setsockopt(&socket, ReceiveTimeout, &TimeVal::seconds(PATIENCE_SECONDS))?;
    let mut open = 0;
    for (index, port) in (0u32..).zip(ports) {
        for (half, family) in [(0, AddressFamily::Inet), (1, AddressFamily::Inet6)] {
            let sequence = index * 2 + half;
            send(socket.as_raw_fd(), &request(family, *port, sequence), MsgFlags::empty())?;
            open += count(sequence, |buffer| Ok(recv(socket.as_raw_fd(), buffer, MsgFlags::empty())?))?;
        }
    }
    Ok(open)
}

/// A dump of one family's connections with one source port: `struct nlmsghdr`, `struct inet_diag_req_v2`.
fn request(family: AddressFamily, port: u16, sequence: u32) -> Vec<u8> {
    /// `struct inet_diag_sockid` behind its source port: all other fields mean any.
    const REST_OF_ID: usize = 46;
    const LENGTH: u32 = 72;
    let mut bytes = Vec::with_capacity(LENGTH as usize);
    bytes.extend(LENGTH.to_ne_bytes());
    bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend((NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend(0u32.to_ne_bytes());
    // IPPROTO_TCP, and no extensions.
    bytes.extend([u8::try_from(family as i32).unwrap_or_default(), 6, 0, 0]);
    bytes.extend(STATES.to_ne_bytes());
    bytes.extend(port.to_be_bytes());
    bytes.extend([0; REST_OF_ID]);
    bytes
}

/// Counts the sockets of the answer with this number. What is left of an earlier one is passed over.
fn count(sequence: u32, mut receive: impl FnMut(&mut [u8]) -> io::Result<usize>) -> io::Result<u64> {
    let mut buffer = vec![0; BUFFER];
    let mut sockets = 0;
    loop {
        let length = receive(&mut buffer)?;
        let mut rest = &buffer[..length];
        if rest.is_empty() {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        while rest.len() >= HEADER {
            let u32_at = |at: usize| u32::from_ne_bytes([rest[at], rest[at + 1], rest[at + 2], rest[at + 3]]);
            let whole = usize::try_from(u32_at(0)).unwrap_or(usize::MAX).max(HEADER);
            match u16::from_ne_bytes([rest[4], rest[5]]) {
                _ if u32_at(8) != sequence => {}
                SOCK_DIAG_BY_FAMILY => sockets += 1,
                NLMSG_DONE => return Ok(sockets),
                NLMSG_ERROR if rest.len() >= HEADER + 4 => {
                    return Err(io::Error::from_raw_os_error(u32_at(HEADER).cast_signed().saturating_neg()));
                }
                _ => {}
            }
            // Messages begin at multiples of four.
            rest = rest.get(whole.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Shutdown, TcpListener, TcpStream};

    use super::*;

    fn message(kind: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(HEADER + body.len()).expect("short");
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0, 0]);
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(body);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn counted(answers: &[Vec<u8>]) -> io::Result<u64> {
        let mut answers = answers.iter();
        count(7, |buffer| {
            let answer = answers.next().expect("no more is read");
            buffer[..answer.len()].copy_from_slice(answer);
            Ok(answer.len())
        })
    }

    #[test]
    fn connections_of_both_families_are_counted_until_the_program_closes_them() {
        // The kernel of a listener of both families: its IPv4 clients are sockets of IPv6, too.
        let listener = TcpListener::bind("[::]:0").or_else(|_| TcpListener::bind("127.0.0.1:0")).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let count = || open_connections(&[port]).expect("counted");
        assert_eq!(count(), 0, "the listener itself is no connection");
        let waits = TcpStream::connect(("127.0.0.1", port)).expect("connected");
        let (server, _) = listener.accept().expect("accepted");
        let only_v4 = TcpListener::bind("127.0.0.1:0").expect("a port");
        let other = only_v4.local_addr().expect("an address").port();
        let _client = TcpStream::connect(("127.0.0.1", other)).expect("connected, and not accepted");
        assert_eq!((count(), open_connections(&[port, other]).expect("counted")), (1, 2));
        // Half closed by the client: the server may be answering still.
        waits.shutdown(Shutdown::Write).expect("half closed");
        assert_eq!(count(), 1);
        drop(server);
        assert_eq!(count(), 0);
    }

    #[test]
    fn answers_are_read_to_their_end() {
        let socket = |sequence| message(SOCK_DIAG_BY_FAMILY, sequence, &[0; 73]);
        let done = message(NLMSG_DONE, 7, &[0; 4]);
        assert_eq!(
            counted(&[[socket(7), socket(7)].concat(), [socket(7), done.clone()].concat()]).expect("counted"),
            3
        );
        // What an earlier request left.
        assert_eq!(counted(&[[socket(6), message(NLMSG_DONE, 6, &[]), done.clone()].concat()]).expect("counted"), 0);
        let refused = message(NLMSG_ERROR, 7, &(-13i32).to_ne_bytes());
        assert_eq!(counted(&[refused]).expect_err("refused").raw_os_error(), Some(13));
        assert!(counted(&[Vec::new()]).is_err());
        // Cut short, or with lengths that are none.
        assert_eq!(counted(&[vec![0; HEADER], vec![1; 3], done]).expect("counted"), 0);
    }
}
