//! Connections that this process opens: TCP, and TLS on top where it is asked for.
//!
//! Contract: the certificate of the other side is verified before a byte of a request leaves. In TLS 1.3 the other side may
//! refuse this side's certificate after that, so errors of reading are put in words too.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, Error};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::Uri;
use tower_service::Service;

use super::files::{Authorities, Own};
use super::verify::{Expected, OfServer, Slot};
use super::{Fixed, provider, words};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// One attempt to speak TLS.
pub(super) struct Attempt {
    pub(super) config: Arc<ClientConfig>,
    pub(super) slot: Arc<Slot>,
    /// The certificate that this side presents.
    pub(super) own: Option<Arc<Own>>,
    /// Whether a node that speaks no TLS is spoken to without it.
    pub(super) may_be_plain: bool,
}

impl Attempt {
    pub(super) fn new(
        authorities: &Authorities,
        expected: Expected,
        own: Option<Arc<Own>>,
        may_be_plain: bool,
    ) -> Result<Self, Error> {
        let slot = Arc::new(Slot::default());
        let verifier = OfServer {
            roots: Arc::clone(&authorities.roots),
            file: authorities.file.clone(),
            expected,
            slot: Arc::clone(&slot),
            provider: provider(),
        };
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match &own {
            Some(own) => builder.with_client_cert_resolver(Arc::new(Fixed(Arc::clone(&own.certified)))),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.resumption = Resumption::disabled();
        Ok(Self { config: Arc::new(config), slot, own, may_be_plain })
    }
}

/// Prepares connections to hosts.
pub(super) trait Dial: fmt::Debug + Send + Sync {
    /// The next attempt, with the files as they are now.
    fn attempt(&self, host: &str) -> io::Result<Attempt>;
}

/// How connections are secured. The default is: not at all.
#[derive(Clone, Debug, Default)]
pub struct Dialer(pub(super) Option<Arc<dyn Dial>>);

impl Dialer {
    /// Whether connections are secured.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.0.is_some()
    }

    /// The scheme of URIs: that of HTTP.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.is_secure() { "https" } else { "http" }
    }
}

/// Connects by `C`, and then speaks TLS as a [`Dialer`] says.
#[derive(Clone, Debug)]
pub struct Connector<C> {
    inner: C,
    dialer: Dialer,
}

impl<C> Connector<C> {
    /// A connector on top of another one.
    pub fn new(inner: C, dialer: Dialer) -> Self {
        Self { inner, dialer }
    }
}

impl<C> Service<Uri> for Connector<C>
where
    C: Service<Uri, Response = TokioIo<TcpStream>> + Clone + Send + 'static,
    C::Error: Into<BoxError>,
    C::Future: Send,
{
    type Response = TokioIo<Dialed>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.inner.call(uri.clone());
        // The clone has not been asked whether it is ready; connectors of TCP always are.
        let (dialer, mut again) = (self.dialer.clone(), self.inner.clone());
        Box::pin(async move {
            let tcp = connecting.await.map_err(Into::into)?.into_inner();
            let Some(dial) = &dialer.0 else { return Ok(TokioIo::new(Dialed::Plain(tcp))) };
            let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
            let attempt = dial.attempt(host)?;
            let name = server_name(host)?;
            match TlsConnector::from(Arc::clone(&attempt.config)).connect(name, tcp).await {
                Ok(stream) => Ok(TokioIo::new(Dialed::Tls { stream: Box::new(stream), own: attempt.own })),
                Err(error) if attempt.may_be_plain && words::is_without_tls(&error) => {
                    let tcp = again.call(uri).await.map_err(Into::into)?.into_inner();
                    Ok(TokioIo::new(Dialed::Plain(tcp)))
                }
                Err(error) => {
                    let text = words::of_dialed(&error, attempt.slot.take(), attempt.own.as_deref());
                    Err(io::Error::new(io::ErrorKind::InvalidData, text).into())
                }
            }
        })
    }
}

fn server_name(host: &str) -> io::Result<ServerName<'static>> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(ServerName::from(ip));
    }
    ServerName::try_from(host.to_owned()).map_err(|_| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("{host:?} is no host name that TLS can verify"))
    })
}

/// An open connection.
#[derive(Debug)]
pub enum Dialed {
    /// Without TLS.
    Plain(TcpStream),
    /// With it.
    Tls {
        /// The stream.
        stream: Box<TlsStream<TcpStream>>,
        /// The certificate that this side presented.
        own: Option<Arc<Own>>,
    },
}

impl AsyncRead for Dialed {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(context, buffer),
            Self::Tls { stream, own } => Pin::new(stream).poll_read(context, buffer).map_err(|error| {
                match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
                    Some(Error::AlertReceived(alert)) => {
                        io::Error::new(error.kind(), words::of_alert(*alert, own.as_deref()))
                    }
                    _ => error,
                }
            }),
        }
    }
}

impl AsyncWrite for Dialed {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(context, bytes),
            Self::Tls { stream, .. } => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write_vectored(context, slices),
            Self::Tls { stream, .. } => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(tcp) => tcp.is_write_vectored(),
            Self::Tls { stream, .. } => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_flush(context),
            Self::Tls { stream, .. } => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(context),
            Self::Tls { stream, .. } => Pin::new(stream).poll_shutdown(context),
        }
    }
}
