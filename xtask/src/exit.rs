//! How a verb ends: 0 done, 1 the work failed (a machine, a network, a comparison), 2 bad input.

use std::fmt;
use std::io::ErrorKind;
use std::process::ExitStatus;

use anyhow::Error;

/// Marks an error, or a context of one, as no fault of the input.
#[derive(Debug)]
pub(crate) struct Failed(pub(crate) String);

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An error that ends the program with status 1: `return Err(failed!("..."))`.
macro_rules! failed {
    ($($part:tt)*) => { anyhow::Error::msg($crate::exit::Failed(format!($($part)*))) };
}
pub(crate) use failed;

/// The exit status that belongs to an error.
pub(crate) fn code_of(error: &Error) -> u8 {
    let places = [
        ErrorKind::NotFound,
        ErrorKind::PermissionDenied,
        ErrorKind::NotADirectory,
        ErrorKind::IsADirectory,
        ErrorKind::AlreadyExists,
        ErrorKind::ReadOnlyFilesystem,
        ErrorKind::InvalidFilename,
        // A file that should be text is not.
        ErrorKind::InvalidData,
    ];
    let mut io = error.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>());
    let failed = error.downcast_ref::<Failed>().is_some();
    if failed || io.any(|error| !places.contains(&error.kind())) { 1 } else { 2 }
}

/// A program's exit status as ours. Ended by a signal, it has none.
pub(crate) fn code(status: ExitStatus) -> u8 {
    status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use anyhow::{Context, anyhow};

    use super::*;

    #[test]
    fn a_machines_failure_is_told_from_bad_input() {
        assert_eq!(code_of(&anyhow!("no set \"x\"")), 2);
        assert_eq!(code_of(&failed!("pip failed").context("toolchain")), 1);
        assert_eq!(code_of(&anyhow!("503").context(Failed("gave up".into())).context("net")), 1);
        let io = |kind: ErrorKind| Error::new(std::io::Error::from(kind)).context("cannot write x");
        assert_eq!(code_of(&io(ErrorKind::StorageFull)), 1);
        assert_eq!(code_of(&io(ErrorKind::PermissionDenied)), 2);
        let read = std::fs::read_to_string("no/such/list.toml").context("list.toml");
        assert_eq!(read.err().map(|error| code_of(&error)), Some(2));
    }
}
