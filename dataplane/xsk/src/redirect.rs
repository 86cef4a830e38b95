//! The redirect program on one interface.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsRawFd;

use crate::binding::Binding;
use crate::counters::RedirectCounters;
use crate::kernel::{self, AttachMode, Link, LoadError, Map, Object, Program};
use crate::queue::Queue;
use crate::rules::Rules;

/// Kinds of binding, as `Binding::kind` counts them.
const KINDS: usize = 8;
const COUNTERS: usize = 5;

/// Why the program could not be attached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// Another XDP program is there; it is left alone.
    #[error(
        "an XDP program (id {id}) is on interface {interface} already; \
        `bpftool prog show id {id}` says which, `ip link set dev … xdp off` removes it"
    )]
    ProgramPresent {
        /// The interface's index.
        interface: u32,
        /// The program's id.
        id: u32,
    },
    /// The kernel refused to attach it.
    #[error("cannot attach to interface {interface} in {mode} mode: {source}{}", hint(source))]
    Attach {
        /// The interface's index.
        interface: u32,
        /// The hook.
        mode: AttachMode,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel refused to load it.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The kernel would not say what is on the interface.
    #[error("cannot ask what is on interface {interface}: {source}")]
    Query {
        /// The interface's index.
        interface: u32,
        /// The kernel's answer.
        source: io::Error,
    },
}

fn hint(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::EPERM) => "; run as root, or with CAP_NET_ADMIN and CAP_BPF",
        Some(libc::ERANGE | libc::EINVAL) => "; the MTU may be too large for XDP: try 3498 or less",
        Some(libc::EOPNOTSUPP) => "; the driver has no XDP: ask for mode `skb`",
        _ => "",
    }
}

/// Why a binding or a queue could not be set.
#[derive(Debug, thiserror::Error)]
pub enum RedirectError {
    /// The kernel refused the binding.
    #[error("cannot bind {binding}: {source}")]
    Bind {
        /// Which.
        binding: Binding,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel refused the queue.
    #[error("cannot give queue {queue} to its socket: {source}")]
    Register {
        /// Which.
        queue: u32,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The program's memory is not what it should be.
    #[error(transparent)]
    Program(#[from] LoadError),
}

/// The program that redirects what is bound on one interface, and passes everything else. It is
/// detached when this is dropped, or the process dies.
#[derive(Debug)]
pub struct Redirect {
    // First: detached before anything else goes.
    _link: Link,
    mode: AttachMode,
    object: Object,
    program: Program,
    map: Map,
    sockets: Map,
    counters: Map,
    bindings: BTreeSet<Binding>,
    kinds: [usize; KINDS],
    rules: [Rules; 2],
}

impl Redirect {
    /// Loads the program and attaches it: to the hook that is asked for, or for `None` to the
    /// driver's and, if it has none, to the generic one. [`Redirect::mode`] says which.
    ///
    /// Nothing is bound, so everything passes.
    ///
    /// # Errors
    /// [`AttachError`], which says what to do.
    pub fn attach(interface: u32, mode: Option<AttachMode>) -> Result<Redirect, AttachError> {
        match kernel::attached_xdp(interface) {
            Ok(None) => {}
            Ok(Some(present)) => {
                return Err(AttachError::ProgramPresent { interface, id: present.id });
            }
            Err(source) => return Err(AttachError::Query { interface, source }),
        }
        let object = Object::load("redirect", weir_progs::REDIRECT)?;
        let program = object.program("redirect")?;
        let attach = |mode| {
            program.attach_xdp(interface, mode).map_err(|source| AttachError::Attach {
                interface,
                mode,
                source,
            })
        };
        let (link, mode) = match mode {
            Some(mode) => (attach(mode)?, mode),
            None => match attach(AttachMode::Native) {
                Ok(link) => (link, AttachMode::Native),
                Err(error) => {
                    tracing::warn!(%error, "no native XDP: the slower generic hook is used");
                    (attach(AttachMode::Skb)?, AttachMode::Skb)
                }
            },
        };
        Ok(Redirect {
            _link: link,
            mode,
            map: object.map("bindings")?,
            sockets: object.map("sockets")?,
            counters: object.map("counters")?,
            object,
            program,
            bindings: BTreeSet::new(),
            kinds: [0; KINDS],
            rules: [Rules::new(false), Rules::new(true)],
        })
    }

    /// The hook that the program is on.
    pub fn mode(&self) -> AttachMode {
        self.mode
    }

    /// Binds; `false` if it was bound already.
    ///
    /// # Errors
    /// [`RedirectError::Bind`]; nothing is changed then.
    pub fn bind(&mut self, binding: &Binding) -> Result<bool, RedirectError> {
        if self.bindings.contains(binding) {
            return Ok(false);
        }
        let value = 1u32.to_ne_bytes();
        self.map
            .update(&binding.key(), &value, 0)
            .map_err(|source| RedirectError::Bind { binding: *binding, source })?;
        self.bindings.insert(*binding);
        self.kinds[binding.kind()] += 1;
        self.rules[family(binding)].add(&mut self.object, *binding)?;
        self.publish_kinds()?;
        Ok(true)
    }

    /// Unbinds; `false` if it was not bound.
    ///
    /// # Errors
    /// [`RedirectError::Bind`].
    pub fn unbind(&mut self, binding: &Binding) -> Result<bool, RedirectError> {
        if !self.bindings.contains(binding) {
            return Ok(false);
        }
        self.bindings.remove(binding);
        let of_family = family(binding);
        let rest = self.bindings.iter().filter(|other| family(other) == of_family);
        self.rules[of_family].remove(&mut self.object, binding, rest)?;
        self.map
            .delete(&binding.key())
            .map_err(|source| RedirectError::Bind { binding: *binding, source })?;
        self.kinds[binding.kind()] -= 1;
        self.publish_kinds()?;
        Ok(true)
    }

    /// Binds exactly these: what is new is added before what is gone is removed, and what stays is
    /// never touched, so it loses no packet.
    ///
    /// # Errors
    /// [`RedirectError::Bind`]; if something could not be added, what was added is removed again
    /// and the old bindings go on.
    pub fn set_bindings(&mut self, wanted: &[Binding]) -> Result<(), RedirectError> {
        let mut added = Vec::new();
        for binding in wanted {
            match self.bind(binding) {
                Ok(true) => added.push(*binding),
                Ok(false) => {}
                Err(error) => {
                    for binding in &added {
                        self.unbind(binding)?;
                    }
                    return Err(error);
                }
            }
        }
        let wanted: BTreeSet<Binding> = wanted.iter().copied().collect();
        let gone: Vec<Binding> = self.bindings.difference(&wanted).copied().collect();
        gone.iter().try_for_each(|binding| self.unbind(binding).map(drop))
    }

    /// What is bound, in order.
    pub fn bindings(&self) -> impl Iterator<Item = &Binding> {
        self.bindings.iter()
    }

    /// Gives the queue's packets to its socket.
    ///
    /// # Errors
    /// [`RedirectError::Register`].
    pub fn register(&mut self, queue: &Queue) -> Result<(), RedirectError> {
        let index = queue.index();
        let socket = queue.as_raw_fd().to_ne_bytes();
        self.sockets
            .update(&index.to_ne_bytes(), &socket, 0)
            .map_err(|source| RedirectError::Register { queue: index, source })
    }

    /// Gives the queue's packets to the kernel again, if they were taken.
    ///
    /// # Errors
    /// [`RedirectError::Register`].
    pub fn unregister(&mut self, queue: u32) -> Result<(), RedirectError> {
        self.sockets
            .delete(&queue.to_ne_bytes())
            .map_err(|source| RedirectError::Register { queue, source })
    }

    /// What the program did so far.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn counters(&self) -> io::Result<RedirectCounters> {
        let mut sums = [0; COUNTERS];
        for (index, sum) in (0u32..).zip(&mut sums) {
            let values = self.counters.lookup(&index.to_ne_bytes())?;
            let (values, _) = values.as_chunks::<8>();
            *sum = values.iter().map(|value| u64::from_ne_bytes(*value)).sum();
        }
        let [redirected, passed, fragments, unparsable, no_socket] = sums;
        Ok(RedirectCounters { redirected, passed, fragments, unparsable, no_socket })
    }

    /// Runs the program once on a packet that comes from nowhere, and answers with its verdict
    /// (`enum xdp_action`): for tests, and to try a binding out. It is counted like any other.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn test_run(&self, packet: &[u8]) -> io::Result<u32> {
        let run = kernel::TestRun { data: packet, ..Default::default() };
        self.program.test_run(&run).map(|result| result.retval)
    }

    fn publish_kinds(&mut self) -> Result<(), LoadError> {
        let present = (0..KINDS).filter(|kind| self.kinds[*kind] > 0);
        let bits: u32 = present.map(|kind| 1 << kind).sum();
        self.object.set_global("kinds", &bits.to_ne_bytes())
    }
}

/// The binding's place in `Redirect::rules`.
fn family(binding: &Binding) -> usize {
    usize::from(binding.prefix().0.is_ipv6())
}
