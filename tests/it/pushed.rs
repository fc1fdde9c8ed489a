//! Pushed rows of a service that is killed: what was accepted is there when it is started again, once.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;

use crate::service::PATIENCE;

/// A row that comes twice is seen: it is counted.
const JOB: &str = "
    CREATE SOURCE events (id BIGINT, name VARCHAR) WITH (connector = 'http');
    CREATE TABLE goods (id BIGINT PRIMARY KEY, name VARCHAR);
    CREATE MATERIALIZED VIEW seen AS SELECT id, count(*) AS n FROM events GROUP BY id;
    CREATE MATERIALIZED VIEW stock AS SELECT id, name FROM goods;
";

/// `highwater serve` as a process; killed when it is dropped.
struct Process {
    child: Child,
    url: String,
}

impl Drop for Process {
    fn drop(&mut self) {
        // SIGKILL: it gets to do nothing more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    fn start(directory: &Path, interval: &str, more: &[&str]) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
        command.current_dir(directory).args(["serve", "--http", "127.0.0.1:0", "--checkpoints", "state"]);
        command.args(["--checkpoint-interval", interval]).args(more);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = Vec::new();
        let url = loop {
            let line = lines.next().unwrap_or_else(|| panic!("{said:#?}")).unwrap();
            if let Some(url) = line.strip_prefix("serving on ") {
                break url.trim().to_owned();
            }
            said.push(line);
        };
        std::thread::spawn(move || lines.for_each(drop));
        Process { child, url }
    }

    fn get(&self, path: &str) -> Value {
        let url = format!("{}{path}", self.url);
        agent().get(url).call().unwrap().body_mut().read_json().unwrap()
    }

    /// The rows of a view at a token or later; as they are without one.
    fn rows(&self, view: &str, token: &str) -> Vec<Value> {
        let token = if token.is_empty() { String::new() } else { format!("min_epoch={token}&") };
        let answer = self.get(&format!("/v1/views/{view}?{token}timeout_ms=60000&limit=1000000"));
        answer["rows"].as_array().unwrap_or_else(|| panic!("{answer}")).clone()
    }

    fn create(&self) {
        self.create_of("shop", JOB);
    }

    fn create_of(&self, name: &str, text: &str) {
        let request = agent().post(format!("{}/v1/jobs?name={name}", self.url)).header("content-type", "application/sql");
        let mut answer = request.send(text.as_bytes()).unwrap();
        let text = answer.body_mut().read_to_string().unwrap();
        assert!(answer.status().is_success(), "{text}");
        let report: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert!(report["checkpoints"]["epoch"].is_u64(), "it is answered when a restart would find it: {text}");
    }

    fn drop_job(&self, name: &str) {
        assert!(agent().delete(format!("{}/v1/jobs/{name}", self.url)).call().unwrap().status().is_success());
    }
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(PATIENCE))
        .max_idle_connections(0)
        .build()
        .into()
}

/// What the service answers to a body, if it does.
fn push(url: &str, key: &str, body: &str) -> Option<Value> {
    let request = agent().post(format!("{url}/v1/sources/events?timeout_ms=60000"));
    let request = request.header("content-type", "application/x-ndjson").header("idempotency-key", key);
    let mut response = request.send(body.as_bytes()).ok()?;
    if response.status() != 200 {
        return None;
    }
    response.body_mut().read_json().ok()
}

#[test]
fn what_was_accepted_is_there_after_a_kill_and_once() {
    let directory = tempfile::tempdir().unwrap();
    let hour = "1h";
    let mut process = Process::start(directory.path(), hour, &[]);
    process.create();
    // The first checkpoint is made at once, and no other one within the hour: only the log can have the rows.
    for round in 0..3 {
        for id in 0..10 {
            let id = round * 10 + id;
            let answer = push(&process.url, &format!("key {id}"), &format!("{{\"id\":{id}}}\nx\n")).unwrap();
            assert_eq!((&answer["accepted"], &answer["rejected"], &answer["duplicate"]), (&1.into(), &1.into(), &false.into()));
        }
        let metrics = agent().get(format!("{}/metrics", process.url)).call().unwrap().body_mut().read_to_string().unwrap();
        for metric in ["highwater_source_log_bodies", "highwater_source_log_bytes"] {
            let line = format!("{metric}{{job=\"shop\",source=\"events\"}} ");
            let value = metrics.lines().find_map(|found| found.strip_prefix(&line)?.parse::<u64>().ok());
            assert!(value.is_some_and(|value| value > 0), "{metric}: {value:?} in\n{metrics}");
        }
        // Rows that are changed by SQL are kept, too.
        let sql = format!("INSERT INTO goods VALUES ({round}, 'a'); UPDATE goods SET name = 'b' WHERE id = {round};");
        let mut answer =
            agent().post(format!("{}/v1/query", process.url)).content_type("application/sql").send(sql.as_bytes()).unwrap();
        assert!(answer.status().is_success(), "{}", answer.body_mut().read_to_string().unwrap());
        drop(process);
        process = Process::start(directory.path(), hour, &["--workers", "2"]);
        // Its answer is that of the first time, and its token is that of rows that are there.
        let again = push(&process.url, "key 0", "{\"id\":0}\nx\n").unwrap();
        assert_eq!((&again["accepted"], &again["rejected"], &again["duplicate"]), (&1.into(), &1.into(), &true.into()));
        let last = push(&process.url, &format!("key {}", round * 10 + 9), "another body").unwrap();
        assert_eq!((&last["accepted"], &last["duplicate"]), (&1.into(), &true.into()), "{last}");
        let rows = process.rows("seen", last["token"].as_str().unwrap());
        assert_eq!(rows.len(), (round + 1) * 10);
        assert!(rows.iter().all(|row| row["n"] == 1), "{rows:?}");
        if round == 0 {
            assert_eq!(process.rows("events$rejects", last["token"].as_str().unwrap()).len(), 10);
        }
        let since = Instant::now();
        loop {
            let stock = process.rows("stock", "");
            if stock.len() == round + 1 && stock.iter().all(|row| row["name"] == "b") {
                break;
            }
            assert!(since.elapsed() < PATIENCE, "{stock:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    // A job that was dropped leaves nothing to one of its name.
    let pushed = directory.path().join("state/pushed/shop");
    assert!(pushed.exists());
    process.drop_job("shop");
    assert!(!pushed.exists());
    process.create();
    let answer = push(&process.url, "key 0", "{\"id\":77}").unwrap();
    assert_eq!(answer["duplicate"], false);
    let rows = process.rows("seen", answer["token"].as_str().unwrap());
    assert_eq!(rows.len(), 1);
}

#[test]
fn clients_that_repeat_what_was_not_answered_have_each_row_in_once() {
    const CLIENTS: u64 = 4;
    let directory = tempfile::tempdir().unwrap();
    let mut random = StdRng::seed_from_u64(11);
    let first = Process::start(directory.path(), "1h", &[]);
    first.create();
    let url = Arc::new(Mutex::new(first.url.clone()));
    let done = Arc::new(AtomicBool::new(false));
    let started = Instant::now();
    let client = |client: u64| {
        let (url, done) = (Arc::clone(&url), Arc::clone(&done));
        std::thread::spawn(move || {
            let mut accepted = Vec::new();
            while !done.load(Ordering::Relaxed) {
                let id = accepted.len() as u64 * CLIENTS + client;
                let (key, body) = (format!("key {id}"), format!("{{\"id\":{id}}}"));
                loop {
                    assert!(started.elapsed() < PATIENCE, "client {client} has {} rows in", accepted.len());
                    let now = url.lock().unwrap().clone();
                    if let Some(answer) = push(&now, &key, &body) {
                        assert_eq!(answer["accepted"], 1);
                        break;
                    }
                    std::thread::sleep(Duration::from_millis(5));
                }
                accepted.push(id);
            }
            accepted
        })
    };
    let clients: Vec<_> = (0..CLIENTS).map(client).collect();
    let mut process = first;
    for _ in 0..8 {
        std::thread::sleep(Duration::from_millis(random.gen_range(100..700)));
        drop(process);
        let interval = ["1h", "50ms"][random.gen_range(0..2)];
        process = Process::start(directory.path(), interval, &["--workers", ["1", "3"][random.gen_range(0..2)]]);
        *url.lock().unwrap() = process.url.clone();
    }
    std::thread::sleep(Duration::from_millis(300));
    done.store(true, Ordering::Relaxed);
    let mut accepted: Vec<u64> = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
    accepted.sort_unstable();
    let last = push(&process.url, "last", "").unwrap();
    let rows = process.rows("seen", last["token"].as_str().unwrap());
    let mut seen: Vec<u64> = rows.iter().map(|row| row["id"].as_u64().unwrap()).collect();
    seen.sort_unstable();
    assert!(accepted.len() > 50, "{}", accepted.len());
    assert_eq!(seen, accepted);
    assert!(rows.iter().all(|row| row["n"] == 1), "a row is in twice");
}

#[test]
fn a_job_that_is_over_at_once_is_saved_before_the_answer() {
    let text = "
        CREATE SOURCE numbers (n BIGINT) WITH (connector = 'datagen', rows = '3', fields.n.kind = 'sequence');
        CREATE MATERIALIZED VIEW counted AS SELECT count(*) AS n FROM numbers;
    ";
    let directory = tempfile::tempdir().unwrap();
    let process = Process::start(directory.path(), "1h", &[]);
    for round in 0..10 {
        // Looks whether it is saved; the name ends before what else is asked for.
        process.create_of(&format!("quick-{round}&until_end=true"), text);
    }
}

#[test]
fn a_job_that_failed_and_was_dropped_does_not_come_back() {
    let text = "
        SET on_error = 'fail';
        CREATE SOURCE divisors (id BIGINT) WITH (connector = 'http');
        CREATE MATERIALIZED VIEW parts AS SELECT 1 / id AS n FROM divisors;
    ";
    let directory = tempfile::tempdir().unwrap();
    let process = Process::start(directory.path(), "1h", &[]);
    process.create_of("wrong", text);
    process.create();
    // What the answer is depends on whether the job has failed by then.
    let request = agent().post(format!("{}/v1/sources/divisors", process.url)).header("content-type", "application/x-ndjson");
    request.send("{\"id\":0}").unwrap();
    let since = Instant::now();
    let state = || process.get("/v1/jobs/wrong")["state"].as_str().unwrap_or_default().to_owned();
    while state() != "failed" {
        assert!(since.elapsed() < PATIENCE, "{}", process.get("/v1/jobs/wrong"));
        std::thread::sleep(Duration::from_millis(10));
    }
    process.drop_job("wrong");
    drop(process);
    let process = Process::start(directory.path(), "1h", &[]);
    let since = Instant::now();
    while process.get("/v1/jobs/shop")["state"] != "running" {
        assert!(since.elapsed() < PATIENCE, "{}", process.get("/v1/jobs"));
        std::thread::sleep(Duration::from_millis(10));
    }
    let jobs = process.get("/v1/jobs").to_string();
    assert!(!jobs.contains("wrong"), "{jobs}");
}
