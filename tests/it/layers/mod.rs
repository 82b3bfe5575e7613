//! The modules of the crate know only modules in layers below them, and no files know each other in a circle: read off
//! the paths that they name.

mod imports;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path as FilePath, PathBuf};

use proc_macro2::{TokenStream, TokenTree};

use imports::{Crate, Path, path, shown};

/// The top modules from the lowest layer to the highest; those in one layer do not know each other.
const LAYERS: &[&[&str]] = &[
    &["text", "amount", "clock", "files", "sys", "verdict", "pool"],
    &["process_table", "child", "table"],
    &["systemctl", "client", "secret", "program", "requests"],
    &["guard"],
    &["check"],
    &["restart"],
    &["notify"],
    &["config", "state"],
    &["plan"],
    &["discover"],
    &["observe", "decide", "report"],
    &["scale"],
    &["settle", "progress"],
    &["act"],
    &["deliver", "publish", "cli", "logging", "error"],
    &["run", "web"],
    &["commands"],
    // the library's root, and the program
    &[""],
    &["main"],
];

/// What the pure modules may not name.
const IMPURE: &[&str] = &[
    "std::env",
    "std::fs",
    "std::io",
    "std::net",
    "std::os",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "chrono::Local",
    "chrono::Utc::now",
    "libc",
    "nix",
    "crate::child",
    "crate::files",
    "crate::pool",
    "crate::sys",
    "crate::systemctl",
];

/// The sources in a directory and below it.
pub(crate) fn sources(directory: &FilePath) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The files of `src` with the module that each is, those for tests left out.
fn files() -> Vec<(Path, String)> {
    let top = FilePath::new(env!("CARGO_MANIFEST_DIR")).join("src");
    sources(&top)
        .into_iter()
        .filter(|path| !path.components().any(|part| part.as_os_str() == "tests"))
        .filter(|path| !path.ends_with("tests.rs") && !path.ends_with("fixtures.rs"))
        .map(|path| {
            let inside = path.strip_prefix(&top).unwrap().with_extension("");
            let mut module = vec!["crate".to_owned()];
            module.extend(
                inside
                    .iter()
                    .map(|part| part.to_str().unwrap().to_owned())
                    .filter(|part| part != "mod" && part != "lib"),
            );
            (module, fs::read_to_string(&path).unwrap())
        })
        .collect()
}

fn read(files: &[(Path, String)]) -> Crate {
    Crate::read(
        files
            .iter()
            .map(|(module, text)| (module.clone(), text.as_str())),
    )
}

/// The layer of the top module that a file belongs to.
fn layer(layers: &[&[&str]], file: &[String]) -> Option<usize> {
    let top = file.get(1).map_or("", String::as_str);
    layers.iter().position(|layer| layer.contains(&top))
}

/// The files that name what stands in their own layer or above it.
fn upward(all: &Crate, layers: &[&[&str]]) -> Vec<String> {
    let mut found = Vec::new();
    for (file, others) in all.edges() {
        let Some(here) = layer(layers, &file) else {
            found.push(format!("{} stands in no layer", shown(&file)));
            continue;
        };
        for (other, named) in others {
            let same_top = other.get(1).is_some() && other.get(1) == file.get(1);
            if !same_top && layer(layers, &other).is_some_and(|there| there >= here) {
                found.push(format!(
                    "{} names {}, which is not in a layer below it",
                    shown(&file),
                    shown(&named)
                ));
            }
        }
    }
    found
}

/// The circles of files that know each other.
///
/// Two things do not count. A `mod` item only says that a file is there: what its parent uses of it, the parent names.
/// And a file may name what the files above it in the tree define themselves, for a directory's `mod.rs` has the types
/// that its files share, and uses those files; what it only re-exports from one of them counts as a path to that one.
/// The root is no such parent: nobody names what is in it.
fn circles(all: &Crate) -> Vec<String> {
    let edges: BTreeMap<Path, Vec<Path>> = all
        .edges()
        .into_iter()
        .map(|(file, others)| {
            let others = others
                .into_keys()
                .filter(|other| other.len() == 1 || !file.starts_with(other))
                .collect();
            (file, others)
        })
        .collect();
    let mut found = Vec::new();
    let mut done = BTreeSet::new();
    for file in edges.keys() {
        if let Some(circle) = shortest_circle(&edges, file)
            && !circle.iter().any(|file| done.contains(file))
        {
            done.extend(circle.iter().cloned());
            let names: Vec<String> = circle.iter().map(|file| shown(file)).collect();
            found.push(format!("{} -> {}", names.join(" -> "), names[0]));
        }
    }
    found
}

/// The shortest circle that a file is in.
fn shortest_circle(edges: &BTreeMap<Path, Vec<Path>>, file: &Path) -> Option<Vec<Path>> {
    let mut chains = vec![vec![file.clone()]];
    let mut seen = BTreeSet::new();
    while !chains.is_empty() {
        let mut longer = Vec::new();
        for chain in chains {
            for next in &edges[&chain[chain.len() - 1]] {
                if next == file {
                    return Some(chain);
                }
                if seen.insert(next.clone()) {
                    let mut chain = chain.clone();
                    chain.push(next.clone());
                    longer.push(chain);
                }
            }
        }
        chains = longer;
    }
    None
}

#[test]
fn each_module_knows_only_modules_in_layers_below_it() {
    let all = read(&files());
    let found = upward(&all, LAYERS);
    assert!(found.is_empty(), "{}", found.join("\n"));
    let edges: usize = all.edges().values().map(BTreeMap::len).sum();
    assert!(
        edges > 250,
        "only {edges} were found: the test reads too little"
    );
}

#[test]
fn no_files_know_each_other_in_a_circle() {
    let found = circles(&read(&files()));
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// The files that name one of these.
fn naming(all: &Crate, files: &[Path], banned: &[&str]) -> Vec<String> {
    let banned: Vec<Path> = banned.iter().map(|text| path(text)).collect();
    let mut found = Vec::new();
    for file in files {
        for named in all.paths(file) {
            if banned.iter().any(|banned| named.starts_with(banned)) {
                found.push(format!("{} names {}", shown(file), shown(&named)));
            }
        }
    }
    found
}

#[test]
fn the_policy_touches_nothing() {
    let files = files();
    let all = read(&files);
    let pure: Vec<Path> = files
        .iter()
        .map(|(file, _)| file.clone())
        .filter(|file| {
            file.get(1)
                .is_some_and(|top| ["decide", "settle", "verdict"].contains(&top.as_str()))
        })
        .collect();
    assert!(pure.len() >= 3, "{pure:?}");
    let found = naming(&all, &pure, IMPURE);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Whoever needs to know which method it is asks the method.
#[test]
fn the_restart_methods_are_told_apart_in_one_file() {
    let files = files();
    let all = read(&files);
    let others: Vec<Path> = files.iter().map(|(file, _)| file.clone()).collect();
    let others: Vec<Path> = others
        .into_iter()
        .filter(|file| *file != path("crate::restart::method"))
        .collect();
    let variants = ["Spawn", "Systemd", "Command"];
    let variants = variants.map(|name| format!("crate::restart::RestartMethod::{name}"));
    let found = naming(&all, &others, &variants.each_ref().map(String::as_str));
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn nobody_exits_but_main() {
    let files = files();
    let all = read(&files);
    let others: Vec<Path> = files.iter().map(|(file, _)| file.clone()).collect();
    let found = naming(
        &all,
        &others,
        &["std::process::exit", "std::process::abort"],
    );
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn unsafe_code_has_one_file() {
    fn has_unsafe(tokens: TokenStream) -> bool {
        tokens.into_iter().any(|token| match token {
            TokenTree::Group(group) => has_unsafe(group.stream()),
            TokenTree::Ident(word) => word == "unsafe" || word == "unsafe_code",
            _ => false,
        })
    }
    for (file, text) in files() {
        if file != path("crate::sys") {
            assert!(!has_unsafe(text.parse().unwrap()), "{}", shown(&file));
        }
    }
}

/// A crate of small files: their modules and texts.
fn small(files: &[(&str, &str)]) -> Crate {
    Crate::read(files.iter().map(|(module, text)| (path(module), *text)))
}

/// What the one file of a crate names.
fn names(text: &str) -> Vec<String> {
    let all = small(&[("crate::a::b", text)]);
    all.paths(&path("crate::a::b"))
        .iter()
        .map(|path| shown(path))
        .collect()
}

#[test]
fn each_form_of_a_path_is_read() {
    for (text, named) in [
        ("use crate::x::Y;", &["crate::x::Y"][..]),
        ("pub(crate) use crate::x::Y as Z;", &["crate::x::Y"]),
        ("use crate::x::*;", &["crate::x"]),
        (
            "use crate::{x, y::{self, z::{A, B as C}}, w::*};",
            &[
                "crate::w",
                "crate::x",
                "crate::y",
                "crate::y::z::A",
                "crate::y::z::B",
            ],
        ),
        ("use super::x::Y;", &["crate::a::x::Y"]),
        ("use super::super::{x, y::Z};", &["crate::x", "crate::y::Z"]),
        ("use self::x::Y;", &["crate::a::b::x::Y"]),
        ("mod x; use x::Y;", &["crate::a::b::x::Y"]),
        ("fn f() { crate::x::y(1); }", &["crate::x::y"]),
        ("fn f() -> Vec<super::x::Y> {}", &["crate::a::x::Y"]),
        (
            "use crate::x as z; fn f() { z::y::g(); }",
            &["crate::x", "crate::x::y::g"],
        ),
        (
            "fn f() { println!(\"{}\", crate::x::Y); }",
            &["crate::x::Y"],
        ),
        (
            "use std::{fs as files, time}; fn f() { files::read(p); time::Instant::now(); }",
            &[
                "std::fs",
                "std::fs::read",
                "std::time",
                "std::time::Instant::now",
            ],
        ),
        (
            "mod inner { fn f() { super::g(); super::super::x::h(); } }",
            &["crate::a::b::g", "crate::a::x::h"],
        ),
        (
            "#[serde(with = \"crate::x::y\")] struct S;",
            &["crate::x::y"],
        ),
        (
            "#[arg(value_parser = crate::x::y)] struct S;",
            &["crate::x::y"],
        ),
        ("#[cfg(test)] mod tests { use crate::x::Y; }", &[]),
        (
            "#[cfg(test)] use crate::{x, y}; use crate::z::Z;",
            &["crate::z::Z"],
        ),
        (
            "#[cfg(test)] #[allow(dead_code)] fn f() { crate::x::y(); }",
            &[],
        ),
        (
            "// crate::x::y\n/* use crate::x; */\n/// [`crate::x::y`]\nfn f() {}",
            &[],
        ),
        (
            "fn f() { \"crate::x::y\"; r#\"use crate::x;\"#; '\"'; crate::z::w; }",
            &["crate::z::w"],
        ),
        (
            "impl X { fn f<'a>(&'a self) -> impl Y + use<'a> { crate::x::y } }",
            &["crate::x::y"],
        ),
    ] {
        assert_eq!(names(text), named, "{text}");
    }
}

#[test]
fn a_path_upward_is_found_in_each_form() {
    let layers: &[&[&str]] = &[&["low", "beside"], &["high"], &[""]];
    for text in [
        "use crate::high::X;",
        "use crate::{high::X};",
        "use crate::{low::Y, high::{self, X}};",
        "use super::super::high::X;",
        "fn f() { crate::high::x(); }",
        "fn f() { super::super::high::x(); }",
        "use crate::high as ours; fn f() { ours::x(); }",
        "use crate::beside::X;",
        "use crate::Root;",
        "mod inner { use crate::high::X; }",
    ] {
        let all = small(&[
            ("crate", "mod low; mod high; mod beside;"),
            ("crate::low", "mod part;"),
            ("crate::low::part", text),
            ("crate::beside", ""),
            ("crate::high", "use crate::low::Y; use crate::low::part;"),
        ]);
        let found = upward(&all, layers);
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        assert!(
            found[0].starts_with("crate::low::part names crate::"),
            "{found:?}"
        );
    }
    let all = small(&[("crate::new", "")]);
    assert_eq!(upward(&all, layers), ["crate::new stands in no layer"]);
}

#[test]
fn a_circle_is_found_in_each_form() {
    let parent = "mod a; mod b; mod c; pub struct Shared; pub use a::Export; fn f() { b::g(); }";
    for (a, b, c, circle) in [
        ("use super::b::X;", "use super::c::X;", "", None),
        // what the parent defines itself is shared by all
        ("use super::Shared;", "use super::Shared;", "", None),
        (
            "use super::{Shared, f};",
            "fn g() { super::f(); }",
            "",
            None,
        ),
        (
            "use super::b::X;",
            "fn g() { super::a::x(); }",
            "",
            Some("crate::p::a -> crate::p::b -> crate::p::a"),
        ),
        // what the parent only hands on is its owner's
        (
            "use super::b::X;",
            "use super::Export;",
            "",
            Some("crate::p::a -> crate::p::b -> crate::p::a"),
        ),
        (
            "use super::{b::{X as Y}};",
            "use crate::p::{c};",
            "fn f() { crate::p::a::x(); }",
            Some("crate::p::a -> crate::p::b -> crate::p::c -> crate::p::a"),
        ),
        // out of the family, and back to it
        (
            "use crate::q::X;",
            "",
            "",
            Some("crate::p -> crate::p::a -> crate::q -> crate::p"),
        ),
    ] {
        let all = small(&[
            ("crate", "mod p; mod q;"),
            ("crate::p", parent),
            ("crate::p::a", a),
            ("crate::p::b", b),
            ("crate::p::c", c),
            ("crate::q", "use crate::p::Shared;"),
        ]);
        assert_eq!(circles(&all), Vec::from_iter(circle), "{a} {b} {c}");
    }
}
