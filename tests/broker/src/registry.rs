//! A schema registry for tests: ids, subjects, versions, references, a check of compatibility, and outages, over HTTP.
//!
//! It speaks as much of Confluent's protocol as clients of ours ask. Compatible is a schema of Avro whose new fields have a
//! default and whose old ones keep their type or become a larger one; what is Protobuf is always taken.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

/// A registry that runs until it is dropped.
#[derive(Debug)]
pub struct SchemaRegistry {
    address: String,
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    /// Whether it answers 503 to everything.
    away: AtomicBool,
    ended: AtomicBool,
    requests: AtomicU64,
    authorization: Mutex<Option<String>>,
}

#[derive(Debug, Default)]
struct State {
    /// By id, from 1.
    schemas: Vec<Stored>,
    /// Ids by subject and version.
    subjects: BTreeMap<String, Vec<usize>>,
}

#[derive(Debug, Clone, PartialEq)]
struct Stored {
    text: String,
    kind: String,
    references: Value,
}

type Answer = Result<Value, (u16, u32, String)>;

impl SchemaRegistry {
    /// Starts one on a free port.
    pub fn start() -> SchemaRegistry {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let inner = Arc::new(Inner::default());
        let serving = Arc::clone(&inner);
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                if serving.ended.load(Ordering::Acquire) {
                    return;
                }
                let inner = Arc::clone(&serving);
                if let Ok(connection) = connection {
                    std::thread::spawn(move || inner.serve(connection));
                }
            }
        });
        SchemaRegistry { address, inner }
    }

    /// `http://host:port`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Whether it answers 503 to everything from now on.
    pub fn set_away(&self, away: bool) {
        self.inner.away.store(away, Ordering::Release);
    }

    /// Answers only those who send this header `Authorization`.
    pub fn require(&self, authorization: &str) {
        *lock(&self.inner.authorization) = Some(authorization.to_owned());
    }

    /// How many requests have come.
    pub fn requests(&self) -> u64 {
        self.inner.requests.load(Ordering::Acquire)
    }

    /// Registers a schema without any check: its id.
    pub fn add(&self, subject: &str, kind: &str, text: &str, references: Value) -> u32 {
        let stored = Stored { text: text.to_owned(), kind: kind.to_owned(), references };
        lock(&self.inner.state).register(subject, stored) as u32
    }

    /// The texts of a subject's schemas.
    pub fn versions(&self, subject: &str) -> Vec<String> {
        let state = lock(&self.inner.state);
        let ids = state.subjects.get(subject).cloned().unwrap_or_default();
        ids.iter().map(|id| state.schemas[id - 1].text.clone()).collect()
    }
}

impl Drop for SchemaRegistry {
    fn drop(&mut self) {
        self.inner.ended.store(true, Ordering::Release);
        // So that it looks.
        drop(TcpStream::connect(&self.address));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    /// Answers the requests of a connection.
    fn serve(&self, connection: TcpStream) {
        let Ok(mut out) = connection.try_clone() else { return };
        let mut lines = BufReader::new(connection);
        loop {
            let mut first = String::new();
            if lines.read_line(&mut first).unwrap_or(0) == 0 || self.ended.load(Ordering::Acquire) {
                return;
            }
            let (mut length, mut authorization) = (0, None);
            loop {
                let mut line = String::new();
                if lines.read_line(&mut line).unwrap_or(0) == 0 {
                    return;
                }
                let Some((name, value)) = line.trim().split_once(':') else { break };
                match name.to_ascii_lowercase().as_str() {
                    "content-length" => length = value.trim().parse().unwrap_or(0),
                    "authorization" => authorization = Some(value.trim().to_owned()),
                    _ => {}
                }
            }
            let mut body = vec![0; length];
            if lines.read_exact(&mut body).is_err() {
                return;
            }
            self.requests.fetch_add(1, Ordering::AcqRel);
            let mut words = first.split_whitespace();
            let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            let required = lock(&self.authorization).clone();
            let answer = if self.away.load(Ordering::Acquire) {
                Err((503, 50301, "away".to_owned()))
            } else if required.is_some() && authorization != required {
                Err((401, 40101, "Unauthorized".to_owned()))
            } else {
                let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
                lock(&self.state).answer(method, path, &body)
            };
            let (status, json) = match answer {
                Ok(json) => (200, json),
                Err((status, code, message)) => (status, json!({ "error_code": code, "message": message })),
            };
            let body = json.to_string();
            let head = format!(
                "HTTP/1.1 {status} x\r\nContent-Type: application/vnd.schemaregistry.v1+json\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            if out.write_all(head.as_bytes()).and_then(|()| out.write_all(body.as_bytes())).is_err() {
                return;
            }
        }
    }
}

impl State {
    fn answer(&mut self, method: &str, path: &str, body: &Value) -> Answer {
        let path = path.split('?').next().unwrap_or_default();
        let parts: Vec<String> = path.trim_matches('/').split('/').map(decoded).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        match (method, &parts[..]) {
            ("GET", ["schemas", "ids", id]) => {
                let id = id.parse::<usize>().ok().filter(|id| (1..=self.schemas.len()).contains(id));
                let id = id.ok_or_else(|| (404, 40403, "Schema not found".to_owned()))?;
                Ok(self.schemas[id - 1].json())
            }
            ("GET", ["subjects", subject, "versions", version]) => self.version(subject, version),
            ("POST", ["subjects", subject, "versions"]) => {
                let stored = Stored::of(body)?;
                let objections = self.objections(subject, &stored);
                if let Some(objection) = objections.first() {
                    let message = format!("Schema being registered is incompatible with an earlier schema: {objection}");
                    return Err((409, 409, message));
                }
                Ok(json!({ "id": self.register(subject, stored) }))
            }
            ("POST", ["subjects", subject]) => {
                let stored = Stored::of(body)?;
                let ids = self.subjects.get(*subject).ok_or_else(|| not_found(subject))?;
                let found = ids.iter().position(|id| self.schemas[id - 1] == stored);
                let at = found.ok_or_else(|| (404, 40403, "Schema not found".to_owned()))?;
                self.version(subject, &(at + 1).to_string())
            }
            ("POST", ["compatibility", "subjects", subject, "versions", "latest"]) => {
                let stored = Stored::of(body)?;
                if !self.subjects.contains_key(*subject) {
                    return Err(not_found(subject));
                }
                let messages = self.objections(subject, &stored);
                Ok(json!({ "is_compatible": messages.is_empty(), "messages": messages }))
            }
            _ => Err((404, 404, "HTTP 404 Not Found".to_owned())),
        }
    }

    fn version(&self, subject: &str, version: &str) -> Answer {
        let ids = self.subjects.get(subject).ok_or_else(|| not_found(subject))?;
        let version = match version {
            "latest" | "-1" => ids.len(),
            number => number.parse().unwrap_or(0),
        };
        let id = version.checked_sub(1).and_then(|at| ids.get(at));
        let id = *id.ok_or_else(|| (404, 40402, format!("Version {version} not found.")))?;
        let mut json = self.schemas[id - 1].json();
        json["subject"] = json!(subject);
        json["version"] = json!(version);
        json["id"] = json!(id);
        Ok(json)
    }

    fn register(&mut self, subject: &str, stored: Stored) -> usize {
        let id = match self.schemas.iter().position(|known| *known == stored) {
            Some(at) => at + 1,
            None => {
                self.schemas.push(stored);
                self.schemas.len()
            }
        };
        let ids = self.subjects.entry(subject.to_owned()).or_default();
        if !ids.contains(&id) {
            ids.push(id);
        }
        id
    }

    /// What speaks against a schema as the next one of a subject.
    fn objections(&self, subject: &str, new: &Stored) -> Vec<String> {
        let Some(id) = self.subjects.get(subject).and_then(|ids| ids.last()) else { return Vec::new() };
        let old = &self.schemas[id - 1];
        if old.kind != new.kind {
            return vec![format!("the types differ: {} and {}", old.kind, new.kind)];
        }
        if new.kind != "AVRO" {
            return Vec::new();
        }
        let parsed = |stored: &Stored| serde_json::from_str::<Value>(&stored.text).unwrap_or(Value::Null);
        let (old, new) = (parsed(old), parsed(new));
        let none = Vec::new();
        let fields = |schema: &Value| schema["fields"].as_array().cloned().unwrap_or_default();
        let mut found = none;
        if old["name"] != new["name"] {
            found.push(format!("NAME_MISMATCH: expected {}", old["name"]));
        }
        for field in fields(&new) {
            match fields(&old).iter().find(|other| other["name"] == field["name"]) {
                None if field.get("default").is_none() => {
                    found.push(format!("READER_FIELD_MISSING_DEFAULT_VALUE: {}", field["name"]));
                }
                Some(other) if !reads(&field["type"], &other["type"]) => found.push(format!("TYPE_MISMATCH: {}", field["name"])),
                _ => {}
            }
        }
        found
    }
}

/// Whether values of the type `old` can be read as `new`.
fn reads(new: &Value, old: &Value) -> bool {
    match (new, old) {
        (new, old) if new == old => true,
        (new, Value::Array(branches)) => branches.iter().all(|branch| reads(new, branch)),
        (Value::Array(branches), old) => branches.iter().any(|branch| reads(branch, old)),
        (Value::String(new), Value::String(old)) => matches!(
            (old.as_str(), new.as_str()),
            ("int", "long" | "float" | "double") | ("long", "float" | "double") | ("float", "double")
        ),
        _ => false,
    }
}

fn not_found(subject: &str) -> (u16, u32, String) {
    (404, 40401, format!("Subject '{subject}' not found."))
}

impl Stored {
    fn of(body: &Value) -> Result<Stored, (u16, u32, String)> {
        let text = body["schema"].as_str().ok_or_else(|| (422, 42201, "Invalid schema".to_owned()))?;
        let kind = body["schemaType"].as_str().unwrap_or("AVRO");
        if kind == "AVRO" && serde_json::from_str::<Value>(text).is_err() {
            return Err((422, 42201, "Invalid schema".to_owned()));
        }
        Ok(Stored { text: text.to_owned(), kind: kind.to_owned(), references: body["references"].clone() })
    }

    fn json(&self) -> Value {
        let mut json = json!({ "schema": self.text });
        if self.kind != "AVRO" {
            json["schemaType"] = json!(self.kind);
        }
        if self.references.is_array() {
            json["references"] = self.references.clone();
        }
        json
    }
}

/// A segment of a path without its percent signs.
fn decoded(segment: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), segment.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        let hex = || std::str::from_utf8(after.get(..2)?).ok().and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (*first == b'%').then(hex).flatten() {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
