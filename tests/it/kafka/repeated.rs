//! At least once over a real broker, through kills: what comes again is told by its key.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use highwater_broker::Broker;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;

use super::{PATIENCE, folded, highwater, killed_after, prepare, size};

/// The messages of a topic without those whose idempotency key was there before; and how many those were.
fn without_repeated(messages: Vec<(String, String)>) -> (Vec<String>, usize) {
    let key = |headers: &str| headers.split_once("highwater-idempotency-key:").unwrap().1.to_owned();
    let (all, mut seen) = (messages.len(), BTreeMap::new());
    let mut lines = Vec::new();
    for (headers, value) in messages {
        let known = seen.entry(key(&headers)).or_insert_with(|| {
            lines.push(value.clone());
            value.clone()
        });
        assert_eq!(*known, value, "two messages have the key {}", key(&headers));
    }
    let repeated = all - lines.len();
    (lines, repeated)
}

#[test]
fn at_least_once_through_kills_repeats_only_what_its_keys_tell() {
    let broker = Broker::shared();
    let tools = broker.tools();
    let folder = tempfile::tempdir().unwrap();
    let (messages, kills_wanted) = size();
    prepare(folder.path(), broker, "at_least_once", "-again", messages);
    let mut random = StdRng::seed_from_u64(12);
    let (mut kills, started) = (0, Instant::now());
    loop {
        assert!(started.elapsed() < PATIENCE * 10, "{kills} kills");
        let workers = random.gen_range(1..=3).to_string();
        // Far between: much is published that no checkpoint has.
        let arguments =
            ["job.sql", "--name", "job", "--checkpoints", "state", "--checkpoint-interval", "700ms", "--workers", &workers];
        let limit = if kills >= kills_wanted { PATIENCE } else { Duration::from_millis(random.gen_range(500..2_500)) };
        if !killed_after(highwater(folder.path(), &arguments), || true, limit) {
            break;
        }
        kills += 1;
    }
    let mut repeats = 0;
    for view in ["windows", "joined"] {
        let text = std::fs::read_to_string(folder.path().join(format!("{view}.once"))).unwrap();
        let once: BTreeMap<String, i64> =
            text.lines().map(|line| (serde_json::from_str::<Value>(line).unwrap().to_string(), 1)).collect();
        let (lines, repeated) = without_repeated(tools.read_with_headers(&format!("{view}-again")));
        assert_eq!(folded(&lines), once, "{view} after {kills} kills");
        repeats += repeated;
    }
    assert!(kills == 0 || repeats > 0, "of {kills} kills none came after rows that no checkpoint had");
    eprintln!("{messages} events, {kills} kills, {repeats} messages came again");
}
