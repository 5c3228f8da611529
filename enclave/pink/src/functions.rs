//! Each function: decode, charge, work, encode.

use crate::{
    Cache, CacheOp, Callback, Effect, Hook, Outside, Parts,
    keys::{self, Secrets},
    types::{
        HttpError, HttpRequest, HttpResult, MAX_HOOK_GAS, MAX_HOOK_PATH, MAX_HTTP_HEADERS, MAX_HTTP_REQUESTS,
        MAX_HTTP_TIMEOUT_MS, MAX_LOG, MAX_REQUEST, MAX_TAG, MessageError, SigType, StorageQuotaExceeded, WithdrawError,
    },
};
use codec::{DecodeAll, Encode};
use phala_primitives::{
    AccountId, Balance, Code, Hash, PublicKey, blake2_256,
    limits::{MAX_COMMAND_GAS, MAX_DISPATCH, MAX_PARCEL, MIN_BALANCE, MIN_WITHDRAWAL},
};
use phala_vm::{Extension, Refusal, Reply, Scope};
use std::sync::Arc;
use zeroize::Zeroizing;

/// Version that contracts are told: that of Phala's runtime whose functions these are.
const VERSION: (u32, u32) = (1, 2);
/// What contracts are told of `js_eval`.
const NO_JS: &str = "JavaScript is not supported on this network";

/// What functions cost, in gas; 2,000 gas are about one microsecond.
mod gas {
    pub(super) const SMALL: u64 = 1_000;
    pub(super) const BYTE: u64 = 10;
    pub(super) const DERIVE: u64 = 60_000;
    pub(super) const SIGN: u64 = 200_000;
    pub(super) const SIGN_ECDSA: u64 = 400_000;
    pub(super) const VERIFY: u64 = 200_000;
    pub(super) const VERIFY_ECDSA: u64 = 700_000;
    /// A line becomes a value of the state.
    pub(super) const LOG: u64 = STATE_WRITE;
    pub(super) const LOG_BYTE: u64 = 40;
    pub(super) const STATE_WRITE: u64 = 60_000;
    /// A request or timer is written, removed and called back for.
    pub(super) const JOB: u64 = 300_000;
    /// A message is written twice, sealed, sent to the chain and removed.
    pub(super) const PARCEL: u64 = 900_000;
    pub(super) const CACHE: u64 = 10_000;
    pub(super) const RANDOM: u64 = 8_000;
}

/// The extension of a worker's engine.
pub struct Pink {
    secrets: Secrets,
    worker: PublicKey,
    outside: Arc<dyn Outside>,
    cache: Arc<Cache>,
}

impl Pink {
    /// An extension for the contracts of a cluster, whose key for contracts is `root`.
    pub fn new(root: [u8; 32], worker: PublicKey, outside: Arc<dyn Outside>, cache: Arc<Cache>) -> Self {
        Self { secrets: Secrets::new(root), worker, outside, cache }
    }

    /// The secret of the contract that calls, which it keeps wherever it goes.
    fn secret(&self, scope: &mut dyn Scope) -> Result<Zeroizing<[u8; 32]>, Refusal> {
        Ok(scope.secret()?.unwrap_or_else(|| self.secrets.of(&scope.contract())))
    }
}

/// Arguments in SCALE.
fn arguments<T: DecodeAll>(mut input: &[u8]) -> Result<T, Refusal> {
    T::decode_all(&mut input).map_err(|_| Refusal::trap("the arguments of an extension's function cannot be decoded"))
}

fn now<T: Encode>(value: &T) -> Result<Reply, Refusal> {
    Ok(Reply::Now(value.encode()))
}

fn no_key() -> Refusal {
    Refusal::trap("that is no key of this kind")
}

/// Gas for handling bytes.
fn bytes(length: usize) -> u64 {
    gas::BYTE.saturating_mul(length as u64)
}

impl Extension for Pink {
    fn call(&self, function: u32, input: &[u8], scope: &mut dyn Scope) -> Result<Reply, Refusal> {
        scope.charge(gas::SMALL.saturating_add(bytes(input.len())))?;
        match function {
            1 => self.http_request(arguments(input)?, scope),
            2 => sign(arguments(input)?, scope),
            3 => verify(arguments(input)?, scope),
            4 => self.derive(&arguments::<Vec<u8>>(input)?, scope),
            5 => public_key(arguments(input)?, scope),
            6..=9 => self.cache(function, input, scope),
            10 => self.log(arguments(input)?, scope),
            11 => self.random(arguments(input)?, scope),
            12 => now(&scope.is_command()),
            13 => sign_prehashed(arguments(input)?, scope),
            14 => verify_prehashed(arguments(input)?, scope),
            15 => now(&AccountId([0; 32])),
            16 => balance_of(&arguments(input)?, scope),
            17 => now(&if scope.is_command() { [0; 32] } else { self.worker }),
            18 if scope.is_command() => {
                Err(Refusal::trap("the host's clock is not for commands: use the block's timestamp"))
            }
            18 => now(&self.outside.now_ms()),
            19 => {
                let (hash, sidevm) = arguments::<(Hash, bool)>(input)?;
                now(&(!sidevm && scope.has_code(&hash)?))
            }
            20 => arguments::<AccountId>(input).and_then(|_| now(&None::<Hash>)),
            21 => now(&VERSION),
            22 => self.batch(arguments(input)?, scope),
            23 => now(&scope.events()?),
            24 => now(&Err::<(), _>(NO_JS)),
            25 => now(&None::<Vec<u8>>),
            100 => log_reader(arguments(input)?, scope),
            101 => ask(arguments(input)?, scope),
            102 => set_timer(arguments(input)?, scope),
            103 => cancel_timer(arguments(input)?, scope),
            104 => withdraw(arguments(input)?, scope),
            105 => chain_call(arguments(input)?, scope),
            106 => message(arguments(input)?, scope),
            108 => open_hook(arguments(input)?, scope),
            109 => close_hook(arguments(input)?, scope),
            112 => self.map(arguments(input)?, scope),
            other => Err(Refusal::trap(format!("the network has no function {other} of the pink extension"))),
        }
    }
}

impl Pink {
    /// Milliseconds that a request may take.
    fn patience(&self, scope: &dyn Scope) -> u64 {
        (scope.limits().query_ms.saturating_mul(scope.time_left()) / 1000).min(MAX_HTTP_TIMEOUT_MS)
    }

    fn http_request(&self, request: HttpRequest, scope: &mut dyn Scope) -> Result<Reply, Refusal> {
        if scope.is_command() || scope.limits().http_requests == 0 {
            return now(&HttpError::NotAllowed.into_response());
        }
        let single = |mut results: Vec<HttpResult>| {
            let result = results.pop().unwrap_or(Err(HttpError::NetworkError));
            result.unwrap_or_else(HttpError::into_response).encode()
        };
        Ok(self.wait(vec![request], self.patience(scope), scope, single))
    }

    fn batch(&self, (requests, timeout_ms): (Vec<HttpRequest>, u64), scope: &mut dyn Scope) -> Result<Reply, Refusal> {
        let refuse = |error: HttpError| now(&Err::<Vec<HttpResult>, _>(error));
        let most = scope.limits().http_requests.min(MAX_HTTP_REQUESTS);
        if scope.is_command() || most == 0 {
            return refuse(HttpError::NotAllowed);
        }
        if requests.len() > most {
            return refuse(HttpError::TooManyRequests);
        }
        let patience = self.patience(scope).min(timeout_ms);
        Ok(self.wait(requests, patience, scope, |results| Ok::<_, HttpError>(results).encode()))
    }

    /// Makes requests while others compute.
    fn wait(
        &self,
        requests: Vec<HttpRequest>,
        patience: u64,
        scope: &dyn Scope,
        encode: impl FnOnce(Vec<HttpResult>) -> Vec<u8> + Send + 'static,
    ) -> Reply {
        let (outside, contract) = (self.outside.clone(), scope.contract());
        Reply::Wait(Box::new(move || {
            if requests.iter().any(|request| request.headers.len() > MAX_HTTP_HEADERS) {
                return encode(requests.iter().map(|_| Err(HttpError::InvalidHeaderName)).collect());
            }
            encode(outside.http(&contract, requests, patience))
        }))
    }

    fn map(&self, (selector, inputs): ([u8; 4], Vec<Vec<u8>>), scope: &mut dyn Scope) -> Result<Reply, Refusal> {
        let (fork, limits) = (scope.fork()?, scope.limits());
        if inputs.len() > limits.map_parts {
            let detail = format!("{} parts where {} are allowed", inputs.len(), limits.map_parts);
            return Err(Refusal::Contract(Code::MapLimit, detail));
        }
        let (outside, parts) = (self.outside.clone(), Parts::new(fork, selector, inputs, limits.message_bytes));
        Ok(Reply::Wait(Box::new(move || outside.map(parts).encode())))
    }

    fn derive(&self, salt: &[u8], scope: &mut dyn Scope) -> Result<Reply, Refusal> {
        scope.charge(gas::DERIVE)?;
        now(&*keys::sr25519_key(&self.secret(scope)?, salt))
    }

    fn cache(&self, function: u32, input: &[u8], scope: &mut dyn Scope) -> Result<Reply, Refusal> {
        scope.charge(gas::CACHE)?;
        let (contract, command) = (scope.contract(), scope.is_command());
        let later = |scope: &mut dyn Scope, op: CacheOp| scope.effect(Effect::Cache(op).encode());
        let now_ms = if command { 0 } else { self.outside.now_ms() };
        match function {
            6 => {
                let (key, value) = arguments::<(Vec<u8>, Vec<u8>)>(input)?;
                if command {
                    later(scope, CacheOp::Set { key, value })?;
                    return now(&Ok::<(), StorageQuotaExceeded>(()));
                }
                let kept = self.cache.set(contract, &key, &value, now_ms);
                now(&if kept { Ok(()) } else { Err(StorageQuotaExceeded) })
            }
            7 => {
                let (key, seconds) = arguments::<(Vec<u8>, u64)>(input)?;
                if command {
                    later(scope, CacheOp::Expire { key, seconds })?;
                } else {
                    self.cache.expire(contract, &key, seconds, now_ms);
                }
                now(&())
            }
            8 => {
                let key = arguments::<Vec<u8>>(input)?;
                now(&if command { None } else { self.cache.get(contract, &key, now_ms) })
            }
            _ => {
                let key = arguments::<Vec<u8>>(input)?;
                if command {
                    later(scope, CacheOp::Remove { key })?;
                    return now(&None::<Vec<u8>>);
                }
                now(&self.cache.remove(contract, &key, now_ms))
            }
        }
    }

    fn log(&self, (level, mut text): (u8, String), scope: &mut dyn Scope) -> Result<Reply, Refusal> {
        scope.charge(gas::LOG.saturating_add(gas::LOG_BYTE.saturating_mul(text.len() as u64)))?;
        let end = (0..=MAX_LOG.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        let level = level.clamp(1, 5);
        if scope.is_command() {
            scope.effect(Effect::Log { level, text }.encode())?;
        } else {
            self.outside.log(&scope.contract(), level, &text);
        }
        now(&())
    }

    fn random(&self, length: u8, scope: &mut dyn Scope) -> Result<Reply, Refusal> {
        scope.charge(gas::RANDOM)?;
        if scope.is_command() {
            let (block, number) = (scope.block(), scope.number());
            let place = (block.height, block.index, number);
            // Of this cluster: elsewhere there is an entry of the same height.
            return now(&keys::random(&self.secrets.of(&scope.contract()), place, length));
        }
        let mut bytes = vec![0; usize::from(length)];
        self.outside.random(&mut bytes);
        now(&bytes)
    }
}

/// What a command leaves for later, if it may write.
fn later(effect: &Effect, scope: &mut dyn Scope) -> Result<(), Refusal> {
    if scope.is_read_only() {
        return Err(Refusal::trap("a call that may only read asked for something to be done later"));
    }
    scope.effect(effect.encode())
}

/// The same; a query's is over with the query.
fn perhaps(effect: &Effect, scope: &mut dyn Scope) -> Result<(), Refusal> {
    match scope.is_command() || scope.is_read_only() {
        true => later(effect, scope),
        false => Ok(()),
    }
}

/// A name for a request or timer that no other has, in this cluster or one that its contract came from.
fn name(scope: &mut dyn Scope) -> u64 {
    let (block, contract, number) = (scope.block(), scope.contract(), scope.number());
    let place = (block.time_ms, block.height, block.index, number);
    let hash = blake2_256(&("phala/job/v2", contract, place).encode()).0;
    let [a, b, c, d, e, f, g, h, ..] = hash;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

fn check(callback: &Callback) -> Result<(), Refusal> {
    if callback.tag.len() > MAX_TAG || callback.gas > MAX_COMMAND_GAS {
        let limits = format!("{MAX_TAG} bytes of tag or {MAX_COMMAND_GAS} gas");
        return Err(Refusal::trap(format!("a callback with more than {limits}")));
    }
    Ok(())
}

fn ask((request, timeout_ms, callback): (HttpRequest, u64, Callback), scope: &mut dyn Scope) -> Result<Reply, Refusal> {
    if !scope.is_command() {
        return Err(Refusal::trap("a query makes requests by `http_request`"));
    }
    check(&callback)?;
    if scope.limits().http_requests == 0 {
        return Err(Refusal::Contract(Code::HttpOff, "the cluster's policy forbids it".into()));
    }
    let size = request.encoded_size();
    if size > MAX_REQUEST || request.headers.len() > MAX_HTTP_HEADERS {
        return Err(Refusal::trap(format!("a request of more than {MAX_REQUEST} bytes")));
    }
    scope.charge(gas::JOB.saturating_add(gas::LOG_BYTE.saturating_mul(size as u64)))?;
    let (id, timeout_ms) = (name(scope), timeout_ms.clamp(1, MAX_HTTP_TIMEOUT_MS));
    later(&Effect::Request { id, request, timeout_ms, callback }, scope)?;
    now(&id)
}

fn set_timer((delay_ms, period_ms, callback): (u64, u64, Callback), scope: &mut dyn Scope) -> Result<Reply, Refusal> {
    if !scope.is_command() {
        return Err(Refusal::trap("a query cannot set timers"));
    }
    check(&callback)?;
    scope.charge(gas::JOB)?;
    let id = name(scope);
    later(&Effect::Timer { id, delay_ms, period_ms, callback }, scope)?;
    now(&id)
}

fn cancel_timer(id: u64, scope: &mut dyn Scope) -> Result<Reply, Refusal> {
    if !scope.is_command() {
        return Err(Refusal::trap("a query cannot cancel timers"));
    }
    scope.charge(gas::STATE_WRITE)?;
    later(&Effect::CancelTimer { id }, scope)?;
    now(&())
}

/// What others own is theirs to know.
fn balance_of(account: &AccountId, scope: &mut dyn Scope) -> Result<Reply, Refusal> {
    if *account != scope.contract() {
        return Err(Refusal::trap("a contract sees its own balance only"));
    }
    let balance = scope.balance()?;
    now(&(balance, balance))
}

fn withdraw((to, amount): (AccountId, Balance), scope: &mut dyn Scope) -> Result<Reply, Refusal> {
    if amount < MIN_WITHDRAWAL {
        return now(&Err::<(), _>(WithdrawError::TooSmall));
    }
    scope.charge(gas::JOB)?;
    if !scope.pay_out(amount)? {
        return now(&Err::<(), _>(WithdrawError::TooLittle));
    }
    perhaps(&Effect::Withdraw { to, amount }, scope)?;
    now(&Ok::<(), WithdrawError>(()))
}

fn chain_call(call: Vec<u8>, scope: &mut dyn Scope) -> Result<Reply, Refusal> {
    if call.len() > MAX_DISPATCH {
        return Err(Refusal::trap(format!("a call of the chain of more than {MAX_DISPATCH} bytes")));
    }
    scope.charge(gas::JOB.saturating_add(gas::LOG_BYTE.saturating_mul(call.len() as u64)))?;
    perhaps(&Effect::ChainCall { call }, scope)?;
    now(&())
}

fn message((to, input, value): (AccountId, Vec<u8>, Balance), scope: &mut dyn Scope) -> Result<Reply, Refusal> {
    let refuse = |error: MessageError| now(&Err::<(), _>(error));
    if input.len() > MAX_PARCEL {
        return refuse(MessageError::InputTooLong);
    }
    if value != 0 && value < MIN_BALANCE {
        return refuse(MessageError::TooSmall);
    }
    scope.charge(gas::PARCEL.saturating_add(gas::LOG_BYTE.saturating_mul(input.len() as u64)))?;
    if value > 0 && !scope.pay_out(value)? {
        return refuse(MessageError::TooLittle);
    }
    perhaps(&Effect::Message { to, input, value }, scope)?;
    now(&Ok::<(), MessageError>(()))
}

/// A path as hooks have it.
fn hook_path(path: &str) -> Result<String, Refusal> {
    let path = path.trim_matches('/');
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    if path.len() > MAX_HOOK_PATH || !path.bytes().all(plain) {
        return Err(Refusal::trap(format!(
            "the path of a hook has at most {MAX_HOOK_PATH} letters, digits, slashes and -._~"
        )));
    }
    Ok(path.to_owned())
}

fn open_hook(
    (path, selector, gas, flags): (String, [u8; 4], u64, u32),
    scope: &mut dyn Scope,
) -> Result<Reply, Refusal> {
    if !scope.is_command() {
        return Err(Refusal::trap("a query cannot open hooks"));
    }
    if flags != 0 || gas > MAX_HOOK_GAS {
        return Err(Refusal::trap(format!("a hook with flags, or more than {MAX_HOOK_GAS} gas")));
    }
    scope.charge(gas::JOB)?;
    later(&Effect::OpenHook(Hook { path: hook_path(&path)?, selector, gas }), scope)?;
    now(&())
}

fn close_hook(path: String, scope: &mut dyn Scope) -> Result<Reply, Refusal> {
    if !scope.is_command() {
        return Err(Refusal::trap("a query cannot close hooks"));
    }
    scope.charge(gas::JOB)?;
    later(&Effect::CloseHook { path: hook_path(&path)? }, scope)?;
    now(&())
}

fn log_reader((who, allowed): (Option<AccountId>, bool), scope: &mut dyn Scope) -> Result<Reply, Refusal> {
    scope.charge(gas::STATE_WRITE)?;
    if scope.is_command() {
        later(&Effect::LogReader { who, allowed }, scope)?;
    }
    now(&())
}

fn sign((kind, key, message): (SigType, Vec<u8>, Vec<u8>), scope: &mut dyn Scope) -> Result<Reply, Refusal> {
    scope.charge(if kind == SigType::Ecdsa { gas::SIGN_ECDSA } else { gas::SIGN })?;
    now(&keys::sign(kind, &key, &message).ok_or_else(no_key)?)
}

fn verify(
    (kind, public, message, signature): (SigType, Vec<u8>, Vec<u8>, Vec<u8>),
    scope: &mut dyn Scope,
) -> Result<Reply, Refusal> {
    scope.charge(if kind == SigType::Ecdsa { gas::VERIFY_ECDSA } else { gas::VERIFY })?;
    now(&keys::verify(kind, &public, &message, &signature))
}

fn public_key((kind, key): (SigType, Vec<u8>), scope: &mut dyn Scope) -> Result<Reply, Refusal> {
    scope.charge(gas::SIGN)?;
    now(&keys::public(kind, &key).ok_or_else(no_key)?)
}

fn sign_prehashed((key, hash): (Vec<u8>, [u8; 32]), scope: &mut dyn Scope) -> Result<Reply, Refusal> {
    scope.charge(gas::SIGN_ECDSA)?;
    now(&keys::sign_prehashed(&key, &hash).ok_or_else(no_key)?)
}

fn verify_prehashed(
    (signature, hash, public): ([u8; 65], [u8; 32], [u8; 33]),
    scope: &mut dyn Scope,
) -> Result<Reply, Refusal> {
    scope.charge(gas::VERIFY_ECDSA)?;
    now(&keys::verify_prehashed(&signature, &hash, &public))
}
