//! Passwords: a job with a broker that asks for one, and every place where what a job says is shown or kept.

use std::path::Path;
use std::process::{Command, Output};

use highwater_broker::SecureBroker;
use serde_json::Value;

use super::{finish, highwater};
use crate::service::Service;

const WRONG: &str = "wrong-one-3-2-1";

/// From topic to topic through the port that asks. `password`: as it stands in the text.
fn job(port: &str, topic: &str, password: &str) -> String {
    let broker = format!(
        "connector = 'kafka', brokers = '{port}', properties.security.protocol = 'sasl_plaintext',
         properties.sasl.mechanism = 'PLAIN', properties.sasl.username = 'alice', properties.sasl.password = '{password}'"
    );
    format!(
        "CREATE SOURCE visits (page VARCHAR, n BIGINT) WITH ({broker}, topic = '{topic}', until_end = 'true');
         CREATE MATERIALIZED VIEW counts AS SELECT page, sum(n) AS total FROM visits GROUP BY page;
         CREATE SINK counts_out FROM counts WITH ({broker}, topic = '{topic}-out', format = 'changelog');"
    )
}

/// The command with what it logs about everything.
fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
    command.current_dir(folder).args(arguments).env("HIGHWATER_LOG", "trace");
    command
}

fn said(output: &Output) -> String {
    [&output.stdout[..], &output.stderr].map(String::from_utf8_lossy).concat()
}

/// What files below a folder hold it.
fn found_below(folder: &Path, secret: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(found_below(&path, secret));
        } else if std::fs::read(&path).unwrap().windows(secret.len()).any(|window| window == secret.as_bytes()) {
            found.push(path.display().to_string());
        }
    }
    found
}

#[test]
fn a_password_that_is_referred_to_is_in_no_log_and_no_checkpoint() {
    let broker = SecureBroker::shared();
    let (tools, password) = (broker.tools(), broker.user().1);
    let folder = tempfile::tempdir().unwrap();
    tools.create_topic("visits", 2);
    tools.create_topic("visits-out", 1);
    tools.write("visits", "{\"page\":\"a\",\"n\":1}\n{\"page\":\"b\",\"n\":2}\n{\"page\":\"a\",\"n\":3}\n");
    std::fs::write(folder.path().join("job.sql"), job(&broker.password(), "visits", "${env:KAFKA_PASSWORD}")).unwrap();
    let run = || {
        let mut command = highwater(folder.path(), &["job.sql", "--checkpoints", "state"]);
        command.env("KAFKA_PASSWORD", password).env("HIGHWATER_LOG", "trace");
        finish(command)
    };
    let text = run();
    assert!(!text.contains(password) && !text.contains("secret-in-text"), "{text}");
    // Restored, it has nothing to say.
    assert!(run().contains("restored"));
    let mut totals: Vec<(String, i64)> = Vec::new();
    // Through the same port, with the same reference.
    let port = broker.password();
    let mut reading = command(folder.path(), &["kafka", "read", "visits-out", "--until-end", "--brokers", &port]);
    for property in ["security.protocol=sasl_plaintext", "sasl.mechanism=PLAIN", "sasl.username=alice"] {
        reading.args(["--property", property]);
    }
    reading.args(["--property", "sasl.password=${env:KAFKA_PASSWORD}"]).env("KAFKA_PASSWORD", password);
    let output = reading.output().unwrap();
    let text = said(&output);
    assert!(output.status.success() && !text.contains(password), "{text}");
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let (_, value) = line.rsplit_once('\t').unwrap_or(("", line));
        let row: Value = serde_json::from_str(value).unwrap();
        let sign = if row["op"] == "-" { -1 } else { 1 };
        totals.push((row["page"].as_str().unwrap().to_owned(), sign * row["total"].as_i64().unwrap()));
    }
    let total = |page: &str| totals.iter().filter(|(other, _)| other == page).map(|(_, total)| total).sum::<i64>();
    assert_eq!((total("a"), total("b")), (4, 2), "{totals:?}");
    assert_eq!(found_below(folder.path(), password), Vec::<String>::new());
    // Where it is not set, the error names what is missing and is at its place.
    let output = command(folder.path(), &["check", "job.sql"]).output().unwrap();
    let text = said(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("error[missing-secret]") && text.contains("KAFKA_PASSWORD, which is not set"), "{text}");
}

#[test]
fn a_password_in_the_text_is_not_shown() {
    let broker = SecureBroker::shared();
    let folder = tempfile::tempdir().unwrap();
    let (tools, password) = (broker.tools(), broker.user().1);
    tools.create_topic("shown", 1);
    tools.create_topic("shown-out", 1);
    let right = job(&broker.password(), "shown", password);
    std::fs::write(folder.path().join("right.sql"), &right).unwrap();
    std::fs::write(folder.path().join("wrong.sql"), job(&broker.password(), "shown", WRONG)).unwrap();

    for arguments in [&["check", "right.sql"][..], &["explain", "right.sql"], &["run", "right.sql", "--no-http", "--until-end"]] {
        let output = command(folder.path(), arguments).output().unwrap();
        let text = said(&output);
        assert!(output.status.success(), "{text}");
        assert!(text.contains("warning[secret-in-text]"), "{text}");
        assert!(!text.contains(password), "{arguments:?}: {text}");
    }
    for arguments in [&["check", "wrong.sql"][..], &["run", "wrong.sql", "--no-http"]] {
        let output = command(folder.path(), arguments).output().unwrap();
        let text = said(&output);
        assert_eq!(output.status.code(), Some(2), "{text}");
        // A job that runs opens its sinks first.
        let who = if arguments[0] == "check" { "source 'visits'" } else { "sink 'counts_out'" };
        assert!(text.contains(&format!("error[authentication-failed]: {who}")), "{text}");
        assert!(text.contains(&broker.password()) && text.contains("Invalid username or password"), "{text}");
        assert!(text.contains("help: check properties.sasl.username"), "{text}");
        assert!(!text.contains(WRONG), "{arguments:?}: {text}");
    }
    let service = Service::start();
    service.create("right", &right).ok();
    for path in ["/v1/jobs", "/v1/jobs/right", "/v1/jobs/right/plan", "/metrics", "/"] {
        let text = service.get(path).text();
        assert!(!text.contains(password), "{path}: {text}");
    }
    let shown = service.get("/v1/jobs/right").ok();
    assert!(shown["sql"].as_str().unwrap().contains("properties.sasl.password = '***"), "{shown:#}");
    let refused = service.create("wrong", &job(&broker.password(), "shown", WRONG));
    assert!(!refused.text().contains(WRONG), "{}", refused.text());
    let document = refused.problem(422, "invalid-job");
    assert_eq!(document["diagnostics"][0]["code"], "authentication-failed", "{document:#}");
}

#[cfg(not(feature = "tls"))]
#[test]
fn a_binary_without_tls_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let text = job("127.0.0.1:1", "t", "${env:HOME}").replace("sasl_plaintext", "sasl_ssl");
    std::fs::write(folder.path().join("job.sql"), text).unwrap();
    let output = command(folder.path(), &["check", "job.sql"]).output().unwrap();
    let text = said(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("security.protocol = 'sasl_ssl' needs TLS, which this binary was built without"), "{text}");
    assert!(text.contains("--features tls"), "{text}");
}

#[cfg(feature = "tls")]
#[test]
fn from_tls_to_tls() {
    let broker = SecureBroker::shared();
    let (tools, password) = (broker.tools(), broker.user().1);
    let authority = broker.certificates().authority.display().to_string();
    let folder = tempfile::tempdir().unwrap();
    tools.create_topic("sealed", 2);
    tools.create_topic("sealed-out", 1);
    let port = broker.both();
    let properties = [
        "security.protocol=sasl_ssl".to_owned(),
        "sasl.mechanism=SCRAM-SHA-256".to_owned(),
        "sasl.username=alice".to_owned(),
        "sasl.password=${env:KAFKA_PASSWORD}".to_owned(),
        format!("ssl.ca.location={authority}"),
    ];
    let kafka = |arguments: &[&str]| {
        let mut command = command(folder.path(), &["kafka"]);
        command.args(arguments).args(["--brokers", &port]).env("KAFKA_PASSWORD", password);
        for property in &properties {
            command.args(["--property", property]);
        }
        command
    };
    std::fs::write(
        folder.path().join("visits.jsonl"),
        "{\"page\":\"a\",\"n\":1}\n{\"page\":\"b\",\"n\":2}\n{\"page\":\"a\",\"n\":3}\n",
    )
    .unwrap();
    let written = kafka(&["write", "sealed"]).stdin(std::fs::File::open(folder.path().join("visits.jsonl")).unwrap()).output();
    let written = written.unwrap();
    assert!(written.status.success(), "{}", said(&written));
    let text = job(&port, "sealed", "${env:KAFKA_PASSWORD}").replace("sasl_plaintext", "sasl_ssl");
    let authority = format!("'SCRAM-SHA-256', properties.ssl.ca.location = '{authority}'");
    std::fs::write(folder.path().join("job.sql"), text.replace("'PLAIN'", &authority)).unwrap();
    let mut running = highwater(folder.path(), &["job.sql", "--checkpoints", "state"]);
    running.env("KAFKA_PASSWORD", password);
    finish(running);
    let read = kafka(&["read", "sealed-out", "--until-end"]).output().unwrap();
    let text = said(&read);
    assert!(read.status.success() && !text.contains(password), "{text}");
    let text = String::from_utf8_lossy(&read.stdout).into_owned();
    let has = |page: &str, total: i64| text.lines().any(|line| line.contains(&format!("\"page\":\"{page}\",\"total\":{total}")));
    assert!(has("a", 4) && has("b", 2), "{text}");
    // A broker that cannot show that it is the one that is meant is not talked to.
    let stranger = broker.certificates().stranger.display().to_string();
    let mut wrong = command(folder.path(), &["kafka", "read", "sealed-out", "--until-end", "--brokers", &port]);
    wrong.args(["--property", "security.protocol=ssl", "--property", &format!("ssl.ca.location={stranger}")]);
    let refused = wrong.output().unwrap();
    let text = said(&refused);
    assert!(!refused.status.success() && text.contains("certificate verify failed"), "{text}");
}
