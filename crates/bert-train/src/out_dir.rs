//! The directory of a model that is written at once.

use std::{fs, path::Path};

use crate::error::{Error, Result};

/// Makes `out`, which must be absent or empty.
pub(crate) fn make_out(out: &Path) -> Result<()> {
    let unusable = |source| Error::Out { path: out.into(), source };
    fs::create_dir_all(out).map_err(unusable)?;
    match fs::read_dir(out).map_err(unusable)?.next() {
        Some(_) => Err(Error::OutTaken { path: out.into() }),
        None => Ok(()),
    }
}
