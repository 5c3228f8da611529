//! HTTP for contracts, by the policy of the worker.
//!
//! A contract is hostile to the network that its worker stands in: it must not reach what is not public there. Names
//! are resolved here and every address is looked at before it is connected to, so a name that changes its mind after
//! the check gains nothing; the same holds for each step of a redirect. Time, size and number of requests are bounded.
//! TLS is checked against Mozilla's roots, whatever the machine trusts.

use futures::future::join_all;
use parking_lot::Mutex;
use phala_pink::{HttpError, HttpRequest, HttpResponse, HttpResult, MAX_HTTP_HEADERS, MAX_HTTP_RESPONSE};
use phala_primitives::{AccountId, Code, Coded};
use reqwest::{
    Certificate, Client, Method, Response, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    header::{HeaderMap, HeaderName, HeaderValue},
    redirect,
};
use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};
use tokio::sync::Semaphore;

/// Requests of all contracts under way at once.
const MAX_AT_ONCE: usize = 256;
/// Requests of one contract under way at once.
const MAX_OF_CONTRACT: usize = 32;
/// Most steps of a redirect.
const MAX_REDIRECTS: usize = 5;
/// Time to connect.
const CONNECT: Duration = Duration::from_secs(5);

/// What contracts may reach.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct EgressPolicy {
    /// Also addresses that are not public: this machine and its network. For development.
    pub private: bool,
}

impl EgressPolicy {
    fn allows(self, address: IpAddr) -> bool {
        self.private || is_public(address)
    }

    /// Whether a URL names an address that it must not, in place of a name.
    fn forbids(self, url: &Url) -> bool {
        let address = match url.host() {
            Some(url::Host::Ipv4(address)) => IpAddr::V4(address),
            Some(url::Host::Ipv6(address)) => IpAddr::V6(address),
            _ => return false,
        };
        !self.allows(address)
    }
}

/// Whether an address belongs to the internet at large.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = matches!(
        (a, b, c),
        (0 | 10 | 127 | 224.., ..)
            | (100, 64..=127, _)
            | (169, 254, _)
            | (172, 16..=31, _)
            | (192, 168, _)
            | (192, 0, 0 | 2)
            | (192, 88, 99)
            | (198, 18 | 19, _)
            | (198, 51, 100)
            | (203, 0, 113)
    );
    !special
}

/// Global unicast (2000::/3) without what is set aside in it, and what carries a public IPv4 address.
fn is_public_v6(address: Ipv6Addr) -> bool {
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => embedded(high, low),
        [0x2002, high, low, ..] => embedded(high, low),
        // Teredo, benchmarks, ORCHID, documentation.
        [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => false,
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

/// Resolves names to those addresses that may be reached.
struct Resolver(EgressPolicy);

/// What a name resolves to must not be reached.
#[derive(Debug, thiserror::Error)]
#[error("the policy of this worker forbids the address")]
struct Forbidden;

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let policy = self.0;
        Box::pin(async move {
            let found: Vec<_> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            if found.is_empty() {
                return Err(io::Error::from(io::ErrorKind::NotFound).into());
            }
            let allowed: Vec<_> = found.into_iter().filter(|address| policy.allows(address.ip())).collect();
            if allowed.is_empty() {
                return Err(Forbidden.into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

/// Makes requests for contracts.
pub(crate) struct Egress {
    client: Client,
    policy: EgressPolicy,
    all: Semaphore,
    contracts: Mutex<BTreeMap<AccountId, usize>>,
}

/// One request of a contract under way.
struct Taken<'a>(&'a Egress, AccountId);

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let mut contracts = self.0.contracts.lock();
        if let Some(count) = contracts.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                contracts.remove(&self.1);
            }
        }
    }
}

impl Egress {
    pub(crate) fn new(policy: EgressPolicy) -> Result<Self, Coded> {
        let roots = webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().map(|root| Certificate::from_der(root));
        let roots = roots.collect::<Result<Vec<_>, _>>().map_err(unusable)?;
        let redirects = redirect::Policy::custom(move |attempt| {
            if attempt.previous().len() > MAX_REDIRECTS {
                attempt.error("too many redirects")
            } else if policy.forbids(attempt.url()) {
                attempt.error(Forbidden)
            } else {
                attempt.follow()
            }
        });
        let client = Client::builder()
            .tls_certs_only(roots)
            .no_proxy()
            .dns_resolver(Resolver(policy))
            .redirect(redirects)
            .connect_timeout(CONNECT)
            .build()
            .map_err(unusable)?;
        Ok(Self { client, policy, all: Semaphore::new(MAX_AT_ONCE), contracts: Mutex::default() })
    }

    /// Makes requests at once; as many results, in the same order.
    pub(crate) async fn all(
        &self,
        contract: &AccountId,
        requests: Vec<HttpRequest>,
        time: Duration,
    ) -> Vec<HttpResult> {
        let one = |request| async {
            match tokio::time::timeout(time, self.one(contract, request)).await {
                Ok(result) => result,
                Err(_) => Err(HttpError::Timeout),
            }
        };
        join_all(requests.into_iter().map(one)).await
    }

    fn take(&self, contract: &AccountId) -> Result<Taken<'_>, HttpError> {
        let mut contracts = self.contracts.lock();
        let count = contracts.entry(*contract).or_default();
        if *count >= MAX_OF_CONTRACT {
            return Err(HttpError::TooManyRequests);
        }
        *count += 1;
        Ok(Taken(self, *contract))
    }

    async fn one(&self, contract: &AccountId, request: HttpRequest) -> HttpResult {
        let HttpRequest { url, method, headers, body } = request;
        let url = Url::parse(&url).map_err(|_| HttpError::InvalidUrl)?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(HttpError::InvalidUrl);
        }
        if self.policy.forbids(&url) {
            return Err(HttpError::NotAllowed);
        }
        let method = Method::from_bytes(method.as_bytes()).map_err(|_| HttpError::InvalidMethod)?;
        let mut named = HeaderMap::new();
        for (name, value) in &headers {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| HttpError::InvalidHeaderName)?;
            named.append(name, HeaderValue::from_str(value).map_err(|_| HttpError::InvalidHeaderValue)?);
        }
        let _one = self.take(contract)?;
        let _any = self.all.acquire().await.map_err(|_| HttpError::FailedToCreateClient)?;
        let sent = self.client.request(method, url).headers(named).body(body).send().await;
        read(sent.map_err(|error| failed(&error))?).await
    }
}

fn unusable(error: impl std::fmt::Display) -> Coded {
    Coded::new(Code::Internal, format!("contracts' HTTP: {error}"))
}

/// What to tell the contract of an error.
fn failed(error: &reqwest::Error) -> HttpError {
    if error.is_timeout() {
        return HttpError::Timeout;
    }
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if error.is::<Forbidden>() {
            return HttpError::NotAllowed;
        }
        cause = error.source();
    }
    HttpError::NetworkError
}

async fn read(mut response: Response) -> HttpResult {
    let status = response.status();
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = response.headers().iter().take(MAX_HTTP_HEADERS);
    let headers = headers.map(|(name, value)| (name.as_str().to_owned(), text(value))).collect();
    let mut body = vec![];
    while let Some(chunk) = response.chunk().await.map_err(|error| failed(&error))? {
        if body.len() + chunk.len() > MAX_HTTP_RESPONSE {
            return Err(HttpError::ResponseTooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    let reason_phrase = status.canonical_reason().unwrap_or_default().to_owned();
    Ok(HttpResponse { status_code: status.as_u16(), reason_phrase, headers, body })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    #[test]
    fn what_is_not_public_is_known() {
        for private in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "::ffff:10.0.0.1",
            "::ffff:127.0.0.1",
            "64:ff9b::a00:1",
            "2002:7f00:1::",
            "2001:db8::1",
            "2001::1",
            "::7f00:1",
            "fec0::1",
            "3fff::1",
        ] {
            assert!(!is_public(private.parse().unwrap()), "{private}");
        }
        for public in ["1.1.1.1", "8.8.8.8", "100.128.0.1", "172.32.0.1", "192.0.1.1", "2606:4700::1", "::ffff:1.1.1.1"]
        {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
    }

    /// A server that answers each connection with these bytes, and then with silence.
    async fn server(answer: Vec<u8>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let mut open = vec![];
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(&answer).await;
                open.push(stream);
            }
        });
        url
    }

    fn get(url: &str) -> HttpRequest {
        HttpRequest { url: url.into(), method: "GET".into(), headers: vec![], body: vec![] }
    }

    async fn ask(egress: &Egress, request: HttpRequest) -> HttpResult {
        egress.all(&AccountId([1; 32]), vec![request], Duration::from_secs(2)).await.pop().unwrap()
    }

    #[tokio::test]
    async fn limits_and_errors_of_requests() {
        let open = Egress::new(EgressPolicy { private: true }).unwrap();
        let good = server(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-a: b\r\n\r\nhi".to_vec()).await;
        let response = ask(&open, get(&good)).await.unwrap();
        assert_eq!((response.status_code, &*response.reason_phrase, &*response.body), (200, "OK", &b"hi"[..]));
        assert!(response.headers.contains(&("x-a".into(), "b".into())));
        let large = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", MAX_HTTP_RESPONSE + 1);
        let large = server([large.as_bytes(), &vec![b'x'; MAX_HTTP_RESPONSE + 1]].concat()).await;
        assert_eq!(ask(&open, get(&large)).await.err(), Some(HttpError::ResponseTooLarge));
        let silent = server(vec![]).await;
        assert_eq!(ask(&open, get(&silent)).await.err(), Some(HttpError::Timeout));
        let bad = |change: fn(&mut HttpRequest)| {
            let mut request = get(&good);
            change(&mut request);
            request
        };
        for (request, error) in [
            (get("no url"), HttpError::InvalidUrl),
            (get("file:///etc/passwd"), HttpError::InvalidUrl),
            (get("http://127.0.0.1:1/"), HttpError::NetworkError),
            (bad(|request| request.method = "G T".into()), HttpError::InvalidMethod),
            (bad(|request| request.headers = vec![("a b".into(), "c".into())]), HttpError::InvalidHeaderName),
            (bad(|request| request.headers = vec![("a".into(), "b\r\nc: d".into())]), HttpError::InvalidHeaderValue),
        ] {
            assert_eq!(ask(&open, request).await.err(), Some(error));
        }
    }

    #[tokio::test]
    async fn nothing_private_is_reached_by_address_name_or_redirect() {
        let closed = Egress::new(EgressPolicy::default()).unwrap();
        let open = Egress::new(EgressPolicy { private: true }).unwrap();
        let url = server(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec()).await;
        let port = Url::parse(&url).unwrap().port().unwrap();
        for host in ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1", "127.1"] {
            let request = get(&format!("http://{host}:{port}/"));
            assert_eq!(ask(&closed, request).await.err(), Some(HttpError::NotAllowed), "{host}");
        }
        assert!(ask(&open, get(&format!("http://localhost:{port}/"))).await.is_ok());
        // The check of a redirect is the same function, called with where it leads.
        let away =
            server(format!("HTTP/1.1 302 Found\r\nlocation: {url}\r\ncontent-length: 0\r\n\r\n").into_bytes()).await;
        assert_eq!(ask(&open, get(&away)).await.unwrap().status_code, 200);
        let round = format!("http://127.0.0.1:{port}/");
        assert!(EgressPolicy::default().forbids(&Url::parse(&round).unwrap()));
    }

    #[tokio::test]
    async fn one_contract_cannot_take_all_requests() {
        let open = Egress::new(EgressPolicy { private: true }).unwrap();
        let silent = server(vec![]).await;
        let many = vec![get(&silent); MAX_OF_CONTRACT + 3];
        let results = open.all(&AccountId([1; 32]), many, Duration::from_millis(300)).await;
        let refused = results.iter().filter(|result| **result == Err(HttpError::TooManyRequests)).count();
        assert_eq!(refused, 3);
        assert!(open.contracts.lock().is_empty());
    }
}
