//! HTTP probes, mostly of real servers: silence and wrong answers are failures, what could not be asked is unknown.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write as _};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;

use crate::scene::{
    Outcome, Proc, Scene, Service, alive, free_port, render, root, signal, wait_until,
};

/// A service that is up without its probes.
fn unwaited() -> Service {
    Service::new("a").restart("wait_for", "\"process\"")
}

/// A config with an HTTP probe behind a service's other tables.
fn with_http(service: &Service, keys: &str) -> String {
    format!("{}[[service.a.http]]\n{keys}\n", render(&[service]))
}

/// A server of the test's own: it answers each request with what is told, and keeps what it was asked.
fn serve(answer: impl Fn(&str) -> String + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let head = head(&mut stream);
            let _ = stream.write_all(answer(&head).as_bytes());
        }
    });
    port
}

fn head(stream: &mut impl Read) -> String {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) > 0 {
        head.push(byte[0]);
        // TLS is answered as well, in plain text
        if !head[0].is_ascii_alphabetic() {
            break;
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}

fn well(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A child that ends with the test, whatever happens.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(scene: &Scene, program: &str, args: &[&str]) -> Ends {
    let log = fs::File::create(scene.path(&format!("{program}.out"))).unwrap();
    let child = Command::new(program)
        .args(args)
        .current_dir(scene.path(""))
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    Ends(child)
}

fn wait_for_port(port: u16) {
    wait_until("the server listens", || {
        std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
}

/// nginx in the foreground with these parts of a config within `http`.
fn nginx(scene: &Scene, servers: &str) -> Ends {
    let user = if root() { "user root;\n" } else { "" };
    let mut text = format!(
        "{user}daemon off;\nmaster_process off;\npid {{dir}}/nginx.pid;\nerror_log stderr notice;\n\
         events {{ worker_connections 2048; }}\nhttp {{ access_log off;\n"
    );
    for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        writeln!(text, "{kind}_temp_path {{dir}}/{kind};").unwrap();
    }
    writeln!(text, "{servers} }}").unwrap();
    scene.write("nginx.conf", scene.fill(&text));
    let directory = scene.path("").display().to_string();
    start(
        scene,
        "nginx",
        &["-p", &directory, "-c", &format!("{directory}/nginx.conf")],
    )
}

#[test]
fn an_endpoint_that_does_not_answer_well_is_a_reason_to_restart() {
    let port = serve(|head| match head.split(' ').nth(1) {
        Some("/health") => well("{\"status\":\"ok\"}"),
        Some("/degraded") => well("{\"status\":\"degraded\"}"),
        Some("/moved") => {
            "HTTP/1.1 302 Found\r\nLocation: /health\r\nContent-Length: 0\r\n\r\n".to_owned()
        }
        Some("/mute") => String::new(),
        _ => "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 9\r\n\r\nno worker".to_owned(),
    });
    for (keys, code, part) in [
        (
            "url = \"URL/health\"\nexpect = ['\"(ok|UP)\"']\nforbid = ['degraded']",
            None,
            "",
        ),
        ("url = \"URL/degraded\"\nstatus = [200]", None, ""),
        (
            "url = \"URL/moved\"\nfollow_redirects = true\nexpect = ['ok']",
            None,
            "",
        ),
        ("url = \"URL/moved\"\nstatus = [\"3xx\"]", None, ""),
        ("url = \"URL/health\"\nmethod = \"HEAD\"", None, ""),
        (
            "url = \"URL/health\"\nmethod = \"POST\"\nbody = \"{}\"",
            None,
            "",
        ),
        (
            "url = \"URL/other\"",
            Some("http_failed"),
            "/other answered 503 Service Unavailable after ",
        ),
        (
            "url = \"URL/other\"",
            Some("http_failed"),
            "which is not 2xx; its body is `no worker` (9 bytes)",
        ),
        (
            "url = \"URL/degraded\"\nforbid = ['degraded']",
            Some("http_unexpected"),
            "but its body matches `degraded`, which it must not",
        ),
        (
            "url = \"URL/health\"\nexpect = ['UP']",
            Some("http_unexpected"),
            "but nothing in its body matches `UP`; its body is `{\"status\":\"ok\"}` (15 bytes)",
        ),
        (
            "url = \"URL/mute\"",
            Some("http_failed"),
            "closed the connection without an answer",
        ),
        (
            "url = \"URL/moved\"",
            Some("http_failed"),
            "answered 302 Found (to /health) after ",
        ),
    ] {
        let scene = Scene::new();
        let keys = keys.replace("URL", &format!("http://127.0.0.1:{port}"));
        scene.config(&with_http(&unwaited(), &keys));
        scene.check().exits(1).verdict("a", "restarted");
        let before = scene.last("a");
        let Some(code) = code else {
            let outcome = scene.check().exits(0).verdict("a", "healthy");
            assert_eq!(outcome.service("a")["findings"], serde_json::json!([]));
            assert_eq!(scene.last("a"), before);
            continue;
        };
        let outcome = scene.check().restarted_for("a", code);
        assert_ne!(scene.last("a"), before);
        let finding = &outcome.service("a")["findings"][0];
        assert_eq!(finding["check"], "http");
        let message = finding["message"].as_str().unwrap();
        assert!(message.contains(part), "{message}");
        let why = scene.run(&["why", "a"]).exits(0).words();
        assert!(why.contains(" has to answer GET with "), "{why}");
    }
}

#[test]
fn young_and_missing_processes_are_not_judged_and_warnings_restart_nothing() {
    let port = free_port();
    let keys = format!("url = \"http://127.0.0.1:{port}/\"");
    let scene = Scene::new();
    scene.config(&with_http(&unwaited().watched(), &keys));
    let outcome = scene.check().exits(2).verdict("a", "down");
    assert_eq!(outcome.codes("a"), ["process_missing"]);

    let scene = Scene::new();
    scene.config(&with_http(&unwaited().top("start_grace", "\"1h\""), &keys));
    scene.check().exits(1).verdict("a", "restarted");
    let outcome = scene.check().exits(0).verdict("a", "starting");
    outcome.finds("a", "http_failed");

    for (more, code, verdict) in [
        ("severity = \"warning\"", 1, "degraded"),
        ("for = \"1h\"", 0, "healthy"),
    ] {
        let scene = Scene::new();
        scene.config(&with_http(&unwaited(), &format!("{keys}\n{more}")));
        scene.check().exits(1).verdict("a", "restarted");
        let before = scene.last("a");
        scene.check().exits(code).verdict("a", verdict);
        assert_eq!(scene.last("a"), before);
    }
}

#[test]
fn a_slow_answer_is_a_warning() {
    let port = serve(|_| {
        std::thread::sleep(std::time::Duration::from_millis(300));
        well("ok")
    });
    let scene = Scene::new();
    scene.config(&with_http(
        &unwaited(),
        &format!("url = \"http://127.0.0.1:{port}/\"\nmax_time = \"100ms\""),
    ));
    scene.check().exits(1).verdict("a", "restarted");
    let outcome = scene.check().exits(1).verdict("a", "degraded");
    assert_eq!(outcome.severity("a", "http_slow"), "warning");
}

#[test]
fn what_could_not_be_asked_is_unknown_and_restarts_nothing() {
    let scene = Scene::new();
    scene.config(&with_http(
        &unwaited(),
        "url = \"http://no-such-host.invalid/\"",
    ));
    scene.check().exits(1).verdict("a", "restarted");
    let before = scene.last("a");
    let outcome = scene.check().exits(3).verdict("a", "unknown");
    outcome.finds("a", "probe_unreadable");
    assert_eq!(scene.last("a"), before);
}

#[test]
fn a_unix_socket_is_asked_and_a_missing_one_has_failed() {
    // also by a path that is relative to its working directory
    for url in ["unix:{dir}/app.sock:/health", "unix:app.sock:/health"] {
        let scene = Scene::new();
        let socket = scene.path("app.sock");
        scene.config(&with_http(
            &unwaited(),
            &format!("url = \"{url}\"\nexpect = ['^ok$']"),
        ));
        scene.check().exits(1).verdict("a", "restarted");
        let outcome = scene.check().restarted_for("a", "http_failed");
        let message = outcome.service("a")["findings"][0]["message"].to_string();
        assert!(
            message.contains("app.sock:/health is closed: there is no such socket"),
            "{message}"
        );
        let listener = UnixListener::bind(socket).unwrap();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let asked = head(&mut stream);
                assert!(
                    asked.starts_with("GET /health HTTP/1.1\r\nhost: localhost\r\n"),
                    "{asked}"
                );
                let _ = stream.write_all(well("ok").as_bytes());
            }
        });
        scene.check().exits(0).verdict("a", "healthy");
    }
}

#[test]
fn f76_what_is_secret_is_sent_and_shown_nowhere() {
    let port = serve(|head| {
        if head.contains("authorization: Bearer canary-7391\r\n")
            && head.contains("?key=canary-7391 ")
        {
            "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n".to_owned()
        } else {
            well("who are you")
        }
    });
    let scene = Scene::new();
    scene.write_private("auth", "Bearer canary-7391\n");
    scene.config(&format!(
        "[logging]\nfile = \"own.log\"\nlevel = \"trace\"\n{}",
        with_http(
            &unwaited(),
            &format!(
                "url = \"http://127.0.0.1:{port}/x?key=canary-7391\"\nheader_files = {{ Authorization = \"auth\" }}"
            ),
        )
    ));
    scene.check().exits(1).verdict("a", "restarted");
    let outcome = scene.check().restarted_for("a", "http_failed");
    let message = outcome.service("a")["findings"][0]["message"].to_string();
    assert!(
        message.contains(&format!("http://127.0.0.1:{port}/*** answered 503")),
        "{message}"
    );
    let mut said = outcome.text();
    for args in [
        &["check", "-vvv"][..],
        &["status"],
        &["why", "a"],
        &["history"],
        &["show-config"],
        &["validate"],
    ] {
        said += &scene.run(args).text();
    }
    assert!(!said.contains("canary"), "{said}");
    for (path, (_, _, _, bytes)) in scene.fingerprint() {
        let name = path.file_name().and_then(|name| name.to_str());
        let is_given = matches!(name, Some("auth" | "watchdog.toml"));
        let text = String::from_utf8_lossy(&bytes);
        assert!(is_given || !text.contains("canary"), "{}", path.display());
    }
    // gone: it is not asked, and that is said
    fs::write(scene.path("auth"), "").unwrap();
    let before = scene.last("a");
    let outcome = scene.check().exits(3).finds("a", "probe_unreadable");
    let message = outcome.service("a")["findings"][0]["message"].to_string();
    assert!(
        message.contains("which holds the header authorization, is empty"),
        "{message}"
    );
    assert_eq!(scene.last("a"), before);
}

#[test]
fn validate_tells_what_a_probe_would_find_now() {
    let port = serve(|_| well("{\"state\":\"green\"}"));
    let scene = Scene::new();
    let probe = |keys: &str| format!("[[service.a.http]]\n{keys}\n");
    scene.config(&format!(
        "{}{}{}{}{}{}",
        render(&[&Service::logs("a")]),
        probe(&format!(
            "url = \"http://127.0.0.1:{port}/\"\nexpect = ['\"status\"']"
        )),
        probe(&format!(
            "url = \"http://127.0.0.1:{port}/\"\nstatus = [204]"
        )),
        probe(&format!("url = \"https://127.0.0.1:{port}/\"")),
        probe(&format!(
            "url = \"http://127.0.0.1:{port}/\"\nmax_time = \"1h\""
        )),
        probe("url = \"http://no-such-host.invalid/\""),
    ));
    let text = scene.run(&["validate"]).exits(0).words();
    for part in [
        "but nothing in its body matches `\"status\"`; its body is `{\"state\":\"green\"}` (17 bytes): it would be http_unexpected in the next run",
        "which is not 204; its body is `{\"state\":\"green\"}` (17 bytes): it would be http_failed in the next run",
        "answers, but it does not speak TLS; write http:// in its URL if that is meant: it would be http_failed",
        "max_time 1h is not less than the timeout, 10s: no answer would ever be slow",
        "until that is mended the probe is unknown in each run",
    ] {
        assert!(text.contains(part), "{part}\n\n{text}");
    }
}

#[test]
fn a_thousand_silent_endpoints_take_one_timeout_beside_ports_and_those_that_answer() {
    let frozen = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = frozen.local_addr().unwrap();
    let port = serve(|_| well("ok"));
    let scene = Scene::new();
    let mut config = String::new();
    for number in 0..1000 {
        let probe = match number % 10 {
            0 => format!("[[service.s{number}.port]]\naddress = \"{silent}\"\nexpect = 'x'"),
            1 => format!("[[service.s{number}.http]]\nurl = \"http://127.0.0.1:{port}/\""),
            _ => format!("[[service.s{number}.http]]\nurl = \"http://{silent}/{number}\""),
        };
        write!(
            config,
            "[service.s{number}]\nrestart = {{ command = [\"touch\", \"ran\"], max_per_hour = 0 }}\n{probe}\ntimeout = \"5s\"\n"
        )
        .unwrap();
    }
    scene.config(&config);
    let running = scene.begin(scene.command(&["check", "--json"]));
    let pid = running.pid();
    // while it waits, its threads and descriptors are counted
    let count = |what: &str| fs::read_dir(format!("/proc/{pid}/{what}")).map_or(0, Iterator::count);
    let (mut threads, mut descriptors) = (0, 0);
    wait_until("connections are open", || count("fd") > 200);
    while alive(pid) {
        threads = threads.max(count("task"));
        descriptors = descriptors.max(count("fd"));
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let report = scene.end(running).exits(2).json();
    assert!(threads < 40, "{threads} threads");
    assert!(descriptors < 1100, "{descriptors} descriptors");
    let services = report["services"].as_array().unwrap();
    for (number, service) in services.iter().enumerate() {
        let code = service["findings"][0]["code"].as_str();
        let unread = Some("probe_unreadable");
        match number % 10 {
            // where descriptors are few, some could not be made in time: unknown, and no failure
            0 => assert!(code == Some("port_closed") || code == unread, "{service}"),
            1 => assert!(code.is_none() || code == unread, "{service}"),
            _ => assert!(code == Some("http_failed") || code == unread, "{service}"),
        }
    }
    let failed = services
        .iter()
        .filter(|service| service["findings"][0]["code"] == "http_failed");
    assert!(failed.count() > 100);
    // one after another they would take 4,500 seconds; a wave more for want of descriptors is allowed
    let took = report["duration_ms"].as_u64().unwrap();
    assert!(took < 3 * 5_000, "{took} ms");
}

#[test]
#[ignore = "needs nginx"]
fn a_thousand_probes_of_nginx_are_made_in_one_run() {
    let scene = Scene::new();
    let port = free_port();
    let server = nginx(
        &scene,
        &format!(
            "server {{ listen 127.0.0.1:{port} backlog=2048; location / {{ return 200 '{{\"status\":\"ok\"}}'; }} }}"
        ),
    );
    wait_for_port(port);
    let mut config = String::new();
    for number in 0..1000 {
        write!(
            config,
            "[service.s{number}]\n[[service.s{number}.http]]\nurl = \"http://127.0.0.1:{port}/{number}\"\nexpect = ['\"ok\"']\n"
        )
        .unwrap();
    }
    scene.config(&config);
    let report = scene.check().json();
    drop(server);
    let wrong: Vec<String> = report["services"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|service| service["verdict"] != "healthy")
        .map(ToString::to_string)
        .collect();
    assert!(wrong.is_empty(), "{}: {}", wrong.len(), wrong[0]);
}

#[test]
#[ignore = "needs nginx"]
fn a_frozen_nginx_has_failed_and_is_restarted() {
    let scene = Scene::new();
    let port = free_port();
    let directory = scene.path("").display().to_string();
    // its config is written, and it is started by the watchdog
    drop(nginx(
        &scene,
        &format!("server {{ listen 127.0.0.1:{port}; location / {{ return 200 ok; }} }}"),
    ));
    scene.config(&format!(
        "[service.web]\nstart_grace = \"0s\"\nrestart = {{ stop_timeout = \"1s\", settle = \"200ms\" }}\n\
         spawn = {{ command = [\"nginx\", \"-p\", \"{directory}\", \"-c\", \"{directory}/nginx.conf\"] }}\n\
         [[service.web.http]]\nurl = \"http://127.0.0.1:{port}/\"\ntimeout = \"1s\"\n"
    ));
    let pid = || {
        let services = scene.state()["services"]["web"]["process"]["main"]["pid"].clone();
        i32::try_from(services.as_i64().unwrap()).unwrap()
    };
    scene.check().exits(1).verdict("web", "restarted");
    wait_for_port(port);
    scene.check().exits(0).verdict("web", "healthy");
    let frozen = pid();
    signal(frozen, Signal::SIGSTOP);
    let outcome = scene.check();
    let (after, codes) = (pid(), outcome.codes("web"));
    // whatever is left of it ends with the test
    for pid in [frozen, after] {
        if Proc::of(pid).is_some_and(|p| p.command_line().contains(&directory)) {
            signal(pid, Signal::SIGKILL);
        }
    }
    outcome.verdict("web", "restarted");
    assert!(
        codes.contains(&"http_failed".to_owned()) || codes.contains(&"process_stopped".to_owned()),
        "{codes:?}"
    );
    assert_ne!(after, frozen);
}

#[test]
#[ignore = "needs haproxy"]
fn a_balancer_without_a_server_has_failed() {
    let scene = Scene::new();
    let (front, back) = (free_port(), serve(|_| well("ok")));
    let nowhere = free_port();
    scene.write(
        "haproxy.cfg",
        format!(
            "defaults\n mode http\n timeout connect 1s\n timeout client 5s\n timeout server 5s\n retries 0\n\
             frontend f\n bind 127.0.0.1:{front}\n acl is_down path /down\n use_backend down if is_down\n default_backend up\n\
             backend up\n server a 127.0.0.1:{back}\nbackend down\n server a 127.0.0.1:{nowhere}\n"
        ),
    );
    let server = start(&scene, "haproxy", &["-db", "-f", "haproxy.cfg"]);
    wait_for_port(front);
    scene.config(&format!(
        "[service.up]\n[[service.up.http]]\nurl = \"http://127.0.0.1:{front}/\"\nexpect = ['^ok$']\n\
         [service.down]\n[[service.down.http]]\nurl = \"http://127.0.0.1:{front}/down\"\n"
    ));
    let outcome = scene.check();
    drop(server);
    let outcome = outcome
        .exits(2)
        .verdict("up", "healthy")
        .verdict("down", "down");
    let message = outcome.service("down")["findings"][0]["message"].to_string();
    assert!(
        message.contains("/down answered 503 Service Unavailable after "),
        "{message}"
    );
    assert!(message.contains("No server is available"), "{message}");
}

/// An authority, and certificates of it: good, other, expired, alone.
fn certificates(directory: &Path) {
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/it/real_smtp/certificates.sh"
    );
    let output = Command::new("sh")
        .arg(script)
        .arg(directory)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
#[ignore = "needs nginx and openssl"]
fn certificates_are_verified_and_are_no_reason_to_restart() {
    let scene = Scene::new();
    certificates(&scene.path(""));
    let kinds = ["good", "expired", "other", "alone"];
    let ports = kinds.map(|_| free_port());
    let mut servers = String::new();
    for (kind, port) in kinds.iter().zip(ports) {
        writeln!(
            servers,
            "server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {{dir}}/{kind}.pem; ssl_certificate_key {{dir}}/{kind}.key; \
             location / {{ return 200 \"$ssl_server_name $host\"; }} }}"
        )
        .unwrap();
    }
    let server = nginx(&scene, &servers);
    for port in ports {
        wait_for_port(port);
    }
    let mut config = String::new();
    for (kind, port) in kinds.iter().zip(ports) {
        writeln!(
            config,
            "[service.{kind}]\nrestart = {{ command = [\"touch\", \"ran\"] }}\n\
             [[service.{kind}.http]]\nurl = \"https://127.0.0.1:{port}/\"\nca_file = \"{{dir}}/ca.pem\""
        )
        .unwrap();
    }
    // by another name, and without trust
    writeln!(
        config,
        "[[service.good.http]]\nurl = \"https://127.0.0.1:{0}/\"\nca_file = \"{{dir}}/ca.pem\"\nhost = \"localhost\"\nexpect = ['^localhost localhost$']\n\
         [service.untrusted]\n[[service.untrusted.http]]\nurl = \"https://127.0.0.1:{0}/\"\n\
         [service.plain]\n[[service.plain.http]]\nurl = \"http://127.0.0.1:{0}/\"",
        ports[0]
    )
    .unwrap();
    scene.config(&config);
    let outcome = scene.check();
    drop(server);
    let outcome = outcome.verdict("good", "healthy");
    for (name, part) in [
        (
            "expired",
            "answers, but its certificate ended at 2020-01-02T00:00:00Z; renew it",
        ),
        (
            "other",
            "answers, but its certificate is not valid for the name `127.0.0.1` (it is for other.example)",
        ),
        (
            "alone",
            "answers, but its certificate comes from an authority that is not trusted here; set ca_file",
        ),
    ] {
        let outcome = outcome.service(name);
        let finding = &outcome["findings"][0];
        assert_eq!(finding["code"], "certificate_invalid");
        assert!(
            finding["message"].as_str().unwrap().contains(part),
            "{finding}"
        );
        // to restart it would not mend the certificate
        assert_eq!(outcome["verdict"], "down", "{outcome}");
    }
    assert!(!scene.has("ran"));
    let untrusted = outcome.service("untrusted")["findings"][0].to_string();
    assert!(
        untrusted.contains("set ca_file")
            || untrusted.contains("no certificate authority is known"),
        "{untrusted}"
    );
    // nginx says itself what is wrong
    let plain = outcome.service("plain")["findings"][0]["message"].to_string();
    assert!(
        plain.contains("answered 400 Bad Request") && plain.contains("HTTPS port"),
        "{plain}"
    );
}

/// Runs a check in namespaces of its own, in which names are resolved as these files say, beside a server in Python that
/// writes a file `ready`.
fn in_namespace(scene: &Scene, hosts: &str, resolv: &str, server: &str) -> Outcome {
    scene.write("hosts", hosts);
    scene.write("resolv.conf", resolv);
    scene.write("nsswitch.conf", "hosts: files dns\n");
    scene.write("server.py", server);
    scene.write(
        "inside.sh",
        scene.fill(
            "set -e
            mount --bind {dir}/hosts /etc/hosts
            mount --bind {dir}/resolv.conf /etc/resolv.conf
            mount --bind {dir}/nsswitch.conf /etc/nsswitch.conf
            ip link set lo up
            timeout 60 python3 {dir}/server.py >{dir}/server.log 2>&1 &
            server=$!
            until [ -e {dir}/ready ]; do kill -0 $server; sleep 0.05; done
            code=0
            {watchdog} check --json || code=$?
            kill $server
            exit $code",
        ),
    );
    scene.shell("exec unshare -m -n /bin/sh {dir}/inside.sh")
}

#[test]
#[ignore = "needs root"]
fn a_name_passes_where_one_of_its_addresses_answers() {
    let scene = Scene::new();
    scene.config(
        "[service.one]\n[[service.one.http]]\nurl = \"http://two.example:8080/\"\n\
         [service.none]\n[[service.none.http]]\nurl = \"http://two.example:8081/\"\n",
    );
    // the first refuses
    let outcome = in_namespace(
        &scene,
        "127.0.0.1 localhost\n127.0.0.2 two.example\n127.0.0.3 two.example\n",
        "nameserver 127.0.0.1\n",
        "import http.server
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header('Content-Length', '2')
        self.end_headers()
        self.wfile.write(b'ok')
server = http.server.HTTPServer(('127.0.0.3', 8080), H)
open('ready', 'w').close()
server.serve_forever()
",
    );
    let outcome = outcome.exits(2).verdict("one", "healthy");
    let message =
        outcome.verdict("none", "down").service("none")["findings"][0]["message"].to_string();
    assert!(
        message.contains("http://two.example:8081/ failed at both of its addresses: 127.0.0.")
            && message.contains("; 127.0.0."),
        "{message}"
    );
}

#[test]
#[ignore = "needs root"]
fn a_resolver_that_never_answers_is_unknown_within_the_timeout() {
    let scene = Scene::new();
    let mut config = String::new();
    for number in 0..100 {
        writeln!(
            config,
            "[service.s{number}]\nrestart = {{ command = [\"touch\", \"ran\"] }}\n\
             [[service.s{number}.http]]\nurl = \"http://name-{number}.example/\"\ntimeout = \"3s\""
        )
        .unwrap();
    }
    scene.config(&config);
    // it takes queries, and answers none
    let outcome = in_namespace(
        &scene,
        "127.0.0.1 localhost\n",
        "nameserver 127.0.0.1\noptions timeout:30 attempts:5\n",
        "import socket, time
silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
silent.bind(('127.0.0.1', 53))
open('ready', 'w').close()
time.sleep(60)
",
    );
    let report = outcome.exits(3).json();
    for service in report["services"].as_array().unwrap() {
        let message = service["findings"][0]["message"].to_string();
        assert_eq!(service["verdict"], "unknown", "{service}");
        assert!(
            message.contains("the resolver did not answer within 3s"),
            "{message}"
        );
    }
    assert!(!scene.has("ran"));
    let took = report["duration_ms"].as_u64().unwrap();
    assert!(took < 3 * 3_000, "{took} ms");
}

#[test]
fn a_flood_and_a_dribble_end_in_time_with_little_memory() {
    // one that sends without end, and one that sends a byte now and then
    let flood = TcpListener::bind("127.0.0.1:0").unwrap();
    let flood_port = flood.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in flood.incoming().flatten() {
            std::thread::spawn(move || {
                let _ = head(&mut stream);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
                while stream.write_all(&[b'x'; 8192]).is_ok() {}
            });
        }
    });
    let dribble = TcpListener::bind("127.0.0.1:0").unwrap();
    let dribble_port = dribble.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in dribble.incoming().flatten() {
            std::thread::spawn(move || {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n");
                while stream.write_all(b"x").is_ok() {
                    std::thread::sleep(std::time::Duration::from_millis(50));
                }
            });
        }
    });
    let scene = Scene::new();
    let mut config = String::new();
    for number in 0..20 {
        writeln!(
            config,
            "[service.f{number}]\n[[service.f{number}.http]]\nurl = \"http://127.0.0.1:{flood_port}/\"\n\
             [service.d{number}]\n[[service.d{number}.http]]\nurl = \"http://127.0.0.1:{dribble_port}/\"\ntimeout = \"2s\""
        )
        .unwrap();
    }
    scene.config(&config);
    let running = scene.begin(scene.command(&["check", "--json"]));
    let status = format!("/proc/{}/status", running.pid());
    let mut peak = 0_u64;
    let mut running = Some(running);
    let outcome = loop {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with("VmHWM:"));
        let now = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
        match now {
            Some(now) => peak = peak.max(now),
            None => break scene.end(running.take().unwrap()),
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    };
    let report = outcome.exits(2).json();
    for service in report["services"].as_array().unwrap() {
        let is_flood = service["name"].as_str().unwrap().starts_with('f');
        let expected = if is_flood { "healthy" } else { "down" };
        assert_eq!(service["verdict"], expected, "{service}");
    }
    assert!(peak < 64 << 10, "{peak} KB");
}
