//! What one client, or all together, may take.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use highwater::Limits;

use crate::service::{EVENTS, Service};

const NDJSON: [(&str, &str); 1] = [("content-type", "application/x-ndjson")];

fn read_all(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

#[test]
fn a_body_may_be_so_large_and_no_larger() {
    let service = Service::with(Limits { body_bytes: 1_000, ..Limits::default() });
    service.create("events", EVENTS).ok();
    let exact = format!("{{\"id\":1,\"name\":\"{}\"}}", "x".repeat(1_000 - 18));
    assert_eq!(exact.len(), 1_000);
    service.post("/v1/sources/events", &NDJSON, exact.as_bytes()).ok();
    let document = service.post("/v1/sources/events", &NDJSON, format!("{exact}\n").as_bytes()).problem(413, "body-too-large");
    assert_eq!(document["limit_bytes"], 1_000);
    // A chunked body does not say how long it will be.
    let head = "POST /v1/sources/events HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n";
    let stream = service.raw(format!("{head}3e9\r\n{exact}\n\r\n0\r\n\r\n").as_bytes());
    let answer = read_all(stream);
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    let rows = service.rows("copy", "", &service.push("{\"id\":2}"));
    assert_eq!(rows.len(), 2);
}

#[test]
fn a_large_row_is_rejected_and_the_others_taken() {
    let service = Service::with_events();
    let large = "x".repeat(2 << 20);
    let body = format!("{{\"id\":1}}\n{{\"id\":2,\"name\":\"{large}\"}}\n{{\"id\":3}}\n");
    let pushed = service.post("/v1/sources/events", &NDJSON, body.as_bytes()).ok();
    assert_eq!((pushed["accepted"].as_u64(), pushed["rejected"].as_u64()), (Some(2), Some(1)), "{pushed:#}");
}

#[test]
fn bodies_together_may_be_so_large() {
    let service = Service::with(Limits { bodies_bytes: 64 << 10, ..Limits::default() });
    service.create("events", EVENTS).ok();
    let body = "{\"id\":1}\n".repeat(20_000);
    let reply = service.post("/v1/sources/events", &NDJSON, body.as_bytes());
    reply.problem(503, "overloaded");
    assert_eq!(reply.headers["retry-after"], "1");
    // What was refused holds no room.
    service.push("{\"id\":1}\n");
}

#[test]
fn connections_are_counted() {
    let service = Service::with(Limits { connections: 3, ..Limits::default() });
    let open: Vec<TcpStream> = (0..3).map(|_| service.raw(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")).collect();
    for mut stream in &open {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
    }
    let answer = read_all(service.raw(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"));
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.contains("\"code\":\"too-many-connections\""), "{answer}");
    drop(open);
    let start = std::time::Instant::now();
    while !read_all(service.raw(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"))
        .starts_with("HTTP/1.1 200")
    {
        assert!(start.elapsed() < crate::service::PATIENCE, "places are free again");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn subscribers_are_counted() {
    let service = Service::with(Limits { subscribers: 3, subscribers_per_view: 2, ..Limits::default() });
    service.create("events", EVENTS).ok();
    let _two = [service.follow("/v1/views/totals/changes", None), service.follow("/v1/views/totals/changes", None)];
    service.get("/v1/views/totals/changes").problem(429, "too-many-subscribers");
    let _third = service.follow("/v1/views/copy/changes", None);
    service.get("/v1/views/copy/changes").problem(429, "too-many-subscribers");
}

#[test]
fn a_head_has_to_arrive() {
    let limits = Limits { header_time: Duration::from_millis(100), ..Limits::default() };
    let service = Service::with(limits);
    let answer = read_all(service.raw(b"GET /healthz HTTP/1.1\r\nhost: local"));
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
    let long = format!("GET /healthz HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n", "x".repeat(300_000));
    let mut stream = TcpStream::connect(service.server.address()).unwrap();
    // The server may close before all is written.
    let _ = stream.write_all(long.as_bytes());
    let answer = read_all(stream);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    service.get("/healthz");
}

#[test]
fn a_body_has_to_arrive() {
    let service = Service::with(Limits { stall_time: Duration::from_millis(100), ..Limits::default() });
    service.create("events", EVENTS).ok();
    let head = "POST /v1/sources/events HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-ndjson\r\ncontent-length: 1000\r\n\r\n{\"id\":1}\n";
    let answer = read_all(service.raw(head.as_bytes()));
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert_eq!(service.rows("copy", "", &service.push("{\"id\":2}")).len(), 1);
}

#[test]
fn an_answer_has_to_be_taken() {
    let limits = Limits { stall_time: Duration::from_millis(200), send_buffer_bytes: 16 << 10, ..Limits::default() };
    let service = Service::with(limits);
    service.create("events", EVENTS).ok();
    let text = "x".repeat(1_000);
    let mut token = String::new();
    for _ in 0..20 {
        let rows: String = (0..1_000).map(|id| format!("{{\"id\":{id},\"name\":\"{text}\"}}\n")).collect();
        token = service.push(&rows);
    }
    let request = format!("GET /v1/views/copy?min_epoch={token}&timeout_ms=60000 HTTP/1.1\r\nhost: localhost\r\n\r\n");
    let stream = service.raw(request.as_bytes());
    let start = std::time::Instant::now();
    let connections = || {
        let text = service.get("/metrics").text();
        let line = text.lines().find(|line| line.starts_with("highwater_http_connections ")).unwrap();
        line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()
    };
    // The one that asks is the only one left.
    while connections() > 1 {
        assert!(start.elapsed() < crate::service::PATIENCE, "the connection is given up");
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(stream);
}
