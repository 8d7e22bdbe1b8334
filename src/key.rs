use std::{borrow::Cow, fmt, ops::Deref, sync::Arc};

use arrayvec::ArrayString;

/// What is asked for. A key is known to every tier by its [`Name`], so two keys are the same key
/// exactly when their names are equal.
///
/// Implemented for strings, integers, `char`, `bool`, tuples of keys, and `uuid::Uuid` with the feature `uuid`. For a
/// type of your own:
///
/// ```
/// use cattleguard::{Key, Name};
///
/// #[derive(Clone)]
/// struct UserId(u64);
///
/// impl Key for UserId {
///     fn name(&self) -> Name<'_> {
///         self.0.name()
///     }
/// }
///
/// #[derive(Clone)]
/// struct UserInTenant { tenant: String, user: UserId }
///
/// impl Key for UserInTenant {
///     fn name(&self) -> Name<'_> {
///         Name::of_parts(&[&self.tenant, &self.user])
///     }
/// }
/// let key = UserInTenant { tenant: "acme".to_owned(), user: UserId(42) };
/// assert_eq!(&*key.name(), "acme:42");
/// assert_eq!(&*("acme", 42).name(), "acme:42");
/// ```
///
/// [`Name::of_parts`] escapes the separator within parts: `("a:b", "c")` and `("a", "b:c")` are two keys.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a cache key",
    label = "not a `Key`",
    note = "implement `cattleguard::Key`: `fn name(&self) -> Name<'_>`, often `self.0.name()` or `Name::of_parts(…)`"
)]
pub trait Key: Send + Sync {
    /// The spelling of this key in the near tier, in stores and in messages. Must be the same
    /// for equal keys in every process and release.
    fn name(&self) -> Name<'_>;
}

/// The spelling of a [`Key`]. Names up to 64 bytes are built without allocating, because one is
/// needed for every hit.
#[derive(Clone)]
pub struct Name<'a>(Spelling<'a>);

#[derive(Clone)]
enum Spelling<'a> {
    Borrowed(&'a str),
    Inline(ArrayString<64>),
    Owned(String),
}

impl Name<'_> {
    /// The name that `args` spell.
    pub fn format(args: fmt::Arguments<'_>) -> Name<'static> {
        let mut inline = ArrayString::new();
        Name(match fmt::write(&mut inline, args) {
            Ok(()) => Spelling::Inline(inline),
            Err(_) => Spelling::Owned(args.to_string()),
        })
    }
}

impl Name<'_> {
    /// The names of several keys as one, joined by `:`. A `:` or `\` within a part has a `\` before it, so that
    /// different parts never make the same name.
    ///
    /// ```
    /// use cattleguard::Name;
    ///
    /// assert_eq!(&*Name::of_parts(&[&"a:b", &7]), r"a\:b:7");
    /// ```
    pub fn of_parts(parts: &[&dyn Key]) -> Name<'static> {
        Name::format(format_args!("{}", Parts(parts)))
    }
}

struct Parts<'a>(&'a [&'a dyn Key]);

impl fmt::Display for Parts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            // No part is spelt so, which would double it; an empty name is that of one empty part.
            return f.write_str("\\");
        }
        for (i, part) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(":")?;
            }
            for piece in part.name().split_inclusive([':', '\\']) {
                match piece.strip_suffix([':', '\\']) {
                    Some(plain) => write!(f, "{plain}\\{}", &piece[plain.len()..])?,
                    None => f.write_str(piece)?,
                }
            }
        }
        Ok(())
    }
}

impl Name<'static> {
    fn inline(name: &str) -> Self {
        Self(match ArrayString::from(name) {
            Ok(inline) => Spelling::Inline(inline),
            Err(_) => Spelling::Owned(name.to_owned()),
        })
    }
}

/// The name of a key in every tier. None begins with what names begin with that the guard makes itself.
pub(crate) fn name_of<K: Key + ?Sized>(key: &K) -> Name<'_> {
    // A name is not moved on: that would cost a hit as much as the look into the near tier.
    let mut name = key.name();
    name.escape();
    name
}

impl Name<'_> {
    pub(crate) fn escape(&mut self) {
        if self.as_bytes().first() == Some(&(RESERVED as u8)) {
            *self = Name::format(format_args!("{RESERVED}k{}", &**self));
        }
    }
}

/// The key of a name, as [`Key::name`] has it. `None` for a name that the guard makes itself.
pub(crate) fn own_name(name: &str) -> Option<&str> {
    match name.strip_prefix(RESERVED) {
        Some(reserved) => reserved.strip_prefix('k'),
        None => Some(name),
    }
}

pub(crate) const RESERVED: char = '\0';

impl<'a> From<&'a str> for Name<'a> {
    fn from(name: &'a str) -> Self {
        Name(Spelling::Borrowed(name))
    }
}

impl From<String> for Name<'_> {
    fn from(name: String) -> Self {
        Name(Spelling::Owned(name))
    }
}

impl Deref for Name<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match &self.0 {
            Spelling::Borrowed(name) => name,
            Spelling::Inline(name) => name,
            Spelling::Owned(name) => name,
        }
    }
}

/// Prints the length only: names are the user's data and stay out of logs.
impl fmt::Debug for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Name({} bytes)", self.len())
    }
}

impl<K: Key + ?Sized> Key for &K {
    fn name(&self) -> Name<'_> {
        (**self).name()
    }
}

macro_rules! text_keys {
    ($($text:ty),*) => {$(
        impl Key for $text {
            fn name(&self) -> Name<'_> {
                let text: &str = self;
                text.into()
            }
        }
    )*};
}
text_keys!(str, String, Box<str>, Arc<str>, Cow<'_, str>);

macro_rules! integer_keys {
    ($($integer:ty),*) => {$(
        impl Key for $integer {
            fn name(&self) -> Name<'_> {
                // Three times faster than `fmt`, on the path of every hit.
                Name::inline(itoa::Buffer::new().format(*self))
            }
        }
    )*};
}
integer_keys!(u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize);

impl Key for char {
    fn name(&self) -> Name<'_> {
        Name::inline(self.encode_utf8(&mut [0; 4]))
    }
}

impl Key for bool {
    fn name(&self) -> Name<'_> {
        if *self { "true".into() } else { "false".into() }
    }
}

/// The hyphenated form, in lower case.
#[cfg(feature = "uuid")]
impl Key for uuid::Uuid {
    fn name(&self) -> Name<'_> {
        Name::inline(self.hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer()))
    }
}

macro_rules! tuple_keys {
    ($($key:ident $at:tt),*) => {
        /// The names of the parts, joined by `:`, with `:` escaped within them.
        impl<$($key: Key),*> Key for ($($key,)*) {
            fn name(&self) -> Name<'_> {
                Name::of_parts(&[$(&self.$at),*])
            }
        }
    };
}
tuple_keys!(A 0, B 1);
tuple_keys!(A 0, B 1, C 2);
tuple_keys!(A 0, B 1, C 2, D 3);

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::fuzzing::parts_of;

    #[test]
    fn long_names_spill_and_stay_equal() {
        let long = "x".repeat(200);
        assert_eq!(&*Name::format(format_args!("{long}")), long);
        assert_eq!(&*(-5i64).name(), "-5");
    }

    #[test]
    fn different_tuples_have_different_names() {
        assert_eq!(&*(7_u32, "x", 'c').name(), "7:x:c");
        assert_ne!(&*("a:b", "c").name(), &*("a", "b:c").name());
        assert_ne!(&*("a\\", "b").name(), &*("a", "\\b").name());
        assert_ne!(&*("a\\:b", "c").name(), &*("a\\", "b:c").name());
        assert_ne!(&*(("a", "b"), "c").name(), &*("a", ("b", "c")).name());
    }

    proptest! {
        #[test]
        fn different_parts_never_make_the_same_name(
            parts in vec(prop_oneof![r"[:\\a\x00]{0,5}", any::<String>()], 0..5),
        ) {
            let keys: Vec<&dyn Key> = parts.iter().map(|part| part as _).collect();
            let name = Name::of_parts(&keys);
            prop_assert_eq!(parts_of(&name), parts);
        }
    }

    #[test]
    fn debug_shows_no_data() {
        assert_eq!(format!("{:?}", "secret".name()), "Name(6 bytes)");
    }
}
