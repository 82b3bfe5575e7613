//! Who depends on whom: names that there are, and no circles.

use std::collections::HashMap;

use crate::table::fault::MOST;
use crate::table::{Table, Value, nearest, quoted};

/// A service that depends on others.
pub(super) struct Dependent<'a> {
    /// Which of all it is.
    pub(super) number: usize,
    pub(super) table: Table<'a>,
    /// Whom it depends on, by the entries of its list; empty where one is wrong.
    pub(super) names: Vec<String>,
}

impl Dependent<'_> {
    /// Hands out an entry of its list.
    fn entry(&self, number: usize, note: impl FnOnce(&Value<'_>)) {
        let list = self.table.get("depends_on");
        if let Some(entry) = list.as_ref().and_then(|list| list.entry(number)) {
            note(&entry);
        }
    }
}

pub(super) fn check_dependencies(
    names: &[&str],
    dependents: &[Dependent<'_>],
    many: impl Fn() -> bool,
) {
    if dependents.is_empty() {
        return;
    }
    let index: HashMap<&str, usize> = names.iter().copied().zip(0..).collect();
    let mut edges: Vec<Vec<(usize, usize)>> = vec![Vec::new(); names.len()];
    for dependent in dependents {
        let wanted = dependent.names.iter().enumerate();
        for (entry, name) in wanted.filter(|(_, name)| !name.is_empty()) {
            match index.get(name.as_str()) {
                Some(other) if *other == dependent.number => dependent.entry(entry, |value| {
                    value.wrong(
                        &format!("service {} depends on itself", quoted(name)),
                        "leave it out",
                    );
                }),
                Some(other) => edges[dependent.number].push((*other, entry)),
                None => {
                    let near = if many() {
                        None
                    } else {
                        let others = names.iter().enumerate();
                        nearest(
                            name,
                            others
                                .filter(|(other, _)| *other != dependent.number)
                                .map(|(_, name)| *name),
                        )
                    };
                    dependent.entry(entry, |value| {
                        value.absent(
                            &format!("no service {}", quoted(name)),
                            near.map_or_else(
                                || "`depends_on` names other services of this file".to_owned(),
                                |near| format!("did you mean `{near}`?"),
                            ),
                        );
                    });
                }
            }
        }
    }
    for cycle in cycles(&edges) {
        note_cycle(names, dependents, &cycle);
    }
}

fn note_cycle(names: &[&str], dependents: &[Dependent<'_>], cycle: &[(usize, usize)]) {
    let Some((first, entry)) = cycle.first() else {
        return;
    };
    let name = |number: &usize| names.get(*number).copied();
    let mut circle: Vec<&str> = cycle
        .iter()
        .take(10)
        .filter_map(|(number, _)| name(number))
        .collect();
    if cycle.len() > 10 {
        circle.push("…");
    }
    circle.extend(name(first));
    if let Ok(at) = dependents.binary_search_by_key(first, |dependent| dependent.number) {
        dependents[at].entry(*entry, |value| {
            value.wrong(
                &format!("services depend on one another: {}", circle.join(" → ")),
                "none of them could ever be the first to be restarted; take one arrow out",
            );
        });
    }
}

/// The cycles of a graph, each as nodes with the edge that is followed, from its first node. Without recursion:
/// a chain of services may be longer than a stack is deep.
fn cycles(edges: &[Vec<(usize, usize)>]) -> Vec<Vec<(usize, usize)>> {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        New,
        Open(usize),
        Done,
    }
    let mut marks = vec![Mark::New; edges.len()];
    let mut found = Vec::new();
    for root in 0..edges.len() {
        if marks[root] != Mark::New {
            continue;
        }
        // the path from the root: node, and which of its edges comes next
        let mut path: Vec<(usize, usize)> = vec![(root, 0)];
        marks[root] = Mark::Open(0);
        while let Some((node, next)) = path.last().copied() {
            let Some((target, _)) = edges[node].get(next).copied() else {
                marks[node] = Mark::Done;
                path.pop();
                continue;
            };
            if let Some(last) = path.last_mut() {
                last.1 += 1;
            }
            match marks[target] {
                Mark::Done => {}
                Mark::New => {
                    marks[target] = Mark::Open(path.len());
                    path.push((target, 0));
                }
                // a tangle has more cycles than memory would hold, and a person would read
                Mark::Open(_) if found.len() >= MOST => {}
                Mark::Open(depth) => {
                    let mut cycle: Vec<_> = path[depth..]
                        .iter()
                        .map(|(node, followed)| (*node, edges[*node][followed - 1].1))
                        .collect();
                    let least = (0..cycle.len()).min_by_key(|at| cycle[*at].0).unwrap_or(0);
                    cycle.rotate_left(least);
                    found.push(cycle);
                }
            }
        }
    }
    found
}
