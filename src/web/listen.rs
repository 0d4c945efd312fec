//! Connections: how many, how long, and what is wrong with them before a request is one.

use super::{Site, notice, routes};
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Sleep, sleep, timeout};
use tokio_rustls::TlsAcceptor;

/// Connections at a time, of all visitors and of one.
const MOST: usize = 64;
const MOST_OF_ONE: usize = 16;
/// How long a visitor may take to agree on a key, and to send the head of a request.
const HANDSHAKE: Duration = Duration::from_secs(10);
const HEAD: Duration = Duration::from_secs(15);
/// How long it may take nothing of what is sent to it.
const STUCK: Duration = Duration::from_secs(60);
/// Threads that wait for the disk: one file at a time is on its way, with room for one that is broken off.
const BLOCKING: usize = 4;
/// Longest head of a request, and fields in it.
const HEAD_BYTES: usize = 16 << 10;
const HEAD_FIELDS: usize = 64;

/// Serves until the program ends.
pub(super) fn serve(
    site: Arc<Site>,
    config: Arc<ServerConfig>,
    listener: std::net::TcpListener,
    plain: Option<std::net::TcpListener>,
    status: Option<PathBuf>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(BLOCKING)
        .build()?;
    runtime.block_on(async move {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        tokio::spawn(notice::tell(Arc::clone(&site), status));
        if let Some(plain) = plain {
            plain.set_nonblocking(true)?;
            tokio::spawn(send_on(TcpListener::from_std(plain)?, site.host.clone()));
        }
        let (acceptor, router) = (TlsAcceptor::from(config), routes::router(site));
        let visitors = Visitors::default();
        loop {
            let (stream, from) = accept(&listener).await;
            let Some(visit) = visitors.admit(from.ip()) else { continue };
            let (acceptor, router) = (acceptor.clone(), router.clone());
            tokio::spawn(async move {
                // Whatever is wrong with a connection ends only itself.
                let _ = converse(stream, from, acceptor, router).await;
                drop(visit);
            });
        }
    })
}

async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            // Out of descriptors or memory: others have to end first.
            Err(_) => sleep(Duration::from_millis(200)).await,
        }
    }
}

fn connection() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(HEAD_BYTES).max_headers(HEAD_FIELDS);
    builder
}

async fn converse(stream: TcpStream, from: SocketAddr, acceptor: TlsAcceptor, router: Router) -> io::Result<()> {
    let _ = stream.set_nodelay(true);
    let stream = timeout(HANDSHAKE, acceptor.accept(stream)).await??;
    let service = TowerToHyperService::new(router.layer(axum::Extension(from)));
    let io = TokioIo::new(Impatient { stream, stuck: None });
    connection().serve_connection(io, service).await.map_err(io::Error::other)
}

/// Sends browsers that came without encryption on to the page. Nothing is told here, and nothing is taken.
async fn send_on(listener: TcpListener, host: String) {
    let visitors = Visitors::default();
    loop {
        let (stream, from) = accept(&listener).await;
        let Some(visit) = visitors.admit(from.ip()) else { continue };
        let host = host.clone();
        tokio::spawn(async move {
            let service = service_fn(|request: Request<hyper::body::Incoming>| {
                let asked = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
                let to = asked.filter(|asked| routes::is_ours(asked, &host)).unwrap_or(&host).to_owned();
                async move {
                    let mut response = Response::new(Body::empty());
                    *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
                    if let Ok(to) = HeaderValue::try_from(format!("https://{to}/")) {
                        response.headers_mut().insert(header::LOCATION, to);
                    }
                    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                    Ok::<_, Infallible>(response)
                }
            });
            let _ = timeout(HEAD, connection().serve_connection(TokioIo::new(stream), service)).await;
            drop(visit);
        });
    }
}

/// Who is connected how often.
#[derive(Clone, Default)]
struct Visitors(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One connection; it is counted until this is dropped.
struct Visit(Visitors, IpAddr);

impl Visitors {
    fn admit(&self, from: IpAddr) -> Option<Visit> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.values().sum::<usize>() >= MOST || all.get(&from).is_some_and(|count| *count >= MOST_OF_ONE) {
            return None;
        }
        *all.entry(from).or_insert(0) += 1;
        Some(Visit(self.clone(), from))
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let mut all = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = all.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                all.remove(&self.1);
            }
        }
    }
}

/// A connection that ends when what is sent to it is not taken.
struct Impatient<S> {
    stream: S,
    stuck: Option<Pin<Box<Sleep>>>,
}

impl<S> Impatient<S> {
    fn watch<T>(&mut self, polled: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.stuck = None;
            return polled;
        }
        let stuck = self.stuck.get_or_insert_with(|| Box::pin(sleep(STUCK)));
        match stuck.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Impatient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Impatient<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(polled, context)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(context);
        self.watch(polled, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(context);
        self.watch(polled, context)
    }
}
