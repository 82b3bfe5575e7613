//! Engines that answer as a real one cannot be made to: refused, cut short, half, by a proxy, for one container and not for
//! another. Each is a double of a few lines behind a unix socket.

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use crate::scene::{Outcome, Scene};

/// What a double says to a path; it ends the connection after that, or never.
enum Says {
    Status(u16, String),
    /// More is announced than comes.
    Half(String),
    /// Nothing, until who asked has gone.
    Nothing,
    Raw(Vec<u8>),
}

fn serve(scene: &Scene, answer: impl Fn(&str) -> Says + Send + Sync + 'static) {
    let path = scene.path("engine.sock");
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(path).unwrap();
    let answer = Arc::new(answer);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, answer) = (stream.unwrap(), Arc::clone(&answer));
            thread::spawn(move || respond(stream, &*answer));
        }
    });
}

fn respond(mut stream: UnixStream, answer: &dyn Fn(&str) -> Says) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let request = lines.next().and_then(Result::ok).unwrap_or_default();
    let is_head = |line: std::io::Result<String>| line.is_ok_and(|line| !line.is_empty());
    while lines.next().is_some_and(is_head) {}
    let path = request.split(' ').nth(1).unwrap_or_default();
    let head = |status: u16, length: usize| {
        format!(
            "HTTP/1.1 {status} Status\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        )
    };
    let said = match answer(path) {
        Says::Status(status, body) => (head(status, body.len()) + &body).into_bytes(),
        Says::Half(body) => (head(200, body.len()) + &body[..body.len() / 2]).into_bytes(),
        Says::Raw(bytes) => bytes,
        Says::Nothing => {
            lines.for_each(drop);
            return;
        }
    };
    // who asked may have had enough
    let _ = stream.write_all(&said);
}

/// 64 hexadecimal digits, another one for each name.
fn id(name: &str) -> String {
    let mut id = String::new();
    for byte in name.bytes() {
        let _ = write!(id, "{byte:02x}");
    }
    format!("{id:0<64}")
}

fn list(names: &[&str]) -> String {
    let one = |name: &&str| {
        let id = id(name);
        format!(r#"{{"Id":"{id}","Names":["/{name}"],"Image":"wd:1","State":"running"}}"#)
    };
    let all: Vec<String> = names.iter().map(one).collect();
    format!("[{}]", all.join(","))
}

fn details(name: &str, status: &str) -> String {
    let id = id(name);
    let running = status == "running";
    format!(
        r#"{{"Id":"{id}","Name":"/{name}","State":{{"Status":"{status}","Running":{running},"Pid":0,"StartedAt":"2026-01-01T09:00:00.25Z"}},"HostConfig":{{"LogConfig":{{"Type":"syslog"}}}}}}"#
    )
}

fn config(scene: &Scene, names: &[&str], keys: &str) {
    let service = |name: &&str| {
        format!(
            "[service.{name}]\ncontainer = {{ name = \"{name}\" }}\n{}",
            keys.replace("NAME", name)
        )
    };
    let services: Vec<String> = names.iter().map(service).collect();
    scene.config(&format!(
        "check_timeout = \"2s\"\n[containers]\nsocket = \"unix://{{dir}}/engine.sock\"\ntimeout = \"1s\"\n\
         [defaults]\nstart_grace = \"0s\"\nrestart = {{ settle = \"0s\", start_timeout = \"1s\", stop_timeout = \"1s\" }}\n{}",
        services.concat()
    ));
}

fn message(outcome: &Outcome, name: &str) -> String {
    outcome.service(name)["findings"][0]["message"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

/// What is said to the first call, and what the finding says of it.
type Case<'a> = (Box<dyn Fn() -> Says + Send + Sync>, &'a [&'a str]);

#[test]
fn what_is_no_list_of_an_engine_makes_its_services_unknown_and_says_what_it_was() {
    let page = "<html><h1>403 Forbidden</h1></html>".to_owned();
    let old =
        r#"{"message":"client version 1.24 is too old. Minimum supported API version is 1.44"}"#;
    let said = |status: u16, body: &str| -> Box<dyn Fn() -> Says + Send + Sync> {
        let body = body.to_owned();
        Box::new(move || Says::Status(status, body.clone()))
    };
    let whole = list(&["web"]);
    let cases: [Case<'_>; 8] = [
        (said(403, &page), &["refused it (403)", "403 Forbidden"]),
        (
            said(400, old),
            &["refused it (400)", "client version 1.24 is too old"],
        ),
        (said(500, ""), &["refused it (500)", "it gives no reason"]),
        (
            said(200, &page),
            &["is no container engine", "403 Forbidden"],
        ),
        (
            said(200, r#"{"message":"hello"}"#),
            &["is no container engine"],
        ),
        (
            Box::new(move || Says::Half(whole.clone())),
            &["does not answer", "before the body was whole"],
        ),
        (
            Box::new(|| Says::Nothing),
            &["does not answer", "was silent for 1s"],
        ),
        (
            Box::new(|| Says::Raw(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec())),
            &["does not answer"],
        ),
    ];
    for (answer, parts) in cases {
        let scene = Scene::new();
        serve(&scene, move |_| answer());
        config(&scene, &["web"], "");
        let outcome = scene.check().exits(3).verdict("web", "unknown");
        assert_eq!(outcome.codes("web"), ["engine_unreachable"]);
        let message = message(&outcome, "web");
        for part in parts {
            assert!(message.contains(part), "{part}: {message}");
        }
        assert_eq!(outcome.service("web")["restarts_last_hour"], 0);
    }
}

#[test]
fn a_container_whose_details_do_not_come_is_unknown_and_no_other_is() {
    let scene = Scene::new();
    let names = ["hangs", "half", "gone", "dead", "strange", "well"];
    serve(&scene, move |path| {
        if path == "/containers/json?all=1" {
            return Says::Status(200, list(&names));
        }
        let name = names
            .into_iter()
            .find(|name| path == format!("/containers/{}/json", id(name)));
        match name {
            Some("hangs") => Says::Nothing,
            Some("half") => Says::Half(details("half", "running")),
            Some("dead") => Says::Status(200, details("dead", "dead")),
            Some("strange") => Says::Status(200, details("strange", "floating\\u001b[31m")),
            Some("well") => Says::Status(200, details("well", "running")),
            _ => Says::Status(404, r#"{"message":"No such container"}"#.to_owned()),
        }
    });
    config(&scene, &names, "restart.max_per_hour = 0\n");
    let outcome = scene
        .check()
        .verdict("well", "healthy")
        .verdict("hangs", "unknown")
        .finds("hangs", "container_unreadable")
        .verdict("half", "unknown")
        .finds("half", "container_unreadable")
        // it was removed after the list was made
        .verdict("gone", "starting")
        .lacks("gone", "container_unreadable")
        .verdict("dead", "down")
        .finds("dead", "container_dead")
        .verdict("strange", "unknown")
        .finds("strange", "container_unreadable");
    let said = message(&outcome, "strange");
    assert!(
        said.contains("a state that is not known here") && !said.contains('\u{1b}'),
        "{said}"
    );
    let said = message(&outcome, "dead");
    assert!(said.contains("the engine could not remove it"), "{said}");
    // which cannot be so twice
    for _ in 0..2 {
        let outcome = scene
            .check()
            .verdict("gone", "unknown")
            .finds("gone", "container_unreadable");
        let said = message(&outcome, "gone");
        assert!(said.contains("(404), in two runs in a row"), "{said}");
    }
}

#[test]
fn output_that_does_not_come_is_unknown_and_holds_up_no_other() {
    let scene = Scene::new();
    let names = ["hangs", "driver", "well"];
    serve(&scene, move |path| {
        if path == "/containers/json?all=1" {
            return Says::Status(200, list(&names));
        }
        let name = names
            .into_iter()
            .find(|name| path.contains(&id(name)))
            .unwrap();
        if path.ends_with("/json") {
            return Says::Status(200, details(name, "running"));
        }
        assert!(
            path.contains("/logs?stdout=1&stderr=1&timestamps=1&"),
            "{path}"
        );
        match name {
            "hangs" => Says::Nothing,
            // what Docker says of a driver that cannot be read back
            "driver" => Says::Status(
                501,
                r#"{"message":"configured logging driver does not support reading"}"#.to_owned(),
            ),
            // nothing was written
            _ => Says::Status(200, String::new()),
        }
    });
    config(
        &scene,
        &names,
        "restart.max_per_hour = 0\n[[service.NAME.log]]\ncontainer = true\nforbid = ['ERROR']\n",
    );
    let outcome = scene
        .check()
        .exits(3)
        .verdict("hangs", "unknown")
        .verdict("driver", "unknown")
        .finds("driver", "log_unreadable")
        .verdict("well", "healthy");
    let said = message(&outcome, "driver");
    assert!(
        said.contains("configured logging driver does not support reading"),
        "{said}"
    );
}

/// What stands for a table that nothing is known of: every command shows it while the engine is away, and whoever was
/// alerted about it is told of the end.
#[test]
fn what_stands_for_a_table_is_shown_as_it_was_recorded_and_recovers_when_the_engine_answers() {
    let scene = Scene::new();
    scene.config(
        "[containers]\nsocket = \"unix://{dir}/engine.sock\"\n\
         [mail]\nfrom = \"w@example.org\"\nto = [\"ops@example.org\"]\ndirectory = \"mails\"\n\
         on = [\"unknown\", \"recovered\", \"down\"]\n\
         [discover.x]\nlabel = \"trading\"\n",
    );
    for _ in 0..2 {
        scene.check().exits(3).verdict("x", "unknown");
        let status = scene.run(&["status", "--json"]).exits(3);
        assert_eq!(status.codes("x"), ["engine_unreachable"]);
        assert_eq!(status.json()["exit_code"], 3);
        scene.run(&["status", "x"]).exits(3);
    }
    assert_eq!(scene.mails().len(), 1, "told once");
    serve(&scene, |path| match path {
        "/containers/json?all=1" => {
            let listed = list(&["web"]);
            let labels = r#""Labels":{"trading":"yes"},"State""#;
            Says::Status(200, listed.replace("\"State\"", labels))
        }
        _ => Says::Status(200, details("web", "running")),
    });
    let outcome = scene.check().exits(0).verdict("web", "healthy");
    assert_eq!(outcome.json()["services"].as_array().unwrap().len(), 1);
    let status = scene.run(&["status", "--json"]).exits(0);
    assert_eq!(status.json()["services"].as_array().unwrap().len(), 1);
    let mails = scene.mails();
    let subject = |mail: &crate::scene::Mail| mail.header("Subject").unwrap_or_default().clone();
    let subjects: Vec<String> = mails.iter().map(subject).collect();
    assert_eq!(subjects.len(), 2, "{subjects:?}");
    assert!(subjects[1].contains("recovered"), "{subjects:?}");
    assert!(
        mails[1].body.contains("[discover.x] can be read again"),
        "{}",
        mails[1].body
    );
    scene.check().exits(0);
    assert_eq!(scene.mails().len(), 2);
    // what was found is shown as well, also after a run that is about others
    serve(&scene, |_| Says::Status(500, String::new()));
    let config = scene.read("watchdog.toml");
    scene.raw_config(&format!(
        "{config}[service.own]\nexec = [{{ command = [\"true\"] }}]\n"
    ));
    scene.check().exits(3).verdict("web", "unknown");
    scene.run(&["check", "own"]).exits(0);
    let status = scene.run(&["status", "--json"]).exits(3);
    assert_eq!(status.service("web")["verdict"], "unknown");
    // until the engine says that it is gone
    serve(&scene, |_| Says::Status(200, "[]".to_owned()));
    scene.check().exits(0);
    let status = scene.run(&["status", "--json"]).exits(0);
    assert_eq!(status.json()["services"].as_array().unwrap().len(), 1);
    assert!(scene.state()["services"]["web"].is_object());
    let events: Vec<String> = (scene.journal().iter())
        .filter(|entry| entry["service"] == "x")
        .map(|entry| entry["event"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        events.iter().filter(|it| *it == "recovered").count(),
        1,
        "{events:?}"
    );
}

/// An engine with two containers of a Compose project, `web` and `api`.
fn serve_two(scene: &Scene) {
    serve(scene, |path| match path {
        "/containers/json?all=1" => {
            let listed = list(&["web", "api"]);
            let labels = r#""HostConfig":{"NetworkMode":"bridge"},"Labels":{"watched":"yes","com.docker.compose.project":"lo","com.docker.compose.service":"s"},"State""#;
            Says::Status(200, listed.replace("\"State\"", labels))
        }
        _ => Says::Status(404, String::new()),
    });
}

/// What `validate` says of a config with mail and these tables.
fn validated(scene: &Scene, tables: &str) -> String {
    scene.config(&format!(
        "[containers]\nsocket = \"unix://{{dir}}/engine.sock\"\n{}{tables}",
        crate::scene::MAIL
    ));
    scene.run(&["validate"]).exits(0).words()
}

#[test]
fn a_pattern_that_what_is_found_may_match_is_no_trap() {
    let scene = Scene::new();
    serve_two(&scene);
    let text = validated(
        &scene,
        "services = [\"*\", \"t*\", \"no-such\"]\n[discover.x]\nlabel = \"watched\"\n",
    );
    assert!(!text.contains("is no service"), "{text}");
    let text = validated(
        &scene,
        "services = [\"w*\", \"no-such\"]\n[service.web]\ncontainer = { name = \"web\" }\n",
    );
    assert!(text.contains("`no-such` is no service"), "{text}");
    assert!(!text.contains("`w*` is no service"), "{text}");
}

#[test]
fn an_engine_is_given_up_after_check_timeout() {
    let scene = Scene::new();
    serve(&scene, |_| Says::Nothing);
    scene.config(
        "check_timeout = \"1s\"\n[containers]\nsocket = \"unix://{dir}/engine.sock\"\n\
         [service.web]\ncontainer = { name = \"web\" }\n",
    );
    let began = Instant::now();
    let outcome = scene.check().exits(3).finds("web", "engine_unreachable");
    let took = began.elapsed();
    assert!(took < std::time::Duration::from_secs(5), "{took:?}");
    let said = message(&outcome, "web");
    assert!(said.contains("was silent for 1s"), "{said}");
    let shown = scene.run(&["show-config"]).exits(0).stdout;
    let containers = shown.split("[containers]").nth(1).unwrap();
    assert!(containers.contains("timeout = \"1s\""), "{shown}");
}

#[test]
fn one_without_a_name_may_be_the_one_that_is_looked_for() {
    for (state, verdict, code) in [
        ("running", "unknown", "container_unreadable"),
        // an engine forgets the name of what it removes
        ("removing", "down", "container_missing"),
        ("dead", "down", "container_missing"),
    ] {
        let scene = Scene::new();
        let id = id("web");
        let listed = format!(r#"[{{"Id":"{id}","Names":null,"State":"{state}"}}]"#);
        serve(&scene, move |_| Says::Status(200, listed.clone()));
        config(
            &scene,
            &["web"],
            "restart.command = [\"/bin/touch\", \"{dir}/made\"]\nrestart.max_per_hour = 0\n",
        );
        let outcome = scene.check().verdict("web", verdict);
        assert_eq!(outcome.codes("web"), [code], "{state}");
    }
}

#[test]
fn adopt_says_where_the_engine_could_not_be_asked() {
    let scene = Scene::new();
    let containers = "[containers]\nsocket = \"unix://{dir}/engine.sock\"\n";
    scene.config(&format!(
        "{containers}[service.web]\ncontainer = {{ name = \"web\" }}\n"
    ));
    let refused = scene.run(&["adopt", "no-such-program"]).exits(1).stderr;
    assert!(
        refused.contains("no program called `no-such-program` runs")
            && refused.contains("whether a container is called so is not known")
            && refused.contains("there is no such socket"),
        "{refused}"
    );
    serve(&scene, |_| Says::Status(200, list(&["web"])));
    let refused = scene.run(&["adopt", "no-such-program"]).exits(1).stderr;
    assert!(!refused.contains("not known"), "{refused}");
    scene.run(&["adopt", "web"]).exits(0);
}

#[test]
fn a_label_in_the_script_of_a_shell_is_a_trap() {
    let scene = Scene::new();
    serve_two(&scene);
    let validated = |command: &str| {
        let table =
            format!("[discover.x]\nlabel = \"watched\"\nexec = [{{ command = {command} }}]\n");
        validated(&scene, &table)
    };
    let text = validated(r#"["sh", "-c", "echo {label:k.v} {name}"]"#);
    assert!(
        text.contains("{label:k.v} stands in a script of exec.command"),
        "{text}"
    );
    let text = validated(r#"["/bin/sh", "-c", "echo \"$1\" {name}", "sh", "{label:k.v}"]"#);
    assert!(!text.contains("stands in a script"), "{text}");
}

#[test]
fn traps_of_tables_that_find_services_are_about_what_is_there() {
    let scene = Scene::new();
    serve_two(&scene);
    // all of a table are services already
    let both = "[service.web]\ncontainer = { name = \"web\" }\n[service.api]\ncontainer = { name = \"api\" }\n";
    let text = validated(&scene, &format!("{both}[discover.lo]\nproject = \"lo\"\n"));
    assert!(
        text.contains("all containers of Compose project lo are services already"),
        "{text}"
    );
    assert!(!text.contains("there are no containers"), "{text}");
    let text = validated(&scene, "[discover.lo]\nproject = \"ol\"\n");
    assert!(
        text.contains("there are no containers of Compose project ol now"),
        "{text}"
    );
    // what mends a placeholder that nothing fills
    for (placeholder, is_port) in [
        ("{label:k.v}:1", false),
        ("{ip}:1", false),
        ("{address}", true),
    ] {
        let text = validated(
            &scene,
            &format!(
                "[discover.x]\nlabel = \"watched\"\nport = [{{ address = \"{placeholder}\" }}]\n"
            ),
        );
        assert!(text.contains("will be unknown"), "{text}");
        assert_eq!(
            text.contains("a label watchdog.port=8080"),
            is_port,
            "{text}"
        );
    }
}

/// Of the two that are wrong the critical one counts, and what the table lacks still has it left alone.
#[test]
fn what_cannot_be_filled_in_hides_no_probe_that_fails() {
    let scene = Scene::new();
    serve(&scene, |path| match path {
        "/containers/json?all=1" => {
            let listed = list(&["web"]);
            Says::Status(
                200,
                listed.replace("\"State\"", r#""Labels":{"watched":""},"State""#),
            )
        }
        _ => Says::Status(200, details("web", "running")),
    });
    let port = crate::scene::free_port();
    config(&scene, &[], "");
    let text = scene.read("watchdog.toml");
    scene.raw_config(&format!(
        "{text}[discover.x]\nlabel = \"watched\"\n\
         port = [{{ address = \"{{ip}}:1\" }}, {{ address = \"127.0.0.1:{port}\" }}]\n"
    ));
    let outcome = scene
        .check()
        .exits(2)
        .verdict("web", "down")
        .finds("web", "placeholder_unset")
        .finds("web", "port_closed");
    assert!(outcome.service("web")["action"].is_null());
}

#[test]
fn a_socket_that_refuses_is_said_with_what_to_do() {
    let scene = Scene::new();
    // a socket that nobody listens at any more
    drop(UnixListener::bind(scene.path("engine.sock")).unwrap());
    config(&scene, &["web"], "");
    let outcome = scene.check().exits(3).verdict("web", "unknown");
    let said = message(&outcome, "web");
    assert!(
        said.contains("nothing listens there; is the engine running"),
        "{said}"
    );
    let path = scene.path("engine.sock");
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "").unwrap();
    let outcome = scene.check().exits(3).verdict("web", "unknown");
    let said = message(&outcome, "web");
    assert!(said.contains("the file there is not a socket"), "{said}");
}

#[test]
fn a_thousand_containers_are_found_by_one_list() {
    let scene = Scene::new();
    let names: Vec<String> = (0..1000)
        .map(|number| format!("worker-{number:03}"))
        .collect();
    let all = names.iter().map(|name| {
        let id = id(name);
        format!(
            r#"{{"Id":"{id}","Names":["/{name}"],"State":"running","Labels":{{"watched":""}}}}"#
        )
    });
    let listed = format!("[{}]", all.collect::<Vec<_>>().join(","));
    let described: HashMap<String, String> = (names.iter())
        .map(|name| {
            let path = format!("/containers/{}/json", id(name));
            (path, details(name, "running"))
        })
        .collect();
    let lists = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&lists);
    serve(&scene, move |path| {
        if path == "/containers/json?all=1" {
            counted.fetch_add(1, Ordering::SeqCst);
            return Says::Status(200, listed.clone());
        }
        Says::Status(200, described[path].clone())
    });
    let keys = "[discover.x]\nlabel = \"watched\"\n";
    config(&scene, &[], "");
    let config = scene.read("watchdog.toml").replace("{dir}", scene.dir());
    let config = config.replace("timeout = \"1s\"", "timeout = \"60s\"");
    scene.raw_config(&format!("{config}{keys}"));
    let outcome = scene.check().exits(0);
    assert_eq!(outcome.json()["services"].as_array().unwrap().len(), 1000);
    assert_eq!(lists.load(Ordering::SeqCst), 1);
}

/// What an engine counts, where the processes of its containers are not seen from here.
#[test]
fn what_a_container_uses_is_asked_of_an_engine_elsewhere() {
    // the cache that can be dropped has another name in each version of control groups
    for (cache, more) in [
        ("total_inactive_file", r#","inactive_file":1"#),
        ("inactive_file", ""),
    ] {
        let scene = Scene::new();
        let began = Instant::now();
        serve(&scene, move |path| {
            if path == "/containers/json?all=1" {
                return Says::Status(200, list(&["web"]));
            }
            if path.contains("/stats?stream=false&one-shot=true") {
                // half of a processor since the beginning
                let used = 5_000_000_000 + began.elapsed().as_nanos() / 2;
                return Says::Status(
                    200,
                    format!(
                        r#"{{"cpu_stats":{{"cpu_usage":{{"total_usage":{used}}}}},"pids_stats":{{"current":7}},
                            "memory_stats":{{"usage":50000000,"limit":64000000,"stats":{{"{cache}":10000000{more}}}}}}}"#
                    ),
                );
            }
            Says::Status(200, details("web", "running"))
        });
        config(
            &scene,
            &["web"],
            "memory = { warning = \"60%\" }\ncpu = { critical = \"400%\" }\nthreads = { critical = 50 }\n",
        );
        let outcome = scene.check().exits(1).finds("web", "memory_high");
        let said = message(&outcome, "web");
        assert!(
            said.contains("40.0 MB") && said.contains("64.0 MB"),
            "{said}"
        );
        let usage = |outcome: &Outcome| outcome.service("web")["usage"].clone();
        let seen = usage(&outcome);
        assert_eq!(
            (&seen["memory_bytes"], &seen["threads"]),
            (&40_000_000.into(), &7.into())
        );
        let percent = Cell::new(None);
        scene.wait_until("there is an average", || {
            percent.set(usage(&scene.check())["cpu_percent"].as_f64());
            percent.get().is_some()
        });
        let percent = percent.get().unwrap();
        assert!((25.0..75.0).contains(&percent), "{percent}");
    }
}

#[test]
fn a_container_that_may_stop_for_ever_is_restarted_as_any_other() {
    for stop_timeout in ["9223372036854775807", "18446744073709551615", "-1"] {
        let scene = Scene::new();
        let is_started = AtomicUsize::new(0);
        serve(&scene, move |path| {
            let status = if is_started.load(Ordering::SeqCst) == 0 {
                "exited"
            } else {
                "running"
            };
            match path {
                "/containers/json?all=1" => Says::Status(
                    200,
                    list(&["web"]).replace("\"running\"", &format!("\"{status}\"")),
                ),
                _ if path.ends_with("/start") => {
                    is_started.store(1, Ordering::SeqCst);
                    Says::Status(204, String::new())
                }
                _ => {
                    let details = details("web", status);
                    let config = format!("{{\"Config\":{{\"StopTimeout\":{stop_timeout}}},");
                    let details = details.replacen('{', &config, 1);
                    Says::Status(
                        200,
                        match status {
                            "running" => details.replace("T09:", "T10:"),
                            _ => details,
                        },
                    )
                }
            }
        });
        config(&scene, &["web"], "");
        // the default, which leaves it to the container
        let text = scene.read("watchdog.toml");
        scene.raw_config(&text.replace(", stop_timeout = \"1s\"", ""));
        scene.check().exits(1).verdict("web", "restarted");
    }
}

/// What a container's engine says right before a restart, and what is said of that.
type Late<'a> = (fn() -> Says, &'a [&'a str]);

#[test]
fn what_cannot_be_seen_right_before_a_restart_is_no_failed_restart() {
    let late: [Late<'_>; 4] = [
        (
            || Says::Status(404, r#"{"message":"No such container"}"#.to_owned()),
            &["web was removed since it was looked at"],
        ),
        (
            || Says::Status(500, r#"{"message":"boom"}"#.to_owned()),
            &[
                "asked about the container web once more right before",
                "nothing was done",
                "the engine refused it (500): boom",
                "the next run tries again",
            ],
        ),
        (
            || Says::Nothing,
            &[
                "nothing was done",
                "it accepted the call and was silent for 1s",
            ],
        ),
        (
            || Says::Status(200, "[".to_owned()),
            &["nothing was done", "is no container engine"],
        ),
    ];
    // the details, or the list before them
    for (late, parts) in late {
        for is_list in [false, true] {
            let scene = Scene::new();
            let (lists, described) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let orders = Arc::new(AtomicUsize::new(0));
            let counted = Arc::clone(&orders);
            serve(&scene, move |path| {
                let is_late = |calls: &AtomicUsize| calls.fetch_add(1, Ordering::SeqCst) == 1;
                match path {
                    "/containers/json?all=1" if is_late(&lists) && is_list => late(),
                    "/containers/json?all=1" => Says::Status(200, list(&["web"])),
                    _ if path.ends_with("/json") => {
                        if is_late(&described) && !is_list {
                            return late();
                        }
                        Says::Status(200, details("web", "exited"))
                    }
                    _ => {
                        counted.fetch_add(1, Ordering::SeqCst);
                        Says::Status(204, String::new())
                    }
                }
            });
            config(&scene, &["web"], "");
            let outcome = scene.check().exits(2).verdict("web", "waiting");
            assert_eq!(outcome.codes("web"), ["container_exited"]);
            let service = outcome.service("web");
            let why = service["notes"].to_string();
            // of a list there is no 404
            let parts = if is_list { &parts[1..] } else { parts };
            assert!(parts.iter().all(|part| why.contains(part)), "{why}");
            assert!(service["action"].is_null(), "{service}");
            assert_eq!(service["restarts_last_hour"], 1);
            assert_eq!(orders.load(Ordering::SeqCst), 0);
        }
    }
}

#[test]
fn a_restart_by_hand_of_what_is_not_there_says_so() {
    let scene = Scene::new();
    serve(&scene, |_| Says::Status(200, list(&["web"])));
    config(&scene, &["miss"], "");
    let outcome = scene.run(&["restart", "miss"]).exits(1);
    let said = format!("{}{}", outcome.stdout, outcome.stderr);
    assert!(
        said.contains("not restarted: there is no container miss; `docker compose up`"),
        "{said}"
    );
}

#[test]
fn what_a_re_creation_left_behind_keeps_a_container_from_its_restart_only_while_it_runs() {
    const LEFT: &str = "0123456789ab_web";
    for (beside, is_restarted) in [("created", true), ("running", false)] {
        let scene = Scene::new();
        let starts = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&starts);
        serve(&scene, move |path| {
            let is_up = counted.load(Ordering::SeqCst) > 0;
            let own = if is_up { "running" } else { "exited" };
            match path {
                "/containers/json?all=1" => {
                    let (web, left) = (id("web"), id(LEFT));
                    Says::Status(
                        200,
                        format!(
                            r#"[{{"Id":"{left}","Names":["/{LEFT}"],"State":"{beside}","Created":1767225600}},
                                {{"Id":"{web}","Names":["/web"],"State":"{own}","Created":1767225600}}]"#
                        ),
                    )
                }
                _ if path.ends_with("/start") => {
                    assert!(path.contains(&id("web")), "{path}");
                    counted.fetch_add(1, Ordering::SeqCst);
                    Says::Status(204, String::new())
                }
                _ if path.contains(&id(LEFT)) => Says::Status(200, details(LEFT, beside)),
                _ if is_up => Says::Status(200, details("web", own).replace("T09:", "T10:")),
                _ => Says::Status(200, details("web", own)),
            }
        });
        config(&scene, &["web"], "");
        let outcome = scene.check();
        let codes = outcome.codes("web");
        assert!(
            codes.iter().any(|it| it == "container_leftover"),
            "{codes:?}"
        );
        if is_restarted {
            outcome.exits(1).verdict("web", "restarted");
        } else {
            let outcome = outcome.exits(2).verdict("web", "down");
            let why = outcome.service("web")["notes"].to_string();
            assert!(why.contains("runs in the place of"), "{why}");
        }
        assert_eq!(starts.load(Ordering::SeqCst), usize::from(is_restarted));
    }
}
