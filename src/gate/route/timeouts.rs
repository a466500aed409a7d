//! How long conntrack remembers the users' connections: a closed one not at all.
//!
//! A connection that an instance resets (it died, or was stopped over what it hadn't read) conntrack keeps as closed for ten
//! seconds, and whoever calls from the same port again meanwhile is sent where that one was, though nobody listens there any
//! more: each try has the kernel keep it for as long again, and he waits until his tries are further apart than that. Clients
//! with many connections use their ports again within seconds. So a closed one is forgotten at once; what still comes of it
//! is refused by whoever it is sent to, as it would have been.
//!
//! nft gives a connection all its timeouts or none, so the others are given as the host has them. They stand in an object of
//! the kernel's, which can't be changed, and whose removal would have open connections return to the ten seconds. So it is
//! named after what it says: once the host says something else there is another one, and the old one stays.

use std::path::Path;

/// Where the host says it.
const HOSTS: &str = "/proc/sys/net/netfilter";

/// nft's word, and the host's.
const STATES: [(&str, &str); 9] = [
    ("syn_sent", "syn_sent"),
    ("syn_recv", "syn_recv"),
    ("established", "established"),
    ("fin_wait", "fin_wait"),
    ("close_wait", "close_wait"),
    ("last_ack", "last_ack"),
    ("time_wait", "time_wait"),
    ("retrans", "max_retrans"),
    ("unack", "unacknowledged"),
];

/// What the host says, in seconds, in the order of [`STATES`]; `None` where it says nothing, and nft takes the kernel's own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Timeouts([Option<u32>; STATES.len()]);

impl Timeouts {
    /// The host's. Until something on it uses conntrack there are none.
    pub fn of_host() -> Timeouts {
        Timeouts::read(Path::new(HOSTS))
    }

    fn read(folder: &Path) -> Timeouts {
        Timeouts(STATES.map(|(_, hosts)| {
            let text = std::fs::read_to_string(folder.join(format!("nf_conntrack_tcp_timeout_{hosts}"))).ok()?;
            text.trim().parse().ok()
        }))
    }

    /// The object's name.
    pub fn name(&self) -> String {
        let words: Vec<String> = self.0.iter().map(|it| it.map_or("x".to_owned(), |it| it.to_string())).collect();
        format!("forgets_closed_{}", words.join("_"))
    }

    /// The object, in nft's language. It is for both families, whatever nft says.
    pub fn object(&self) -> String {
        let said = STATES.iter().zip(self.0).filter_map(|((nft, _), it)| Some(format!("{nft} : {}, ", it?)));
        format!(
            "ct timeout {} {{
        protocol tcp
        l3proto ip
        policy = {{ {}close : 0 }}
    }}",
            self.name(),
            said.collect::<String>()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closed_connections_are_forgotten_and_all_else_is_the_hosts() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("written");
        let none = Timeouts::read(folder.path());
        assert_eq!(none.name(), "forgets_closed_x_x_x_x_x_x_x_x_x");
        assert!(none.object().contains("policy = { close : 0 }"), "{}", none.object());
        write("nf_conntrack_tcp_timeout_established", "3600\n");
        write("nf_conntrack_tcp_timeout_max_retrans", "300\n");
        write("nf_conntrack_tcp_timeout_close", "10\n");
        let some = Timeouts::read(folder.path());
        assert_eq!(some.name(), "forgets_closed_x_x_3600_x_x_x_x_300_x");
        assert!(
            some.object().contains("policy = { established : 3600, retrans : 300, close : 0 }"),
            "{}",
            some.object()
        );
    }
}
