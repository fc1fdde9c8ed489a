//! A cluster that is none: librdkafka's brokers for tests, in this process and in memory, without Java.
//!
//! They take and give messages and know consumer groups: enough to try a job. They make no topics when asked to, tell nothing of
//! their topics' settings, and say yes to transactions without being able to take back what was written in one, so that nothing
//! is delivered exactly once to them. A partition keeps its newest 100,000 messages or 5 MiB.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};

use rdkafka::mocking;
use rdkafka::producer::DefaultProducerContext;

/// One broker for trying things out, until it is dropped.
pub struct MockCluster {
    address: SocketAddr,
    _cluster: mocking::MockCluster<'static, DefaultProducerContext>,
}

impl MockCluster {
    /// Starts it with these topics, each with so many partitions, at this address; port 0 takes a free one.
    ///
    /// The broker itself takes whatever port is free, and tells clients so; at `address` it is only found.
    pub fn start(address: SocketAddr, topics: &[(String, u16)]) -> Result<MockCluster, String> {
        let listener = TcpListener::bind(address).map_err(|error| format!("listening at {address}: {error}"))?;
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        let cluster = mocking::MockCluster::new(1).map_err(|error| format!("starting a broker: {error}"))?;
        for (topic, partitions) in topics {
            let made = cluster.create_topic(topic, i32::from(*partitions), 1);
            made.map_err(|error| format!("making topic '{topic}' with {partitions} partitions: {error}"))?;
        }
        let broker = cluster.bootstrap_servers();
        let forward = move || {
            for client in listener.incoming().flatten() {
                // Who cannot be served sees that the connection ends, and tries again.
                let _ = TcpStream::connect(&broker).and_then(|broker| join(client, broker));
            }
        };
        std::thread::Builder::new().name("kafka mock".into()).spawn(forward).map_err(|error| error.to_string())?;
        Ok(MockCluster { address, _cluster: cluster })
    }

    /// `host:port`.
    pub fn brokers(&self) -> String {
        self.address.to_string()
    }
}

/// Hands on what comes from either side until one ends.
fn join(client: TcpStream, broker: TcpStream) -> io::Result<()> {
    let pairs = [(client.try_clone()?, broker.try_clone()?), (broker, client)];
    for (mut from, mut to) in pairs {
        let copy = move || {
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Both);
            let _ = from.shutdown(Shutdown::Both);
        };
        std::thread::Builder::new().name("kafka mock".into()).spawn(copy)?;
    }
    Ok(())
}
