//! Why a frame was dropped: one reason for each way out, which is also its metric's label.

use weir_inet::ParseError;

/// A way out of the dataplane that is neither delivery nor an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The packet was refused by the parser.
    Parse(ParseError),
    /// No socket for it, and no answer was due or allowed.
    NoSocket,
    /// A program said SK_DROP, and no answer was due or allowed.
    ProgramDrop,
    /// A program broke a rule and was stopped; no answer was due or allowed.
    ProgramFault,
    /// A TCP segment: bound to Weir, but nothing listens.
    NoListener,
    /// An ICMP message that is not for a socket.
    IcmpUnserved,
    /// More frames wait for the transmit ring than may.
    TransmitBacklog,
    /// No answer can be sent: it would come from a group address.
    Unanswerable,
}

impl Reason {
    const OWN: [Reason; 7] = [
        Reason::NoSocket,
        Reason::ProgramDrop,
        Reason::ProgramFault,
        Reason::NoListener,
        Reason::IcmpUnserved,
        Reason::TransmitBacklog,
        Reason::Unanswerable,
    ];
    /// How many there are.
    pub const COUNT: usize = ParseError::ALL.len() + Reason::OWN.len();

    /// All of them, in the order of [`Reason::index`].
    pub fn all() -> impl Iterator<Item = Reason> {
        ParseError::ALL.iter().copied().map(Reason::Parse).chain(Reason::OWN)
    }

    /// Dense number, for the table of counters.
    pub fn index(self) -> usize {
        let own = match self {
            Reason::Parse(error) => return error.index(),
            Reason::NoSocket => 0,
            Reason::ProgramDrop => 1,
            Reason::ProgramFault => 2,
            Reason::NoListener => 3,
            Reason::IcmpUnserved => 4,
            Reason::TransmitBacklog => 5,
            Reason::Unanswerable => 6,
        };
        ParseError::ALL.len() + own
    }

    /// The label in metrics and listings.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Parse(error) => error.as_str(),
            Reason::NoSocket => "no_socket",
            Reason::ProgramDrop => "program_drop",
            Reason::ProgramFault => "program_fault",
            Reason::NoListener => "no_listener",
            Reason::IcmpUnserved => "icmp_unserved",
            Reason::TransmitBacklog => "transmit_backlog",
            Reason::Unanswerable => "unanswerable",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_place_and_name() {
        let all: Vec<_> = Reason::all().collect();
        assert_eq!(all.len(), Reason::COUNT);
        for (place, reason) in all.iter().enumerate() {
            assert_eq!(reason.index(), place);
        }
        let names: std::collections::HashSet<_> = all.iter().map(|r| r.as_str()).collect();
        assert_eq!(names.len(), Reason::COUNT);
    }
}
