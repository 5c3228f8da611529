//! The outside world as contracts' queries see it.

use crate::{egress::Egress, fanout::FanOut, sayings::Sayings, service::now_ms};
use phala_pink::{HttpRequest, HttpResult, MapResult, Outside, Parts};
use phala_primitives::AccountId;
use phala_session::SystemRng;
use rand_core::Rng;
use std::{sync::Arc, time::Duration};
use tokio::runtime::Handle;

/// What this host offers. Its methods are called on threads that may block.
pub(crate) struct Host {
    egress: Arc<Egress>,
    runtime: Handle,
    said: Arc<Sayings>,
    fanout: Arc<FanOut>,
}

impl Host {
    /// To be called within a runtime.
    pub(crate) fn new(egress: Arc<Egress>, said: Arc<Sayings>, fanout: Arc<FanOut>) -> Self {
        Self { egress, runtime: Handle::current(), said, fanout }
    }
}

impl Outside for Host {
    fn http(&self, contract: &AccountId, requests: Vec<HttpRequest>, timeout_ms: u64) -> Vec<HttpResult> {
        self.runtime.block_on(self.egress.all(contract, requests, Duration::from_millis(timeout_ms)))
    }

    fn random(&self, bytes: &mut [u8]) {
        SystemRng.fill_bytes(bytes);
    }

    fn now_ms(&self) -> u64 {
        now_ms()
    }

    fn log(&self, contract: &AccountId, level: u8, text: &str) {
        self.said.add(contract, now_ms(), level, text);
    }

    fn map(&self, parts: Parts) -> Vec<MapResult> {
        self.fanout.map(parts)
    }
}
