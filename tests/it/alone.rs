//! Tests that disturb all others on a machine: each is run by itself.

use crate::scene::{Scene, Service, render};

/// A process whose arguments can be read by nobody. Whoever runs the watchdog beside it ends it.
const UNREADABLE: &str = "
    exec 8<>/dev/fuse
    mount -i -t fuse -o fd=8,rootmode=40000,user_id=0,group_id=0 none {dir}/far || exit 99
    /usr/bin/python3 {dir}/files.py 8 & server=$!
    exec 8>&-
    ./unreadable far/page & process=$!
    while ! ( timeout -s KILL 0.2 cat /proc/$process/cmdline >/dev/null; test $? = 137 ); do
        kill -0 $process || exit 98
    done 2>/dev/null
    echo pid=$process
";

#[test]
#[ignore = "needs root, gcc and python3"]
fn a_process_whose_arguments_cannot_be_read_costs_only_those_who_need_it() {
    let by_command_line =
        |name: &str| format!("{{ command_line = '{{dir}}/prog\\.sh {name}( |$)' }}");
    let (runs, gone) = (by_command_line("runs"), by_command_line("gone"));
    let scene = Scene::with(&format!(
        "check_timeout = \"1s\"\n{}",
        render(&[
            &Service::new("runs").known_by(Some(&runs)),
            &Service::new("gone").known_by(Some(&gone)),
            &Service::new("file"),
            &Service::new("dead").known_by(Some("{ pid_file = \"dead.pid\" }")),
        ])
    ));
    for (name, text) in [
        ("files.py", include_str!("unreadable/files.py")),
        ("process.c", include_str!("unreadable/process.c")),
    ] {
        scene.write(name, text);
    }
    std::fs::create_dir(scene.path("far")).unwrap();
    let built = scene.shell("cc -pthread -o {dir}/unreadable {dir}/process.c");
    assert_eq!(built.code, 0, "{}", built.stderr);
    scene.check().exits(1);
    scene.check().exits(0);
    scene.kill_and_reap(scene.last("gone"));
    scene.kill_and_reap(scene.last("dead"));
    let outcome = scene.shell(&format!(
        "exec unshare -m /bin/sh -c '{UNREADABLE}
            {{watchdog}} check --json >{{dir}}/report; code=$?
            kill -KILL $server $process
            wait
            exit $code'"
    ));
    assert!(![98, 99].contains(&outcome.code), "{}", outcome.stderr);
    let report: serde_json::Value = serde_json::from_str(&scene.read("report")).unwrap();
    let services = report["services"].as_array().unwrap();
    let verdict = |name: &str| {
        let service = services.iter().find(|service| service["name"] == name);
        service.unwrap()["verdict"].as_str().unwrap().to_owned()
    };
    // those who are known without it are looked after, and what may be that very process is not started again
    assert_eq!(
        ["runs", "file", "dead", "gone"].map(verdict),
        ["healthy", "healthy", "restarted", "unknown"],
        "{report}"
    );
    assert_eq!(outcome.code, 3);
    let hidden: i32 = outcome
        .stdout
        .trim()
        .trim_start_matches("pid=")
        .parse()
        .unwrap();
    let gone = services
        .iter()
        .find(|service| service["name"] == "gone")
        .unwrap();
    let finding = &gone["findings"][0];
    assert_eq!(finding["code"], "process_unreadable", "{finding}");
    let message = finding["message"].as_str().unwrap();
    assert!(
        message.contains(&format!("the command line of PID {hidden} cannot be read")),
        "{message}"
    );
    assert_eq!(scene.starts("gone").len(), 1);
    // with it gone, the next run restarts what is missing
    scene.check().exits(1).verdict("gone", "restarted");
}
