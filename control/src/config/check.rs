//! From what the file says to what is meant: every value is looked at, every mistake is told.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use toml::Spanned;
use weir_dataplane::limits;
use weir_dataplane::socket::{Service, SocketSpec, canonical};

use super::binding::BindingError;
use super::file::{self, File, Kind};
use super::prefix::PrefixError;
use super::{
    At, BINDINGS_MAX, Binding, CONTROL_SOCKET, Config, Device, Entry, EntryValue, Literal,
    ObjectSource, Problem, Problems, Program, Queues, Xsk, line_of,
};

/// Queues that one configuration may name; each has a worker.
const QUEUES_MAX: usize = limits::WORKERS;

/// Checks everything that can be checked without looking at the machine.
pub(super) fn check(path: &Path, text: &str, file: File) -> Result<Config, Problems> {
    let mut checker = Checker { path, text, problems: Vec::new() };
    let device_line = checker.line(&file.device);
    let device = checker.device(file.device);
    let worker = file.worker.unwrap_or_default();
    let cores = worker.cores.map(|cores| checker.place(cores));
    let sockets_max = checker.sockets_max(file.limits.unwrap_or_default());
    let control = file.control.unwrap_or_default();
    let control_socket =
        control.socket.map_or(CONTROL_SOCKET.into(), |socket| PathBuf::from(socket.into_inner()));
    let metrics = control.metrics.and_then(|address| checker.metrics(&address));
    let bindings = checker.bindings(file.binds);
    let sockets = checker.sockets(file.sockets, sockets_max);
    let names: HashMap<&str, usize> =
        sockets.iter().map(|socket| (&*socket.name, socket.line)).collect();
    let programs = checker.programs(file.programs, &names);
    if let (Some(cores), Some(device)) = (&cores, &device) {
        checker.cores(cores, device);
    }
    match device {
        Some(device) if checker.problems.is_empty() => Ok(Config {
            path: path.into(),
            device: At { value: device, line: device_line },
            cores,
            idle: worker.idle.unwrap_or_default(),
            verdict_cache: worker.verdict_cache.unwrap_or(true),
            sockets_max,
            control_socket,
            metrics,
            bindings,
            sockets,
            programs,
        }),
        _ => {
            checker.problems.sort_by_key(|problem| problem.line);
            Err(Problems(checker.problems))
        }
    }
}

struct Checker<'a> {
    path: &'a Path,
    text: &'a str,
    problems: Vec<Problem>,
}

impl Checker<'_> {
    fn line<T>(&self, spanned: &Spanned<T>) -> usize {
        line_of(self.text, spanned.span().start)
    }

    fn place<T>(&self, spanned: Spanned<T>) -> At<T> {
        At { line: self.line(&spanned), value: spanned.into_inner() }
    }

    fn refuse(&mut self, line: usize, reason: impl Into<String>, help: impl Into<String>) {
        self.problems.push(Problem::new(self.path, reason, help).at(line));
    }

    /// A path of the file, relative to the folder that the file is in.
    fn path(&self, text: &str) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("")).join(text)
    }

    fn file(&self, text: Spanned<String>) -> At<PathBuf> {
        At { value: self.path(text.get_ref()), line: self.line(&text) }
    }

    fn device(&mut self, device: Spanned<file::Device>) -> Option<Device> {
        let line = self.line(&device);
        let device = device.into_inner();
        self.keys_of_kind(&device);
        match device.kind {
            Kind::Xsk => self.xsk(line, device),
            Kind::Memory => {
                let queues = match device.queues {
                    None => 1,
                    Some(queues) => self.queue_count(queues)?,
                };
                Some(Device::Memory { queues })
            }
            Kind::Pcap => {
                let Some(replay) = device.replay else {
                    self.refuse(
                        line,
                        "device kind \"pcap\" needs `replay`",
                        "name the capture to read, and with `record` the file to write",
                    );
                    return None;
                };
                let replay = self.file(replay);
                let record = device.record.map(|record| self.file(record));
                Some(Device::Pcap { replay, record })
            }
        }
    }

    /// Refuses keys that mean nothing for the kind of device.
    fn keys_of_kind(&mut self, device: &file::Device) {
        fn span<T>(key: &Option<Spanned<T>>) -> Option<usize> {
            key.as_ref().map(|key| key.span().start)
        }
        let xsk = &[Kind::Xsk][..];
        let keys = [
            ("interface", span(&device.interface), xsk),
            ("queues", span(&device.queues), &[Kind::Xsk, Kind::Memory]),
            ("mode", span(&device.mode), xsk),
            ("frames", span(&device.frames), xsk),
            ("frame_size", span(&device.frame_size), xsk),
            ("rx_ring", span(&device.rx_ring), xsk),
            ("tx_ring", span(&device.tx_ring), xsk),
            ("fill_ring", span(&device.fill_ring), xsk),
            ("completion_ring", span(&device.completion_ring), xsk),
            ("busy_poll", span(&device.busy_poll), xsk),
            ("huge_pages", span(&device.huge_pages), xsk),
            ("replay", span(&device.replay), &[Kind::Pcap]),
            ("record", span(&device.record), &[Kind::Pcap]),
        ];
        for (key, start, kinds) in keys {
            if let Some(start) = start.filter(|_| !kinds.contains(&device.kind)) {
                let kind = format!("{:?}", device.kind).to_lowercase();
                self.refuse(
                    line_of(self.text, start),
                    format!("`{key}` means nothing for a device of kind \"{kind}\""),
                    "remove the key, or change `kind`",
                );
            }
        }
    }

    fn xsk(&mut self, line: usize, device: file::Device) -> Option<Device> {
        let Some(interface) = device.interface else {
            self.refuse(
                line,
                "device kind \"xsk\" needs an `interface`",
                "name the network interface, as `ip link` shows it",
            );
            return None;
        };
        let interface = self.place(interface);
        if interface.is_empty() || interface.len() > 15 || interface.contains(['/', ' ', '\0']) {
            self.refuse(
                interface.line,
                format!("`{}` cannot be the name of an interface", interface.value),
                "name the network interface, as `ip link` shows it: 1 to 15 characters",
            );
        }
        let queues = match device.queues {
            None => At { value: Queues::These(vec![0]), line },
            Some(queues) => self.queues(queues)?,
        };
        let huge_pages = device.huge_pages.and_then(|value| self.huge_pages(value));
        let frame_size = self.power_of_two("frame_size", device.frame_size, 2048, 4096);
        let frames = self.power_of_two("frames", device.frames, 64, 1 << 20);
        Some(Device::Xsk(Xsk {
            interface,
            queues,
            mode: device.mode.map(Spanned::into_inner).unwrap_or_default(),
            frames,
            frame_size,
            rx_ring: self.power_of_two("rx_ring", device.rx_ring, 64, 1 << 16),
            tx_ring: self.power_of_two("tx_ring", device.tx_ring, 64, 1 << 16),
            fill_ring: self.power_of_two("fill_ring", device.fill_ring, 64, 1 << 16),
            completion_ring: self.power_of_two(
                "completion_ring",
                device.completion_ring,
                64,
                1 << 16,
            ),
            busy_poll: device.busy_poll.map(Spanned::into_inner),
            huge_pages,
        }))
    }

    fn power_of_two(
        &mut self,
        key: &str,
        value: Option<Spanned<u32>>,
        least: u32,
        most: u32,
    ) -> Option<u32> {
        let value = self.place(value?);
        if !value.is_power_of_two() || !(least..=most).contains(&value.value) {
            self.refuse(
                value.line,
                format!("`{key}` is {}, not a power of two from {least} to {most}", value.value),
                format!("give a power of two from {least} to {most}, or leave the key out"),
            );
        }
        Some(value.value)
    }

    fn huge_pages(&mut self, value: Spanned<toml::Value>) -> Option<bool> {
        let value = self.place(value);
        match &value.value {
            toml::Value::Boolean(value) => Some(*value),
            toml::Value::String(text) if text == "auto" => None,
            _ => {
                self.refuse(
                    value.line,
                    "`huge_pages` is neither true, false nor \"auto\"",
                    "leave it out for \"auto\": huge pages where there are any",
                );
                None
            }
        }
    }

    fn queue_count(&mut self, queues: Spanned<toml::Value>) -> Option<usize> {
        let queues = self.place(queues);
        match queues.as_integer().and_then(|count| usize::try_from(count).ok()) {
            Some(count) if (1..=QUEUES_MAX).contains(&count) => Some(count),
            _ => {
                self.refuse(
                    queues.line,
                    "`queues` of a memory device is not a number of queues",
                    format!("give a number from 1 to {QUEUES_MAX}"),
                );
                None
            }
        }
    }

    fn queues(&mut self, queues: Spanned<toml::Value>) -> Option<At<Queues>> {
        const HELP: &str = "write \"all\", or a list of queue numbers, each once: [0, 1]";
        let queues = self.place(queues);
        let line = queues.line;
        let list = match &queues.value {
            toml::Value::String(text) if text == "all" => {
                return Some(At { value: Queues::All, line });
            }
            toml::Value::Array(list) => list,
            _ => {
                self.refuse(line, "`queues` is neither \"all\" nor a list of numbers", HELP);
                return None;
            }
        };
        let mut numbers = Vec::with_capacity(list.len());
        for value in list {
            match value.as_integer().and_then(|number| u32::try_from(number).ok()) {
                Some(number) if !numbers.contains(&number) => numbers.push(number),
                Some(number) => {
                    self.refuse(line, format!("queue {number} stands twice in `queues`"), HELP);
                    return None;
                }
                None => {
                    self.refuse(line, format!("`{value}` is not the number of a queue"), HELP);
                    return None;
                }
            }
        }
        if numbers.is_empty() || numbers.len() > QUEUES_MAX {
            self.refuse(
                line,
                format!("`queues` has {} entries, not 1 to {QUEUES_MAX}", numbers.len()),
                HELP,
            );
            return None;
        }
        Some(At { value: Queues::These(numbers), line })
    }

    fn cores(&mut self, cores: &At<Vec<usize>>, device: &Device) {
        let queues = match device {
            Device::Xsk(Xsk { queues, .. }) => match &queues.value {
                Queues::All => return,
                Queues::These(queues) => queues.len(),
            },
            Device::Memory { queues } => *queues,
            Device::Pcap { .. } => 1,
        };
        if cores.len() != queues {
            self.refuse(
                cores.line,
                format!("`cores` names {} processors for {queues} queues", cores.len()),
                "name one processor a queue, or leave the key out",
            );
        }
    }

    fn sockets_max(&mut self, limits: file::Limits) -> usize {
        let Some(sockets) = limits.sockets else { return limits::SOCKETS_DEFAULT };
        let sockets = self.place(sockets);
        if !(1..=limits::SOCKETS_MAX).contains(&sockets.value) {
            self.refuse(
                sockets.line,
                format!("`limits.sockets` is {}, not 1 to {}", sockets.value, limits::SOCKETS_MAX),
                format!("leave it out for {}", limits::SOCKETS_DEFAULT),
            );
        }
        sockets.value
    }

    fn metrics(&mut self, address: &Spanned<String>) -> Option<At<SocketAddr>> {
        let line = self.line(address);
        match address.get_ref().parse() {
            Ok(value) => Some(At { value, line }),
            Err(_) => {
                self.refuse(
                    line,
                    format!("`{}` is not an address and a port", address.get_ref()),
                    "write it as \"127.0.0.1:9464\" or \"[::1]:9464\"",
                );
                None
            }
        }
    }

    fn binding(&mut self, bind: &file::Bind) -> Option<Binding> {
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

    fn bindings(&mut self, binds: Vec<Spanned<file::Bind>>) -> Vec<At<Binding>> {
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

    fn sockets(
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

    fn programs(
        &mut self,
        programs: Vec<Spanned<file::Program>>,
        sockets: &HashMap<&str, usize>,
    ) -> Vec<At<Program>> {
        if programs.len() > limits::PROGRAMS {
            let line = self.line(&programs[limits::PROGRAMS]);
            self.refuse(
                line,
                format!("{} programs, more than {} (E2BIG)", programs.len(), limits::PROGRAMS),
                "the kernel has the same limit: join some of them",
            );
        }
        let mut checked = Vec::with_capacity(programs.len());
        for program in programs {
            let line = self.line(&program);
            let program = program.into_inner();
            let object = self.place(program.object);
            let source = match object.value.strip_prefix("builtin:") {
                Some(name) => ObjectSource::Builtin(name.into()),
                None => ObjectSource::File(self.path(&object.value)),
            };
            let name = self.place(program.name);
            let entries = program
                .entries
                .into_iter()
                .filter_map(|entry| self.entry(entry, sockets))
                .collect();
            let object = At { value: source, line: object.line };
            checked.push(At { value: Program { object, name, entries }, line });
        }
        checked
    }

    fn entry(
        &mut self,
        entry: Spanned<file::Entry>,
        sockets: &HashMap<&str, usize>,
    ) -> Option<At<Entry>> {
        let line = self.line(&entry);
        let entry = entry.into_inner();
        let key = match (&entry.key, &entry.binding) {
            (Some(key), None) => self.literal("key", key),
            (None, Some(binding)) => self.binding(binding).map(Literal::Binding),
            _ => {
                self.refuse(
                    line,
                    "an entry has either `key` or `binding`",
                    "say once where in the map the value belongs",
                );
                None
            }
        };
        let value = match (&entry.value, &entry.socket) {
            (Some(value), None) => self.literal("value", value).map(EntryValue::Literal),
            (None, Some(socket)) => {
                if !sockets.contains_key(socket.get_ref().as_str()) {
                    self.refuse(
                        self.line(socket),
                        format!("there is no socket \"{}\"", socket.get_ref()),
                        "name a [[socket]] of this file",
                    );
                }
                Some(EntryValue::Socket(socket.get_ref().clone()))
            }
            _ => {
                self.refuse(
                    line,
                    "an entry has either `value` or `socket`",
                    "say once what the map holds there",
                );
                None
            }
        };
        let map = entry.map.into_inner();
        Some(At { value: Entry { map, key: key?, value: value? }, line })
    }

    fn literal(&mut self, key: &str, value: &Spanned<toml::Value>) -> Option<Literal> {
        let reason = match value.get_ref() {
            toml::Value::Integer(number) => return Some(Literal::Integer((*number).into())),
            toml::Value::String(text) => match text.parse() {
                Ok(literal) => return Some(literal),
                Err(error) => format!("`{key}`: {error}"),
            },
            _ => format!("`{key}` is neither a number nor a string"),
        };
        self.refuse(
            self.line(value),
            reason,
            "write 7, \"0x0102\", \"192.0.2.0/24\", or use `binding`",
        );
        None
    }
}
