//! `[[bind]]`: each is a binding, none covers another.

use toml::Spanned;

use super::Checker;
use crate::config::binding::BindingError;
use crate::config::prefix::PrefixError;
use crate::config::{At, BINDINGS_MAX, Binding, file};

impl Checker<'_> {
    pub(super) fn binding(&mut self, bind: &file::Bind) -> Option<Binding> {
        let port = match bind.port.as_ref().map(|port| port.get_ref()) {
            None => "all".into(),
            Some(toml::Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        match Binding::parse(bind.prefix.get_ref(), bind.protocol.get_ref(), &port) {
            Ok(binding) => Some(binding),
            Err(error) => {
                let (line, help) = match &error {
                    BindingError::Prefix(PrefixError::HostBits { network, .. }) => {
                        (self.line(&bind.prefix), format!("write \"{network}\""))
                    }
                    BindingError::Prefix(_) => (
                        self.line(&bind.prefix),
                        "write it as \"192.0.2.0/24\" or \"2001:db8::/32\"".into(),
                    ),
                    BindingError::Tcp => (
                        self.line(&bind.protocol),
                        "remove the binding: what is not bound stays with the kernel".into(),
                    ),
                    BindingError::Protocol(_) => {
                        (self.line(&bind.protocol), "write \"udp\"".into())
                    }
                    BindingError::Port(_) | BindingError::Syntax(_) => {
                        let place = bind.port.as_ref().map_or(0, |port| self.line(port));
                        (place, "give a port, or leave the key out for all of them".into())
                    }
                };
                self.refuse(line, error.to_string(), help);
                None
            }
        }
    }

    pub(super) fn bindings(&mut self, binds: Vec<Spanned<file::Bind>>) -> Vec<At<Binding>> {
        let mut bindings: Vec<At<Binding>> = Vec::with_capacity(binds.len());
        if binds.len() > BINDINGS_MAX {
            let line = self.line(&binds[BINDINGS_MAX]);
            self.refuse(
                line,
                format!("{} bindings, more than {BINDINGS_MAX}", binds.len()),
                "bind wider prefixes, and let programs choose among the addresses",
            );
            return bindings;
        }
        for bind in binds {
            let line = self.line(&bind);
            let Some(value) = self.binding(bind.get_ref()) else { continue };
            let clash = bindings.iter().find(|b| b.covers(&value) || value.covers(b)).cloned();
            if let Some(other) = clash {
                let reason = if other.value == value {
                    format!("binding {value} stands already in line {}", other.line)
                } else if other.covers(&value) {
                    format!("binding {value} overlaps {} of line {}", other.value, other.line)
                } else {
                    format!("binding {} of line {} overlaps {value}", other.value, other.line)
                };
                self.refuse(
                    line,
                    reason,
                    "keep the wider of the two: it covers the other; programs choose the socket",
                );
            }
            bindings.push(At { value, line });
        }
        bindings
    }
}
