//! `weir-bench flood`: the sender of `weir-bench rx`, a process that lasts until it is killed.

use anyhow::Context;
use weir_lab::Bed;
use weir_xsk::{FloodPattern, FloodTraffic, LiveFrames, Template, interface_index};

use crate::rx::pattern_of;
use crate::rx::scene::{PORT, SENDER_CORE, addresses, pin};

/// What `rx` says.
#[derive(clap::Args)]
pub struct Arguments {
    /// What is sent.
    #[arg(long, value_parser = pattern_of)]
    pattern: FloodPattern,
    /// How much at most.
    #[arg(long)]
    count: u64,
    /// The sender's link-layer address.
    #[arg(long, value_parser = mac_of)]
    from: [u8; 6],
    /// The receiver's.
    #[arg(long, value_parser = mac_of)]
    to: [u8; 6],
}

/// Sends.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    pin(SENDER_CORE)?;
    let interface = interface_index(Bed::PEER_DEVICE)
        .context("this is run by `weir-bench rx`, in a namespace that it made")?;
    let (source, destination) = addresses(arguments.pattern);
    let template = Template::new(&FloodTraffic {
        pattern: arguments.pattern,
        source_mac: arguments.from,
        destination_mac: arguments.to,
        source,
        destination,
        destination_port: PORT,
        first_port: 1024,
        ports: 10_000,
        random_bits: 0,
        payload: 0,
    })?;
    let sent = LiveFrames::new(interface, &template)?.send(arguments.count)?;
    anyhow::bail!("{sent} frames sent, and nobody stopped the flood")
}

fn mac_of(text: &str) -> Result<[u8; 6], String> {
    let bytes: Result<Vec<u8>, _> =
        text.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect();
    let bytes = bytes.map_err(|error| error.to_string())?;
    bytes.try_into().map_err(|_| "six bytes in hex".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_layer_address_is_six_bytes() {
        assert_eq!(mac_of("02:00:ab:0c:ff:01"), Ok([2, 0, 0xab, 0xc, 0xff, 1]));
        assert!(mac_of("02:00").is_err());
        assert!(mac_of("02:00:ab:0c:ff:0g").is_err());
    }
}
