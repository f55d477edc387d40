// SPDX-License-Identifier: Apache-2.0
//! The service from start to end.
//!
//! [`run`] is the program, [`bind`] all of it but the signals, which is what tests start.
//!
//! **Never:** a start without everything that the configuration names, or an end before the last lines are written.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use log::{error, info, warn};
use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::error::{Doing, Error, Result};
use crate::keyservice::audit::SYNC_EVERY;
use crate::keyservice::config::{Config, StoreAt};
use crate::keyservice::http::body::BodyBudget;
use crate::keyservice::http::listener::Listener;
use crate::keyservice::http::nodes as http;
use crate::keyservice::http::nodes::Shared;
use crate::keyservice::http::operators as admin;
use crate::keyservice::registry::sightings::FLUSH_EVERY;
use crate::keyservice::reload::Files;
use crate::keyservice::state::Service;

/// How often the files are looked at.
const POLL_EVERY: Duration = Duration::from_secs(2);

/// How often it is found out whether the store can be read.
const READY_EVERY: Duration = Duration::from_secs(1);

/// How often it is looked whether the KMS is to be asked again.
#[cfg(feature = "kms")]
const RECHECK_POLL: Duration = Duration::from_secs(1);

/// Threads for what blocks where the store is on this machine, for each processor. They wait for its disk and for each
/// other's turn to write, and a thread that goes on with the next request costs less than one that wakes up for it.
const THREADS_LOCAL: usize = 4;

/// At least as many: requests and upkeep share them.
const THREADS_MIN: usize = 8;

/// At most as many, and where the store is on other machines, which are waited for.
const THREADS_MAX: usize = 32;

/// The service with its sockets bound. Nobody is answered yet.
#[derive(Debug)]
pub struct Server {
    config: Arc<Config>,
    service: Arc<Service>,
    files: Arc<Mutex<Files>>,
    listeners: Vec<Listener>,
    /// Where nodes connect.
    pub address: SocketAddr,
    /// Where health and metrics are told.
    pub operations: Option<SocketAddr>,
    /// Where operators connect.
    pub admin: Option<SocketAddr>,
}

/// Runs the service until it is told to stop.
pub fn run(config: Config) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(threads(&config.store))
        .build()
        .doing("starting threads")?;
    runtime.block_on(async {
        let bound = bind(config).await?;
        info!("listening at {}", bound.address);
        let (stop, stopped) = watch::channel(false);
        let mut hangup = signal(SignalKind::hangup()).doing("catching SIGHUP")?;
        let mut terminate = signal(SignalKind::terminate()).doing("catching SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).doing("catching SIGINT")?;
        let (service, config) = (Arc::clone(&bound.service), Arc::clone(&bound.config));
        let files = Arc::clone(&bound.files);
        let mut serving = tokio::spawn(bound.serve(stopped));
        notify(&[NotifyState::Ready]);
        loop {
            tokio::select! {
                _ = hangup.recv() => reload(&config, &service, &files).await,
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                ended = &mut serving => {
                    return ended.map_err(Error::failure).and(Err(Error::failure("it stopped listening")));
                }
            }
        }
        info!("stopping");
        notify(&[NotifyState::Stopping]);
        stop.send_replace(true);
        serving.await.map_err(Error::failure)
    })
}

fn threads(store: &StoreAt) -> usize {
    match store {
        StoreAt::Sqlite(_) => available_parallelism().map_or(THREADS_MIN, |count| {
            let threads = count.get().saturating_mul(THREADS_LOCAL);
            threads.clamp(THREADS_MIN, THREADS_MAX)
        }),
        StoreAt::Etcd(_) => THREADS_MAX,
    }
}

/// Opens everything and binds the sockets.
pub async fn bind(config: Config) -> Result<Server> {
    let service = Arc::new(Service::open(&config)?);
    let files = Files::open(&config)?;
    let shared = Shared {
        service: Arc::clone(&service),
        bodies: BodyBudget::new(&config.limits),
    };
    let listener = |socket, tls, router| Listener {
        socket,
        tls,
        router,
        service: Arc::clone(&service),
        limits: config.limits,
    };
    let (socket, address) = listen(config.listen).await?;
    let mut listeners = vec![listener(
        socket,
        Some(files.tls()),
        http::nodes(shared.clone()),
    )];
    let mut operations = None;
    if let Some(at) = config.operations_listen {
        let (socket, address) = listen(at).await?;
        operations = Some(address);
        listeners.push(listener(socket, None, http::operations(shared)));
    }
    let mut admin_address = None;
    if let (Some(at), Some(tls)) = (&config.admin, files.admin_tls()) {
        let (socket, address) = listen(at.listen).await?;
        admin_address = Some(address);
        let router = admin::router(Arc::clone(&service));
        listeners.push(listener(socket, Some(tls), router));
    }
    Ok(Server {
        config: Arc::new(config),
        service,
        files: Arc::new(Mutex::new(files)),
        listeners,
        address,
        operations,
        admin: admin_address,
    })
}

async fn listen(at: SocketAddr) -> Result<(TcpListener, SocketAddr)> {
    let bound = async {
        let socket = TcpListener::bind(at).await?;
        let address = socket.local_addr()?;
        Ok::<_, std::io::Error>((socket, address))
    };
    bound.await.doing(format_args!("listening at {at}"))
}

impl Server {
    /// The service itself.
    #[must_use]
    pub fn service(&self) -> Arc<Service> {
        Arc::clone(&self.service)
    }

    /// Answers until `stop` says true, then writes down what is left.
    pub async fn serve(self, stop: watch::Receiver<bool>) {
        let mut listening = JoinSet::new();
        for listener in self.listeners {
            listening.spawn(listener.serve(stop.clone()));
        }
        let mut upkeep = JoinSet::new();
        let service = Arc::clone(&self.service);
        upkeep.spawn(run_every(FLUSH_EVERY, move || flush(&service)));
        let service = Arc::clone(&self.service);
        upkeep.spawn(run_every(SYNC_EVERY, move || sync(&service)));
        let service = Arc::clone(&self.service);
        upkeep.spawn(run_every(READY_EVERY, move || service.probe()));
        #[cfg(feature = "kms")]
        if self.service.keys.is_rechecked() {
            let service = Arc::clone(&self.service);
            let recheck = move || service.recheck(Instant::now());
            upkeep.spawn(run_every(RECHECK_POLL, recheck));
            // On its own: a recheck may hang in a file system that does.
            let service = Arc::clone(&self.service);
            let watch = move || service.watch_rechecks(Instant::now());
            upkeep.spawn(run_every(RECHECK_POLL, watch));
        }
        let (config, files) = (self.config, self.files);
        let service = Arc::clone(&self.service);
        upkeep.spawn(run_every(POLL_EVERY, move || {
            poll(&config, &service, &files);
        }));
        while listening.join_next().await.is_some() {}
        upkeep.shutdown().await;
        let service = self.service;
        let last = tokio::task::spawn_blocking(move || {
            flush(&service);
            sync(&service);
        });
        if let Err(error) = last.await {
            error!("writing down what is left: {error}");
        }
    }
}

/// Does `work` again and again on a thread that may block, never twice at once.
async fn run_every(period: Duration, work: impl Fn() + Send + Sync + 'static) {
    let work = Arc::new(work);
    let mut clock = tokio::time::interval(period);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        clock.tick().await;
        let work = Arc::clone(&work);
        if let Err(error) = tokio::task::spawn_blocking(move || work()).await {
            error!("upkeep: {error}");
        }
    }
}

fn flush(service: &Service) {
    if let Err(error) = service.sightings.flush(&service.store) {
        warn!("writing when nodes were seen: {error}");
    }
}

fn sync(service: &Service) {
    service.write_left_out(Instant::now());
    if let Err(error) = service.audit.sync() {
        error!("{error}");
    }
}

fn poll(config: &Config, service: &Service, files: &Mutex<Files>) {
    files
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .poll(config, service);
}

/// What SIGHUP asks for: the files are looked at now, and the audit log goes on in a new file.
async fn reload(config: &Arc<Config>, service: &Arc<Service>, files: &Arc<Mutex<Files>>) {
    let monotonic = NotifyState::monotonic_usec_now();
    match monotonic {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => warn!("telling systemd the time: {error}"),
    }
    let (config, service, files) = (Arc::clone(config), Arc::clone(service), Arc::clone(files));
    let reloaded = tokio::task::spawn_blocking(move || {
        poll(&config, &service, &files);
        if let Err(error) = service.audit.reopen() {
            error!("{error}");
        }
    });
    if let Err(error) = reloaded.await {
        error!("reloading: {error}");
    }
    notify(&[NotifyState::Ready]);
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!("telling systemd: {error}");
    }
}
