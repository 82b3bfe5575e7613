//! What is said of systemd units, by a `systemctl` and a `journalctl` that stand before the real ones in the PATH.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::Golden;
use crate::scene::{MAIL, Outcome, Scene};

/// Answers `show` with a file, which a start or a stop may change.
const SYSTEMCTL: &str = "#!/bin/sh
case \" $* \" in
*' show '*) cat {dir}/show; cat {dir}/complaint >&2 ;;
*' start '*) [ ! -e {dir}/on-start ] || cp {dir}/on-start {dir}/show
    [ ! -e {dir}/refused ] || { cat {dir}/refused >&2; exit 1; } ;;
*' stop '*) [ ! -e {dir}/on-stop ] || cp {dir}/on-stop {dir}/show ;;
esac
";

/// A scene in which systemd says this of a unit.
fn unit(keys: &str, show: &str) -> Scene {
    // what is stopping is waited for as long as that
    let limit = if show.contains("deactivating") {
        "1s"
    } else {
        "20s"
    };
    let scene = Scene::with(&format!(
        "check_timeout = \"{limit}\"\n{MAIL}[service.a]\nsystemd = {{ unit = \"a.service\" }}\nrestart = {{ {keys} }}\n"
    ));
    fs::create_dir(scene.path("sbin")).unwrap();
    for (name, text) in [
        ("sbin/systemctl", SYSTEMCTL),
        ("sbin/journalctl", "#!/bin/sh\necho the disk is full\n"),
    ] {
        scene.write(name, scene.fill(text));
        fs::set_permissions(scene.path(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    scene.write("complaint", "");
    says(&scene, "show", show);
    scene
}

fn says(scene: &Scene, file: &str, show: &str) {
    let show = if show.is_empty() {
        String::new()
    } else {
        format!(
            "Id=a.service\nNames=a.service\n{}\n",
            show.replace(' ', "\n")
        )
    };
    scene.write(file, show);
}

fn check(golden: &mut Golden, scene: &Scene, args: &str) -> Outcome {
    let script = format!(
        "exec unshare -m /bin/sh -c 'mount --bind {{dir}}/sbin /usr/local/sbin && exec {{watchdog}} {args}'"
    );
    golden.command(
        scene,
        &format!("watchdog {args}"),
        scene.shell_command(&script),
    )
}

#[test]
#[ignore = "needs root"]
fn units_and_how_they_are() {
    let mut golden = Golden::new("units");
    golden.replace_pattern(r"after [0-9.]+m?s; systemd", "after {span}; systemd");
    for show in [
        "LoadState=loaded ActiveState=active SubState=running NRestarts=0",
        "LoadState=loaded ActiveState=inactive SubState=dead NRestarts=0",
        "LoadState=loaded ActiveState=inactive SubState=dead ConditionResult=no ConditionTimestampMonotonic=5",
        "LoadState=loaded ActiveState=inactive SubState=dead Job=17",
        "LoadState=loaded ActiveState=activating SubState=start-pre",
        "LoadState=loaded ActiveState=activating SubState=auto-restart Result=exit-code ExecMainCode=1 ExecMainStatus=3",
        "LoadState=loaded ActiveState=deactivating SubState=stop-sigterm",
        "LoadState=masked ActiveState=inactive SubState=dead",
        "LoadState=not-found ActiveState=inactive SubState=dead",
        "LoadState=bad-setting ActiveState=inactive SubState=dead",
        "LoadState=loaded ActiveState=failed SubState=failed Result=start-limit-hit",
        "LoadState=loaded ActiveState=failed SubState=failed Result=timeout",
        "LoadState=loaded ActiveState=failed SubState=failed Result=oom-kill",
        "LoadState=loaded ActiveState=failed SubState=failed Result=watchdog",
        "LoadState=loaded ActiveState=failed SubState=failed Result=signal ExecMainCode=2 ExecMainStatus=9",
        "LoadState=loaded ActiveState=failed SubState=failed Result=resources",
        "LoadState=loaded ActiveState=failed SubState=failed Result=exit-code ExecMainCode=1 ExecMainStatus=1",
    ] {
        golden.title(show);
        check(&mut golden, &unit("max_per_hour = 0", show), "check");
    }
    for status in [200, 203, 208, 209, 216, 217, 226] {
        let show = format!(
            "LoadState=loaded ActiveState=failed SubState=failed Result=exit-code ExecMainCode=1 ExecMainStatus={status}"
        );
        golden.title(&format!("exit status {status}"));
        check(&mut golden, &unit("max_per_hour = 0", &show), "check");
    }
    golden.title("it was restarted by systemd");
    let running = "LoadState=loaded ActiveState=active SubState=running NRestarts=";
    let scene = unit("max_per_hour = 0", &format!("{running}1"));
    check(&mut golden, &scene, "check");
    says(&scene, "show", &format!("{running}2"));
    check(&mut golden, &scene, "check");
    says(&scene, "show", &format!("{running}5"));
    check(&mut golden, &scene, "check");
    golden.title("systemctl says nothing");
    says(&scene, "show", "");
    scene.write("complaint", "Failed to connect to bus: No such file\n");
    check(&mut golden, &scene, "check");
    golden.title("systemctl says nothing of it");
    scene.write("show", "Id=b.service\nNames=b.service\n");
    check(&mut golden, &scene, "check");
    golden.compare();
}

#[test]
#[ignore = "needs root"]
fn units_and_how_they_are_restarted() {
    let mut golden = Golden::new("unit_restarts");
    let keys =
        "settle = \"300ms\", start_timeout = \"500ms\", stop_timeout = \"300ms\", max_per_hour = 9";
    let failed = "LoadState=loaded ActiveState=failed SubState=failed Result=exit-code ExecMainCode=1 ExecMainStatus=3";
    let running = "LoadState=loaded ActiveState=active SubState=running NRestarts=0 InvocationID=1";
    let dead = "LoadState=loaded ActiveState=inactive SubState=dead";
    for (what, then) in [
        ("it comes up", running),
        ("it fails again", failed),
        ("it ends", dead),
        (
            "a condition does not hold",
            "LoadState=loaded ActiveState=inactive SubState=dead ConditionResult=no ConditionTimestampMonotonic=5",
        ),
        (
            "it does not come up in time",
            "LoadState=loaded ActiveState=activating SubState=start",
        ),
    ] {
        let scene = unit(keys, failed);
        says(&scene, "on-start", then);
        golden.title(what);
        check(&mut golden, &scene, "-v check");
    }
    golden.title("the start is refused");
    let scene = unit(keys, failed);
    scene.write("refused", "Failed to start a.service: Access denied\n");
    check(&mut golden, &scene, "check");
    golden.mails(&scene);
    golden.title("it does not stop");
    let scene = unit(keys, running);
    says(
        &scene,
        "on-stop",
        "LoadState=loaded ActiveState=deactivating SubState=stop-sigterm InvocationID=1",
    );
    check(&mut golden, &scene, "-v restart a");
    golden.compare();
}
