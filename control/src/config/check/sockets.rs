//! `[[socket]]`: each has a name and an address of its own.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use toml::Spanned;
use weir_dataplane::socket::{Service, SocketSpec, canonical};

use super::Checker;
use crate::config::{At, file};

impl Checker<'_> {
    pub(super) fn sockets(
        &mut self,
        sockets: Vec<Spanned<file::Socket>>,
        sockets_max: usize,
    ) -> Vec<At<SocketSpec>> {
        if sockets.len() > sockets_max {
            let line = self.line(&sockets[sockets_max]);
            self.refuse(
                line,
                format!("{} sockets, more than `limits.sockets` = {sockets_max}", sockets.len()),
                "raise `limits.sockets`",
            );
        }
        let mut checked = Vec::with_capacity(sockets.len());
        let mut names = HashMap::new();
        let mut addresses: HashMap<(IpAddr, u16, Option<SocketAddr>), usize> = HashMap::new();
        for socket in sockets {
            let line = self.line(&socket);
            let Some(spec) = self.socket(socket.get_ref()) else { continue };
            if let Some(first) = names.insert(spec.name.clone(), line) {
                self.refuse(
                    self.line(&socket.get_ref().name),
                    format!("socket \"{}\" is named already in line {first}", spec.name),
                    "give every socket a name of its own",
                );
            }
            let remote = spec.remote.map(|r| SocketAddr::new(canonical(r.ip()), r.port()));
            let taken = spec
                .arrival_addresses()
                .find_map(|ip| addresses.get(&(ip, spec.local.port(), remote)).copied());
            if let Some(first) = taken {
                self.refuse(
                    self.line(&socket.get_ref().address),
                    format!("address {} is in use by the socket of line {first}", spec.local),
                    "bind another address or port, or remove one of the two",
                );
            }
            for ip in spec.arrival_addresses() {
                addresses.entry((ip, spec.local.port(), remote)).or_insert(line);
            }
            checked.push(At { value: spec, line });
        }
        checked
    }

    fn socket(&mut self, socket: &file::Socket) -> Option<SocketSpec> {
        let name = socket.name.get_ref();
        if name.is_empty() || name.len() > 64 || name.chars().any(char::is_control) {
            self.refuse(
                self.line(&socket.name),
                "a socket's name has 1 to 64 printable characters",
                "name it after what it serves",
            );
        }
        let local = self.socket_address(&socket.address);
        let remote = socket.remote.as_ref().map(|remote| self.socket_address(remote));
        let service = match socket.service.get_ref().as_str() {
            "echo" => Some(Service::Echo),
            "discard" => Some(Service::Discard),
            other => {
                self.refuse(
                    self.line(&socket.service),
                    format!("there is no service `{other}`"),
                    "choose \"echo\" or \"discard\"",
                );
                None
            }
        };
        let remote = match remote {
            None => None,
            Some(remote) => Some(remote?),
        };
        let spec = SocketSpec {
            name: name.as_str().into(),
            local: local?,
            v6only: socket.v6only,
            remote,
            service: service?,
        };
        if let Err(error) = spec.check() {
            self.refuse(
                self.line(&socket.address),
                format!("socket \"{name}\": {error}"),
                "mend `address` (and `remote`)",
            );
        }
        if socket.v6only && spec.local.is_ipv4() {
            self.refuse(
                self.line(&socket.address),
                format!("socket \"{name}\" has `v6only` and an IPv4 address"),
                "remove `v6only`",
            );
        }
        Some(spec)
    }

    fn socket_address(&mut self, text: &Spanned<String>) -> Option<SocketAddr> {
        match text.get_ref().parse() {
            Ok(address) => Some(address),
            Err(_) => {
                self.refuse(
                    self.line(text),
                    format!("`{}` is not an address and a port", text.get_ref()),
                    "write it as \"192.0.2.1:80\" or \"[2001:db8::1]:80\"",
                );
                None
            }
        }
    }
}
