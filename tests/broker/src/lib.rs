//! A real Apache Kafka broker for tests: its jars come from Maven Central once, a KRaft node runs on free loopback ports. And a
//! [schema registry](SchemaRegistry) of our own, and an [S3 server](Bucket). [`SecureBroker`] asks who is there, and speaks TLS.
//!
//! ```no_run
//! let broker = highwater_broker::Broker::shared(); // one per test process
//! let servers = broker.bootstrap();                // 127.0.0.1:port
//! ```
//!
//! A test that stops brokers starts its own ([`Broker::start`]). Needs `java` (17 or newer) and, the first time, `mvn`.
//! What goes wrong here ends the test with what is missing and what to do.

mod bucket;
mod jars;
mod node;
mod registry;
mod secure;
mod tools;

use std::sync::OnceLock;

pub use self::bucket::Bucket;
pub use self::registry::SchemaRegistry;
pub use self::secure::{Certificates, SecureBroker};
pub use self::tools::Tools;

use self::node::{Node, Setup};

/// One broker, its own controller.
///
/// Stopped and removed when dropped, and when the process that started it ends, however it ends.
#[derive(Debug)]
pub struct Broker(Node);

impl Broker {
    /// Starts a broker and waits until it answers.
    pub fn start() -> Broker {
        Broker::start_with(&[])
    }

    /// Starts a broker with these lines added to its `server.properties`.
    pub fn start_with(properties: &[(&str, &str)]) -> Broker {
        let properties = properties.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Broker::set_up(&Setup { properties, ..Setup::default() })
    }

    fn set_up(setup: &Setup) -> Broker {
        let mut nodes = node::start(1, setup);
        Broker(nodes.pop().expect("one was asked for"))
    }

    /// The broker that all tests of this process share. It is never stopped: topics need names of their own.
    pub fn shared() -> &'static Broker {
        static SHARED: OnceLock<Broker> = OnceLock::new();
        SHARED.get_or_init(Broker::start)
    }

    /// `host:port`.
    pub fn bootstrap(&self) -> String {
        self.0.bootstrap()
    }

    /// Kafka's command-line tools, for this broker.
    pub fn tools(&self) -> Tools {
        Tools::new(self.bootstrap())
    }

    /// Kills it, as a power cut would; its data stays. Does nothing if it is stopped.
    pub fn stop(&mut self) {
        self.0.stop();
    }

    /// Starts it again on the same port with the same data, after stopping it if it runs.
    pub fn restart(&mut self) {
        self.0.stop();
        self.0.run();
        self.0.wait();
    }
}

/// Several brokers that know each other; topics may be replicated.
#[derive(Debug)]
pub struct Cluster(Vec<Node>);

impl Cluster {
    /// Starts `nodes` brokers, each also a controller, and waits until all answer.
    pub fn start(nodes: usize) -> Cluster {
        Cluster(node::start(nodes, &Setup::default()))
    }

    /// `host:port` of each, separated by commas.
    pub fn bootstrap(&self) -> String {
        self.0.iter().map(Node::bootstrap).collect::<Vec<_>>().join(",")
    }

    /// Kills the broker at this place (from 0; its id is one more); its data stays.
    pub fn stop(&mut self, node: usize) {
        self.0[node].stop();
    }

    /// Starts the broker at this place again, after stopping it if it runs.
    pub fn restart(&mut self, node: usize) {
        self.0[node].stop();
        self.0[node].run();
        self.0[node].wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    #[test]
    fn a_broker_answers_stops_and_comes_back_where_it_was() {
        let mut broker = Broker::start();
        let address = broker.bootstrap();
        assert!(node::answers(&address));
        broker.stop();
        assert!(TcpStream::connect(&address).is_err());
        broker.restart();
        assert_eq!(broker.bootstrap(), address);
        assert!(node::answers(&address));
        let folder = broker.0.folder().to_owned();
        drop(broker);
        assert!(TcpStream::connect(&address).is_err());
        assert!(!folder.exists());
    }
}
