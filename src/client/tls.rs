//! TLS with servers: whom to trust, sessions, and what is wrong with a certificate.
//!
//! When a certificate ends is asked of the same verification that found it good: it is repeated for a time
//! [`EXPIRY_WARNING`] ahead, and its error has the end in it. That needs no reader of certificates, and covers the
//! intermediate ones as well, which end too.
//!
//! A certificate that `openssl req -x509` has made is one of an authority that has signed itself, and no certificate of a
//! server by the letter. Where `ca_file` has that very one, it is trusted: nobody else has its key.

use std::io::Read;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier, verify_server_name};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, DistinguishedName,
    Error, RootCertStore, SignatureScheme,
};

use super::{EXPIRY_WARNING, Fault};
use crate::files::{self, Links};
use crate::text::{cut, plain, visible};

/// The longest file of certificates that is read: the system's own has a quarter of it.
const CA_FILE_LIMIT: u64 = 1 << 20;

/// What is said of a server that answers, and with something else.
pub(super) const NOT_TLS: &str = "it does not speak TLS";

/// Of a text from elsewhere, so many characters are shown.
const SHOWN: usize = 200;

/// Whom to trust.
#[derive(Debug)]
pub struct Trust {
    config: Arc<ClientConfig>,
    verifier: Arc<Verifier>,
}

/// Verifies as `webpki` does, and takes the very certificates of `ca_file` for servers' own as well.
#[derive(Debug)]
struct Verifier {
    webpki: Arc<WebPkiServerVerifier>,
    own: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        server: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self
            .webpki
            .verify_server_cert(leaf, others, server, ocsp, now);
        match verified {
            // its dates are looked at before this, and its name would be after it
            Err(Error::InvalidCertificate(reason))
                if is_of_authority(&reason) && self.own.contains(leaf) =>
            {
                verify_server_name(&ParsedCertificate::try_from(leaf)?, server)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls12_signature(message, leaf, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls13_signature(message, leaf, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        self.webpki.root_hint_subjects()
    }
}

/// Which error of the library's own a certificate is refused with, where its general ones have none for it.
fn cause(reason: &CertificateError) -> Option<&webpki::Error> {
    match reason {
        CertificateError::Other(other) => other.0.downcast_ref(),
        _ => None,
    }
}

/// Whether it is refused because it is one of an authority, and not one of a server.
fn is_of_authority(reason: &CertificateError) -> bool {
    matches!(cause(reason), Some(webpki::Error::CaUsedAsEndEntity))
}

impl Trust {
    /// The system's authorities, and those of `ca_file`. It reads files, and may block. `key` is what the config calls that
    /// file; no error has a place of its own to name.
    pub fn load(ca_file: Option<&Path>, key: &str) -> Result<Self, String> {
        let (roots, own) = trusted(ca_file, key)?;
        Self::of(roots, own).map_err(|error| not_set_up(&error))
    }

    /// What sessions begin with.
    pub fn config(&self) -> &Arc<ClientConfig> {
        &self.config
    }

    fn of(roots: RootCertStore, own: Vec<CertificateDer<'static>>) -> Result<Self, Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let webpki =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()
                .map_err(|error| Error::General(error.to_string()))?;
        let verifier = Arc::new(Verifier { webpki, own });
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            // what is dangerous is to trust more: `Verifier` says what and why
            .dangerous()
            .with_custom_certificate_verifier(Arc::<Verifier>::clone(&verifier))
            .with_no_client_auth();
        // a resumed session shows no certificate
        config.resumption = Resumption::disabled();
        Ok(Self {
            config: Arc::new(config),
            verifier,
        })
    }

    /// A session with a server of this name, not yet begun.
    pub(super) fn session(&self, name: &str) -> Result<ClientConnection, String> {
        let no_name = || {
            format!(
                "`{}` is not a name that a certificate can have",
                visible(name)
            )
        };
        let server = ServerName::try_from(name.to_owned()).map_err(|_| no_name())?;
        let mut session = ClientConnection::new(Arc::clone(&self.config), server)
            .map_err(|error| not_set_up(&error))?;
        // what is sent is the config's, and as long as it is there
        session.set_buffer_limit(None);
        Ok(session)
    }

    /// When the certificates of a session end, where that is soon.
    pub(super) fn ends_soon(&self, session: &ClientConnection, name: &str) -> Option<SystemTime> {
        let (leaf, others) = session.peer_certificates()?.split_first()?;
        let server = ServerName::try_from(name).ok()?;
        let ahead = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .ok()?
            .checked_add(EXPIRY_WARNING)?;
        let ahead = UnixTime::since_unix_epoch(ahead);
        match self
            .verifier
            .verify_server_cert(leaf, others, &server, &[], ahead)
        {
            Err(Error::InvalidCertificate(CertificateError::ExpiredContext {
                not_after, ..
            })) => SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(not_after.as_secs())),
            _ => None,
        }
    }
}

/// The system's authorities, read once, and those of `ca_file`; and the certificates of `ca_file` by themselves.
fn trusted(
    ca_file: Option<&Path>,
    key: &str,
) -> Result<(RootCertStore, Vec<CertificateDer<'static>>), String> {
    static SYSTEM: OnceLock<RootCertStore> = OnceLock::new();
    let system = SYSTEM.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        roots
    });
    let mut roots = system.clone();
    let mut own = Vec::new();
    if let Some(path) = ca_file {
        own = certificates(path, key)?;
        for certificate in &own {
            roots.add(certificate.clone()).map_err(|error| {
                let reason = match &error {
                    Error::InvalidCertificate(reason) => unsuitable(reason),
                    other => text(other),
                };
                format!(
                    "a certificate in {} cannot be used: it {reason}; check {key}",
                    path.display()
                )
            })?;
        }
    }
    if roots.is_empty() {
        return Err(format!(
            "no certificate authority is known here, so no server can be trusted; install ca-certificates{OR_SET}"
        ));
    }
    Ok((roots, own))
}

/// Whether a certificate can be for that.
pub fn is_name(name: &str) -> bool {
    ServerName::try_from(name).is_ok()
}

fn not_set_up(error: &Error) -> String {
    format!("TLS cannot be set up: {error}")
}

fn certificates(path: &Path, key: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let shown = path.display();
    let mut pem = Vec::new();
    let unreadable =
        |error: std::io::Error| format!("{shown} cannot be read: {}; check {key}", plain(&error));
    let (file, _) = files::open(path, Links::Follow).map_err(|error| unreadable(error.into()))?;
    file.take(CA_FILE_LIMIT)
        .read_to_end(&mut pem)
        .map_err(unreadable)?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("{shown} is not a PEM file: {error}; check {key}"))?;
    if certificates.is_empty() {
        return Err(format!(
            "there is no certificate in {shown}; ca_file wants PEM, -----BEGIN CERTIFICATE-----"
        ));
    }
    Ok(certificates)
}

/// What to do, where there is a key `ca_file`.
const SET_AUTHORITY: &str = "set ca_file to the certificate of that authority";
const SET_CERTIFICATE: &str =
    "where this server has it on purpose, set ca_file to this very certificate";
const OR_SET: &str = ", or set ca_file";

/// The same sentence for those whose table has no `ca_file`.
pub fn without_ca_file(sentence: &str) -> String {
    sentence
        .replace(
            SET_AUTHORITY,
            "install it in the system's store (update-ca-certificates)",
        )
        .replace(SET_CERTIFICATE, "give it one that an authority has signed")
        .replace(OR_SET, "")
}

/// What an error of a session with a server of this name means.
pub(super) fn fault<W>(error: &Error, name: &str) -> Fault<W> {
    match error {
        Error::InvalidCertificate(reason) => Fault::Certificate(distrust(reason, name, "`host`")),
        Error::InvalidMessage(_) => Fault::NoTls(NOT_TLS.to_owned()),
        other => Fault::NoTls(format!("no TLS session came about: {}", text(other))),
    }
}

fn text(error: &dyn std::fmt::Display) -> String {
    cut(&visible(&error.to_string()), SHOWN)
}

/// Why a certificate that should be for `name` is not trusted, as the rest of a sentence that begins with it. `key` is
/// what the config calls the name.
pub fn distrust(reason: &CertificateError, name: &str, key: &str) -> String {
    match reason {
        CertificateError::NotValidForName => {
            format!(
                "is not valid for the name `{}`; set {key} to a name that it has",
                visible(name)
            )
        }
        CertificateError::NotValidForNameContext { presented, .. } => {
            let names: Vec<String> = presented.iter().map(|name| bare_name(name)).collect();
            let names = if names.is_empty() {
                "no name at all".to_owned()
            } else {
                cut(&names.join(", "), SHOWN)
            };
            format!(
                "is not valid for the name `{}` (it is for {names}); set {key} to a name that it has",
                visible(name)
            )
        }
        CertificateError::ExpiredContext { not_after, .. } => format!(
            "ended at {}; renew it (or is the clock of this host wrong)",
            humantime::format_rfc3339_seconds(
                SystemTime::UNIX_EPOCH + Duration::from_secs(not_after.as_secs())
            )
        ),
        CertificateError::Expired => {
            "has ended; renew it (or is the clock of this host wrong)".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "is not valid yet; is the clock of this host right".to_owned()
        }
        // an authority of that name is known, and it is another one that signed
        CertificateError::UnknownIssuer
        | CertificateError::BadSignature
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            format!("comes from an authority that is not trusted here; {SET_AUTHORITY}")
        }
        other => unsuitable(other),
    }
}

/// What is wrong with a certificate whoever has signed it, as the rest of a sentence that begins with it.
fn unsuitable(reason: &CertificateError) -> String {
    use webpki::Error as Cause;
    let said = match (reason, cause(reason)) {
        (_, Some(Cause::CaUsedAsEndEntity)) => {
            return format!(
                "is one of an authority (CA:TRUE) and not of a server; {SET_CERTIFICATE}"
            );
        }
        (_, Some(Cause::EndEntityUsedAsCa)) => {
            "is signed by a certificate that is none of an authority (CA:FALSE)"
        }
        (_, Some(Cause::UnsupportedCertVersion)) => {
            "has another version of X.509 than 3; make a new one that has extensions"
        }
        (
            _,
            Some(
                Cause::PathLenConstraintViolated
                | Cause::NameConstraintViolation
                | Cause::MalformedNameConstraint
                | Cause::UnsupportedNameType,
            ),
        ) => "breaks a limit that one of its authorities has set (path length, names)",
        (
            _,
            Some(
                Cause::MaximumPathDepthExceeded
                | Cause::MaximumPathBuildCallsExceeded
                | Cause::MaximumSignatureChecksExceeded
                | Cause::MaximumNameConstraintComparisonsExceeded,
            ),
        ) => "comes with too many others to follow up",
        (CertificateError::UnhandledCriticalExtension, _)
        | (_, Some(Cause::UnsupportedCriticalExtension)) => {
            "has a critical extension that is not known here"
        }
        (CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. }, _)
        | (_, Some(Cause::EmptyEkuExtension)) => {
            "is not meant for servers; its extended key usage has to name serverAuth"
        }
        (CertificateError::UnsupportedSignatureAlgorithmContext { .. }, _) => {
            "is signed in a way that is not trusted any more (SHA-1, or another old or rare algorithm)"
        }
        (CertificateError::Revoked, _) => "was revoked by its authority",
        (CertificateError::BadEncoding | CertificateError::Other(_), _) => {
            "is damaged, or has something in it that cannot be read"
        }
        // a text of the library's would be a name in its code
        _ => "cannot be trusted: something about it is not known here",
    };
    said.to_owned()
}

/// `DnsName("x")` as the library has it, as a name.
fn bare_name(presented: &str) -> String {
    visible(presented.split('"').nth(1).unwrap_or(presented))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_session_is_told_apart() {
        use CertificateError as C;
        let expected = ServerName::try_from("a.example").unwrap();
        let presented = |names: &[&str]| C::NotValidForNameContext {
            expected: expected.clone(),
            presented: names.iter().map(|&name| name.to_owned()).collect(),
        };
        let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let of_library = |error: webpki::Error| C::Other(rustls::OtherError(Arc::new(error)));
        for (reason, beginning) in [
            (
                C::NotValidForName,
                "is not valid for the name `a.example`; set `host`",
            ),
            (
                presented(&[]),
                "is not valid for the name `a.example` (it is for no name at all)",
            ),
            (
                presented(&["DnsName(\"b.example\")", "odd"]),
                "is not valid for the name `a.example` (it is for b.example, odd); set `host`",
            ),
            (C::Expired, "has ended; renew it"),
            (
                C::ExpiredContext {
                    time: at(9),
                    not_after: at(0),
                },
                "ended at 1970-01-01T00:00:00Z; renew it",
            ),
            (C::NotValidYet, "is not valid yet"),
            (
                C::UnknownIssuer,
                "comes from an authority that is not trusted here; set ca_file",
            ),
            (C::Revoked, "was revoked by its authority"),
            (C::BadEncoding, "is damaged"),
            (
                of_library(webpki::Error::CaUsedAsEndEntity),
                "is one of an authority (CA:TRUE) and not of a server; where this server has it on purpose, set ca_file",
            ),
            (
                of_library(webpki::Error::EndEntityUsedAsCa),
                "is signed by a certificate that is none of an authority",
            ),
            (
                of_library(webpki::Error::UnsupportedCertVersion),
                "has another version of X.509",
            ),
            (
                of_library(webpki::Error::PathLenConstraintViolated),
                "breaks a limit",
            ),
            (
                of_library(webpki::Error::MaximumPathDepthExceeded),
                "comes with too many others",
            ),
            (
                of_library(webpki::Error::UnsupportedCriticalExtension),
                "has a critical extension",
            ),
            (C::InvalidPurpose, "is not meant for servers"),
            (
                of_library(webpki::Error::InvalidSerialNumber),
                "is damaged, or has something in it",
            ),
            (
                C::UnsupportedSignatureAlgorithmContext {
                    signature_algorithm_id: Vec::new(),
                    supported_algorithms: Vec::new(),
                },
                "is signed in a way",
            ),
            (C::UnknownRevocationStatus, "cannot be trusted: "),
        ] {
            let Fault::<()>::Certificate(text) =
                fault(&Error::InvalidCertificate(reason), "a.example")
            else {
                panic!("{beginning}");
            };
            assert!(text.starts_with(beginning), "{text}");
            assert!(!text.contains("Other"), "{text}");
        }
        assert_eq!(
            fault::<()>(
                &Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType),
                "x"
            ),
            Fault::NoTls(NOT_TLS.to_owned())
        );
        assert_eq!(
            fault::<()>(&Error::DecryptError, "x"),
            Fault::NoTls("no TLS session came about: cannot decrypt peer's message".to_owned())
        );
    }

    #[test]
    fn what_the_library_cannot_do_is_said() {
        assert_eq!(
            not_set_up(&Error::FailedToGetRandomBytes),
            "TLS cannot be set up: failed to get random bytes"
        );
        // without any authority there is no verification
        assert!(Trust::of(RootCertStore::empty(), Vec::new()).is_err());
    }

    #[test]
    fn a_ca_file_is_read_or_said_to_be_wrong() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.pem");
        let error = |path: &Path| Trust::load(Some(path), "ca_file").unwrap_err();
        let shown = path.display();
        for unread in [&path, directory.path()] {
            let said = error(unread);
            assert!(
                said.contains(" cannot be read: ") && said.ends_with("; check ca_file"),
                "{said}"
            );
        }
        std::fs::write(&path, "").unwrap();
        assert!(error(&path).contains("no certificate in"));
        std::fs::write(&path, "-----BEGIN CERTIFICATE-----\nx\n").unwrap();
        assert!(error(&path).contains("not a PEM file"), "{}", error(&path));
        std::fs::write(
            &path,
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        )
        .unwrap();
        assert!(
            error(&path).starts_with(&format!("a certificate in {shown} cannot be used: ")),
            "{}",
            error(&path)
        );
    }
}
