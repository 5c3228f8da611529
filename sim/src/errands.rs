//! What contracts ask for and get later: clients have a contract ask for requests and timers, and an outside performs
//! the requests at the members whose turn it is, late, twice, or not at all.

use crate::{
    clients::{Office, push},
    history::Event,
    plan::MEMBERS,
};
use codec::Encode;
use phala_pink::{HttpError, HttpRequest, HttpResult};
use phala_replica::Replica;
use phala_session::{Action, Answer, Freshness, Query};
use std::sync::{Arc, atomic::Ordering};

/// A contract that asks for what it is told to, and counts what comes back.
pub(crate) const SOURCE: &str = include_str!("../../contracts/fixtures/errand.wat");

const SELECTOR: [u8; 4] = [1, 2, 3, 4];
/// How long a request may take, in milliseconds; a member's turn is longer.
const TIMEOUT_MS: u64 = 300;
/// How often the outside looks for requests, in milliseconds.
const LOOK_MS: u64 = 50;

impl Office {
    /// One who has the contract ask, until all is quiet.
    pub(crate) async fn errands(self: Arc<Self>, client: usize) {
        while !self.quiet.load(Ordering::SeqCst) {
            let number = push(&self.asked, ());
            let callback = (SELECTOR, number.to_be_bytes().to_vec(), 100_000_000u64).encode();
            let (function, arguments) = match self.between(0, 2) {
                0 => {
                    let request =
                        HttpRequest { url: "http://a/".into(), method: "GET".into(), headers: vec![], body: vec![] };
                    (101u32, (request, TIMEOUT_MS).encode())
                }
                _ => (102, (self.between(1, 2_000), 0u64).encode()),
            };
            let data = [&function.to_le_bytes()[..], &[0xfe], &arguments, &callback].concat();
            let command = self.command(&self.served, client, Action::Call { contract: *self.errand.lock(), data });
            self.see(Event::Asked { number });
            let (outcome, ..) = self.order(&self.served, command).await;
            if outcome.result.is_ok_and(|output| !output.reverted()) {
                self.see(Event::Promised { number });
            }
            self.sim.sleep_ms(self.between(200, 800)).await;
        }
    }

    /// Performs requests for whoever's turn it is, as long as the run lasts.
    pub(crate) async fn outside(self: Arc<Self>) {
        loop {
            for member in 0..MEMBERS {
                let Some(replica) = self.served.get(member) else { continue };
                for wanted in replica.take_turns(self.sim.now_ms()) {
                    self.sim.spawn(self.clone().perform(replica.clone(), wanted.id));
                }
            }
            self.sim.sleep_ms(LOOK_MS).await;
        }
    }

    async fn perform(self: Arc<Self>, replica: Arc<Replica>, request: u64) {
        // Some take longer than the member's turn, from some nothing comes, some are told twice.
        self.sim.sleep_ms(self.between(0, 3_500)).await;
        for _ in 0..self.between(0, 3) {
            let result: HttpResult = Err(HttpError::Timeout);
            // A member that has died meanwhile, or that nobody hears.
            drop(replica.deliver(request, result.encode(), self.sim.now_ms()));
            self.sim.sleep_ms(self.between(0, 300)).await;
        }
    }

    /// Whether nothing waits at a replica.
    pub(crate) fn at_rest(replica: &Replica) -> bool {
        replica.next_turn().is_none() && replica.next_due().is_none()
    }

    /// Tells the history how often each was called back, by one replica's state.
    pub(crate) fn callbacks(&self, replica: &Replica, member: u32) {
        for number in 0..self.asked.lock().len() as u32 {
            let data = [&number.to_be_bytes()[..], &[0xff]].concat();
            let query =
                Query { contract: *self.errand.lock(), data, value: 0, min_height: 0, freshness: Freshness::Any };
            let answer = replica.query(self.accounts[0].id(), [1; 16], &query, self.sim.now_ms());
            let Ok(Answer::Query { output, .. }) = answer else { continue };
            let times = u64::from_le_bytes(output.data.try_into().unwrap_or([0xff; 8]));
            self.see(Event::Called { member, number, times });
        }
    }
}
