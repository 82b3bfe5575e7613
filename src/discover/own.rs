//! Which container the watchdog itself runs in.

use std::fs;

use crate::client::engine::Listed;

/// The id of the container that this process runs in, where it is one of these.
pub(super) fn id(listed: &[Listed]) -> Option<String> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let here = Here {
        hostname: nix::unistd::gethostname()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default(),
        groups: read("/proc/self/cgroup"),
        mounts: read("/proc/self/mountinfo"),
    };
    let own = listed.iter().find(|container| here.is_in(&container.id));
    own.map(|container| container.id.clone())
}

/// What this process sees of where it is.
struct Here {
    hostname: String,
    groups: String,
    mounts: String,
}

impl Here {
    fn is_in(&self, id: &str) -> bool {
        // an engine names a container's host by the first of its id
        let by_hostname = self.hostname.len() >= 12 && id.starts_with(&self.hostname);
        let by_group = || id.len() >= 32 && self.groups.contains(id);
        by_hostname || by_group() || self.mounts.lines().any(|line| is_of_container(line, id))
    }
}

/// Whether a mount is of a file that an engine keeps for a container, in that container. On the host such directories are
/// mounted as well, but elsewhere.
fn is_of_container(line: &str, id: &str) -> bool {
    let mut fields = line.split(' ').skip(3);
    let (root, point) = (fields.next(), fields.next());
    let is_file =
        point.is_some_and(|it| ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf"].contains(&it));
    is_file && id.len() >= 32 && root.is_some_and(|root| root.contains(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_knows_its_container_by_hostname_control_group_or_mounts() {
        let id = "0123456789abcdef".repeat(4);
        let file = format!("1 2 8:1 /docker/containers/{id}/hostname /etc/hostname rw - ext4 x rw");
        let on_host =
            format!("1 2 0:1 / /var/lib/docker/containers/{id}/mounts/shm rw - tmpfs shm rw");
        for (hostname, groups, mounts, is_in) in [
            ("host", "0::/", "", false),
            ("", "0::/", "", false),
            ("0", "0::/", "", false),
            ("0123456789ab", "0::/", "", true),
            ("0123456789ac", "0::/", "", false),
            ("host", &*format!("0::/docker/{id}"), "", true),
            ("host", "0::/", &*file, true),
            ("host", "0::/", &*on_host, false),
        ] {
            let here = Here {
                hostname: hostname.to_owned(),
                groups: groups.to_owned(),
                mounts: mounts.to_owned(),
            };
            assert_eq!(here.is_in(&id), is_in, "{hostname} {groups} {mounts}");
        }
    }
}
