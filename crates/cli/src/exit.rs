//! How a command ends: one line on standard error, and an exit code scripts can rely on.

use std::fmt;
use std::io::ErrorKind;
use std::process::ExitCode;

use crate::out::tell;

/// Exit code of a failure that is not the input's fault.
pub(crate) const FAILURE: u8 = 1;
/// Exit code of bad input: a file, an argument, a configuration.
pub(crate) const BAD_INPUT: u8 = 2;
/// Exit code after Ctrl-C, as shells expect it (128 + SIGINT).
pub(crate) const INTERRUPTED: u8 = 130;

/// Marks an error as bad input. Make one with [`bad_input!`] or [`OrBadInput::or_bad_input`].
#[derive(Debug)]
pub(crate) struct BadInput(pub(crate) anyhow::Error);

impl fmt::Display for BadInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.0)
    }
}

impl std::error::Error for BadInput {}

/// Marks an end that the user asked for: nothing failed, but the work is not complete.
#[derive(Debug)]
pub(crate) struct Interrupted(pub(crate) String);

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Interrupted {}

/// Turns any error into bad input, keeping its chain of causes.
pub(crate) trait OrBadInput<T> {
    /// The value, or the error marked as the input's fault (exit code 2).
    fn or_bad_input(self) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> OrBadInput<T> for Result<T, E> {
    fn or_bad_input(self) -> anyhow::Result<T> {
        self.map_err(|error| anyhow::Error::new(BadInput(error.into())))
    }
}

/// An `anyhow::Error` that ends the program with exit code 2: `return Err(bad_input!("..."))`.
macro_rules! bad_input {
    ($($part:tt)*) => { anyhow::Error::new($crate::exit::BadInput(anyhow::anyhow!($($part)*))) };
}
pub(crate) use bad_input;

/// Prints the error, if any, as one line and answers with the exit code that belongs to it.
pub(crate) fn report(result: anyhow::Result<()>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    if crate::out::is_unread(&error) {
        return ExitCode::SUCCESS;
    }
    if let Some(stop) = error.downcast_ref::<Interrupted>() {
        tell!("stopped: {stop}");
        return ExitCode::from(INTERRUPTED);
    }
    tell!("error: {}", one_line(&format!("{error:#}")));
    ExitCode::from(if is_bad_input(&error) { BAD_INPUT } else { FAILURE })
}

/// Whether any cause in the chain is bad input, be it marked here or by a library's own error type. A full disk never is; a
/// place that cannot be written always.
fn is_bad_input(error: &anyhow::Error) -> bool {
    let io = |kinds: &[ErrorKind]| {
        let found = |cause: &&(dyn std::error::Error + 'static)| {
            cause.downcast_ref::<std::io::Error>().is_some_and(|e| kinds.contains(&e.kind()))
        };
        all_causes(error).iter().any(found)
    };
    if io(&[ErrorKind::StorageFull, ErrorKind::QuotaExceeded]) {
        return false;
    }
    let places = [
        ErrorKind::NotFound,
        ErrorKind::PermissionDenied,
        ErrorKind::NotADirectory,
        ErrorKind::IsADirectory,
        ErrorKind::AlreadyExists,
        ErrorKind::ReadOnlyFilesystem,
        ErrorKind::InvalidFilename,
    ];
    if io(&places) {
        return true;
    }
    error.chain().any(|cause| {
        cause.is::<BadInput>()
            || cause.downcast_ref::<refzom_dataset::DataError>().is_some()
            || cause
                .downcast_ref::<dmmi_train::Error>()
                .is_some_and(dmmi_train::Error::is_bad_input)
    })
}

/// The chain of causes, and those inside errors that were marked as bad input.
fn all_causes(error: &anyhow::Error) -> Vec<&(dyn std::error::Error + 'static)> {
    let mut causes = Vec::new();
    for cause in error.chain() {
        causes.push(cause);
        if let Some(BadInput(inner)) = cause.downcast_ref() {
            causes.extend(all_causes(inner));
        }
    }
    causes
}

/// Messages of other libraries may span lines (TOML draws the offending one); ours are one line. A backtrace, which Candle
/// puts behind its message where `RUST_BACKTRACE` is set, is left out.
fn one_line(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let told: Vec<&str> = lines
        .enumerate()
        .filter(|(i, line)| *i == 0 || !is_frame(line))
        .map(|(_, line)| line)
        .collect();
    told.join("; ")
}

/// `12: function` or `at file:line:column`.
fn is_frame(line: &str) -> bool {
    let number = |n: &str| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit());
    line.split_once(": ").is_some_and(|(n, _)| number(n))
        || line.strip_prefix("at ").is_some_and(|place| place.rsplit(':').take(2).all(number))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_cause_deep_in_the_chain_decides_the_code() {
        let marked = bad_input!("no such file").context("reading the picture");
        assert!(is_bad_input(&marked));
        assert!(!is_bad_input(&anyhow::anyhow!("disk full")));
        let foreign: Result<(), std::io::Error> = Err(std::io::Error::other("x"));
        assert!(is_bad_input(&foreign.or_bad_input().unwrap_err()));
        let io = |kind: ErrorKind| anyhow::Error::new(std::io::Error::from(kind));
        assert!(is_bad_input(&io(ErrorKind::NotADirectory).context("cannot write x")));
        let full: Result<(), std::io::Error> = Err(ErrorKind::StorageFull.into());
        assert!(!is_bad_input(&full.or_bad_input().unwrap_err()));
    }

    #[test]
    fn messages_are_one_line() {
        assert_eq!(one_line("TOML parse error\n  |\n1 | x\n"), "TOML parse error; |; 1 | x");
        let traced = "matmul: no\n   0: <unknown>\n   1: candle_core::f\n             at src/error.rs:12:5\nat last";
        assert_eq!(one_line(traced), "matmul: no; at last");
        assert_eq!(one_line("3: a line"), "3: a line");
    }
}
