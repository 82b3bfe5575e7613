//! The restart budget: whatever happens, no more attempts than allowed, and none of them forgotten.

use chrono::{TimeDelta, Utc};

use crate::scene::{Scene, Service, alive, when};

/// A service whose program ends at once, so that each attempt fails, and is counted by the program itself.
fn broken(name: &str) -> Service {
    Service::new(name).option("exit=1")
}

#[test]
fn f40_never_more_attempts_than_allowed_however_often_it_runs() {
    let scene = Scene::of(&[&broken("a").restart("max_per_hour", "2")]);
    scene.check().exits(2).verdict("a", "restart_failed");
    let outcome = scene.check().exits(2).verdict("a", "restart_failed");
    assert_eq!(outcome.service("a")["restarts_last_hour"], 2);
    assert_eq!(outcome.service("a")["max_per_hour"], 2);
    for _ in 0..4 {
        let outcome = scene.check().exits(2).verdict("a", "exhausted");
        assert_eq!(outcome.service("a")["restarts_last_hour"], 2);
    }
    assert_eq!(scene.starts("a").len(), 2);
}

#[test]
fn f40_good_restarts_count_as_well() {
    let scene = Scene::of(&[&Service::new("a").restart("max_per_hour", "2")]);
    for _ in 0..2 {
        scene.check().exits(1).verdict("a", "restarted");
        scene.check().exits(0).verdict("a", "healthy");
        scene.kill(scene.last("a"));
    }
    scene.check().exits(2).verdict("a", "exhausted");
    assert_eq!(scene.starts("a").len(), 2);
    assert_eq!(scene.copies("a"), 0);
}

#[test]
fn f40_a_lost_state_file_gives_nothing_back_while_the_backup_is_there() {
    let scene = Scene::of(&[&broken("a").restart("max_per_hour", "1")]);
    scene.check().exits(2).verdict("a", "restart_failed");
    scene.check().exits(2).verdict("a", "exhausted");
    scene.write("state/state.json", "");
    scene.check().exits(2);
    assert_eq!(scene.starts("a").len(), 1);
}

#[test]
fn f40_a_lost_state_gives_nothing_back_while_the_journal_is_there() {
    let scene = Scene::of(&[&broken("a").restart("max_per_hour", "2"), &broken("b")]);
    scene.check().exits(2).verdict("a", "restart_failed");
    scene.run(&["reset", "b"]).exits(0);
    scene.check().exits(2).verdict("a", "restart_failed");
    let lose = |by: &str| {
        for file in ["state.json", "state.json.bak"] {
            scene
                .shell(&format!("cd {{dir}}/state && {by} {file}"))
                .exits(0);
        }
    };
    lose("rm");
    let outcome = scene.check().exits(2).verdict("a", "exhausted");
    assert_eq!(outcome.service("a")["restarts_last_hour"], 2);
    // what a person had forgotten stays so: the second attempt, and the one just now
    assert_eq!(outcome.service("b")["restarts_last_hour"], 2);
    lose("echo { >");
    scene.check().exits(2).verdict("a", "waiting");
    scene.check().exits(2).verdict("a", "exhausted");
    assert_eq!(scene.starts("a").len(), 2);
    // and without a journal nobody knows
    scene.shell("rm -r {dir}/state").exits(0);
    scene.check().exits(2).verdict("a", "restart_failed");
}

#[test]
fn f41_the_window_frees_an_attempt() {
    let scene = Scene::of(&[&broken("a").restart("max_per_hour", "1")]);
    scene.check().exits(2).verdict("a", "restart_failed");
    scene.check().exits(2).verdict("a", "exhausted");
    scene.move_attempts("a", -TimeDelta::minutes(59));
    scene.check().exits(2).verdict("a", "exhausted");
    scene.move_attempts("a", -TimeDelta::minutes(2));
    let outcome = scene.check().exits(2).verdict("a", "restart_failed");
    assert_eq!(outcome.service("a")["restarts_last_hour"], 1);
    assert_eq!(scene.starts("a").len(), 2);
}

#[test]
fn f41_give_up_waits_for_a_reset() {
    let service = broken("a")
        .restart("max_per_hour", "1")
        .restart("on_exhausted", "\"give_up\"");
    let scene = Scene::of(&[&service]);
    scene.check().exits(2).verdict("a", "restart_failed");
    scene.check().exits(2).verdict("a", "exhausted");
    scene.move_attempts("a", -TimeDelta::minutes(61));
    scene.check().exits(2).verdict("a", "exhausted");
    assert_eq!(scene.starts("a").len(), 1);
    scene.run(&["reset", "a"]).exits(0);
    scene.check().exits(2).verdict("a", "restart_failed");
    assert_eq!(scene.starts("a").len(), 2);
}

#[test]
fn f41_a_reset_forgets_the_attempts() {
    let scene = Scene::of(&[&broken("a").restart("max_per_hour", "1")]);
    scene.check();
    scene.check().exits(2).verdict("a", "exhausted");
    scene.run(&["reset", "a"]).exits(0);
    scene.check().exits(2).verdict("a", "restart_failed");
    assert_eq!(scene.starts("a").len(), 2);
}

#[test]
fn cooldown_lies_between_two_attempts() {
    let scene = Scene::of(&[&broken("a").restart("cooldown", "\"30m\"")]);
    scene.check().exits(2).verdict("a", "restart_failed");
    scene.check().exits(2).verdict("a", "waiting");
    scene.move_attempts("a", -TimeDelta::minutes(29));
    scene.check().exits(2).verdict("a", "waiting");
    assert_eq!(scene.starts("a").len(), 1);
    scene.move_attempts("a", -TimeDelta::minutes(2));
    scene.check().exits(2).verdict("a", "restart_failed");
    assert_eq!(scene.starts("a").len(), 2);
}

#[test]
fn f42_only_consecutive_failing_runs_are_counted() {
    let scene = Scene::of(&[&Service::new("a").restart("after_failures", "3")]);
    scene.check().exits(1).verdict("a", "failing");
    scene.check().exits(1).verdict("a", "failing");
    let pid = scene.start("a", &["pid_file=a.pid"]);
    scene.check().exits(0).verdict("a", "healthy");
    scene.kill_and_reap(pid);
    // the streak begins anew
    scene.check().exits(1).verdict("a", "failing");
    scene.check().exits(1).verdict("a", "failing");
    assert_eq!(scene.starts("a").len(), 1);
    scene.check().exits(1).verdict("a", "restarted");
    assert_eq!(scene.starts("a").len(), 2);
}

#[test]
fn failing_comes_before_down() {
    let service = Service::new("a").watched().restart("after_failures", "2");
    let scene = Scene::of(&[&service]);
    scene.check().exits(1).verdict("a", "failing");
    scene.check().exits(2).verdict("a", "down");
}

#[test]
fn a_budget_of_none_is_never_touched() {
    let scene = Scene::of(&[&Service::new("a").restart("max_per_hour", "0")]);
    for _ in 0..2 {
        scene.check().exits(2).verdict("a", "down");
    }
    assert_eq!(scene.starts("a").len(), 0);
}

#[test]
fn without_a_way_to_restart_it_is_down() {
    let scene = Scene::of(&[&Service::new("a").watched()]);
    let outcome = scene.check().exits(2).verdict("a", "down");
    assert!(outcome.service("a")["action"].is_null());
}

#[test]
fn a_dependent_is_not_restarted_while_what_it_needs_is_down() {
    let scene = Scene::of(&[
        &Service::new("app").top("depends_on", "[\"db\"]"),
        &Service::new("db").watched(),
    ]);
    scene
        .check()
        .exits(2)
        .verdict("db", "down")
        .verdict("app", "waiting");
    assert_eq!(scene.starts("app").len(), 0);
    scene.start("db", &["pid_file=db.pid"]);
    scene.check().exits(1).verdict("app", "restarted");
}

#[test]
fn a_dependent_is_not_restarted_after_what_it_needs_failed_to_start() {
    let scene = Scene::of(&[
        &Service::new("app").top("depends_on", "[\"db\"]"),
        &broken("db"),
    ]);
    scene
        .check()
        .exits(2)
        .verdict("db", "restart_failed")
        .verdict("app", "waiting");
    assert_eq!(scene.starts("app").len(), 0);
}

#[test]
fn what_others_need_is_restarted_before_them() {
    // up is what has its PID file
    let slow = |name: &str| {
        let process = format!("{{ pid_file = \"{name}.pid\" }}");
        Service::new(name).known_by(Some(&process))
    };
    let scene = Scene::of(&[
        &slow("web").top("depends_on", "[\"app\", \"db\"]"),
        &slow("app").top("depends_on", "[\"db\"]"),
        &slow("db").option("delay=0.3"),
    ]);
    scene
        .check()
        .exits(1)
        .verdict("db", "restarted")
        .verdict("app", "restarted")
        .verdict("web", "restarted");
    assert_eq!(scene.read("order"), "db\napp\nweb\n");
}

#[test]
fn circles_and_strangers_in_depends_on_are_refused() {
    let circle = Scene::of(&[
        &Service::new("a").top("depends_on", "[\"b\"]"),
        &Service::new("b").top("depends_on", "[\"c\"]"),
        &Service::new("c").top("depends_on", "[\"a\"]"),
    ]);
    circle.check().exits(78);
    let itself = Scene::of(&[&Service::new("a").top("depends_on", "[\"a\"]")]);
    itself.check().exits(78);
    let stranger = Scene::of(&[
        &Service::new("a").top("depends_on", "[\"databse\"]"),
        &Service::new("database"),
    ]);
    let outcome = stranger.check().exits(78);
    assert!(
        outcome.stderr.contains("`database`")
            || outcome.stderr.contains("\"database\"")
            || outcome.stderr.contains("'database'")
            || outcome.stderr.contains("database?"),
        "it names the nearest: {}",
        outcome.stderr
    );
    assert_eq!(stranger.starts("a").len(), 0);
}

#[test]
fn f43_attempts_from_the_future_are_brought_back_to_now_and_count() {
    let scene = Scene::of(&[&broken("a").restart("max_per_hour", "1")]);
    scene.check().exits(2).verdict("a", "restart_failed");
    scene.move_attempts("a", TimeDelta::hours(30));
    scene.check().exits(2).verdict("a", "exhausted");
    let attempts = scene.state()["services"]["a"]["attempts"].clone();
    let attempts = attempts.as_array().unwrap();
    assert_eq!(attempts.len(), 1);
    for attempt in attempts {
        assert!(when(attempt) <= Utc::now(), "{attempt}");
    }
    // and so it is freed in an hour, not in thirty-one
    scene.move_attempts("a", -TimeDelta::minutes(61));
    scene.check().exits(2).verdict("a", "restart_failed");
    assert_eq!(scene.starts("a").len(), 2);
}

#[test]
fn f47_one_recovers_and_another_fails_in_the_same_run() {
    let scene = Scene::of(&[
        &Service::new("one").watched(),
        &Service::new("two").watched(),
    ]);
    let two = scene.start("two", &["pid_file=two.pid"]);
    scene
        .check()
        .exits(2)
        .verdict("one", "down")
        .verdict("two", "healthy");
    scene.start("one", &["pid_file=one.pid"]);
    scene.kill(two);
    scene
        .check()
        .exits(2)
        .verdict("one", "healthy")
        .verdict("two", "down");
}

#[test]
fn trouble_with_one_service_touches_no_other() {
    let scene = Scene::of(&[&broken("bad"), &Service::new("good")]);
    scene
        .check()
        .exits(2)
        .verdict("bad", "restart_failed")
        .verdict("good", "restarted");
    let pid = scene.last("good");
    scene
        .check()
        .exits(2)
        .verdict("bad", "restart_failed")
        .verdict("good", "healthy");
    assert!(alive(pid));
}

#[test]
fn only_the_services_that_are_named_are_looked_at() {
    let scene = Scene::of(&[&Service::new("a"), &Service::new("b")]);
    let outcome = scene.run(&["check", "--json", "b"]).exits(1);
    assert_eq!(outcome.json()["services"].as_array().unwrap().len(), 1);
    outcome.verdict("b", "restarted");
    assert_eq!(scene.starts("a").len(), 0);
    // and what is known of the others stays
    scene.run(&["check", "--json", "a"]).exits(1);
    scene.run(&["check", "--json", "b"]).exits(0);
    let state = scene.state();
    for name in ["a", "b"] {
        let attempts = state["services"][name]["attempts"].as_array().unwrap();
        assert_eq!(attempts.len(), 1, "{name}");
    }
}
