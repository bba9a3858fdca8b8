//! Listens: bounds on connections that the router cannot set.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::source::subscriber;

/// Bounds of a listener.
#[derive(Debug, Clone)]
pub struct ServeLimits {
    /// Open connections.
    pub max_connections: usize,
    /// Open connections of one IPv4 address or IPv6 /64; proxies in `unlimited` are not counted.
    pub max_connections_per_address: usize,
    /// Addresses that may open as many as they like.
    pub unlimited: Vec<IpAddr>,
    /// How long the headers of a request may take, the wait for the next request on an open connection included.
    pub header_timeout: Duration,
    /// How long one connection may live.
    pub connection_lifetime: Duration,
    /// How long running requests may go on once the node stops.
    pub drain: Duration,
}

impl Default for ServeLimits {
    fn default() -> Self {
        Self {
            max_connections: 2048,
            max_connections_per_address: 256,
            unlimited: Vec::new(),
            header_timeout: Duration::from_secs(10),
            connection_lifetime: Duration::from_secs(300),
            drain: Duration::from_secs(5),
        }
    }
}

/// Counts the open connections of each address.
#[derive(Default)]
struct Addresses(Mutex<HashMap<IpAddr, usize>>);

struct Counted {
    addresses: Arc<Addresses>,
    addr: IpAddr,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut open = self.addresses.lock();
        if let Some(n) = open.get_mut(&self.addr) {
            *n = n.saturating_sub(1);
            if *n == 0 {
                open.remove(&self.addr);
            }
        }
    }
}

impl Addresses {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(self: &Arc<Self>, addr: IpAddr, max: usize) -> Option<Counted> {
        let addr = subscriber(addr);
        let mut open = self.lock();
        let n = open.entry(addr).or_default();
        if *n >= max {
            return None;
        }
        *n += 1;
        Some(Counted {
            addresses: Arc::clone(self),
            addr,
        })
    }
}

/// Serves `router` on `listener` until `stop`, then lets running requests end.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: ServeLimits,
    stop: CancellationToken,
) {
    let permits = Arc::new(Semaphore::new(limits.max_connections.max(1)));
    let addresses = Arc::new(Addresses::default());
    let connections = TaskTracker::new();
    loop {
        let accept = async {
            // The semaphore is never closed.
            let permit = Arc::clone(&permits).acquire_owned().await.ok();
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                pause_after(&error).await;
                continue;
            }
        };
        let addr = peer.ip().to_canonical();
        let counted = if limits.unlimited.contains(&addr) {
            None
        } else {
            match addresses.enter(addr, limits.max_connections_per_address) {
                Some(counted) => Some(counted),
                None => continue,
            }
        };
        let (router, limits, stop) = (router.clone(), limits.clone(), stop.clone());
        connections.spawn(async move {
            connection(stream, peer, router, &limits, &stop).await;
            drop((permit, counted));
        });
    }
    connections.close();
    if tokio::time::timeout(limits.drain, connections.wait())
        .await
        .is_err()
    {
        tracing::warn!(open = connections.len(), "connections are cut off");
    }
}

/// Out of file descriptors, say: come back shortly instead of spinning.
async fn pause_after(error: &io::Error) {
    tracing::warn!(%error, "a connection was not accepted");
    tokio::time::sleep(Duration::from_millis(100)).await;
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    limits: &ServeLimits,
    stop: &CancellationToken,
) {
    // Answers are small and whole; a delay of small segments only costs.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        router.clone().oneshot(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(64 << 10)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        result = connection.as_mut() => Some(result),
        () = stop.cancelled() => None,
        () = tokio::time::sleep(limits.connection_lifetime) => None,
    };
    let result = match ended {
        Some(result) => result,
        None => {
            connection.as_mut().graceful_shutdown();
            match tokio::time::timeout(limits.drain, connection).await {
                Ok(result) => result,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection ended early");
    }
}
