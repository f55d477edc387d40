// SPDX-License-Identifier: Apache-2.0
//! Connections: TLS 1.3, HTTP/1.1 and HTTP/2, and an end to each that does nothing.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use log::{debug, warn};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tower_service::Service as _;

use crate::keyservice::config::Limits;
use crate::keyservice::http::operators::Operator;
use crate::keyservice::http::peers::{PeerConnections, PeerSlot};
use crate::keyservice::http::{ClientAddr, Proven};
use crate::keyservice::state::Service;

/// How long requests that are being answered may take when the service stops.
const DRAIN_MAX: Duration = Duration::from_secs(10);
/// How long to wait where the system has no room for another connection.
const NO_ROOM_PAUSE: Duration = Duration::from_millis(100);
/// Requests at once on one connection of HTTP/2. A node makes one after the other.
const STREAMS_MAX: u32 = 16;
/// What a connection of HTTP/2 may send before somebody reads it, in bytes: it is in memory, and in nobody's account.
const WINDOW_LEN: u32 = 64 << 10;
/// The longest head of a request, in bytes: a session is in it.
const HEAD_LEN_MAX: usize = 32 << 10;

/// The certificate in use; connections that come later use what is there then.
pub type Tls = Arc<RwLock<Arc<ServerConfig>>>;

/// A place to listen at.
#[derive(Debug)]
pub struct Listener {
    /// The socket.
    pub socket: TcpListener,
    /// Who the service is there; without it the place speaks plain HTTP.
    pub tls: Option<Tls>,
    /// What is there.
    pub router: Router,
    /// Whose connections are counted.
    pub service: Arc<Service>,
    /// How many, and how slow they may be.
    pub limits: Limits,
}

impl Listener {
    /// Serves until `stop` says true, then lets requests under way end.
    pub async fn serve(self, mut stop: watch::Receiver<bool>) {
        let graceful = GracefulShutdown::new();
        let places = usize::try_from(self.limits.connections.get()).unwrap_or(usize::MAX);
        let places = Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS)));
        let peers = Arc::new(PeerConnections::new(self.limits.peer_connections.get()));
        loop {
            let place = tokio::select! {
                place = Arc::clone(&places).acquire_owned() => place,
                _ = stop.wait_for(|stop| *stop) => break,
            };
            let Ok(place) = place else {
                break;
            };
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                _ = stop.wait_for(|stop| *stop) => break,
            };
            let (stream, from) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    no_room(&error).await;
                    continue;
                }
            };
            // Who opens too many does not get as far as a handshake.
            let counted = self.service.count_peer(from.ip()).is_ok();
            let Some(slot) = peers.admit(from.ip()).filter(|_| counted) else {
                self.service.metrics.refused_connections.inc();
                continue;
            };
            let connection = self.connection(from, graceful.watcher(), slot);
            let service = Arc::clone(&self.service);
            tokio::spawn(async move {
                service.metrics.connections.inc();
                connection.serve(stream).await;
                service.metrics.connections.dec();
                drop(place);
            });
        }
        if timeout(DRAIN_MAX, graceful.shutdown()).await.is_err() {
            warn!("connections were cut that did not end within {DRAIN_MAX:?}");
        }
    }

    fn connection(
        &self,
        from: SocketAddr,
        watcher: hyper_util::server::graceful::Watcher,
        slot: PeerSlot,
    ) -> Connection {
        let tls = self
            .tls
            .as_ref()
            .map(|tls| Arc::clone(&tls.read().unwrap_or_else(PoisonError::into_inner)));
        Connection {
            from: from.ip(),
            tls,
            router: self.router.clone(),
            patience: Duration::from_secs(self.limits.request_s.get().into()),
            watcher,
            slot: Arc::new(slot),
        }
    }
}

async fn no_room(error: &io::Error) {
    warn!("accepting a connection: {error}");
    tokio::time::sleep(NO_ROOM_PAUSE).await;
}

struct Connection {
    from: IpAddr,
    tls: Option<Arc<ServerConfig>>,
    router: Router,
    patience: Duration,
    watcher: hyper_util::server::graceful::Watcher,
    slot: Arc<PeerSlot>,
}

impl Connection {
    async fn serve(self, stream: TcpStream) {
        if let Err(error) = stream.set_nodelay(true) {
            debug!("connection of {}: {error}", self.from);
        }
        let Some(tls) = self.tls.clone() else {
            return self.speak(stream, false, None).await;
        };
        match timeout(self.patience, TlsAcceptor::from(tls).accept(stream)).await {
            Ok(Ok(stream)) => {
                let session = stream.get_ref().1;
                let is_h2 = session.alpn_protocol() == Some(b"h2");
                let operator = session.peer_certificates().and_then(Operator::of);
                self.speak(stream, is_h2, operator).await;
            }
            Ok(Err(error)) => debug!("handshake with {}: {error}", self.from),
            Err(_elapsed) => debug!("handshake with {}: too slow", self.from),
        }
    }

    async fn speak<S>(self, stream: S, is_h2: bool, operator: Option<Operator>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Self {
            from,
            router,
            patience,
            watcher,
            slot,
            ..
        } = self;
        let activity = Arc::new(Activity::default());
        let noted = Arc::clone(&activity);
        let answer = service_fn(move |request: hyper::Request<Incoming>| {
            let busy = noted.start();
            let slot = Arc::clone(&slot);
            let mut router = router.clone();
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ClientAddr(from));
            if let Some(operator) = &operator {
                request.extensions_mut().insert(operator.clone());
            }
            async move {
                let response = router.call(request).await;
                if let Ok(response) = &response
                    && let Some(Proven(ek)) = response.extensions().get()
                {
                    slot.is_of(ek);
                }
                drop(busy);
                response
            }
        });
        let builder = http(is_h2, patience);
        let serving = watcher.watch(
            builder
                .serve_connection(TokioIo::new(stream), answer)
                .into_owned(),
        );
        tokio::select! {
            served = serving => if let Err(error) = served {
                debug!("connection of {from}: {error}");
            },
            () = activity.idle_for(patience) => debug!("connection of {from}: idle"),
        }
    }
}

fn http(is_h2: bool, patience: Duration) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(patience)
        .max_buf_size(HEAD_LEN_MAX)
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(WINDOW_LEN)
        .initial_connection_window_size(WINDOW_LEN)
        .max_header_list_size(u32::try_from(HEAD_LEN_MAX).unwrap_or(u32::MAX))
        .keep_alive_interval(patience)
        .keep_alive_timeout(patience);
    if is_h2 {
        builder.http2_only()
    } else {
        builder.http1_only()
    }
}

/// When a connection last did something.
#[derive(Debug)]
struct Activity {
    busy: AtomicUsize,
    last: Mutex<Instant>,
}

impl Default for Activity {
    fn default() -> Self {
        Self {
            busy: AtomicUsize::new(0),
            last: Mutex::new(Instant::now()),
        }
    }
}

impl Activity {
    fn start(self: &Arc<Self>) -> Busy {
        self.busy.fetch_add(1, Ordering::AcqRel);
        Busy(Arc::clone(self))
    }

    /// Returns once nothing was answered for so long.
    async fn idle_for(&self, patience: Duration) {
        loop {
            let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
            let left = patience.saturating_sub(last.elapsed());
            match (self.busy.load(Ordering::Acquire), left) {
                (0, Duration::ZERO) => return,
                (0, left) => tokio::time::sleep(left).await,
                // A request has time limits of its own.
                (_, _) => tokio::time::sleep(patience).await,
            }
        }
    }
}

/// A request under way.
#[derive(Debug)]
struct Busy(Arc<Activity>);

impl Drop for Busy {
    fn drop(&mut self) {
        *self.0.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.0.busy.fetch_sub(1, Ordering::AcqRel);
    }
}
