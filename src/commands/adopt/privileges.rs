//! What the kernel says of the privileges of a program: the signs that it was root and has given that up by itself.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::sys;

/// The ports that only root may listen on, where the kernel does not say.
const FIRST_FREE_PORT: u16 = 1024;

/// The signs that the kernel has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Privileges {
    /// It could become root again: its real or saved user is root.
    pub(super) can_return: bool,
    /// It has kept a privilege.
    pub(super) capabilities: bool,
    /// It has changed its user since its program began: the kernel shows its files to root alone.
    pub(super) has_changed: bool,
    /// A port of root's that it listens on.
    pub(super) port: Option<u16>,
    /// Its program itself gives privileges to who starts it.
    pub(super) are_given: bool,
}

impl Privileges {
    /// Reads them; none of a program of root's.
    pub(super) fn of(proc: &Path, uid: u32, status: &str, program: Option<&Path>) -> Self {
        if uid == 0 {
            return Self::default();
        }
        let line = |key: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(key))
                .map(str::trim)
        };
        let is_set = |key: &str| {
            line(key).is_some_and(|set| u64::from_str_radix(set, 16).is_ok_and(|set| set != 0))
        };
        let is_set_user = program
            .and_then(|program| fs::metadata(program).ok())
            .is_some_and(|meta| meta.mode() & 0o4000 != 0);
        Self {
            can_return: line("Uid:")
                .is_some_and(|ids| ids.split_ascii_whitespace().take(3).any(|id| id == "0")),
            // those that were handed to it are in the ambient set as well
            capabilities: is_set("CapPrm:") && !is_set("CapAmb:"),
            has_changed: fs::metadata(proc.join("environ")).is_ok_and(|meta| meta.uid() != uid),
            port: low_port(proc),
            are_given: is_set_user || program.is_some_and(sys::gives_capabilities),
        }
    }
}

/// The lowest port that a process listens on, where it is one of root's.
fn low_port(proc: &Path) -> Option<u16> {
    let first_free = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(FIRST_FREE_PORT);
    let sockets: BTreeSet<String> = fs::read_dir(proc.join("fd"))
        .ok()?
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .filter_map(|path| {
            Some(
                path.to_str()?
                    .strip_prefix("socket:[")?
                    .strip_suffix(']')?
                    .to_owned(),
            )
        })
        .collect();
    if sockets.is_empty() {
        return None;
    }
    ["tcp", "tcp6", "udp", "udp6"]
        .iter()
        .filter_map(|kind| fs::read_to_string(proc.join("net").join(kind)).ok())
        .flat_map(|text| listening(&text, &sockets))
        .filter(|&port| port < first_free)
        .min()
}

/// The ports of sockets that listen, or wait for whoever sends, in the form of /proc/net/tcp.
fn listening(text: &str, sockets: &BTreeSet<String>) -> Vec<u16> {
    text.lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            let port = u16::from_str_radix(fields.get(1)?.rsplit_once(':')?.1, 16).ok()?;
            // LISTEN of TCP, and of UDP what is not connected
            let waits = matches!(*fields.get(3)?, "0A" | "07");
            (waits && port > 0 && sockets.contains(*fields.get(9)?)).then_some(port)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_as_the_kernel_writes_them() {
        let text = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:0035 00000000:0000 0A 00000000:00000000 00:00000000 00000000   104        0 4711 1\n\
             1: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000   104        0 4712 1\n\
             2: 0100007F:0050 0100007F:9000 01 00000000:00000000 00:00000000 00000000   104        0 4713 1\n";
        let sockets: BTreeSet<String> = ["4711", "4712", "4713"].map(str::to_owned).into();
        assert_eq!(listening(text, &sockets), [53, 8080]);
        assert_eq!(listening(text, &BTreeSet::new()), [0_u16; 0]);
        assert_eq!(listening("", &sockets), [0_u16; 0]);
    }
}
