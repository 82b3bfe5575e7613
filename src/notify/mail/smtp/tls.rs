//! TLS with a mail server: whom to trust, the handshake, and what its errors mean for somebody who has to mend them.

use std::io::{self, ErrorKind};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::timed::{Timed, is_timeout};
use super::{SHOWN, Smtp, Step, Tls, at, host, no_answer};
use crate::client::tls::{Trust, distrust};
use crate::text::{cut, plain, visible};

/// What a session needs to begin one.
pub(super) type Client = Arc<ClientConfig>;
/// A connection that is protected.
pub(super) type Stream = StreamOwned<ClientConnection, Timed>;

/// How TLS is spoken: the system's authorities are trusted, and `ca_file`.
pub(super) fn client(smtp: &Smtp) -> Result<Client, String> {
    let trust = Trust::load(smtp.ca_file.as_deref(), "[mail] ca_file");
    let trust = trust.map_err(|error| format!("{}: {error}", at(smtp)))?;
    Ok(Arc::clone(trust.config()))
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
            let reason = distrust(reason, &smtp.host, "[mail] host");
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

#[cfg(test)]
mod tests {
    use rustls::CertificateError;

    use super::super::tests::smtp;
    use super::*;

    #[test]
    fn what_is_wrong_in_a_handshake_says_what_to_change() {
        use rustls::Error::{InvalidCertificate, InvalidMessage};
        let smtp = |tls| Smtp { tls, ..smtp(587) };
        let said = |tls, error: rustls::Error| {
            trouble(&smtp(tls), &io::Error::new(ErrorKind::InvalidData, error))
        };
        assert_eq!(
            said(
                Tls::Tls,
                InvalidCertificate(CertificateError::NotValidForName)
            ),
            "127.0.0.1:587: the server's certificate is not valid for the name `127.0.0.1`; set [mail] host to a name that it has"
        );
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
