//! TLS with a mail server: whom to trust, the handshake, and what its errors mean for somebody who has to mend them.

use std::io::{self, ErrorKind, Read};
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::timed::{Timed, is_timeout};
use super::{SHOWN, Smtp, Step, Tls, at, host, no_answer, plain};
use crate::files::{self, Links};
use crate::text::{cut, visible};

/// What a session needs to begin one.
pub(super) type Client = Arc<ClientConfig>;
/// A connection that is protected.
pub(super) type Stream = StreamOwned<ClientConnection, Timed>;

/// How TLS is spoken: the system's authorities, and those of `ca_file`.
pub(super) fn client(smtp: &Smtp) -> Result<Client, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = &smtp.ca_file {
        for certificate in certificates(path)? {
            roots.add(certificate).map_err(|error| {
                format!(
                    "{}: a certificate in it cannot be used: {error}; check [mail] ca_file",
                    path.display()
                )
            })?;
        }
    }
    if roots.is_empty() {
        return Err(format!(
            "{}: no certificate authority is known here, so no server can be trusted; install ca-certificates, or set ca_file",
            at(smtp)
        ));
    }
    let config =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("{}: {error}", at(smtp)))?
            .with_root_certificates(roots)
            .with_no_client_auth();
    Ok(Arc::new(config))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let shown = path.display();
    let mut pem = Vec::new();
    let read = files::open(path, Links::Follow)
        .map_err(io::Error::from)
        .and_then(|(mut file, _)| file.read_to_end(&mut pem));
    read.map_err(|error| {
        format!(
            "{shown}: the certificates cannot be read: {}; check [mail] ca_file",
            plain(&error)
        )
    })?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("{shown}: not a PEM file: {error}; check [mail] ca_file"))?;
    if certificates.is_empty() {
        return Err(format!(
            "{shown}: there is no certificate in it; ca_file wants PEM, -----BEGIN CERTIFICATE-----"
        ));
    }
    Ok(certificates)
}

/// Wraps a connection into TLS, with a server that proves to be the one that the config names.
pub(super) fn handshake(smtp: &Smtp, client: &Client, mut stream: Timed) -> Result<Stream, String> {
    let at = at(smtp);
    let host = host(smtp);
    let name = ServerName::try_from(host.to_owned()).map_err(|_| {
        format!(
            "{at}: `{}` is not a host name that a certificate can have",
            visible(host)
        )
    })?;
    let mut connection = ClientConnection::new(Arc::clone(client), name)
        .map_err(|error| format!("{at}: {error}"))?;
    while connection.is_handshaking() {
        connection
            .complete_io(&mut stream)
            .map_err(|error| trouble(smtp, &error))?;
    }
    Ok(StreamOwned::new(connection, stream))
}

/// How a connection is protected, and whose certificate it was that was found good.
pub(super) fn protection(stream: &Stream) -> String {
    let version = match stream.conn.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_3) => "TLS 1.3",
        Some(rustls::ProtocolVersion::TLSv1_2) => "TLS 1.2",
        _ => "TLS",
    };
    let names: Vec<String> = stream
        .conn
        .peer_certificates()
        .and_then(|certificates| webpki::EndEntityCert::try_from(certificates.first()?).ok())
        .map(|certificate| certificate.valid_dns_names().map(visible).collect())
        .unwrap_or_default();
    if names.is_empty() {
        return format!("{version}, the certificate is good");
    }
    format!(
        "{version}, the certificate is good; it is for {}",
        cut(&names.join(", "), SHOWN)
    )
}

/// What went wrong in a handshake, for somebody who has to mend it.
fn trouble(smtp: &Smtp, error: &io::Error) -> String {
    let at = at(smtp);
    let cause = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(cause) = cause else {
        return match error.kind() {
            _ if is_timeout(error) => no_answer(smtp, Step::Handshake),
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
                format!("{at}: the server hung up (last step: {})", Step::Handshake)
            }
            _ => format!("{at}: {}: {}", Step::Handshake, plain(error)),
        };
    };
    match cause {
        rustls::Error::InvalidCertificate(reason) => {
            let reason = match reason {
                CertificateError::NotValidForName => format!(
                    "is not valid for the name `{}`; set [mail] host to a name that it has",
                    visible(&smtp.host)
                ),
                CertificateError::NotValidForNameContext { presented, .. } => {
                    let names: Vec<String> = presented.iter().map(|name| bare_name(name)).collect();
                    let names = if names.is_empty() { "no name at all".to_owned() } else { names.join(", ") };
                    format!(
                        "is not valid for the name `{}` (it is for {}); set [mail] host to a name that it has",
                        visible(&smtp.host),
                        cut(&names, SHOWN)
                    )
                }
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                    "has expired; its owner must renew it (or is this host's clock wrong)".to_owned()
                }
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                    "is not valid yet; is this host's clock right".to_owned()
                }
                // besides: an authority of that name is known, and it is another one that signed
                CertificateError::UnknownIssuer
                | CertificateError::BadSignature
                | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
                    "comes from an authority that is not trusted here; set ca_file to the certificate of that authority".to_owned()
                }
                other => format!("cannot be trusted: {}", cut(&visible(&other.to_string()), SHOWN)),
            };
            format!("{at}: the server's certificate {reason}")
        }
        rustls::Error::InvalidMessage(_) => {
            let hint = match smtp.tls {
                Tls::Tls => "; use tls = \"starttls\" (mostly port 587)",
                Tls::Starttls | Tls::None => "",
            };
            format!("{at}: the server does not speak TLS there{hint}")
        }
        other => format!(
            "{at}: {}: {}",
            Step::Handshake,
            cut(&visible(&other.to_string()), SHOWN)
        ),
    }
}

/// `DnsName("x")` as the library has it, as a name.
fn bare_name(presented: &str) -> String {
    let inner = presented.split('"').nth(1);
    visible(inner.unwrap_or(presented))
}

#[cfg(test)]
mod tests {
    use super::super::tests::smtp;
    use super::*;

    #[test]
    fn what_is_wrong_in_a_handshake_says_what_to_change() {
        use rustls::Error::{InvalidCertificate, InvalidMessage};
        let smtp = |tls| Smtp { tls, ..smtp(587) };
        let said = |tls, error: rustls::Error| {
            trouble(&smtp(tls), &io::Error::new(ErrorKind::InvalidData, error))
        };
        let expected = ServerName::try_from("mail.example.org").unwrap();
        for (reason, ending) in [
            (
                CertificateError::NotValidForName,
                "is not valid for the name `127.0.0.1`; set [mail] host to a name that it has",
            ),
            (
                CertificateError::NotValidForNameContext {
                    expected: expected.clone(),
                    presented: Vec::new(),
                },
                "is not valid for the name `127.0.0.1` (it is for no name at all); set [mail] host to a name that it has",
            ),
            (
                CertificateError::NotValidForNameContext {
                    expected,
                    presented: vec!["DnsName(\"a.example\")".to_owned(), "odd".to_owned()],
                },
                "is not valid for the name `127.0.0.1` (it is for a.example, odd); set [mail] host to a name that it has",
            ),
            (
                CertificateError::Expired,
                "has expired; its owner must renew it (or is this host's clock wrong)",
            ),
            (
                CertificateError::NotValidYet,
                "is not valid yet; is this host's clock right",
            ),
            (
                CertificateError::BadSignature,
                "comes from an authority that is not trusted here; set ca_file to the certificate of that authority",
            ),
            (CertificateError::Revoked, "cannot be trusted: Revoked"),
        ] {
            assert_eq!(
                said(Tls::Tls, InvalidCertificate(reason)),
                format!("127.0.0.1:587: the server's certificate {ending}")
            );
        }
        let no_tls = || InvalidMessage(rustls::InvalidMessage::InvalidContentType);
        assert_eq!(
            said(Tls::Tls, no_tls()),
            "127.0.0.1:587: the server does not speak TLS there; use tls = \"starttls\" (mostly port 587)"
        );
        assert_eq!(
            said(Tls::Starttls, no_tls()),
            "127.0.0.1:587: the server does not speak TLS there"
        );
        assert_eq!(
            said(Tls::Tls, rustls::Error::DecryptError),
            "127.0.0.1:587: the TLS handshake: cannot decrypt peer's message"
        );
        let broken = io::Error::from_raw_os_error(libc::ENOTCONN);
        assert_eq!(
            trouble(&smtp(Tls::Tls), &broken),
            "127.0.0.1:587: the TLS handshake: transport endpoint is not connected"
        );
    }
}
