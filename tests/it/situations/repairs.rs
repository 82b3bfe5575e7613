//! What is said of repairs, of what is only alerted about, and of what is not tried again.

use super::Golden;
use crate::scene::{MAIL, Scene};

/// A log that must have no errors, and what is done about one.
fn scene(strategy: &str, script: &str) -> Scene {
    let scene = Scene::with(&format!(
        "{MAIL}[service.a]\nstart_grace = \"0s\"\n[[service.a.log]]\npath = \"a.log\"\nforbid = ['ERROR']\n\
         [[service.a.strategy]]\nfindings = [\"log_error\"]\n{strategy}\n"
    ));
    scene.write("a.log", "fine\n");
    scene.write("repair.sh", script);
    scene.check().exits(0);
    scene.append("a.log", "ERROR: the cache is corrupt\n");
    scene
}

const REPAIR: &str = "command = [\"/bin/sh\", \"{dir}/repair.sh\"]";

#[test]
fn repairs_and_how_they_end() {
    let mut golden = Golden::new("repairs");
    for (title, strategy, script) in [
        ("it works", REPAIR.to_owned(), "echo cleared"),
        ("it fails", REPAIR.to_owned(), "echo no such cache; exit 3"),
        (
            "it takes too long",
            format!("{REPAIR}\ntimeout = \"200ms\""),
            "exec sleep 1000",
        ),
        (
            "its program is not there",
            "command = [\"./nowhere\"]".to_owned(),
            "",
        ),
        (
            "it is only alerted about",
            "action = \"alert\"".to_owned(),
            "",
        ),
    ] {
        golden.title(title);
        let scene = scene(&strategy, script);
        golden.run(&scene, &["check", "--dry-run"]);
        golden.run(&scene, &["check"]);
        golden.run(&scene, &["status"]);
        golden.run(&scene, &["why", "a"]);
        golden.run(&scene, &["history"]);
        golden.mails(&scene);
    }
    golden.compare();
}

#[test]
fn attempts_that_are_spent() {
    let mut golden = Golden::new("attempts");
    let strategy = format!("{REPAIR}\nmax_attempts = 1");
    let scene = scene(&strategy, "exit 1");
    golden.run(&scene, &["check"]);
    scene.append("a.log", "ERROR: again\n");
    golden.run(&scene, &["check"]);
    golden.run(&scene, &["why", "a"]);
    golden.mails(&scene);
    golden.run(&scene, &["reset", "a"]);
    golden.title("a cooldown");
    let strategy = format!("{REPAIR}\ncooldown = \"10m\"\nbackoff = 2");
    let scene = self::scene(&strategy, "");
    golden.run(&scene, &["check"]);
    scene.append("a.log", "ERROR: again\n");
    golden.run(&scene, &["check"]);
    golden.run(&scene, &["why", "a"]);
    golden.compare();
}
