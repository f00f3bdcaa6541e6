//! Text at signal time: a line is put together in a buffer of its own and written in one go.

use crate::syscall::{self, Answer, Clock, Descriptor, Errno};

/// Bytes written at once: what a pipe takes as a whole.
const ROOM: usize = 4096;

/// A writer of text.
pub struct Text {
    to: Option<Descriptor>,
    bytes: [u8; ROOM],
    length: usize,
    deadline: u64,
    refused: Option<Errno>,
}

impl Text {
    /// A writer to a file, which waits for no reader beyond the deadline (nanoseconds, monotonic).
    pub const fn new(to: Option<Descriptor>, deadline: u64) -> Self {
        Self { to, bytes: [0; ROOM], length: 0, deadline, refused: None }
    }

    /// Adds text.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    /// Adds bytes; what could not be shown is a question mark.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        for byte in bytes {
            if self.length == ROOM {
                self.flush();
            }
            if let Some(place) = self.bytes.get_mut(self.length) {
                let shown = *byte == b'\n' || (0x20..0x7f).contains(byte) || *byte >= 0x80;
                *place = if shown { *byte } else { b'?' };
                self.length = self.length.saturating_add(1);
            }
        }
        self
    }

    /// Adds a number.
    pub fn number(&mut self, mut number: u64) -> &mut Self {
        let mut digits = [0_u8; 20];
        let mut used = 0_usize;
        for place in digits.iter_mut().rev() {
            *place = b'0'.wrapping_add(u8::try_from(number % 10).unwrap_or_default());
            used = used.saturating_add(1);
            number /= 10;
            if number == 0 {
                break;
            }
        }
        let digits = digits.get(digits.len().saturating_sub(used)..).unwrap_or_default();
        self.bytes(digits)
    }

    /// Adds a number in base 16, at least so many digits of it.
    pub fn hex(&mut self, number: u64, digits: u32) -> &mut Self {
        let needed = 16_u32.saturating_sub(number.leading_zeros() / 4).max(digits.min(16)).max(1);
        self.text("0x");
        for place in (0..needed).rev() {
            let digit = number >> (place * 4) & 0xf;
            let letter = u8::try_from(digit).unwrap_or_default();
            self.bytes(&[if letter < 10 { b'0'.wrapping_add(letter) } else { b'a'.wrapping_add(letter - 10) }]);
        }
        self
    }

    /// Ends the line.
    pub fn end(&mut self) -> &mut Self {
        self.text("\n")
    }

    /// Whether it went to where it should.
    pub fn refused(&self) -> Option<Errno> {
        self.refused
    }

    /// Writes what there is.
    pub fn flush(&mut self) {
        let written = self.bytes.get(..self.length).map_or(Ok(()), |bytes| self.write(bytes));
        self.length = 0;
        if let Err(error) = written {
            self.refused = Some(error);
        }
    }

    /// A reader may be slow, or never read: that is waited for, up to the deadline.
    fn write(&self, mut bytes: &[u8]) -> Answer {
        let to = self.to.ok_or(Errno(9))?;
        if self.refused.is_some() {
            return Ok(());
        }
        while !bytes.is_empty() {
            let left = self.deadline.saturating_sub(syscall::now(Clock::Monotonic));
            match syscall::wait_writable(to, left) {
                Ok(true) => {}
                Ok(false) => return Err(Errno::ETIMEDOUT),
                Err(Errno::EINTR) => continue,
                // Where waiting is not allowed, writing may be.
                Err(_) => {}
            }
            match syscall::write(to, bytes) {
                Ok(0) => return Err(Errno(5)),
                Ok(taken) => bytes = bytes.get(taken..).unwrap_or_default(),
                Err(Errno::EINTR | Errno::EAGAIN) if left > 0 => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
