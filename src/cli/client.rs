//! A client of a running service.

use std::time::Duration;

use serde::Deserialize;

use super::Failure;

/// Which service.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct UrlArgs {
    /// The service's address.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8090")]
    pub(super) url: String,
}

/// A problem document, as far as a person needs it.
#[derive(Debug, Deserialize)]
struct Problem {
    title: String,
    detail: String,
    /// What is wrong with a text, with its place.
    rendered: Option<String>,
}

/// An agent that gives answers of every status to its caller, and gives up on a server that does not answer.
pub(super) fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_connect(Some(Duration::from_secs(5))).build();
    config.into()
}

/// `url` with a path below it.
pub(super) fn address(args: &UrlArgs, path: &str) -> String {
    format!("{}{path}", args.url.trim_end_matches('/'))
}

/// Percent-encodes a path segment, or a name or value of a query.
pub(super) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'$' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// No answer.
pub(super) fn unreachable(args: &UrlArgs, error: &ureq::Error) -> Failure {
    Failure::Unreachable(format!("cannot reach {}: {error}", args.url))
}

/// The answer if it is one, else what its problem document says.
pub(super) fn success(mut response: ureq::http::Response<ureq::Body>) -> Result<ureq::http::Response<ureq::Body>, Failure> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let text = response.body_mut().read_to_string().unwrap_or_default();
    let message = match serde_json::from_str::<Problem>(&text) {
        Ok(Problem { rendered: Some(rendered), .. }) => rendered,
        Ok(problem) => format!("{}: {}", problem.title, problem.detail),
        Err(_) => format!("the server answered {status}"),
    };
    // A wrong column or value is the caller's mistake; anything else is about the server.
    Err(match status.as_u16() {
        400 | 406 | 422 => Failure::Usage(message),
        _ => Failure::Unreachable(message),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_something_in_an_address_is_encoded() {
        assert_eq!(encode("bid$late"), "bid$late");
        assert_eq!(encode("a b&c=d/é"), "a%20b%26c%3Dd%2F%C3%A9");
    }
}
