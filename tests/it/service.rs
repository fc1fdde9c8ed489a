//! A service in this process on a port of its own, and a client of it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use highwater::{Highwater, Limits, ServeConfig, Server};
use serde_json::Value;

/// Longer than anything takes that works.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// Pushed rows, as they are and added up.
pub(crate) const EVENTS: &str = "
CREATE SOURCE events (id BIGINT, name VARCHAR, price DOUBLE, at TIMESTAMP(3)) WITH (connector = 'http');
CREATE MATERIALIZED VIEW copy AS SELECT id, name, price, at FROM events;
CREATE MATERIALIZED VIEW totals AS SELECT name, count(*) AS events, sum(id) AS ids FROM events GROUP BY name;
";

pub(crate) struct Service {
    pub(crate) server: Server,
    agent: ureq::Agent,
}

/// An answer, whatever its status.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) bytes: Vec<u8>,
}

impl Reply {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.bytes.clone()).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The document, if this is the problem of that code.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16, code: &str) -> Value {
        let document = self.json();
        assert_eq!((self.status, &document["code"]), (status, &Value::from(code)), "{document:#}");
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert_eq!(document["type"], format!("/errors/{code}"));
        assert_eq!(document["status"], status);
        assert!(document["title"].is_string() && document["detail"].is_string(), "{document:#}");
        document
    }

    #[track_caller]
    pub(crate) fn ok(&self) -> Value {
        assert!((200..300).contains(&self.status), "{}: {}", self.status, self.text());
        if self.bytes.is_empty() { Value::Null } else { self.json() }
    }
}

impl Service {
    pub(crate) fn start() -> Service {
        Service::with(Limits::default())
    }

    /// A service that runs [`EVENTS`].
    pub(crate) fn with_events() -> Service {
        let service = Service::start();
        service.create("events", EVENTS).ok();
        service
    }

    pub(crate) fn with(limits: Limits) -> Service {
        Service::of(Highwater::builder().workers(2).start().unwrap(), limits)
    }

    pub(crate) fn of(highwater: Arc<Highwater>, limits: Limits) -> Service {
        let address = "127.0.0.1:0".parse().unwrap();
        let server = Server::start(highwater, ServeConfig { address, limits, ..ServeConfig::default() }).unwrap();
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .max_idle_connections(0)
            .build();
        Service { server, agent: config.into() }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.server.url())
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        self.get_as(path, "*/*")
    }

    pub(crate) fn get_as(&self, path: &str, accept: &str) -> Reply {
        reply(self.agent.get(self.url(path)).header("accept", accept).call().unwrap())
    }

    pub(crate) fn delete(&self, path: &str) -> Reply {
        reply(self.agent.delete(self.url(path)).call().unwrap())
    }

    pub(crate) fn put(&self, path: &str) -> Reply {
        reply(self.agent.put(self.url(path)).send_empty().unwrap())
    }

    pub(crate) fn post(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let request =
            headers.iter().fold(self.agent.post(self.url(path)), |request, (name, value)| request.header(*name, *value));
        reply(request.send(body).unwrap())
    }

    pub(crate) fn create(&self, name: &str, sql: &str) -> Reply {
        self.post(&format!("/v1/jobs?name={name}"), &[("content-type", "application/sql")], sql.as_bytes())
    }

    /// Pushes NDJSON to `events` and gives the token at which its rows are in the views.
    #[track_caller]
    pub(crate) fn push(&self, rows: &str) -> String {
        let pushed = self.post("/v1/sources/events", &[("content-type", "application/x-ndjson")], rows.as_bytes()).ok();
        pushed["token"].as_str().unwrap_or_else(|| panic!("no token: {pushed}")).to_string()
    }

    /// The rows of a view at a token or later.
    #[track_caller]
    pub(crate) fn rows(&self, view: &str, query: &str, token: &str) -> Vec<Value> {
        let answer = self.get(&format!("/v1/views/{view}?min_epoch={token}&timeout_ms=60000{query}")).ok();
        answer["rows"].as_array().unwrap().clone()
    }

    /// Sends bytes on a connection of its own.
    pub(crate) fn raw(&self, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.server.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(bytes).unwrap();
        stream
    }

    /// Follows a view.
    pub(crate) fn follow(&self, path: &str, last_id: Option<&str>) -> Events {
        let id = last_id.map_or(String::new(), |id| format!("last-event-id: {id}\r\n"));
        let head = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\n{id}\r\n");
        Events::new(self.raw(head.as_bytes()))
    }
}

fn reply(mut response: ureq::http::Response<ureq::Body>) -> Reply {
    let status = response.status().as_u16();
    let headers = response.headers().iter();
    let headers = headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_string())).collect();
    let bytes = response.body_mut().with_config().limit(u64::MAX).read_to_vec().unwrap();
    Reply { status, headers, bytes }
}

/// A stream of Server-Sent Events, read by hand: what is on the wire is what is tested.
pub(crate) struct Events {
    reader: BufReader<TcpStream>,
    /// Bytes of chunks that are not read as lines yet.
    text: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) id: Option<String>,
    pub(crate) data: Value,
}

impl Events {
    fn new(stream: TcpStream) -> Events {
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        while reader.read_line(&mut head).unwrap() > 2 {}
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert!(head.contains("content-type: text/event-stream"), "{head}");
        Events { reader, text: Vec::new() }
    }

    /// The next event that is not a heartbeat; `None` when the stream ends.
    pub(crate) fn next(&mut self) -> Option<Event> {
        loop {
            let event = self.next_of_any_kind()?;
            if event.name != "progress" {
                return Some(event);
            }
        }
    }

    pub(crate) fn next_of_any_kind(&mut self) -> Option<Event> {
        loop {
            let block = self.block()?;
            let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::to_string);
            if let Some(name) = field("event: ") {
                let data = serde_json::from_str(&field("data: ").unwrap()).unwrap();
                return Some(Event { name, id: field("id: "), data });
            }
        }
    }

    /// Text up to an empty line.
    fn block(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.text.windows(2).position(|pair| pair == b"\n\n") {
                let rest = self.text.split_off(end + 2);
                let block = std::mem::replace(&mut self.text, rest);
                return Some(String::from_utf8(block).unwrap());
            }
            let mut size = String::new();
            if self.reader.read_line(&mut size).unwrap_or(0) == 0 {
                return None;
            }
            let size = usize::from_str_radix(size.trim(), 16).unwrap_or_else(|_| panic!("no chunk size: {size:?}"));
            let mut chunk = vec![0; size + 2];
            self.reader.read_exact(&mut chunk).ok()?;
            self.text.extend_from_slice(&chunk[..size]);
            if size == 0 {
                return None;
            }
        }
    }
}

/// A view put together from its events.
#[derive(Debug, Default)]
pub(crate) struct Mirror {
    rows: BTreeMap<String, i64>,
    pub(crate) last_id: Option<String>,
    pub(crate) resets: usize,
}

impl Mirror {
    pub(crate) fn take(&mut self, event: &Event) {
        match event.name.as_str() {
            "reset" => {
                self.rows.clear();
                self.resets += 1;
            }
            "snapshot" => event.data["rows"].as_array().unwrap().iter().for_each(|row| self.add(row, 1)),
            "changes" => {
                for change in event.data["changes"].as_array().unwrap() {
                    let count = change["count"].as_i64().unwrap_or(1);
                    self.add(&change["row"], if change["op"] == "+" { count } else { -count });
                }
            }
            _ => {}
        }
        if event.id.is_some() {
            self.last_id = event.id.clone();
        }
    }

    fn add(&mut self, row: &Value, diff: i64) {
        let count = self.rows.entry(row.to_string()).or_default();
        *count += diff;
        if *count == 0 {
            self.rows.remove(&row.to_string());
        }
    }

    /// How often each row is there; never less than once.
    #[track_caller]
    pub(crate) fn rows(&self) -> &BTreeMap<String, i64> {
        assert!(self.rows.values().all(|count| *count > 0), "{:?}", self.rows);
        &self.rows
    }

    /// Takes events until everything up to `token` has come.
    #[track_caller]
    pub(crate) fn read_to(&mut self, events: &mut Events, token: &str) {
        let epoch = |token: &str| token.rsplit(':').next().unwrap().parse::<u64>().unwrap();
        while self.last_id.as_deref().is_none_or(|id| epoch(id) < epoch(token)) {
            let event = events.next_of_any_kind().expect("the stream goes on");
            assert!(!matches!(event.name.as_str(), "lagged" | "end" | "error"), "{event:?}");
            self.take(&event);
        }
    }
}

/// Rows of an answer, counted like those of a [`Mirror`].
pub(crate) fn counted(rows: &[Value]) -> BTreeMap<String, i64> {
    let mut counts = BTreeMap::new();
    for row in rows {
        *counts.entry(row.to_string()).or_default() += 1;
    }
    counts
}
