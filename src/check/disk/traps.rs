//! What of a disk check may not do what was meant: each is made once, as the next run will make it.

use super::Rule;
use super::judge::is_full;
use super::look::{Answer, mount_of};
use crate::check::trap::Trap;

/// File systems in memory.
const IN_MEMORY: [&str; 3] = ["tmpfs", "ramfs", "devtmpfs"];

/// What a person should know of a disk check before it is relied on, given what asking gave just now.
pub(super) fn traps(rule: &Rule, answer: &Answer) -> Option<Trap> {
    let path = rule.path.display();
    let figures = match answer {
        Ok(figures) => figures,
        Err(why) => {
            return Some(Trap::of(
                "path",
                format!(
                    "{path} {why}; until that is mended the check is unknown in each run, and finds nothing"
                ),
                "write a directory that is always there, such as the one where the disk is mounted",
            ));
        }
    };
    if is_full(rule, figures) {
        return Some(Trap::of(
            "",
            format!(
                "{path} is fuller than its limits allow: it would be disk_full in the next run"
            ),
            "make room, or give it other limits",
        ));
    }
    let (point, kind) = mount_of(&rule.path)?;
    if figures.read_only {
        return Some(Trap::of(
            "path",
            format!(
                "nothing can be written to {path}: the file system that holds it ({}, {kind}) is read-only, and never fills up",
                point.display()
            ),
            "write a path on the disk that is meant",
        ));
    }
    // a path below the place that a disk would be mounted at is on the one beneath while it is not
    if IN_MEMORY.contains(&&*kind) && rule.path != point {
        return Some(Trap::of(
            "path",
            format!(
                "{path} is in memory, on the {kind} that is mounted at {}",
                point.display()
            ),
            "see that this is what is meant, and that its disk is mounted",
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::Figures;
    use super::*;

    #[test]
    fn traps_say_what_the_check_will_come_to() {
        let figures = |used| Figures {
            used,
            free: 100 - used,
            ..Figures::default()
        };
        let read_only = Figures {
            read_only: true,
            ..figures(1)
        };
        for (path, answer, key, part) in [
            (
                "/x",
                Err("is not there".to_owned()),
                "path",
                "/x is not there; until that is mended",
            ),
            (
                "/",
                Ok(figures(95)),
                "",
                "would be disk_full in the next run",
            ),
            ("/", Ok(read_only), "path", "nothing can be written to /:"),
        ] {
            let trap = traps(&Rule::of(path), &answer).unwrap();
            assert!(trap.message.contains(part), "{trap:?}");
            assert_eq!(trap.place, crate::check::trap::Place::Table(key));
        }
    }
}
