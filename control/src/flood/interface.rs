//! What `ip` says of an interface: its kind, its addresses, and who is behind it.

use std::net::IpAddr;
use std::process::Command;

use serde_json::Value;

/// See the module. What `ip` does not say is empty, or broadcast.
#[derive(Clone, Debug)]
pub(super) struct Description {
    /// "veth", "bridge", …; empty for hardware.
    pub kind: String,
    /// Its own link-layer address.
    pub mac: [u8; 6],
    /// Link-layer address of a neighbour, a permanent one first; or else broadcast.
    pub next_hop: [u8; 6],
    addresses: Vec<IpAddr>,
}

impl Description {
    /// Its first address of a family that is not link-local.
    pub(super) fn address(&self, ipv6: bool) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|address| address.is_ipv6() == ipv6)
    }
}

/// Asks `ip`, in the caller's network namespace.
pub(super) fn describe(name: &str) -> Description {
    let link = ip(&["-details", "address", "show", "dev", name]);
    let neighbours = ip(&["neighbour", "show", "dev", name]);
    from_json(&link, &neighbours)
}

fn ip(arguments: &[&str]) -> Value {
    let output = Command::new("ip").arg("-json").args(arguments).output();
    output
        .ok()
        .and_then(|output| serde_json::from_slice(&output.stdout).ok())
        .unwrap_or(Value::Null)
}

fn from_json(link: &Value, neighbours: &Value) -> Description {
    let link = &link[0];
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let addresses = list(&link["addr_info"])
        .iter()
        .filter(|address| address["scope"] != "link")
        .filter_map(|address| address["local"].as_str()?.parse().ok())
        .collect();
    let known = |neighbour: &Value| neighbour["lladdr"].as_str().and_then(parse_mac);
    let neighbours = list(neighbours);
    let permanent = neighbours.iter().filter(|n| list(&n["state"]).contains(&"PERMANENT".into()));
    Description {
        kind: link["linkinfo"]["info_kind"].as_str().unwrap_or("").into(),
        mac: link["address"].as_str().and_then(parse_mac).unwrap_or([2, 0, 0, 0, 0, 1]),
        next_hop: permanent.chain(&neighbours).find_map(known).unwrap_or([0xff; 6]),
        addresses,
    }
}

fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut parts = text.split(':').map(|part| u8::from_str_radix(part, 16).ok());
    let mut mac = [0; 6];
    for byte in &mut mac {
        *byte = parts.next()??;
    }
    parts.next().is_none().then_some(mac)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_ip_says_is_understood() {
        let link = json!([{
            "address": "02:00:00:00:00:0a",
            "linkinfo": {"info_kind": "veth"},
            "addr_info": [
                {"local": "fe80::1", "scope": "link"},
                {"local": "10.77.0.2", "scope": "global"},
                {"local": "fd77::2", "scope": "global"},
            ],
        }]);
        let neighbours = json!([
            {"dst": "10.77.0.9", "lladdr": "02:00:00:00:00:01", "state": ["STALE"]},
            {"dst": "10.77.0.1", "lladdr": "02:00:00:00:00:0b", "state": ["PERMANENT"]},
        ]);
        let description = from_json(&link, &neighbours);
        assert_eq!(description.kind, "veth");
        assert_eq!(description.mac[5], 10);
        assert_eq!(description.next_hop[5], 11);
        assert_eq!(description.address(false), "10.77.0.2".parse().ok());
        assert_eq!(description.address(true), "fd77::2".parse().ok());
        let nothing = from_json(&Value::Null, &Value::Null);
        assert_eq!((nothing.kind.as_str(), nothing.next_hop), ("", [0xff; 6]));
    }
}
