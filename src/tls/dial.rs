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
use tonic::codegen::http::HeaderValue;
use tonic::transport::Uri;
use tower_service::Service;

use super::files::{Authorities, Own};
use super::verify::{Expected, OfServer, Slot};
use super::{Fixed, provider, words};
use crate::auth::Token;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The name of HTTP/2 for ALPN.
const HTTP_2: &[u8] = b"h2";

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
        config.alpn_protocols = vec![HTTP_2.to_vec()];
        config.resumption = Resumption::disabled();
        Ok(Self { config: Arc::new(config), slot, own, may_be_plain })
    }
}

/// Prepares connections to hosts.
pub(super) trait Dial: fmt::Debug + Send + Sync {
    /// The next attempt, with the files as they are now.
    fn attempt(&self, host: &str) -> io::Result<Attempt>;
}

/// How connections are secured, and whose requests go over them. The default is: not at all, and nobody's.
#[derive(Clone, Debug, Default)]
pub struct Dialer {
    dial: Option<Arc<dyn Dial>>,
    /// The value of `authorization` of each request.
    authorization: Option<HeaderValue>,
}

impl Dialer {
    /// Connections that `dial` prepares.
    pub(super) fn new(dial: Option<Arc<dyn Dial>>) -> Self {
        Self { dial, authorization: None }
    }

    /// The same, with a token in each request.
    #[must_use]
    pub fn with_token(self, token: Option<&Token>) -> Self {
        let header = |token: &Token| {
            let mut value = HeaderValue::try_from(format!("Bearer {}", token.reveal())).expect("a token is plain text");
            value.set_sensitive(true);
            value
        };
        Self { authorization: token.map(header), ..self }
    }

    /// The value of `authorization` of each request.
    pub(crate) fn authorization(&self) -> Option<&HeaderValue> {
        self.authorization.as_ref()
    }

    /// Whether connections are secured.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.dial.is_some()
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
    /// The protocol that TLS is asked for.
    protocol: &'static [u8],
}

impl<C> Connector<C> {
    /// A connector on top of another one, for HTTP/2.
    pub fn new(inner: C, dialer: Dialer) -> Self {
        Self { inner, dialer, protocol: HTTP_2 }
    }

    /// The same for HTTP/1.1, which a node's listener for monitoring speaks.
    pub fn for_http_1(inner: C, dialer: Dialer) -> Self {
        Self { inner, dialer, protocol: b"http/1.1" }
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
        let (dialer, protocol, mut again) = (self.dialer.clone(), self.protocol, self.inner.clone());
        Box::pin(async move {
            let tcp = connecting.await.map_err(Into::into)?.into_inner();
            let Some(dial) = &dialer.dial else { return Ok(TokioIo::new(Dialed::Plain(tcp))) };
            let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
            let attempt = dial.attempt(host)?;
            let name = server_name(host)?;
            let mut config = Arc::clone(&attempt.config);
            if protocol != HTTP_2 {
                Arc::make_mut(&mut config).alpn_protocols = vec![protocol.to_vec()];
            }
            match TlsConnector::from(config).connect(name, tcp).await {
                Ok(stream) => Ok(TokioIo::new(Dialed::Tls { stream: Box::new(stream), own: attempt.own })),
                // Nobody on the way may make it tell its token.
                Err(error)
                    if attempt.may_be_plain && dialer.authorization.is_none() && words::is_without_tls(&error) =>
                {
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
