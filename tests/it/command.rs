//! The `highwater` command as a process: what it prints, and its exit codes.

use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};

use crate::service::Service;

fn highwater(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_highwater")).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[track_caller]
fn check(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{}{}", text(&output.stdout), text(&output.stderr));
}

/// A job over a file of two rows, in a folder of its own.
fn job() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("input.jsonl");
    std::fs::write(&input, "{\"id\":2,\"name\":\"b\"}\n{\"id\":1,\"name\":\"a\"}\n").unwrap();
    let sql = format!(
        "CREATE SOURCE input (id BIGINT, name VARCHAR) WITH (connector = 'file', path = '{}', format = 'json');
         CREATE MATERIALIZED VIEW copy AS SELECT id, name FROM input;",
        input.display()
    );
    let path = folder.path().join("copy.sql");
    std::fs::write(&path, sql).unwrap();
    let path = path.display().to_string();
    (folder, path)
}

#[test]
fn a_job_runs_to_its_end_and_dumps_its_view() {
    let (folder, job) = job();
    let dump = folder.path().join("copy.jsonl");
    let output = highwater(&["run", &job, "--until-end", "--no-http", "--dump", &format!("copy={}", dump.display())]);
    check(&output, 0);
    assert_eq!(std::fs::read_to_string(&dump).unwrap(), "{\"id\":1,\"name\":\"a\"}\n{\"id\":2,\"name\":\"b\"}\n");
    assert!(text(&output.stderr).contains("finished: 2 rows, 0 late, 0 rejected"), "{}", text(&output.stderr));
}

#[test]
fn a_dump_may_go_to_standard_output() {
    let (_folder, job) = job();
    let output = highwater(&["run", &job, "--until-end", "--no-http", "--quiet", "--dump", "copy=-"]);
    check(&output, 0);
    assert_eq!(text(&output.stdout).lines().count(), 2);
}

#[test]
fn a_wrong_job_is_rendered_and_exits_with_2() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wrong.sql");
    std::fs::write(
        &path,
        "CREATE SOURCE s (a BIGINT)\nWITH (connector = 'http', colour = 'red');\nCREATE MATERIALIZED VIEW v AS SELECT a FROM s;",
    )
    .unwrap();
    let path = path.display().to_string();
    for command in ["check", "run"] {
        let output = highwater(&[command, &path]);
        check(&output, 2);
        let error = text(&output.stderr);
        assert!(error.contains("wrong.sql:2:27") && error.contains("colour"), "{error}");
    }
    check(&highwater(&["run", "no-such-file.sql"]), 2);
    check(&highwater(&["run"]), 2);
    let (_folder, job) = job();
    check(&highwater(&["run", &job, "--no-http", "--until-end", "--dump", "nope=x"]), 2);
}

#[test]
fn a_right_job_is_checked_and_explained() {
    let (_folder, job) = job();
    let output = highwater(&["check", &job]);
    check(&output, 0);
    assert_eq!(text(&output.stderr), "ok: sources input; views copy; sinks none\n");
    let output = highwater(&["explain", &job]);
    check(&output, 0);
    assert!(text(&output.stdout).starts_with("view copy key="), "{}", text(&output.stdout));
}

#[test]
fn sinks_are_checked_before_anything_is_emptied() {
    let folder = tempfile::tempdir().unwrap();
    let [job, kept, missing] = ["job.sql", "kept.jsonl", "no/such/folder.jsonl"].map(|name| folder.path().join(name));
    let job_of = |options: &str| {
        let sql = format!(
            "CREATE SOURCE n (i BIGINT) WITH (connector = 'datagen', rows = '3');
             CREATE SINK first AS SELECT i FROM n WITH (connector = 'file', path = '{}');
             CREATE SINK second AS SELECT i FROM n WITH (connector = 'file', {options});",
            kept.display()
        );
        std::fs::write(&job, sql).unwrap();
        job.to_str().unwrap().to_string()
    };
    std::fs::write(&kept, "as it was").unwrap();
    for (options, said) in [
        (format!("path = '{}'", missing.display()), "create the directory first"),
        (format!("path = '{}'", folder.path().display()), "it is a directory"),
        ("path = 'x', appendix = 'true'".into(), "unknown option 'appendix'"),
    ] {
        let job = job_of(&options);
        for arguments in [vec!["check", &job], vec!["run", &job, "--no-http", "--until-end", "--quiet"]] {
            let output = highwater(&arguments);
            check(&output, 2);
            assert!(text(&output.stderr).contains(said), "{}", text(&output.stderr));
        }
        assert_eq!(std::fs::read_to_string(&kept).unwrap(), "as it was", "{options}");
    }
    let other = folder.path().join("other.jsonl");
    check(&highwater(&["check", &job_of(&format!("path = '{}'", other.display()))]), 0);
    assert!(!other.exists());
}

#[test]
fn a_view_is_queried() {
    let service = Service::with_events();
    let token = service.push("{\"id\":1,\"name\":\"a\",\"price\":1.5}\n{\"id\":20,\"name\":\"b\"}\n");
    let url = service.server.url();
    let output = highwater(&["query", "totals", "--url", &url, "--min-epoch", &token]);
    check(&output, 0);
    let table = text(&output.stdout);
    assert!(table.starts_with("name  events  ids\n") && table.contains("\nb          1   20\n"), "{table}");
    let output = highwater(&["query", "totals", "--url", &url, "--where", "name=a", "--format", "json"]);
    assert_eq!(text(&output.stdout), "{\"name\":\"a\",\"events\":1,\"ids\":1}\n");
    let output = highwater(&["query", "totals", "--url", &url, "--format", "csv", "--limit", "1"]);
    assert_eq!(text(&output.stdout).lines().count(), 2);
    check(&highwater(&["query", "totals", "--url", &url, "--where", "colour=red"]), 2);
    check(&highwater(&["query", "nope", "--url", &url]), 3);
    check(&highwater(&["query", "totals", "--url", "http://127.0.0.1:1"]), 3);
}

#[test]
fn a_view_is_followed_until_its_job_ends() {
    let service = Service::with_events();
    let first = service.push("{\"id\":1,\"name\":\"a\"}\n");
    service.rows("totals", "", &first);
    let mut child = Command::new(env!("CARGO_BIN_EXE_highwater"))
        .args(["tail", "totals", "--url", &service.server.url()])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.next().unwrap().ends_with("{\"name\":\"a\",\"events\":1,\"ids\":1}"));
    let token = service.push("{\"id\":2,\"name\":\"a\"}\n");
    let epoch = token.rsplit(':').next().unwrap();
    assert_eq!(lines.next().unwrap(), format!("- {epoch} {{\"name\":\"a\",\"events\":1,\"ids\":1}}"));
    assert_eq!(lines.next().unwrap(), format!("+ {epoch} {{\"name\":\"a\",\"events\":2,\"ids\":3}}"));
    service.delete("/v1/jobs/events");
    assert_eq!(lines.next(), None);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
#[cfg(unix)]
fn an_interrupt_drains_and_reports() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("made.sql");
    let sql = "CREATE SOURCE made (id BIGINT) WITH (connector = 'datagen', rate = '1000');
        CREATE MATERIALIZED VIEW seen AS SELECT count(*) AS n FROM made;";
    std::fs::write(&path, sql).unwrap();
    let dump = folder.path().join("seen.jsonl");
    let mut child = Command::new(env!("CARGO_BIN_EXE_highwater"))
        .args(["run", path.to_str().unwrap(), "--http", "127.0.0.1:0", "--dump", &format!("seen={}", dump.display())])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let line = lines.next().unwrap();
    let url = line.strip_prefix("job made on ").unwrap_or_else(|| panic!("{line}"));
    let agent: ureq::Agent = ureq::Agent::config_builder().build().into();
    loop {
        let answer = agent.get(format!("{url}/v1/views/seen")).call().unwrap().body_mut().read_to_string().unwrap();
        if answer.contains("\"n\":") {
            break;
        }
    }
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let rest: Vec<String> = lines.collect();
    assert!(rest.iter().any(|line| line.starts_with("stopped: ")), "{rest:?}");
    assert!(std::fs::read_to_string(&dump).unwrap().starts_with("{\"n\":"));
}
