//! Requests to a registry: addresses, credentials, and what an answer means.

use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::registry::RegistryError;

/// What a request and its answer look like.
const MEDIA_TYPE: &str = "application/vnd.schemaregistry.v1+json";

/// The longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// Where a registry is, and as whom it is asked.
#[derive(Clone)]
pub struct RegistryConfig {
    /// `http://host:port`, with a path if it has one. The next one is asked when one does not answer.
    pub urls: Vec<String>,
    /// Who asks.
    pub credentials: Option<Credentials>,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Certificates to trust, in PEM, instead of those that everybody trusts.
    pub ca: Option<Vec<u8>>,
}

/// Who asks.
#[derive(Clone)]
pub enum Credentials {
    /// A user and a password.
    Basic(String, String),
    /// A token.
    Bearer(String),
}

/// A registry's address with what is needed to ask it.
pub(crate) struct Client {
    agent: ureq::Agent,
    urls: Vec<String>,
    authorization: Option<String>,
}

/// What a registry says went wrong.
#[derive(Deserialize)]
struct Problem {
    error_code: u32,
    #[serde(default)]
    message: String,
}

impl Client {
    /// Errors: an address that is none, TLS that is not there; lower case, says what is expected.
    pub(crate) fn new(config: RegistryConfig) -> Result<Client, String> {
        let mut urls = Vec::new();
        let mut credentials = config.credentials;
        for url in &config.urls {
            let (url, own) = address(url)?;
            credentials = credentials.or(own);
            urls.push(url);
        }
        if urls.is_empty() {
            return Err("expected http://host:port".to_owned());
        }
        let builder = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(config.timeout))
            .timeout_global(Some(config.timeout))
            .max_redirects(3);
        let builder = with_ca(builder, config.ca)?;
        let authorization = credentials.map(|credentials| match credentials {
            Credentials::Basic(user, password) => format!("Basic {}", base64(format!("{user}:{password}").as_bytes())),
            Credentials::Bearer(token) => format!("Bearer {token}"),
        });
        Ok(Client { agent: builder.build().into(), urls, authorization })
    }

    /// The addresses, for people.
    pub(crate) fn name(&self) -> String {
        self.urls.join(", ")
    }

    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, RegistryError> {
        self.ask(|url| self.with_headers(self.agent.get(format!("{url}{path}"))).call())
    }

    pub(crate) fn post<T: DeserializeOwned>(&self, path: &str, body: &serde_json::Value) -> Result<T, RegistryError> {
        let body = body.to_string();
        self.ask(|url| {
            let request = self.with_headers(self.agent.post(format!("{url}{path}")));
            request.header("Content-Type", MEDIA_TYPE).send(&body)
        })
    }

    fn with_headers<B>(&self, request: ureq::RequestBuilder<B>) -> ureq::RequestBuilder<B> {
        let request = request.header("Accept", MEDIA_TYPE);
        match &self.authorization {
            Some(authorization) => request.header("Authorization", authorization),
            None => request,
        }
    }

    /// The answer of the first that gives one.
    fn ask<T: DeserializeOwned>(
        &self,
        request: impl Fn(&str) -> Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<T, RegistryError> {
        let mut unanswered = Vec::new();
        for url in &self.urls {
            match request(url).map_err(|error| error.to_string()).and_then(|response| answer(url, response)) {
                Ok(answer) => return answer,
                Err(why) => unanswered.push(format!("schema registry {url}: {why}")),
            }
        }
        Err(RegistryError::Unreachable(unanswered.join("; ")))
    }
}

/// What an answer says; `Err`: nothing, so that another one may be asked.
fn answer<T: DeserializeOwned>(
    url: &str,
    mut response: ureq::http::Response<ureq::Body>,
) -> Result<Result<T, RegistryError>, String> {
    let status = response.status().as_u16();
    let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec().map_err(|error| error.to_string())?;
    if (200..300).contains(&status) {
        return serde_json::from_slice(&body).map(Ok).map_err(|error| format!("its answer is not understood: {error}"));
    }
    let problem = serde_json::from_slice::<Problem>(&body).ok();
    let said = match &problem {
        Some(problem) => format!("{} ({})", problem.message, problem.error_code),
        None => format!("it answered {status}"),
    };
    match (status, problem) {
        (401 | 403, _) => Ok(Err(RegistryError::Forbidden(format!("schema registry {url}: {said}")))),
        // A server that is not a registry knows no path of one, either: only a registry says what it does not have.
        (404, Some(problem)) if problem.error_code / 100 == 404 => Ok(Err(RegistryError::Unknown(problem.message))),
        (409 | 422, Some(problem)) => Ok(Err(RegistryError::Refused(problem.message))),
        _ => Err(said),
    }
}

/// An address without the user that it may name.
fn address(url: &str) -> Result<(String, Option<Credentials>), String> {
    let url = url.trim().trim_end_matches('/');
    let (scheme, rest) = url.split_once("://").ok_or("expected http://host:port")?;
    match scheme {
        "http" => {}
        "https" if cfg!(feature = "tls") => {}
        "https" => {
            return Err("https needs TLS, which this binary was built without: build it with --features tls".to_owned());
        }
        // What stands there may have a password in it.
        _ => return Err("expected http://host:port".to_owned()),
    }
    // A password may have an '@' in it, a path as well.
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), format!("{host}{path}")),
        None => (None, rest.to_owned()),
    };
    if host.is_empty() || host.starts_with('/') || host.contains(char::is_whitespace) {
        return Err(format!("expected {scheme}://host:port, found no host"));
    }
    let credentials = user.map(|user| {
        let (user, password) = user.split_once(':').unwrap_or((user, ""));
        Credentials::Basic(user.to_owned(), password.to_owned())
    });
    Ok((format!("{scheme}://{host}"), credentials))
}

type Builder = ureq::config::ConfigBuilder<ureq::typestate::AgentScope>;

#[cfg(feature = "tls")]
fn with_ca(builder: Builder, ca: Option<Vec<u8>>) -> Result<Builder, String> {
    use ureq::tls::{PemItem, RootCerts, TlsConfig};
    let Some(pem) = ca else { return Ok(builder) };
    let mut certificates = Vec::new();
    for item in ureq::tls::parse_pem(&pem) {
        if let PemItem::Certificate(certificate) = item.map_err(|error| format!("the certificates are no PEM: {error}"))? {
            certificates.push(certificate);
        }
    }
    if certificates.is_empty() {
        return Err("the file of certificates has none".to_owned());
    }
    let roots = RootCerts::Specific(std::sync::Arc::new(certificates));
    Ok(builder.tls_config(TlsConfig::builder().root_certs(roots).build()))
}

#[cfg(not(feature = "tls"))]
fn with_ca(builder: Builder, ca: Option<Vec<u8>>) -> Result<Builder, String> {
    match ca {
        None => Ok(builder),
        Some(_) => Err("certificates need TLS, which this binary was built without: build it with --features tls".to_owned()),
    }
}

/// Percent-encodes a path segment.
pub(crate) fn segment(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for place in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * place)) as usize & 63];
            text.push(if place <= group.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_may_stand_in_an_address() {
        let (url, credentials) = address("http://user:pass%word@host:8081/path/").expect("an address");
        assert_eq!(url, "http://host:8081/path");
        assert!(matches!(credentials, Some(Credentials::Basic(user, password)) if user == "user" && password == "pass%word"));
        assert!(address("http://host/a@b").expect("an address").1.is_none());
        let (url, credentials) = address("http://user:p@ss@host:8081/a@b").expect("an address");
        assert_eq!(url, "http://host:8081/a@b");
        assert!(matches!(credentials, Some(Credentials::Basic(user, password)) if user == "user" && password == "p@ss"));
        for bad in ["", "host:8081", "ftp://host", "http://", "http:///x", "http://a b"] {
            assert!(address(bad).is_err(), "{bad}");
        }
        assert_eq!(address("https://host").is_ok(), cfg!(feature = "tls"));
    }

    #[test]
    fn base64_has_its_padding() {
        assert_eq!(base64(b"user:pass"), "dXNlcjpwYXNz");
        assert_eq!(base64(b"a"), "YQ==");
        assert_eq!(base64(b"ab"), "YWI=");
        assert_eq!(base64(b""), "");
    }
}
