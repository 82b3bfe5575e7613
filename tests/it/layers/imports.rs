//! Reads which file names which: paths in `use` items with their groups and renames, and paths in code.
//!
//! The text is cut into tokens by the lexer that procedural macros use, so that comments and strings are left out and
//! the arguments of macros are not. What a name stands for is looked up as the compiler does it: among the modules and
//! the `use` items of its own module, then along re-exports. What stands in an item under `#[cfg(test)]` is left out.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{Delimiter, Literal, TokenStream, TokenTree};

/// Segments of a path; those of a module of this crate start with `crate`.
pub(crate) type Path = Vec<String>;

/// So many re-exports are followed one after the other.
const LONGEST_CHAIN: usize = 16;

/// A module, which may stand in the file of another.
#[derive(Default)]
struct Module {
    /// What its own names stand for, as written.
    names: BTreeMap<String, Vec<Path>>,
    /// The paths that it names.
    paths: BTreeSet<Path>,
}

/// All modules of a crate.
#[derive(Default)]
pub(crate) struct Crate {
    modules: BTreeMap<Path, Module>,
    /// The module that each file is.
    files: BTreeSet<Path>,
}

/// The path of a module as people write it.
pub(crate) fn shown(path: &[String]) -> String {
    path.join("::")
}

/// A path from its text.
pub(crate) fn path(text: &str) -> Path {
    text.split("::").map(str::to_owned).collect()
}

impl Crate {
    /// Reads a crate from its files: the path of the module that each is, such as `crate::check::log`, and its text.
    pub(crate) fn read<'a>(files: impl IntoIterator<Item = (Path, &'a str)>) -> Self {
        let mut all = Self::default();
        for (module, text) in files {
            let tokens: TokenStream = text
                .parse()
                .unwrap_or_else(|error| panic!("{}: {error}", shown(&module)));
            all.files.insert(module.clone());
            all.modules.entry(module.clone()).or_default();
            all.walk(tokens, &module);
        }
        all
    }

    fn walk(&mut self, tokens: TokenStream, here: &Path) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            match &tokens[at] {
                TokenTree::Punct(punct) if punct.as_char() == '#' => {
                    let inner = usize::from(is_punct(tokens.get(at + 1), '!'));
                    let Some(TokenTree::Group(attribute)) = tokens.get(at + 1 + inner) else {
                        at += 1;
                        continue;
                    };
                    at += 2 + inner;
                    let text = attribute.stream().to_string().replace(' ', "");
                    if text == "cfg(test)" && inner == 0 {
                        at = item_end(&tokens, at);
                    } else if text.starts_with("serde(") {
                        self.strings(attribute.stream(), here);
                    } else {
                        self.walk(attribute.stream(), here);
                    }
                }
                TokenTree::Ident(word) if *word == "use" && !is_punct(tokens.get(at + 1), '<') => {
                    let end = statement_end(&tokens, at);
                    self.tree(&tokens[at + 1..end], &Path::new(), here);
                    at = end + 1;
                }
                TokenTree::Ident(word) if *word == "mod" => {
                    at += 1;
                    if let Some(TokenTree::Ident(name)) = tokens.get(at) {
                        let mut child = here.clone();
                        child.push(name.to_string());
                        let names = &mut self.modules.entry(here.clone()).or_default().names;
                        names.insert(name.to_string(), vec![child.clone()]);
                        if let Some(TokenTree::Group(body)) = tokens.get(at + 1) {
                            self.modules.entry(child.clone()).or_default();
                            self.walk(body.stream(), &child);
                            at += 1;
                        }
                        at += 1;
                    }
                }
                TokenTree::Ident(word) => {
                    let mut path = vec![word.to_string()];
                    while let Some(TokenTree::Ident(next)) = tokens.get(at + 3)
                        && is_punct(tokens.get(at + 1), ':')
                        && is_punct(tokens.get(at + 2), ':')
                    {
                        path.push(next.to_string());
                        at += 3;
                    }
                    at += 1;
                    // a single name was brought in by an item that counts
                    if path.len() > 1 {
                        self.name(path, here);
                    }
                }
                TokenTree::Group(group) => {
                    self.walk(group.stream(), here);
                    at += 1;
                }
                _ => at += 1,
            }
        }
    }

    /// The paths in the strings of an attribute of serde's, such as `with = "crate::clock::exact"`.
    fn strings(&mut self, tokens: TokenStream, here: &Path) {
        for token in tokens {
            match token {
                TokenTree::Group(group) => self.strings(group.stream(), here),
                TokenTree::Literal(literal) => {
                    if let Some(tokens) = inside(&literal) {
                        self.walk(tokens, here);
                    }
                }
                _ => {}
            }
        }
    }

    /// The tree of a `use` item, or a branch of it.
    fn tree(&mut self, tokens: &[TokenTree], before: &Path, here: &Path) {
        let mut path = before.clone();
        let mut at = 0;
        while at < tokens.len() {
            match &tokens[at] {
                TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => {
                    let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                    for branch in inner.split(|token| is_punct(Some(token), ',')) {
                        if !branch.is_empty() {
                            self.tree(branch, &path, here);
                        }
                    }
                    return;
                }
                TokenTree::Punct(punct) if punct.as_char() == '*' => {
                    self.name(path, here);
                    return;
                }
                TokenTree::Ident(word) if *word == "as" => break,
                // `check::{self, …}` is `check` itself; `self::check` starts here
                TokenTree::Ident(word) if *word == "self" && !path.is_empty() => {}
                TokenTree::Ident(word) => path.push(word.to_string()),
                _ => {}
            }
            at += 1;
        }
        let name = match tokens.get(at + 1) {
            Some(TokenTree::Ident(name)) => name.to_string(),
            _ => path.last().cloned().unwrap_or_default(),
        };
        let names = &mut self.modules.entry(here.clone()).or_default().names;
        // what is only re-exported to itself would be looked up for ever
        if path.len() > 1 || path.first() != Some(&name) {
            names.entry(name).or_default().push(path.clone());
        }
        self.name(path, here);
    }

    fn name(&mut self, path: Path, here: &Path) {
        let module = self.modules.entry(here.clone()).or_default();
        module.paths.insert(path);
    }

    /// A path that is written in a module, from the root; each that it can stand for, re-exports along the way among
    /// them. Paths of other crates start with the name of theirs.
    fn resolve(&self, written: &Path, here: &Path, depth: usize) -> Vec<Path> {
        if depth == LONGEST_CHAIN {
            return Vec::new();
        }
        let rest = |from: usize| written[from..].iter().cloned();
        let whole: Path = match written[0].as_str() {
            "crate" => written.clone(),
            // how the program names its library
            "watchdog" => std::iter::once("crate".to_owned()).chain(rest(1)).collect(),
            "self" | "super" => {
                let mut path = here.clone();
                let mut from = usize::from(written[0] == "self");
                while written.get(from).is_some_and(|segment| segment == "super") {
                    path.pop();
                    from += 1;
                }
                path.extend(rest(from));
                path
            }
            first => {
                let Some(meanings) = self.modules.get(here).and_then(|m| m.names.get(first)) else {
                    return vec![written.clone()];
                };
                return meanings
                    .iter()
                    .filter(|meaning| *meaning != written)
                    .flat_map(|meaning| {
                        let further: Path = meaning.iter().cloned().chain(rest(1)).collect();
                        self.resolve(&further, here, depth + 1)
                    })
                    .collect();
            }
        };
        let mut all = vec![whole.clone()];
        if let Some(module) = self.module(&whole)
            && let Some(next) = whole.get(module.len())
            && let Some(meanings) = self.modules[&module].names.get(next)
        {
            for meaning in meanings {
                let further: Path = meaning
                    .iter()
                    .chain(&whole[module.len() + 1..])
                    .cloned()
                    .collect();
                if further != whole {
                    all.extend(self.resolve(&further, &module, depth + 1));
                }
            }
        }
        all
    }

    /// The innermost module that a path leads into.
    fn module(&self, path: &[String]) -> Option<Path> {
        (1..=path.len())
            .rev()
            .map(|length| path[..length].to_vec())
            .find(|start| self.modules.contains_key(start))
    }

    /// The file that a path leads into.
    fn file(&self, path: &[String]) -> Option<&Path> {
        (1..=path.len())
            .rev()
            .find_map(|length| self.files.get(&path[..length]))
    }

    /// What a file names, from the root.
    pub(crate) fn paths(&self, file: &Path) -> BTreeSet<Path> {
        self.modules
            .iter()
            .filter(|(module, _)| self.file(module) == Some(file))
            .flat_map(|(here, module)| module.paths.iter().map(move |path| (here, path)))
            .flat_map(|(here, path)| self.resolve(path, here, 0))
            .collect()
    }

    /// Which files name which, with one path for each that shows it.
    pub(crate) fn edges(&self) -> BTreeMap<Path, BTreeMap<Path, Path>> {
        self.files
            .iter()
            .map(|file| {
                let mut others = BTreeMap::new();
                for path in self.paths(file) {
                    if path[0] == "crate"
                        && let Some(other) = self.file(&path)
                        && other != file
                    {
                        others.entry(other.clone()).or_insert(path);
                    }
                }
                (file.clone(), others)
            })
            .collect()
    }
}

fn is_punct(token: Option<&TokenTree>, wanted: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == wanted)
}

/// Where the statement that starts here has its semicolon.
fn statement_end(tokens: &[TokenTree], from: usize) -> usize {
    (from..tokens.len())
        .find(|&at| is_punct(tokens.get(at), ';'))
        .unwrap_or(tokens.len())
}

/// The first token behind an item: behind its semicolon or its body.
fn item_end(tokens: &[TokenTree], from: usize) -> usize {
    let mut at = from;
    // further attributes
    while is_punct(tokens.get(at), '#') {
        at += 2;
    }
    let is_use = tokens[at..]
        .iter()
        .take(3)
        .any(|token| matches!(token, TokenTree::Ident(word) if *word == "use"));
    if is_use {
        return statement_end(tokens, at) + 1;
    }
    (at..tokens.len())
        .find(|&at| match &tokens[at] {
            TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
            token => is_punct(Some(token), ';'),
        })
        .map_or(tokens.len(), |end| end + 1)
}

/// The tokens in a string.
fn inside(literal: &Literal) -> Option<TokenStream> {
    let text = literal.to_string();
    text.strip_prefix('"')?.strip_suffix('"')?.parse().ok()
}
