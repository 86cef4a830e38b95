//! One datagram to one address: who should answer, and who did.

use std::fmt;
use std::net::SocketAddr;

use serde::Serialize;

use crate::api::sockets::Socket;

/// Who should answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// The socket of that name, in Weir.
    Socket(&'static str),
    /// A socket of the kernel's.
    Kernel,
    /// Nobody.
    Nobody,
}

/// A datagram to send.
#[derive(Clone, Copy, Debug)]
pub(super) struct Probe {
    pub to: SocketAddr,
    pub expected: Expected,
}

/// What came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The same bytes, from the address that was asked.
    Echo,
    /// Something else.
    Other,
    /// Nothing, or an error.
    Nothing,
}

/// What became of a datagram.
#[derive(Clone, Debug, Serialize)]
pub struct Probed {
    /// Where it went.
    pub to: String,
    /// Who should answer.
    pub expected: String,
    /// Who did, by the sockets' own counters.
    pub answered: String,
    /// Whether they are the same.
    pub right: bool,
}

/// Several addresses and ports of each binding, and what is just beside them.
pub(super) fn list(kernel: bool) -> Vec<Probe> {
    let probe = |to: &str, expected| Probe {
        to: to.parse().expect("the addresses of the demo are addresses"),
        expected,
    };
    let (web, proxy) = (Expected::Socket("web"), Expected::Socket("proxy"));
    let mut probes = vec![
        probe("192.0.2.1:80", web),
        probe("192.0.2.77:80", web),
        probe("192.0.2.254:80", web),
        probe("198.51.100.1:1", proxy),
        probe("198.51.100.1:80", proxy),
        probe("198.51.100.1:443", proxy),
        probe("198.51.100.1:65535", proxy),
        probe("[2001:db8::1]:80", Expected::Socket("web6")),
        probe("[2001:db8::ffff:1]:80", Expected::Socket("web6")),
        probe("192.0.2.1:81", Expected::Nobody),
        probe("198.51.100.2:80", Expected::Nobody),
    ];
    if kernel {
        probes.push(probe(super::lab::KERNEL_ECHO, Expected::Kernel));
    }
    probes
}

impl Probed {
    /// Finds out who answered: the one socket of Weir's that has received and sent one more.
    pub(super) fn judge(
        probe: &Probe,
        answer: &Answer,
        before: &[Socket],
        after: &[Socket],
    ) -> Probed {
        let earlier =
            |id: u64| before.iter().find(|socket| socket.id == id).map(|socket| socket.counters);
        let changed: Vec<&Socket> =
            after.iter().filter(|socket| earlier(socket.id) != Some(socket.counters)).collect();
        let once = |socket: &Socket| {
            let earlier = earlier(socket.id).unwrap_or_default();
            socket.counters.received == earlier.received + 1
                && socket.counters.sent == earlier.sent + 1
        };
        let answered = match (changed.as_slice(), answer) {
            ([socket], Answer::Echo) if once(socket) => socket.name.clone(),
            ([], Answer::Echo) => "the kernel".into(),
            ([], Answer::Nothing) => "nobody".into(),
            (_, answer) => format!(
                "{} socket(s) counted it, and {} came back",
                changed.len(),
                match answer {
                    Answer::Echo => "the datagram",
                    Answer::Other => "something else",
                    Answer::Nothing => "nothing",
                }
            ),
        };
        let expected = match probe.expected {
            Expected::Socket(name) => name.to_owned(),
            Expected::Kernel => "the kernel".into(),
            Expected::Nobody => "nobody".into(),
        };
        let right = answered == expected;
        Probed { to: probe.to.to_string(), expected, answered, right }
    }
}

impl fmt::Display for Probed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<22} → {:<10}", self.to, self.answered)?;
        match self.right {
            true => f.write_str("  right"),
            false => write!(f, "  WRONG: it should be {}", self.expected),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::sockets::SocketTraffic;

    fn socket(id: u64, name: &str, seen: u64) -> Socket {
        Socket {
            id,
            name: name.into(),
            protocol: "udp".into(),
            local: "127.0.0.1:1".into(),
            remote: None,
            v6only: false,
            service: "echo".into(),
            counters: SocketTraffic { received: seen, sent: seen, ..SocketTraffic::default() },
            workers: Vec::new(),
        }
    }

    #[test]
    fn a_wrong_socket_or_a_lost_answer_is_wrong() {
        let to = "192.0.2.1:80".parse().unwrap();
        let web = Probe { to, expected: Expected::Socket("web") };
        let before = [socket(1, "web", 5), socket(2, "proxy", 5)];
        let right = [socket(1, "web", 6), socket(2, "proxy", 5)];
        let wrong = [socket(1, "web", 5), socket(2, "proxy", 6)];
        let judge = |answer, after: &[Socket]| Probed::judge(&web, &answer, &before, after).right;
        assert!(judge(Answer::Echo, &right));
        assert!(!judge(Answer::Echo, &wrong));
        assert!(!judge(Answer::Nothing, &right));
        assert!(!judge(Answer::Other, &right));
        assert!(!judge(Answer::Echo, &before));
        let nobody = Probe { to, expected: Expected::Nobody };
        assert!(Probed::judge(&nobody, &Answer::Nothing, &before, &before).right);
        assert!(!Probed::judge(&nobody, &Answer::Echo, &before, &right).right);
    }
}
