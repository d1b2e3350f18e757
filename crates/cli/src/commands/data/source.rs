//! Which data set a `data` command reads: the arguments they share.

use std::path::PathBuf;

use clap::Args;

/// Where a data set lies.
#[derive(Clone, Debug, Args)]
pub(crate) struct SourceArgs {
    /// Folder of the data set
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// The file with the expressions, if the folder holds several; relative to DIR
    #[arg(long, value_name = "FILE")]
    pub(crate) refs: Option<PathBuf>,
    /// COCO's instances file, if it is not DIR/instances.json; relative to DIR
    #[arg(long, value_name = "FILE")]
    pub(crate) instances: Option<PathBuf>,
    /// Image folder, if it is not images, trainval2014 or train2014 in DIR; relative to DIR
    #[arg(long, value_name = "DIR")]
    pub(crate) images: Option<PathBuf>,
}
