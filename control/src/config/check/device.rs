//! `[device]`, and the processors for its queues.

use toml::Spanned;

use super::{Checker, QUEUES_MAX};
use crate::config::file::{self, Kind};
use crate::config::{At, Device, Queues, Xsk, line_of};

impl Checker<'_> {
    pub(super) fn device(&mut self, device: Spanned<file::Device>) -> Option<Device> {
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

    pub(super) fn cores(&mut self, cores: &At<Vec<usize>>, device: &Device) {
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
}
