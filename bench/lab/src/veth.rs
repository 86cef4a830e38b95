//! veth pairs with as many queues as asked for.

use crate::command::run;
use crate::{LabError, Namespace};

/// What a veth pair is like; both ends alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VethOptions {
    /// Receive and transmit queues of each end.
    pub queues: u32,
    /// Bytes of IP packet that one frame may carry.
    pub mtu: u32,
}

impl Default for VethOptions {
    fn default() -> VethOptions {
        VethOptions { queues: 1, mtu: 1500 }
    }
}

impl VethOptions {
    pub(crate) fn create(
        &self,
        (a, a_device): (&Namespace, &str),
        (b, b_device): (&Namespace, &str),
    ) -> Result<(), LabError> {
        let (queues, mtu) = (self.queues.to_string(), self.mtu.to_string());
        let shape = ["mtu", &mtu, "numrxqueues", &queues, "numtxqueues", &queues];
        let mut arguments = vec!["-n", a.name(), "link", "add", "name", a_device];
        arguments.extend(shape);
        arguments.extend(["type", "veth", "peer", "name", b_device, "netns", b.name()]);
        arguments.extend(shape);
        run("ip", &arguments)
    }
}
