//! Requests to servers, in queries.

use crate::{ext, HttpError, HttpRequest, HttpResponse, HttpResult};
use ink::prelude::vec::Vec;

/// Makes a request and waits for the response, at most as long as the query has left. TLS is checked.
///
/// What fails has a status too: 523 for a request that is not allowed or failed, 524 for a server that takes too long.
/// In a command it is always 523.
///
/// ```
/// # let _mock = pink::mock::install();
/// # _mock.respond("https://example.com/", 200, "fine");
/// let request = pink::HttpRequest::get("https://example.com/").header("Accept", "text/plain");
/// let response = pink::http_request(request);
/// assert_eq!((response.status_code, response.body.as_slice()), (200, &b"fine"[..]));
/// ```
pub fn http_request(request: HttpRequest) -> HttpResponse {
    ext().http_request(request)
}

/// Makes up to 16 requests at once and waits for all responses, at most `timeout_ms`. Responses are in the order of
/// the requests.
///
/// # Errors
/// `TooManyRequests`, and `NotAllowed` in a command. A request that fails by itself has its error in the list.
///
/// ```
/// # let _mock = pink::mock::install();
/// # _mock.respond("https://a.example/", 200, "1");
/// # _mock.fail("https://b.example/", pink::HttpError::Timeout);
/// let requests = vec![pink::HttpRequest::get("https://a.example/"), pink::HttpRequest::get("https://b.example/")];
/// let results = pink::batch_http_request(requests, 2_000).unwrap();
/// assert!(results[0].is_ok());
/// assert_eq!(results[1], Err(pink::HttpError::Timeout));
/// ```
pub fn batch_http_request(requests: Vec<HttpRequest>, timeout_ms: u64) -> Result<Vec<HttpResult>, HttpError> {
    ext().batch_http_request(requests, timeout_ms).0
}

/// Gets a URL, with headers if they are given: see [`http_request`](crate::http_request()).
///
/// ```
/// # let _mock = pink::mock::install();
/// # _mock.respond("https://example.com/", 200, "fine");
/// let response = pink::http_get!("https://example.com/");
/// assert!(response.is_success());
/// let response = pink::http_get!("https://example.com/", [("Accept", "text/plain")]);
/// assert!(response.is_success());
/// ```
#[macro_export]
macro_rules! http_get {
    ($url:expr $(,)?) => {
        $crate::http_request($crate::HttpRequest::get($url))
    };
    ($url:expr, $headers:expr $(,)?) => {{
        let mut request = $crate::HttpRequest::get($url);
        for (name, value) in $headers {
            request = request.header(name, value);
        }
        $crate::http_request(request)
    }};
}

/// Posts a body to a URL, with headers if they are given: see [`http_request`](crate::http_request()).
///
/// ```
/// # let _mock = pink::mock::install();
/// # _mock.respond("https://example.com/", 201, "");
/// let response = pink::http_post!("https://example.com/", "{}", [("Content-Type", "application/json")]);
/// assert_eq!(response.status_code, 201);
/// ```
#[macro_export]
macro_rules! http_post {
    ($url:expr, $body:expr $(,)?) => {
        $crate::http_request($crate::HttpRequest::post($url, $body))
    };
    ($url:expr, $body:expr, $headers:expr $(,)?) => {{
        let mut request = $crate::HttpRequest::post($url, $body);
        for (name, value) in $headers {
            request = request.header(name, value);
        }
        $crate::http_request(request)
    }};
}
