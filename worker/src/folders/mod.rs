//! What a worker has on its disk: its [own folder](own_folder), the kickoffs' [working directories](workdir), the
//! [files that kickoffs wrote](kept_files), and how long each stays ([`retention`]).

pub(crate) mod kept_files;
pub(crate) mod own_folder;
pub(crate) mod retention;
pub(crate) mod workdir;
