//! Kafka's own command-line tools: topics, and readers and writers that are not ours.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::jars;

/// The tools of a broker at an address.
#[derive(Debug, Clone)]
pub struct Tools {
    bootstrap: String,
}

impl Tools {
    pub(crate) fn new(bootstrap: String) -> Self {
        Tools { bootstrap }
    }

    /// Makes a topic.
    pub fn create_topic(&self, topic: &str, partitions: u32) {
        let partitions = partitions.to_string();
        self.run(TOPICS, &["--create", "--topic", topic, "--partitions", &partitions], None);
    }

    /// Gives a topic more partitions.
    pub fn set_partitions(&self, topic: &str, partitions: u32) {
        let partitions = partitions.to_string();
        self.run(TOPICS, &["--alter", "--topic", topic, "--partitions", &partitions], None);
    }

    /// Deletes a topic.
    pub fn delete_topic(&self, topic: &str) {
        self.run(TOPICS, &["--delete", "--topic", topic], None);
    }

    /// Writes messages without keys.
    pub fn write(&self, topic: &str, lines: &str) {
        self.run(PRODUCER, &["--topic", topic], Some(lines));
    }

    /// The values of all messages that were committed, in the order of each partition.
    pub fn read_committed(&self, topic: &str) -> Vec<String> {
        let arguments = ["--topic", topic, "--from-beginning", "--timeout-ms", "10000", "--isolation-level", "read_committed"];
        self.run(CONSUMER, &arguments, None).lines().map(str::to_owned).collect()
    }

    /// As [`Tools::read_committed`], each message with its headers before it: `name:value,name:value`.
    pub fn read_with_headers(&self, topic: &str) -> Vec<(String, String)> {
        let arguments = ["--topic", topic, "--from-beginning", "--timeout-ms", "10000", "--property", "print.headers=true"];
        let lines = self.run(CONSUMER, &arguments, None);
        let parts = |line: &str| line.split_once('\t').map(|(headers, value)| (headers.to_owned(), value.to_owned()));
        lines.lines().filter_map(parts).collect()
    }

    fn run(&self, main: &str, arguments: &[&str], input: Option<&str>) -> String {
        let mut command = Command::new("java");
        command
            .args(["-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"])
            .args(["-Dorg.slf4j.simpleLogger.defaultLogLevel=error", "-cp", &jars::class_path(), main])
            .args(["--bootstrap-server", &self.bootstrap])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("java runs: the broker is one");
        let mut pipe = child.stdin.take().expect("it was asked for");
        let input = input.unwrap_or_default().to_owned();
        let writing = std::thread::spawn(move || pipe.write_all(input.as_bytes()));
        let output = child.wait_with_output().expect("a child can be waited for");
        writing.join().expect("writing does not panic").expect("the tool reads what it is given");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{main} {arguments:?}:\n{}{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }
}

const TOPICS: &str = "org.apache.kafka.tools.TopicCommand";
const PRODUCER: &str = "org.apache.kafka.tools.ConsoleProducer";
const CONSUMER: &str = "org.apache.kafka.tools.consumer.ConsoleConsumer";
