//! What the errors of sockets mean.

use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::Duration;

use super::{Fault, Step};

/// Whether it failed for want of descriptors or memory on this side.
pub(super) fn is_shortage(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)
    )
}

/// What an error of a socket means; `elapsed` is how long the connection was tried.
pub(super) fn fault<W>(error: &io::Error, step: Step, elapsed: Duration) -> Fault<W> {
    match error.raw_os_error() {
        Some(libc::ECONNREFUSED) => Fault::Refused,
        Some(libc::ECONNRESET | libc::EPIPE | libc::ECONNABORTED) => Fault::Reset(step),
        // the kernel gave up sooner
        Some(libc::ETIMEDOUT) => Fault::TimedOut {
            step,
            after: elapsed,
        },
        code => Fault::Unreadable(unreadable(code, error)),
    }
}

/// What an error of the connection to a unix socket means. It looks at the path, and may block.
pub(super) fn unix_fault<W>(error: &io::Error, path: &Path) -> Fault<W> {
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENOTDIR) => Fault::NoSocket,
        Some(libc::ECONNREFUSED) => {
            match path.metadata() {
                Ok(meta) if !meta.file_type().is_socket() => Fault::NotASocket,
                _ => Fault::Refused,
            }
        }
        Some(libc::EPROTOTYPE) => Fault::Unreadable(
            "is a socket of another type (datagram), and no stream can be opened to it".to_owned(),
        ),
        Some(libc::EACCES | libc::EPERM) => Fault::Unreadable(
            "cannot be connected to: no permission for the socket or a directory above it; run the watchdog as a user who may, or as root"
                .to_owned(),
        ),
        code => Fault::Unreadable(unreadable(code, error)),
    }
}

fn unreadable(code: Option<i32>, error: &io::Error) -> String {
    match code {
        Some(libc::EHOSTUNREACH | libc::EHOSTDOWN) => {
            "cannot be reached: no route to host; is the network up".to_owned()
        }
        Some(libc::ENETUNREACH | libc::ENETDOWN) => {
            "cannot be reached: network is unreachable; is the network up".to_owned()
        }
        Some(libc::EACCES | libc::EPERM) => {
            "cannot be connected to: no permission; does a firewall of this host forbid it"
                .to_owned()
        }
        Some(libc::EADDRNOTAVAIL) => {
            "cannot be connected to: no local address or port is left for it".to_owned()
        }
        Some(libc::EAFNOSUPPORT) => {
            "cannot be connected to: this host has no such kind of address".to_owned()
        }
        _ => format!("cannot be connected to: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_other_side_did_is_told_apart_from_what_this_side_cannot() {
        let after = Duration::from_secs(3);
        let path = Path::new("/no/such/socket");
        let tcp = |code| -> Fault<()> {
            fault(&io::Error::from_raw_os_error(code), Step::Connect, after)
        };
        let unix = |code| -> Fault<()> { unix_fault(&io::Error::from_raw_os_error(code), path) };
        assert_eq!(tcp(libc::ECONNREFUSED), Fault::Refused);
        assert_eq!(tcp(libc::ECONNRESET), Fault::Reset(Step::Connect));
        assert_eq!(
            tcp(libc::ETIMEDOUT),
            Fault::TimedOut {
                step: Step::Connect,
                after
            }
        );
        for (code, part) in [
            (libc::EHOSTUNREACH, "no route to host"),
            (libc::ENETUNREACH, "network is unreachable"),
            (libc::EACCES, "does a firewall of this host forbid it"),
            (libc::EPERM, "does a firewall of this host forbid it"),
            (libc::EADDRNOTAVAIL, "no local address or port"),
            (libc::EAFNOSUPPORT, "no such kind of address"),
            (libc::EINVAL, "cannot be connected to: "),
        ] {
            let Fault::Unreadable(text) = tcp(code) else {
                panic!("{code}");
            };
            assert!(text.contains(part), "{text}");
        }
        assert_eq!(unix(libc::ENOENT), Fault::NoSocket);
        assert_eq!(unix(libc::ENOTDIR), Fault::NoSocket);
        assert_eq!(unix(libc::ECONNREFUSED), Fault::Refused);
        for code in [libc::EACCES, libc::EPROTOTYPE, libc::ELOOP] {
            assert!(matches!(unix(code), Fault::Unreadable(_)), "{code}");
        }
        for code in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM] {
            assert!(is_shortage(&io::Error::from_raw_os_error(code)));
        }
        assert!(!is_shortage(&io::Error::from_raw_os_error(libc::EAGAIN)));
    }
}
