//! Errors of TLS in words that name the file and say what to do.

use std::io;
use std::path::Path;

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};

use super::certificate::Facts;
#[cfg(feature = "server")]
use super::certificate::Name;
use super::date;
use super::files::Own;

/// Why a certificate is not believed, and what to do. `authorities` is the file of the CAs.
pub(super) fn of_certificate(error: &Error, facts: Option<&Facts>, authorities: &Path) -> String {
    let file = authorities.display();
    let Error::InvalidCertificate(error) = error else {
        return format!("{error}: issue it again");
    };
    match error {
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => {
            match facts.and_then(|facts| facts.out_of_time(date::now())) {
                Some(problem) if problem.starts_with("it has expired") => format!("{problem}: issue a new one"),
                Some(problem) => format!("{problem}: correct the clock of this machine, or that of the issuer"),
                // It is in order itself, so it is one between it and its CA.
                None => format!("a CA above it has expired or is not yet valid: look at {file} with `quorate ca show`"),
            }
        }
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            let issuer = facts.map_or_else(String::new, |facts| format!(" (it names {:?} as its issuer)", facts.issuer));
            format!("no CA in {file} has issued it{issuer}: issue it with one of them, or add its CA to that file")
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "its extended key usage does not allow this: issue it for both servers and clients".to_owned()
        }
        CertificateError::BadEncoding => "it is damaged: issue it again".to_owned(),
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "it is signed with an algorithm that is not accepted, such as SHA-1 or RSA below 2048 bits: issue it with SHA-256 \
             and another key"
                .to_owned()
        }
        other => format!("{other:?}: issue it again"),
    }
}

/// Why a certificate is not that of `expected`.
#[cfg(feature = "server")]
pub(super) fn of_other_node(facts: &Facts, expected: &Name) -> String {
    let uri = expected.uri();
    if facts.names.is_empty() {
        return format!(
            "it has no name of a node, and {expected} is expected at this address: issue it with the URI {uri} among its \
             subject alternative names, as `quorate ca issue node` does"
        );
    }
    format!(
        "{expected} is expected at this address: correct the address in cluster.yml, or give that node its own certificate \
         with the URI {uri}"
    )
}

/// Why a certificate is not for `host`.
pub(super) fn of_other_host(facts: &Facts, host: &str) -> String {
    let hosts = if facts.hosts.is_empty() { "no host".to_owned() } else { facts.hosts.join(", ") };
    format!("it is for {hosts}, and not for {host}: issue it with --san {host}, or use one of its names")
}

/// What an alert of the other side means for this side's certificate.
pub(super) fn of_alert(alert: AlertDescription, own: Option<&Own>) -> String {
    let Some(own) = own else {
        return match alert {
            AlertDescription::CertificateRequired | AlertDescription::HandshakeFailure => {
                "the other side asks for a client certificate: give one (--cert and --key)".to_owned()
            }
            alert => of_alert_about_protocol(alert),
        };
    };
    let (file, subject) = (own.file.display(), &own.facts.subject);
    let refused = format!("the other side refuses certificate {subject:?} of {file}");
    match alert {
        AlertDescription::UnknownCA => {
            format!(
                "{refused}: it does not believe its issuer {:?}: add that CA there, or issue the certificate with a CA \
                     that is believed there",
                own.facts.issuer
            )
        }
        AlertDescription::CertificateExpired => {
            let (from, to) = (date::text(own.facts.not_before), date::text(own.facts.not_after));
            format!(
                "{refused}: by its clock it is not valid now (valid from {from} to {to}): issue a new one, or correct the \
                     clocks"
            )
        }
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::AccessDenied => {
            format!(
                "{refused}: it is for another node or purpose: issue it for this one; the log of the other side says more"
            )
        }
        AlertDescription::DecryptError => {
            format!("{refused}: its signature or its key is not accepted there; the log of the other side says more")
        }
        alert => of_alert_about_protocol(alert),
    }
}

fn of_alert_about_protocol(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::NoApplicationProtocol => {
            "the other side does not speak this protocol on that port: is it the port of another one?".to_owned()
        }
        AlertDescription::ProtocolVersion => "the other side accepts neither TLS 1.2 nor TLS 1.3".to_owned(),
        // A client refuses the certificate of this side.
        alert => format!("the other side has ended the handshake: {alert:?}"),
    }
}

/// Why a handshake that this side began has failed.
pub(super) fn of_dialed(error: &io::Error, refusal: Option<String>, own: Option<&Own>) -> String {
    if let Some(refusal) = refusal {
        return refusal;
    }
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::AlertReceived(alert)) => of_alert(*alert, own),
        Some(Error::InvalidMessage(InvalidMessage::InvalidContentType)) => no_tls("it answered without TLS"),
        None if is_end(error) => no_tls("it closed the connection"),
        Some(other) => format!("TLS: {other}"),
        None => format!("TLS: {error}"),
    }
}

fn no_tls(what: &str) -> String {
    format!(
        "{what}: no TLS is served there, or it is the port of another protocol; leave --ca out for a node without TLS"
    )
}

/// Whether the other side has closed the connection without a word.
pub(super) fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

/// Whether the other side does not speak TLS, as far as can be told.
pub(super) fn is_without_tls(error: &io::Error) -> bool {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(inner) => matches!(inner, Error::InvalidMessage(InvalidMessage::InvalidContentType)),
        None => is_end(error),
    }
}
