//! The forms that values of common types are written in.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{Context, Field, Fields, Form, Inner, Key, Keys, Shown, Standing, Table, Value};
use crate::clock;

impl Form for bool {
    fn read(value: &Value<'_>, _: &Context) -> Option<Self> {
        value.flag()
    }

    fn show(value: &Self) -> Option<Shown> {
        Some(Shown::Flag(*value))
    }

    fn kind() -> String {
        "true or false".to_owned()
    }
}

/// A form that is a common type within limits: it differs only in what it takes.
pub(crate) trait Checked {
    /// The type.
    type Of: Form;
    /// What it is, for people.
    const KIND: &'static str;

    /// Reads it, or notes what is wrong.
    fn read(value: &Value<'_>, context: &Context) -> Option<Self::Of>;
}

impl<C: Checked> Form<C::Of> for C {
    fn read(value: &Value<'_>, context: &Context) -> Option<C::Of> {
        <C as Checked>::read(value, context)
    }

    fn show(value: &C::Of) -> Option<Shown> {
        <C::Of as Form>::show(value)
    }

    fn kind() -> String {
        C::KIND.to_owned()
    }
}

/// A text that may be empty.
impl Form for String {
    fn read(value: &Value<'_>, _: &Context) -> Option<Self> {
        value.text().map(str::to_owned)
    }

    fn show(value: &Self) -> Option<Shown> {
        Some(Shown::text(value))
    }

    fn kind() -> String {
        "a text".to_owned()
    }
}

/// A duration that may be zero.
impl Form for Duration {
    fn read(value: &Value<'_>, _: &Context) -> Option<Self> {
        value.duration()
    }

    fn show(value: &Self) -> Option<Shown> {
        Some(Shown::text(clock::exact(*value)))
    }

    fn kind() -> String {
        "a duration".to_owned()
    }
}

/// A path, made absolute.
impl Form for PathBuf {
    fn read(value: &Value<'_>, context: &Context) -> Option<Self> {
        value.path(&context.base)
    }

    fn show(value: &Self) -> Option<Shown> {
        Some(Shown::text(value.to_string_lossy()))
    }

    fn kind() -> String {
        "a path".to_owned()
    }
}

impl<T, F: Form<T>> Form<Option<T>> for Option<F> {
    const OPTIONAL: bool = true;

    fn read(value: &Value<'_>, context: &Context) -> Option<Option<T>> {
        F::read(value, context).map(Some)
    }

    fn absent() -> Option<Option<T>> {
        Some(None)
    }

    fn show(value: &Option<T>) -> Option<Shown> {
        F::show(value.as_ref()?)
    }

    fn kind() -> String {
        F::kind()
    }

    fn inner() -> Option<Inner> {
        F::inner()
    }
}

/// A list; one of tables is left out where it is empty.
impl<T, F: Form<T>> Form<Vec<T>> for Vec<F> {
    fn read(value: &Value<'_>, context: &Context) -> Option<Vec<T>> {
        F::read_list(value, context)
    }

    fn show(value: &Vec<T>) -> Option<Shown> {
        let is_bare =
            F::inner().is_none_or(|inner| inner.layouts.iter().any(|l| l.short.is_some()));
        (is_bare || !value.is_empty())
            .then(|| Shown::List(value.iter().filter_map(F::show).collect()))
    }

    fn kind() -> String {
        let kind = F::kind();
        let kind = kind.trim_start_matches("a ");
        format!("a list, each {kind}")
    }

    fn inner() -> Option<Inner> {
        let inner = F::inner()?;
        Some(Inner {
            standing: Standing::List,
            ..inner
        })
    }
}

/// A list with something in it.
pub(crate) struct Filled<F = String>(F);

/// A text that is not empty.
impl Checked for Filled<String> {
    type Of = String;
    const KIND: &'static str = "a text";

    fn read(value: &Value<'_>, _: &Context) -> Option<String> {
        value.filled()
    }
}

impl<T, F: Form<T>> Form<Vec<T>> for Filled<Vec<F>> {
    fn read(value: &Value<'_>, context: &Context) -> Option<Vec<T>> {
        value.must_be_filled()?;
        F::read_list(value, context)
    }

    fn show(value: &Vec<T>) -> Option<Shown> {
        <Vec<F> as Form<Vec<T>>>::show(value)
    }

    fn kind() -> String {
        <Vec<F> as Form<Vec<T>>>::kind()
    }
}

/// A whole number from `LEAST` to `MOST`.
pub(crate) struct Within<const LEAST: i64, const MOST: i64>;

/// A whole number from `LEAST` on.
pub(crate) type AtLeast<const LEAST: i64> = Within<LEAST, { i64::MAX }>;

impl<T: TryFrom<i64> + TryInto<i64> + Copy, const LEAST: i64, const MOST: i64> Form<T>
    for Within<LEAST, MOST>
{
    fn read(value: &Value<'_>, _: &Context) -> Option<T> {
        value.whole(LEAST..=MOST)
    }

    fn show(value: &T) -> Option<Shown> {
        (*value).try_into().ok().map(Shown::Whole)
    }

    fn kind() -> String {
        if MOST == i64::MAX {
            format!("a whole number, {LEAST} or more")
        } else {
            format!("a whole number from {LEAST} to {MOST}")
        }
    }
}

/// A duration that zero would make no sense for.
pub(crate) struct Positive;

impl Checked for Positive {
    type Of = Duration;
    const KIND: &'static str = "a duration above zero";

    fn read(value: &Value<'_>, _: &Context) -> Option<Duration> {
        value.time()
    }
}

/// A user or group, by name or number.
pub(crate) struct Account;

impl Checked for Account {
    type Of = String;
    const KIND: &'static str = "a name or a number";

    fn read(value: &Value<'_>, _: &Context) -> Option<String> {
        value.account()
    }
}

/// A program and its arguments.
pub(crate) struct Program;

impl Checked for Program {
    type Of = Vec<String>;
    const KIND: &'static str = "a list of the program and its arguments";

    fn read(value: &Value<'_>, _: &Context) -> Option<Vec<String>> {
        value.command()
    }
}

/// What is no key of the table, but follows from what is.
pub(crate) trait Derived {
    /// Its type.
    type Of: Clone;

    /// What follows; `None` where what it follows from is missing or wrong.
    fn derive(table: &Table<'_>, context: &Context) -> Option<Self::Of>;
}

impl<D: Derived> Field<D::Of> for D {
    type Part = Option<D::Of>;
    const KEYS: Keys = Keys::None;

    fn take(table: &Table<'_>, _: &'static Key, context: &Context) -> Self::Part {
        D::derive(table, context)
    }

    fn whole(part: Self::Part, _: Option<fn() -> D::Of>) -> Option<D::Of> {
        part
    }

    fn or(part: Self::Part, other: &Self::Part) -> Self::Part {
        part.or_else(|| other.clone())
    }

    fn show(_: &D::Of, _: &'static Key, _: &mut Vec<(String, Shown)>) {}
}

/// The directory that relative paths begin at.
pub(crate) struct Base;

impl Derived for Base {
    type Of = Arc<Path>;

    fn derive(_: &Table<'_>, context: &Context) -> Option<Arc<Path>> {
        Some(Arc::clone(&context.base))
    }
}

/// The keys of another table, in this one.
pub(crate) struct Flat;

impl<T: Fields> Field<T> for Flat {
    type Part = T::Part;
    const KEYS: Keys = Keys::Flat;

    fn take(table: &Table<'_>, _: &'static Key, context: &Context) -> T::Part {
        T::take(table, context)
    }

    fn whole(part: T::Part, _: Option<fn() -> T>) -> Option<T> {
        T::whole(part)
    }

    fn or(part: T::Part, other: &T::Part) -> T::Part {
        T::or(part, other)
    }

    fn show(value: &T, _: &'static Key, entries: &mut Vec<(String, Shown)>) {
        value.write(entries);
    }

    fn inner() -> Option<Inner> {
        Some(Inner {
            layouts: const { &[T::LAYOUT] },
            standing: Standing::Once,
        })
    }
}

/// What some keys of a table mean together.
pub(crate) trait Meant<T> {
    /// What is meant; `None` where the keys say too little, which is noted.
    fn meant(self) -> Option<T>;

    /// The keys that mean it.
    fn written(value: &T) -> Self;
}

/// The keys of `G` for what they mean together: after `=>` they stand in this table, after `as` in one of their own.
pub(crate) struct Via<G>(G);

impl<T, G: Fields + Meant<T>> Field<T> for Via<G> {
    type Part = G::Part;
    const KEYS: Keys = Keys::Flat;

    fn take(table: &Table<'_>, _: &'static Key, context: &Context) -> G::Part {
        G::take(table, context)
    }

    fn whole(part: G::Part, _: Option<fn() -> T>) -> Option<T> {
        G::whole(part)?.meant()
    }

    fn or(part: G::Part, other: &G::Part) -> G::Part {
        G::or(part, other)
    }

    fn show(value: &T, _: &'static Key, entries: &mut Vec<(String, Shown)>) {
        G::written(value).write(entries);
    }

    fn inner() -> Option<Inner> {
        Some(Inner {
            layouts: const { &[G::LAYOUT] },
            standing: Standing::Once,
        })
    }
}

/// A table of its own, for what its keys mean together.
impl<T, G: Fields + Form + Meant<T>> Form<T> for Via<G> {
    fn read(value: &Value<'_>, context: &Context) -> Option<T> {
        <G as Form>::read(value, context)?.meant()
    }

    fn show(value: &T) -> Option<Shown> {
        Some(G::written(value).shown())
    }

    fn kind() -> String {
        <G as Form>::kind()
    }

    fn inner() -> Option<Inner> {
        <G as Form>::inner()
    }
}

/// A table of which each key has a default of its own, so that the table may be left out, or stand in `[defaults]` key
/// by key.
pub(crate) struct Nested;

impl<T: Fields> Field<T> for Nested {
    type Part = T::Part;

    fn take(table: &Table<'_>, key: &'static Key, context: &Context) -> T::Part {
        let value = table.get(key.name);
        let inner = value.as_ref().and_then(|value| value.table(T::LAYOUT));
        inner.map_or_else(T::Part::default, |inner| T::take(&inner, context))
    }

    fn whole(part: T::Part, _: Option<fn() -> T>) -> Option<T> {
        T::whole(part)
    }

    fn or(part: T::Part, other: &T::Part) -> T::Part {
        T::or(part, other)
    }

    fn show(value: &T, key: &'static Key, entries: &mut Vec<(String, Shown)>) {
        entries.push((key.name.to_owned(), value.shown()));
    }

    fn kind() -> String {
        "a table".to_owned()
    }

    fn inner() -> Option<Inner> {
        Some(Inner {
            layouts: const { &[T::LAYOUT] },
            standing: Standing::Once,
        })
    }
}
