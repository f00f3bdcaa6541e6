//! The fields of one event or span, as `tracing` hands them over one by one.

use std::fmt::{self, Write};
use std::ops::Range;
use surestack_recorder::Value;
use surestack_recorder::layout::record::FIELDS;
use tracing_core::field::{Field, Visit};

/// Most bytes of text.
const TEXT: usize = 768;

/// Values with room for their text.
pub struct Gathered {
    span: Option<u64>,
    values: [Option<Held>; FIELDS],
    text: Text,
}

/// A value whose text is in a buffer.
#[derive(Clone)]
enum Held {
    Word(Value<'static>),
    Text(Range<usize>),
}

struct Text {
    bytes: [u8; TEXT],
    used: usize,
}

impl Gathered {
    /// No fields yet, of a span if one is named.
    pub fn new(span: Option<u64>) -> Self {
        Self { span, values: [const { None }; FIELDS], text: Text { bytes: [0; TEXT], used: 0 } }
    }

    /// Which fields there are: a bit for each.
    pub fn fields(&self) -> u16 {
        let there = self.values.iter().enumerate().filter(|(_, value)| value.is_some());
        there.fold(0, |fields, (index, _)| fields | 1 << index)
    }

    /// Hands out the values, the number of the span first, if there is one.
    pub fn with_values(&self, then: impl FnOnce(&[Value<'_>])) {
        let mut values = [Value::Bool(false); FIELDS + 1];
        let held = self.values.iter().flatten().map(|held| match held {
            Held::Word(value) => *value,
            Held::Text(range) => Value::Text(self.text.of(range)),
        });
        let all = self.span.map(Value::Unsigned).into_iter().chain(held);
        let count = values.iter_mut().zip(all).map(|(to, from)| *to = from).count();
        then(&values[..count]);
    }

    fn hold(&mut self, field: &Field, value: Held) {
        if let Some(place) = self.values.get_mut(field.index()) {
            *place = Some(value);
        }
    }

    fn hold_text(&mut self, field: &Field, arguments: fmt::Arguments<'_>) {
        let start = self.text.used;
        // It only fails where what is shown does.
        let _ = self.text.write_fmt(arguments);
        self.hold(field, Held::Text(start..self.text.used));
    }
}

impl Text {
    fn of(&self, range: &Range<usize>) -> &str {
        self.bytes.get(range.clone()).and_then(|bytes| str::from_utf8(bytes).ok()).unwrap_or_default()
    }
}

impl Write for Text {
    /// What does not fit is cut, and what follows too.
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let free = &mut self.bytes[self.used..];
        let mut kept = free.len().min(text.len());
        while !text.is_char_boundary(kept) {
            kept -= 1;
        }
        free[..kept].copy_from_slice(&text.as_bytes()[..kept]);
        self.used += kept;
        Ok(())
    }
}

impl Visit for Gathered {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.hold(field, Held::Word(Value::Float(value)));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.hold(field, Held::Word(Value::Signed(value)));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.hold(field, Held::Word(Value::Unsigned(value)));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.hold(field, Held::Word(Value::Bool(value)));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.hold_text(field, format_args!("{value}"));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.hold_text(field, format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.hold_text(field, format_args!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_does_not_fit_is_cut_between_characters() {
        let mut text = Text { bytes: [0; TEXT], used: 0 };
        text.write_str(&"ä".repeat(TEXT / 2 - 1)).unwrap();
        text.write_str("x€€").unwrap();
        assert_eq!(text.used, TEXT - 1);
        assert!(text.of(&(0..text.used)).ends_with("äx"));
    }
}
