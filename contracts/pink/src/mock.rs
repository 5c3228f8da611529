//! A stand-in for the network in unit tests, off any chain.
//!
//! It answers what a test tells it to, keeps lines and cache in memory, and counts in place of chance. Its signatures
//! are hashes: they verify here, and nowhere else. `phala-testkit` runs contracts on the real machine instead.

use crate::types::{
    HttpError, HttpRequest, HttpResponse, HttpResult, Kept, MapError, MapResult, MessageError, SigType,
    StorageQuotaExceeded, WithdrawError,
};
use ink::{
    env::{
        hash::{Blake2x256, CryptoHash},
        test::{register_chain_extension, ChainExtension},
    },
    primitives::{AccountId, Hash},
    scale::{Decode, Encode},
};
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

/// What one contract's cache holds at most, in bytes, as on the network.
const QUOTA: usize = 4 << 20;
/// Least that is paid out, as on the network.
const LEAST: u128 = 10_000_000_000;
/// Least that moves within and between clusters, and longest message, as on the network.
const DUST: u128 = 100_000_000;
const MOST: usize = 16 << 10;

#[derive(Default)]
struct State {
    command: bool,
    responses: BTreeMap<String, HttpResult>,
    requests: Vec<HttpRequest>,
    lines: Vec<(u8, String)>,
    cache: BTreeMap<Vec<u8>, Vec<u8>>,
    readers: BTreeSet<Option<AccountId>>,
    numbers: u8,
    jobs: Vec<u64>,
    named: u64,
    balance: u128,
    withdrawals: Vec<(AccountId, u128)>,
    calls: Vec<Vec<u8>>,
    messages: Vec<(AccountId, Vec<u8>, u128)>,
    parts: BTreeMap<[u8; 4], Part>,
    hooks: BTreeSet<String>,
}

/// What computes a part of a query.
type Part = Rc<dyn Fn(&[u8]) -> MapResult>;

/// What a test says to the stand-in, and asks of it.
#[derive(Clone)]
pub struct Mock(Rc<RefCell<State>>);

struct Extension(Rc<RefCell<State>>);

/// Puts a fresh stand-in under this thread's contracts; it is a query until [`Mock::set_command`] says otherwise.
///
/// ```
/// let mock = pink::mock::install();
/// mock.respond("https://example.com/", 200, "fine");
/// assert_eq!(pink::http_get!("https://example.com/").body, b"fine");
/// mock.set_command(true);
/// assert_eq!(pink::http_get!("https://example.com/").status_code, 523);
/// assert_eq!(mock.requests().len(), 1);
/// ```
pub fn install() -> Mock {
    let state = Rc::new(RefCell::new(State::default()));
    register_chain_extension(Extension(state.clone()));
    Mock(state)
}

impl Mock {
    /// What follows is a command, or a query.
    pub fn set_command(&self, command: bool) {
        self.0.borrow_mut().command = command;
    }

    /// Answers requests of this URL, by any method, from now on.
    pub fn respond(&self, url: &str, status: u16, body: impl Into<Vec<u8>>) {
        let response =
            HttpResponse { status_code: status, reason_phrase: String::new(), headers: Vec::new(), body: body.into() };
        self.0.borrow_mut().responses.insert(url.to_owned(), Ok(response));
    }

    /// Lets requests of this URL fail from now on.
    pub fn fail(&self, url: &str, error: HttpError) {
        self.0.borrow_mut().responses.insert(url.to_owned(), Err(error));
    }

    /// Answers parts of queries that call the message of this selector, from now on. It gets the arguments in SCALE, and
    /// returns what the message would: a byte 0, then its answer.
    pub fn on_part(&self, selector: [u8; 4], part: impl Fn(&[u8]) -> MapResult + 'static) {
        self.0.borrow_mut().parts.insert(selector, Rc::new(part));
    }

    /// Requests so far, in their order.
    pub fn requests(&self) -> Vec<HttpRequest> {
        self.0.borrow().requests.clone()
    }

    /// Lines so far: levels from 1 (error) to 5 (trace), and texts.
    pub fn lines(&self) -> Vec<(u8, String)> {
        self.0.borrow().lines.clone()
    }

    /// Requests and timers that were asked for in commands and not cancelled, by their names.
    pub fn jobs(&self) -> Vec<u64> {
        self.0.borrow().jobs.clone()
    }

    /// Says what the contract owns, as far as paying out is concerned.
    pub fn set_balance(&self, balance: u128) {
        self.0.borrow_mut().balance = balance;
    }

    /// What was paid to accounts of the chain, in its order.
    pub fn withdrawals(&self) -> Vec<(AccountId, u128)> {
        self.0.borrow().withdrawals.clone()
    }

    /// Calls of the chain, in their order.
    pub fn chain_calls(&self) -> Vec<Vec<u8>> {
        self.0.borrow().calls.clone()
    }

    /// Messages to other contracts, in their order: to whom, selector and arguments, and the value.
    pub fn messages(&self) -> Vec<(AccountId, Vec<u8>, u128)> {
        self.0.borrow().messages.clone()
    }

    /// Paths of the hooks that are open, in the order of the alphabet.
    pub fn hooks(&self) -> Vec<String> {
        self.0.borrow().hooks.iter().cloned().collect()
    }

    /// Whether an account other than the owner may read the log.
    pub fn may_read_log(&self, who: AccountId) -> bool {
        let state = self.0.borrow();
        state.readers.contains(&None) || state.readers.contains(&Some(who))
    }
}

/// The arguments of a function.
fn arguments<T: Decode>(mut input: &[u8]) -> T {
    T::decode(&mut input).expect("the crate encodes what it declares")
}

fn hash(input: impl Encode) -> [u8; 32] {
    let mut output = [0; 32];
    Blake2x256::hash(&input.encode(), &mut output);
    output
}

fn public(kind: SigType, key: &[u8]) -> Vec<u8> {
    let length = key.len();
    assert!(length == 32 || (kind == SigType::Sr25519 && length == 64), "{length} bytes are no key of this kind");
    let mut public = hash((kind, key)).to_vec();
    if kind == SigType::Ecdsa {
        public.insert(0, 2);
    }
    public
}

/// What stands for the signature that the owner of a public key makes.
fn signature(kind: SigType, public: &[u8], message: &[u8]) -> Vec<u8> {
    let half = hash((kind, public, message));
    let mut signature = [half, half].concat();
    if kind == SigType::Ecdsa {
        signature.push(0);
    }
    signature
}

impl State {
    fn request(&mut self, request: HttpRequest) -> HttpResult {
        if self.command {
            return Err(HttpError::NotAllowed);
        }
        let result = self.responses.get(&request.url).cloned().unwrap_or(Err(HttpError::NetworkError));
        self.requests.push(request);
        result
    }

    fn single(&mut self, request: HttpRequest) -> HttpResponse {
        self.request(request).unwrap_or_else(|error| HttpResponse {
            status_code: if error == HttpError::Timeout { 524 } else { 523 },
            reason_phrase: format!("{error:?}"),
            headers: Vec::new(),
            body: Vec::new(),
        })
    }

    fn batch(&mut self, requests: Vec<HttpRequest>) -> Kept<Vec<HttpResult>, HttpError> {
        Kept(match (self.command, requests.len()) {
            (true, _) => Err(HttpError::NotAllowed),
            (false, 17..) => Err(HttpError::TooManyRequests),
            _ => Ok(requests.into_iter().map(|request| self.request(request)).collect()),
        })
    }

    fn set(&mut self, key: Vec<u8>, value: Vec<u8>) -> Kept<(), StorageQuotaExceeded> {
        let others = self.cache.iter().filter(|(name, _)| **name != key);
        let used: usize = others.map(|(key, value)| key.len() + value.len()).sum();
        if used + key.len() + value.len() > QUOTA {
            return Kept(if self.command { Ok(()) } else { Err(StorageQuotaExceeded) });
        }
        self.cache.insert(key, value);
        Kept(Ok(()))
    }

    fn remove(&mut self, key: &[u8]) -> Option<Vec<u8>> {
        self.cache.remove(key).filter(|_| !self.command)
    }

    fn read_by(&mut self, who: Option<AccountId>, allowed: bool) {
        match allowed {
            true => drop(self.readers.insert(who)),
            false => drop(self.readers.remove(&who)),
        }
    }

    fn random(&mut self, length: u8) -> Vec<u8> {
        let count = |_| {
            self.numbers = self.numbers.wrapping_add(1);
            self.numbers
        };
        (0..length).map(count).collect()
    }

    fn withdraw(&mut self, to: AccountId, amount: u128) -> Kept<(), WithdrawError> {
        Kept(match self.balance.checked_sub(amount) {
            _ if amount < LEAST => Err(WithdrawError::TooSmall),
            None => Err(WithdrawError::TooLittle),
            Some(left) => {
                self.balance = left;
                self.withdrawals.push((to, amount));
                Ok(())
            }
        })
    }

    fn message(&mut self, to: AccountId, input: Vec<u8>, value: u128) -> Kept<(), MessageError> {
        Kept(match self.balance.checked_sub(value) {
            _ if input.len() > MOST => Err(MessageError::InputTooLong),
            _ if value != 0 && value < DUST => Err(MessageError::TooSmall),
            None => Err(MessageError::TooLittle),
            Some(left) => {
                self.balance = left;
                self.messages.push((to, input, value));
                Ok(())
            }
        })
    }

    fn job(&mut self) -> u64 {
        assert!(self.command, "a query asks for nothing later");
        self.named += 1;
        self.jobs.push(self.named);
        self.named
    }

    fn call(&mut self, function: u16, input: &[u8]) -> Vec<u8> {
        type Bytes = Vec<u8>;
        match function {
            1 => self.single(arguments(input)).encode(),
            2 => {
                let (kind, key, message) = arguments::<(SigType, Bytes, Bytes)>(input);
                signature(kind, &public(kind, &key), &message).encode()
            }
            3 => {
                let (kind, public, message, given) = arguments::<(SigType, Bytes, Bytes, Bytes)>(input);
                (given == signature(kind, &public, &message)).encode()
            }
            4 => [hash(("key", input)), hash(("nonce", input))].concat().encode(),
            5 => {
                let (kind, key) = arguments::<(SigType, Bytes)>(input);
                public(kind, &key).encode()
            }
            6 => {
                let (key, value) = arguments(input);
                self.set(key, value).encode()
            }
            7 => {
                let (key, seconds) = arguments::<(Bytes, u64)>(input);
                // Time stands still: only what ends now ends.
                if seconds == 0 {
                    self.cache.remove(&key);
                }
                Bytes::new()
            }
            8 => self.cache.get(&arguments::<Bytes>(input)).filter(|_| !self.command).cloned().encode(),
            9 => self.remove(&arguments::<Bytes>(input)).encode(),
            10 => {
                self.lines.push(arguments(input));
                Bytes::new()
            }
            11 => self.random(arguments(input)).encode(),
            12 => self.command.encode(),
            13 => {
                let (key, message) = arguments::<(Bytes, [u8; 32])>(input);
                signature(SigType::Ecdsa, &public(SigType::Ecdsa, &key), &message)
            }
            14 => {
                let (given, message, public) = arguments::<([u8; 65], [u8; 32], [u8; 33])>(input);
                (given.to_vec() == signature(SigType::Ecdsa, &public, &message)).encode()
            }
            15 => [0u8; 32].encode(),
            16 => (self.balance, self.balance).encode(),
            17 => (if self.command { [0u8; 32] } else { [9; 32] }).encode(),
            18 => {
                assert!(!self.command, "the host's clock is not for commands");
                1_700_000_000_000u64.encode()
            }
            19 => false.encode(),
            20 => None::<Hash>.encode(),
            21 => (1u32, 2u32).encode(),
            22 => {
                let (requests, _) = arguments::<(Vec<HttpRequest>, u64)>(input);
                self.batch(requests).encode()
            }
            23 => (0u64, [0u8; 32]).encode(),
            24 => Kept(Err::<(), _>("JavaScript is not supported on this network")).encode(),
            25 => None::<Bytes>.encode(),
            100 => {
                let (who, allowed) = arguments(input);
                self.read_by(who, allowed);
                Bytes::new()
            }
            101 | 102 => self.job().encode(),
            103 => {
                assert!(self.command, "a query cannot cancel timers");
                let timer = arguments::<u64>(input);
                self.jobs.retain(|job| *job != timer);
                Bytes::new()
            }
            104 => {
                let (to, amount) = arguments(input);
                self.withdraw(to, amount).encode()
            }
            105 => {
                self.calls.push(arguments(input));
                Bytes::new()
            }
            106 => {
                let (to, input, value) = arguments(input);
                self.message(to, input, value).encode()
            }
            112 => {
                assert!(!self.command, "a command is not split");
                let (selector, inputs) = arguments::<([u8; 4], Vec<Bytes>)>(input);
                let no_message = Err(MapError::Failed(2006));
                let part = self.parts.get(&selector);
                let answer = |input: &Bytes| part.map_or_else(|| no_message.clone(), |part| part(input));
                inputs.iter().map(answer).collect::<Vec<_>>().encode()
            }
            108 => {
                assert!(self.command, "a query cannot open hooks");
                let (path, _, gas, flags) = arguments::<(String, [u8; 4], u64, u32)>(input);
                assert!(gas <= 200_000_000 && flags == 0, "a hook with flags or too much gas");
                self.hooks.insert(path.trim_matches('/').to_owned());
                assert!(self.hooks.len() <= 16, "more hooks than a contract may have");
                Bytes::new()
            }
            109 => {
                assert!(self.command, "a query cannot close hooks");
                self.hooks.remove(arguments::<String>(input).trim_matches('/'));
                Bytes::new()
            }
            other => panic!("the network has no function {other} of the pink extension"),
        }
    }
}

impl ChainExtension for Extension {
    fn ext_id(&self) -> u16 {
        0
    }

    fn call(&mut self, function: u16, input: &[u8], output: &mut Vec<u8>) -> u32 {
        // ink! hands the arguments over as a vector of bytes, encoded once more.
        let input = arguments::<Vec<u8>>(input);
        *output = self.0.borrow_mut().call(function, &input);
        0
    }
}
