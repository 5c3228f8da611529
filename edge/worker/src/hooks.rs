//! `/v1/hooks/{contract}/{path}`: HTTP requests of anyone, by any method, for contracts that opened a hook.
//!
//! The request becomes a command of this member, and what the contract returns once the command is final becomes the
//! response. It comes in the clear, so this host sees both. Sizes are bounded before anything is read, and so is what
//! waits of one contract, so that a flood of requests for one does not hold up the others. A request that brings an
//! `idempotency-key` and comes again within ten minutes gets the first one's answer, from any member; a new request
//! should have a new key.
//!
//! What a contract answers is not of this worker: browsers are told to treat it as from nowhere, without cookies.

use crate::{
    http::collect,
    service::{Service, now_ms},
    worker::Status,
};
use axum::{
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header, request::Parts},
    response::{IntoResponse, Response},
};
use parking_lot::Mutex;
use phala_pink::{HookRequest, HookResponse};
use phala_primitives::{AccountId, Code, Coded};
use phala_session::Answer;
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

/// Largest body, in bytes.
const MAX_BODY: usize = 128 << 10;
/// Most bytes of path, query and headers, and the most headers.
const MAX_HEAD: usize = 32 << 10;
const MAX_HEADERS: usize = 64;
/// Longest idempotency key, in bytes.
const MAX_KEY: usize = 255;
/// Requests under way at once, and of one contract.
const AT_ONCE: usize = 512;
const AT_ONCE_OF_CONTRACT: usize = 32;
/// Time for the body to come, and for the cluster to decide.
const BODY: Duration = Duration::from_secs(10);
const DECISION: Duration = Duration::from_secs(10);
/// Headers of a response that are the connection's, not the contract's, or that would reach beyond the contract.
const WITHHELD: &[HeaderName] = &[
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::CONTENT_SECURITY_POLICY,
    header::SET_COOKIE,
    header::STRICT_TRANSPORT_SECURITY,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Requests under way, by contract.
#[derive(Default)]
pub(crate) struct Load(Mutex<BTreeMap<AccountId, usize>>);

impl Load {
    /// A place for one more of a contract, or `HookBusy`.
    fn enter(self: &Arc<Self>, contract: AccountId) -> Result<Underway, Coded> {
        let mut load = self.0.lock();
        let own = load.get(&contract).copied().unwrap_or(0);
        if own >= AT_ONCE_OF_CONTRACT || load.values().sum::<usize>() >= AT_ONCE {
            return Err(Code::HookBusy.into());
        }
        load.insert(contract, own + 1);
        drop(load);
        Ok(Underway { load: self.clone(), contract })
    }
}

/// A request under way; it leaves when this is dropped.
struct Underway {
    load: Arc<Load>,
    contract: AccountId,
}

impl Drop for Underway {
    fn drop(&mut self) {
        let mut load = self.load.0.lock();
        if let Some(own) = load.get_mut(&self.contract) {
            *own -= 1;
            if *own == 0 {
                load.remove(&self.contract);
            }
        }
    }
}

/// Serves one request.
pub(crate) async fn hook(
    State(status): State<Arc<Status>>,
    Path(path): Path<BTreeMap<String, String>>,
    request: axum::extract::Request,
) -> Response {
    let started = Instant::now();
    let contract = path.get("contract").cloned().unwrap_or_default();
    let (parts, body) = request.into_parts();
    let answer = match status.service() {
        Some(service) => answer(&service, &contract, parts, body).await,
        None => Err(Coded::new(Code::NotReady, status.waiting_for())),
    };
    let error = answer.as_ref().err().map(|error| error.known().unwrap_or(Code::Internal));
    status.metrics().answered("hook", error, started.elapsed());
    answer.unwrap_or_else(|error| refusal(&error))
}

async fn answer(service: &Service, contract: &str, parts: Parts, body: Body) -> Result<Response, Coded> {
    service.fresh()?;
    service.log()?;
    let address: AccountId = contract.parse().map_err(|_| Code::NoContract)?;
    let _underway = service.hooks().enter(address)?;
    let key = idempotency_key(&parts.headers)?;
    let mut request = head(contract, &parts.method, &parts.uri, &parts.headers)?;
    let mut lease = service.budget().lease();
    request.body = match tokio::time::timeout(BODY, collect(body, MAX_BODY, &mut lease)).await {
        Ok(Ok(body)) => body,
        Ok(Err(error)) if error.known() == Some(Code::TooLarge) => return Err(Code::HookTooLarge.into()),
        Ok(Err(error)) => return Err(error),
        Err(_) => return Err(Coded::new(Code::Expired, "the body did not come in time")),
    };
    let submit = || service.replica().hook(address, &request, key.as_deref(), now_ms());
    let ticket = match submit() {
        // A sender would take that for good, but this replica may be a moment behind the others.
        Err(error) if matches!(error.known(), Some(Code::NoContract | Code::NoHook)) => {
            service.keep_up().await?;
            submit()?
        }
        other => other?,
    };
    let undecided = || Coded::new(Code::NoQuorum, format!("within {} s", DECISION.as_secs()));
    match tokio::time::timeout(DECISION, ticket).await.map_err(|_| undecided())?.map_err(|_| undecided())?? {
        Answer::Command { outcome, receipt } => {
            let output = outcome.result?;
            if output.reverted() {
                return Err(Code::Reverted.into());
            }
            let answered = HookResponse::from_output(&output.data).ok_or(Code::BadHookAnswer)?;
            response(answered, receipt.header.height).ok_or_else(|| Code::BadHookAnswer.into())
        }
        _ => Err(Code::Internal.into()),
    }
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<Vec<u8>>, Coded> {
    let Some(key) = headers.get("idempotency-key") else { return Ok(None) };
    if key.len() > MAX_KEY {
        return Err(Coded::new(Code::HookTooLarge, format!("more than {MAX_KEY} bytes of idempotency key")));
    }
    Ok(Some(key.as_bytes().to_vec()))
}

/// All of a request but its body.
fn head(contract: &str, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<HookRequest, Coded> {
    let below = uri.path().strip_prefix("/v1/hooks/").and_then(|rest| rest.strip_prefix(contract)).unwrap_or_default();
    let (path, query) = (below.trim_start_matches('/').to_owned(), uri.query().unwrap_or_default().to_owned());
    let headers: Vec<_> =
        headers.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect();
    let size: usize = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    if headers.len() > MAX_HEADERS || path.len() + query.len() + size > MAX_HEAD {
        let detail = format!("{} headers, {} bytes without the body", headers.len(), path.len() + query.len() + size);
        return Err(Coded::new(Code::HookTooLarge, detail));
    }
    Ok(HookRequest { method: method.to_string(), path, query, headers, body: vec![] })
}

/// What a contract answered, in an entry of this height; `None` if it is no HTTP response.
fn response(answered: HookResponse, height: u64) -> Option<Response> {
    let status = StatusCode::from_u16(answered.status_code).ok().filter(|status| (200..600).contains(&status.as_u16()));
    let mut response = (status?, answered.body).into_response();
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_TYPE);
    for (name, value) in answered.headers {
        let (name, value) = (name.parse::<HeaderName>().ok()?, HeaderValue::from_str(&value).ok()?);
        if !WITHHELD.contains(&name) {
            headers.append(name, value);
        }
    }
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert("phala-entry", height.into());
    Some(response)
}

/// What is said instead of a contract's answer. What went wrong inside of it is for its log alone.
fn refusal(error: &Coded) -> Response {
    let code = error.known().unwrap_or(Code::Internal);
    let status = match code {
        Code::NoContract | Code::NoHook => StatusCode::NOT_FOUND,
        Code::HookTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::HookBusy | Code::QueueFull => StatusCode::TOO_MANY_REQUESTS,
        Code::NotReady
        | Code::StaleHead
        | Code::StaleState
        | Code::OnlyReads
        | Code::Busy
        | Code::BytesBusy
        | Code::StorageFailed => StatusCode::SERVICE_UNAVAILABLE,
        Code::NoQuorum => StatusCode::GATEWAY_TIMEOUT,
        Code::Expired => StatusCode::REQUEST_TIMEOUT,
        Code::Malformed => StatusCode::BAD_REQUEST,
        Code::BadHookAnswer => StatusCode::BAD_GATEWAY,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let told = if status == StatusCode::INTERNAL_SERVER_ERROR { Coded::from(code) } else { error.clone() };
    let mut response = (status, format!("{told}\n")).into_response();
    if status == StatusCode::TOO_MANY_REQUESTS {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTRACT: &str = "contract";

    fn parts(uri: &str, headers: &[(&'static str, &str)]) -> Result<HookRequest, Coded> {
        let pairs = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap()));
        head(CONTRACT, &Method::PUT, &uri.parse().unwrap(), &pairs.collect())
    }

    #[test]
    fn a_request_is_handed_on_as_it_came() {
        let read = parts("/v1/hooks/contract/a%20b/c?x=1&y=%20", &[("x-a", "é")]).unwrap();
        assert_eq!((read.method.as_str(), read.path.as_str(), read.query.as_str()), ("PUT", "a%20b/c", "x=1&y=%20"));
        assert_eq!(read.headers, [("x-a".to_owned(), "é".as_bytes().to_vec())]);
        assert_eq!(parts("/v1/hooks/contract", &[]).unwrap().path, "");
        let long = "x".repeat(MAX_HEAD + 1);
        for refused in
            [parts("/v1/hooks/contract/", &[("x-a", &long)]), parts(&format!("/v1/hooks/contract/{long}"), &[])]
        {
            assert_eq!(refused.err().and_then(|error| error.known()), Some(Code::HookTooLarge));
        }
    }

    #[test]
    fn what_a_contract_answers_cannot_pass_for_the_workers_own() {
        let answer = |status_code, name: &str, value: &str| {
            response(HookResponse { status_code, headers: vec![(name.into(), value.into())], body: b"x".to_vec() }, 7)
        };
        let good = answer(201, "Content-Type", "text/html").unwrap();
        assert_eq!(good.status(), StatusCode::CREATED);
        assert_eq!(good.headers()[header::CONTENT_TYPE], "text/html");
        assert_eq!(
            (&good.headers()["phala-entry"], &good.headers()["content-security-policy"]),
            (&"7".parse().unwrap(), &"sandbox".parse().unwrap())
        );
        for name in ["set-cookie", "content-length", "Transfer-Encoding"] {
            assert!(!answer(200, name, "1").unwrap().headers().contains_key(name), "{name}");
        }
        for (status, name, value) in [(100, "a", "b"), (600, "a", "b"), (200, "a b", "c"), (200, "a", "b\r\nc: d")] {
            assert!(answer(status, name, value).is_none(), "{status} {name}");
        }
    }

    #[test]
    fn a_contract_has_its_share_of_places() {
        let load = Arc::new(Load::default());
        let (one, other) = (AccountId([1; 32]), AccountId([2; 32]));
        let mut held: Vec<_> = (0..AT_ONCE_OF_CONTRACT).map(|_| load.enter(one).unwrap()).collect();
        assert_eq!(load.enter(one).err().and_then(|error| error.known()), Some(Code::HookBusy));
        assert!(load.enter(other).is_ok());
        held.pop();
        assert!(load.enter(one).is_ok());
        drop(held);
        assert!(load.0.lock().is_empty());
    }

    #[test]
    fn what_went_wrong_inside_a_contract_is_not_told() {
        let told = refusal(&Coded::new(Code::Trapped, "secret"));
        assert_eq!(told.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(refusal(&Code::HookBusy.into()).status(), StatusCode::TOO_MANY_REQUESTS);
    }
}
