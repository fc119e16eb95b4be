//! `kogge waybill`: the proof that an artifact is in the log, as a file.

use std::path::PathBuf;

use kogge::Digest;
use serde_json::json;

use crate::Session;
use crate::client::Client;
use crate::commands::why;
use crate::failure::Failure;
use crate::files;

/// For what.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// A digest, image, group:artifact:version, package URL, or the index of an entry
    what: String,
    /// Which file of a package, if it has several
    #[arg(long)]
    file: Option<String>,
    /// Where to write it [default: standard output]
    #[arg(long, short)]
    output: Option<PathBuf>,
}

/// Gets a waybill.
///
/// # Errors
///
/// [`Failure`] if nothing such is in the log, or no checkpoint covers it yet.
pub(crate) async fn run(session: &Session, args: Args) -> Result<(), Failure> {
    let client = session.daemon()?;
    let index = match args.what.parse() {
        Ok(index) => index,
        Err(_) => find(&client, &args.what, args.file.as_deref()).await?,
    };
    let text = client.text(&format!("/api/log/{index}/waybill")).await?;
    let Some(path) = args.output else {
        return session
            .output
            .show(&json!({"index": index, "waybill": text}), &text);
    };
    files::write(&path, text.as_bytes())?;
    let hint = "check it with `kogge verify FILE --waybill";
    let told = format!("wrote {}; {hint} {}`\n", path.display(), path.display());
    session
        .output
        .show(&json!({"index": index, "path": path}), told)
}

/// The index of the file that is meant.
async fn find(client: &Client, what: &str, file: Option<&str>) -> Result<u64, Failure> {
    let (_, why) = why::ask(client, what).await?;
    let digest: Option<Digest> = what.parse().ok();
    let found: Vec<_> = why
        .files
        .iter()
        .filter(|it| file.is_none_or(|name| it.file == name || it.base_name() == name))
        .filter(|it| why.files.len() == 1 || digest.as_ref().is_none_or(|digest| it.has(digest)))
        .collect();
    match found.as_slice() {
        [one] => Ok(one.index),
        [] => Err(Failure::new(
            "not-found",
            format!("{} has no such file", why.package),
        )),
        some => {
            let names: Vec<&str> = some.iter().map(|it| it.file.as_str()).take(20).collect();
            let message = format!(
                "{} has several files; choose one with --file: {}",
                why.package,
                names.join(", ")
            );
            Err(Failure::input(message))
        }
    }
}
