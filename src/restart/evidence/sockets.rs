//! Sockets, as `/proc/PID/net` lists them.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::text::printable;

/// More of the name of a unix socket is not shown.
const NAME_LIMIT: usize = 120;

/// One socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Socket {
    /// By which descriptors name it.
    pub(super) inode: u64,
    /// TCP, UDP or unix.
    pub(super) protocol: &'static str,
    /// Its own address, or name.
    pub(super) local: String,
    /// That of the other side, where it is known and there is one.
    pub(super) peer: Option<String>,
    /// As `ss` calls it.
    pub(super) state: &'static str,
    /// Bytes that have come and were not read, or of a listening one the connections that were not accepted; absent where
    /// the kernel does not tell.
    pub(super) received: Option<u64>,
    /// Bytes that were written, and that the other side has not confirmed.
    pub(super) unsent: Option<u64>,
    /// How often they were sent again.
    pub(super) retransmits: u64,
}

impl Socket {
    /// Whether it has another side.
    pub(super) fn is_connected(&self) -> bool {
        self.peer.is_some() || self.state == "CONNECTED"
    }

    /// `TCP 127.0.0.1:49560 -> 127.0.0.1:51809 ESTABLISHED, 0 bytes received and not read, 0 bytes sent and not confirmed`.
    pub(super) fn describe(&self) -> String {
        let mut text = format!("{} {}", self.protocol, self.local);
        if let Some(peer) = &self.peer {
            let _ = write!(text, " -> {peer}");
        }
        let _ = write!(text, " {}", self.state);
        match (self.received, self.state) {
            (Some(count), "LISTEN") => {
                let _ = write!(text, ", connections not accepted: {count}");
                return text;
            }
            (Some(count), _) => {
                let _ = write!(text, ", {count} bytes received and not read");
            }
            (None, _) => {}
        }
        if let Some(count) = self.unsent {
            let _ = write!(text, ", {count} bytes sent and not confirmed");
        }
        if self.retransmits > 0 {
            let _ = write!(text, ", sent again {} times", self.retransmits);
        }
        text
    }
}

/// The files of `/proc/PID/net` with sockets, and how a line of each is read.
pub(super) const FILES: [(&str, Reader); 5] = [
    ("tcp", |line| internet(line, "TCP")),
    ("tcp6", |line| internet(line, "TCP")),
    ("udp", |line| internet(line, "UDP")),
    ("udp6", |line| internet(line, "UDP")),
    ("unix", unix),
];

/// Reads a line.
pub(super) type Reader = fn(&[u8]) -> Option<Socket>;

/// A line of `tcp`, `tcp6`, `udp` or `udp6`.
fn internet(line: &[u8], protocol: &'static str) -> Option<Socket> {
    let line = std::str::from_utf8(line).ok()?;
    let mut fields = line.split_ascii_whitespace().skip(1);
    let local = address(fields.next()?)?;
    let peer = address(fields.next()?)?;
    let state = u8::from_str_radix(fields.next()?, 16).ok()?;
    let (unsent, received) = fields.next()?.split_once(':')?;
    let queue = |text: &str| u64::from_str_radix(text, 16).ok();
    let retransmits = queue(fields.nth(1)?)?;
    let inode = fields.nth(2)?.parse().ok()?;
    let state = tcp_state(state);
    let has_peer = peer.port() != 0 && state != "LISTEN";
    Some(Socket {
        inode,
        protocol,
        local: local.to_string(),
        peer: has_peer.then(|| peer.to_string()),
        // UDP has no more states than these two
        state: match (protocol, has_peer) {
            ("UDP", true) => "CONNECTED",
            ("UDP", false) => "UNCONNECTED",
            _ => state,
        },
        received: Some(queue(received)?),
        unsent: Some(queue(unsent)?),
        retransmits,
    })
}

/// `0100007F:CA61`: words in the order of the machine.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let words: Option<Vec<u32>> = (0..ip.len())
        .step_by(8)
        .map(|at| u32::from_str_radix(ip.get(at..at + 8)?, 16).ok())
        .collect();
    let bytes: Vec<u8> = words?.into_iter().flat_map(u32::to_ne_bytes).collect();
    let ip = match bytes.len() {
        4 => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        16 => {
            let ip = Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?);
            ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4)
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

/// The names of include/net/tcp_states.h.
fn tcp_state(number: u8) -> &'static str {
    const NAMES: [&str; 12] = [
        "ESTABLISHED",
        "SYN_SENT",
        "SYN_RECV",
        "FIN_WAIT1",
        "FIN_WAIT2",
        "TIME_WAIT",
        "CLOSE",
        "CLOSE_WAIT",
        "LAST_ACK",
        "LISTEN",
        "CLOSING",
        "NEW_SYN_RECV",
    ];
    let place = usize::from(number).checked_sub(1);
    place.and_then(|place| NAMES.get(place)).unwrap_or(&"?")
}

/// A line of `unix`. The kernel lists no other side, and no queues.
fn unix(line: &[u8]) -> Option<Socket> {
    const LISTENS: u64 = 1 << 16;
    let mut fields = line
        .splitn(9, |&b| b == b' ')
        .filter(|field| !field.is_empty());
    let mut text = || std::str::from_utf8(fields.next()?).ok();
    let _ = text()?;
    let _ = text()?;
    let _ = text()?;
    let flags = u64::from_str_radix(text()?, 16).ok()?;
    let _ = text()?;
    let state = text()?;
    // it is padded, so that the path may stand behind any number of blanks
    let rest = line.splitn(7, |&b| b == b' ').nth(6)?.trim_ascii();
    let mut rest = rest.splitn(2, |&b| b == b' ');
    let inode = std::str::from_utf8(rest.next()?).ok()?.parse().ok()?;
    let name = rest.next().unwrap_or(b"(without a name)");
    Some(Socket {
        inode,
        protocol: "unix",
        local: printable(name, NAME_LIMIT),
        peer: None,
        state: match state {
            _ if flags & LISTENS != 0 => "LISTEN",
            "01" => "UNCONNECTED",
            "02" => "CONNECTING",
            "03" => "CONNECTED",
            "04" => "DISCONNECTING",
            _ => "?",
        },
        received: None,
        unsent: None,
        retransmits: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn addresses_states_and_queues_are_read() {
        let line = b"   3: 0100007F:C198 0100007F:CA61 01 00000010:00000203 01:00000014 00000002     0        0 24514 2 00000000aa746355 20 0 0 10 -1";
        let socket = internet(line, "TCP").unwrap();
        assert_eq!(socket.inode, 24514);
        assert_eq!(
            socket.describe(),
            "TCP 127.0.0.1:49560 -> 127.0.0.1:51809 ESTABLISHED, 515 bytes received and not read, 16 bytes sent and not confirmed, sent again 2 times"
        );
        let line = b"   1: 0100007F:CA61 00000000:0000 0A 00000000:00000001 00:00000000 00000000     0        0 24513 2 00000000f6fef269 100 0 0 10 0";
        let socket = internet(line, "TCP").unwrap();
        assert_eq!(
            socket.describe(),
            "TCP 127.0.0.1:51809 LISTEN, connections not accepted: 1"
        );
        assert!(!socket.is_connected());
        let line = b"   1: 0000000000000000FFFF00000100007F:0050 B80D0120000000000000000001000000:C000 08 00000000:00000000 00:00000000 00000000  1000        0 7 1 0 20 4 30 10 -1";
        let socket = internet(line, "TCP").unwrap();
        assert!(
            socket
                .describe()
                .starts_with("TCP 127.0.0.1:80 -> [2001:db8::1]:49152 CLOSE_WAIT"),
            "{socket:?}"
        );
        let line = b"  315: 00000000:14E9 00000000:0000 07 00000000:00000000 00:00000000 00000000   107        0 16434 2 0000000000000000 0";
        assert_eq!(internet(line, "UDP").unwrap().state, "UNCONNECTED");
    }

    #[test]
    fn unix_sockets_are_read_with_or_without_a_name() {
        let line = b"00000000b5f3a3a2: 00000002 00000000 00010000 0001 01 16434 /run/a b.sock";
        let socket = unix(line).unwrap();
        assert_eq!(
            (socket.inode, socket.describe().as_str()),
            (16434, "unix /run/a b.sock LISTEN")
        );
        let line = b"00000000b5f3a3a2: 00000003 00000000 00000000 0001 03    77";
        let socket = unix(line).unwrap();
        assert_eq!((socket.inode, socket.state), (77, "CONNECTED"));
        assert!(socket.is_connected());
    }

    #[test]
    fn what_is_no_socket_is_none() {
        for line in [
            &b"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt"[..],
            b"Num       RefCount Protocol Flags    Type St Inode Path",
            b"",
            b"1: 0100007F:C198",
        ] {
            assert!(internet(line, "TCP").is_none() && unix(line).is_none());
        }
    }
}
