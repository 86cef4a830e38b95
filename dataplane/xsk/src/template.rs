//! The frame that a flood is made of.

use std::net::IpAddr;

const ETHERNET: usize = 14;
const TCP: usize = 20;
const UDP: usize = 8;

/// What kind of packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FloodPattern {
    /// UDP over IPv4.
    Udp4,
    /// UDP over IPv6.
    Udp6,
    /// TCP SYN over IPv4.
    Tcp4Syn,
    /// TCP SYN over IPv6.
    Tcp6Syn,
}

impl FloodPattern {
    /// All of them.
    pub const ALL: [FloodPattern; 4] =
        [FloodPattern::Udp4, FloodPattern::Udp6, FloodPattern::Tcp4Syn, FloodPattern::Tcp6Syn];

    /// Its name on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            FloodPattern::Udp4 => "udp4",
            FloodPattern::Udp6 => "udp6",
            FloodPattern::Tcp4Syn => "tcp4-syn",
            FloodPattern::Tcp6Syn => "tcp6-syn",
        }
    }

    fn is_ipv6(self) -> bool {
        matches!(self, FloodPattern::Udp6 | FloodPattern::Tcp6Syn)
    }

    fn is_tcp(self) -> bool {
        matches!(self, FloodPattern::Tcp4Syn | FloodPattern::Tcp6Syn)
    }
}

/// Who sends what to whom.
#[derive(Clone, Copy, Debug)]
pub struct FloodTraffic {
    /// What kind of packets.
    pub pattern: FloodPattern,
    /// The sender's link-layer address.
    pub source_mac: [u8; 6],
    /// The receiver's.
    pub destination_mac: [u8; 6],
    /// The sender's address.
    pub source: IpAddr,
    /// The receiver's address.
    pub destination: IpAddr,
    /// The receiver's port.
    pub destination_port: u16,
    /// The first source port.
    pub first_port: u16,
    /// How many source ports are used, one after the other.
    pub ports: u16,
    /// How many of the source address' last bits are random: 0 to 32.
    pub random_bits: u8,
    /// Bytes of payload, all zero; none in a SYN.
    pub payload: u16,
}

/// Why there is no such traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// An address is not of the pattern's family.
    #[error("{0} is not an address for {1}")]
    Family(IpAddr, &'static str),
    /// The source ports run over the last.
    #[error("{1} source ports from {0} on: there are only 65535")]
    Ports(u16, u16),
    /// More random bits than there are.
    #[error("{0} random bits: 0 to 32 are possible")]
    RandomBits(u8),
    /// The packet does not fit an Ethernet frame.
    #[error("{0} bytes of payload: 0 to 1400 are possible")]
    Payload(u16),
}

/// One frame, right in every checksum, and where in it the variable fields are.
#[derive(Clone, Debug)]
pub struct Template {
    pub(crate) frame: Vec<u8>,
    pub(crate) transport: usize,
    pub(crate) checksum: usize,
    /// Offset of the IPv4 header's checksum.
    pub(crate) ip_checksum: Option<usize>,
    /// Offset of the last four bytes of the source address.
    pub(crate) source: usize,
    pub(crate) random_bits: u8,
    pub(crate) first_port: u16,
    pub(crate) ports: u16,
}

impl Template {
    /// Builds the frame.
    ///
    /// # Errors
    /// [`TemplateError`].
    pub fn new(traffic: &FloodTraffic) -> Result<Template, TemplateError> {
        check(traffic)?;
        let (ip, protocol) = (ETHERNET, if traffic.pattern.is_tcp() { 6 } else { 17 });
        let ip_length = if traffic.pattern.is_ipv6() { 40 } else { 20 };
        let transport = ip + ip_length;
        let payload = if traffic.pattern.is_tcp() { TCP } else { UDP + traffic.payload as usize };
        let mut frame = vec![0; transport + payload];
        frame[..6].copy_from_slice(&traffic.destination_mac);
        frame[6..12].copy_from_slice(&traffic.source_mac);
        let ethertype: u16 = if traffic.pattern.is_ipv6() { 0x86dd } else { 0x0800 };
        frame[12..14].copy_from_slice(&ethertype.to_be_bytes());
        write_ip(&mut frame[ip..], traffic, protocol, payload as u16);
        let checksum = write_transport(&mut frame[transport..], traffic);
        // The addresses stand together at the end of both headers.
        let addresses = if traffic.pattern.is_ipv6() { ip + 8 } else { ip + 12 };
        let pseudo = u32::from(protocol) + payload as u32 + sum(&frame[addresses..transport]);
        let value = match fold(pseudo + sum(&frame[transport..])) {
            // 0 would mean that there is none, and is the same number.
            0 => 0xffff,
            value => value,
        };
        let checksum = transport + checksum;
        frame[checksum..checksum + 2].copy_from_slice(&value.to_be_bytes());
        let is_ipv6 = traffic.pattern.is_ipv6();
        Ok(Template {
            frame,
            transport,
            checksum,
            ip_checksum: (!is_ipv6).then_some(ip + 10),
            source: if is_ipv6 { ip + 20 } else { ip + 12 },
            random_bits: traffic.random_bits,
            first_port: traffic.first_port,
            ports: traffic.ports,
        })
    }

    /// The frame, with the first source port.
    pub fn frame(&self) -> &[u8] {
        &self.frame
    }

    /// Gives a copy of the frame the source port of the `turn`th packet.
    pub(crate) fn stamp(&self, frame: &mut [u8], turn: u64) {
        let port = self.first_port + (turn % u64::from(self.ports)) as u16;
        let old = u16::from_be_bytes([frame[self.transport], frame[self.transport + 1]]);
        let at = self.checksum;
        let checksum = u16::from_be_bytes([frame[at], frame[at + 1]]);
        // RFC 1624, equation 3.
        let value = match fold(u32::from(!checksum) + u32::from(!old) + u32::from(port)) {
            0 => 0xffff,
            value => value,
        };
        frame[at..at + 2].copy_from_slice(&value.to_be_bytes());
        frame[self.transport..self.transport + 2].copy_from_slice(&port.to_be_bytes());
    }
}

fn check(traffic: &FloodTraffic) -> Result<(), TemplateError> {
    for address in [traffic.source, traffic.destination] {
        if address.is_ipv6() != traffic.pattern.is_ipv6() {
            return Err(TemplateError::Family(address, traffic.pattern.as_str()));
        }
    }
    let beyond = u32::from(traffic.first_port) + u32::from(traffic.ports) > 65536;
    if beyond || traffic.ports == 0 {
        return Err(TemplateError::Ports(traffic.first_port, traffic.ports));
    }
    if traffic.random_bits > 32 {
        return Err(TemplateError::RandomBits(traffic.random_bits));
    }
    if traffic.payload > 1400 {
        return Err(TemplateError::Payload(traffic.payload));
    }
    Ok(())
}

fn write_ip(ip: &mut [u8], traffic: &FloodTraffic, protocol: u8, payload: u16) {
    match (traffic.source, traffic.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            ip[0] = 0x45;
            ip[2..4].copy_from_slice(&(20 + payload).to_be_bytes());
            // Don't fragment; so the identification may stay 0 (RFC 6864).
            ip[6] = 0x40;
            ip[8] = 64;
            ip[9] = protocol;
            ip[12..16].copy_from_slice(&source.octets());
            ip[16..20].copy_from_slice(&destination.octets());
            let checksum = fold(sum(&ip[..20]));
            ip[10..12].copy_from_slice(&checksum.to_be_bytes());
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            ip[0] = 0x60;
            ip[4..6].copy_from_slice(&payload.to_be_bytes());
            ip[6] = protocol;
            ip[7] = 64;
            ip[8..24].copy_from_slice(&source.octets());
            ip[24..40].copy_from_slice(&destination.octets());
        }
        _ => unreachable!("the families were checked"),
    }
}

/// Writes the header, and answers with the offset of its checksum.
fn write_transport(transport: &mut [u8], traffic: &FloodTraffic) -> usize {
    transport[..2].copy_from_slice(&traffic.first_port.to_be_bytes());
    transport[2..4].copy_from_slice(&traffic.destination_port.to_be_bytes());
    if traffic.pattern.is_tcp() {
        // No options, SYN, a window of 64240.
        transport[12] = 5 << 4;
        transport[13] = 0x02;
        transport[14..16].copy_from_slice(&64240u16.to_be_bytes());
        16
    } else {
        let length = transport.len() as u16;
        transport[4..6].copy_from_slice(&length.to_be_bytes());
        6
    }
}

fn sum(bytes: &[u8]) -> u32 {
    let (words, rest) = bytes.as_chunks::<2>();
    let whole: u32 = words.iter().map(|word| u32::from(u16::from_be_bytes(*word))).sum();
    whole + rest.first().map_or(0, |byte| u32::from(*byte) << 8)
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traffic(pattern: FloodPattern) -> FloodTraffic {
        let ip =
            |four: &str, six: &str| if pattern.is_ipv6() { six } else { four }.parse().unwrap();
        FloodTraffic {
            pattern,
            source_mac: [2; 6],
            destination_mac: [4; 6],
            source: ip("10.0.0.1", "fd00::1"),
            destination: ip("10.0.0.2", "fd00::2"),
            destination_port: 7,
            first_port: 1024,
            ports: 10_000,
            random_bits: 0,
            payload: 3,
        }
    }

    fn is_right(template: &Template, frame: &[u8]) -> bool {
        let addresses = if template.ip_checksum.is_some() { 26 } else { 22 };
        let protocol = if template.checksum - template.transport == 6 { 17 } else { 6 };
        let length = frame.len() - template.transport;
        fold(sum(&frame[addresses..]) + protocol + length as u32) == 0
    }

    #[test]
    fn every_pattern_has_right_checksums_for_every_port() {
        for pattern in FloodPattern::ALL {
            let template = Template::new(&traffic(pattern)).unwrap();
            let mut frame = template.frame().to_vec();
            assert!(is_right(&template, &frame), "{pattern:?}");
            if !pattern.is_ipv6() {
                assert_eq!(fold(sum(&frame[14..34])), 0);
            }
            for turn in 0..10_001 {
                template.stamp(&mut frame, turn);
                assert!(is_right(&template, &frame), "{pattern:?} {turn}");
            }
            assert_eq!(frame, template.frame(), "turn 10,000 is the first port again");
        }
    }

    #[test]
    fn refuses_what_cannot_be_sent() {
        let good = traffic(FloodPattern::Udp4);
        let bad = FloodTraffic { ports: 65_000, ..good };
        assert_eq!(Template::new(&bad).unwrap_err(), TemplateError::Ports(1024, 65_000));
        let bad = FloodTraffic { source: "::1".parse().unwrap(), ..good };
        assert!(matches!(Template::new(&bad), Err(TemplateError::Family(..))));
        let bad = FloodTraffic { random_bits: 33, ..good };
        assert_eq!(Template::new(&bad).unwrap_err(), TemplateError::RandomBits(33));
        let bad = FloodTraffic { payload: 1401, ..good };
        assert_eq!(Template::new(&bad).unwrap_err(), TemplateError::Payload(1401));
    }
}
