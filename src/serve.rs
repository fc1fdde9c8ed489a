//! HTTP: the only module that sees `warp`.
//!
//! A request passes [`connection`] (limits, deadlines, who may ask) and finds its route: [`jobs`], [`views`],
//! [`changes`], [`sources`], [`script`], [`health`]. Routes are small: they read the request, call the runtime, and answer; what goes
//! wrong is a [`problem`] document. Reads take rows that workers have published and never wait for a worker; subscribers of
//! a view share one [`hub`] that encodes each epoch once.

mod body;
mod changes;
mod connection;
mod console;
mod event;
mod filter;
mod guard;
mod health;
mod hub;
mod jobs;
mod lookup;
mod media;
mod patient;
mod problem;
mod query;
mod respond;
mod ring;
mod savepoints;
mod script;
mod sources;
mod status;
mod token;
mod views;
mod watch;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::{Semaphore, watch as channel};
use tokio::task::JoinHandle;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use crate::Highwater;
use crate::config::{Limits, ServeConfig};
use crate::telemetry::HttpCounters;

/// Threads that read, encode and decode. Waiting takes none, so these are as many as may compute at a time; what they
/// take, the workers lack.
const COMPUTING: usize = 16;

/// The server could not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address is taken or not ours.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// The system gave no threads.
    #[error("cannot start the server's threads: {0}")]
    Threads(std::io::Error),
}

/// What the routes share.
pub(crate) struct Context {
    pub(crate) highwater: Arc<Highwater>,
    pub(crate) limits: Limits,
    pub(crate) watches: watch::Watches,
    pub(crate) hubs: hub::Hubs,
    /// Room for request bodies, in KiB.
    pub(crate) bodies: Arc<Semaphore>,
    /// Room for scripts that run.
    pub(crate) scripts: Arc<Semaphore>,
    pub(crate) http: HttpCounters,
}

/// HTTP on an address, for as long as this lives. The jobs go on without it.
pub struct Server {
    address: SocketAddr,
    stop: channel::Sender<bool>,
    running: Mutex<Option<(tokio::runtime::Runtime, JoinHandle<()>)>>,
}

impl Server {
    /// Listens, and answers on two threads beside the workers.
    pub fn start(highwater: Arc<Highwater>, config: ServeConfig) -> Result<Server, ServeError> {
        let threads = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(COMPUTING)
            .thread_name("http")
            .enable_all()
            .build()
            .map_err(ServeError::Threads)?;
        let failed = |source| ServeError::Listen { address: config.address, source };
        let listener = threads.block_on(async { connection::listen(&config) }).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let guard = guard::Guard::new(address, &config.allowed_hosts);
        let limits = config.limits;
        let context = Arc::new(Context {
            highwater,
            watches: watch::Watches::default(),
            hubs: hub::Hubs::default(),
            bodies: Arc::new(Semaphore::new((limits.bodies_bytes / 1024).min(Semaphore::MAX_PERMITS))),
            scripts: Arc::new(Semaphore::new(limits.queries)),
            http: HttpCounters::default(),
            limits,
        });
        let (stop, stopped) = channel::channel(false);
        let routes = routes(&context);
        let accepting = threads.spawn(connection::accept(listener, context, routes, guard, stopped));
        tracing::info!(%address, "listening");
        Ok(Server { address, stop, running: Mutex::new(Some((threads, accepting))) })
    }

    /// Where it listens, with the port that the system chose.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its root.
    pub fn url(&self) -> String {
        // An address that means every interface is reached from here by the loopback one.
        let mut address = self.address;
        if address.ip().is_unspecified() {
            address.set_ip(match address {
                SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
            });
        }
        format!("http://{address}")
    }

    /// Where a view is read.
    pub fn view_url(&self, view: &str) -> String {
        format!("{}/v1/views/{view}", self.url())
    }

    /// Stops listening, lets running answers end for a moment, and closes every connection. Blocks for that moment.
    pub fn stop(&self) {
        let running = self.running.lock().expect("the threads are taken without panicking").take();
        if let Some((threads, accepting)) = running {
            let _ = self.stop.send(true);
            let _ = threads.block_on(async { tokio::time::timeout(connection::FAREWELL * 2, accepting).await });
            threads.shutdown_timeout(Duration::from_secs(2));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Every route. A request that none takes is answered by [`respond::unmatched`].
fn routes(context: &Arc<Context>) -> BoxedFilter<(Response,)> {
    let groups = [
        views::routes(context),
        sources::routes(context),
        changes::routes(context),
        jobs::routes(context),
        savepoints::routes(context),
        script::routes(context),
        health::routes(context),
        console::routes(context),
    ];
    let all = groups.into_iter().reduce(|all, group| all.or(group).unify().boxed()).expect("there are routes");
    all.recover(respond::unmatched).unify().boxed()
}

/// The methods of a path, for `Allow`.
pub(crate) fn allowed(path: &str) -> &'static str {
    let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    match segments.as_slice() {
        ["v1", "jobs"] => "GET, HEAD, POST",
        ["v1", "jobs", _] => "GET, HEAD, DELETE",
        ["v1", "jobs", _, "savepoints", _] => "PUT, DELETE",
        ["v1", "sources", _] | ["v1", "jobs", _, "sources", _] | ["v1", "query"] => "POST",
        _ => "GET, HEAD",
    }
}
