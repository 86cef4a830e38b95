//! The stage without privileges: the same configuration on a memory device, in this process.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::sync::oneshot;
use weir_dataplane::device::memory::MemoryPort;
use weir_inet::{ChecksumPolicy, parse};
use weir_xsk::{FloodPattern, FloodTraffic, Template};

use super::probe::{Answer, Probe};
use super::{CONFIG, Check, FLOOD_TARGET, Stage};
use crate::client::Client;
use crate::config::Config;
use crate::daemon::{Daemon, Ending};

/// How long a datagram is waited for.
const ANSWER_TIME: Duration = Duration::from_millis(300);
/// Packets of the flood between two looks at the clock.
const STRIDE: u64 = 256;

/// See the module.
pub(super) struct Memory {
    port: MemoryPort,
    client: Client,
    stop: Option<oneshot::Sender<()>>,
    daemon: Option<JoinHandle<Option<Ending>>>,
    folder: PathBuf,
}

impl Memory {
    /// Starts Weir on a thread of this process.
    pub(super) fn set(say: &dyn Fn(&str)) -> anyhow::Result<Memory> {
        let folder = std::env::temp_dir().join(format!("weir-demo-{}", std::process::id()));
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let socket = folder.join("weir.sock");
        let config = Config::parse(Path::new("demo.toml"), &on_memory(&socket))?;
        let (stop, stopped) = oneshot::channel();
        let (sender, started) = mpsc::channel();
        let daemon = thread::spawn(move || serve(config, &sender, stopped));
        let port = started.recv().context("Weir did not start")??;
        say("weir: ready on the memory device");
        let client = Client::new(socket);
        Ok(Memory { port, client, stop: Some(stop), daemon: Some(daemon), folder })
    }

    fn finish(&mut self) -> Option<Ending> {
        // The thread gone is as good as told.
        self.stop.take()?.send(()).ok();
        self.daemon.take()?.join().ok().flatten()
    }
}

/// The demo's configuration with another device and control socket.
fn on_memory(socket: &Path) -> String {
    let rest = CONFIG.find("[[bind]]").map_or("", |start| &CONFIG[start..]);
    format!("[device]\nkind = \"memory\"\n[control]\nsocket = \"{}\"\n{rest}", socket.display())
}

fn serve(
    config: Config,
    started: &mpsc::Sender<anyhow::Result<MemoryPort>>,
    stopped: oneshot::Receiver<()>,
) -> Option<Ending> {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = started.send(Err(error.into()));
            return None;
        }
    };
    runtime.block_on(async {
        let daemon = match Daemon::start(config).await {
            Ok(daemon) => daemon,
            Err(problems) => {
                let _ = started.send(Err(problems.into()));
                return None;
            }
        };
        let port = daemon.app().plane().await.ok()?.take_ports().pop()?;
        let _ = started.send(Ok(port));
        let _ = stopped.await;
        daemon.stop().await
    })
}

/// A datagram from the peer of the lab.
fn frame(to: SocketAddr, source_port: u16, payload: u16) -> anyhow::Result<Vec<u8>> {
    let (pattern, source) = match to.is_ipv4() {
        true => (FloodPattern::Udp4, weir_lab::Bed::PEER_V4.into()),
        false => (FloodPattern::Udp6, weir_lab::Bed::PEER_V6.into()),
    };
    let template = Template::new(&FloodTraffic {
        pattern,
        source_mac: [2, 0, 0, 0, 0, 2],
        destination_mac: [2, 0, 0, 0, 0, 1],
        source,
        destination: to.ip(),
        destination_port: to.port(),
        first_port: source_port,
        ports: 1,
        random_bits: 0,
        payload,
    })?;
    Ok(template.frame().to_vec())
}

impl Stage for Memory {
    fn probe(&self, number: usize, probe: &Probe) -> Answer {
        let Ok(frame) = frame(probe.to, 20_000 + number as u16, 10 + number as u16) else {
            return Answer::Nothing;
        };
        let Ok(asked) = parse(&frame, ChecksumPolicy::Verify) else { return Answer::Nothing };
        if !self.port.send(&frame) {
            return Answer::Nothing;
        }
        let deadline = Instant::now() + ANSWER_TIME;
        while Instant::now() < deadline {
            let Some(reply) = self.port.receive() else {
                thread::sleep(Duration::from_millis(1));
                continue;
            };
            return match parse(&reply, ChecksumPolicy::Verify) {
                Ok(answer)
                    if answer.key.remote == asked.key.local
                        && answer.key.local == asked.key.remote
                        && answer.payload(&reply) == asked.payload(&frame) =>
                {
                    Answer::Echo
                }
                // A refusal by ICMP, as a kernel would answer, is no answer of a socket.
                Ok(answer) if answer.key.protocol != asked.key.protocol => Answer::Nothing,
                _ => Answer::Other,
            };
        }
        Answer::Nothing
    }

    fn flood(&self, seconds: u64) -> anyhow::Result<(u64, f64)> {
        let target: SocketAddr = FLOOD_TARGET.parse()?;
        let frames: Vec<Vec<u8>> =
            (10_000..20_000).map(|port| frame(target, port, 0)).collect::<Result<_, _>>()?;
        let started = Instant::now();
        let mut sent = 0;
        let mut next = frames.iter().cycle();
        while started.elapsed() < Duration::from_secs(seconds) {
            for frame in next.by_ref().take(STRIDE as usize) {
                while !self.port.send(frame) {
                    thread::yield_now();
                }
                sent += 1;
            }
        }
        Ok((sent, started.elapsed().as_secs_f64()))
    }

    fn client(&self) -> &Client {
        &self.client
    }

    fn is_af_xdp(&self) -> bool {
        false
    }

    fn prometheus(&self) -> String {
        let socket = self.client.socket().display();
        format!("curl --unix-socket {socket} http://weir/metrics, while this runs")
    }

    fn scrape(&self) -> Check {
        let text = self.client.read_text("/metrics").unwrap_or_default();
        let series = text.lines().filter(|line| line.starts_with("weir_")).count();
        Check {
            what: "metrics over the Unix socket".into(),
            found: format!("{series} series"),
            right: series > 0,
        }
    }

    fn end(mut self: Box<Self>) -> anyhow::Result<Vec<Check>> {
        let ending = self.finish();
        Ok(vec![Check {
            what: "Weir drains and ends".into(),
            found: if ending.is_some() { "it did" } else { "it did not" }.into(),
            right: ending.is_some(),
        }])
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.finish();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Verdict, probe};
    use super::*;

    #[test]
    fn the_stage_in_memory_answers_as_the_program_says() {
        let stage = Memory::set(&|_| {}).unwrap();
        for (number, probe) in probe::list(false).iter().enumerate() {
            let expected = match probe.expected {
                probe::Expected::Socket(_) => Answer::Echo,
                _ => Answer::Nothing,
            };
            assert_eq!(stage.probe(number, probe), expected, "{probe:?}");
        }
        let checks = Box::new(stage).end().unwrap();
        assert!(checks.iter().all(|check| check.right), "{checks:?}");
        // The type is what the command prints: it must have a JSON form.
        let verdict = Verdict {
            af_xdp: false,
            probes: Vec::new(),
            flood: super::super::Flooded {
                seconds: 1.0,
                sent: 0,
                received: 0,
                received_per_second: 0.0,
            },
            checks,
            success: true,
        };
        assert!(serde_json::to_string(&verdict).is_ok());
    }
}
