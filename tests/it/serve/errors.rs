//! Problem documents, and who may ask.

use crate::service::{EVENTS, Service};

#[test]
fn unknown_paths_and_methods_are_problems() {
    let service = Service::start();
    service.get("/nothing/here").problem(404, "unknown-route");
    service.get("/v1/sources/x/y").problem(404, "unknown-route");
    let reply = service.delete("/v1/jobs");
    reply.problem(405, "method-not-allowed");
    assert_eq!(reply.headers["allow"], "GET, HEAD, POST");
    let reply = service.get("/v1/sources/events");
    reply.problem(405, "method-not-allowed");
    assert_eq!(reply.headers["allow"], "POST");
    service.post("/v1/views/x", &[], b"").problem(405, "method-not-allowed");
}

#[test]
fn every_code_has_a_page() {
    let service = Service::start();
    let document = service.get("/nothing").problem(404, "unknown-route");
    let page = service.get(document["type"].as_str().unwrap());
    assert_eq!(page.status, 200);
    assert!(page.text().starts_with("unknown-route (HTTP 404)"), "{}", page.text());
    service.get("/errors/no-such-code").problem(404, "unknown-route");
}

#[test]
fn a_head_is_a_get_without_its_body() {
    let service = Service::with_events();
    let mut stream = service.raw(b"HEAD /v1/views/copy HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("highwater-token: events:"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n"), "{answer}");
}

#[test]
fn pages_of_strangers_are_refused() {
    let service = Service::start();
    let strange = |head: &str| {
        let mut stream = service.raw(format!("{head}connection: close\r\n\r\n").as_bytes());
        let mut answer = String::new();
        std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
        answer
    };
    let rebound = strange("GET /v1/jobs HTTP/1.1\r\nhost: evil.example\r\n");
    assert!(rebound.starts_with("HTTP/1.1 421") && rebound.contains("\"unknown-host\""), "{rebound}");
    let crossed = strange("POST /v1/jobs HTTP/1.1\r\nhost: localhost\r\norigin: http://evil.example\r\ncontent-length: 0\r\n");
    assert!(crossed.starts_with("HTTP/1.1 403") && crossed.contains("\"cross-origin\""), "{crossed}");
    assert!(!crossed.contains("access-control"), "{crossed}");
    let own = format!("http://localhost:{}", service.server.address().port());
    let headers = [("host", own.trim_start_matches("http://")), ("origin", own.as_str())];
    service.post("/v1/jobs?name=own", &headers, EVENTS.as_bytes()).ok();
}

#[test]
fn the_console_is_a_page_of_its_own() {
    let service = Service::start();
    let page = service.get("/");
    assert_eq!(page.headers["content-type"], "text/html; charset=utf-8");
    assert!(page.headers["content-security-policy"].contains("default-src 'none'"));
    assert!(page.text().contains("EventSource"));
}
