//! `highwater kafka`: a broker to try things out with, and messages by hand.

use std::io::Write;
use std::net::SocketAddr;

use clap::{Args, Subcommand};
use highwater_kafka::{Lines, MockCluster};

use super::{Failure, say, signals};

const EXAMPLES: &str = r#"Examples:
  highwater kafka mock --topic payment:4 --topic spent:4
  echo '{"card": "4711", "amount": 12.50}' | highwater kafka write payment
  highwater kafka read spent --until-end"#;

/// Arguments of `highwater kafka`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct KafkaArgs {
    #[command(subcommand)]
    command: KafkaCommand,
}

#[derive(Debug, Subcommand)]
enum KafkaCommand {
    /// Runs a broker in this process and in memory, to try a job without Java; not for data that matters.
    ///
    /// It is librdkafka's mock of one. It takes no exactly-once sinks (say delivery = 'at_least_once'), makes no topics when asked by
    /// clients, keeps the newest 100,000 messages or 5 MiB of a partition, and forgets everything when it ends.
    Mock(MockArgs),
    /// Writes lines of standard input to a topic, a message each.
    Write(WriteArgs),
    /// Prints what is committed in a topic, a line each: key, tab, value; then what comes.
    Read(ReadArgs),
}

#[derive(Debug, Args)]
struct MockArgs {
    /// Address to be found at; port 0 takes a free one and prints it.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9092")]
    listen: SocketAddr,
    /// A topic to make, with so many partitions; may be repeated.
    #[arg(long = "topic", value_name = "NAME[:PARTITIONS]", value_parser = topic, required = true)]
    topics: Vec<(String, u16)>,
}

#[derive(Debug, Args)]
struct BrokersArgs {
    /// host:port of some brokers, separated by commas.
    #[arg(long, value_name = "ADDRS", default_value = "127.0.0.1:9092")]
    brokers: String,
    /// A setting of librdkafka, such as security.protocol=sasl_ssl; its value may be ${env:NAME} or ${file:PATH}. May be repeated.
    #[arg(long = "property", value_name = "NAME=VALUE", value_parser = property)]
    properties: Vec<(String, String)>,
}

#[derive(Debug, Args)]
struct WriteArgs {
    /// The topic.
    topic: String,
    #[command(flatten)]
    brokers: BrokersArgs,
    /// What stands between a key and its value; without it messages have no keys.
    #[arg(long, value_name = "TEXT")]
    key_separator: Option<String>,
}

#[derive(Debug, Args)]
struct ReadArgs {
    /// The topic.
    topic: String,
    #[command(flatten)]
    brokers: BrokersArgs,
    /// Return at the end of the topic.
    #[arg(long)]
    until_end: bool,
}

fn topic(text: &str) -> Result<(String, u16), String> {
    let (name, partitions) = text.split_once(':').unwrap_or((text, "1"));
    let partitions = partitions.parse().ok().filter(|partitions| (1..=1_000).contains(partitions));
    match partitions {
        Some(partitions) if !name.is_empty() => Ok((name.to_owned(), partitions)),
        _ => Err("expected NAME or NAME:PARTITIONS, at most 1000 of them".into()),
    }
}

fn property(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
    pair.map(|(name, value)| (name.to_owned(), value.to_owned())).ok_or_else(|| "expected NAME=VALUE".into())
}

/// Does it.
pub(super) fn kafka(args: &KafkaArgs) -> Result<(), Failure> {
    match &args.command {
        KafkaCommand::Mock(args) => mock(args),
        KafkaCommand::Write(args) => {
            super::logging::start("error");
            let lines = std::io::stdin().lock();
            let waits = |messages| say(format_args!("waiting for the brokers to take {messages} messages"));
            let written = connect(&args.brokers)?.write(&args.topic, lines, args.key_separator.as_deref(), waits);
            let count = written.map_err(Failure::Unreachable)?;
            say(format_args!("{count} messages written to {}", args.topic));
            Ok(())
        }
        KafkaCommand::Read(args) => {
            super::logging::start("error");
            let mut out = std::io::stdout().lock();
            let take = |line: highwater_kafka::Line| {
                let value = line.value.as_deref().unwrap_or("null");
                let printed = match line.key {
                    Some(key) => writeln!(out, "{key}\t{value}"),
                    None => writeln!(out, "{value}"),
                };
                // Whoever reads has seen enough.
                printed.and_then(|()| out.flush()).is_ok()
            };
            connect(&args.brokers)?.read(&args.topic, args.until_end, take).map_err(Failure::Unreachable)
        }
    }
}

fn connect(args: &BrokersArgs) -> Result<Lines, Failure> {
    Lines::new(&args.brokers, &args.properties).map_err(Failure::Usage)
}

fn mock(args: &MockArgs) -> Result<(), Failure> {
    super::logging::start("error");
    let cluster = MockCluster::start(args.listen, &args.topics).map_err(Failure::Usage)?;
    let topics: Vec<&str> = args.topics.iter().map(|(name, _)| name.as_str()).collect();
    say(format_args!(
        "a mock of a Kafka broker at {}, in memory, with the topics {}; Ctrl-C ends it",
        cluster.brokers(),
        topics.join(", ")
    ));
    let (wake, woken) = std::sync::mpsc::channel();
    signals::watch(wake).map_err(|error| Failure::Job(format!("cannot watch for signals: {error}")))?;
    // Only an interrupt ends the wait.
    let _ = woken.recv();
    Ok(())
}
