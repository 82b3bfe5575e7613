//! What is wrong with a file, as it is found.

use std::any::{Any, TypeId};
use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;

use crate::table::Layout;
use crate::table::fault::{Fault, MOST, Source};

/// What is wrong so far, and what is right and costly to make: a thousand services with one pattern share it.
pub(crate) struct Faults {
    pub(super) list: RefCell<Vec<Raw>>,
    pub(super) made: RefCell<HashMap<TypeId, Made>>,
    /// The whole config, for advice.
    pub(super) root: &'static Layout,
}

/// Values of one type by their texts.
pub(super) type Made = HashMap<String, Box<dyn Any>>;

/// A fault before its line is looked up.
pub(super) struct Raw {
    span: Range<usize>,
    place: String,
    message: String,
    help: Option<String>,
    kind: Kind,
}

/// What a fault is about.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The text is not TOML.
    Syntax,
    /// Something that is there.
    Presence,
    /// The same, and it may be a secret that was put into the wrong key.
    Secret,
    /// Something that is not there, which nobody can know where the text could not be read whole.
    Absence,
}

impl Faults {
    /// No faults of a config of this layout.
    pub(crate) fn of(root: &'static Layout) -> Self {
        Self {
            list: RefCell::default(),
            made: RefCell::default(),
            root,
        }
    }

    pub(super) fn note(
        &self,
        kind: Kind,
        span: &Range<usize>,
        place: &str,
        message: &str,
        help: Option<String>,
    ) {
        self.list.borrow_mut().push(Raw {
            span: span.clone(),
            place: place.to_owned(),
            message: message.to_owned(),
            help,
            kind,
        });
    }

    /// Text that is not TOML.
    pub(crate) fn syntax(&self, span: &Range<usize>, message: &str, help: Option<&str>) {
        let help = help.map(str::to_owned);
        self.note(Kind::Syntax, span, "", message, help);
    }

    /// Something that is missing from the file as a whole.
    pub(crate) fn absence(&self, message: &str, help: &str) {
        self.note(Kind::Absence, &(0..0), "", message, Some(help.to_owned()));
    }

    /// Whether nothing is wrong.
    pub(crate) fn is_empty(&self) -> bool {
        self.list.borrow().is_empty()
    }

    /// What was found wrong first: its place, and what is wrong with it.
    pub(crate) fn first(&self) -> Option<(String, String)> {
        let list = self.list.borrow();
        let first = list.first()?;
        Some((first.place.clone(), first.message.clone()))
    }

    /// Whether more faults would not be told anyway.
    pub(crate) fn many(&self) -> bool {
        self.list.borrow().len() >= MOST
    }

    /// The faults in the order of the file, each once. Where some of the text is not TOML, what else seems wrong
    /// beside it, or missing, may only seem so, and is left out. `values` are the places of lists and inline
    /// tables, which a slip inside makes doubtful as a whole.
    pub(crate) fn told(&self, source: &Source<'_>, values: &[Range<usize>]) -> Vec<Fault> {
        let mut list = self.list.take();
        let slips: Vec<usize> = list
            .iter()
            .filter(|raw| raw.kind == Kind::Syntax)
            .map(|raw| raw.span.start)
            .take(MOST)
            .collect();
        if !slips.is_empty() {
            let lines: Vec<usize> = slips.iter().map(|at| source.line_of(*at)).collect();
            let doubtful: Vec<&Range<usize>> = values
                .iter()
                .filter(|value| {
                    slips
                        .iter()
                        .any(|at| value.start <= *at && *at <= value.end)
                })
                .collect();
            list.retain(|raw| match raw.kind {
                Kind::Syntax => true,
                Kind::Absence => false,
                Kind::Presence | Kind::Secret => {
                    !raw.span.is_empty()
                        && !lines.contains(&source.line_of(raw.span.start))
                        && !doubtful.iter().any(|value| value.contains(&raw.span.start))
                }
            });
        }
        list.sort_by_key(|raw| (raw.span.start, raw.span.end));
        list.dedup_by(|a, b| a.span == b.span && a.message == b.message);
        list.truncate(MOST);
        list.iter()
            .map(|raw| {
                if raw.kind == Kind::Absence && raw.place.is_empty() {
                    return source.fault_of_whole(&raw.message, raw.help.as_deref());
                }
                let above = match raw.kind {
                    Kind::Syntax => source.table_above(raw.span.start, values),
                    _ => None,
                };
                source.fault(
                    &raw.span,
                    above.as_deref().unwrap_or(&raw.place),
                    &raw.message,
                    raw.help.as_deref(),
                    raw.kind == Kind::Secret,
                )
            })
            .collect()
    }
}
