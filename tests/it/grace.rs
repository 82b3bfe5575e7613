//! The grace of services without a process that could be known: containers and remote programs that are watched by
//! their logs and restarted by a command.

use std::fs;
use std::time::Duration;

use crate::scene::Scene;

/// A log that is too old, and a command that counts how often it was run.
fn scene(rest: &str) -> Scene {
    let scene = Scene::with(&format!(
        "[service.a]\nstart_grace = \"10m\"\nlog = [{{ path = \"a.log\", max_age = \"5m\" }}]\n\
         restart = {{ command = [\"/bin/sh\", \"{{dir}}/restart.sh\"], settle = \"0s\", max_per_hour = 9 }}\n{rest}"
    ));
    scene.write("restart.sh", "echo restart >>\"${0%/*}/restarts\"\n");
    scene.write("a.log", "x\n");
    scene.age("a.log", Duration::from_mins(20));
    scene
}

fn restarts(scene: &Scene) -> usize {
    scene.read("restarts").lines().count()
}

/// Lets the remembered restarts be older.
fn let_pass(scene: &Scene, minutes: i64) {
    let older = |value: &mut serde_json::Value| {
        let earlier = crate::scene::when(value) - chrono::TimeDelta::minutes(minutes);
        *value = earlier.to_rfc3339().into();
    };
    scene.edit_state(|state| {
        let service = &mut state["services"]["a"];
        older(&mut service["trouble_since"]);
        for key in ["attempts", "good_restarts"] {
            service[key]
                .as_array_mut()
                .unwrap()
                .iter_mut()
                .for_each(older);
        }
    });
}

#[test]
fn what_was_restarted_has_its_time_to_write_again() {
    let scene = scene("");
    scene.check().restarted_for("a", "log_stale");
    for _ in 0..3 {
        scene.check().exits(0).verdict("a", "starting");
    }
    assert_eq!(restarts(&scene), 1);
    // a lost state forgets nothing of that
    fs::remove_file(scene.path("state/state.json")).unwrap();
    fs::remove_file(scene.path("state/state.json.bak")).unwrap();
    scene.check().exits(0).verdict("a", "starting");
    scene.write("a.log", "fresh\n");
    scene.check().exits(0).verdict("a", "healthy");
    assert_eq!(restarts(&scene), 1);
}

#[test]
fn the_third_restart_in_a_row_has_no_grace() {
    let scene = scene("");
    for number in 1..=2 {
        scene.check().restarted_for("a", "log_stale");
        scene.check().exits(0).verdict("a", "starting");
        let_pass(&scene, 9);
        scene.check().exits(0).verdict("a", "starting");
        let_pass(&scene, 1);
        assert_eq!(restarts(&scene), number);
    }
    scene.check().restarted_for("a", "log_stale");
    scene.check().restarted_for("a", "log_stale");
    assert_eq!(restarts(&scene), 4);
    // healthy between, it has one again
    scene.write("a.log", "fresh\n");
    scene.check().exits(0).verdict("a", "healthy");
    scene.age("a.log", Duration::from_mins(20));
    scene.check().exits(0).verdict("a", "starting");
}

#[test]
fn a_restart_that_failed_gives_no_grace() {
    let scene = scene("");
    scene.write(
        "restart.sh",
        "echo restart >>\"${0%/*}/restarts\"\nexit 3\n",
    );
    for _ in 0..2 {
        scene.check().exits(2).verdict("a", "restart_failed");
    }
    assert_eq!(restarts(&scene), 2);
    scene.write("restart.sh", "echo restart >>\"${0%/*}/restarts\"\n");
    scene.check().restarted_for("a", "log_stale");
    scene.check().exits(0).verdict("a", "starting");
}

#[test]
fn a_person_who_resets_it_leaves_it_its_grace() {
    let scene = scene("");
    scene.check().restarted_for("a", "log_stale");
    scene.run(&["reset", "a"]).exits(0);
    scene.check().exits(0).verdict("a", "starting");
    assert_eq!(restarts(&scene), 1);
}
