use super::*;
use crate::fixtures::at;

fn reading(boot: &str) -> Reading {
    Reading {
        wall: at(0),
        boot_ms: 1,
        awake_ms: 1,
        boot_id: boot.into(),
    }
}

fn unit() -> Unit {
    Unit {
        unit: "a.service".to_owned(),
        manager: Manager::System,
        rerun: false,
    }
}

/// A unit as systemd 252 shows it, with some lines changed.
fn shown(changes: &str) -> Status {
    let text = format!(
        "Id=a.service\nNames=a.service\nLoadState=loaded\nActiveState=active\nSubState=running\nMainPID=4711\n\
         NRestarts=0\nResult=success\nExecMainCode=0\nExecMainStatus=0\nInvocationID=abc\nJob=0\n\
         ConditionResult=yes\n{changes}"
    );
    parse(text.as_bytes()).remove(0)
}

fn judged(changes: &str) -> Seen {
    let status = shown(changes);
    judge(
        &unit(),
        Some(&status),
        None,
        &reading("a"),
        Duration::from_secs(10),
    )
}

#[test]
fn blocks_are_read_one_by_one_and_known_by_any_name() {
    let text = b"Type=simple\nMainPID=7\nNRestarts=2\nId=ssh.service\nNames=ssh.service sshd.service\n\
                 LoadState=loaded\nActiveState=active\nSubState=running\n\n\
                 Id=no.service\nNames=no.service\nLoadState=not-found\n\
                 LoadError=org.freedesktop.systemd1.NoSuchUnit \"Unit no.service not found.\"\n\
                 ActiveState=inactive\nSubState=dead\nMainPID=0\n\n\
                 Id=x.timer\nNames=x.timer\nActiveState=active\nLoadState=loaded\nSubState=waiting\n";
    let statuses = parse(text);
    assert_eq!(statuses.len(), 3);
    assert!(statuses[0].names.contains(&"sshd.service".to_owned()));
    assert_eq!(
        (statuses[0].main_pid, statuses[0].restarts),
        (Some(7), Some(2))
    );
    assert_eq!(statuses[1].load, "not-found");
    assert_eq!(statuses[1].load_error, "Unit no.service not found");
    assert_eq!((statuses[1].main_pid, statuses[1].restarts), (None, None));
    assert_eq!(
        (statuses[2].main_pid, statuses[2].active),
        (None, Active::Active)
    );
    assert!(parse(b"").is_empty());
    assert!(parse(b"\xff\xfe\nnonsense\n\n\n=\n").is_empty());
}

#[test]
fn every_state_has_its_finding() {
    use Severity::{Critical, Unknown};
    for (changes, expected, says) in [
        ("", None, ""),
        ("ActiveState=reloading\nSubState=reload", None, ""),
        (
            "ActiveState=inactive\nSubState=dead\nMainPID=0",
            Some((INACTIVE, Critical)),
            "a.service is inactive (dead)",
        ),
        (
            "ActiveState=inactive\nSubState=dead\nConditionResult=no\nConditionTimestampMonotonic=5",
            Some((INACTIVE, Critical)),
            "a condition in its unit file did not hold",
        ),
        (
            "ActiveState=inactive\nSubState=dead\nConditionResult=no\nConditionTimestampMonotonic=0",
            Some((INACTIVE, Critical)),
            "(dead)",
        ),
        (
            "ActiveState=failed\nSubState=failed\nResult=exit-code\nExecMainCode=1\nExecMainStatus=3",
            Some((FAILED, Critical)),
            "exit status 3, result exit-code",
        ),
        (
            "ActiveState=failed\nResult=exit-code\nExecMainCode=1\nExecMainStatus=203",
            Some((FAILED, Critical)),
            "its program could not be run",
        ),
        (
            "ActiveState=failed\nResult=signal\nExecMainCode=2\nExecMainStatus=9",
            Some((FAILED, Critical)),
            "ended by signal 9 (SIGKILL), result signal",
        ),
        (
            "ActiveState=failed\nResult=start-limit-hit\nExecMainCode=1\nExecMainStatus=1",
            Some((FAILED, Critical)),
            "a.service has failed: it was started too often, and systemd refuses to start it again",
        ),
        (
            "ActiveState=failed\nResult=oom-kill\nExecMainCode=2\nExecMainStatus=9",
            Some((FAILED, Critical)),
            "a.service has failed: the kernel was out of memory and killed it",
        ),
        (
            "ActiveState=failed\nResult=watchdog\nExecMainCode=2\nExecMainStatus=6",
            Some((FAILED, Critical)),
            "a.service has failed: it stopped telling systemd that it is alive",
        ),
        (
            "ActiveState=failed\nResult=timeout\nExecMainCode=0",
            Some((FAILED, Critical)),
            "a.service has failed: it did not start or stop in time",
        ),
        (
            "ActiveState=failed\nSubState=failed",
            Some((FAILED, Critical)),
            "has failed: failed",
        ),
        (
            "ActiveState=deactivating\nSubState=stop-sigterm",
            Some((crate::check::TIMED_OUT, Unknown)),
            "a.service was still stopping (stop-sigterm) after 10s; systemd ends that by its TimeoutStopSec",
        ),
        (
            "LoadState=masked\nActiveState=inactive",
            Some((MASKED, Unknown)),
            "a.service is masked: somebody has forbidden to start it; systemctl unmask a.service",
        ),
        (
            "LoadState=not-found\nActiveState=inactive",
            Some((NOT_FOUND, Unknown)),
            "systemd has no unit a.service; is its name right, and its manager?",
        ),
        (
            "LoadState=bad-setting\nLoadError=x.y \"Unit a.service has a bad unit file setting.\"\nActiveState=inactive",
            Some((NOT_FOUND, Unknown)),
            "systemd cannot load a.service (bad-setting): Unit a.service has a bad unit file setting; systemd-analyze verify a.service",
        ),
        // what runs is well, whatever became of its file since
        ("LoadState=masked", None, ""),
        ("LoadState=not-found", None, ""),
        ("ActiveState=activating\nSubState=start", None, ""),
        ("ActiveState=inactive\nSubState=dead\nJob=77", None, ""),
    ] {
        let seen = judged(changes);
        let found = seen.findings.first();
        assert_eq!(
            found.map(|finding| (&*finding.code, finding.severity)),
            expected,
            "{changes}"
        );
        let message = found.map_or("", |finding| &finding.message);
        assert!(message.contains(says), "{changes}: {message}");
        assert!(seen.findings.len() <= 1);
    }
}

#[test]
fn a_unit_that_something_else_starts_and_a_job_may_be_inactive_after_they_ended_well() {
    use Severity::Critical;
    let inactive = "ActiveState=inactive\nSubState=dead\nMainPID=0\n";
    let failed = "ActiveState=failed\nSubState=failed\nMainPID=0\nResult=exit-code\nExecMainCode=1\nExecMainStatus=3\n";
    for (properties, why) in [
        ("Type=simple\nTriggeredBy=", None),
        ("Type=oneshot\nRemainAfterExit=yes\nTriggeredBy=", None),
        (
            "Type=oneshot\nRemainAfterExit=no",
            Some("a.service is a job that ends (Type=oneshot), so it is not started here"),
        ),
        (
            "Type=simple\nTriggeredBy=a.socket b.timer",
            Some("a.service is started by a.socket, b.timer, so it is not started here"),
        ),
        (
            "Type=oneshot\nRemainAfterExit=yes\nTriggeredBy=a.path",
            Some("a.service is started by a.path, so it is not started here"),
        ),
    ] {
        let seen = judged(&format!("{inactive}{properties}"));
        let found = seen.findings.first().map(|finding| &*finding.code);
        let expected = if why.is_some() { None } else { Some(INACTIVE) };
        assert_eq!(found, expected, "{properties}");
        assert_eq!(seen.standing, Presence::Down);

        let seen = judged(&format!("{failed}{properties}"));
        let finding = &seen.findings[0];
        assert_eq!((&*finding.code, finding.severity), (FAILED, Critical));
        match (seen.left_alone, why) {
            (None, None) => {}
            (Some(said), Some(why)) => assert!(said.starts_with(why), "{said}"),
            other => panic!("{properties}: {other:?}"),
        }

        // while it runs it is judged as any other
        assert_eq!(judged(properties).left_alone, None);

        let status = shown(&format!("{failed}{properties}"));
        let rerun = Unit {
            rerun: true,
            ..unit()
        };
        let seen = judge(&rerun, Some(&status), None, &reading("a"), Duration::ZERO);
        assert_eq!((&*seen.findings[0].code, seen.left_alone), (FAILED, None));
    }
}

#[test]
fn where_it_stands_is_told_from_what_is_wrong() {
    for (changes, standing, busy) in [
        ("", Presence::Up(Some(4711)), None),
        ("MainPID=0", Presence::Up(None), None),
        ("ActiveState=inactive\nMainPID=0", Presence::Down, None),
        ("ActiveState=failed\nMainPID=0", Presence::Down, None),
        ("ActiveState=deactivating", Presence::Unseen, None),
        (
            "LoadState=masked\nActiveState=inactive",
            Presence::Unseen,
            None,
        ),
        (
            "ActiveState=activating\nSubState=auto-restart\nMainPID=0\nResult=exit-code\nExecMainCode=1\nExecMainStatus=1",
            Presence::Down,
            Some("systemd is about to restart a.service by itself after exit status 1"),
        ),
        (
            "ActiveState=activating\nSubState=start",
            Presence::Up(Some(4711)),
            Some("systemd is starting a.service (start)"),
        ),
        (
            "ActiveState=inactive\nMainPID=0\nJob=3",
            Presence::Down,
            Some("a.service waits in systemd's queue to be started"),
        ),
    ] {
        let seen = judged(changes);
        assert_eq!(seen.standing, standing, "{changes}");
        match (seen.activating, busy) {
            (None, None) => {}
            (Some(said), Some(busy)) => assert!(said.contains(busy), "{said}"),
            other => panic!("{changes}: {other:?}"),
        }
    }
    let nothing = judge(&unit(), None, None, &reading("a"), Duration::ZERO);
    assert_eq!(nothing.findings[0].code, NOT_FOUND);
    assert_eq!(
        nothing.findings[0].message,
        "systemctl returned no data for a.service; is it a template without an instance?"
    );
    let its_user = Unit {
        manager: Manager::User,
        ..unit()
    };
    assert_eq!(
        unreachable(&its_user, None, "no answer").findings[0].message,
        "the user's systemd could not be asked for a.service: no answer"
    );
    let silent = unreachable(&unit(), None, "no answer");
    assert_eq!(
        silent.findings[0].message,
        "systemd could not be asked for a.service: no answer"
    );
    assert_eq!(
        (&*silent.findings[0].code, silent.standing),
        (UNREACHABLE, Presence::Unseen)
    );
}

#[test]
fn f28_restarts_by_systemd_itself_are_counted_since_the_last_run() {
    let before = |restarts, boot: &str| {
        Some(LastSeen {
            restarts,
            boot_id: boot.into(),
            without_main: false,
        })
    };
    for (last_seen, now, grown) in [
        (None, 58, None),
        (before(0, "a"), 0, None),
        (before(2, "a"), 2, None),
        (before(0, "a"), 58, Some("58 times")),
        (before(57, "a"), 58, Some("once")),
        // started by hand in between: the count began anew
        (before(9, "a"), 0, None),
        (before(9, "a"), 2, Some("2 times")),
        // so it does with each boot
        (before(1, "b"), 3, Some("3 times")),
        (before(1, "b"), 0, None),
    ] {
        let status = shown(&format!("NRestarts={now}"));
        let seen = judge(
            &unit(),
            Some(&status),
            last_seen.as_ref(),
            &reading("a"),
            Duration::ZERO,
        );
        assert_eq!(seen.last_seen, before(now, "a"));
        match (seen.findings.first(), grown) {
            (None, None) => {}
            (Some(finding), Some(times)) => {
                assert_eq!(
                    (&*finding.code, finding.severity),
                    (RESTARTED, Severity::Warning)
                );
                assert_eq!(
                    finding.message,
                    format!("systemd has restarted a.service {times} by itself since the last run")
                );
            }
            other => panic!("{last_seen:?} to {now}: {other:?}"),
        }
    }
    // what could not be seen forgets nothing
    let silent = unreachable(&unit(), before(4, "a").as_ref(), "no answer");
    assert_eq!(silent.last_seen, before(4, "a"));
}

#[test]
fn what_systemds_own_exit_statuses_mean_is_said() {
    for (status, meaning) in [
        (200, "its working directory could not be entered"),
        (203, "its program could not be run"),
        (208, "its standard input could not be set up"),
        (209, "its standard output could not be set up"),
        (216, "its group could not be taken on"),
        (217, "its user could not be taken on"),
        (226, "its mount namespace could not be set up"),
    ] {
        let seen = judged(&format!(
            "ActiveState=failed\nResult=exit-code\nExecMainCode=1\nExecMainStatus={status}"
        ));
        assert_eq!(
            seen.findings[0].message,
            format!("a.service has failed: exit status {status} ({meaning}), result exit-code")
        );
    }
}

#[test]
fn units_are_asked_for_in_calls_of_about_the_same_size() {
    for (count, expected) in [
        (1, &[1][..]),
        (100, &[100]),
        (101, &[51, 50]),
        (300, &[100, 100, 100]),
        (301, &[76, 76, 76, 73]),
    ] {
        let units: Vec<String> = (0..count)
            .map(|number| format!("{number}.service"))
            .collect();
        let sizes: Vec<usize> = ask::calls(&units).map(<[String]>::len).collect();
        assert_eq!(sizes, expected);
        assert_eq!(ask::calls(&units).collect::<Vec<_>>().concat(), units);
    }
    assert_eq!(ask::calls(&[]).count(), 0);
}
