//! The far end of a bed: ordinary kernel sockets, commands, and what the kernel says of an
//! interface.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use weir_lab::{Bed, BedOptions, Namespace};

/// How long what must happen may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(3);

/// The device of most tests: all queues of Weir's end.
pub const DEVICE: &str = "[device]\nkind = \"xsk\"\ninterface = \"weir0\"\nqueues = \"all\"\n[worker]\nidle = \"adaptive\"\n";

/// A bed with so many queues.
pub fn bed(queues: u32) -> Bed {
    Bed::new(BedOptions { queues, ..BedOptions::default() }).unwrap()
}

/// `[[bind]]`, with a port or `"all"`.
pub fn binding(prefix: &str, port: &str) -> String {
    format!("[[bind]]\nprefix = \"{prefix}\"\nprotocol = \"udp\"\nport = {port}\n")
}

/// `[[socket]]`.
pub fn socket(name: &str, address: &str, service: &str) -> String {
    format!("[[socket]]\nname = \"{name}\"\naddress = \"{address}\"\nservice = \"{service}\"\n")
}

/// A kernel socket of the peer that is connected to the address.
pub fn client(bed: &Bed, address: &str) -> UdpSocket {
    client_from(bed, 0, address)
}

/// The same, from a port of the peer.
pub fn client_from(bed: &Bed, port: u16, address: &str) -> UdpSocket {
    let address: SocketAddr = address.parse().unwrap();
    let own: IpAddr = if address.is_ipv4() { Bed::PEER_V4.into() } else { Bed::PEER_V6.into() };
    let socket = bed.peer().enter(|| {
        let socket = UdpSocket::bind((own, port)).unwrap();
        socket.connect(address).unwrap();
        socket
    });
    socket.set_read_timeout(Some(ANSWER)).unwrap();
    socket
}

/// Sends a datagram and says what came back.
pub fn exchange(socket: &UdpSocket, payload: &[u8]) -> io::Result<Vec<u8>> {
    let mut buffer = [0; 9000];
    socket.send(payload)?;
    let length = socket.recv(&mut buffer)?;
    Ok(buffer[..length].to_vec())
}

/// Whether the datagram comes back as it went.
pub fn echoes(socket: &UdpSocket, payload: &[u8]) -> bool {
    exchange(socket, payload).is_ok_and(|answer| answer == payload)
}

/// Whether the answer is an ICMP error that says that nobody is there.
pub fn refused(socket: &UdpSocket, payload: &[u8]) -> bool {
    exchange(socket, payload).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

/// A UDP service of the kernel's on Weir's side, which puts a word before what it answers. It ends
/// with the process.
pub fn kernel_echo(bed: &Bed, address: &str) {
    let socket = bed.weir().enter(|| UdpSocket::bind(address)).unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 9000];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&[b"kernel:", &buffer[..length]].concat(), from);
        }
    });
}

/// Whether such a service answers.
pub fn kernel_answers(socket: &UdpSocket, payload: &[u8]) -> bool {
    exchange(socket, payload).is_ok_and(|answer| answer == [b"kernel:", payload].concat())
}

/// A kernel TCP connection from the peer to a service on Weir's side that sends all back.
pub fn kernel_connection(bed: &Bed, port: u16) -> TcpStream {
    let address = SocketAddr::from((Bed::WEIR_V4, port));
    let listener = bed.weir().enter(|| std::net::TcpListener::bind(address)).unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            if stream.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
    });
    let stream = bed.peer().enter(|| TcpStream::connect_timeout(&address, PATIENCE)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Whether the connection carries data there and back.
pub fn carries(stream: &mut TcpStream, payload: &[u8]) -> bool {
    let mut back = vec![0; payload.len()];
    stream.write_all(payload).is_ok() && stream.read_exact(&mut back).is_ok() && back == payload
}

/// Id of the XDP program on Weir's interface.
pub fn xdp_program(bed: &Bed) -> Option<u32> {
    let index = bed.weir().ifindex(Bed::WEIR_DEVICE).unwrap();
    bed.weir().enter(|| weir_xsk::kernel::attached_xdp(index)).unwrap().map(|program| program.id)
}

/// Frames that the peer's interface says it has sent ("packets"), or lost on the way out
/// ("dropped"): those for which veth's own ring had no room.
pub fn transmitted(bed: &Bed, what: &str) -> u64 {
    let path = format!("/sys/class/net/{}/statistics/tx_{what}", Bed::PEER_DEVICE);
    output(bed.peer().command("cat").arg(path)).trim().parse().unwrap()
}

/// Calls until it holds, or the patience ends.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not in {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// What the command wrote, which must succeed.
pub fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A child that is killed with this.
pub struct Background(Child);

impl Background {
    pub fn start(command: &mut Command) -> Background {
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Background(quiet.spawn().unwrap())
    }

    pub fn runs(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// GET over plain HTTP/1.1 in a namespace: status and body.
pub fn http(namespace: &Namespace, address: &str, path: &str) -> io::Result<(u16, String)> {
    let address: SocketAddr = address.parse().unwrap();
    let mut stream = namespace.enter(|| TcpStream::connect_timeout(&address, ANSWER))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or(ErrorKind::InvalidData)?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok((status.ok_or(ErrorKind::InvalidData)?, body.to_owned()))
}
