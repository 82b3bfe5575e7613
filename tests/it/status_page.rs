//! The status page: what a run publishes, what `status --html` prints, and what a browser and a screen reader make of it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;

use crate::scene::{Scene, Service, json_lines, render};

const WEB: &str = "[web]\ndir = \"{dir}/web\"\n";

/// A scene whose runs publish, with a service that is well, and one that is not.
fn scene() -> Scene {
    let scene = Scene::new();
    let well = Service::new("feed");
    let bad = Service::new("bot")
        .watched()
        .top("description", "\"Trades <b>fast</b> & well\"");
    scene.config(&format!("{WEB}{}", render(&[&well, &bad])));
    scene.start("feed", &["pid_file=feed.pid"]);
    scene
}

#[test]
fn each_run_publishes_for_everybody_to_read() {
    let scene = scene();
    scene.check().exits(2).verdict("bot", "down");
    for name in ["status.html", "status.json", "metrics.prom"] {
        let meta = fs::metadata(scene.path(&format!("web/{name}"))).unwrap();
        assert_eq!(meta.permissions().mode() & 0o777, 0o644, "{name}");
    }
    let published: Value = serde_json::from_str(&scene.read("web/status.json")).unwrap();
    let printed = scene.run(&["status", "--json"]).exits(2).json();
    assert_eq!(published, printed);
    assert!(
        scene
            .read("web/metrics.prom")
            .contains("watchdog_last_run_exit_code 2")
    );
    let page = scene.read("web/status.html");
    assert!(page.contains(": 1 critical of 2 services</h1>"), "{page}");
    assert!(
        page.contains("Trades &lt;b&gt;fast&lt;/b&gt; &amp; well"),
        "{page}"
    );

    // the next one is of the next run
    scene.start("bot", &["pid_file=bot.pid"]);
    scene.check().exits(0);
    assert!(scene.read("web/status.html").contains(": all well</h1>"));
}

#[test]
fn a_dry_run_publishes_nothing() {
    let scene = scene();
    scene.run(&["check", "--dry-run", "--json"]).exits(2);
    assert!(!scene.has("web"));
    scene.check().exits(2);
    let before = scene.read("web/status.html");
    scene.run(&["check", "--dry-run", "--json"]).exits(2);
    assert_eq!(scene.read("web/status.html"), before);
}

#[test]
fn what_cannot_be_published_is_a_line_in_the_log() {
    let scene = scene();
    scene.write("web", "a file in its place");
    let outcome = scene.check().exits(2).verdict("feed", "healthy");
    assert!(
        outcome.stderr.contains("[web] cannot be published: "),
        "{}",
        outcome.stderr
    );
    assert_eq!(scene.read("web"), "a file in its place");
}

#[test]
#[ignore = "needs root"]
fn root_publishes_nothing_where_others_could_put_a_link() {
    let scene = scene();
    fs::create_dir(scene.path("web")).unwrap();
    fs::set_permissions(scene.path("web"), Permissions::from_mode(0o777)).unwrap();
    let outcome = scene.check().exits(2).verdict("feed", "healthy");
    let said = "/web can be changed by everybody; keep it where only root can write";
    assert!(outcome.stderr.contains(said), "{}", outcome.stderr);
    assert_eq!(fs::read_dir(scene.path("web")).unwrap().count(), 0);
}

#[test]
fn a_state_that_cannot_be_written_is_on_the_page() {
    let scene = scene();
    scene.check().exits(2);
    fs::remove_dir_all(scene.path("state")).unwrap();
    scene.write("state", "a file in its place");
    scene.run(&["check"]).exits(73);
    let page = scene.read("web/status.html");
    assert!(
        page.contains(": the watchdog itself is in trouble; ")
            && page.contains("nothing is restarted until that is mended"),
        "{page}"
    );
    let published: Value = serde_json::from_str(&scene.read("web/status.json")).unwrap();
    assert_eq!(published["exit_code"], 73);
}

#[test]
fn status_prints_the_page_of_some_services_without_a_table_for_it() {
    let scene = Scene::of(&[&Service::new("a").watched(), &Service::new("b").watched()]);
    let before = scene.run(&["status", "--html"]).exits(3).stdout;
    assert!(before.contains(": no run has been recorded yet</h1>"));
    scene.check().exits(2);
    let page = scene.run(&["status", "--html", "a"]).exits(2).stdout;
    assert!(page.contains(": 1 critical of 1 service</h1>"), "{page}");
    assert!(page.contains("<code>process_missing</code>"));
    assert!(page.contains("watchdog.toml why a</code>"), "{page}");
    assert!(!page.contains(">b<"), "{page}");
    let late = scene.run(&["status", "--html", "--max-age", "0s"]).exits(3);
    assert!(late.stdout.contains("the last run is older than"));
    let both = scene.run(&["status", "--html", "--json"]).exits(64);
    assert!(
        both.stderr.contains("cannot be used with"),
        "{}",
        both.stderr
    );
}

/// What a browser finds at these addresses.
pub(crate) fn look_at(urls: &[String]) -> Vec<Value> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/browser.py");
    let output = crate::scene::python()
        .arg(script)
        .args(urls)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    json_lines(&String::from_utf8(output.stdout).unwrap())
}

/// Asserts that something of a role and a name is on a page.
#[track_caller]
pub(crate) fn has(page: &Value, role: &str, name: &str) {
    let nodes = page["nodes"].as_array().unwrap();
    let mut of_role = nodes.iter().filter(|node| node[0] == role);
    let names: Vec<_> = of_role.clone().map(|node| node[1].to_string()).collect();
    assert!(
        of_role.any(|node| node[1].as_str().unwrap().contains(name)),
        "no {role} with {name} among {names:#?}"
    );
}

#[test]
#[ignore = "needs Chromium"]
fn a_browser_and_a_screen_reader_understand_the_page() {
    let scene = Scene::new();
    let name = format!("a-service-with-a-name-of-{}", "x".repeat(39));
    let bot = Service::new("bot").restart("max_per_hour", "1");
    let long = Service::new(&name).watched();
    let well = Service::new("feed");
    scene.config(&format!(
        "{}{WEB}[service.broken]\nspawn = {{ command = [\"/bin/sh\", \"-c\", \"echo '<script>document.title=1</script>' >&2; exit 3\"], stderr = \"err\" }}\nrestart = {{ max_per_hour = 1 }}\n",
        render(&[&bot, &long, &well])
    ));
    scene.start("feed", &["pid_file=feed.pid"]);
    scene.check().exits(2).verdict("broken", "restart_failed");
    let page = scene.read("web/status.html");
    // a page in which something of another's was taken for markup
    scene.write(
        "evil.html",
        page.replacen(
            "<main>",
            "<main><p style=\"color:red\">x</p><script>document.title='owned'</script><img src=\"http://127.0.0.1:9/x\">",
            1,
        ),
    );
    let urls = ["web/status.html", "evil.html"]
        .map(|name| format!("file://{}", scene.path(name).display()));
    let [page, evil] = &look_at(&urls)[..] else {
        panic!("two pages");
    };

    for (role, name) in [
        ("heading", "2 critical, 1 warning of 4 services"),
        ("heading", "What is wrong"),
        ("heading", "broken restart failed"),
        ("article", "broken restart failed"),
        ("heading", "Services"),
        ("heading", "Recent events"),
        ("columnheader", "Last 24 hours"),
        ("columnheader", "Verdict"),
        ("rowheader", &name),
        ("cell", "healthy"),
        ("image", "well all the time"),
        ("image", "1 attempt to mend it"),
        ("term", "To type"),
        ("StaticText", "why broken"),
        ("StaticText", "<script>document.title=1</script>"),
        ("StaticText", "exited with status 3"),
    ] {
        has(page, role, name);
    }
    let levels: Vec<_> = (page["nodes"].as_array().unwrap().iter())
        .filter(|node| node[0] == "heading")
        .map(|node| node[2].as_i64().unwrap())
        .collect();
    assert_eq!(levels.iter().filter(|&&level| level == 1).count(), 1);
    assert_eq!(levels.iter().filter(|&&level| level == 2).count(), 3);
    assert_eq!(page["violations"], serde_json::json!([]));
    assert_eq!(page["errors"], serde_json::json!([]));
    assert_eq!(page["requests"], serde_json::json!([]));
    // nothing has to be moved sideways, on a telephone either
    assert!(page["widths"]["400"].as_f64().unwrap() <= 400.0, "{page}");
    assert!(page["widths"]["1280"].as_f64().unwrap() <= 1280.0, "{page}");
    assert_ne!(page["colors"]["light"], page["colors"]["dark"]);
    // its style sheet was applied
    assert_eq!(page["colors"]["dark"][0], "rgb(13, 17, 23)");

    let kept_off = evil["violations"].as_array().unwrap();
    for directive in ["style-src", "script-src", "img-src"] {
        let is_it = |found: &Value| found.as_str().unwrap().starts_with(directive);
        assert!(kept_off.iter().any(is_it), "{directive}: {kept_off:?}");
    }
    has(evil, "RootWebArea", "of 4 services");
}
