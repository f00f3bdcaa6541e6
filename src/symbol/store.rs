//! Keeps what was unpacked for as long as somebody may look at it.

use crate::image::Image;
use std::cell::OnceCell;

/// Decompressed sections and further files of debug information. It only grows, and lives as long as the names that
/// were made from it.
#[derive(Default)]
pub struct Store {
    bytes: List<Vec<u8>>,
    images: List<Image>,
}

impl Store {
    pub(super) fn keep(&self, bytes: Vec<u8>) -> &[u8] {
        self.bytes.push(bytes)
    }

    pub(super) fn keep_image(&self, image: Image) -> &Image {
        self.images.push(image)
    }
}

/// A list that can be added to while its items are lent.
struct List<T>(OnceCell<Box<Node<T>>>);

struct Node<T> {
    item: T,
    next: List<T>,
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(OnceCell::new())
    }
}

impl<T> List<T> {
    fn push(&self, item: T) -> &T {
        let mut end = self;
        while let Some(node) = end.0.get() {
            end = &node.next;
        }
        &end.0.get_or_init(|| Box::new(Node { item, next: Self::default() })).item
    }
}

impl<T> Drop for List<T> {
    /// One node after the other: dropped the usual way, a long list would be a deep recursion.
    fn drop(&mut self) {
        let mut next = self.0.take();
        while let Some(mut node) = next {
            next = node.next.0.take();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_stays_where_it_is_while_more_is_kept() {
        let store = Store::default();
        let kept: Vec<&[u8]> = (0..100).map(|byte| store.keep(vec![byte; 3])).collect();
        assert!(kept.iter().zip(0..100).all(|(bytes, byte)| *bytes == [byte; 3]));
    }
}
