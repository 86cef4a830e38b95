//! `weir reload`

use clap::Args;
use hyper::Method;

use super::Global;
use super::trouble::Trouble;
use crate::api::Reloading;

#[derive(Debug, Args)]
pub(super) struct Reload {}

impl Reload {
    pub(super) fn run(self, global: &Global) -> Result<(), Trouble> {
        let now: Reloading = global.client().send_bytes(Method::POST, "/v1/reload", Vec::new())?;
        global.show(&now, |now| {
            format!(
                "reloaded {}: {} bindings, {} sockets, {} programs attached",
                now.config, now.bindings, now.sockets, now.links
            )
        });
        Ok(())
    }
}
