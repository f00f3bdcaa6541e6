//! What is said with the `tracing` crate, as events.
//!
//! ```text
//!   event!      an event of its name, `event` where it has none; `message` and the other fields with their types
//!   a span      `open NAME` with its fields, `enter NAME`, `exit NAME`, `record NAME` with what is added, `close NAME`
//! ```
//!
//! Events of spans have the span's number as their first field, `span`. What a place in the code says is described once, when
//! `tracing` registers it, and found without a lock from then on. Of more than twelve fields the first twelve are kept, of
//! their text 768 bytes. Nothing is allocated but where a place leaves out fields that it had before, the first time; what
//! `tracing` itself does is its own.

mod gathered;
mod sites;

use super::event::enabled;
use gathered::Gathered;
use sites::{Moment, Place};
use surestack_recorder::{Value, write};
use tracing_core::span::{Attributes, Id, Record};
use tracing_core::subscriber::Interest;
use tracing_core::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// Keeps events and spans in the recorder.
///
/// ```
/// use surestack::recorder::{self, Options};
/// use tracing_subscriber::layer::SubscriberExt;
///
/// recorder::start(Options::memory())?;
/// let subscriber = tracing_subscriber::registry().with(recorder::tracing::Layer::default());
/// tracing_core::dispatcher::set_global_default(subscriber.into()).expect("the first subscriber");
/// # Ok::<(), recorder::StartError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layer;

impl<S: Subscriber + for<'span> LookupSpan<'span>> tracing_subscriber::Layer<S> for Layer {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        sites::register(metadata);
        Interest::always()
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if enabled() {
            let mut gathered = Gathered::new(None);
            event.record(&mut gathered);
            keep(event.metadata(), Moment::Event, &gathered);
        }
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, _: Context<'_, S>) {
        if enabled() {
            let mut gathered = Gathered::new(Some(id.into_u64()));
            attributes.record(&mut gathered);
            keep(attributes.metadata(), Moment::Open, &gathered);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(metadata) = context.metadata(id).filter(|_| enabled()) {
            let mut gathered = Gathered::new(Some(id.into_u64()));
            values.record(&mut gathered);
            keep(metadata, Moment::Record, &gathered);
        }
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        span(id, Moment::Enter, &context);
    }

    fn on_exit(&self, id: &Id, context: Context<'_, S>) {
        span(id, Moment::Exit, &context);
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        span(&id, Moment::Close, &context);
    }
}

/// Keeps that something happened to a span.
fn span<S: Subscriber + for<'span> LookupSpan<'span>>(id: &Id, moment: Moment, context: &Context<'_, S>) {
    if let Some(metadata) = context.metadata(id).filter(|_| enabled()) {
        let site = sites::find(Place { metadata, moment, fields: 0 });
        // Whether it is there is in the recorder itself.
        let _ = write(site, &[Value::Unsigned(id.into_u64())]);
    }
}

fn keep(metadata: &'static Metadata<'static>, moment: Moment, gathered: &Gathered) {
    let site = sites::find(Place { metadata, moment, fields: gathered.fields() });
    gathered.with_values(|values| {
        // Whether it is there is in the recorder itself.
        let _ = write(site, values);
    });
}
