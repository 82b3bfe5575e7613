//! Real daemons as Debian packages them: each forks, writes and removes its PID file and names its processes its own
//! way. Each is found, brought back after KILL and after STOP, never doubled, and left alone when the budget is spent.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;

use crate::scene::{Proc, Scene, alive, free_port, processes, root, signal};

/// The first line of a PID file as a number.
fn named(scene: &Scene, pid_file: &str) -> Option<i32> {
    scene.read(pid_file).lines().next()?.trim().parse().ok()
}

/// The live processes of the scene whose parent is none of them: the masters.
fn masters(scene: &Scene, is_ours: &dyn Fn(&Proc) -> bool) -> usize {
    let ours: Vec<Proc> = processes()
        .into_iter()
        .filter(|p| p.lives() && is_ours(p) && !p.command_line().contains("watchdog.toml"))
        .collect();
    assert!(ours.len() < 100, "in {}", scene.dir());
    ours.iter()
        .filter(|p| !ours.iter().any(|other| other.pid == p.parent))
        .count()
}

/// Takes a daemon through its life: started, found, killed, frozen, and given up when the budget of two is spent.
fn brought_back_twice(
    scene: &Scene,
    pid_file: &str,
    is_ours: &dyn Fn(&Proc) -> bool,
    answers: &dyn Fn() -> bool,
) {
    scene.check().exits(1).verdict("daemon", "restarted");
    scene.wait_until("an answer", answers);
    let first = named(scene, pid_file).unwrap();
    for _ in 0..2 {
        let outcome = scene.check().exits(0).verdict("daemon", "healthy");
        assert_eq!(outcome.service("daemon")["pid"], first);
    }
    assert_eq!(masters(scene, is_ours), 1);

    // the first start was one attempt; a clean slate for the two that are tested
    scene.run(&["reset", "daemon"]).exits(0);
    crash(scene, first, is_ours);
    scene.check().exits(1).verdict("daemon", "restarted");
    scene.wait_until("an answer", answers);
    let second = named(scene, pid_file).unwrap();
    assert_ne!(second, first);
    assert_eq!(masters(scene, is_ours), 1);
    scene.check().exits(0).verdict("daemon", "healthy");

    scene.freeze(second);
    scene.check().restarted_for("daemon", "process_stopped");
    scene.wait_until("an answer", answers);
    let third = named(scene, pid_file).unwrap();
    assert_ne!(third, second);
    assert!(!alive(second));
    assert_eq!(masters(scene, is_ours), 1);
    scene.check().exits(0).verdict("daemon", "healthy");

    crash(scene, third, is_ours);
    for _ in 0..2 {
        scene.check().exits(2).verdict("daemon", "exhausted");
    }
    assert_eq!(masters(scene, is_ours), 0);
}

/// Kills a daemon with all its processes, as the kernel does to a cgroup that is out of memory.
fn crash(scene: &Scene, master: i32, is_ours: &dyn Fn(&Proc) -> bool) {
    signal(master, Signal::SIGKILL);
    for process in processes().into_iter().filter(|p| is_ours(p)) {
        signal(process.pid, Signal::SIGKILL);
    }
    scene.wait_until("its end", || {
        !processes().iter().any(|p| p.lives() && is_ours(p))
    });
}

const RESTART: &str = "restart = { settle = \"500ms\", stop_timeout = \"2s\", max_per_hour = 2 }\nstart_grace = \"0s\"\n";

fn connects(port: u16) -> bool {
    std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
}

#[test]
#[ignore = "needs redis-server"]
fn redis_is_brought_back() {
    let scene = Scene::new();
    let port = free_port();
    scene.write(
        "redis.conf",
        scene.fill(&format!(
            "daemonize yes\nbind 127.0.0.1\nport {port}\npidfile {{dir}}/redis.pid\nlogfile {{dir}}/redis.log\ndir {{dir}}\nsave \"\"\n"
        )),
    );
    scene.config(&format!(
        "[service.daemon]\n{RESTART}
process = {{ pid_file = \"redis.pid\", command_line = 'redis-server .*:{port}' }}
spawn = {{ command = [\"redis-server\", \"{{dir}}/redis.conf\"] }}
[[service.daemon.log]]
path = \"redis.log\"
expect = ['Ready to accept connections']
"
    ));
    let mark = format!(":{port}");
    let is_ours = |p: &Proc| {
        let line = p.command_line();
        line.contains("redis-server") && line.trim_end().ends_with(&mark)
    };
    brought_back_twice(&scene, "redis.pid", &is_ours, &|| connects(port));
}

fn nginx(scene: &Scene, port: u16) {
    fs::create_dir(scene.path("nginx")).unwrap();
    let user = if root() { "user root;\n" } else { "" };
    let mut text = format!(
        "{user}pid {{dir}}/nginx/nginx.pid;\nerror_log {{dir}}/nginx/error.log notice;\nworker_processes 2;\nevents {{}}\nhttp {{ access_log off;\n"
    );
    for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        let _ = writeln!(text, "{kind}_temp_path {{dir}}/nginx/{kind};");
    }
    let _ = writeln!(
        text,
        "server {{ listen 127.0.0.1:{port}; location / {{ return 200 ok; }} }} }}"
    );
    scene.write("nginx/nginx.conf", scene.fill(&text));
    scene.config(&format!(
        "[service.daemon]\n{RESTART}
process = {{ pid_file = \"nginx/nginx.pid\", command_line = 'nginx: master process .*{{dir}}/' }}
spawn = {{ command = [\"nginx\", \"-p\", \"{{dir}}/nginx\", \"-c\", \"{{dir}}/nginx/nginx.conf\"], stderr = \"nginx.err\" }}
[[service.daemon.log]]
path = \"nginx/error.log\"
forbid = ['\\[emerg\\]']
"
    ));
}

/// A worker's command line names no directory, but its working directory is the master's.
fn in_directory(scene: &Scene, word: &'static str) -> impl Fn(&Proc) -> bool + use<> {
    let directory: PathBuf = scene.path("");
    move |p: &Proc| {
        let here = fs::read_link(format!("/proc/{}/cwd", p.pid))
            .is_ok_and(|cwd| cwd.starts_with(&directory));
        p.command_line().contains(word) && here
    }
}

#[test]
#[ignore = "needs nginx"]
fn nginx_is_brought_back() {
    let scene = Scene::new();
    let port = free_port();
    nginx(&scene, port);
    let is_ours = in_directory(&scene, "nginx: ");
    brought_back_twice(&scene, "nginx/nginx.pid", &is_ours, &|| connects(port));
}

#[test]
#[ignore = "needs nginx"]
fn f25_orphaned_workers_do_not_keep_nginx_down() {
    // only the master is killed: its workers live on, hold the port, and lead nothing
    let scene = Scene::new();
    let port = free_port();
    nginx(&scene, port);
    scene.check().exits(1).verdict("daemon", "restarted");
    scene.check().exits(0).verdict("daemon", "healthy");
    let master = named(&scene, "nginx/nginx.pid").unwrap();
    scene.kill(master);
    scene.check().exits(1).verdict("daemon", "restarted");
    scene.check().exits(0).verdict("daemon", "healthy");
    let is_ours = in_directory(&scene, "nginx: ");
    assert_eq!(masters(&scene, &is_ours), 1);
    assert!(connects(port));
}

#[test]
#[ignore = "needs postgresql"]
fn postgresql_is_brought_back() {
    let Some(bin) = postgres_bin() else {
        panic!("no /usr/lib/postgresql/*/bin/postgres");
    };
    let scene = Scene::new();
    let (directory, user, prefix) = if root() {
        let directory = scene.lend("pg", "postgres");
        let prefix = "setpriv --reuid=postgres --regid=postgres --init-groups ";
        (directory, "user = \"postgres\", ", prefix)
    } else {
        fs::create_dir(scene.path("pg")).unwrap();
        (scene.path("pg"), "", "")
    };
    let (bin, directory) = (bin.display(), directory.display());
    // no Unix socket: its lock file would name the killed server, whose PID lives on until init has reaped it
    let port = free_port();
    scene
        .shell(&format!(
            "cd {directory}; {prefix}{bin}/initdb -D {directory}/data -A trust --no-sync >/dev/null 2>&1"
        ))
        .exits(0);
    scene.config(&format!(
        "[service.daemon]\n{RESTART}working_dir = \"pg\"
process = {{ pid_file = \"data/postmaster.pid\", command_line = '^{bin}/postgres -D {directory}/data' }}
spawn = {{ {user}command = [\"{bin}/postgres\", \"-D\", \"{directory}/data\", \"-c\", \"unix_socket_directories=\", \"-h\", \"127.0.0.1\", \"-p\", \"{port}\"], stderr = \"server.log\" }}
[[service.daemon.log]]
path = \"server.log\"
expect = ['ready to accept connections']
"
    ));
    let is_ours = in_directory(&scene, "postgres");
    brought_back_twice(&scene, "pg/data/postmaster.pid", &is_ours, &|| {
        connects(port)
    });
}

fn postgres_bin() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    versions
        .flatten()
        .map(|entry| entry.path().join("bin"))
        .find(|bin| Path::new(&bin.join("postgres")).exists())
}
