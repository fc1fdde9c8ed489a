//! The client and the cache against a registry over HTTP.

#![allow(clippy::unwrap_used, reason = "a test that finds nothing to unwrap has failed, and says where")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use highwater_broker::SchemaRegistry;
use highwater_schemas::{Answer, Credentials, Kind, Registry, RegistryConfig, RegistryError, Schema, Schemas, Waker};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(180);

fn config(url: &str) -> RegistryConfig {
    RegistryConfig { urls: vec![url.to_owned()], credentials: None, timeout: Duration::from_secs(20), ca: None }
}

fn record(fields: Value) -> Schema {
    let text = json!({ "type": "record", "name": "R", "fields": fields }).to_string();
    Schema { kind: Kind::Avro, text, references: Vec::new() }
}

#[test]
fn schemas_are_registered_found_and_refused() {
    let server = SchemaRegistry::start();
    let registry = Registry::new(config(&server.url())).unwrap();
    let first = record(json!([{ "name": "a", "type": "int" }]));
    assert!(matches!(registry.latest("s/ä-value"), Err(RegistryError::Unknown(_))));
    assert!(matches!(registry.find("s/ä-value", &first), Err(RegistryError::Unknown(_))));
    assert_eq!(registry.objections("s/ä-value", &first), Ok(Vec::new()));
    let id = registry.register("s/ä-value", &first).unwrap();
    assert_eq!(registry.register("s/ä-value", &first), Ok(id));
    assert_eq!((registry.find("s/ä-value", &first), registry.schema(id)), (Ok(id), Ok(first.clone())));

    let wider = record(json!([{ "name": "a", "type": "long" }, { "name": "b", "type": ["null", "int"], "default": null }]));
    let second = registry.register("s/ä-value", &wider).unwrap();
    let latest = registry.latest("s/ä-value").unwrap();
    assert_eq!((latest.id, latest.version, latest.schema), (second, 2, wider));

    let other = record(json!([{ "name": "a", "type": "string" }, { "name": "c", "type": "int" }]));
    let objections = registry.objections("s/ä-value", &other).unwrap();
    assert_eq!(objections.len(), 2, "{objections:?}");
    assert!(matches!(registry.register("s/ä-value", &other), Err(RegistryError::Refused(why)) if why.contains("incompatible")));
    assert!(matches!(registry.schema(99), Err(RegistryError::Unknown(_))));
}

#[test]
fn what_a_schema_refers_to_comes_first() {
    let server = SchemaRegistry::start();
    server.add("money", "PROTOBUF", "syntax = \"proto3\"; message Money {}", Value::Null);
    let to = |name: &str, subject: &str| json!({ "name": name, "subject": subject, "version": 1 });
    server.add("line", "PROTOBUF", "line", json!([to("money.proto", "money")]));
    let id = server.add("order", "PROTOBUF", "order", json!([to("line.proto", "line"), to("money.proto", "money")]));
    let registry = Registry::new(config(&server.url())).unwrap();
    let schema = registry.schema(id).unwrap();
    let names: Vec<&str> = schema.references.iter().map(|reference| reference.name.as_str()).collect();
    assert_eq!((schema.kind, names), (Kind::Protobuf, vec!["money.proto", "line.proto"]));
}

#[test]
fn who_asks_is_told_and_who_does_not_answer_is_left() {
    let server = SchemaRegistry::start();
    server.require("Basic dXNlcjpwYXNz");
    let schema = record(json!([]));
    server.add("s", "AVRO", &schema.text, Value::Null);
    let asked = |config: RegistryConfig| Registry::new(config).unwrap().schema(1);
    assert!(matches!(asked(config(&server.url())), Err(RegistryError::Forbidden(_))));
    let basic = Credentials::Basic("user".into(), "pass".into());
    assert_eq!(asked(RegistryConfig { credentials: Some(basic), ..config(&server.url()) }), Ok(schema.clone()));
    let within = server.url().replace("http://", "http://user:pass@");
    // The first one is not there.
    assert_eq!(asked(RegistryConfig { urls: vec!["http://127.0.0.1:1".into(), within], ..config("") }), Ok(schema));
    server.require("Bearer t");
    let token = RegistryConfig { credentials: Some(Credentials::Bearer("t".into())), ..config(&server.url()) };
    assert!(asked(token).is_ok());

    let nobody = asked(config("http://127.0.0.1:1"));
    assert!(matches!(&nobody, Err(RegistryError::Unreachable(why)) if why.contains("http://127.0.0.1:1")), "{nobody:?}");
    // A server that is no registry has no say in what there is not.
    let elsewhere = asked(config(&format!("{}/elsewhere", server.url())));
    assert!(matches!(elsewhere, Err(RegistryError::Forbidden(_) | RegistryError::Unreachable(_))), "{elsewhere:?}");
}

#[test]
fn the_cache_never_waits_and_wakes_who_does() {
    let server = SchemaRegistry::start();
    let schema = record(json!([]));
    let id = server.add("s", "AVRO", &schema.text, Value::Null);
    server.set_away(true);
    let schemas = Schemas::new(Registry::new(config(&server.url())).unwrap());
    let (sender, woken) = mpsc::channel();
    let woke = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&woke);
    let waker: Waker = Arc::new(move || {
        count.fetch_add(1, Ordering::AcqRel);
        let _ = sender.send(());
    });
    assert!(matches!(schemas.get(id, &waker), Answer::Coming));
    woken.recv_timeout(PATIENCE).unwrap();
    assert!(matches!(schemas.get(id, &waker), Answer::Failed(why) if why.contains("away")));
    server.set_away(false);
    let start = Instant::now();
    loop {
        match schemas.get(id, &waker) {
            Answer::Known(known) => break assert_eq!(*known, schema),
            Answer::Unknown(why) => panic!("an outage says nothing of what there is: {why}"),
            Answer::Coming | Answer::Failed(_) => {}
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain for the schema");
        std::thread::sleep(Duration::from_millis(10));
    }
    let requests = server.requests();
    assert!(matches!(schemas.get(id, &waker), Answer::Known(_)));
    assert_eq!((server.requests(), schemas.known(id).map(|known| known.is_ok())), (requests, Some(true)));

    assert!(matches!(schemas.get(7, &waker), Answer::Coming));
    let before = woke.load(Ordering::Acquire);
    while woke.load(Ordering::Acquire) == before {
        woken.recv_timeout(PATIENCE).unwrap();
    }
    assert!(matches!(schemas.get(7, &waker), Answer::Unknown(why) if why == "Schema not found"));
    let failing = Schemas::new(Registry::new(config("http://127.0.0.1:1")).unwrap());
    assert!(matches!(failing.get(1, &waker), Answer::Coming) && failing.known(1).is_none());
}
