//! The outside world of a test: it answers what the test says.

use crate::Said;
use parking_lot::Mutex;
use phala_pink::{HttpError, HttpRequest, HttpResponse, HttpResult, Outside};
use phala_primitives::AccountId;
use std::collections::BTreeMap;

/// Canned responses, a clock that stands still, and chance that is none.
#[derive(Default)]
pub(crate) struct Town(Mutex<Facts>);

#[derive(Default)]
struct Facts {
    now_ms: u64,
    numbers: u8,
    responses: BTreeMap<String, HttpResult>,
    /// What queries said.
    said: Vec<(AccountId, Said)>,
}

impl Town {
    pub(crate) fn set_time(&self, now_ms: u64) {
        self.0.lock().now_ms = now_ms;
    }

    pub(crate) fn respond(&self, url: &str, status_code: u16, body: Vec<u8>) {
        let response = HttpResponse { status_code, reason_phrase: String::new(), headers: vec![], body };
        self.0.lock().responses.insert(url.to_owned(), Ok(response));
    }

    pub(crate) fn fail(&self, url: &str, error: HttpError) {
        self.0.lock().responses.insert(url.to_owned(), Err(error));
    }

    pub(crate) fn said(&self, contract: &AccountId) -> Vec<Said> {
        self.0.lock().said.iter().filter(|(who, _)| who == contract).map(|(_, said)| said.clone()).collect()
    }
}

impl Outside for Town {
    fn http(&self, _: &AccountId, requests: Vec<HttpRequest>, _: u64) -> Vec<HttpResult> {
        let facts = self.0.lock();
        let answer = |request: HttpRequest| facts.responses.get(&request.url).cloned();
        requests.into_iter().map(|request| answer(request).unwrap_or(Err(HttpError::NetworkError))).collect()
    }

    fn random(&self, bytes: &mut [u8]) {
        let mut facts = self.0.lock();
        for byte in bytes {
            facts.numbers = facts.numbers.wrapping_add(1);
            *byte = facts.numbers;
        }
    }

    fn now_ms(&self) -> u64 {
        self.0.lock().now_ms
    }

    fn log(&self, contract: &AccountId, level: u8, text: &str) {
        self.0.lock().said.push((*contract, Said::Line { level, text: text.to_owned() }));
    }
}
