//! Whose port it is: whether one of some processes holds the socket that listens at an address, read from /proc.
//!
//! Only for `validate`, which tells of a probe that another program answers. It may be wrong where a socket is handed
//! on, so nothing else relies on it.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use super::Address;
use crate::check::process::ProcessStatus;

/// The state of a TCP socket that listens, as the kernel writes it.
const LISTENS: &str = "0A";

/// The flag of a unix socket that listens.
const ACCEPTS: &str = "00010000";

/// Whether a service runs, and whether it is one of its processes that listens at the address, where those are known.
pub fn who_listens(status: &ProcessStatus, address: &Address) -> (Option<bool>, Option<bool>) {
    match status {
        ProcessStatus::Running(running) => {
            let pids: Vec<i32> = running.all.iter().map(|process| process.pid).collect();
            (Some(true), is_held_by(address, &pids))
        }
        ProcessStatus::NotRunning => (Some(false), None),
        ProcessStatus::Unknown | ProcessStatus::NotApplicable => (None, None),
    }
}

/// Whether one of these processes listens at the address; none where that cannot be known: no listener is found,
/// a name, or a process whose descriptors may not be read.
fn is_held_by(address: &Address, pids: &[i32]) -> Option<bool> {
    let inodes = match address {
        Address::Ip(address) => {
            let read = |path| fs::read_to_string(path).unwrap_or_default();
            let mut inodes = tcp_listeners(&read("/proc/net/tcp"), *address);
            inodes.extend(tcp_listeners(&read("/proc/net/tcp6"), *address));
            inodes
        }
        Address::Unix(path) => {
            let table = fs::read("/proc/net/unix").unwrap_or_default();
            unix_listeners(&String::from_utf8_lossy(&table), path)
        }
        Address::Name { .. } => return None,
    };
    if inodes.is_empty() || pids.is_empty() {
        return None;
    }
    let mut is_known = true;
    for pid in pids {
        let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else {
            is_known = false;
            continue;
        };
        for descriptor in descriptors.flatten() {
            let Ok(target) = fs::read_link(descriptor.path()) else {
                continue;
            };
            let target = target.to_string_lossy();
            let inode = target
                .strip_prefix("socket:[")
                .and_then(|rest| rest.strip_suffix(']'));
            if inode.is_some_and(|inode| inodes.iter().any(|known| known == inode)) {
                return Some(true);
            }
        }
    }
    is_known.then_some(false)
}

/// The inodes of sockets in a table of TCP sockets that would accept a connection to the address.
fn tcp_listeners(table: &str, address: SocketAddr) -> Vec<String> {
    let accepts = |line: &&str| {
        let mut words = line.split_whitespace().skip(1);
        let local = words.next().and_then(local);
        words.nth(1) == Some(LISTENS)
            && local.is_some_and(|(ip, port)| {
                let here = address.ip();
                port == address.port()
                    && (ip.to_canonical() == here.to_canonical()
                        || ip.is_unspecified() && (ip.is_ipv6() || here.is_ipv4()))
            })
    };
    table
        .lines()
        .skip(1)
        .filter(accepts)
        .filter_map(|line| line.split_whitespace().nth(9))
        .map(str::to_owned)
        .collect()
}

/// `0100007F:0FA2`, an address as 32-bit words in the order of the machine, and a port.
fn local(text: &str) -> Option<(IpAddr, u16)> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| {
        let digits = ip.get(at * 8..at * 8 + 8)?;
        u32::from_str_radix(digits, 16).ok().map(u32::to_ne_bytes)
    };
    let ip = match ip.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for (at, part) in bytes.chunks_exact_mut(4).enumerate() {
                part.copy_from_slice(&word(at)?);
            }
            IpAddr::V6(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some((ip, port))
}

fn unix_listeners(table: &str, path: &Path) -> Vec<String> {
    // number, references, protocol, flags, type, state, inode (padded), path (with whatever is in it)
    let accepts = |line: &str| {
        let mut words = line.splitn(7, ' ');
        let flags = words.nth(3)?;
        let (inode, bound) = words.nth(2)?.trim_start().split_once(' ')?;
        (flags == ACCEPTS && Path::new(bound) == path).then(|| inode.to_owned())
    };
    table.lines().skip(1).filter_map(accepts).collect()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;

    use super::*;

    fn own_pid() -> i32 {
        i32::try_from(std::process::id()).unwrap()
    }

    #[test]
    fn the_process_that_listens_is_known() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address::Ip(listener.local_addr().unwrap());
        assert_eq!(is_held_by(&address, &[own_pid()]), Some(true));
        // it has ended, or never was
        assert_eq!(is_held_by(&address, &[i32::MAX]), None);
        assert_eq!(is_held_by(&address, &[i32::MAX, own_pid()]), Some(true));
        let child = std::process::Command::new("sleep").arg("60").spawn();
        let mut child = child.unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let held = is_held_by(&address, &[pid]);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(held, Some(false));
        let wildcard = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = wildcard.local_addr().unwrap().port();
        let address = Address::parse(&format!("127.0.0.1:{port}")).unwrap();
        assert_eq!(is_held_by(&address, &[own_pid()]), Some(true));
        drop(wildcard);
        assert_eq!(is_held_by(&address, &[own_pid()]), None);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a b.sock");
        let unix = Address::Unix(path.clone());
        assert_eq!(is_held_by(&unix, &[own_pid()]), None);
        let _listener = UnixListener::bind(&path).unwrap();
        assert_eq!(is_held_by(&unix, &[own_pid()]), Some(true));
        let name = Address::parse("localhost:1").unwrap();
        assert_eq!(is_held_by(&name, &[own_pid()]), None);
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn the_tables_of_the_kernel_are_read() {
        let tcp = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            \x20  0: 0100007F:0FA2 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0 100\n\
            \x20  1: 0100007F:0FA2 0100007F:D431 01 00000000:00000000 00:00000000 00000000  1000        0 4712 1 0 20\n\
            \x20  2: 00000000:0FA3 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 1 0 100\n";
        let tcp6 = "  sl  local_address                         remote_address                        st\n\
            \x20  0: 00000000000000000000000001000000:0FA2 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4714 1\n\
            \x20  1: 00000000000000000000000000000000:0FA4 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4715 1\n";
        let at = |text: &str| text.parse().unwrap();
        assert_eq!(tcp_listeners(tcp, at("127.0.0.1:4002")), ["4711"]);
        assert_eq!(tcp_listeners(tcp, at("10.1.2.3:4003")), ["4713"]);
        assert!(tcp_listeners(tcp, at("10.1.2.3:4002")).is_empty());
        assert!(tcp_listeners(tcp, at("[::1]:4003")).is_empty());
        assert_eq!(tcp_listeners(tcp6, at("[::1]:4002")), ["4714"]);
        assert_eq!(tcp_listeners(tcp6, at("127.0.0.1:4004")), ["4715"]);
        let unix = "Num       RefCount Protocol Flags    Type St Inode Path\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 20001 /run/x.sock\n\
            0000000000000000: 00000003 00000000 00000000 0001 03 20002 /run/x.sock\n\
            0000000000000000: 00000002 00000000 00010000 0001 01   301 /run/y z.sock\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 20004\n";
        assert_eq!(unix_listeners(unix, Path::new("/run/x.sock")), ["20001"]);
        assert_eq!(unix_listeners(unix, Path::new("/run/y z.sock")), ["301"]);
        assert!(unix_listeners(unix, Path::new("/run/z.sock")).is_empty());
    }
}
