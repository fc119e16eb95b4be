//! `kogge why`: why the node trusts something.

use serde_json::Value;

use crate::Session;
use crate::client::{Client, with_params};
use crate::commands::view::{File, Why, names};
use crate::failure::Failure;
use crate::text::{Fields, Table, ago, bytes, short, span};

/// What to explain.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// An image, group:artifact:version, package URL, or digest
    what: String,
}

/// Explains something.
///
/// # Errors
///
/// [`Failure`] if it is not in the log.
pub(crate) async fn run(session: &Session, args: Args) -> Result<(), Failure> {
    let (value, why) = ask(&session.daemon()?, &args.what).await?;
    session.output.show(&value, render(&why, session.now()))
}

/// What the daemon knows about `what`.
///
/// # Errors
///
/// [`Failure`] if it is not in the log.
pub(crate) async fn ask(client: &Client, what: &str) -> Result<(Value, Why), Failure> {
    let value: Value = client
        .get(&with_params("/api/why", [("what", what)]))
        .await?;
    let why = serde_json::from_value(value.clone());
    Ok((
        value,
        why.map_err(|it| Failure::new("version", it.to_string()))?,
    ))
}

fn render(why: &Why, now: u64) -> String {
    let mut fields = Fields::default();
    fields.add("package", &why.package);
    if let Some(tag) = &why.tag {
        fields.add(
            "tag",
            format!("{}/{}:{}", tag.registry, tag.repository, tag.tag),
        );
        fields.add(
            "",
            format!(
                "pointed to {} at {}, entry {}",
                tag.digest,
                ago(tag.time, now),
                tag.index
            ),
        );
    }
    let attestors = match why.attested_by.as_slice() {
        [] => "nobody".to_owned(),
        some => names(some),
    };
    fields.add("attested by", attestors);
    if let Some(last) = why.attested_by.iter().map(|it| it.time).max() {
        fields.add("", format!("the last one {}", ago(last, now)));
    }
    match &why.checkpoint {
        Some(it) => fields.add(
            "checkpoint",
            format!(
                "{} leaves, cosigned by {}, {}",
                it.size,
                it.signers,
                ago(it.time, now)
            ),
        ),
        None => fields.add("checkpoint", "none yet"),
    }
    let mut table = Table::new(&["file", "size", "entry", "sha256", "here", "came from"]);
    for it in &why.files {
        table.row([
            it.file.clone(),
            bytes(it.size),
            it.index.to_string(),
            short(&it.sha256),
            if it.stored { "yes" } else { "no" }.into(),
            came_from(it),
        ]);
    }
    format!("{}\n{}", fields.render(), table.render())
}

/// Sources of a stored file with their shares.
pub(crate) fn came_from(file: &File) -> String {
    let Some(origin) = &file.origin else {
        return "-".into();
    };
    let total: u64 = origin.sources.iter().map(|it| it.bytes).sum();
    let share = |bytes: u64| bytes.saturating_mul(100) / total.max(1);
    let source = |it: &crate::commands::view::Part| {
        let name = if it.source.len() == 64 {
            short(&it.source)
        } else {
            it.source.clone()
        };
        format!("{name} {} %", share(it.bytes))
    };
    let sources: Vec<String> = origin.sources.iter().map(source).collect();
    format!("{} in {}", sources.join(", "), span(origin.millis))
}
