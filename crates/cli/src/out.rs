//! Standard output: results and nothing else. A reader that has seen enough (`| head`) is no failure.
//!
//! Standard error: everything else that is said. It is never a reason to end: a training outlives its terminal.

use std::fmt;
use std::io::{ErrorKind, Write};

use anyhow::Context;

/// `println!` that answers with an error where `println!` panics.
macro_rules! say {
    ($($part:tt)*) => { $crate::out::line(format_args!($($part)*)) };
}
pub(crate) use say;

/// `eprintln!` that keeps silent where `eprintln!` panics.
macro_rules! tell {
    ($($part:tt)*) => { $crate::out::remark(format_args!($($part)*)) };
}
pub(crate) use tell;

const CONTEXT: &str = "cannot write to standard output";

/// Writes a line to standard output.
///
/// # Errors
/// If it is closed, or the disk behind it full.
pub(crate) fn line(text: fmt::Arguments<'_>) -> anyhow::Result<()> {
    writeln!(std::io::stdout().lock(), "{text}").context(CONTEXT)
}

/// Writes a line to standard error, if anybody reads it.
pub(crate) fn remark(text: fmt::Arguments<'_>) {
    // Closed or full: then there is nowhere left to say so.
    let _ = std::io::stderr().lock().write_all(format!("{text}\n").as_bytes());
}

/// Whether the error is that nobody reads standard output any more.
pub(crate) fn is_unread(error: &anyhow::Error) -> bool {
    let closed = |io: &std::io::Error| io.kind() == ErrorKind::BrokenPipe;
    error.to_string() == CONTEXT && error.root_cause().downcast_ref().is_some_and(closed)
}

/// Quoted for a POSIX shell where needed.
pub(crate) fn shell(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shell_words_survive() {
        assert_eq!(shell("runs/quick-start"), "runs/quick-start");
        assert_eq!(shell("the red circle"), "'the red circle'");
        assert_eq!(shell("it's"), r"'it'\''s'");
        assert_eq!(shell(""), "''");
    }
}
