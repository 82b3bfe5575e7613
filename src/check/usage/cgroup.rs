//! What a control group uses, by the files of cgroups(7): version 2, version 1, or both side by side.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A group deeper than this, or with more below it, is not a unit's.
const MOST_GROUPS: usize = 4096;

/// From here on a limit of version 1 is none.
const NO_LIMIT: u64 = 1 << 62;

/// Where a hierarchy of groups is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mount {
    point: PathBuf,
    /// The group that is mounted there.
    root: String,
}

impl Mount {
    /// The directory of a group.
    fn directory(&self, group: &str) -> Option<PathBuf> {
        let inside = if self.root == "/" {
            group
        } else {
            let rest = group.strip_prefix(&self.root)?;
            (rest.is_empty() || rest.starts_with('/')).then_some(rest)?
        };
        let inside = inside.trim_start_matches('/');
        // a name from systemd or the kernel has none, and nothing else is read
        let is_plain = inside.split('/').all(|part| part != "..");
        is_plain.then(|| self.point.join(inside))
    }
}

/// The hierarchies of this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hierarchies {
    unified: Option<Mount>,
    memory: Option<Mount>,
    cpuacct: Option<Mount>,
    systemd: Option<Mount>,
}

impl Hierarchies {
    /// Those that are mounted here.
    pub(crate) fn read() -> Self {
        Self::of(&fs::read("/proc/self/mountinfo").unwrap_or_default())
    }

    /// Those of a table of mounts (proc_pid_mountinfo(5)).
    fn of(mounts: &[u8]) -> Self {
        let mut found = Self::default();
        for line in mounts.split(|byte| *byte == b'\n') {
            let text = String::from_utf8_lossy(line);
            let Some((front, back)) = text.split_once(" - ") else {
                continue;
            };
            let (front, back): (Vec<&str>, Vec<&str>) =
                (front.split(' ').collect(), back.split(' ').collect());
            let (Some(root), Some(point), Some(kind)) = (front.get(3), front.get(4), back.first())
            else {
                continue;
            };
            let mount = Mount {
                point: PathBuf::from(point),
                root: (*root).to_owned(),
            };
            let options: Vec<&str> = back
                .get(2)
                .map_or(Vec::new(), |all| all.split(',').collect());
            match *kind {
                "cgroup2" => _ = found.unified.get_or_insert(mount),
                "cgroup" if options.contains(&"memory") => _ = found.memory.get_or_insert(mount),
                "cgroup" if options.contains(&"cpuacct") => _ = found.cpuacct.get_or_insert(mount),
                "cgroup" if options.contains(&"name=systemd") => {
                    found.systemd.get_or_insert(mount);
                }
                _ => {}
            }
        }
        found
    }

    /// The memory that a group uses, without what the kernel gives back first, as the engines count it: `memory.current`
    /// less `inactive_file`; in version 1 `memory.usage_in_bytes` less `total_inactive_file`. Absent where it is not
    /// counted.
    pub(crate) fn memory(&self, group: &str) -> io::Result<Option<u64>> {
        let versions = [
            (&self.unified, "memory.current", "inactive_file"),
            (&self.memory, "memory.usage_in_bytes", "total_inactive_file"),
        ];
        for (mount, file, inactive) in versions {
            let Some(directory) = directory(mount.as_ref(), group) else {
                continue;
            };
            if let Some(used) = read(&directory.join(file))? {
                let stat = read(&directory.join("memory.stat"))?.unwrap_or_default();
                let inactive = value(&stat, inactive).unwrap_or_default();
                let used = used.trim().parse::<u64>().map_err(io::Error::other)?;
                return Ok(Some(used.saturating_sub(inactive)));
            }
        }
        Ok(None)
    }

    /// The least limit on the memory of a group and of those that it is in.
    pub(crate) fn memory_limit(&self, group: &str) -> Option<u64> {
        let versions = [
            (&self.unified, "memory.max"),
            (&self.memory, "memory.limit_in_bytes"),
        ];
        let limits = versions.into_iter().flat_map(|(mount, file)| {
            let directory = directory(mount.as_ref(), group);
            let top = mount.as_ref().map(|mount| mount.point.clone());
            let above: Vec<PathBuf> = directory
                .iter()
                .flat_map(|directory| directory.ancestors())
                .take_while(|above| top.as_ref().is_some_and(|top| above.starts_with(top)))
                .map(|above| above.join(file))
                .collect();
            above.into_iter()
        });
        limits
            .filter_map(|file| read(&file).ok().flatten()?.trim().parse::<u64>().ok())
            .filter(|limit| *limit < NO_LIMIT)
            .min()
    }

    /// The limit on the memory of a process, by the groups that it is in: `groups` is its `/proc/PID/cgroup`.
    pub(crate) fn memory_limit_of_process(&self, groups: &str) -> Option<u64> {
        let limits = groups.lines().filter_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let (controllers, group) = (parts.next()?, parts.next()?);
            let is_counted =
                controllers.is_empty() || controllers.split(',').any(|it| it == "memory");
            is_counted.then(|| self.memory_limit(group))?
        });
        limits.min()
    }

    /// The processor time that a group has used, in microseconds: `usage_usec` of `cpu.stat`; in version 1
    /// `cpuacct.usage`. Absent where it is not counted.
    pub(crate) fn cpu_us(&self, group: &str) -> io::Result<Option<u64>> {
        if let Some(directory) = directory(self.unified.as_ref(), group) {
            let stat = read(&directory.join("cpu.stat"))?;
            if let Some(used) = stat.and_then(|stat| value(&stat, "usage_usec")) {
                return Ok(Some(used));
            }
        }
        let Some(directory) = directory(self.cpuacct.as_ref(), group) else {
            return Ok(None);
        };
        let nanos = read(&directory.join("cpuacct.usage"))?;
        Ok(nanos
            .and_then(|nanos| nanos.trim().parse::<u64>().ok())
            .map(|nanos| nanos / 1000))
    }

    /// The PIDs of a group and of all below it. Absent where the group is nowhere.
    pub(crate) fn pids(&self, group: &str) -> io::Result<Option<Vec<i32>>> {
        let mounts = [&self.unified, &self.systemd, &self.memory, &self.cpuacct];
        for mount in mounts {
            let Some(directory) = directory(mount.as_ref(), group) else {
                continue;
            };
            let (mut pids, mut open) = (Vec::new(), vec![directory]);
            let mut groups = 0;
            let mut is_there = false;
            while let Some(directory) = open.pop() {
                groups += 1;
                if groups > MOST_GROUPS {
                    return Err(io::Error::other("it has too many groups below it"));
                }
                // one below may vanish meanwhile
                let Some(members) = read(&directory.join("cgroup.procs"))? else {
                    continue;
                };
                is_there = true;
                pids.extend(members.lines().filter_map(|pid| pid.parse::<i32>().ok()));
                let Ok(entries) = fs::read_dir(&directory) else {
                    continue;
                };
                let below = entries
                    .flatten()
                    .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
                open.extend(below.map(|entry| entry.path()));
            }
            if is_there {
                return Ok(Some(pids));
            }
        }
        Ok(None)
    }
}

/// The control group of a container that a process is in, where that surely is the container's: `groups` is the process's
/// `/proc/PID/cgroup`, and the group has the container's id in its name. Of groups that the container has made below
/// it, as a systemd in it does, the uppermost counts.
pub(crate) fn of_container(groups: &str, id: &str) -> Option<String> {
    if id.len() < 32 {
        return None;
    }
    let path = |line: &str| {
        let group = line.splitn(3, ':').nth(2)?.to_owned();
        let begins = group.find(id)? + id.len();
        let ends = group[begins..]
            .find('/')
            .map_or(group.len(), |end| begins + end);
        Some(group[..ends].to_owned())
    };
    groups.lines().find_map(path)
}

/// The directory of a group in a hierarchy. Not of the root: that is the whole machine.
fn directory(mount: Option<&Mount>, group: &str) -> Option<PathBuf> {
    let mount = mount?;
    let directory = mount.directory(group)?;
    let is_root =
        directory.as_os_str().as_bytes().len() <= mount.point.as_os_str().as_bytes().len() + 1;
    (!is_root).then_some(directory)
}

/// The text of a file; absent where it is not there.
fn read(file: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(Some(text)),
        // a group that is being removed
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The number behind a name, in lines of `name number`.
fn value(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.find(|(key, _)| *key == name)?.1.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hierarchy in a directory, with files of `name: text`.
    fn with(files: &[(&str, &str)], table: &str) -> (tempfile::TempDir, Hierarchies) {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let table = table.replace("DIR", dir.path().to_str().unwrap());
        let found = Hierarchies::of(table.as_bytes());
        (dir, found)
    }

    const V2: &str = "30 24 0:26 / DIR rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
    const HYBRID: &str = "40 30 0:31 / DIR/memory rw - cgroup cgroup rw,memory\n\
        41 30 0:32 / DIR/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
        42 30 0:33 / DIR/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
        43 30 0:34 / DIR/unified rw - cgroup2 cgroup2 rw\n";

    #[test]
    fn the_group_of_a_container_has_its_id_in_its_name() {
        let id = "0123456789abcdef".repeat(4);
        for (groups, expected) in [
            (
                "0::/system.slice/docker-ID.scope",
                Some("/system.slice/docker-ID.scope"),
            ),
            (
                "0::/system.slice/docker-ID.scope/init.scope",
                Some("/system.slice/docker-ID.scope"),
            ),
            (
                "12:memory:/docker/ID\n5:cpu,cpuacct:/docker/ID\n0::/",
                Some("/docker/ID"),
            ),
            (
                "0::/\n4:memory:/docker/ID/system.slice/a.service\n",
                Some("/docker/ID"),
            ),
            (
                "0::/user.slice/libpod-ID.scope/container",
                Some("/user.slice/libpod-ID.scope"),
            ),
            // of another one, or of none
            ("0::/docker/0123", None),
            ("0::/", None),
            ("", None),
        ] {
            let found = of_container(&groups.replace("ID", &id), &id);
            assert_eq!(found, expected.map(|it| it.replace("ID", &id)), "{groups}");
        }
        assert_eq!(of_container("0::/docker/ab", "ab"), None);
    }

    #[test]
    fn version_2_is_read() {
        let (_dir, groups) = with(
            &[
                ("system.slice/a.service/memory.current", "5000000\n"),
                (
                    "system.slice/a.service/memory.stat",
                    "anon 1\ninactive_file 2000000\n",
                ),
                ("system.slice/a.service/memory.max", "max\n"),
                ("system.slice/memory.max", "9000000\n"),
                (
                    "system.slice/a.service/cpu.stat",
                    "usage_usec 123\nuser_usec 100\n",
                ),
                ("system.slice/a.service/cgroup.procs", "7\n"),
                ("system.slice/a.service/inner/cgroup.procs", "8\n9\n"),
                ("system.slice/b.service/cgroup.procs", ""),
                ("memory.current", "1\n"),
                ("cgroup.procs", "1\n"),
            ],
            V2,
        );
        let a = "/system.slice/a.service";
        assert_eq!(groups.memory(a).unwrap(), Some(3_000_000));
        assert_eq!(groups.memory_limit(a), Some(9_000_000));
        assert_eq!(groups.cpu_us(a).unwrap(), Some(123));
        assert_eq!(groups.pids(a).unwrap(), Some(vec![7, 8, 9]));
        // one whose memory is not counted, one that is not there, one that is all of the machine
        for group in ["/system.slice/b.service", "/gone", "/", "", "/../x"] {
            assert_eq!(groups.memory(group).unwrap(), None, "{group}");
            assert_eq!(groups.cpu_us(group).unwrap(), None, "{group}");
        }
        assert_eq!(
            groups.pids("/system.slice/b.service").unwrap(),
            Some(vec![])
        );
        assert_eq!(groups.pids("/gone").unwrap(), None);
        assert_eq!(groups.pids("/").unwrap(), None);
        let of_process = |groups_of: &str| groups.memory_limit_of_process(groups_of);
        assert_eq!(of_process("0::/system.slice/a.service\n"), Some(9_000_000));
        assert_eq!(of_process("0::/\n"), None);
        assert_eq!(of_process("garbage\n"), None);
    }

    #[test]
    fn version_1_is_read_beside_version_2() {
        let (_dir, groups) = with(
            &[
                ("memory/x/memory.usage_in_bytes", "5000\n"),
                (
                    "memory/x/memory.stat",
                    "inactive_file 1\ntotal_inactive_file 1000\n",
                ),
                ("memory/x/memory.limit_in_bytes", "9223372036854771712\n"),
                ("memory/x/y/memory.limit_in_bytes", "7000\n"),
                ("cpu,cpuacct/x/cpuacct.usage", "5000000\n"),
                ("systemd/x/cgroup.procs", "7\n"),
                ("unified/z/cpu.stat", "usage_usec 9\n"),
            ],
            HYBRID,
        );
        assert_eq!(groups.memory("/x").unwrap(), Some(4000));
        assert_eq!(groups.memory_limit("/x"), None);
        assert_eq!(groups.memory_limit("/x/y"), Some(7000));
        assert_eq!(groups.cpu_us("/x").unwrap(), Some(5000));
        assert_eq!(groups.cpu_us("/z").unwrap(), Some(9));
        assert_eq!(groups.pids("/x").unwrap(), Some(vec![7]));
        let of_process = groups.memory_limit_of_process("4:memory:/x/y\n2:cpuacct:/x\n0::/\n");
        assert_eq!(of_process, Some(7000));
    }

    #[test]
    fn a_mount_of_a_part_is_entered_from_there() {
        let mount = Mount {
            point: "/sys/fs/cgroup".into(),
            root: "/docker/abc".to_owned(),
        };
        let directory = |group: &str| mount.directory(group);
        assert_eq!(directory("/docker/abc/x"), Some("/sys/fs/cgroup/x".into()));
        assert_eq!(directory("/docker/abcd"), None);
        assert_eq!(directory("/system.slice"), None);
        assert_eq!(Hierarchies::of(b"nothing\n1 - 2\n"), Hierarchies::default());
    }

    #[test]
    fn what_cannot_be_read_is_an_error_and_nonsense_too() {
        let (_dir, groups) = with(&[("a/memory.current", "x\n")], V2);
        assert!(groups.memory("/a").is_err());
        let (_dir, groups) = with(&[("a/memory.current/x", "1")], V2);
        assert!(groups.memory("/a").is_err());
    }
}
