//! The macros that definitions are made with.

/// Defines a config table: see the top of `table`. `table!(@field …)` is the [`Field`](super::Field) that a line names.
macro_rules! table {
    (
        $(#[doc = $about:literal])+
        $vis:vis struct $name:ident like $sample:literal $(, short $short:ident)? $(, check $check:path)? {
            $(
                $(#[doc = $doc:literal])+
                $field:ident $(($word:literal))? : $ty:ty $(as $form:ty)? $(=> $special:ty)? $(= $default:expr)? $(, $how:ident $example:literal)?;
            )*
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq, Eq)]
        $vis struct $name {
            $(
                $(#[doc = $doc])+
                pub $field: $ty,
            )*
        }

        const _: () = {
            use $crate::table::{
                Context, Example, Field, Fields, Form, Inner, Key, Layout, Shown, Standing, Table, Value, table,
            };

            /// The keys by their fields.
            struct Keys {
                $($field: Key,)*
            }

            static KEYS: Keys = Keys {
                $(
                    $field: Key {
                        name: table!(@word $field $($word)?),
                        about: &[$($doc),+],
                        example: table!(@example $($how $example)?),
                        default: table!(
                            @shown $ty, table!(@field $ty $(as $form)? $(=> $special)?), &KEYS.$field $(, $default)?
                        ),
                        required: !<table!(@field $ty $(as $form)? $(=> $special)?) as Field<$ty>>::OPTIONAL
                            && table!(@lacks $($default)?),
                        keys: <table!(@field $ty $(as $form)? $(=> $special)?) as Field<$ty>>::KEYS,
                        kind: <table!(@field $ty $(as $form)? $(=> $special)?) as Field<$ty>>::kind,
                        inner: <table!(@field $ty $(as $form)? $(=> $special)?) as Field<$ty>>::inner,
                    },
                )*
            };

            static LAYOUT: Layout = Layout {
                about: &[$($about),+],
                sample: $sample,
                short: table!(@short $($short)?),
                keys: &[$(&KEYS.$field),*],
            };

            /// What was written.
            #[derive(Clone, Default)]
            #[allow(private_interfaces, reason = "a form may be private: only what it makes is seen")]
            pub(crate) struct Part {
                $(pub(crate) $field: <table!(@field $ty $(as $form)? $(=> $special)?) as Field<$ty>>::Part,)*
            }

            impl Fields for $name {
                type Part = Part;

                const LAYOUT: &'static Layout = &LAYOUT;

                fn take(table: &Table<'_>, context: &Context) -> Part {
                    #[allow(unused_mut, reason = "only a check changes it")]
                    let mut part = Part {
                        $($field: <table!(@field $ty $(as $form)? $(=> $special)?) as Field<$ty>>::take(table, &KEYS.$field, context),)*
                    };
                    $($check(table, &mut part);)?
                    part
                }

                fn whole(part: Part) -> Option<Self> {
                    Some(Self {
                        $(
                            $field: <table!(@field $ty $(as $form)? $(=> $special)?) as Field<$ty>>::whole(
                                part.$field,
                                table!(@default $ty $(, $default)?),
                            )?,
                        )*
                    })
                }

                fn or(part: Part, other: &Part) -> Part {
                    Part {
                        $($field: <table!(@field $ty $(as $form)? $(=> $special)?) as Field<$ty>>::or(part.$field, &other.$field),)*
                    }
                }

                fn write(&self, entries: &mut Vec<(String, Shown)>) {
                    $(<table!(@field $ty $(as $form)? $(=> $special)?) as Field<$ty>>::show(&self.$field, &KEYS.$field, entries);)*
                }
            }

            impl Form for $name {
                fn read(value: &Value<'_>, context: &Context) -> Option<Self> {
                    if let Some(short) = LAYOUT.short
                        && !value.is_table()
                    {
                        let mut part = Part::default();
                        $(
                            if stringify!($field) == short {
                                part.$field = <table!(@field $ty $(as $form)? $(=> $special)?) as Field<$ty>>::bare(value, context);
                            }
                        )*
                        return <Self as Fields>::whole(part);
                    }
                    let part = <Self as Fields>::take(&value.table(&LAYOUT)?, context);
                    <Self as Fields>::whole(part)
                }

                fn read_list(value: &Value<'_>, context: &Context) -> Option<Vec<Self>> {
                    if LAYOUT.short.is_some() || value.is_list() {
                        return value.list(|entry| <Self as Form>::read(entry, context));
                    }
                    value.not_tables(&LAYOUT);
                    None
                }

                fn show(value: &Self) -> Option<Shown> {
                    Some(value.shown())
                }

                fn kind() -> String {
                    let of_short = |short: &str| {
                        let fields = [$((stringify!($field), &KEYS.$field)),*];
                        let (_, key) = fields.iter().find(|(field, _)| *field == short)?;
                        Some(format!("{}, or a table", (key.kind)()))
                    };
                    let kind = LAYOUT.short.and_then(of_short);
                    kind.unwrap_or_else(|| "a table".to_owned())
                }

                fn inner() -> Option<Inner> {
                    Some(Inner {
                        layouts: const { &[&LAYOUT] },
                        standing: Standing::Once,
                    })
                }
            }
        };
    };

    (@word $field:ident) => { stringify!($field) };
    (@word $field:ident $word:literal) => { $word };
    (@field $ty:ty) => { $crate::table::One<$ty> };
    (@field $ty:ty as $form:ty) => { $crate::table::One<$form> };
    (@field $ty:ty => $special:ty) => { $special };
    (@example) => { Example::Default };
    (@example example $text:literal) => { Example::Plain($text) };
    (@example commented $text:literal) => { Example::Commented($text) };
    (@default $ty:ty) => { None };
    (@default $ty:ty, $default:expr) => { Some(|| $default) };
    (@shown $ty:ty, $field:ty, $key:expr) => { None };
    (@shown $ty:ty, $field:ty, $key:expr, $default:expr) => {
        Some(|| {
            let default: $ty = $default;
            <$field as Field<$ty>>::shown(&default, $key)
        })
    };
    (@lacks) => { true };
    (@lacks $default:expr) => { false };
    (@short) => { None };
    (@short $short:ident) => { Some(stringify!($short)) };
}

/// Makes an enum one of some words: `choice! { Zone: "local" = Local, "utc" = Utc }`. What has no word cannot be
/// chosen.
macro_rules! choice {
    ($name:ty: $($word:literal = $variant:ident),+ $(,)?) => {
        impl $crate::table::Form for $name {
            fn read(value: &$crate::table::Value<'_>, _: &$crate::table::Context) -> Option<Self> {
                value.choice(&[$(($word, Self::$variant)),+])
            }

            fn show(value: &Self) -> Option<$crate::table::Shown> {
                let words = [$(($word, Self::$variant)),+];
                let (word, _) = words.iter().find(|(_, variant)| variant == value)?;
                Some($crate::table::Shown::text(*word))
            }

            fn kind() -> String {
                format!("one of {}", [$($word),+].join(", "))
            }
        }
    };
}

pub(crate) use {choice, table};
