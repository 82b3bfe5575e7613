//! What `adopt` prints for programs that look like others: each table finds its own program well, finds it missing when
//! it is killed while a near relative runs, starts it again, and never touches the relative.
//!
//! Where the real program is not installed, a stand-in has its arguments: a few lines of C that ignore them, under the
//! program's name.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::boxes::SystemdBox;
use crate::scene::{Proc, Scene, alive, pid_of, processes, root};

/// What makes the tests quick, before any table.
const QUICK: &str = "[defaults]\nrestart = { settle = \"100ms\", stop_timeout = \"2s\" }\n";

/// Reads a FIFO that nobody writes, so that the shell itself waits.
const WAITS: &str =
    "[ -p \"$0.fifo\" ] || mkfifo \"$0.fifo\"\nwhile :; do read -r _ <>\"$0.fifo\"; done\n";

/// A program that is started beside the watchdog.
struct Program<'a> {
    scene: &'a Scene,
    command: Command,
}

impl<'a> Program<'a> {
    fn new(scene: &'a Scene, program: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(scene.fill(program));
        command
            .args(arguments.iter().map(|argument| scene.fill(argument)))
            .current_dir(scene.dir())
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0);
        Self { scene, command }
    }

    fn of(scene: &'a Scene, line: &str) -> Self {
        let words: Vec<&str> = line.split(' ').collect();
        Self::new(scene, words[0], &words[1..])
    }

    fn change(mut self, change: impl FnOnce(&mut Command)) -> Self {
        change(&mut self.command);
        self
    }

    /// Starts it, to be reaped as soon as it ends.
    fn begin(mut self) -> i32 {
        let mut child = self.command.spawn().unwrap();
        let pid = pid_of(&child);
        std::thread::spawn(move || child.wait());
        pid
    }

    /// Starts it, and waits until it is what it is to be.
    fn start(self) -> i32 {
        let scene = self.scene;
        let pid = self.begin();
        let own = fs::read("/proc/self/cmdline").unwrap();
        scene.wait_until("its exec", || {
            fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| !line.is_empty() && line != own)
        });
        pid
    }
}

/// What `adopt` prints for a process.
fn table(scene: &Scene, asked: &str) -> String {
    let mut command = scene.command(&["adopt", asked]);
    command.current_dir("/");
    scene.finish(command).exits(0).stdout
}

/// The name of the service of a table.
fn service(table: &str) -> String {
    let (_, rest) = table.split_once("[service.").unwrap();
    rest.split_once("]\n")
        .unwrap()
        .0
        .trim_matches('"')
        .to_owned()
}

/// Takes a program through all that its table has to do, while its relatives run.
#[track_caller]
fn is_told_from(scene: &Scene, pid: i32, relatives: &[i32]) -> String {
    let table = table(scene, &pid.to_string());
    let name = service(&table);
    scene.config(&format!("{QUICK}{table}"));
    let outcome = scene.check().exits(0).verdict(&name, "healthy");
    assert_eq!(outcome.service(&name)["pid"], pid, "{table}");
    scene.kill_and_reap(pid);
    let dry = scene.run(&["check", "--dry-run", "--json"]);
    let can_start = table.contains("\nspawn = ");
    let verdict = if can_start { "failing" } else { "down" };
    let dry = dry.verdict(&name, verdict).finds(&name, "process_missing");
    assert_ne!(dry.code, 0);
    if can_start {
        scene.check().restarted_for(&name, "process_missing");
        let outcome = scene.check().exits(0).verdict(&name, "healthy");
        let now = outcome.service(&name)["pid"].as_i64().unwrap();
        assert!(now != i64::from(pid) && relatives.iter().all(|&it| i64::from(it) != now));
        scene.kill(i32::try_from(now).unwrap());
    }
    for &relative in relatives {
        assert!(alive(relative), "a relative was ended: {table}");
    }
    table
}

/// The command line of a process.
fn line(pid: i32) -> String {
    Proc::of(pid).map_or(String::new(), |process| process.command_line())
}

/// Builds the stand-in.
fn stand_in(scene: &Scene) -> PathBuf {
    let program = scene.path("stand-in");
    if !program.exists() {
        scene.write(
            "stand-in.c",
            "#include <unistd.h>\nint main(void) { for (;;) pause(); }\n",
        );
        scene.shell("cc -o stand-in stand-in.c").exits(0);
    }
    program
}

#[test]
#[ignore = "needs gcc"]
fn near_relatives_are_told_apart() {
    for (program, relatives) in [
        (
            "python3 manage.py rqworker mails",
            &["python3 manage.py shell", "python3 manage.py rqworker"][..],
        ),
        (
            "php artisan queue:work",
            &["php artisan tinker", "php artisan queue:work --queue=mails"],
        ),
        (
            "php bin/console messenger:consume async",
            &["php bin/console messenger:consume"],
        ),
        (
            "python3 {dir}/bin/celery -A x worker -Q a",
            &[
                "python3 {dir}/bin/celery -A x worker -Q b",
                "python3 {dir}/bin/celery -A x beat",
            ],
        ),
        (
            "java -Xmx32m -cp A:B:C Worker",
            &[
                "java -Xmx32m -cp A:B:C Api",
                "java -Xmx32m -cp A:B:C Worker2",
            ],
        ),
        (
            "java -jar bot-1.2.3.jar live",
            &["java -jar bot-1.2.3.jar paper"],
        ),
        (
            "node -r ./tracing.js server.js",
            &["node -r ./tracing.js worker.js"],
        ),
        ("dotnet Shop.dll", &["dotnet Mails.dll"]),
        ("ruby bin/rails server", &["ruby bin/rails console"]),
        (
            "feed --live",
            &["feed --paper", "feed", "tail -f feed --live"],
        ),
        (
            "python3 {dir}/srv/bot.py",
            &["vi {dir}/srv/bot.py", "python3 {dir}/srv/bot.py.old"],
        ),
    ] {
        let scene = Scene::new();
        let stand_in = stand_in(&scene);
        for directory in ["bin", "srv", "run"] {
            fs::create_dir(scene.path(directory)).unwrap();
        }
        let start = |line: &str| {
            let name = line.split(' ').next().unwrap();
            let copy = scene.path("run").join(name);
            if !copy.exists() {
                fs::hard_link(&stand_in, &copy).unwrap();
            }
            for script in line
                .split(' ')
                .skip(1)
                .filter(|word| !word.starts_with('-'))
            {
                let script = PathBuf::from(scene.fill(script));
                let script = scene.path("").join(script);
                if script.parent().is_some_and(std::path::Path::is_dir) && !script.exists() {
                    fs::write(&script, "").unwrap();
                }
            }
            Program::of(&scene, &format!("{{dir}}/run/{line}")).start()
        };
        let relatives: Vec<i32> = relatives.iter().map(|line| start(line)).collect();
        let table = is_told_from(&scene, start(program), &relatives);
        assert!(table.contains("\nspawn = "), "{program}\n{table}");
    }
}

#[test]
#[ignore = "needs gcc"]
fn what_runs_on_without_its_main_thread_is_adopted() {
    let scene = Scene::new();
    scene.write(
        "threads.c",
        "#include <pthread.h>\n#include <unistd.h>\n\
         static void *wait(void *x) { for (;;) pause(); return x; }\n\
         int main(void) { pthread_t it; pthread_create(&it, 0, wait, 0); pthread_exit(0); }\n",
    );
    scene.shell("cc -pthread -o threads threads.c").exits(0);
    let pid = Program::of(&scene, "{dir}/threads one").begin();
    let relative = Program::of(&scene, "{dir}/threads two").begin();
    scene.wait_until("the end of its main thread", || {
        fs::read_link(format!("/proc/{pid}/cwd")).is_err()
    });
    let found = table(&scene, &pid.to_string());
    assert!(found.contains("[service.threads]"), "{found}");
    scene.config(&format!("{QUICK}{found}"));
    let outcome = scene.check().exits(0).verdict("threads", "healthy");
    assert_eq!(outcome.service("threads")["pid"], pid);
    assert!(alive(relative));
}

#[test]
fn two_of_one_command_in_two_directories_are_told_apart() {
    let scene = Scene::new();
    let mut pids = Vec::new();
    let mut tables = String::new();
    for name in ["alpha", "beta"] {
        let directory = scene.path(name);
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("main.sh"), WAITS).unwrap();
        let started = Program::of(&scene, "/bin/sh main.sh").change(|command| {
            command.current_dir(&directory);
        });
        pids.push(started.start());
    }
    for (name, pid) in ["alpha", "beta"].into_iter().zip(&pids) {
        let table = table(&scene, &pid.to_string());
        assert_eq!(service(&table), name, "{table}");
        assert!(!table.contains("process ="), "{table}");
        tables.push_str(&table);
    }
    scene.config(&format!("{QUICK}{tables}"));
    scene.run(&["validate"]).exits(0);
    let outcome = scene.check().exits(0);
    for (name, pid) in ["alpha", "beta"].into_iter().zip(&pids) {
        assert_eq!(outcome.service(name)["verdict"], "healthy");
        assert_eq!(outcome.service(name)["pid"], *pid);
    }
    scene.kill_and_reap(pids[0]);
    let dry = scene.run(&["check", "--dry-run", "--json"]);
    dry.verdict("alpha", "failing").verdict("beta", "healthy");
    let outcome = scene
        .check()
        .exits(1)
        .verdict("alpha", "restarted")
        .verdict("beta", "healthy");
    assert_eq!(outcome.service("beta")["pid"], pids[1]);
    let outcome = scene.check().exits(0).verdict("alpha", "healthy");
    let now = i32::try_from(outcome.service("alpha")["pid"].as_i64().unwrap()).unwrap();
    assert_eq!(
        fs::read_link(format!("/proc/{now}/cwd")).unwrap(),
        scene.path("alpha")
    );
    assert!(alive(pids[1]));
}

#[test]
fn what_a_virtual_environment_runs_is_known_and_started_in_it_again() {
    // its `python3` is a link to a program that is called otherwise and lies elsewhere
    for (path, is_kept) in [
        ("{dir}/venv/bin:/usr/bin:/bin", true),
        ("venv/bin:/usr/bin:/bin", true),
        ("/usr/bin:/bin", false),
    ] {
        let scene = Scene::new();
        for directory in ["base", "venv", "venv/bin"] {
            fs::create_dir(scene.path(directory)).unwrap();
        }
        fs::copy("/bin/sh", scene.path("base/python3.99")).unwrap();
        symlink("../../base/python3.99", scene.path("venv/bin/python3")).unwrap();
        scene.write("main.py", WAITS);
        let started = Program::new(&scene, "{dir}/venv/bin/python3", &["main.py"]);
        let started = started.change(|command| {
            command.arg0("python3").env("PATH", scene.fill(path));
        });
        let table = is_told_from(&scene, started.start(), &[]);
        let command = "command = [\"python3\", \"main.py\"]";
        assert_eq!(table.contains(command), is_kept, "{path}: {table}");
    }
}

#[test]
fn what_a_loop_keeps_running_is_left_to_the_loop() {
    let scene = Scene::new();
    scene.write("bot.sh", WAITS);
    scene.write(
        "loop.sh",
        "while :; do /bin/sh {dir}/bot.sh; sleep 0.1; done\n".replace("{dir}", scene.dir()),
    );
    let keeper = Program::of(&scene, "/bin/sh {dir}/loop.sh").start();
    let bot = || {
        let all = processes();
        let found = all
            .iter()
            .find(|process| process.parent == keeper && process.command_line().contains("bot.sh"));
        found.map(|process| process.pid)
    };
    scene.wait_until("the bot", || {
        bot().is_some_and(|pid| line(pid).ends_with("bot.sh"))
    });
    let pid = bot().unwrap();
    let table_of_bot = table(&scene, &pid.to_string());
    let said = format!(
        "# its parent PID {keeper} (sh) starts it itself: adopt that one (`watchdog adopt {keeper}`)"
    );
    assert!(table_of_bot.contains(&said), "{table_of_bot}");
    assert!(!table_of_bot.contains("spawn ="), "{table_of_bot}");
    // by a name, as people call it
    assert_eq!(service(&table(&scene, "bot")), "bot");
    scene.config(&format!("{QUICK}{table_of_bot}"));
    let outcome = scene.check().exits(0).verdict("bot", "healthy");
    assert_eq!(outcome.service("bot")["pid"], pid);
    scene.kill(pid);
    scene.wait_until("the next bot", || {
        bot().is_some_and(|next| next != pid && line(next).ends_with("bot.sh"))
    });
    scene.check().verdict("bot", "healthy");
    assert_eq!(
        scene
            .run(&["history", "--json"])
            .json_lines()
            .iter()
            .filter(|event| event["event"] == "restarted")
            .count(),
        0
    );
    // what keeps it is started as anything else
    let table_of_loop = table(&scene, &keeper.to_string());
    assert!(table_of_loop.contains("\nspawn = "), "{table_of_loop}");
}

#[test]
fn what_a_supervisor_keeps_is_restarted_by_its_own_command() {
    let scene = Scene::new();
    scene.write("bot.sh", WAITS);
    scene.write(
        "supervisord",
        scene.fill("export SUPERVISOR_PROCESS_NAME=w SUPERVISOR_GROUP_NAME=bots\n/bin/sh {dir}/bot.sh\nwait\n"),
    );
    let keeper = Program::of(&scene, "/bin/sh {dir}/supervisord -c {dir}/w.conf").start();
    let bot = || {
        processes()
            .into_iter()
            .find(|process| process.parent == keeper && process.command_line().ends_with("bot.sh"))
    };
    scene.wait_until("the bot", || bot().is_some());
    let table = table(&scene, &bot().unwrap().pid.to_string());
    let restart = scene.fill(
        "restart = { command = [\"supervisorctl\", \"-c\", \"{dir}/w.conf\", \"restart\", \"bots:w\"], stop_first = false }\n",
    );
    assert!(table.contains(&restart), "{table}");
    assert!(!table.contains("spawn ="), "{table}");
}

#[test]
fn what_was_exchanged_while_it_ran_is_started_from_where_it_lies() {
    let scene = Scene::new();
    fs::copy("/bin/sleep", scene.path("feedd")).unwrap();
    let pid = Program::of(&scene, "{dir}/feedd 4000")
        .change(|command| {
            command.arg0("feedd");
        })
        .start();
    fs::copy("/bin/sleep", scene.path("new")).unwrap();
    fs::rename(scene.path("new"), scene.path("feedd")).unwrap();
    let exe = fs::read_link(format!("/proc/{pid}/exe")).unwrap();
    assert!(exe.to_string_lossy().ends_with(" (deleted)"));
    let table = is_told_from(&scene, pid, &[]);
    assert!(!table.contains("(deleted)"), "{table}");
}

#[test]
fn what_was_left_out_of_its_environment_leaves_its_start_to_a_person() {
    let scene = Scene::new();
    scene.write("bot.sh", WAITS);
    let pid = Program::of(&scene, "/bin/sh {dir}/bot.sh")
        .change(|command| {
            command.env("API_SECRET", "hunter2");
        })
        .start();
    let relative = Program::of(&scene, "/bin/sh {dir}/bot.sh paper").start();
    let table = is_told_from(&scene, pid, &[relative]);
    assert!(
        table.contains("\n#spawn = ") && table.contains("API_SECRET"),
        "{table}"
    );
    assert!(!table.contains("hunter2"), "{table}");
}

#[test]
fn a_terminal_is_told() {
    let scene = Scene::new();
    scene.write("bot.sh", format!("echo $$ >{}/up\n{WAITS}", scene.dir()));
    Program::new(
        &scene,
        "/usr/bin/script",
        &["-qc", "exec /bin/sh {dir}/bot.sh", "/dev/null"],
    )
    .start();
    scene.wait_until("the bot", || scene.read("up").ends_with('\n'));
    let table = is_told_from(&scene, scene.read("up").trim().parse().unwrap(), &[]);
    assert!(
        table.contains("# it runs in a terminal, /dev/pts/"),
        "{table}"
    );
}

#[test]
fn a_pid_file_that_nobody_else_writes_again_is_written_by_the_watchdog() {
    let scene = Scene::new();
    scene.write("bot.sh", WAITS);
    let pid = Program::of(&scene, "/bin/sh {dir}/bot.sh").start();
    // as a shell does it, or start-stop-daemon --make-pidfile; and one of another name
    scene.write("bot.pid", format!("{pid}\n"));
    scene.write("aaa.pid", format!("{pid}\n"));
    let table = table(&scene, &pid.to_string());
    let known = scene.fill("pid_file = \"{dir}/bot.pid\"");
    assert!(
        table.contains(&known) && table.contains("write_pid_file = true"),
        "{table}"
    );
    scene.config(&format!("{QUICK}{table}"));
    scene.check().exits(0).verdict("bot", "healthy");
    scene.kill_and_reap(pid);
    scene.check().restarted_for("bot", "process_missing");
    let outcome = scene.check().exits(0).verdict("bot", "healthy");
    assert_eq!(
        outcome.service("bot")["pid"].to_string(),
        scene.read("bot.pid").trim()
    );
    assert_eq!(scene.read("aaa.pid").trim(), pid.to_string());
}

#[test]
#[ignore = "needs root"]
fn the_pid_file_of_another_program_is_not_taken() {
    assert!(root());
    let scene = Scene::new();
    scene.write("prog.sh", WAITS);
    let pid = Program::of(&scene, "/bin/sh {dir}/prog.sh")
        .change(|command| {
            command.current_dir("/");
        })
        .start();
    // in a directory of another name, as redis has it
    let directory = tempfile::Builder::new()
        .prefix("aaa-wd-it-")
        .tempdir_in("/run")
        .unwrap();
    let (own, other) = (
        directory.path().join("prog.pid"),
        directory.path().join("aa.pid"),
    );
    fs::write(&other, format!("{pid}\n")).unwrap();
    let found = table(&scene, &pid.to_string());
    assert!(!found.contains("pid_file ="), "{found}");
    let note = format!("# not used, because of the name: {}", other.display());
    assert!(found.contains(&note), "{found}");
    fs::write(&own, format!("{pid}\n")).unwrap();
    let found = table(&scene, &pid.to_string());
    assert!(
        found.contains(&format!("pid_file = \"{}\"", own.display())),
        "{found}"
    );
    scene.config(&format!("{QUICK}{found}"));
    scene.check().exits(0).verdict("prog", "healthy");
    scene.kill_and_reap(pid);
    scene.check().restarted_for("prog", "process_missing");
    scene.check().exits(0).verdict("prog", "healthy");
    assert_eq!(fs::read_to_string(&other).unwrap(), format!("{pid}\n"));
}

#[test]
#[ignore = "needs root and python3"]
fn what_gave_up_root_by_itself_is_started_as_root_again() {
    assert!(root());
    let scene = Scene::new();
    scene.shell("chmod 755 {dir}").exits(0);
    scene.write(
        "drop.py",
        "import os, signal, socket, sys\n\
         s = socket.socket()\n\
         s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\n\
         s.bind(('127.0.0.1', int(sys.argv[1])))\n\
         s.listen()\n\
         os.setgroups([])\n\
         os.setgid(65534)\n\
         os.setuid(65534)\n\
         open(sys.argv[2], 'a').write('up\\n')\n\
         signal.pause()\n",
    );
    scene.shell("touch {dir}/up; chmod 666 {dir}/up").exits(0);
    let port = (600..1024)
        .find(|&port| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok())
        .unwrap();
    let script = format!("/usr/bin/python3 {{dir}}/drop.py {port} {{dir}}/up");
    let pid = Program::of(&scene, &script).start();
    scene.wait_until("its start", || scene.read("up").contains("up"));
    // one that was started as that user is started as it again
    let other = Program::of(
        &scene,
        "/usr/bin/setpriv --reuid=65534 --regid=65534 --clear-groups /bin/sleep 4000",
    )
    .start();
    scene.wait_until("its program", || line(other).starts_with("/bin/sleep"));
    let table_of_other = table(&scene, &other.to_string());
    assert!(
        table_of_other.contains("\nspawn = ") && !table_of_other.contains("as root"),
        "{table_of_other}"
    );
    assert_eq!(
        table_of_other.matches("user = \"nobody\"").count(),
        2,
        "{table_of_other}"
    );

    let found = table(&scene, &pid.to_string());
    assert!(
        found.contains("# it was started as root and became user nobody itself"),
        "{found}"
    );
    assert_eq!(found.matches("user = \"nobody\"").count(), 1, "{found}");
    scene.config(&format!("{QUICK}{found}"));
    let name = service(&found);
    scene.check().exits(0).verdict(&name, "healthy");
    scene.kill_and_reap(pid);
    scene.check().restarted_for(&name, "process_missing");
    scene.wait_until("its port", || {
        std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    let outcome = scene.check().exits(0).verdict(&name, "healthy");
    let now = outcome.service(&name)["pid"].to_string();
    let owner =
        fs::metadata(format!("/proc/{now}")).map(|meta| std::os::unix::fs::MetadataExt::uid(&meta));
    assert_eq!(owner.unwrap(), 65534);
    assert!(alive(other));
}

#[test]
#[ignore = "needs root"]
fn what_runs_in_a_container_is_refused() {
    assert!(root());
    let scene = Scene::new();
    let outer = Program::of(
        &scene,
        "/usr/bin/unshare --pid --fork --kill-child /bin/sleep 4000",
    )
    .start();
    let inner = || processes().into_iter().find(|it| it.parent == outer);
    scene.wait_until("its program", || {
        inner().is_some_and(|it| it.command_line() == "/bin/sleep 4000")
    });
    let pid = inner().unwrap().pid;
    let outcome = scene.run(&["adopt", &pid.to_string()]).exits(1);
    assert_eq!(
        outcome.stderr,
        format!(
            "watchdog: PID {pid} runs in a container: what runs there is not watched by its process\n"
        )
    );
}

#[test]
fn a_table_that_is_there_already_is_told() {
    let scene = Scene::new();
    scene.write("bot.sh", WAITS);
    let pid = Program::of(&scene, "/bin/sh {dir}/bot.sh").start();
    let first = scene.run(&["adopt", &pid.to_string()]).exits(0);
    assert_eq!(first.stderr, "");
    scene.config(&first.stdout);
    let second = scene.run(&["adopt", &pid.to_string()]).exits(0);
    let said = scene.fill(
        "watchdog: {dir}/watchdog.toml has a table [service.bot] already: a name stands once",
    );
    assert!(second.stderr.contains(&said), "{}", second.stderr);
    // who appends it all the same is told once, and by the right word
    scene.config(&format!("{}{}", first.stdout, second.stdout));
    let outcome = scene.run(&["validate"]).exits(78);
    assert!(
        outcome.text().contains("this table is there already"),
        "{}",
        outcome.text()
    );
    assert!(
        !outcome.text().contains("is written twice"),
        "{}",
        outcome.text()
    );
}

#[test]
#[ignore = "needs root and systemd"]
fn units_are_adopted_by_their_names_and_for_what_they_are() {
    let it = SystemdBox::boot();
    it.write("/srv/bot.sh", "while :; do sleep 1000; done\n");
    it.write(
        "/etc/systemd/system/trader.service",
        "[Service]\nExecStart=/bin/sh /srv/bot.sh\n",
    );
    // as systemd has it for an init script
    it.write(
        "/etc/systemd/system/old.service",
        "[Service]\nType=forking\nGuessMainPID=no\nRemainAfterExit=yes\nExecStart=/bin/sh -c '/bin/sleep 4711 & exit 0'\n",
    );
    // what a job leaves behind is not the job's unit
    it.write(
        "/etc/systemd/system/host.service",
        "[Service]\nKillMode=process\nExecStart=/bin/sh -c '/usr/bin/setsid /bin/sh -c \"/bin/sleep 4712 & exit 0\"; exec /bin/sleep 4713'\n",
    );
    it.sh("systemctl daemon-reload; systemctl start trader old host")
        .ok();
    // no program is called so
    let table = it.sh("watchdog adopt trader").exits(0).stdout;
    assert!(
        table.contains("[service.trader]\n")
            && table.contains("systemd = { unit = \"trader.service\" }"),
        "{table}"
    );
    assert!(!table.contains("spawn"), "{table}");
    it.config(&table);
    it.check().exits(0).tells("trader", "healthy", &[]);
    let table = it.sh("watchdog adopt trader.service").exits(0).stdout;
    assert!(table.contains("[service.trader]\n"), "{table}");

    it.wait("pgrep -xf '/bin/sleep 4711'");
    let pid = it.sh("pgrep -xf '/bin/sleep 4711'").ok();
    let table = it.sh(&format!("watchdog adopt {pid}")).exits(0).stdout;
    assert!(
        table.contains("systemd = { unit = \"old.service\" }") && table.contains("process = {"),
        "{table}"
    );
    it.config(&table);
    it.check().exits(0).tells("sleep", "healthy", &[]);
    it.sh(&format!("kill -KILL {pid}")).ok();
    it.wait(&format!("! test -e /proc/{pid}"));
    let ended = it.check().exits(1);
    assert_eq!(ended.service("sleep")["verdict"], "restarted");
    it.check().exits(0).tells("sleep", "healthy", &[]);

    it.wait("pgrep -xf '/bin/sleep 4712'");
    let pid = it.sh("pgrep -xf '/bin/sleep 4712'").ok();
    let table = it.sh(&format!("watchdog adopt {pid}")).exits(0).stdout;
    assert!(
        table.contains("# host.service did not start it") && table.contains("\nspawn = "),
        "{table}"
    );
    it.sh("watchdog adopt no-such-thing").exits(1);
    let table = it.sh("watchdog adopt old").exits(0).stdout;
    assert!(
        table.contains(
            "# it stays active when its processes have ended, which systemd does not see: add a `process` that it has\n"
        ),
        "{table}"
    );
}
