//! How a client of a node speaks TLS, and connections with or without it.
//!
//! Contract: the files are read for each connection, so that a client believes what its files say now. A connection that is
//! open keeps what it was verified with.

use std::fs;
use std::io::{self, Error};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tower_service::Service;

/// The protocols that a client names in its handshake.
pub const HTTP_1: &[u8] = b"http/1.1";
pub const HTTP_2: &[u8] = b"h2";

/// How long a node may take to say that it does not believe a certificate.
const VERDICT_TIME_MAX: Duration = Duration::from_secs(2);

/// Whom a client believes, and what it shows of itself.
#[derive(Clone, Debug)]
pub struct Believes {
    authorities: Arc<Path>,
    own: Option<Arc<(PathBuf, PathBuf)>>,
}

/// A connection.
#[derive(Debug)]
pub enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Believes {
    /// Believes nodes whose certificates the CAs in this file have issued.
    pub fn new(authorities: &Path) -> Self {
        Self { authorities: authorities.into(), own: None }
    }

    /// The same, with a certificate and its key.
    #[must_use]
    pub fn with_certificate(self, certificate: PathBuf, key: PathBuf) -> Self {
        Self { own: Some(Arc::new((certificate, key))), ..self }
    }

    fn config(&self, protocol: Option<&[u8]>) -> io::Result<ClientConfig> {
        let certificates = |file: &Path| -> io::Result<Vec<CertificateDer<'static>>> {
            let pem = fs::read(file)?;
            CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>().map_err(Error::other)
        };
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.authorities)? {
            roots.add(certificate).map_err(Error::other)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.map_err(Error::other)?.with_root_certificates(roots);
        let mut config = match self.own.as_deref() {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let key = PrivateKeyDer::from_pem_slice(&fs::read(key)?).map_err(Error::other)?;
                builder.with_client_auth_cert(certificates(certificate)?, key).map_err(Error::other)?
            }
        };
        config.alpn_protocols = protocol.into_iter().map(<[u8]>::to_vec).collect();
        config.resumption = Resumption::disabled();
        Ok(config)
    }

    /// Whether the node at `address` ends the handshake because it does not believe what this client shows.
    ///
    /// # Errors
    /// If the node is not reached, or says nothing.
    pub async fn is_refused(&self, address: &str) -> io::Result<bool> {
        let handshake = async {
            let mut stream = connect(address, Some(self), None).await?;
            // In TLS 1.3 the verdict comes after the client's part.
            stream.read(&mut [0; 1]).await
        };
        match tokio::time::timeout(VERDICT_TIME_MAX, handshake).await {
            Ok(Ok(0)) => Err(Error::other("the connection ended without a word")),
            Ok(Ok(_)) | Err(_) => Ok(false),
            Ok(Err(error)) => {
                let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
                if matches!(inner, Some(rustls::Error::AlertReceived(_))) { Ok(true) } else { Err(error) }
            }
        }
    }
}

/// Connects to `address`, an IP address with a port, and speaks TLS where `tls` says how.
///
/// # Errors
/// If the node is not reached, or is not believed.
pub async fn connect(address: &str, tls: Option<&Believes>, protocol: Option<&[u8]>) -> io::Result<Stream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let Some(tls) = tls else { return Ok(Stream::Plain(stream)) };
    let config = tls.config(protocol)?;
    let name = ServerName::from(stream.peer_addr()?.ip());
    Ok(Stream::Tls(Box::new(TlsConnector::from(Arc::new(config)).connect(name, stream).await?)))
}

/// A channel of gRPC to `address`, which connects on first use.
pub fn channel(address: &str, tls: Option<&Believes>, connect_time_max: Duration) -> Channel {
    endpoint(address).connect_timeout(connect_time_max).connect_with_connector_lazy(Connect(tls.cloned()))
}

/// A channel that is connected now.
///
/// # Errors
/// If the node is not reached.
pub async fn connected(
    address: &str,
    tls: Option<&Believes>,
    time_max: Duration,
) -> Result<Channel, tonic::transport::Error> {
    let endpoint = endpoint(address).connect_timeout(time_max).timeout(time_max);
    endpoint.connect_with_connector(Connect(tls.cloned())).await
}

fn endpoint(address: &str) -> Endpoint {
    Endpoint::from_shared(format!("http://{address}")).expect("the address is well formed")
}

/// Connects for tonic.
#[derive(Clone)]
struct Connect(Option<Believes>);

impl Service<Uri> for Connect {
    type Response = TokioIo<Stream>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<Stream>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let tls = self.0.clone();
        Box::pin(async move {
            let address = uri.authority().map(|authority| authority.as_str().to_owned()).unwrap_or_default();
            Ok(TokioIo::new(connect(&address, tls.as_ref(), Some(HTTP_2)).await?))
        })
    }
}

impl Stream {
    /// The connection below TLS.
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
