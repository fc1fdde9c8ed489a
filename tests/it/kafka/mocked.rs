//! The README's way from Kafka to Kafka without a broker, as it stands there.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::PATIENCE;

/// A process that is killed at the end of the test, however it ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn highwater(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
    command.current_dir(folder).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs to the end; what it printed.
fn finish(command: &mut Command, input: &str) -> String {
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The first block of this language in a section of the README.
fn block(section: &str, language: &str) -> String {
    let readme = include_str!("../../../README.md");
    let (_, section) = readme.split_once(section).unwrap();
    let (_, block) = section.split_once(&format!("```{language}\n")).unwrap();
    block.split_once("```").unwrap().0.to_owned()
}

/// A broker that is none, and where it is.
fn mock(folder: &Path, topics: &[&str]) -> (Running, String) {
    let named: Vec<&str> = topics.iter().flat_map(|topic| ["--topic", topic]).collect();
    let mut child = highwater(folder, &[&["kafka", "mock", "--listen", "127.0.0.1:0"], &named[..]].concat()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
    let (_, rest) = line.split_once(" at ").unwrap_or_else(|| panic!("{line}"));
    (Running(child), rest.split_once(',').unwrap().0.to_owned())
}

#[test]
fn the_readme_without_a_broker() {
    let folder = tempfile::tempdir().unwrap();
    assert!(block("### Without a broker", "sh").contains("kafka mock --topic payment:4 --topic spent:4"));
    let (mock, brokers) = mock(folder.path(), &["payment:4", "spent:4"]);
    let sql = block("## From Kafka to Kafka in five minutes", "sql");
    assert_eq!(sql.matches("127.0.0.1:9092").count(), 2);
    let sql = sql.replace("exactly_once", "at_least_once").replace("127.0.0.1:9092", &brokers);
    std::fs::write(folder.path().join("try.sql"), sql).unwrap();
    let run = ["run", "try.sql", "--checkpoints", "state/", "--no-http", "--quiet"];
    let at = ["--brokers", &brokers];
    let write = |payment: &str| finish(highwater(folder.path(), &["kafka", "write", "payment"]).args(at), payment);
    let read = || finish(highwater(folder.path(), &["kafka", "read", "spent", "--until-end"]).args(at), "");
    let wait = |what: &str| {
        let begun = Instant::now();
        while !read().contains(what) {
            assert!(begun.elapsed() < PATIENCE, "no {what} in {}", read());
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    let job = Running(highwater(folder.path(), &run).spawn().unwrap());
    write("{\"card\": \"4711\", \"amount\": 12.50, \"at\": \"2024-05-01 12:00:10\"}\n");
    wait(r#""amount":12.50"#);
    // Killed, it goes on with what it had.
    drop(job);
    let job = Running(highwater(folder.path(), &run).spawn().unwrap());
    write("{\"card\": \"4711\", \"amount\": 1.25, \"at\": \"2024-05-01 12:00:20\"}\n");
    wait(r#""amount":13.75,"payments":2"#);
    let printed = read();
    let (key, _) = printed.lines().next().unwrap().split_once('\t').unwrap();
    assert!(key.contains("4711"), "{printed}");
    drop((job, mock));
}

#[test]
fn lines_with_keys_are_written_and_read() {
    let folder = tempfile::tempdir().unwrap();
    let (_mock, brokers) = mock(folder.path(), &["t"]);
    let write = ["kafka", "write", "t", "--brokers", &brokers, "--key-separator", "="];
    finish(&mut highwater(folder.path(), &write), "a=1\nb=2=3\nplain\n");
    let read = ["kafka", "read", "t", "--until-end", "--brokers", &brokers];
    assert_eq!(finish(&mut highwater(folder.path(), &read), ""), "a\t1\nb\t2=3\nplain\n");
    let wrong = highwater(folder.path(), &["kafka", "read", "none", "--brokers", &brokers]).output().unwrap();
    let said = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert_eq!(wrong.status.code(), Some(3), "{said}");
    assert!(said.contains("there is no topic 'none'"), "{said}");
    let wrong = highwater(folder.path(), &["kafka", "read", "t", "--property", "sasl.password=x-y-z", "--property", "no.such=1"]);
    let wrong = { wrong }.output().unwrap();
    let said = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert_eq!(wrong.status.code(), Some(2), "{said}");
    assert!(said.contains("no.such") && !said.contains("x-y-z"), "{said}");
}
