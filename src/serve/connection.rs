//! Connections: how many, how patient, and what surrounds every request on them.
//!
//! `warp` turns routes into a service; hyper serves it here rather than inside `warp`, because only so can a connection be
//! refused, given deadlines, or cut while its client does not read.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Notify, Semaphore, watch};
use warp::filters::BoxedFilter;
use warp::http::header::{ALLOW, HeaderValue};
use warp::http::{Method, Request, StatusCode};
use warp::hyper::body::Incoming;
use warp::hyper::server::conn::http1;
use warp::hyper::service::{Service, service_fn};
use warp::reply::Response;

use super::Context;
use super::guard::Guard;
use super::patient::Patient;
use super::problem::{Code, Problem};
use super::respond::{RouteName, answer};
use crate::config::ServeConfig;

/// Bytes of a request's head, and of an answer that hyper holds for a client.
const BUFFER_BYTES: usize = 64 * 1024;

/// Connections that are being told that there are too many.
const REFUSALS: usize = 64;

/// How long a connection may still answer after the server was asked to stop.
pub(crate) const FAREWELL: Duration = Duration::from_millis(500);

/// More connections than a machine has ports; semaphores have a limit of their own.
const PLACES_MAX: usize = 1 << 20;

/// The means to cut a connection; an extension of its requests.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cut(Arc<Notify>);

impl Cut {
    /// Closes the connection, whatever it is doing.
    pub(crate) fn now(&self) {
        self.0.notify_one();
    }
}

/// Binds the address. What the kernel buffers per client is set here, because connections inherit it.
pub(crate) fn listen(config: &ServeConfig) -> std::io::Result<TcpListener> {
    let socket = match config.address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // Elsewhere the option lets a second process take over a port.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.set_send_buffer_size(config.limits.send_buffer_bytes)?;
    socket.bind(config.address)?;
    socket.listen(1_024)
}

/// Accepts connections until told to stop, and then waits for those that are open to end.
pub(crate) async fn accept(
    listener: TcpListener,
    context: Arc<Context>,
    routes: BoxedFilter<(Response,)>,
    guard: Guard,
    mut stopped: watch::Receiver<bool>,
) {
    let places = context.limits.connections.min(PLACES_MAX);
    let room = Arc::new(Semaphore::new(places));
    let refusals = Arc::new(Semaphore::new(REFUSALS));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop(&mut stopped) => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // A client that went away, or no file descriptor left: either passes.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        match Arc::clone(&room).try_acquire_owned() {
            Ok(place) => {
                let connection = serve(stream, Arc::clone(&context), routes.clone(), guard.clone(), stopped.clone());
                tokio::spawn(async move {
                    connection.await;
                    drop(place);
                });
            }
            Err(_) => {
                context.http.refused();
                if let Ok(place) = Arc::clone(&refusals).try_acquire_owned() {
                    tokio::spawn(async move {
                        let _ = tokio::time::timeout(Duration::from_secs(1), refuse(stream)).await;
                        drop(place);
                    });
                }
            }
        }
    }
    drop(listener);
    let _ = room.acquire_many(places as u32).await;
}

/// Waits until the server is to stop, or is gone.
async fn stop(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// Says that there are too many connections, and takes what the client has sent so that it hears it.
async fn refuse(mut stream: TcpStream) -> std::io::Result<()> {
    let problem = Problem::new(Code::TooManyConnections, "no connection is free");
    stream.write_all(&problem.into_bytes()).await?;
    stream.shutdown().await?;
    let mut sink = [0; 1_024];
    while stream.read(&mut sink).await? > 0 {}
    Ok(())
}

async fn serve(
    stream: TcpStream,
    context: Arc<Context>,
    routes: BoxedFilter<(Response,)>,
    guard: Guard,
    mut stopped: watch::Receiver<bool>,
) {
    let _counted = context.http.connection();
    // Small answers should not wait for the client's acknowledgement of the one before.
    let _ = stream.set_nodelay(true);
    let limits = &context.limits;
    let cut = Cut::default();
    let io = TokioIo::new(Patient::new(stream, limits.stall_time));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.header_time).max_buf_size(BUFFER_BYTES);

    let service = TowerToHyperService::new(warp::service(routes));
    let (requests, cutter) = (Arc::clone(&context), cut.clone());
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(cutter.clone());
        let admitted = guard.check(request.method(), request.headers());
        let (service, context) = (service.clone(), Arc::clone(&requests));
        async move { Ok::<_, std::convert::Infallible>(respond(&context, service, admitted, request).await) }
    });
    let mut connection = std::pin::pin!(http.serve_connection(io, service));
    tokio::select! {
        ended = connection.as_mut() => if let Err(error) = ended {
            tracing::debug!(%error, "a connection ended early");
        },
        () = cut.0.notified() => {}
        () = stop(&mut stopped) => {
            connection.as_mut().graceful_shutdown();
            let _ = tokio::time::timeout(FAREWELL, connection).await;
        }
    }
}

/// Answers one request: refuses, routes, catches panics, counts.
async fn respond<S>(context: &Context, service: S, admitted: Result<(), Problem>, mut request: Request<Incoming>) -> Response
where
    S: Service<Request<Incoming>, Response = Response, Error = std::convert::Infallible, Future: Send>,
{
    let path = request.uri().path().to_string();
    // hyper leaves the body away when it answers HEAD.
    if request.method() == Method::HEAD {
        *request.method_mut() = Method::GET;
    }
    let response = match admitted {
        Err(problem) => answer("refused", Err(problem)),
        Ok(()) => match AssertUnwindSafe(service.call(request)).catch_unwind().await {
            Ok(Ok(response)) => response,
            Err(_) => {
                tracing::error!(path, "answering a request panicked");
                answer("panicked", Err(Problem::new(Code::Internal, "answering the request failed")))
            }
        },
    };
    let mut response = response;
    if response.status() == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(super::allowed(&path)));
    }
    let route = response.extensions().get::<RouteName>().map_or("unmatched", |route| route.0);
    context.http.answered(route, response.status().as_u16());
    response
}
