//! The stage on AF_XDP: two namespaces, a veth, a `weir run` of its own, and the kernel's sockets.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use weir_lab::{Bed, BedOptions};
use weir_xsk::FloodPattern;

use super::probe::{Answer, Probe};
use super::{CONFIG, CONFIG_SOCKET, Check, FLOOD_TARGET, Stage};
use crate::client::Client;
use crate::daemon::READY;
use crate::flood::{Bound, Flood, Source};

/// A socket of the kernel's on Weir's own interface: what is not bound stays there.
pub(super) const KERNEL_ECHO: &str = "10.77.0.1:4000";
/// Where Weir's kernel serves the metrics, through the same interface.
const METRICS: &str = "10.77.0.1:9464";
/// How long a datagram is waited for.
const ANSWER_TIME: Duration = Duration::from_millis(300);
/// How long Weir may take to start, and to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// See the module.
pub(super) struct Lab {
    // First: ended before its namespace goes.
    child: Child,
    client: Client,
    folder: PathBuf,
    bed: Bed,
}

impl Lab {
    /// Builds the bed and starts Weir in it.
    pub(super) fn set(say: &dyn Fn(&str)) -> anyhow::Result<Lab> {
        let bed = Bed::new(BedOptions::default())?;
        say(&format!(
            "A lab: {} ({}, Weir) ↔ {} ({}, ordinary sockets)",
            bed.weir().name(),
            Bed::WEIR_DEVICE,
            bed.peer().name(),
            Bed::PEER_DEVICE
        ));
        let folder = std::env::temp_dir().join(format!("weir-demo-{}", std::process::id()));
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let socket = folder.join("weir.sock");
        let config = folder.join("demo.toml");
        fs::write(&config, CONFIG.replace(CONFIG_SOCKET, &socket.to_string_lossy()))?;
        let weir = std::env::current_exe().context("where is this program?")?;
        let mut command = bed.weir().command(&weir.to_string_lossy());
        let child = command
            .args(["run", "-c"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start `weir run`")?;
        let mut lab = Lab { child, client: Client::new(socket), folder, bed };
        lab.await_ready(say)?;
        lab.serve_by_kernel()?;
        Ok(lab)
    }

    fn await_ready(&mut self, say: &dyn Fn(&str)) -> anyhow::Result<()> {
        let stdout = self.child.stdout.take().context("the child has a standard output")?;
        let (sender, lines) = mpsc::channel();
        // Reads on after Weir is ready, so that what it says at its end finds a reader.
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // Nobody listens any more: the line is not needed.
                let _ = sender.send(line);
            }
        });
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match lines.recv_timeout(left) {
                Ok(line) => {
                    say(&line);
                    if line.starts_with(READY) {
                        return Ok(());
                    }
                }
                Err(_) => bail!("`weir run` did not become ready"),
            }
        }
    }

    /// An echo of the kernel's in Weir's namespace.
    fn serve_by_kernel(&self) -> anyhow::Result<()> {
        let socket = self.bed.weir().enter(|| UdpSocket::bind(KERNEL_ECHO))?;
        thread::spawn(move || {
            let mut buffer = [0; 2048];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                if socket.send_to(&buffer[..length], from).is_err() {
                    break;
                }
            }
        });
        Ok(())
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        Ok(kill(Pid::from_raw(self.child.id() as i32), signal)?)
    }
}

impl Stage for Lab {
    fn probe(&self, number: usize, probe: &Probe) -> Answer {
        let payload = format!("weir demo {number}");
        let socket = self.bed.peer().enter(|| {
            let any = if probe.to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            // Connected: only what comes from the address that was asked is received.
            UdpSocket::bind(any).and_then(|socket| socket.connect(probe.to).map(|()| socket))
        });
        let Ok(socket) = socket else { return Answer::Nothing };
        let mut buffer = [0; 2048];
        let received = socket
            .set_read_timeout(Some(ANSWER_TIME))
            .and_then(|()| socket.send(payload.as_bytes()))
            .and_then(|_| socket.recv(&mut buffer));
        match received {
            Ok(length) if buffer[..length] == *payload.as_bytes() => Answer::Echo,
            Ok(_) => Answer::Other,
            Err(_) => Answer::Nothing,
        }
    }

    fn flood(&self, seconds: u64) -> anyhow::Result<(u64, f64)> {
        let target: SocketAddr = FLOOD_TARGET.parse()?;
        let flood = Flood {
            source: Source::LiveFrames,
            pattern: FloodPattern::Udp4,
            interface: Some(Bed::PEER_DEVICE.into()),
            destination: Some(target.ip()),
            port: target.port(),
            random_sources: false,
            bound: Bound { count: None, time: Duration::from_secs(seconds), rate: None },
            own_network: false,
        };
        let outcome = self.bed.peer().enter(|| {
            // Away from the worker, which has the last core. Where this is not ours to choose, the
            // scheduler does.
            let mut first = CpuSet::new();
            let _ = first.set(0).and_then(|()| sched_setaffinity(Pid::from_raw(0), &first));
            flood.run(&mut |_| {})
        })?;
        Ok((outcome.sent, outcome.seconds))
    }

    fn client(&self) -> &Client {
        &self.client
    }

    fn is_af_xdp(&self) -> bool {
        true
    }

    fn prometheus(&self) -> String {
        format!(
            "http://{METRICS}/metrics, while this runs: ip netns exec {} curl http://{METRICS}/metrics",
            self.bed.peer().name()
        )
    }

    fn scrape(&self) -> Check {
        let text = self.bed.peer().enter(|| scrape().unwrap_or_else(|error| error.to_string()));
        let series = text.lines().filter(|line| line.starts_with("weir_")).count();
        Check {
            what: "metrics over the kernel's TCP, through the same interface".into(),
            found: format!("{series} series"),
            right: series > 0,
        }
    }

    fn end(mut self: Box<Self>) -> anyhow::Result<Vec<Check>> {
        self.signal(Signal::SIGTERM)?;
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            if Instant::now() > deadline {
                bail!("`weir run` did not end at SIGTERM");
            }
            thread::sleep(Duration::from_millis(10));
        };
        let left = self.bed.weir().enter(|| {
            let index = weir_xsk::interface_index(Bed::WEIR_DEVICE)?;
            anyhow::Ok(weir_xsk::kernel::attached_xdp(index)?.is_some())
        })?;
        Ok(vec![
            Check {
                what: "`weir run` drains and ends at SIGTERM".into(),
                found: status.to_string(),
                right: status.success(),
            },
            Check {
                what: "the interface is as it was".into(),
                found: if left { "an XDP program is left" } else { "no XDP program" }.into(),
                right: !left,
            },
        ])
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // Ended already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn scrape() -> anyhow::Result<String> {
    let address: SocketAddr = METRICS.parse()?;
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(3))?;
    stream.set_read_timeout(Some(Duration::from_secs(3)))?;
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {METRICS}\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}
