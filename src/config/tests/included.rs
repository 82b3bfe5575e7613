//! Files that a config includes.

use std::fs;
use std::os::unix::fs::symlink;

use super::files::{Scene, mode};
use super::*;

const MAIN: &str = "include = [\"conf.d/*.toml\", \"extra.toml\"]\n";

/// A config that includes `conf.d/*.toml` and `extra.toml`, with files of these names and texts.
fn including(files: &[(&str, &str)]) -> Scene {
    let scene = Scene::new(MAIN);
    fs::create_dir(scene.at("conf.d")).unwrap();
    mode(&scene.at("conf.d"), 0o755);
    for (name, text) in files {
        fs::write(scene.at(name), text).unwrap();
        mode(&scene.at(name), 0o644);
    }
    scene
}

fn service(name: &str) -> String {
    format!("[service.{name}]\nspawn = {{ command = [\"./x\"] }}\n")
}

#[test]
fn files_are_read_in_the_order_of_their_names() {
    let scene = including(&[
        ("conf.d/20-b.toml", &service("b")),
        ("conf.d/10-c.toml", &service("c")),
        ("extra.toml", &service("a")),
        ("conf.d/README", "this is no config"),
        // an editor's
        ("conf.d/.#20-b.toml", "nor is this"),
        ("conf.d/.hidden.toml", &service("hidden")),
    ]);
    fs::write(&scene.config, format!("{MAIN}{}", service("z"))).unwrap();
    let config = scene.load().unwrap();
    let names: Vec<&str> = config.services.iter().map(|it| &*it.name).collect();
    assert_eq!(names, ["z", "c", "b", "a"]);
    assert_eq!(config.included[0].pattern, "conf.d/*.toml");
    assert_eq!(
        config.included[0].files,
        [scene.at("conf.d/10-c.toml"), scene.at("conf.d/20-b.toml")]
    );
    // what the config comes to says it all, and includes nothing
    let shown = to_toml(&config);
    assert!(shown.contains("include = []\n"), "{shown}");
    assert!(shown.contains("[service.c]"), "{shown}");
}

#[test]
fn relative_paths_begin_at_the_included_file() {
    let scene = including(&[("conf.d/a.toml", &service("a"))]);
    let config = scene.load().unwrap();
    let a = &config.services[0];
    assert_eq!(&*a.working_dir, scene.at("conf.d"));
    assert_eq!(&*a.file, scene.at("conf.d/a.toml"));
}

#[test]
fn what_holds_for_all_holds_for_included_services_too() {
    let scene = including(&[
        (
            "conf.d/a.toml",
            &format!("{}depends_on = [\"b\"]\n", service("a")),
        ),
        ("extra.toml", &service("b")),
    ]);
    let text =
        format!("{MAIN}[defaults]\nstart_grace = \"7m\"\nrestart = {{ max_per_hour = 9 }}\n");
    fs::write(&scene.config, text).unwrap();
    let config = scene.load().unwrap();
    for service in &config.services {
        assert_eq!(service.start_grace, Duration::from_mins(7));
        assert_eq!(service.policy.max_per_hour, 9);
    }
    assert_eq!(config.services[0].depends_on, ["b"]);
}

#[test]
fn a_file_that_two_patterns_match_is_read_once() {
    let text = "include = [\"*.toml\", \"a*.toml\", \"./a.toml\"]\n";
    let scene = Scene::new(text);
    fs::write(scene.at("a.toml"), service("a")).unwrap();
    mode(&scene.at("a.toml"), 0o644);
    symlink("a.toml", scene.at("alias.toml")).unwrap();
    let config = scene.load().unwrap();
    assert_eq!(config.services.len(), 1);
    // what a pattern matches is known of each
    let both = [scene.at("a.toml"), scene.at("alias.toml")];
    assert_eq!(config.included[0].files, both);
    assert_eq!(config.included[1].files, both);
    assert_eq!(config.included[2].files, both[..1]);
}

#[test]
fn a_name_that_stands_twice_is_told_with_both_places() {
    let scene = including(&[
        ("conf.d/a.toml", &format!("\n\n{}", service("x"))),
        ("extra.toml", &service("x")),
    ]);
    assert_eq!(
        scene.said(),
        "error: there are two services `x`: the other one is at DIR/conf.d/a.toml:3
 --> DIR/extra.toml:1:10: [service.x]
  |
1 | [service.x]
  |          ^
  = help: give one of them another name, or take it out

1 error in DIR/extra.toml"
    );
}

#[test]
fn the_errors_of_all_files_are_told_at_once() {
    let scene = including(&[
        ("conf.d/a.toml", "[service.a]\nspawn = { comand = [] }\n"),
        ("conf.d/b.toml", "[service.b\n"),
        (
            "extra.toml",
            "[service.c]\ndepends_on = [\"d\"]\nlog = []\n",
        ),
    ]);
    let said = scene.said();
    for part in [
        " --> DIR/conf.d/a.toml:2:",
        " --> DIR/conf.d/b.toml:1:",
        "no service `d`",
        " --> DIR/extra.toml:2:",
        "errors in 3 files",
    ] {
        assert!(said.contains(part), "{part} is not in:\n{said}");
    }
}

#[test]
fn an_included_file_has_services_alone() {
    for (text, name) in [
        ("check_timeout = \"1s\"\n", "check_timeout"),
        ("[mail]\nfrom = \"a@b.example\"\n", "mail"),
        ("[defaults]\n", "defaults"),
        // no nesting
        ("include = [\"more/*.toml\"]\n", "include"),
    ] {
        let scene = including(&[("extra.toml", &format!("{text}{}", service("a")))]);
        let said = scene.said();
        assert!(
            said.starts_with(&format!(
                "error: `{name}` cannot stand in an included file\n --> DIR/extra.toml:1:"
            )),
            "{said}"
        );
        assert!(said.contains("write this into DIR/watchdog.toml"), "{said}");
    }
}

#[test]
fn a_pattern_that_matches_nothing_is_no_error() {
    let scene = including(&[]);
    let said = scene.said();
    assert!(
        said.starts_with("error: there is no service in this config\n --> DIR/watchdog.toml"),
        "{said}"
    );
    fs::write(&scene.config, format!("{MAIN}{}", service("a"))).unwrap();
    let config = scene.load().unwrap();
    assert!(config.included.iter().all(|it| it.files.is_empty()));
    assert_eq!(config.included.len(), 2);
}

#[test]
fn a_pattern_that_is_none_is_told() {
    let scene = Scene::new(format!(
        "include = [\"a[.toml\", \"\", 5]\n{}",
        service("a")
    ));
    let said = scene.said();
    assert!(
        said.contains("error: this is no pattern of names: "),
        "{said}"
    );
    assert!(said.contains("3 errors in DIR/watchdog.toml"), "{said}");
}

#[test]
fn each_file_has_to_be_safe_from_others() {
    let scene = including(&[
        ("conf.d/a.toml", &service("a")),
        ("conf.d/b.toml", &service("b")),
    ]);
    assert!(scene.load().is_ok());
    mode(&scene.at("conf.d/a.toml"), 0o666);
    mode(&scene.at("conf.d/b.toml"), 0o666);
    let said = scene.said();
    assert!(said.contains("chmod go-w DIR/conf.d/a.toml"), "{said}");
    assert!(said.contains("chmod go-w DIR/conf.d/b.toml"), "{said}");
    mode(&scene.at("conf.d/a.toml"), 0o644);
    mode(&scene.at("conf.d/b.toml"), 0o644);
    mode(&scene.at("conf.d"), 0o777);
    let said = scene.said();
    assert_eq!(said.matches("chmod go-w DIR/conf.d").count(), 1, "{said}");
    // a link leads to where anybody may write
    mode(&scene.at("conf.d"), 0o755);
    fs::create_dir(scene.at("open")).unwrap();
    mode(&scene.at("open"), 0o777);
    fs::write(scene.at("open/c.toml"), service("c")).unwrap();
    mode(&scene.at("open/c.toml"), 0o644);
    symlink("../open/c.toml", scene.at("conf.d/c.toml")).unwrap();
    assert!(scene.said().contains("chmod go-w DIR/open"));
}

#[test]
fn what_is_matched_and_is_no_file_is_an_error() {
    let scene = including(&[("conf.d/a.toml", &service("a"))]);
    fs::create_dir(scene.at("conf.d/b.toml")).unwrap();
    assert_eq!(
        scene.said(),
        "error: DIR/conf.d/b.toml is a directory, and only files are included
 --> DIR/watchdog.toml:1:12: include[0]
  |
1 | include = [\"conf.d/*.toml\", \"extra.toml\"]
  |            ^^^^^^^^^^^^^^^
  = help: let the pattern match files alone, or give the directory another name

1 error in DIR/watchdog.toml"
    );
    fs::remove_dir(scene.at("conf.d/b.toml")).unwrap();
    symlink("nowhere", scene.at("conf.d/b.toml")).unwrap();
    assert_eq!(
        scene.said(),
        "error: DIR/conf.d/b.toml: it is a symbolic link to nowhere, which does not exist
  = help: let the link lead to a file that is there, or take it away"
    );
    fs::write(&scene.config, "include = [5, \"conf.d/\"]\n").unwrap();
    let said = scene.said();
    for part in [
        "error: DIR/conf.d is a directory, and only files are included\n",
        " --> DIR/watchdog.toml:1:15: include[1]\n",
        "  = help: write \"conf.d/*.toml\" for the files in it\n",
    ] {
        assert!(said.contains(part), "{part}\n{said}");
    }
}

#[test]
fn files_without_end_are_refused() {
    let scene = including(&[]);
    for number in 0..=1000 {
        let path = scene.at(&format!("conf.d/{number}.toml"));
        fs::write(&path, "").unwrap();
        mode(&path, 0o644);
    }
    assert_eq!(
        scene.said(),
        "error: DIR/conf.d/*.toml: more than 1000 files are included\n  = help: is this the pattern that was meant?"
    );
}
