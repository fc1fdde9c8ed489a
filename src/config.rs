//! What an operator of the service may decide, with its unit and its default.

use std::net::SocketAddr;
use std::time::Duration;

/// Where the service listens, and what it grants its clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServeConfig {
    /// The address; port 0 lets the system choose one.
    pub address: SocketAddr,
    /// Names besides the address itself that a `Host` header may carry when only this machine is listened to: the
    /// guard against web pages that point their own name at 127.0.0.1.
    pub allowed_hosts: Vec<String>,
    /// What one client, or all together, may take.
    pub limits: Limits,
}

impl Default for ServeConfig {
    fn default() -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], 8090));
        ServeConfig { address, allowed_hosts: Vec::new(), limits: Limits::default() }
    }
}

/// What one client, or all together, may take. Reaching a limit is an answer with a problem document, never a stall.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time; the next one is refused with 503.
    pub connections: usize,
    /// Subscribers of `changes` over all views.
    pub subscribers: usize,
    /// Subscribers of one view.
    pub subscribers_per_view: usize,
    /// Bytes of encoded changes kept per view for its subscribers to fetch; who falls further behind is disconnected.
    pub subscriber_bytes: usize,
    /// Bytes of one request body. How long a row may be is its source's option `row_bytes_max`.
    pub body_bytes: usize,
    /// Bytes of all request bodies that are being received or decoded.
    pub bodies_bytes: usize,
    /// How long a request's head may take to arrive.
    pub header_time: Duration,
    /// How long a client may read or write nothing while it is its turn.
    pub stall_time: Duration,
    /// The longest wait a request may ask for.
    pub wait_time: Duration,
    /// Scripts of `POST /v1/query` that run at a time; each takes a share of the workers.
    pub queries: usize,
    /// The most rows of a query's answer.
    pub query_rows: u64,
    /// How often an idle subscription says that it lives.
    pub heartbeat: Duration,
    /// How long a lagging subscriber has to take its farewell before its connection is cut.
    pub lag_grace: Duration,
    /// Bytes the kernel buffers per connection towards the client.
    pub send_buffer_bytes: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: 4_096,
            subscribers: 2_048,
            subscribers_per_view: 1_024,
            subscriber_bytes: 4 << 20,
            body_bytes: 16 << 20,
            bodies_bytes: 256 << 20,
            header_time: Duration::from_secs(20),
            stall_time: Duration::from_secs(30),
            wait_time: Duration::from_secs(60),
            queries: 4,
            query_rows: 1_000_000,
            heartbeat: Duration::from_secs(5),
            lag_grace: Duration::from_secs(2),
            send_buffer_bytes: 256 << 10,
        }
    }
}
