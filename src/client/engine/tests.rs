//! What engines were seen to answer, and what stands in the way of an answer.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;

use super::Stream::{Error, Output};
use super::*;

/// An engine that gives one answer to each call, and the calls that it got.
fn engine(
    answers: Vec<Vec<u8>>,
) -> (
    tempfile::TempDir,
    Engine,
    std::thread::JoinHandle<Vec<String>>,
) {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("e.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let served = std::thread::spawn(move || {
        let mut calls = Vec::new();
        for answer in answers {
            let (mut connection, _) = listener.accept().unwrap();
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && connection.read(&mut byte).unwrap_or(0) == 1 {
                head.push(byte[0]);
            }
            let head = String::from_utf8(head).unwrap();
            calls.push(head.lines().next().unwrap_or_default().to_owned());
            let _ = connection.write_all(&answer);
        }
        calls
    });
    (directory, Engine::at(&socket), served)
}

fn answer(status: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

fn far() -> Instant {
    Instant::now() + Duration::from_mins(5)
}

const LONG: Duration = Duration::from_secs(30);

#[test]
fn one_odd_field_does_not_cost_the_details() {
    for (part, stop_timeout) in [
        (r#""Config":{"StopTimeout":-1}"#, None),
        (r#""Config":{"StopTimeout":null}"#, None),
        (
            r#""Config":{"StopTimeout":18446744073709551615}"#,
            Some(u64::MAX),
        ),
        (r#""Config":{"StopTimeout":7},"RestartCount":-1"#, Some(7)),
        (
            r#""RestartCount":null,"HostConfig":null,"Config":null"#,
            None,
        ),
        (r#""NetworkSettings":{"Networks":{"gone":null}}"#, None),
        (r#""NetworkSettings":null"#, None),
    ] {
        let details =
            format!(r#"{{"Id":"ab","State":{{"Status":"running","Running":true}},{part}}}"#);
        let (_directory, engine, served) = engine(vec![answer("200 OK", &details)]);
        let found = engine.details(&["ab"], LONG, far()).remove(0).unwrap();
        served.join().unwrap();
        assert!(found.state.running && found.restart_count == 0, "{part}");
        assert_eq!(found.config.stop_timeout, stop_timeout, "{part}");
    }
    // whether it runs is not guessed
    let (_directory, engine, served) =
        engine(vec![answer("200 OK", r#"{"Id":"ab","State":null}"#)]);
    assert!(engine.details(&["ab"], LONG, far()).remove(0).is_err());
    served.join().unwrap();
}

#[test]
fn a_list_says_who_is_there() {
    let list = r#"[{"Id":"ab","Names":["/other/alias","/web-1"],"Image":"nginx","State":"running","Status":"Up 2 minutes (healthy)",
        "Labels":{"com.docker.compose.project":"app"},"Created":1795763232,
        "Ports":[{"IP":"0.0.0.0","PrivatePort":80,"PublicPort":8080,"Type":"tcp"},{"PrivatePort":443,"Type":"tcp"}],
        "HostConfig":{"NetworkMode":"default"},"NetworkSettings":{"Networks":{"bridge":{"IPAddress":"172.17.0.2"}}},"Mounts":[]},
        {"Id":"cd","Names":null,"Labels":null,"Ports":null,"State":"exited","Status":"Exited (137) 2 seconds ago","Health":{"Status":"none"}}]"#;
    let (_directory, engine, served) = engine(vec![answer("200 OK", list)]);
    let found = engine.list(LONG, far()).unwrap();
    assert_eq!(
        served.join().unwrap(),
        ["GET /containers/json?all=1 HTTP/1.1"]
    );
    assert_eq!((found[0].name(), found[1].name()), ("web-1", ""));
    assert_eq!(found[0].labels["com.docker.compose.project"], "app");
    assert_eq!(found[0].ports[0].public_port, Some(8080));
    assert_eq!(
        found[0].ports[1],
        Port {
            private_port: 443,
            kind: "tcp".to_owned(),
            ..Port::default()
        }
    );
    assert_eq!(found[0].networks.networks["bridge"].address, "172.17.0.2");
    assert_eq!(found[1].state, "exited");
}

#[test]
fn details_are_asked_side_by_side_and_each_stands_for_itself() {
    let running = r#"{"Id":"ab","Name":"/web","RestartCount":2,
        "State":{"Status":"running","Running":true,"OOMKilled":false,"Pid":4711,"ExitCode":0,"Error":"",
          "StartedAt":"2026-11-27T07:07:12.111013406Z","FinishedAt":"0001-01-01T00:00:00Z",
          "Health":{"Status":"unhealthy","FailingStreak":4,"Log":[{"ExitCode":1,"Output":"no\n"}]}},
        "Config":{"Image":"nginx","Labels":null,"Tty":true,"StopTimeout":3,"ExposedPorts":{"80/tcp":{}}},
        "HostConfig":{"NetworkMode":"bridge","RestartPolicy":{"Name":"always"},"LogConfig":{"Type":"json-file"}},
        "NetworkSettings":{"Networks":null,"Ports":{"80/tcp":[{"HostIp":"0.0.0.0","HostPort":"8080"}],"443/tcp":null}}}"#;
    let (_directory, engine, served) = engine(vec![
        answer("200 OK", running),
        answer("404 Not Found", r#"{"message":"No such container: cd"}"#),
        answer("403 Forbidden", "<html>no</html>"),
        answer("200 OK", "[1"),
    ]);
    let found = engine.details(&["ab"], LONG, far()).remove(0).unwrap();
    assert_eq!(found.state.health.as_ref().unwrap().failing_streak, 4);
    assert_eq!(
        found.state.started_at.unwrap().timestamp_subsec_nanos(),
        111_013_406
    );
    assert_eq!(found.state.finished_at, None);
    assert_eq!(
        (
            found.restart_count,
            found.config.stop_timeout,
            found.config.tty
        ),
        (2, Some(3), true)
    );
    assert_eq!(
        found.network_settings.ports["80/tcp"].as_ref().unwrap()[0].host_port,
        "8080"
    );
    assert_eq!(found.network_settings.ports["443/tcp"], None);
    let mut others = engine.details(&["c/../d"], LONG, far());
    assert_eq!(
        others.remove(0),
        Err(Trouble::NotFound("No such container: cd".to_owned()))
    );
    let mut others = engine.details(&["ef"], LONG, far());
    assert_eq!(
        others.remove(0).unwrap_err().to_string(),
        "the engine refused it (403): `<html>no</html>`"
    );
    let broken = engine
        .details(&["gh"], LONG, far())
        .remove(0)
        .unwrap_err()
        .to_string();
    assert!(
        broken.contains("is no container engine: it answered 200 OK with `[1` ("),
        "{broken}"
    );
    // nothing from outside steps out of its place in a path
    assert_eq!(
        served.join().unwrap()[1],
        "GET /containers/c..d/json HTTP/1.1"
    );
}

#[test]
fn orders_are_what_they_are_for_each_engine() {
    let (_directory, engine, served) = engine(vec![
        answer("204 No Content", ""),
        answer("204 No Content", ""),
        answer("304 Not Modified", ""),
        answer(
            "500 Internal Server Error",
            r#"{"cause":"x","message":"container state improper","response":500}"#,
        ),
    ]);
    let order = |order| engine.order("ab", order, LONG, far());
    assert_eq!(order(Order::Restart { stop_timeout: None }), Ok(()));
    assert_eq!(
        order(Order::Restart {
            stop_timeout: Some(7)
        }),
        Ok(())
    );
    assert_eq!(order(Order::Start), Ok(()));
    let refused = order(Order::Start).unwrap_err();
    assert_eq!(
        refused,
        Trouble::Refused {
            status: 500,
            why: "container state improper".to_owned()
        }
    );
    assert_eq!(
        served.join().unwrap(),
        [
            "POST /containers/ab/restart HTTP/1.1",
            "POST /containers/ab/restart?t=7 HTTP/1.1",
            "POST /containers/ab/start HTTP/1.1",
            "POST /containers/ab/start HTTP/1.1"
        ]
    );
}

fn frame(stream: u8, text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).unwrap().to_be_bytes();
    [&[stream, 0, 0, 0][..], &length, text.as_bytes()].concat()
}

#[test]
fn lines_of_a_container_have_their_times() {
    let framed = [
        frame(1, "2026-11-27T07:07:12.112801623Z out\n"),
        frame(2, "2026-11-27T07:07:12.112883023Z err\n"),
        // a long line, and another stream in between
        frame(1, "2026-11-27T07:07:13Z lo"),
        frame(2, "2026-11-27T07:07:14Z \n"),
        frame(1, "2026-11-27T07:07:13Z ng\n"),
        // a frame that is cut
        frame(1, "2026-11-27T07:07:14Z whole\n")[..20].to_vec(),
    ]
    .concat();
    let (_directory, engine, served) = engine(vec![
        answer("200 OK", &framed),
        answer("200 OK", "2026-11-27T07:07:12Z a\r\n2026-11-27T07:07:13Z b"),
        answer(
            "501 Not Implemented",
            r#"{"message":"configured logging driver does not support reading"}"#,
        ),
    ]);
    let read = |since, tty| engine.logs("ab", since, tty, 1 << 20, LONG, far());
    let lines = read(Since::Last(100), false).unwrap();
    let texts = |lines: &Lines| -> Vec<(Stream, String)> {
        let text = |line: &Line| (line.stream, String::from_utf8(line.text.clone()).unwrap());
        lines.lines.iter().map(text).collect()
    };
    assert_eq!(
        texts(&lines),
        [
            (Output, "out".to_owned()),
            (Error, "err".to_owned()),
            (Output, "long".to_owned()),
            (Error, String::new())
        ]
    );
    assert!(lines.is_cut);
    let since = Since::Time {
        seconds: 1_795_763_232,
        nanos: 5,
    };
    let lines = read(since, true).unwrap();
    assert_eq!(
        texts(&lines),
        [(Output, "a".to_owned()), (Output, "b".to_owned())]
    );
    let none = read(Since::Last(5), false).unwrap_err();
    assert!(
        none.to_string().contains("does not support reading"),
        "{none}"
    );
    let calls = served.join().unwrap();
    assert!(calls[0].contains("timestamps=1&tail=100 "), "{calls:?}");
    assert!(
        calls[1].contains("timestamps=1&since=1795763232.000000005 "),
        "{calls:?}"
    );
}

#[test]
fn memory_is_counted_as_the_engine_does() {
    let stats = |text: &str| serde_json::from_str::<Stats>(text).unwrap().memory();
    assert_eq!(
        stats(
            r#"{"memory_stats":{"usage":100,"stats":{"total_inactive_file":30,"inactive_file":5}}}"#
        ),
        Some(70)
    );
    assert_eq!(
        stats(r#"{"memory_stats":{"usage":100,"stats":{"inactive_file":40}}}"#),
        Some(60)
    );
    assert_eq!(
        stats(r#"{"memory_stats":{"usage":100,"stats":{"inactive_file":400}}}"#),
        Some(100)
    );
    assert_eq!(
        stats(r#"{"memory_stats":{"usage":100,"stats":null},"cpu_stats":null}"#),
        Some(100)
    );
    assert_eq!(
        stats(r#"{"read":"0001-01-01T00:00:00Z","memory_stats":{}}"#),
        None
    );
}

#[test]
fn an_engine_that_is_not_there_or_silent_is_told_so() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("e.sock");
    let said = |timeout| {
        let said = Engine::at(&socket)
            .list(timeout, far())
            .unwrap_err()
            .to_string();
        said.replace(directory.path().to_str().unwrap(), "DIR")
    };
    assert_eq!(
        said(LONG),
        "the engine at DIR/e.sock does not answer: there is no such socket; is the engine running"
    );
    std::fs::write(&socket, "").unwrap();
    assert!(said(LONG).ends_with("the file there is not a socket"));
    std::fs::remove_file(&socket).unwrap();
    let listener = UnixListener::bind(&socket).unwrap();
    assert_eq!(
        said(Duration::from_millis(300)),
        "the engine at DIR/e.sock does not answer: it accepted the call and was silent for 300ms"
    );
    drop(listener);
    assert!(said(LONG).ends_with("nothing listens there; is the engine running"));
    let long = Engine::at(Path::new(&format!("/{}", "x".repeat(200)))).list(LONG, far());
    assert!(
        long.unwrap_err()
            .to_string()
            .contains("no path of a socket")
    );
}

#[test]
fn the_socket_is_found_as_docker_and_podman_have_it() {
    let there = |paths: &'static [&'static str]| {
        move |path: &Path| paths.iter().any(|it| Path::new(it) == path)
    };
    let plain = Environment::default();
    let of_user = Environment {
        runtime_dir: Some("/run/user/7".into()),
        ..Environment::default()
    };
    let host = |host: &str| Environment {
        docker_host: Some(host.to_owned()),
        ..Environment::default()
    };
    let all = &[
        "/run/docker.sock",
        "/run/user/7/docker.sock",
        "/run/podman/podman.sock",
        "/run/user/7/podman/podman.sock",
    ];
    for (environment, paths, found) in [
        (&plain, &all[..], "/run/docker.sock"),
        (&of_user, &all[1..], "/run/user/7/docker.sock"),
        (&plain, &all[1..], "/run/podman/podman.sock"),
        (&of_user, &all[3..], "/run/user/7/podman/podman.sock"),
        (&of_user, &[], "/run/docker.sock"),
        (&host("unix:///x/y.sock"), &all[..], "/x/y.sock"),
    ] {
        assert_eq!(find(environment, there(paths)), Ok(PathBuf::from(found)));
    }
    for far in ["tcp://10.0.0.1:2375", "ssh://me@host", "unix://relative"] {
        let why = find(&host(far), |_| true).unwrap_err();
        assert!(why.contains(far) && why.contains("unix:///path"), "{why}");
    }
}

#[test]
fn who_may_use_the_socket_is_said_once() {
    let error = std::io::Error::from_raw_os_error(libc::EACCES);
    let path = std::path::Path::new("/run/docker.sock");
    let fault = crate::client::errno::unix_fault(&error, path);
    assert_eq!(
        why_silent(&fault),
        "cannot be connected to: no permission for the socket or a directory above it; \
         run the watchdog as root, or as a user in the group of the socket (usually `docker`)"
    );
}
