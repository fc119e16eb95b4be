//! Finding entries.

use serde_json::{Value, json};

use crate::Session;
use crate::client::with_params;
use crate::commands::view::{Page, Row};
use crate::failure::Failure;
use crate::text::{Table, ago, bytes, short};

/// Rows of one page.
const PAGE_ROWS: u64 = 100;

/// Kinds that `log list` shows: what people ask for.
const KINDS_SHOWN: [&str; 5] = [
    "add-artifact",
    "bind-tag",
    "add-node",
    "remove-node",
    "remove-artifact",
];

/// The filters.
#[derive(clap::Args, Debug, Default)]
pub(crate) struct Args {
    /// Type, namespace and name, such as maven/org.example/lib
    #[arg(long)]
    package: Option<String>,
    /// A package URL with version
    #[arg(long)]
    purl: Option<String>,
    /// Name of a file
    #[arg(long)]
    file: Option<String>,
    /// A digest or at least 8 digits of it, such as sha256:12ab34cd
    #[arg(long)]
    digest: Option<String>,
    /// Key of a publisher
    #[arg(long)]
    publisher: Option<String>,
    /// Id of a node that the entry is by or about
    #[arg(long)]
    node: Option<String>,
    /// Source repository or upstream
    #[arg(long)]
    source: Option<String>,
    /// BLAKE3 digest of a dependency list
    #[arg(long)]
    dependency: Option<String>,
    /// A tag, such as registry.test/library/alpine:3.20
    #[arg(long)]
    tag: Option<String>,
    /// seal, add-artifact, remove-artifact, add-node, remove-node, bind-tag or attest
    #[arg(long)]
    kind: Option<String>,
    /// Not before, such as 2026-11-20 or 2026-11-20T08:15:00Z
    #[arg(long)]
    since: Option<String>,
    /// Before
    #[arg(long)]
    until: Option<String>,
    /// newest or oldest first
    #[arg(long)]
    order: Option<String>,
    /// Most entries
    #[arg(long, short = 'n')]
    limit: Option<u64>,
    /// Go on where another page ended: its `next`
    #[arg(long)]
    after: Option<String>,
}

impl Args {
    fn params(&self) -> Vec<(&'static str, String)> {
        let all = [
            ("package", &self.package),
            ("purl", &self.purl),
            ("file", &self.file),
            ("digest", &self.digest),
            ("publisher", &self.publisher),
            ("node", &self.node),
            ("source", &self.source),
            ("dependency", &self.dependency),
            ("tag", &self.tag),
            ("kind", &self.kind),
            ("since", &self.since),
            ("until", &self.until),
            ("order", &self.order),
            ("after", &self.after),
        ];
        let given = all
            .into_iter()
            .filter_map(|(name, it)| Some((name, it.clone()?)));
        let limit = self.limit.map(|it| ("limit", it.to_string()));
        given.chain(limit).collect()
    }
}

/// Shows what a query finds.
///
/// # Errors
///
/// [`Failure`] if the query is malformed.
pub(crate) async fn run(session: &Session, args: Args) -> Result<(), Failure> {
    let params = args.params();
    // The same reader as the daemon's: mistakes are told without one.
    kogge::Query::from_pairs(params.iter().map(|(name, value)| (*name, value.as_str())))
        .map_err(|it| Failure::input(it.to_string()))?;
    let (value, page) = ask(session, &params).await?;
    let mut text = render(&page.rows, session.now());
    if let Some(next) = &page.next {
        text += &format!("there may be more: add --after {next}\n");
    }
    session.output.show(&value, text)
}

/// Shows the newest entries.
///
/// # Errors
///
/// [`Failure`] if there is no daemon.
pub(crate) async fn list(session: &Session, limit: u64, all: bool) -> Result<(), Failure> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let (mut rows, mut after, mut size) = (Vec::new(), None, 0);
    while rows.len() < limit {
        let mut params = vec![("limit", PAGE_ROWS.to_string())];
        params.extend(after.take().map(|it| ("after", it)));
        let (value, page) = ask(session, &params).await?;
        size = page.size;
        let values = value["rows"].as_array().cloned().unwrap_or_default();
        let shown = |it: &&Row| all || KINDS_SHOWN.contains(&it.kind.as_str());
        rows.extend(
            page.rows
                .iter()
                .zip(values)
                .filter(|(row, _)| shown(row))
                .map(|(row, value)| (row.clone(), value)),
        );
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    rows.truncate(limit);
    let (rows, values): (Vec<Row>, Vec<Value>) = rows.into_iter().unzip();
    let text = render(&rows, session.now());
    session
        .output
        .show(&json!({"rows": values, "size": size}), text)
}

/// One page.
///
/// # Errors
///
/// [`Failure`] if there is no daemon, or the query is malformed.
pub(crate) async fn ask(
    session: &Session,
    params: &[(&'static str, String)],
) -> Result<(Value, Page), Failure> {
    let pairs = params.iter().map(|(name, value)| (*name, value.as_str()));
    let value: Value = session
        .daemon()?
        .get(&with_params("/api/log", pairs))
        .await?;
    let page = serde_json::from_value(value.clone());
    Ok((
        value,
        page.map_err(|it| Failure::new("version", it.to_string()))?,
    ))
}

fn render(rows: &[Row], now: u64) -> String {
    let mut table = Table::new(&["entry", "block", "when", "kind", "about"]);
    for it in rows {
        let withdrawn = if it.removed.is_some() {
            " (withdrawn)"
        } else {
            ""
        };
        table.row([
            it.index.to_string(),
            it.height.to_string(),
            ago(it.time, now),
            it.kind.clone(),
            about(it) + withdrawn,
        ]);
    }
    match table.is_empty() {
        true => "nothing found\n".to_owned(),
        false => table.render(),
    }
}

/// What a row is about, in one line.
fn about(row: &Row) -> String {
    let entry = &row.entry;
    let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
    match row.kind.as_str() {
        "add-artifact" => {
            let size = bytes(entry["size"].as_u64().unwrap_or_default());
            let (purl, file) = (text("purl"), text("file"));
            format!("{} {} {size}", shorten(&purl), shorten(&file))
        }
        "bind-tag" => {
            let name = format!(
                "{}/{}:{}",
                text("registry"),
                text("repository"),
                text("tag")
            );
            format!("{name} = {}", shorten(&text("digest")))
        }
        "add-node" => {
            let member = &entry["card"]["member"];
            let name = member["name"].as_str().unwrap_or_default();
            format!(
                "{name} {}",
                short(member["node"].as_str().unwrap_or_default())
            )
        }
        "remove-node" => format!("{} {}", short(&text("node")), text("reason")),
        "remove-artifact" => format!("entry {} {}", entry["index"], text("reason")),
        "seal" => format!("block {} of {} leaves", entry["height"], entry["count"]),
        "attest" => format!("{} by {}", short(&text("subject")), short(&text("node"))),
        _ => String::new(),
    }
}

/// Cuts long hex runs, which nobody reads, to their beginning.
fn shorten(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let run = rest.bytes().take_while(u8::is_ascii_hexdigit).count();
        let (taken, after) = rest.split_at(run.max(first.len_utf8()));
        match 40 <= run {
            true => out += &format!("{}…", short(taken)),
            false => out += taken,
        }
        rest = after;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_digests_are_cut() {
        let hex = "ab".repeat(32);
        for (text, expected) in [
            (format!("layer/{hex}"), "layer/abababababab…"),
            (format!("sha256:{hex}.json"), "sha256:abababababab….json"),
            ("ä-1.0.jar".into(), "ä-1.0.jar"),
        ] {
            assert_eq!(shorten(&text), expected);
        }
    }

    #[test]
    fn every_filter_is_one_of_the_log() {
        let args = Args {
            package: Some("maven/g/a".into()),
            since: Some("2026-11-20".into()),
            limit: Some(5),
            ..Args::default()
        };
        let params = args.params();
        let pairs = params.iter().map(|(name, value)| (*name, value.as_str()));
        assert!(kogge::Query::from_pairs(pairs).is_ok());
        assert_eq!(params.len(), 3);
    }
}
