//! Who may ask. There are no passwords yet, so what keeps a stranger away is the address that is listened to; but the
//! browser of a person at this machine reaches 127.0.0.1 too, on behalf of any page it shows.
//!
//! Two rules close that door. A service that listens to this machine only answers to names of this machine: a page whose
//! own name was pointed at 127.0.0.1 (DNS rebinding) carries that name in `Host`. And a request that changes something
//! must not come from a page of another origin, which `Origin` says. Programs send neither.

use std::net::SocketAddr;

use warp::http::header::{HOST, ORIGIN};
use warp::http::{HeaderMap, Method};

use super::problem::{Code, Problem};

/// The rules of one server.
#[derive(Debug, Clone)]
pub(crate) struct Guard {
    loopback: bool,
    allowed_hosts: Vec<String>,
}

impl Guard {
    /// The rules of a server that listens on `address`.
    pub(crate) fn new(address: SocketAddr, allowed_hosts: &[String]) -> Self {
        Guard { loopback: address.ip().is_loopback(), allowed_hosts: allowed_hosts.to_vec() }
    }

    /// Refuses what a strange page sent.
    pub(crate) fn check(&self, method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let host = text(HOST).unwrap_or_default();
        let name = without_port(host);
        let known = || name == "localhost" || self.allowed_hosts.iter().any(|allowed| allowed == name);
        if self.loopback && !is_loopback(name) && !known() {
            return Err(Problem::new(Code::UnknownHost, format!("this service does not go by '{host}'")));
        }
        let harmless = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
        match text(ORIGIN) {
            Some(origin) if !harmless && origin.split_once("://").is_none_or(|(_, from)| from != host) => {
                Err(Problem::new(Code::CrossOrigin, format!("the request comes from a page of '{origin}'")))
            }
            _ => Ok(()),
        }
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        // The colons of `[::1]` are not a port's.
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.is_empty() => name,
        _ => host,
    }
}

fn is_loopback(name: &str) -> bool {
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use warp::http::HeaderValue;

    fn check(method: Method, host: &'static str, origin: Option<&'static str>) -> bool {
        let guard = Guard::new(SocketAddr::from(([127, 0, 0, 1], 8090)), &["box.example".to_string()]);
        let mut headers = HeaderMap::from_iter([(HOST, HeaderValue::from_static(host))]);
        if let Some(origin) = origin {
            headers.insert(ORIGIN, HeaderValue::from_static(origin));
        }
        guard.check(&method, &headers).is_ok()
    }

    #[test]
    fn names_of_this_machine_are_answered() {
        for host in ["127.0.0.1:8090", "localhost:8090", "localhost", "[::1]:8090", "[::1]", "box.example:80"] {
            assert!(check(Method::GET, host, None), "{host}");
        }
        for host in ["evil.example:8090", "evil.example", "", "10.0.0.1"] {
            assert!(!check(Method::GET, host, None), "{host}");
        }
    }

    #[test]
    fn pages_of_other_origins_change_nothing() {
        assert!(check(Method::POST, "localhost:8090", Some("http://localhost:8090")));
        assert!(!check(Method::POST, "localhost:8090", Some("http://evil.example")));
        assert!(!check(Method::DELETE, "localhost:8090", Some("null")));
        assert!(check(Method::GET, "localhost:8090", Some("http://evil.example")));
    }
}
