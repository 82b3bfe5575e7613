//! Config tables, each defined once.
//!
//! [`table!`] makes of one definition the struct, the reading of it with all faults at once, the list of its keys with
//! suggestions for misspelt ones, its defaults, what `show-config` prints of it, and its part of the example config and
//! of the manual. A table is defined in the file of whatever goes by it; `config` only puts them together.
//!
//! ```ignore
//! table! {
//!     /// When it is restarted.
//!     pub struct Policy like "restart = { max_per_hour = 3 }" {
//!         /// Attempts, good or bad, in any 60 minutes; 0: never.
//!         max_per_hour: u32 as Within<0, 3600> = 3;
//!         /// What happens when they are spent.
//!         on_exhausted: OnExhausted = OnExhausted::Wait;
//!         /// The user to ask as.
//!         user: Option<String> as Option<Account>, example r#""postgres""#;
//!     }
//! }
//! ```
//!
//! - The comment of a key is its documentation, in the code and for people. So it is a sentence for people.
//! - `as` names how the value is written, where its type does not say it: a [`Form`]. Forms of entries and of what may
//!   be absent look like the type: `Vec<Mailbox>`, `Option<Account>`. [`Via`] is for a type that is no table of keys
//!   itself, but is written as one: an enum of exclusive alternatives, say.
//! - `=>` names a [`Field`] in its place, for what is not the value of one key: [`Flat`] (the keys of another table stand
//!   in this one), [`Via`] (so do those of what is no table of keys), [`Nested`] (a table of which each key has a default
//!   of its own, so that it may be left out, or stand in `[defaults]`), `Secret` (KEY, KEY_file, KEY_env,
//!   KEY_credential), a [`Derived`] one such as [`Base`] (no key at all).
//! - `=` gives the default. A key without one must be there, unless it is an `Option`.
//! - `example` is what the example config has where there is no default, or it says too little; `commented` is the same
//!   behind a `#`: for what is not needed, or is another way to say the same. A table with an example is written as the
//!   value of its key, and is not explained once more.
//! - `field("key")` is for keys that are no good names in Rust, or in the program.
//! - `check` in the head names a function that holds the keys of a table against one another when all are read. It is
//!   given them as [`Part`]: each absent or wrong one is `None`.
//! - `short` in the head names the key that a bare value stands for: `'tick'` for `{ pattern = 'tick' }`.
//!
//! Enums of words are made by [`choice!`]. What is new in kind is one `impl Form` beside its type; what
//! takes less than all texts, paths or numbers is one `impl Checked`. Tables are compared
//! with `==`, so that fractions need a type of their own. `tests.rs` has a table with all of this.

use std::marker::PhantomData;
use std::path::Path;
use std::sync::Arc;

mod amounts;
mod document;
mod factor;
pub(crate) mod fault;
mod forms;
mod layout;
mod macros;
mod read;
mod shown;
#[cfg(test)]
mod tests;

pub(crate) use amounts::Load;
pub(crate) use document::{Sample, Section, sections};
pub(crate) use factor::Factor;
pub(crate) use fault::Fault;
pub(crate) use forms::{
    Account, AtLeast, Base, Checked, Derived, Filled, Flat, Meant, Nested, Positive, Program, Via,
    Within,
};
pub(crate) use layout::{Example, Inner, Key, Keys, Layout, Standing, nearest};
pub(crate) use macros::{choice, table};
pub(crate) use read::{Faults, Table, Value, absolute, quoted};
pub(crate) use shown::Shown;

/// What stands for a secret where it would be shown.
pub(crate) const MASK: &str = "***";

/// Where relative paths begin.
#[derive(Clone)]
pub(crate) struct Context {
    /// The working directory of a service, or the directory of the config.
    pub(crate) base: Arc<Path>,
    /// The directory of the config: for secrets.
    pub(crate) directory: Arc<Path>,
}

/// How a value of type `T` is written in a config.
pub(crate) trait Form<T = Self> {
    /// Whether it may be left out without a default.
    const OPTIONAL: bool = false;

    /// Reads it, or notes what is wrong.
    fn read(value: &Value<'_>, context: &Context) -> Option<T>;

    /// Reads a list of it.
    fn read_list(value: &Value<'_>, context: &Context) -> Option<Vec<T>> {
        value.list(|entry| Self::read(entry, context))
    }

    /// What holds where it is left out without a default.
    fn absent() -> Option<T> {
        None
    }

    /// Writes it; `None`: it is left out.
    fn show(value: &T) -> Option<Shown>;

    /// What it is, for people: `a duration`.
    fn kind() -> String;

    /// The table that it is.
    fn inner() -> Option<Inner> {
        None
    }
}

/// How a field of a struct is found in a table: most are the value of one key.
pub(crate) trait Field<T> {
    /// What is known of it when the table was read.
    type Part: Clone + Default;
    /// Which keys it takes.
    const KEYS: Keys = Keys::One;
    /// Whether it may be left out without a default.
    const OPTIONAL: bool = true;

    /// Reads it from its table.
    fn take(table: &Table<'_>, key: &'static Key, context: &Context) -> Self::Part;

    /// Reads it from a bare value in place of the table.
    fn bare(_value: &Value<'_>, _context: &Context) -> Self::Part {
        Self::Part::default()
    }

    /// What is meant; `None` where it lacks something, which is noted.
    fn whole(part: Self::Part, default: Option<fn() -> T>) -> Option<T>;

    /// This, and `other` where this says nothing.
    fn or(part: Self::Part, other: &Self::Part) -> Self::Part;

    /// Writes it into the entries of its table.
    fn show(value: &T, key: &'static Key, entries: &mut Vec<(String, Shown)>);

    /// The value that stands behind its key.
    fn shown(value: &T, key: &'static Key) -> Option<Shown> {
        let mut entries = Vec::new();
        Self::show(value, key, &mut entries);
        entries.pop().map(|(_, value)| value)
    }

    /// What it is, for people.
    fn kind() -> String {
        String::new()
    }

    /// The table that it is.
    fn inner() -> Option<Inner> {
        None
    }
}

/// The value of one key, written in the form `F`.
pub(crate) struct One<F>(PhantomData<F>);

impl<T: Clone, F: Form<T>> Field<T> for One<F> {
    type Part = Option<T>;
    const OPTIONAL: bool = <F as Form<T>>::OPTIONAL;

    fn take(table: &Table<'_>, key: &'static Key, context: &Context) -> Option<T> {
        if let Some(value) = table.get(key.name) {
            let value = value.with_example(key.example.text());
            let value = if key.required {
                value.required()
            } else {
                value
            };
            return F::read(&value, context);
        }
        if key.required {
            table.lacks_key(key);
        }
        None
    }

    fn bare(value: &Value<'_>, context: &Context) -> Option<T> {
        F::read(value, context)
    }

    fn whole(part: Option<T>, default: Option<fn() -> T>) -> Option<T> {
        part.or_else(|| default.map(|default| default()))
            .or_else(F::absent)
    }

    fn or(part: Option<T>, other: &Option<T>) -> Option<T> {
        part.or_else(|| other.clone())
    }

    fn show(value: &T, key: &'static Key, entries: &mut Vec<(String, Shown)>) {
        entries.extend(F::show(value).map(|shown| (key.name.to_owned(), shown)));
    }

    fn kind() -> String {
        F::kind()
    }

    fn inner() -> Option<Inner> {
        F::inner()
    }
}

/// A struct that is a table of keys: made by [`table!`].
pub(crate) trait Fields: Sized {
    /// Its fields as they were written, each absent or wrong one `None`.
    type Part: Clone + Default;

    /// Its keys.
    const LAYOUT: &'static Layout;

    /// Reads all that is there.
    fn take(table: &Table<'_>, context: &Context) -> Self::Part;

    /// Fills the defaults in; `None` where something is missing that has none.
    fn whole(part: Self::Part) -> Option<Self>;

    /// The fields of `part`, and those of `other` where it says nothing.
    fn or(part: Self::Part, other: &Self::Part) -> Self::Part;

    /// Writes it into the entries of a table.
    fn write(&self, entries: &mut Vec<(String, Shown)>);

    /// It as a table.
    fn shown(&self) -> Shown {
        let mut entries = Vec::new();
        self.write(&mut entries);
        Shown::Table(entries)
    }
}

/// What was written of a table: each absent or wrong field is `None`.
pub(crate) type Part<T> = <T as Fields>::Part;
