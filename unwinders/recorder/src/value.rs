//! What an event or an annotation can say.

use crate::layout::kind;
use core::fmt;

/// A value with its type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// A number without a sign.
    Unsigned(u64),
    /// A number with a sign.
    Signed(i64),
    /// A floating-point number.
    Float(f64),
    /// Yes or no.
    Bool(bool),
    /// An address.
    Address(u64),
    /// Text; what is too long is cut, and its length kept.
    Text(&'a str),
}

impl Value<'_> {
    /// Its [`kind`].
    #[inline(always)]
    pub const fn kind(&self) -> u64 {
        match self {
            Self::Unsigned(_) => kind::UNSIGNED,
            Self::Signed(_) => kind::SIGNED,
            Self::Float(_) => kind::FLOAT,
            Self::Bool(_) => kind::BOOL,
            Self::Address(_) => kind::ADDRESS,
            Self::Text(_) => kind::TEXT,
        }
    }

    /// The word that says it; text has none of its own.
    #[inline(always)]
    pub const fn word(&self) -> Option<u64> {
        match *self {
            Self::Unsigned(value) | Self::Address(value) => Some(value),
            Self::Signed(value) => Some(value.cast_unsigned()),
            Self::Float(value) => Some(value.to_bits()),
            Self::Bool(value) => Some(value as u64),
            Self::Text(_) => None,
        }
    }
}

/// What can be a field: numbers, `bool`, `&str`, pointers, and a [`Value`].
pub trait Field {
    /// It as a value.
    fn value(&self) -> Value<'_>;
}

impl Field for Value<'_> {
    #[inline(always)]
    fn value(&self) -> Value<'_> {
        *self
    }
}

impl Field for str {
    #[inline(always)]
    fn value(&self) -> Value<'_> {
        Value::Text(self)
    }
}

impl Field for bool {
    #[inline(always)]
    fn value(&self) -> Value<'_> {
        Value::Bool(*self)
    }
}

impl<T> Field for *const T {
    #[inline(always)]
    fn value(&self) -> Value<'_> {
        Value::Address(self.addr() as u64)
    }
}

impl<T> Field for *mut T {
    #[inline(always)]
    fn value(&self) -> Value<'_> {
        Value::Address(self.addr() as u64)
    }
}

impl<T: Field + ?Sized> Field for &T {
    #[inline(always)]
    fn value(&self) -> Value<'_> {
        (**self).value()
    }
}

macro_rules! numbers {
    ($variant:ident $as:ty: $($type:ty)*) => {
        $(impl Field for $type {
            #[inline(always)]
            fn value(&self) -> Value<'_> {
                Value::$variant(*self as $as)
            }
        })*
    };
}
numbers!(Unsigned u64: u8 u16 u32 u64 usize);
numbers!(Signed i64: i8 i16 i32 i64 isize);
numbers!(Float f64: f32 f64);

/// Text put together in place: what does not fit is cut.
///
/// ```
/// # use surestack_recorder::{Field, Formatted, Value};
/// let text = Formatted::<8>::of(format_args!("{}-{}", 1795, 4711));
/// assert_eq!(text.value(), Value::Text("1795-471"));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Formatted<const ROOM: usize> {
    bytes: [u8; ROOM],
    used: usize,
}

impl<const ROOM: usize> Formatted<ROOM> {
    /// No text.
    pub const EMPTY: Self = Self { bytes: [0; ROOM], used: 0 };

    /// What these arguments make, as much of it as there is room for.
    pub fn of(arguments: fmt::Arguments<'_>) -> Self {
        let mut text = Self::EMPTY;
        // It only fails where what is shown does.
        let _ = fmt::write(&mut text, arguments);
        text
    }

    /// The text.
    pub fn text(&self) -> &str {
        let bytes = self.bytes.get(..self.used).unwrap_or_default();
        match core::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                bytes.get(..error.valid_up_to()).and_then(|bytes| core::str::from_utf8(bytes).ok()).unwrap_or_default()
            }
        }
    }
}

impl<const ROOM: usize> fmt::Write for Formatted<ROOM> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let free = self.bytes.get_mut(self.used..).unwrap_or_default();
        let taken = free.len().min(text.len());
        free.iter_mut().zip(text.as_bytes()).for_each(|(to, from)| *to = *from);
        self.used = self.used.saturating_add(taken);
        Ok(())
    }
}

impl<const ROOM: usize> Field for Formatted<ROOM> {
    fn value(&self) -> Value<'_> {
        Value::Text(self.text())
    }
}
